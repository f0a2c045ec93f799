"""Wrong command lines, files and surroundings: one clear line, the exit code, and nothing lost or half-written.

Commands run in this process.  Wrong IR is in tests/lit/tools, wrong use from Python in test_bad_input.py.
"""
from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest
from kernels import chain, matmul, saved

from jtc.dialects.text import graph_text

A = np.random.default_rng(0).standard_normal((20, 12), np.float32)
COLOUR = np.zeros((12, 9, 3), np.uint8)


def one_line(err: str) -> bool:
    """An error and perhaps a hint, no traceback."""
    lines = err.splitlines()
    return len(lines) in (1, 2) and "error: " in lines[0] and all(row.startswith("  hint: ") for row in lines[1:])


COMMAND_LINES = [
    (["nonsense"], 2, ["unknown command 'nonsense'", "hint: one of compile"]),
    (["compil", "m.jtc"], 2, ["unknown command 'compil'", "hint: did you mean compile?"]),
    (["compile"], 2, ["required: model", "jtc compile --help"]),
    (["compile", "m.jtc", "--emti", "asm"], 2, ["unrecognized arguments: --emti"]),
    (["compile", "m.jtc", "--emit", "nonsense"], 2, ["unknown phase 'nonsense'", "graph, kernel, schedule, loops"]),
    (["compile", "m.jtc", "--emit", "asn"], 2, ["unknown phase 'asn'", "did you mean asm?"]),
    (["compile", "m.jtc", "--emit", "ptx"], 2, ["target cpu has no phase ptx"]),
    (["compile", "m.jtc", "--target", "z80"], 2, ["unknown target 'z80'", "cpu, cuda"]),
    (["compile", "m.jtc", "--target", "cuda"], 2, ["target cuda is not built yet"]),
    (["compile", "m.jtc", "--threads", "many"], 2, ["jobs='many'"]),
    (["compile", "m.jtc", "--optimize", "9"], 2, ["optimize='9'", "0 to 3"]),
    (["compile", "m.jtc", "--from", "so"], 1, ["m.jtc: no such file"]),
    (["compile", "mm.mlir", "--from", "asm", "--emit", "obj"], 2, ["cannot start from asm"]),
    (["compile", "m.jtc"], 1, ["m.jtc: no such file"]),
    (["compile", "m.jtc", "-o", "absent/m.so"], 1, ["cannot write absent/m.so", "no directory absent"]),
    (["compile", "m.jtc", "-o", "mm.mlir/m.so"], 1, ["cannot write mm.mlir/m.so", "no directory mm.mlir"]),
    (["compile", "m.jtc", "-o", "."], 1, ["cannot write .: it is a directory"]),
    (["compile", "m.jtc", "-o", "pipe"], 1, ["cannot write pipe: it is not a regular file"]),
    (["compile", ".", "-o", "m.so"], 1, [". is a directory"]),
    (["compile", "mm.mlir", "-o", "mm.mlir"], 1, ["cannot write mm.mlir: it is the model"]),
    (["compile", "mm.mlir", "--dump-dir", "mm.mlir"], 1, ["cannot write the dump directory mm.mlir"]),
    (["compile", "mm.mlir", "--emit", "obj", "-o", "-"], 2, ["an object does not go to a terminal"]),
    (["compile", "x.npy"], 1, ["x.npy is not a saved graph"]),
    (["compile", "kernel.s"], 1, ["nothing is compiled from .s files", "starts from .jtc, .mlir"]),
    (["compile", "module.so", "-o", "m.so"], 1, ["module.so is compiled already", "jtc run"]),
    (["run", "m.so"], 1, ["m.so: no such file"]),
    (["run", "."], 1, [".: Is a directory"]),
    (["run", "kernel.s"], 1, ["nothing is compiled from .s files"]),
    (["run", "m.so", "--repeat", "0"], 2, ["--repeat 0: at least 1"]),
    (["run", "m.so", "--top", "0"], 2, ["--top 0: at least 1"]),
    (["run", "m.so", "--threads", "0"], 2, ["threads='0'"]),
    (["run", "m.so", "--output", "absent/y.npz"], 1, ["cannot write absent/y.npz"]),
    (["run", "m.so", "--output", "y.txt"], 2, ["--output y.txt", ".npz"]),
    (["run", "m.so", "--labels", "absent.txt"], 1, ["cannot read absent.txt"]),
    (["run", "m.so", "--image-mean", "a"], 2, ["--image-mean", "'a'"]),
    (["run", "m.so", "--image-std", "1,nan,1"], 2, ["--image-std"]),
    (["run", "m.so", "--image-layout", "chw"], 2, ["--image-layout", "nchw"]),
    (["explain", "m.so"], 1, ["m.so: no such file"]),
    (["cache", "nonsense"], 2, ["invalid choice", "list"]),
    (["cache", "why"], 2, ["needs a saved graph"]),
    (["cache", "clear", "m.jtc"], 2, ["takes no model"]),
    (["bench", "m.so", "--seconds", "-1"], 2, ["--seconds -1"]),
    (["bench", "m.so", "--seconds", "nan"], 2, ["--seconds nan"]),
    (["opt", "--graph-nonsense"], 2, ["unknown pass 'graph-nonsense'"]),
    (["opt", "--nonsense", "mm.mlir"], 2, ["unknown pass 'nonsense'", "jtc opt --help"]),
    (["opt", "--canonicalise", "mm.mlir"], 2, ["unknown pass 'canonicalise'", "--graph-canonicalize"]),
    (["opt", "--cse=depth=3", "mm.mlir"], 2, ["pass 'cse{depth=3}'", "no such option"]),
    (["opt", "--kernel-split=axiss=i", "mm.mlir"], 2, ["no option 'axiss=i'", "did you mean axis?"]),
    (["opt", "--kernel-split=step=x", "mm.mlir"], 2, ["step='x' is not an integer"]),
    (["opt", "--kernel-split=axis=i", "mm.mlir"], 1, ["works on kernels, not on a graph", "graph-fuse first"]),
    (["opt", "--pass-pipeline=builtin.module(cse", "mm.mlir"], 2, ["a bracket is left open"]),
    (["opt", "-x"], 2, ["unknown option '-x'"]),
    (["opt", "a", "b"], 2, ["one input file, not 2"]),
    (["opt", "--emti", "asm", "mm.mlir"], 2, ["unknown option '--emti'", "did you mean --emit?"]),
    (["opt", "--emit"], 2, ["--emit needs a value"]),
    (["opt", "absent.mlir"], 1, ["cannot read absent.mlir: No such file"]),
    (["opt", "x.npy"], 1, ["cannot read x.npy: not a text file"]),
    (["opt", "--emit", "obj", "mm.mlir"], 2, ["not text"]),
    (["opt", "mm.mlir", "-o", "absent/out.mlir"], 1, ["cannot write absent/out.mlir"]),
    (["opt", "--run-reproducer", "mm.mlir"], 1, ["mm.mlir"]),
]


@pytest.mark.parametrize("argv,code,words", COMMAND_LINES, ids=[" ".join(row[0]) for row in COMMAND_LINES])
def test_command_lines(call, mm, tmp_path, argv, code, words):
    os.mkfifo(tmp_path / "pipe")
    np.save("x.npy", A)
    (tmp_path / "kernel.s").write_text(".text\n")
    (tmp_path / "module.so").write_bytes(b"\x7fELF")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()}
    got, out, err = call(*argv)
    assert got == code and out == "", err
    assert all(w in err for w in words), err
    assert one_line(err), err
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir() if path.name != "cache"} == before


def test_models(call, tmp_path):
    good = saved(tmp_path / "good.jtc", chain())
    data = good.read_bytes()
    (tmp_path / "cut.jtc").write_bytes(data[:len(data) // 2])
    (tmp_path / "empty.jtc").write_bytes(b"")
    (tmp_path / "foreign.jtc").write_bytes(b"hello")
    saved(tmp_path / "newer.jtc", chain(), version=99)
    with zipfile.ZipFile(tmp_path / "slip.jtc", "w") as archive:
        archive.writestr("../evil", "x")
    for name, words in (("cut", "cut short"), ("empty", "not a saved graph"), ("foreign", "not a saved graph"),
                        ("newer", "format version 99"), ("slip", "refused")):
        for verb in ("compile", "run", "explain", "bench"):
            code, out, err = call(verb, f"{name}.jtc")
            assert code == 1 and words in err and f"{name}.jtc" in err and one_line(err), err
    assert not list(tmp_path.glob("*.so")) and not (tmp_path.parent / "evil").exists()
    (tmp_path / "empty.mlir").write_text("")
    code, _, err = call("compile", "empty.mlir")
    assert code == 1 and "empty.mlir" in err and one_line(err), err
    code, _, err = call("compile", "good.jtc", "--from", "loops")
    assert code == 2 and "good.jtc is a saved graph, not a file of phase loops" in err and one_line(err)


def test_wrong_ir(call, tmp_path):
    text = tmp_path / "wrong.mlir"
    text.write_text(graph_text(chain()).replace('"jtc.exp"', '"jtc.nonsense"'))
    for verb in (("compile",), ("run",), ("explain",), ("opt",)):
        code, out, err = call(*verb, text)
        first, line, caret = err.splitlines()
        assert code == 1 and first.startswith(f"{text}:3:") and "jtc.nonsense" in line and caret.strip() == "^", err
    text.write_text(graph_text(matmul(weights=np.zeros((12, 24), np.float32))))
    code, _, err = call("compile", text)
    assert code == 1 and "the weights 'b' have no values" in err and "--no-weights" in err and one_line(err)


def test_inputs_and_outputs_of_a_module(call, tmp_path):
    saved(tmp_path / "mm.jtc", matmul())
    assert call("compile", "mm.jtc")[0] == 0
    np.save("a.npy", A)
    np.save("b.npy", np.ones((12, 24), np.float32))
    np.save("d.npy", A.astype(np.float64))
    np.savez("named.npz", c=A)
    np.save("object.npy", np.array([None]), allow_pickle=True)
    (tmp_path / "y.npz").write_bytes(b"old")
    good = ["--input", "a.npy", "--input", "b.npy"]
    for argv, code, words in (
            (["--input", "a.npy"], 1, "2 inputs"), ([*good, "--input", "b.npy"], 1, "2 inputs"),
            (["--input", "a.npy", "--input", "a.npy"], 1, "input b: the file has float32[20, 12]"),
            (["--input", "d.npy", "--input", "b.npy"], 1, "convert it: array.astype('float32')"),
            (["--input", "c=a.npy", "--input", "b.npy"], 1, "the model has no input 'c'"),
            (["--input", "absent.npy", "--input", "b.npy"], 1, "absent.npy: no such file"),
            (["--input", "named.npz", "--input", "b.npy"], 1, "named.npz holds 'c', which is no input"),
            (["--input", "object.npy", "--input", "b.npy"], 1, "object.npy cannot be read"),
            (["--input", "mm.so", "--input", "b.npy"], 1, "the kind of file '.so' is not known"),
            ([*good, "--output", "mm.so"], 2, "--output mm.so")):
        got, out, err = call("run", "mm.so", "--output", "y.npz", *argv)
        assert got == code and words in err and out == "" and one_line(err), err
        assert (tmp_path / "y.npz").read_bytes() == b"old"
    before = (tmp_path / "mm.so").read_bytes()
    assert call("run", "mm.so", *good, "--output", "y.npz")[0] == 0 and call("run", "mm.so", *good)[0] == 0
    assert np.load("y.npz")["c"].shape == (20, 24) and (tmp_path / "mm.so").read_bytes() == before
    (tmp_path / "cut.so").write_bytes(before[:len(before) // 2])
    (tmp_path / "foreign.so").write_bytes(b"\x7fELF and more")
    for name in ("cut.so", "foreign.so"):
        for verb in ("run", "explain", "bench"):
            code, _, err = call(verb, name)
            assert code == 1 and name in err and one_line(err), err


def test_weights_of_a_module(call, tmp_path):
    weights = np.ones((12, 24), np.float32)
    saved(tmp_path / "mm.jtc", matmul(weights=weights))
    assert call("compile", "mm.jtc", "--no-weights")[0] == 0
    np.save("a.npy", A)
    np.savez("b.npz", b=weights)
    np.savez("other.npz", c=weights)
    np.savez("shape.npz", b=weights[:3])
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    for argv, words in (([], "compiled without its weights"), (["--weights", "other.npz"], "the weight 'b' is missing"),
                        (["--weights", "shape.npz"], "float32[12, 24]"), (["--weights", "absent.npz"], "no such file"),
                        (["--weights", "a.npy"], "weights are not read from .npy"),
                        (["--weights", "bad.safetensors"], "its weights cannot be read")):
        code, out, err = call("run", "mm.so", "--input", "a.npy", "--output", "y.npz", *argv)
        assert code == 1 and words in err and out == "" and one_line(err), err
    assert not (tmp_path / "y.npz").exists()
    for file in ("mm.jtc", "b.npz"):
        code, out, err = call("run", "mm.so", "--weights", file, "--input", "a.npy", "--output", "y.npz")
        assert code == 0, err
        np.testing.assert_allclose(np.load("y.npz")["c"], A @ weights, rtol=1e-5)
    code, _, err = call("run", "mm.jtc", "--weights", "b.npz", "--input", "a.npy")
    assert code == 1 and "mm.jtc has its weights in it" in err
    code, _, err = call("explain", "mm.jtc", "--kernel", "zzz")
    assert code == 1 and "no kernel of mm.jtc has a name with 'zzz' in it" in err


@pytest.mark.parametrize("options,code,words", [
    (["--image-mean", "1,2"], 2, "--image-mean has 2 numbers, the image 3 channels"),
    (["--image-std", "0"], 2, "no number may be 0"),
    (["--image-layout", "nhwc"], 1, "an image fits a float32 input [1, h, w, 3], not x: float32[1, 3, 8, 8]"),
])
def test_images(options, code, words, tmp_path):
    image = pytest.importorskip("PIL.Image")
    from jtc.dialects.errors import JtcError
    from jtc.runtime.module import TensorInfo
    from jtc.tools.arrays import ImageOptions, numbers, read_inputs
    image.fromarray(COLOUR).save(tmp_path / "x.png")
    name, value = options[0].removeprefix("--image-").replace("std", "deviation"), options[1]
    made = ImageOptions(**{name: value if name == "layout" else numbers(value)})
    with pytest.raises(JtcError) as caught:
        read_inputs([str(tmp_path / "x.png")], [TensorInfo("x", "f32", (1, 3, 8, 8))], made)
    assert caught.value.exit_code == code and words in caught.value.message


def test_a_full_disk_leaves_the_old_output(call, tmp_path, monkeypatch):
    saved(tmp_path / "c.jtc", chain())
    np.save("x.npy", np.ones(40, np.float32))
    (tmp_path / "y.npz").write_bytes(b"old")

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(np, "savez", full)
    code, _, err = call("run", "c.jtc", "--input", "x.npy", "--output", "y.npz")
    assert code == 1 and err == "error: cannot write y.npz: No space left on device\n"
    assert (tmp_path / "y.npz").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.jtc", "cache", "x.npy", "y.npz"]


def test_an_unwritable_cache_costs_a_warning_only(call, tmp_path, monkeypatch, caplog):
    saved(tmp_path / "c.jtc", chain())
    monkeypatch.setenv("JTC_CACHE_DIR", str(tmp_path / "c.jtc" / "below"))
    code, _, err = call("compile", "c.jtc")
    assert code == 0 and "c.so: " in err and (tmp_path / "c.so").read_bytes()[:4] == b"\x7fELF"
    assert len([r for r in caplog.records if "cache" in r.message]) == 1


def test_wrong_settings_in_the_environment(call, monkeypatch, mm):
    monkeypatch.setenv("JTC_OPTIMIZE", "fast")
    code, _, err = call("compile", mm, "--emit", "graph", "-o", "-")
    assert code == 2 and "JTC_OPTIMIZE='fast'" in err and one_line(err)
    monkeypatch.setenv("JTC_LOG", "loud")
    code, _, err = call("cache")
    assert code == 2 and "JTC_LOG" in err and one_line(err)


def test_interrupts_bugs_and_the_machines_failures(call, monkeypatch):
    import jtc.tools.doctor as doctor

    def raises(error):
        def run(arguments):
            raise error
        monkeypatch.setattr(doctor, "run", run)
        monkeypatch.setattr("sys.argv", ["jtc", "doctor", "a b"])
        return call("doctor")
    assert raises(KeyboardInterrupt()) == (130, "", "interrupted\n")
    assert raises(MemoryError("cannot allocate 9 bytes")) == (1, "", "error: out of memory: cannot allocate 9 bytes\n")
    assert raises(OSError(28, "No space left on device")) == \
        (1, "", "error: standard output: No space left on device\n")
    code, _, err = raises(IndexError("list index out of range"))
    assert code == 70 and "IndexError" in err and err.endswith("a bug of jtc; replay it with: jtc doctor 'a b'\n")
