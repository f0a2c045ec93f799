"""From a graph to a module that runs, in the library and on the command line."""
from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from kernels import chain, matmul

import jtc
from jtc.compiler import driver, explain
from jtc.compiler.contents import contents, key_of
from jtc.compiler.driver import Timings, compile_graph, resolve_target
from jtc.dialects.errors import InputError
from jtc.dialects.text import graph_text
from jtc.frontend.model_file import Model, write_model
from jtc.runtime import knobs
from jtc.runtime.module import load_module
from jtc.tools.cli import main

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((20, 12), np.float32), RNG.standard_normal((12, 24), np.float32)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty directory with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JTC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def save(path, graph, tree=None):
    arrays = {n.attrs["value"].name: n.data for n in graph.constants()}
    write_model(Model(graph_text(graph), arrays, graph.name, graph.input_names, graph.output_names, tree), path)
    return str(path)


def test_matmul():
    timings = Timings()
    path = compile_graph(matmul(), timings=timings)
    np.testing.assert_allclose(load_module(path)(A, B), A @ B, rtol=1e-5, atol=1e-5)
    names = [name for name, _ in timings.steps]
    order = [names.index(n) for n in ("graph-expand", "graph-fuse", "kernel-schedule", "emit", "objects")]
    assert order == sorted(order)
    assert timings.total > 0 and [what for what, _ in timings.kernels if what.startswith("object of ")]


def test_elementwise_chain():
    x = np.linspace(-3, 3, 40, dtype=np.float32)
    np.testing.assert_allclose(load_module(compile_graph(chain()))(x), np.exp(x) * 2 + x, rtol=1e-5)


def test_weights_inside_and_outside(place):
    inside = load_module(compile_graph(matmul(weights=B), output=place / "m.so"))
    assert inside.constants == []
    np.testing.assert_allclose(inside(A), A @ B, rtol=1e-5, atol=1e-5)
    outside = load_module(compile_graph(matmul(weights=B)))
    assert [c.name for c in outside.constants] == ["b"]
    outside.bind({"b": B})
    np.testing.assert_allclose(outside(A), A @ B, rtol=1e-5, atol=1e-5)
    # Without weights inside, other weights take the same module; with them, they do not.
    assert compile_graph(matmul(weights=2 * B)) == outside.path
    again = Timings()
    compile_graph(matmul(weights=2 * B), output=place / "n.so", timings=again)
    assert not again.cached
    np.testing.assert_allclose(load_module(place / "n.so")(A), A @ (2 * B), rtol=1e-5, atol=1e-5)
    for cache in ("on", "off"):
        with pytest.raises(InputError, match="weights 'b' have no values"):
            graph = matmul(weights=B)
            graph.constants()[0].data = None
            compile_graph(graph, output=place / "x.so", cache=cache)
        assert not (place / "x.so").exists()


def test_without_a_cache_the_module_is_written_where_it_is_wanted(place, monkeypatch):
    kept = compile_graph(matmul(weights=B), output=place / "kept.so")
    monkeypatch.setattr(driver, "contents", None)           # weights are not hashed,
    monkeypatch.setattr(driver, "deliver", None)            # nor is the module copied
    path = compile_graph(matmul(weights=B), output=place / "m.so", cache="off")
    assert path == place / "m.so" and path.read_bytes() == kept.read_bytes()
    before = sorted(place.iterdir())
    with pytest.raises(InputError, match="cannot write .*m.so: No space left"):
        with monkeypatch.context() as patched:
            patched.setattr("jtc.compiler.link.link", full_disk)
            compile_graph(matmul(weights=2 * B), output=path, cache="off")
    assert sorted(place.iterdir()) == before and path.read_bytes() == kept.read_bytes()


def full_disk(path, *_, **__):
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_a_hit_imports_no_compiler(place):
    compile_graph(matmul())
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from kernels import matmul
from jtc.compiler.driver import Timings, compile_graph
from jtc.runtime.module import load_module
import numpy as np
timings = Timings()
module = load_module(compile_graph(matmul(), timings=timings))
assert timings.cached
assert module(np.ones((20, 12), np.float32), np.ones((12, 24), np.float32))[0, 0] == 12
bad = [m for m in sys.modules if m.startswith(("torch_mlir", "llvmlite", "rich", "jtc.passes"))]
assert not bad, bad
"""
    done = subprocess.run([sys.executable, "-c", program, __file__.rpartition("/")[0]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_locations_do_not_change_the_key():
    target = resolve_target("cpu")
    graph = matmul()
    key = key_of(contents(graph, False), target)
    for node in graph.nodes():
        node.loc = None
    assert key_of(contents(graph, False), target).digest == key.digest


def test_strict_and_optimize_are_in_the_key():
    made = {compile_graph(chain(), **options) for options in ({}, {"strict": True}, {"optimize": 3}, {"verify": False})}
    assert len(made) == 3


def test_explain_a_graph():
    report = explain.explain_graph(matmul())
    products = [k for k in report.kernels if "mul" in k.ops]
    assert len(products) == 1 and "user.py:7" in products[0].lines
    assert str(report).startswith("matmul: ")


def test_explain_says_what_has_to_move_and_what_only_goes_between_kernels():
    x, w = np.zeros((64, 96), np.float32), np.zeros((96, 320), np.float32)
    report = jtc.explain(lambda x, w: jtc.softmax(x @ w, axis=-1), x, w)
    product, softmax = report.kernels
    scores = 4 * 64 * 320
    assert report.least == x.nbytes + w.nbytes + scores
    assert product.bytes - product.least == scores + sum(copy.bytes - w.nbytes for copy in product.copies)
    assert softmax.least == softmax.bytes - scores == scores
    assert f"(at least {report.least / 1024:.3g} KiB: inputs, weights and outputs)" in str(report)
    assert "160 KiB moved (80 KiB of it between kernels)" in str(report)


def run(capsys, *argv):
    code = main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


def test_compile_and_run_commands(place, capsys):
    save(place / "mm.jtc", matmul(weights=B), tree=None)
    code, out, err = run(capsys, "compile", "mm.jtc", "--timings")
    assert code == 0 and out == "" and "graph-fuse" in err and "total" in err, err
    np.save("a.npy", A)
    code, out, err = run(capsys, "run", "mm.so", "--input", "a.npy", "--output", "y.npz", "--repeat", "3")
    assert code == 0 and "c: float32[20, 24]" in out and "first run" in out and "then 2 runs" in out, err
    with np.load("y.npz") as answers:
        np.testing.assert_allclose(answers["c"], A @ B, rtol=1e-5, atol=1e-5)
    assert run(capsys, "run", "mm.jtc", "--input", "a=a.npy", "--output", "y.npy")[0] == 0
    np.testing.assert_allclose(np.load("y.npy"), A @ B, rtol=1e-5, atol=1e-5)
    code, _, err = run(capsys, "compile", "mm.jtc", "-o", "again.so", "--timings")
    assert code == 0 and "from the cache" in err
    assert (place / "again.so").read_bytes() == (place / "mm.so").read_bytes()


def test_commands_end_quietly(place):
    save(place / "mm.jtc", matmul(weights=B))
    np.save("a.npy", A)
    for arguments in ("compile mm.jtc", "run mm.so --input a.npy", "bench mlp_train_b8 --tiny --seconds 0.001"):
        done = subprocess.run([sys.executable, "-m", "jtc.tools.cli", *arguments.split()], capture_output=True,
                              text=True)
        assert done.returncode == 0 and "leaked" not in done.stderr, done.stderr


def test_emit_every_phase(place, capsys):
    save(place / "mm.jtc", matmul())
    words = {"graph": '"jtc.mul"', "kernel": "jtc.kernel", "schedule": "jtc.kernel", "loops": "func.func @kernel_",
             "llvm": "define void @kernel_", "asm": "kernel_"}
    for phase, word in words.items():
        code, out, err = run(capsys, "compile", "mm.jtc", "--emit", phase, "-o", "-")
        assert code == 0 and word in out, err
        if phase in ("kernel", "schedule"):
            (place / f"{phase}.mlir").write_text(out)
    assert run(capsys, "compile", "mm.jtc", "--emit", "obj")[0] == 0 and (place / "mm.o").exists()
    np.save("a.npy", A)
    np.save("b.npy", B)
    for phase in ("kernel", "schedule"):
        assert run(capsys, "compile", f"{phase}.mlir", "--no-weights", "-o", "p.so")[0] == 0
        assert run(capsys, "run", "p.so", "--input", "a.npy", "--input", "b.npy", "--output", "y.npy")[0] == 0
        np.testing.assert_allclose(np.load("y.npy"), A @ B, rtol=1e-5, atol=1e-5)


def test_explain_bench_cache_commands(place, capsys):
    save(place / "mm.jtc", matmul())
    code, out, _ = run(capsys, "cache", "why", "mm.jtc")
    assert "no programs" in out
    assert run(capsys, "compile", "mm.jtc")[0] == 0
    code, out, _ = run(capsys, "cache", "why", "mm.jtc")
    assert "in the cache: " in out
    code, out, _ = run(capsys, "cache", "why", "mm.jtc", "--target", "x86-64")
    assert "differs in target" in out
    assert "programs: 1 entry" in run(capsys, "cache", "stats")[1]
    for file in ("mm.jtc", "mm.so"):
        code, out, _ = run(capsys, "explain", file)
        assert code == 0 and "user.py:7" in out and "schedule:" in out
    data = json.loads(run(capsys, "explain", "mm.so", "--json")[1])
    assert data["name"] == "matmul" and data["kernels"][0]["flops"] > 0
    code, out, _ = run(capsys, "bench", "mm.so", "--seconds", "0.01", "--threads", "1", "--kernels")
    assert "G operations/s   GB/s  kernel" in out
    assert code == 0 and "median" in out and "G operations/s" in out


def test_doctor(capsys):
    code, out, err = run(capsys, "doctor", "--knobs")
    assert code == 0 and "all is well" in out and "x + x is right" in out and "JTC_CACHE_DIR" in out, out + err


def test_dump_and_knobs(place, capsys):
    save(place / "mm.jtc", matmul())
    assert run(capsys, "compile", "mm.jtc", "--dump-dir", "dump", "--optimize", "2", "--threads", "0")[0] == 0
    assert (place / "dump" / "00-graph.mlir").exists() and list((place / "dump" / "asm").glob("*.s"))
    assert knobs.get("dump_dir") is None
