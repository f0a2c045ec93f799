"""Which folder may import which: what runs later never pulls in what compiled it."""
from __future__ import annotations

import ast
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
         "jtc.dialects.dialect", "jtc.dialects.reader", "jtc.dialects.decode")
EXCEPT = {"dialects/mlir.py", "dialects/dialect.py", "dialects/reader.py", "dialects/decode.py"}


def imports(folder: str, *, at_once: bool = False) -> Iterator[tuple[str, str]]:
    """(place, name) of every import in a folder; at_once: only those that importing the module runs."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if at_once and name in EXCEPT:
            continue
        for node in _statements(ast.parse(path.read_text()), at_once):
            place = f"{name}:{node.lineno}"
            if isinstance(node, ast.Import):
                yield from ((place, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0 and node.module, f"{place}: relative import"
                yield from ((place, f"{node.module}.{alias.name}") for alias in node.names)


def _statements(node: ast.AST, at_once: bool) -> Iterator[ast.stmt]:
    for child in ast.iter_child_nodes(node):
        if at_once and (isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) or
                        isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from _statements(child, at_once)


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


@pytest.mark.parametrize("folder", ("frontend", "runtime", "dialects"))
def test_heavy_parts_are_imported_late(folder):
    wrong = [f"{place} imports {name}" for place, name in imports(folder, at_once=True)
             if any(within(name, part) for part in LATER)]
    assert not wrong, "\n".join(wrong)


def test_one_module_names_the_wheel_of_mlir():
    named = {place.partition(":")[0] for folder in MAY_IMPORT for place, name in imports(folder)
             if within(name, "torch_mlir")}
    assert named <= {"dialects/mlir.py"}
