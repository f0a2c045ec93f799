"""Emitted code against the reference interpreter: every schedule feature, odd sizes, all targets that this machine runs."""
from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from jtc.compiler.cpu import lower, machine
from jtc.compiler.cpu.emit import emit
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL, DTYPES, F32, F64, I32, I64
from jtc.dialects.errors import InternalError
from jtc.dialects.expr import acc, cast, const, expr, index, read
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Access, Axis, Guard, Kernel, Local, Pack, Schedule, Stage
from jtc.dialects.optable import REDUCTIONS
from jtc.dialects.reference import run_kernel
from jtc.tools.fuzz import Fenced, compile_kernel

COMPILED = (F32, F64, I32, I64, BOOL)
TARGETS = [t for t in ("x86-64-v4", "x86-64-v3", "x86-64")
           if machine.named(t).vector_bits <= machine.host().vector_bits]
rng = np.random.default_rng(7)


def forms(text: str) -> tuple[Affine, ...]:
    """ "i, 2*j + k" as index forms."""
    return tuple(Affine.parse(t.strip()) for t in text.split(",")) if text else ()


def access(buffer, dtype, shape, index_text, guards=(), fill=0, gather=()):
    return Access(buffer, dtype, shape, forms(index_text), tuple(Guard(Affine.parse(g), n) for g, n in guards), fill, gather)


def axes(text: str) -> tuple[Axis, ...]:
    """ "i:4 k:7r" as axes."""
    found = []
    for item in text.split():
        name, size = item.split(":")
        found.append(Axis(name, int(size.rstrip("r")), "reduction" if size.endswith("r") else "parallel"))
    return tuple(found)


def fn(name, *args, dtype=None):
    return expr(name, args, dtype or args[-1].dtype)


def data(type: TensorType) -> np.ndarray:
    if type.dtype is BOOL:
        return rng.integers(0, 2, type.shape).astype(bool)
    return rng.integers(-3, 4, type.shape).astype(type.dtype.numpy)


def types_of(kernel: Kernel) -> dict[str, TensorType]:
    local = {b.name for b in kernel.locals}
    return {a.buffer: TensorType(a.dtype, a.shape) for s in kernel.stages for a in (*s.reads, s.write, s.keep)
            if a is not None and a.buffer not in local}


def check(kernel: Kernel, inputs=None, target="native", tolerance=0.0, ranges=None):
    """Run the kernel and the reference on the same inputs; compare everything it writes.  Returns (emitted, outputs)."""
    if not isinstance(kernel, Kernel):
        kernel = Kernel("k", (kernel,))
    types, cpu = types_of(kernel), machine.named(target)
    emitted = emit(kernel, types, cpu)
    inputs = dict(inputs or {})
    for name in kernel.operands:
        if name not in inputs and name not in kernel.written:
            inputs[name] = data(types[name])
    fenced, exact = {}, {}
    for name in emitted.operands:
        type = types[name]
        start = inputs.get(name)
        if start is None:
            start = np.full(type.shape, np.nan if type.dtype.is_float else 0, type.dtype.numpy)
        fenced[name] = Fenced(type.size, type.dtype, at_end=True)
        fenced[name].array[:] = start.reshape(-1)
        exact[name] = start.astype(np.float64) if type.dtype.is_float else start.copy()
    run_kernel(kernel, exact, precise=True)
    call = compile_kernel(emitted, cpu, 1)
    for begin, end in ranges or [(0, emitted.units)]:
        workspace = Fenced(emitted.workspace_bytes, DTYPES["ui8"], True, 64)
        workspace.array[:] = 0xFF
        call([fenced[n].address for n in emitted.operands], workspace.address, begin, end)
        assert workspace.intact()
    outputs = {}
    for name in kernel.written:
        got, want = fenced[name].array, exact[name].reshape(-1)
        assert fenced[name].intact(), name
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=name)
        outputs[name] = got.reshape(types[name].shape)
    return emitted, outputs


# ------------------------------------------------------------------------------------------------ elementwise
def elementwise(n, dtype, schedule):
    return Stage("s", axes(f"i:{n}"), (access("x", dtype, (n,), "i"), access("y", dtype, (n,), "i")),
                 fn("max", read(0, dtype), read(1, dtype)), access("z", dtype, (n,), "i"), schedule=schedule)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", COMPILED, ids=str)
def test_elementwise_tails(dtype, target):
    lanes = machine.named(target).lanes(dtype)
    for n in (1, 2, lanes - 1, lanes, lanes + 1, 5 * lanes + 3):
        check(elementwise(n, dtype, Schedule("i", lanes, (("i", 2 * lanes),), threads=1)), target=target)


@pytest.mark.parametrize("schedule", [Schedule("", 1), Schedule("i", 16, (("i", 48),)), Schedule("i", 1, (("i", 1),))])
def test_elementwise_of_nothing_and_of_one(schedule):
    emitted, _ = check(elementwise(0, F32, schedule))
    assert emitted.units in (0, 1)
    check(elementwise(1, F32, schedule))


def test_scalar_of_rank_zero():
    stage = Stage("s", (), (access("x", F32, (), ""),), fn("add", read(0, F32), const(1.5, F32)), access("y", F32, (), ""),
                  schedule=Schedule("", 1))
    check(stage)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_mixed_dtypes_share_lanes(lanes):
    n = 45
    reads = tuple(access(f"x{d}", d, (n,), "i") for d in COMPILED)
    values = [read(i, d) for i, d in enumerate(COMPILED)]
    total = fn("add", fn("where", values[4], cast(values[0], F64), values[1]), cast(values[2], F64))
    body = fn("mul", cast(total, I64), values[3])
    check(Stage("s", axes(f"i:{n}"), reads, body, access("y", I64, (n,), "i"), schedule=Schedule("i", lanes, (("i", lanes),))))


def test_index_inbounds_and_random_bits():
    n, m = 5, 37
    where = expr("inbounds", (), BOOL, (Guard(Affine.parse("i - j + 2"), 4),))
    bits = expr("philox", (index(Affine.parse("37*i + j"), I64), read(0, I64)), I32)
    body = fn("where", where, bits, index(Affine.parse("-2*j + i"), I32))
    stage = Stage("s", axes(f"i:{n} j:{m}"), (access("key", I64, (), ""),), body, access("y", I32, (n, m), "i, j"),
                  schedule=Schedule("j", 16, (("j", 32),)))
    check(stage, {"key": np.array(12345678901, np.int64)})


def test_a_long_chain_of_expressions():
    value = read(0, F32)
    for i in range(600):
        value = fn("sub", const(i % 3, F32), value)
    check(Stage("s", axes("i:20"), (access("x", F32, (20,), "i"),), value, access("y", F32, (20,), "i"),
                schedule=Schedule("i", 16, (("i", 16),))))


def test_equal_expressions_are_computed_once():
    e = fn("exp", read(0, F32))
    stage = Stage("s", axes("i:64 j:64"), (access("x", F32, (64,), "i"), access("z", F32, (64, 64), "i, j")),
                  fn("add", fn("mul", e, e), fn("mul", e, read(1, F32))), access("y", F32, (64, 64), "i, j"),
                  schedule=Schedule("j", 16, (("j", 64),)))
    emitted, _ = check(stage, {"x": rng.random(64, np.float32)}, tolerance=1e-5)
    once, = (emit(Kernel("k", (replace(stage, body=body),)), types_of(Kernel("k", (stage,))), machine.host()).text
             for body in (fn("mul", e, read(1, F32)),))
    # exp(x[i]) does not move along the lanes: one scalar expansion serves four vectors and all uses
    for pattern in (r"arith\.shli .* : i32", r"arith\.shli .* : vector"):
        assert len(re.findall(pattern, emitted.text)) == len(re.findall(pattern, once))
    assert not re.search(r"arith\.shli .* : vector", emitted.text)


@pytest.mark.parametrize("dtype", COMPILED, ids=str)
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_transposed_store(dtype, lanes):
    for n, m in ((16, 16), (33, 21), (lanes, 2), (7, 40)):
        stage = Stage("s", axes(f"i:{n} j:{m}"), (access("x", dtype, (n, m), "i, j"),), read(0, dtype),
                      access("y", dtype, (m, n), "j, i"), schedule=Schedule("j", lanes, (("j", lanes), ("i", lanes)), threads=2))
        emitted, _ = check(stage)
        if n == m == 16:
            assert "vector.extract" not in emitted.text, "stored element by element"


@pytest.mark.parametrize("text,shape", [("2*i", (99,)), ("-i + 49", (50,)), ("3*i + 1", (149,)), ("0", (1,))])
def test_strided_reversed_and_repeated_reads(text, shape):
    stage = Stage("s", axes("i:50"), (access("x", F32, shape, text),), fn("neg", read(0, F32)), access("y", F32, (50,), "i"),
                  schedule=Schedule("i", 16, (("i", 32),)))
    check(stage)


@pytest.mark.parametrize("text,shape", [("2*i", (99,)), ("-i + 49", (50,)), ("3*i + 1", (149,))])
def test_strided_writes_leave_the_rest(text, shape):
    stage = Stage("s", axes("i:50"), (access("x", F32, (50,), "i"),), read(0, F32), access("y", F32, shape, text),
                  schedule=Schedule("i", 16, (("i", 32),)))
    check(stage, {"y": np.full(shape, 7, np.float32)})


def test_streamed_stores_at_any_alignment():
    for n in (64, 61):
        stage = elementwise(n * 3, F32, Schedule("i", 16, (("i", 64),), stream=True))
        emitted, _ = check(stage)
        assert "nontemporal" in emitted.text and "sfence" in emitted.text


# ------------------------------------------------------------------------------------------------ guards
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("split", [(), ("i",), ("i", "j")])
def test_padded_window(split, target):
    lanes = machine.named(target).lanes(F32)
    for step in (1, 2):
        n, m = (9 + step - 1) // step, (37 + step - 1) // step
        x = access("x", F32, (9, 37), f"{step}*i + p - 1, {step}*j + q - 1", ((f"{step}*i + p - 1", 9), (f"{step}*j + q - 1", 37)), 2)
        stage = Stage("s", axes(f"i:{n} j:{m} p:3r q:3r"), (x,), read(0, F32), access("y", F32, (n, m), "i, j"), "add",
                      schedule=Schedule("j", lanes, (("i", 1), ("j", lanes)), ("p", "q"), (("q", 3),), split=split))
        check(stage, target=target)


def test_split_leaves_no_mask_in_the_interior():
    x = access("x", F32, (640,), "j - 1", (("j - 1", 640),))
    stage = Stage("s", axes("j:640"), (x,), read(0, F32), access("y", F32, (640,), "j"),
                  schedule=Schedule("j", 16, (("j", 64),), split=("j",)))
    emitted, _ = check(stage)
    loop = emitted.text[emitted.text.index("scf.for"):]
    assert "mask" not in loop


def test_guards_with_negative_steps_and_on_other_axes():
    n, m = 11, 35
    x = access("x", F32, (n, m), "-i + 10, j", (("-i + j - 2", 20), ("-j + 30", 40)), -1)
    for schedule in (Schedule("j", 16, (("i", 2), ("j", 16)), split=("j", "i")), Schedule("i", 16, (("i", 16), ("j", 3))),
                     Schedule("", 1)):
        check(Stage("s", axes(f"i:{n} j:{m}"), (x,), read(0, F32), access("y", F32, (n, m), "i, j"), schedule=schedule))


def test_guarded_writes_are_dropped():
    y = access("y", F32, (10, 20), "i - 1, j - 3", (("i - 1", 10), ("j - 3", 20)))
    for schedule in (Schedule("j", 16, (("i", 3), ("j", 16))), Schedule("", 1), Schedule("j", 8, (("j", 24),), split=("j",))):
        check(Stage("s", axes("i:13 j:26"), (access("x", F32, (13, 26), "i, j"),), read(0, F32), y, schedule=schedule))


# ------------------------------------------------------------------------------------------------ reductions
@pytest.mark.parametrize("dtype", COMPILED, ids=str)
@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_every_reduction(name, dtype):
    if dtype.kind not in REDUCTIONS[name].kinds:
        pytest.skip(f"no {name} of {dtype}")
    n, m = 5, 53
    along_row = Schedule("k", 16, (), ("k",), (("k", 2),))
    down_columns = Schedule("i", 4, (("k", 20), ("i", 4)), ("k",), (("k", 3),))
    for schedule in (along_row, down_columns, Schedule("", 1, reduction=("k",)), Schedule("k", 8, (("i", 2),), ("k",))):
        stage = Stage("s", axes(f"i:{n} k:{m}r"), (access("x", dtype, (n, m), "i, k"),), read(0, dtype),
                      access("y", dtype, (n,), "i"), name, schedule=schedule)
        values = data(TensorType(dtype, (n, m)))
        if name == "mul" and dtype is not BOOL:
            values = np.where(values == 0, 1, np.sign(values)).astype(dtype.numpy)
        check(stage, {"x": values}, target="x86-64" if schedule.lanes == 8 else "native")


@pytest.mark.parametrize("name", ["max", "min", "add"])
def test_nan_comes_through_a_reduction(name):
    for lanes, size in ((16, 70), (1, 9)):
        for at in (0, 3, size - 1):
            x = np.arange(size, dtype=np.float32)
            x[at] = np.nan
            stage = Stage("s", axes(f"k:{size}r"), (access("x", F32, (size,), "k"),), read(0, F32), access("y", F32, (), ""), name,
                          schedule=Schedule("k" if lanes > 1 else "", lanes, (), ("k",), (("k", 4),)))
            assert np.isnan(check(stage, {"x": x})[1]["y"])


@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_empty_reductions_give_the_identity(name):
    for dtype in COMPILED:
        if dtype.kind in REDUCTIONS[name].kinds:
            for schedule in (Schedule("k", 16, (), ("k",)), Schedule("i", 4, (("k", 8), ("i", 4)), ("k",))):
                check(Stage("s", axes("i:5 k:0r"), (access("x", dtype, (5, 0), "i, k"),), read(0, dtype),
                            access("y", dtype, (5,), "i"), name, schedule=schedule))


def matmul(n, m, k, schedule, dtype=F32, epilogue=None, out=None):
    reads = (access("a", dtype, (n, k), "i, k"), access("b", dtype, (k, m), "k, j"), access("c", dtype, (m,), "j"))
    return Stage("s", axes(f"i:{n} j:{m} k:{k}r"), reads, fn("mul", read(0, dtype), read(1, dtype)),
                 access("y", out or dtype, (n, m), "i, j"), "add", epilogue, schedule=schedule)


MATMULS = {
    "plain": Schedule("j", 16, (("i", 4), ("j", 32)), ("k",), (("k", 4),), threads=2),
    "packed": Schedule("j", 16, (("j", 48), ("k", 8), ("i", 8)), ("k",), (("k", 4),),
                       (Pack(1, ("k", 8), ("j//", "k", "j%")), Pack(0, ("k", 8), ("i", "k"), 16))),
    "panels": Schedule("j", 16, (("j", 64), ("i", 12), ("j", 32), ("i", 3)), ("k",), (),
                       (Pack(1, ("j", 64), ("j//", "k", "j%")), Pack(0, ("i", 12), ("i//", "k", "i%")))),
    "blocked": Schedule("j", 16, (("k", 6), ("i", 5), ("j", 16)), ("k",), (("k", 2),)),
    "rows": Schedule("i", 8, (("j", 3), ("i", 8)), ("k",)),
    "dots": Schedule("k", 16, (("i", 2), ("j", 2)), ("k",)),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", list(MATMULS))
def test_contraction(name, target):
    for n, m, k in ((13, 50, 17), (8, 48, 6), (1, 1, 1), (3, 70, 40)):
        check(matmul(n, m, k, MATMULS[name]), target=target)


@pytest.mark.parametrize("dtype", [F64, I32, I64], ids=str)
@pytest.mark.parametrize("name", ["packed", "blocked"])
def test_contraction_dtypes(name, dtype):
    check(matmul(9, 40, 20, MATMULS[name], dtype))


@pytest.mark.parametrize("name", ["plain", "blocked", "dots"])
def test_epilogue_at_the_last_block(name):
    biased = fn("max", fn("add", acc(F32), read(2, F32)), const(0, F32))
    check(matmul(7, 35, 20, MATMULS[name], epilogue=biased))
    positive = fn("gt", acc(F32), const(0, F32), dtype=BOOL)       # partial sums do not fit the output
    emitted, _ = check(matmul(7, 35, 20, MATMULS[name], epilogue=positive, out=BOOL))
    assert (emitted.workspace_bytes >= 7 * 35 * 4) == (name == "blocked")


def test_units_may_run_in_any_ranges():
    stage = matmul(29, 70, 5, MATMULS["plain"])
    emitted, _ = check(stage)
    assert emitted.units == 8 * 3
    check(stage, ranges=[(17, 24), (0, 1), (1, 2), (2, 9), (9, 17)])


def test_keep_stores_every_value():
    for schedule in (Schedule("k", 16, (), ("k",), (("k", 2),)), Schedule("i", 4, (("i", 4),), ("k",)), Schedule("", 1, (), ("k",))):
        stage = Stage("s", axes("i:6 k:45r"), (access("x", F32, (6, 45), "i, k"),), fn("abs", read(0, F32)),
                      access("y", F32, (6,), "i"), "add", keep=access("z", F32, (6, 45), "i, k"), schedule=schedule)
        check(stage)


def test_panels_packed_ahead():
    """v//T and v%T: panels 32 wide of an operand with 50 columns; the register tile is half a panel."""
    reads = (access("a", F32, (5, 9), "i, k"), access("b", F32, (2, 9, 32), "j//32, k, j%32"))
    for steps in ((("j", 16),), (("j", 32),), (("j", 64), ("j", 32))):
        check(Stage("s", axes("i:5 j:50 k:9r"), reads, fn("mul", read(0, F32), read(1, F32)), access("y", F32, (5, 50), "i, j"),
                    "add", schedule=Schedule("j", 16, (*steps, ("i", 2)), ("k",))))


def test_packs_with_guards_are_cut_into_boxes():
    x = access("x", F32, (20, 30), "i + 1, k - 2", (("i + 1", 20), ("k - 2", 30)), 3)
    reads = (x, access("w", F32, (33, 40), "k, j"))
    for order in (("i", "k"), ("k", "i"), ("i//", "k", "i%")):
        schedule = Schedule("j", 16, (("i", 8), ("j", 16), ("i", 4)), ("k",), packs=(Pack(0, ("i", 8), order),))
        check(Stage("s", axes("i:21 j:40 k:33r"), reads, fn("mul", read(0, F32), read(1, F32)), access("y", F32, (21, 40), "i, j"),
                    "add", schedule=schedule))


# ------------------------------------------------------------------------------------------------ data-dependent indices
@pytest.mark.parametrize("kind", [I32, I64], ids=str)
def test_gather(kind):
    table, where = access("t", F32, (9, 40), "0, j", gather=((0, read(1, kind)),), fill=5), access("w", kind, (21,), "i")
    lanes = access("t", F32, (40, 9), "j, 0", gather=((1, read(1, kind)),), fill=5)
    indices = rng.integers(-3, 13, 21).astype(kind.numpy)
    for schedule in (Schedule("j", 16, (("j", 32),)), Schedule("i", 8, (("i", 8), ("j", 2))), Schedule("", 1)):
        for first in (table, lanes):
            check(Stage("s", axes("i:21 j:40"), (first, where), read(0, F32), access("y", F32, (21, 40), "i, j"),
                        schedule=schedule), {"w": indices})


@pytest.mark.parametrize("name", ["add", "max", None])
def test_scatter_runs_in_order(name):
    """Overlapping writes; out of range ones are dropped; the buffer keeps what it held."""
    y = access("y", F32, (7, 40), "0, j", gather=((0, read(1, I64)),))
    reads = (access("x", F32, (21, 40), "i, j"), access("w", I64, (21,), "i"))
    inputs = {"w": rng.integers(-1, 8, 21), "y": data(TensorType(F32, (7, 40)))}
    for schedule in (Schedule("j", 16, (("i", 1), ("j", 16))), Schedule("", 1)):
        check(Stage("s", axes("i:21 j:40"), reads, read(0, F32), y, name, accumulate=True, schedule=schedule), inputs)


def test_overlapping_windows_add_up():
    y = access("y", F32, (20,), "2*i + p - 1", (("2*i + p - 1", 20),))
    stage = Stage("s", axes("i:11 p:3r"), (access("x", F32, (11, 3), "i, p"),), read(0, F32), y, "add", accumulate=True,
                  schedule=Schedule("", 1, reduction=("p",)))
    check(stage, {"y": np.zeros(20, np.float32)})


# ------------------------------------------------------------------------------------------------ stages
def softmax(n, m, block, lanes, step):
    place, shape = ("i", (block,)) if block > 1 else ("", ())
    x, y = access("x", F32, (n, m), "i, j"), access("y", F32, (n, m), "i, j")
    top, total = access("top", F32, shape, place), access("total", F32, shape, place)
    row = Schedule("j", lanes, (), ("j",), (("j", 4),))
    stages = (
        Stage("top", axes(f"i:{n} j:{m}r"), (x,), read(0, F32), top, "max", schedule=row),
        Stage("total", axes(f"i:{n} j:{m}r"), (x, top), fn("exp", fn("sub", read(0, F32), read(1, F32))), total, "add", keep=y,
              epilogue=fn("div", const(1, F32), acc(F32)), schedule=row),
        Stage("map", axes(f"i:{n} j:{m}"), (y, total), fn("mul", read(0, F32), read(1, F32)), y,
              schedule=Schedule("j", lanes, (("j", step),))))
    locals_ = tuple(Local(b, TensorType(F32, shape)) for b in ("top", "total"))
    return Kernel("softmax", stages, ((Axis("i", n), block),), locals_)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("block", [1, 3])
def test_stages_share_rows(block, target):
    lanes = machine.named(target).lanes(F32)
    for n, m in ((5, 70), (4, 3), (7, 64)):
        emitted, outputs = check(softmax(n, m, block, lanes, 2 * lanes), target=target, tolerance=1e-6)
        assert emitted.units == -(-n // block)
        np.testing.assert_allclose(outputs["y"].sum(1), 1, rtol=1e-5)


def test_row_scalars_stay_in_registers():
    assert "%w" not in emit(softmax(5, 70, 1, 16, 64), types_of(softmax(5, 70, 1, 16, 64)), machine.host()).text.replace(
        "%workspace", "").split("scf.for", 1)[1]


@pytest.mark.parametrize("out", [F32, BOOL], ids=str)
@pytest.mark.parametrize("block", [1, 4, 10])
def test_last_stage_reduces_over_a_shared_axis(block, out):
    shape, place = ((block, 37), "i, j") if block > 1 else ((37,), "j")
    local = access("t", F32, shape, place)
    epilogue = fn("gt", acc(F32), const(0, F32), dtype=BOOL) if out is BOOL else fn("neg", acc(F32))
    lanes = Schedule("j", 16, (("j", 16),))
    stages = (Stage("map", axes("b:3 i:10 j:37"), (access("x", F32, (3, 10, 37), "b, i, j"),),
                    fn("mul", read(0, F32), read(0, F32)), local, schedule=lanes),
              Stage("sum", axes("b:3 i:10r j:37"), (local, access("x", F32, (3, 10, 37), "b, i, j")),
                    fn("sub", read(0, F32), read(1, F32)), access("y", out, (3, 37), "b, j"), "add", epilogue,
                    schedule=replace(lanes, reduction=("i",))))
    kernel = Kernel("k", stages, ((Axis("b", 3), 1), (Axis("i", 10), block)), (Local("t", TensorType(F32, shape)),))
    emitted, _ = check(kernel, ranges=[(2, 3), (0, 2)])
    assert emitted.units == 3


# ------------------------------------------------------------------------------------------------ the code itself
def assembly(stage, target="x86-64-v4"):
    kernel = Kernel("k", (stage,))
    cpu = machine.named(target)
    emitted = emit(kernel, types_of(kernel), cpu)
    return lower.to_assembly(lower.to_llvm(emitted.text, emitted.symbol, len(emitted.operands)), cpu)


def inner_loop(text):
    """The basic block with the most fused multiply-adds, the shortest of several."""
    blocks = re.split(r"^\.?\w+:.*$|^\s+j\w+\s.*$", text, flags=re.MULTILINE)
    return max(blocks, key=lambda b: (b.count("vfmadd"), -b.count("\n"))).strip().splitlines()


@pytest.mark.parametrize("target,lanes,rows,columns", [("x86-64-v4", 16, 8, 3), ("x86-64-v4", 16, 6, 4), ("x86-64-v3", 8, 6, 2)])
def test_the_inner_loop_of_a_contraction_is_loads_and_fused_multiply_adds(target, lanes, rows, columns):
    width = lanes * columns
    schedule = Schedule("j", lanes, (("j", width), ("k", 256), ("i", rows)), ("k",), (("k", 4),),
                        (Pack(1, ("k", 256), ("j//", "k", "j%")),))
    loop = inner_loop(assembly(matmul(512, 512, 512, schedule), target))
    assert sum("vfmadd" in line for line in loop) == 4 * rows * columns
    assert not any("rsp" in line for line in loop), "accumulators are spilled"
    assert len(loop) <= 4 * (rows * columns + rows + columns) + 6, "addresses are not folded into the loads"


def test_padding_costs_nothing_inside_a_convolution():
    x = access("x", F32, (64, 56, 56), "c, i + p - 1, j + q - 1", (("i + p - 1", 56), ("j + q - 1", 56)))
    w = access("w", F32, (64, 3, 3, 64), "c, p, q, o")
    stage = Stage("s", axes("i:56 j:56 o:64 c:64r p:3r q:3r"), (x, w), fn("mul", read(0, F32), read(1, F32)),
                  access("y", F32, (56, 56, 64), "i, j, o"), "add",
                  schedule=Schedule("o", 16, (("i", 1), ("j", 7), ("o", 48)), ("p", "q", "c"), (("c", 2),), split=("i", "j")))
    loop = inner_loop(assembly(stage))
    assert sum("vfmadd" in line for line in loop) == 2 * 7 * 3
    assert not any("cmp" in line and "k1" in line or "rsp" in line for line in loop)


def test_code_does_not_grow_with_the_problem():
    small, large = (emit(Kernel("k", (matmul(n, n, n, MATMULS["packed"]),)), types_of(Kernel("k", (matmul(n, n, n, MATMULS["packed"]),))),
                         machine.named("x86-64-v4")).text.count("\n") for n in (101, 4093))
    assert large <= small * 1.2


def test_missing_schedules_and_dtypes_are_bugs():
    with pytest.raises(InternalError, match="stage s has no schedule"):
        emit(Kernel("k", (elementwise(4, F32, None),)), {}, machine.host())
    half = Kernel("k", (elementwise(4, DTYPES["f16"], Schedule("", 1)),))
    with pytest.raises(InternalError, match="no code for float16"):
        emit(half, types_of(half), machine.host())
