"""The command line: help, phases, passes, cache, reading inputs.  Run in this process."""
from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from kernels import LOOPS, chain, saved

import jtc
from jtc.compiler.phases import PHASES
from jtc.dialects.text import graph_text
from jtc.runtime import knobs
from jtc.tools.cli import COMMANDS


def test_help(call):
    code, out, _ = call("--help")
    assert code == 0 and all(name in out for name in COMMANDS)
    assert call()[0] == 2
    assert call("--version") == (0, f"jtc {jtc.__version__}\n", "")
    for name in COMMANDS:
        if name != "fuzz":
            code, out, _ = call(name, "--help")
            assert code == 0 and out.startswith(f"usage: jtc {name}"), name
    assert all(f"  {name} " in call("compile", "--help")[1] for name in PHASES)


def test_help_by_name_and_examples(call):
    assert call("help", "compile") == call("compile", "--help")
    for name in ("compile", "run", "explain", "bench", "cache", "opt"):
        assert f"\nexamples:\n  jtc {name}" in call(name, "--help")[1], name
    assert "--kernel-split " in call("opt", "--help")[1]


def test_help_imports_no_compiler():
    program = ("import sys; from jtc.tools.cli import main; main(['--help']); main(['compile', '--help'])\n"
               "bad = [m for m in sys.modules if m.startswith(('torch_mlir', 'llvmlite', 'rich'))]\n"
               "sys.exit(f'imported {bad}' if bad else 0)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_emit_graph_round_trips(call, mm, tmp_path):
    assert call("compile", mm, "--emit", "graph", "-o", "out.mlir")[0] == 0
    assert (tmp_path / "out.mlir").read_text() == mm.read_text()
    code, out, _ = call("compile", mm, "--emit", "graph", "-o", "-")
    assert code == 0 and out == mm.read_text()
    assert call("opt", mm, "--locations")[1] == mm.read_text()
    code, out, _ = call("opt", mm)
    assert code == 0 and "user.py" not in out


def test_from_loops_to_object(call, tmp_path):
    (tmp_path / "k.mlir").write_text("// -----\n".join(LOOPS.format(n=n) for n in (2, 3)))
    for phase, words in (("llvm", ["define void @scale2(", "; -----"]), ("asm", ["scale3:", "# -----"])):
        code, out, err = call("compile", "k.mlir", "--emit", phase, "-o", "-")
        assert code == 0 and all(w in out for w in words), err
    assert call("compile", "k.mlir", "--emit", "llvm")[0] == 0
    assert call("compile", "k.ll", "--emit", "obj")[0] == 0
    assert (tmp_path / "k.o").read_bytes()[:4] == b"\x7fELF"
    code, _, err = call("compile", "k.ll", "--emit", "loops")
    assert code == 2 and "cannot make loops from llvm" in err
    code, _, err = call("compile", "k.mlir")
    assert code == 2 and "cannot be made from loops" in err
    assert call("compile", "k.mlir", "--emit", "obj", "-o", "-")[0] == 2


def test_dump_and_go_on_from_any_of_it(call, mm, tmp_path):
    code, _, err = call("compile", mm, "--emit", "asm", "--dump-dir", "dump", "--timings")
    assert code == 0 and "mm.s: " in err and "kernels" in err and "total" in err
    wanted = (tmp_path / "mm.s").read_text()
    files = sorted((tmp_path / "dump").rglob("*"))
    assert {p.name for p in files if p.is_dir()} == {"loops", "llvm", "asm"}
    starts = [p for p in files if p.suffix in (".mlir", ".ll")]
    assert len(starts) > 5
    for start in (starts[0], starts[len(starts) // 2], *(p for p in starts if p.parent.name != "dump")):
        assert call("compile", start, "--emit", "asm", "-o", "again.s")[0] == 0
        assert (tmp_path / "again.s").read_text() == wanted, start


def test_opt_upstream_passes(call, mm, monkeypatch):
    text = mm.read_text()
    line = next(row for row in text.splitlines() if "jtc.mul" in row)
    monkeypatch.setattr("sys.stdin", io.StringIO(text.replace(line, line + "\n" + line.replace("%2 =", "%9 ="))))
    code, out, err = call("opt", "--cse", "--canonicalize", "-")
    assert code == 0 and out.count("jtc.mul") == 1, err
    monkeypatch.setattr("sys.stdin", io.StringIO("func.func @f() { return }\n"))
    assert call("opt", "--pass-pipeline=builtin.module(canonicalize,cse)")[0] == 0


def test_opt_split_input(call, mm, tmp_path):
    (tmp_path / "two.mlir").write_text(mm.read_text() + "// -----\n" + graph_text(chain()))
    code, out, err = call("opt", "--split-input-file", "two.mlir")
    assert code == 0 and out.count("// -----") == 1 and "@matmul" in out and "@chain" in out, err


def test_cache_verbs(call, tmp_path):
    assert call("cache", "dir")[1].strip() == str(tmp_path / "cache")
    assert "programs: 0 entries" in call("cache")[1]
    assert "0 entries checked" in call("cache", "verify")[1]
    assert "removed 0" in call("cache", "clear")[1]
    saved(tmp_path / "m.jtc", chain())
    assert "no programs" in call("cache", "why", "m.jtc")[1]
    assert call("cache", "list") == (0, "", "")
    assert call("compile", "m.jtc")[0] == 0
    row, = call("cache", "list")[1].splitlines()
    assert " KB  chain(" in row and row.endswith(".so")


def test_reading_inputs(tmp_path):
    from jtc.dialects.errors import InputError
    from jtc.runtime.module import TensorInfo
    from jtc.tools.arrays import read_inputs, save_outputs, summary
    a, b = TensorInfo("a", "f32", (2, 3)), TensorInfo("b", "i64", (4,))
    x, y = np.ones((2, 3), np.float32), np.arange(4)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    np.savez(tmp_path / "both.npz", b=y, a=x)
    fx, fy, both = (str(tmp_path / n) for n in ("x.npy", "y.npy", "both.npz"))
    for files in ([fx, fy], [f"b={fy}", fx], [both], [f"a={fx}", f"b={fy}"]):
        got = read_inputs(files, [a, b])
        np.testing.assert_array_equal(got[0], x)
        np.testing.assert_array_equal(got[1], y)
    (tmp_path / "broken.npz").write_bytes(open(both, "rb").read()[:100])
    (tmp_path / "broken.npy").write_bytes(b"junk")
    (tmp_path / "x.txt").write_text("1 2")
    np.savez(tmp_path / "named.npz", c=x)
    for files, words in (([fx], "2 inputs"), ([fy, fx], r"input a: the file has int64\[4\]"), ([], "2 inputs"),
                         ([str(tmp_path / "absent.npy")], "no such file"),
                         ([str(tmp_path / "broken.npz")], "cannot be read"),
                         ([str(tmp_path / "broken.npy")], "cannot be read"), ([str(tmp_path / "x.txt")], "not known"),
                         ([str(tmp_path / "named.npz")], "'c', which is no input")):
        with pytest.raises(InputError, match=words):
            read_inputs(files, [a, b])
    save_outputs(tmp_path / "o.npz", {"c": x, "d": y})
    with np.load(tmp_path / "o.npz") as back:
        np.testing.assert_array_equal(back["d"], y)
    with pytest.raises(InputError, match="one array"):
        save_outputs(tmp_path / "o.npy", {"c": x, "d": y})
    assert not (tmp_path / "o.npy").exists()
    scores = np.array([[0, 5, 1, 2, 3, 4]], np.float32)
    assert "top 5: class 1 (5), class 5 (4)" in summary("c", scores)
    assert summary("c", scores, list("abcdef"), 2).endswith("top 2: b (5), f (4)")
    assert "class 1 (5)" in summary("c", scores, ["of another model"])
    assert "1 not finite" in summary("c", np.array([np.nan, 1], np.float32))
    assert "empty" in summary("c", np.zeros((0, 3)))


def test_images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    from jtc.dialects.errors import InputError
    from jtc.runtime.module import TensorInfo
    from jtc.tools.arrays import DEVIATION, MEAN, ImageOptions, read_inputs
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :, 0] = 255
    pixels[:, :20] = 9                                  # cut away when the middle is taken
    image.fromarray(pixels).save(tmp_path / "red.png")
    file = str(tmp_path / "red.png")
    got, = read_inputs([file], [TensorInfo("x", "f32", (1, 3, 20, 20))])
    assert got.shape == (1, 3, 20, 20) and got.dtype == np.float32
    np.testing.assert_allclose(got[0, :, 10, 10], (np.array([1, 0, 0]) - MEAN) / DEVIATION, atol=1e-5)
    grey, = read_inputs([file], [TensorInfo("x", "f32", (1, 1, 8, 8))])
    assert 0 < grey.min() and grey.max() < 1
    last, = read_inputs([file], [TensorInfo("x", "f32", (1, 20, 20, 3))])
    np.testing.assert_array_equal(last, got.transpose(0, 2, 3, 1))
    plain, = read_inputs([file], [TensorInfo("x", "f32", (3, 20, 20))], ImageOptions((0.5,), (0.25, 0.5, 1.0)))
    np.testing.assert_allclose(plain[:, 10, 10], [2, -1, -0.5])
    square = TensorInfo("x", "f32", (1, 3, 8, 3))
    for layout, place in (("nchw", (0, slice(None), 4, 1)), ("nhwc", (0, 1, 4, slice(None)))):
        both, = read_inputs([file], [square], ImageOptions((0.0,), (1.0,), layout))
        np.testing.assert_allclose(both[place], [1, 0, 0])
    with pytest.raises(InputError, match="an image fits a float32 input"):
        read_inputs([file], [TensorInfo("x", "f32", (10,))])
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_inputs([str(tmp_path / "bad.png")], [TensorInfo("x", "f32", (1, 3, 8, 8))])


def test_knobs_are_restored(call, mm):
    call("compile", mm, "--emit", "graph", "-o", "-", "--optimize", "3")
    assert knobs.get("optimize") == 1
