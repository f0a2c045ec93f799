"""The command line: help, exit codes, bad input, nothing half-written.  Run in this process."""
from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from kernels import LOOPS, chain, matmul

from jtc.compiler.phases import PHASES
from jtc.dialects.text import graph_text
from jtc.runtime import knobs
from jtc.tools.cli import COMMANDS, main


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """call(*argv) -> (exit code, stdout, stderr), in an empty directory with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JTC_CACHE_DIR", str(tmp_path / "cache"))

    def run(*argv):
        code = main([str(a) for a in argv])
        out, err = capsys.readouterr()
        return code, out, err
    return run


@pytest.fixture
def mm(tmp_path):
    """A graph as text."""
    path = tmp_path / "mm.mlir"
    path.write_text(graph_text(matmul()))
    return path


def save(path, graph, **meta):
    """A saved graph, written by hand so that it can be wrong."""
    from jtc.frontend.model_file import Model, write_model
    arrays = {n.attrs["value"].name: n.data for n in graph.constants()}
    write_model(Model(graph_text(graph), arrays, graph.name, graph.input_names, graph.output_names), path)
    if meta:
        members = {n: zipfile.ZipFile(path).read(n) for n in zipfile.ZipFile(path).namelist()}
        members["meta.json"] = json.dumps(json.loads(members["meta.json"]) | meta).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    return path


def test_help(call):
    code, out, _ = call("--help")
    assert code == 0 and all(name in out for name in COMMANDS)
    assert call()[0] == 2
    assert call("--version") == (0, "jtc 0.1.0\n", "")
    for name in COMMANDS:
        if name != "fuzz":
            code, out, _ = call(name, "--help")
            assert code == 0 and out.startswith(f"usage: jtc {name}"), name
    assert all(f"  {name} " in call("compile", "--help")[1] for name in PHASES)


def test_help_imports_no_compiler():
    program = ("import sys; from jtc.tools.cli import main; main(['--help']); main(['compile', '--help'])\n"
               "bad = [m for m in sys.modules if m.startswith(('torch_mlir', 'llvmlite', 'rich'))]\n"
               "sys.exit(f'imported {bad}' if bad else 0)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("argv,code,words", [
    (["nonsense"], 2, ["unknown command 'nonsense'", "hint: one of compile"]),
    (["compile"], 2, ["required: model", "jtc compile --help"]),
    (["compile", "m.jtc", "--emit", "nonsense"], 2, ["unknown phase 'nonsense'", "graph, kernel, schedule, loops"]),
    (["compile", "m.jtc", "--emit", "ptx"], 2, ["target cpu has no phase ptx"]),
    (["compile", "m.jtc", "--target", "z80"], 2, ["unknown target 'z80'", "cpu, cuda"]),
    (["compile", "m.jtc", "--target", "cuda"], 2, ["target cuda is not built yet"]),
    (["compile", "m.jtc", "--threads", "many"], 2, ["jobs='many'"]),
    (["compile", "m.jtc", "--optimize", "9"], 2, ["optimize='9'", "0 to 3"]),
    (["compile", "m.jtc", "--from", "so"], 1, ["m.jtc: no such file"]),
    (["compile", "m.jtc"], 1, ["m.jtc: no such file"]),
    (["compile", "m.jtc", "-o", "absent/m.so"], 1, ["cannot write absent/m.so", "no directory absent"]),
    (["compile", ".", "-o", "m.so"], 1, [". is a directory"]),
    (["run", "m.so"], 1, ["m.so: no such file"]),
    (["run", "m.so", "--repeat", "0"], 2, ["--repeat 0"]),
    (["run", "m.so", "--output", "absent/y.npz"], 1, ["cannot write absent/y.npz"]),
    (["explain", "m.so"], 1, ["m.so: no such file"]),
    (["cache", "nonsense"], 2, ["invalid choice"]),
    (["cache", "why"], 2, ["needs a saved graph"]),
    (["bench", "m.so", "--seconds", "-1"], 2, ["--seconds -1"]),
    (["opt", "--graph-nonsense"], 2, ["unknown pass 'graph-nonsense'"]),
    (["opt", "--nonsense", "mm.mlir"], 2, ["unknown pass 'nonsense'"]),
    (["opt", "-x"], 2, ["unknown option '-x'"]),
    (["opt", "a", "b"], 2, ["one input file, not 2"]),
    (["opt", "--emit"], 2, ["--emit needs a value"]),
    (["opt", "absent.mlir"], 1, ["cannot read absent.mlir: No such file"]),
    (["opt", "--emit", "obj", "mm.mlir"], 2, ["not text"]),
])
def test_bad_command_lines(call, mm, tmp_path, argv, code, words):
    before = sorted(tmp_path.iterdir())
    got, out, err = call(*argv)
    assert got == code and out == ""
    assert all(w in err for w in words), err
    assert len(err.splitlines()) <= 2 and "error: " in err and "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_bad_models(call, tmp_path):
    good = save(tmp_path / "good.jtc", chain())
    data = good.read_bytes()
    (tmp_path / "cut.jtc").write_bytes(data[:len(data) // 2])
    (tmp_path / "foreign.jtc").write_bytes(b"hello")
    save(tmp_path / "newer.jtc", chain(), version=99)
    with zipfile.ZipFile(tmp_path / "slip.jtc", "w") as archive:
        archive.writestr("../evil", "x")
    for name, words in (("cut", "cut short"), ("foreign", "not a saved graph"), ("newer", "99"), ("slip", "refused")):
        for verb in ("compile", "run", "explain"):
            code, out, err = call(verb, f"{name}.jtc")
            assert code == 1 and words in err and f"{name}.jtc" in err, err
    assert not list(tmp_path.glob("*.so")) and not (tmp_path.parent / "evil").exists()
    text = tmp_path / "wrong.mlir"
    text.write_text(graph_text(chain()).replace('"jtc.exp"', '"jtc.nonsense"'))
    code, out, err = call("compile", text)
    assert code == 1 and f"{text}:" in err and "jtc.nonsense" in err
    (tmp_path / "empty.mlir").write_text("")
    assert call("compile", "empty.mlir")[0] == 1
    assert call("compile", "good.jtc", "--from", "loops")[0] in (1, 2)


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
    save(tmp_path / "m.jtc", chain())
    assert "no programs" in call("cache", "why", "m.jtc")[1]


def test_bugs_and_interrupts(call, monkeypatch):
    import jtc.tools.doctor as doctor

    def interrupt(arguments):
        raise KeyboardInterrupt
    monkeypatch.setattr(doctor, "run", interrupt)
    assert call("doctor") == (130, "", "interrupted\n")

    def crash(arguments):
        raise IndexError("list index out of range")
    monkeypatch.setattr(doctor, "run", crash)
    code, _, err = call("doctor")
    assert code == 70 and "bug of jtc" in err and "IndexError" in err


def test_bad_knob_in_the_environment(call, monkeypatch, mm):
    monkeypatch.setenv("JTC_OPTIMIZE", "fast")
    code, _, err = call("compile", mm, "--emit", "graph", "-o", "-")
    assert code == 2 and "JTC_OPTIMIZE='fast'" in err
    monkeypatch.setenv("JTC_LOG", "loud")
    code, _, err = call("cache")
    assert code == 2 and "JTC_LOG" in err


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
    assert "1 not finite" in summary("c", np.array([np.nan, 1], np.float32))
    assert "empty" in summary("c", np.zeros((0, 3)))


def test_images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    from jtc.dialects.errors import InputError
    from jtc.runtime.module import TensorInfo
    from jtc.tools.arrays import DEVIATION, MEAN, read_inputs
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :, 0] = 255
    pixels[:, :20] = 9                                  # cut away when the middle is taken
    image.fromarray(pixels).save(tmp_path / "red.png")
    file = str(tmp_path / "red.png")
    got, = read_inputs([file], [TensorInfo("x", "f32", (1, 3, 20, 20))])
    assert got.shape == (1, 3, 20, 20) and got.dtype == np.float32
    np.testing.assert_allclose(got[0, :, 10, 10], (np.float32([1, 0, 0]) - MEAN) / DEVIATION, atol=1e-5)
    grey, = read_inputs([file], [TensorInfo("x", "f32", (1, 1, 8, 8))])
    assert 0 < grey.min() and grey.max() < 1
    with pytest.raises(InputError, match="an image fits a float32 input"):
        read_inputs([file], [TensorInfo("x", "f32", (10,))])
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_inputs([str(tmp_path / "bad.png")], [TensorInfo("x", "f32", (1, 3, 8, 8))])


def test_knobs_are_restored(call, mm):
    call("compile", mm, "--emit", "graph", "-o", "-", "--optimize", "3")
    assert knobs.get("optimize") == 1
