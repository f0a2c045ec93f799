"""The memory pool and buffers: reuse, statistics, sharing with NumPy and DLPack."""
from __future__ import annotations

import ast
import gc
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from jtc.dialects.dtypes import DTYPES
from jtc.dialects.errors import InputError
from jtc.runtime import engine, knobs
from jtc.runtime.engine import Buffer


def blocks(*sizes: int) -> list[Buffer]:
    return [Buffer.empty("ui8", [n]) for n in sizes]


def test_freed_blocks_are_used_again():
    engine.trim()
    first = Buffer.empty("f32", [16 << 20])             # 64 MB
    place = first.ptr
    del first
    before = engine.memory_statistics()
    second = Buffer.empty("f32", [(16 << 20) - 1000])   # same size class
    after = engine.memory_statistics()
    assert second.ptr == place and after["hits"] == before["hits"] + 1 and after["misses"] == before["misses"]


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 129, 160, 255, 257, 1000, 4096, 5000, 1 << 20, 1048577])
def test_blocks_are_aligned_and_accounted_for(size):
    start = engine.memory_statistics()
    block = Buffer.empty("ui8", [size])
    now = engine.memory_statistics()
    used = now["live"] - start["live"]
    assert block.ptr % 64 == 0 and now["blocks"] == start["blocks"] + 1
    assert size <= used <= max(64, size + size // 4 + 64)
    del block
    end = engine.memory_statistics()
    assert end["live"] == start["live"] and end["blocks"] == start["blocks"]


def test_live_blocks_do_not_overlap():
    rng = np.random.default_rng(0)
    held: list[Buffer] = []
    for step in range(500):
        held.append(Buffer.empty("ui8", [int(rng.integers(0, 3000))]))
        if step % 3 == 0:
            held.pop(int(rng.integers(len(held))))
    spans = sorted((b.ptr, b.ptr + b.nbytes) for b in held if b.nbytes)
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:]))


def test_limit_and_trim():
    with knobs.use(pool_limit=1 << 20):
        held = blocks(512 << 10, 512 << 10, 512 << 10, 4 << 20)
        del held
        assert 0 < engine.memory_statistics()["cached"] <= 1 << 20
    engine.trim()
    assert engine.memory_statistics()["cached"] == 0


def test_peak():
    engine.reset_peak()
    base = engine.memory_statistics()["live"]
    del blocks(1 << 20, 1 << 20)[:]
    assert engine.memory_statistics()["peak"] >= base + (2 << 20)


def test_too_much_memory_is_a_memory_error():
    with pytest.raises(MemoryError, match="cannot allocate"):
        Buffer.empty("f64", [1 << 50])
    with pytest.raises(InputError, match="2\\^63"):
        Buffer.empty("f64", [1 << 40, 1 << 40])


def test_many_threads_allocate_and_free():
    gc.collect()        # what other tests have left
    before = engine.memory_statistics()
    errors = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        held: list[tuple[Buffer, int]] = []
        for step in range(300):
            value = (seed * 300 + step) % 251
            block = Buffer.empty("ui8", [int(rng.integers(1, 20000))])
            block.fill(value)
            held.append((block, value))
            if len(held) > 8:
                old, expected = held.pop(int(rng.integers(len(held))))
                if not (old.numpy() == expected).all():
                    errors.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert not errors and engine.memory_statistics()["live"] == before["live"]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_numpy_round_trip(dtype, shape):
    array = (np.arange(int(np.prod(shape))) % 2).reshape(shape).astype(dtype.numpy)
    buffer = Buffer.from_numpy(array)
    assert buffer.dtype == dtype.name and buffer.shape == shape and buffer.nbytes == array.nbytes
    back = buffer.numpy()
    assert back.dtype == array.dtype and back.shape == shape and (back == array).all()
    filled = Buffer.empty(dtype.name, shape)
    filled.fill(1)
    assert (filled.numpy() == array.dtype.type(1)).all()


def test_views_share_memory_and_keep_it_alive():
    buffer = Buffer.from_numpy(np.arange(1000, dtype=np.float32))
    view, other = buffer.numpy(), np.asarray(buffer)
    assert view.ctypes.data == other.ctypes.data == buffer.ptr and not view.flags.writeable
    with pytest.raises(ValueError):
        view[0] = 1
    del buffer, other
    again = [Buffer.from_numpy(np.zeros(1000, np.float32)) for _ in range(4)]
    assert view[999] == 999 and len(again) == 4


def test_copy_and_borrow():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    copied, borrowed = Buffer.from_numpy(array), Buffer.from_numpy(array, copy=False)
    array[0, 0] = 7
    assert copied.numpy()[0, 0] == 0 and borrowed.numpy()[0, 0] == 7
    assert borrowed.borrowed and borrowed.ptr == array.ctypes.data and not copied.borrowed
    assert not Buffer.from_numpy(array.T, copy=False).borrowed                 # not row-major
    assert (Buffer.from_numpy(array[:, ::2]).numpy() == array[:, ::2]).all()
    place = array.ctypes.data
    del array, copied
    gc.collect()
    assert borrowed.ptr == place and borrowed.numpy()[2, 3] == 11


def test_dlpack():
    buffer = Buffer.from_numpy(np.arange(6, dtype=np.int32).reshape(2, 3))
    shared = np.from_dlpack(buffer)
    assert shared.ctypes.data == buffer.ptr and (shared == buffer.numpy()).all()
    array = np.arange(5.0)
    assert engine.from_dlpack(array).ptr == array.ctypes.data
    capsule = buffer.__dlpack__()
    del capsule                                                                # not consumed: freed by the capsule
    assert buffer.__dlpack_device__() == (1, 0)


def test_bfloat16_goes_through_its_bits():
    array = np.array([1.5, -2, 3e38], dtype=ml_dtypes.bfloat16)
    assert (Buffer.from_numpy(array).numpy() == array).all()


@pytest.mark.parametrize("value", ["text", np.array(["a"]), np.array([1j]), np.arange(3).astype(">i4"), [1, 2]])
def test_what_is_not_an_array_is_refused(value):
    with pytest.raises(InputError):
        Buffer.from_numpy(value)


def test_the_stub_names_what_the_extension_has():
    tree = ast.parse(Path(engine.__file__).with_name("_native.pyi").read_text())
    for item in tree.body:
        if isinstance(item, (ast.ClassDef, ast.FunctionDef)):
            native = getattr(engine._native, item.name)
            for member in getattr(item, "body", []):
                if isinstance(member, ast.FunctionDef) and member.name != "__buffer__":
                    assert hasattr(native, member.name), (item.name, member.name)
            if isinstance(item, ast.ClassDef):
                declared = {m.name for m in item.body if isinstance(m, ast.FunctionDef)}
                assert {n for n in vars(native) if not n.startswith("_")} <= declared
    public = {n for n in vars(engine._native) if not n.startswith("_")}
    assert public == {item.name for item in tree.body if isinstance(item, (ast.ClassDef, ast.FunctionDef))}
