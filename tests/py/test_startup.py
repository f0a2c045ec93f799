"""What a warm start costs: with everything in the cache, no process imports MLIR, LLVM or the compiler's passes."""
from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from kernels import matmul

import jtc
from jtc.compiler import driver
from jtc.compiler.cache import current
from jtc.dialects.text import graph_text
from jtc.tools.cli import main

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((20, 12), np.float32), RNG.standard_normal((12, 24), np.float32)
# Ends a program: fails where something was imported that a hit has no use for.
CHECK = """
import sys
heavy = {"mlir", "torch_mlir", "llvmlite", "rich", "jtc.passes", "jtc.compiler.codegen", "jtc.compiler.workers"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
COMMAND = "import sys; from jtc.tools.cli import main; code = main(sys.argv[1:]); assert code == 0, code\n" + CHECK


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty directory with a cache of its own, a saved graph and an input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JTC_CACHE_DIR", str(tmp_path / "cache"))
    np.save("a.npy", A)
    jtc.export(lambda a: jtc.relu(a @ B), (A,), "m.jtc", name="m")
    return tmp_path


def fresh(program: str, *argv: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_compile_and_run_of_a_known_file(place, capsys):
    assert main(["compile", "m.jtc", "-o", "first.so"]) == 0
    assert "from the cache" in fresh(COMMAND, "compile", "m.jtc", "-o", "second.so").stderr
    assert (place / "first.so").read_bytes() == (place / "second.so").read_bytes()
    fresh(COMMAND, "run", "m.jtc", "--input", "a.npy", "--output", "y.npy")
    np.testing.assert_allclose(np.load("y.npy"), np.maximum(A @ B, 0), rtol=1e-4, atol=1e-5)
    assert "in the cache: " in fresh(COMMAND, "cache", "why", "m.jtc").stdout


def test_a_jitted_function_in_another_process(place):
    program = """
import numpy as np, jtc
@jtc.jit
def f(x, w):
    return jtc.softmax(x @ w, axis=-1)
w = jtc.array(np.arange(12, dtype=np.float32).reshape(4, 3)) * 0.1
out = f(np.ones((2, 4), np.float32), w)
assert out.shape == (2, 3) and abs(float(out.numpy().sum()) - 2) < 1e-5
"""
    exec(compile(program, "first", "exec"), {"__name__": "first"})
    fresh(program + CHECK)


def test_what_a_file_holds_is_known_by_its_bytes(place, capsys):
    """Another name, other knobs and targets: the graph is not read again.  Other bytes: it is."""
    def compiled(path, **options):
        reads = []

        def read():
            from jtc.tools.models import open_source
            source = open_source(str(path))
            reads.append(path)
            return source.phase, source.value, source.tree

        timings = driver.Timings()
        module = driver.compile_file(path, read, timings=timings, **options)
        return module, len(reads), timings.cached

    first = compiled("m.jtc")
    assert first[1:] == (1, False)
    (place / "copy.jtc").write_bytes((place / "m.jtc").read_bytes())
    assert compiled("copy.jtc") == (first[0], 0, True)
    assert compiled("m.jtc", target="x86-64")[1:] == (1, False)            # known, but to be compiled
    assert compiled("m.jtc", target="x86-64")[1:] == (0, True)
    assert compiled("m.jtc", embed=False)[1:] == (1, False)
    assert compiled("m.jtc", cache="off")[1:] == (1, False)
    assert compiled("m.jtc", cache="readonly")[1:] == (0, True)
    assert compiled("m.jtc", dump_dir=place / "dump")[1:] == (1, False)
    jtc.export(lambda a: jtc.relu(a @ (2 * B)), (A,), "m.jtc", name="m")
    second = compiled("m.jtc")
    assert second[0] != first[0] and second[1:] == (1, False)
    jtc.export(lambda a: jtc.relu(a @ B), (A,), "m.jtc", name="m")        # same graph, from other lines
    assert compiled("m.jtc")[0] == first[0]


def test_misses_of_files_are_explained(place, capsys, caplog, monkeypatch):
    monkeypatch.setenv("JTC_LOG", "info")
    assert main(["compile", "m.jtc"]) == 0
    assert "contents of m.jtc are not known yet" in caplog.text and "no programs" in caplog.text
    caplog.clear()
    assert main(["compile", "m.jtc", "--optimize", "2"]) == 0
    assert "not known" not in caplog.text and "differs in knobs" in caplog.text
    assert main(["cache", "why", "m.jtc", "--target", "x86-64"]) == 0
    assert "differs in target" in capsys.readouterr().out


def test_damaged_notes_and_modules_are_made_again(place, caplog):
    from jtc.tools.models import compile_model
    module = compile_model("m.jtc")
    whole = module.read_bytes()
    note, = current()._files("files", ".json")
    for path in (note, module):
        for damage in (lambda data: data[:len(data) // 2], lambda data: data[:40] + b"?" + data[41:], lambda data: b""):
            path.write_bytes(damage(path.read_bytes()))
            caplog.clear()
            assert compile_model("m.jtc") == module
            assert "damaged" in caplog.text
            assert module.read_bytes() == whole


def test_a_file_that_changes_while_it_is_compiled_is_not_noted(place):
    from jtc.tools.models import reader

    def read():
        made = reader("m.jtc")()
        with open("m.jtc", "ab") as file:
            file.write(b" ")
        return made

    driver.compile_file("m.jtc", read)
    assert current().stats()["files"] == (0, 0)


def test_text_files_are_known_too(place):
    (place / "mm.mlir").write_text(graph_text(matmul()))
    assert main(["compile", "mm.mlir"]) == 0
    fresh(COMMAND, "compile", "mm.mlir", "-o", "again.so")
    assert os.path.getsize("again.so") == os.path.getsize("mm.so")
