"""Objects, workers and linking, on kernels written in MLIR."""
from __future__ import annotations

import ctypes
import os
import signal
import stat
import subprocess

import numpy as np
import pytest
from kernels import scale

from jtc.compiler import elf, link, workers
from jtc.compiler.driver import settings_for
from jtc.dialects.errors import InputError, InternalError
from jtc.runtime import knobs, processor
from jtc.runtime.elf import SharedObject


def run(library: ctypes.CDLL, symbol: str) -> np.ndarray:
    x, y = np.arange(16, dtype=np.float32), np.full(16, np.nan, np.float32)
    operands = (ctypes.c_void_p * 2)(x.ctypes.data, y.ctypes.data)
    library[symbol](operands, None, ctypes.c_int64(0), ctypes.c_int64(16))
    return y


def test_code_plan_and_weights(tmp_path):
    code = scale(3)
    output = tmp_path / "m.so"
    weights = [(0, np.arange(5, dtype=np.float32)), (64, np.arange(6.0).reshape(2, 3))]
    link.link(output, {code.symbol: workers.compile_object(code, settings_for())}, '{"plan": 1}', weights, 128)
    file = SharedObject(output)
    assert file.read("jtc_plan", file.number("jtc_plan_size")) == b'{"plan": 1}'
    assert file.number("jtc_weights_size") == 128
    library = ctypes.CDLL(str(output))
    np.testing.assert_array_equal(run(library, "scale3"), 3 * np.arange(16, dtype=np.float32))
    address = ctypes.addressof(ctypes.c_char.in_dll(library, "jtc_weights"))
    assert address % 64 == 0
    np.testing.assert_array_equal((ctypes.c_double * 6).from_address(address + 64)[:], np.arange(6.0))


def test_deterministic_and_without_an_executable_stack(tmp_path):
    data = workers.compile_object(scale(2), settings_for())
    files = [tmp_path / "a.so", tmp_path / "b.so"]
    for file in files:
        link.link(file, {"scale2": data}, "{}", [(0, np.ones(3))], 64)
    assert files[0].read_bytes() == files[1].read_bytes()
    content = files[0].read_bytes()
    count, size, start = (int.from_bytes(content[a:b], "little") for a, b in ((56, 58), (54, 56), (32, 40)))
    segments = [content[start + i * size:start + (i + 1) * size] for i in range(count)]
    stack = next(s for s in segments if s[:4] == (0x6474E551).to_bytes(4, "little"))        # PT_GNU_STACK
    assert not int.from_bytes(stack[4:8], "little") & 1                                    # PF_X
    assert b"scale2.body" not in content


def test_no_weights_and_empty_weights(tmp_path):
    link.link(tmp_path / "a.so", {}, "{}")
    assert "jtc_weights" not in SharedObject(tmp_path / "a.so").symbols
    link.link(tmp_path / "b.so", {}, "{}", [], 0)
    assert SharedObject(tmp_path / "b.so").number("jtc_weights_size") == 0


def test_large_weights_do_not_disturb_the_code(tmp_path):
    weights = np.arange(5_000_000, dtype=np.int32)
    data = workers.compile_object(scale(2), settings_for())
    link.link(tmp_path / "m.so", {"scale2": data}, "{}", [(0, weights)], weights.nbytes)
    library = ctypes.CDLL(str(tmp_path / "m.so"))
    assert run(library, "scale2")[5] == 10
    address = ctypes.addressof(ctypes.c_char.in_dll(library, "jtc_weights"))
    assert (ctypes.c_int32 * 1).from_address(address + 4 * 4_999_999)[0] == 4_999_999


@pytest.mark.parametrize("linker", ["ld.bfd", "ld.gold", "ld.lld", "mold"])
def test_weights_end_what_every_linker_makes(tmp_path, monkeypatch, linker):
    """They go past the linker; tools that rewrite the module keep them."""
    if link.shutil.which(linker) is None:
        pytest.skip(f"no {linker} here")
    monkeypatch.setattr(link, "LINKERS", (linker,))
    data = workers.compile_object(scale(2), settings_for())
    output, weights = tmp_path / "m.so", np.arange(1001, dtype=np.int32)
    link.link(output, {"scale2": data}, "{}", [(0, weights), (8000, weights)], 12004)
    assert SharedObject(output).symbols["jtc_weights"][1] == 12004
    if link.shutil.which("strip"):
        subprocess.run(["strip", "-o", output.with_name("stripped.so"), output], check=True)
        output = output.with_name("stripped.so")
    file, library = SharedObject(output), ctypes.CDLL(str(output))
    held = file.read("jtc_weights", 12004)
    assert held[:4004] == held[8000:] == weights.tobytes() and not any(held[4004:8000])
    address = ctypes.addressof(ctypes.c_char.in_dll(library, "jtc_weights"))
    assert ctypes.string_at(address, 12004) == held and run(library, "scale2")[5] == 10


def test_what_lies_behind_weights_is_not_overwritten(tmp_path):
    output = tmp_path / "m.so"
    items = [elf.Data(name, bytes(64), last=True) for name in ("weights", "more")]
    elf.write_object(tmp_path / "m.o", items, processor.family())
    subprocess.run([link.find_linker(processor.family()), "-shared", "-o", output, tmp_path / "m.o"], check=True)
    before = output.read_bytes()
    with pytest.raises(InternalError, match="something behind weights"):
        elf.fill(output, "weights", 100, [(0, bytes(100))])
    with pytest.raises(InternalError, match="dropped absent"):
        elf.fill(output, "absent", 100, [(0, bytes(100))])
    assert output.read_bytes() == before


def test_no_linker(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no linker found") as caught:
        link.link(tmp_path / "m.so", {}, "{}")
    assert "binutils" in caught.value.hint


def test_a_compiler_serves_as_linker(tmp_path, monkeypatch):
    """With only `cc` on the path, its linker is used."""
    found = link.shutil.which("cc")
    if found is None:
        pytest.skip("no cc here")
    monkeypatch.setattr(link, "LINKERS", ())
    data = workers.compile_object(scale(2), settings_for())
    link.link(tmp_path / "m.so", {"scale2": data}, "{}", [(0, np.ones(2))], 64)
    assert run(ctypes.CDLL(str(tmp_path / "m.so")), "scale2")[2] == 4


def test_undefined_symbols_are_a_bug(tmp_path):
    data = workers.compile_object(scale(2), settings_for())
    broken = data.replace(b"\0scale2\0", b"\0scale3\0")
    with pytest.raises(InternalError, match="refuses the objects"):
        link.link(tmp_path / "m.so", {"a": data, "b": data}, "{}")          # defined twice
    assert broken != data


def test_workers_make_the_same_objects(tmp_path):
    settings = settings_for()
    codes = [scale(n) for n in range(1, 6)]
    seen = []
    with workers.Objects(settings, 2) as objects:
        for code in codes:
            objects.submit(code)
        made = objects.results(lambda symbol, data: seen.append(symbol))
    assert sorted(seen) == sorted(made) == [c.symbol for c in codes]
    assert made == {c.symbol: workers.compile_object(c, settings) for c in codes}


def test_workers_call_functions():
    assert list(workers.each(2, divmod, [(n, 3) for n in range(9)])) == [divmod(n, 3) for n in range(9)]
    with pytest.raises(ZeroDivisionError):
        list(workers.each(2, divmod, [(1, 1), (1, 0), (1, 2)]))
    workers.stop()


def test_what_a_worker_does_not_survive_is_done_here():
    processes = list(workers.each(2, _not_elsewhere, [(os.getpid(),)] * 3))
    assert processes == [os.getpid()] * 3
    workers.stop()


def _not_elsewhere(process: int) -> int:
    if os.getpid() != process:
        os.kill(os.getpid(), signal.SIGKILL)
    return process


def test_a_workers_error_and_crash_have_reproducers(tmp_path):
    settings = settings_for()
    with knobs.use(reproducer_dir=tmp_path):
        wrong = [scale(1), scale(2), scale(9).__class__("scale9", 2, "func.func @scale9(")]
        with pytest.raises(InternalError, match="does not parse") as caught, workers.Objects(settings, 2) as objects:
            for code in wrong:
                objects.submit(code)
            objects.results()
        assert os.path.dirname(caught.value.reproducer) == str(tmp_path)

        with workers.Objects(settings, 2) as objects:                       # a pool of our own, all of it idle
            for n in range(1, 5):
                objects.submit(scale(n))
            objects.results()
        for worker in workers._pool.all:
            worker.process.send_signal(signal.SIGSTOP)
        with pytest.raises(InternalError, match="ended with code -9") as caught, workers.Objects(settings,
                                                                                                 2) as objects:
            for n in range(1, 5):
                objects.submit(scale(n))
            for worker in list(workers._pool.all):
                worker.process.kill()
            objects.results()
        assert "scale" in open(caught.value.reproducer).read()
    for _ in range(2):                                                      # and the next compilation works,
        with workers.Objects(settings, 2) as objects:
            for n in range(1, 5):
                objects.submit(scale(n))
            assert len(objects.results()) == 4
        for worker in workers._pool.all:                                    # also when idle workers were killed
            worker.process.kill()
            worker.process.wait()
    workers.stop()


def test_output_modes(tmp_path):
    data = workers.compile_object(scale(2), settings_for())
    link.link_relocatable(tmp_path / "m.o", [data, workers.compile_object(scale(3), settings_for())])
    assert (tmp_path / "m.o").read_bytes()[16] == 1                         # ET_REL
    assert stat.S_ISREG((tmp_path / "m.o").stat().st_mode)
