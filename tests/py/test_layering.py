"""Which folder may import which: what runs later never pulls in what compiled it."""
from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# folder -> the others that it may import; docs/architecture.md says what each is for
MAY_IMPORT = {
    "dialects": set(),
    "runtime": {"dialects"},
    "passes": {"dialects"},
    "compiler": {"dialects", "passes", "runtime"},
    "frontend": {"dialects", "runtime", "compiler"},
    "tools": {"dialects", "passes", "runtime", "compiler", "frontend"},
}
# Parts that `import jtc` or a compiled module load only when they are needed, and who may load them at once.
LATER = ("torch_mlir", "mlir", "llvmlite", "rich", "hypothesis", "jtc.compiler", "jtc.dialects.mlir",
         "jtc.dialects.dialect", "jtc.dialects.reader", "jtc.dialects.decode", "jtc.dialects.decode_kernel")
EXCEPT = {"dialects/mlir.py", "dialects/dialect.py", "dialects/reader.py", "dialects/decode.py",
          "dialects/decode_kernel.py"}


@functools.cache
def statements(folder: str) -> list[tuple[str, ast.Import | ast.ImportFrom, bool]]:
    """(place, import, whether importing the module runs it) of every import in a folder."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        found += [(f"{name}:{node.lineno}", node, at_once) for node, at_once in _below(ast.parse(path.read_text()))]
    return found


def _below(node: ast.AST, at_once: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, at_once
        elif isinstance(child, (ast.stmt, ast.ExceptHandler)):
            late = isinstance(child, ast.FunctionDef) or \
                isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from _below(child, at_once and not late)


def imports(folder: str, *, at_once: bool = False) -> Iterator[tuple[str, str]]:
    """(place, name) of every import in a folder; at_once: only those that importing the module runs."""
    for place, node, now in statements(folder):
        if at_once and (not now or place.partition(":")[0] in EXCEPT):
            continue
        if isinstance(node, ast.Import):
            yield from ((place, alias.name) for alias in node.names)
        else:
            assert node.level == 0 and node.module, f"{place}: relative import"
            yield from ((place, f"{node.module}.{alias.name}") for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_every_folder_is_listed():
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found == set(MAY_IMPORT)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_folders(folder):
    others = [other for other in MAY_IMPORT if other != folder and other not in MAY_IMPORT[folder]]
    wrong = [f"{place} imports {name}" for place, name in imports(folder)
             if any(within(name, f"jtc.{other}") for other in others)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("one, other", [("graph", "kernel"), ("kernel", "graph")])
def test_levels_of_passes(one, other):
    """What both need stands beside them, in passes/."""
    wrong = [f"{place} imports {name}" for place, name in imports("passes")
             if place.startswith(f"passes/{one}/") and within(name, f"jtc.passes.{other}")]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", ("frontend", "runtime", "dialects"))
def test_heavy_parts_are_imported_late(folder):
    wrong = [f"{place} imports {name}" for place, name in imports(folder, at_once=True)
             if any(within(name, part) for part in LATER)]
    assert not wrong, "\n".join(wrong)


def test_one_module_names_the_wheel_of_mlir():
    named = {place.partition(":")[0] for folder in MAY_IMPORT for place, name in imports(folder)
             if within(name, "torch_mlir")}
    assert named <= {"dialects/mlir.py"}


def test_no_module_needs_itself():
    """Imports made when a module is imported run in no circle."""
    names = {f"jtc.{path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}".removesuffix(".__init__")
             for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py")}
    needs: dict[str, set[str]] = {}
    for place, imported in (pair for folder in MAY_IMPORT for pair in imports(folder, at_once=True)):
        module = f"jtc.{place.partition('.py')[0].replace('/', '.')}".removesuffix(".__init__")
        found = imported if imported in names else imported.rpartition(".")[0]
        if found in names and not within(module, found):         # a package runs before what is in it
            needs.setdefault(module, set()).add(found)
    assert len(needs) > 100
    graphlib.TopologicalSorter(needs).prepare()
