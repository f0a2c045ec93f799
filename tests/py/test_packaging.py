"""The source distribution, and the wheel made from it: what they hold, and that the wheel works from its place."""
from __future__ import annotations

import configparser
import re
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest

from jtc import __version__ as VERSION

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("frontend", "dialects", "passes", "compiler", "runtime", "tools")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    build = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, folder], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    file, = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps",
                    "--wheel-dir", folder, source], check=True)
    file, = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def test_source_distribution(source):
    top = f"jtc-{VERSION}"
    assert source.name == f"{top}.tar.gz"
    with tarfile.open(source) as archive:
        names = {name.removeprefix(f"{top}/") for name in archive.getnames()}
    assert {"CMakeLists.txt", "pyproject.toml", "README.md", "runtime/native/module.cpp", "runtime/py.typed"} <= names
    assert {name.partition("/")[0] for name in names} >= set(FOLDERS)
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc")) or name.startswith(("tests/", ".ci"))]


def test_only_jtc_is_added(wheel):
    assert {name.partition("/")[0] for name in wheel.namelist()} == {"jtc", f"jtc-{VERSION}.dist-info"}


def test_every_module_is_there_and_no_native_source(wheel):
    names = [name for name in wheel.namelist() if name.startswith("jtc/")]
    sources = {f"jtc/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    sources = sources - {"jtc/frontend/namespace.py"} | {"jtc/__init__.py"}
    assert {name for name in names if name.endswith(".py")} == sources
    stubs = ROOT / "frontend" / "stubs"
    assert {name for name in names if name.endswith(".pyi")} == {
        "jtc/runtime/_native.pyi", *(f"jtc/{path.relative_to(stubs)}" for path in stubs.rglob("*.pyi"))}
    others = sorted(name for name in names if not name.endswith((".py", ".pyi")))
    first, native, *rest = others
    assert first == "jtc/py.typed" and rest == ["jtc/tools/emulated.c"]       # compiled where it is used
    assert re.fullmatch(r"jtc/runtime/_native\.[^/]+\.so", native)


def test_commands_and_metadata(wheel):
    entry = configparser.ConfigParser()
    entry.read_string(wheel.read(f"jtc-{VERSION}.dist-info/entry_points.txt").decode())
    assert dict(entry["console_scripts"]) == {"jtc": "jtc.tools.cli:main", "jtc-opt": "jtc.tools.opt:main"}
    metadata = wheel.read(f"jtc-{VERSION}.dist-info/METADATA").decode()
    assert "Requires-Python: >=3.11" in metadata and "Requires-Dist: torch-mlir==20261001" in metadata
    for extra in ("test", "examples", "cuda", "bench", "onnx"):
        assert f"Provides-Extra: {extra}\n" in metadata


def test_type_checkers_see_public_modules(wheel, tmp_path):
    wheel.extractall(tmp_path)
    (tmp_path / "user.py").write_text(textwrap.dedent("""\
        import jtc.nn
        import jtc.nn.functional as F
        from jtc import nn
        from jtc.nn import Module


        class Net(Module):
            def __init__(self) -> None:
                super().__init__()
                self.last: jtc.nn.Linear = nn.Linear(3, 4)


        reveal_type(Net().last.bias)
        reveal_type(F.relu)
        reveal_type(jtc.exp(1.0))
        nn.Absent
        jtc.absent
        """))
    done = subprocess.run([sys.executable, "-m", "mypy", "--follow-imports=silent", "--ignore-missing-imports",
                           "--config-file=", f"--cache-dir={tmp_path / 'cache'}", "user.py"],
                          cwd=tmp_path, capture_output=True, text=True)
    told = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert told[:-1] == ['note: Revealed type is "jtc.frontend.nn.parameter.Parameter | None"',
                        'note: Revealed type is "def (Any) -> jtc.frontend.tensor.Tensor"',
                        'note: Revealed type is "jtc.frontend.tensor.Tensor"',
                        'error: Module has no attribute "Absent"  [attr-defined]',
                        'error: Module has no attribute "absent"  [attr-defined]'], done.stdout + done.stderr


def test_it_works_from_its_place(wheel, tmp_path):
    wheel.extractall(tmp_path)
    script = (f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
              "import jtc, jtc.runtime.engine as engine\n"
              f"assert jtc.__file__.startswith({str(tmp_path)!r}) and jtc.__version__ == {VERSION!r}\n"
              f"assert engine._native.__file__.startswith({str(tmp_path)!r})\n"
              "heavy = {'torch_mlir', 'mlir', 'llvmlite', 'rich', 'hypothesis', 'safetensors'} & set(sys.modules)\n"
              "assert not heavy, heavy\n")
    subprocess.run([sys.executable, "-I", "-c", script], check=True)
