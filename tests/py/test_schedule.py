"""Schedules: what is legal, what each pass does and refuses, and that every class of stage gets a legal default."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jtc.dialects import expr
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import F32, F64, I64, DType
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import (
    PARALLEL,
    REDUCTION,
    Access,
    Axis,
    Guard,
    Kernel,
    Local,
    Pack,
    Program,
    Schedule,
    Stage,
)
from jtc.dialects.reference import run_program
from jtc.dialects.target import CpuTarget
from jtc.passes.base import Pass, PassError, parse_pass
from jtc.passes.kernel import legality
from jtc.passes.kernel.kernel_fuse import KernelFuse
from jtc.passes.kernel.kernel_merge_axes import KernelMergeAxes
from jtc.passes.kernel.kernel_pack import KernelPack
from jtc.passes.kernel.kernel_parallelize import KernelParallelize
from jtc.passes.kernel.kernel_reorder import KernelReorder
from jtc.passes.kernel.kernel_schedule import KernelSchedule, apply
from jtc.passes.kernel.kernel_split import KernelSplit
from jtc.passes.kernel.kernel_split_guards import KernelSplitGuards
from jtc.passes.kernel.kernel_stream import KernelStream
from jtc.passes.kernel.kernel_unroll import KernelUnroll
from jtc.passes.kernel.kernel_vectorize import KernelVectorize
from jtc.passes.kernel.rules import RULES, candidates, classify
from jtc.passes.kernel.schedule_pass import scalar_schedule

A = Affine.axis
AVX512, AVX2, SSE = CpuTarget(), CpuTarget("x86-64-v3", "", 256, 16, False), CpuTarget("x86-64", "", 128, 16, False)


# ------------------------------------------------------------------------------------------------ programs
def access(buffer: str, shape, *index, dtype: DType = F32, **more) -> Access:
    return Access(buffer, dtype, tuple(shape), tuple(map(Affine.of, index)), **more)


def axes(text: str) -> tuple[Axis, ...]:
    """"i:4 k:8r" -> a parallel axis i and a reduction axis k."""
    return tuple(Axis(n, int(s.rstrip("r")), REDUCTION if s.endswith("r") else PARALLEL)
                 for n, s in (word.split(":") for word in text.split()))


def read(number: int, dtype: DType = F32):
    return expr.read(number, dtype)


def fn(name: str, *args):
    return expr.expr(name, args, args[-1].dtype)


PRODUCT = fn("mul", read(0), read(1))


def program(*stages: Stage, constants=(), shared=(), locals=()) -> Program:
    """One kernel "k" of these stages; what it reads and does not write is an input."""
    kernel = Kernel("k", stages, shared, locals)
    local = {b.name for b in locals}
    buffers = {a.buffer: TensorType(a.dtype, a.shape) for s in stages
               for a in (*s.reads, s.write, *([s.keep] if s.keep else [])) if a.buffer not in local}
    inputs = [b for b in buffers if b not in kernel.written and b not in constants]
    return Program("f", inputs, kernel.written, buffers, [kernel], {c: None for c in constants})


def matmul(m=6, n=40, k=24, constants=()) -> Program:
    return program(Stage("s", axes(f"m:{m} n:{n} k:{k}r"),
                         (access("a", (m, k), A("m"), A("k")), access("b", (k, n), A("k"), A("n"))),
                         PRODUCT, access("c", (m, n), A("m"), A("n")), "add"), constants=constants)


def conv(channels=3, filters=5, size=7, window=3, stride=1, pad=1, batch=1, constants=()) -> Program:
    out = (size + 2 * pad - window) // stride + 1
    h, w = A("h") * stride + A("p") - pad, A("w") * stride + A("q") - pad
    guards = (Guard(h, size), Guard(w, size)) if pad else ()
    reads = (access("x", (batch, channels, size, size), A("n"), A("c"), h, w, guards=guards),
             access("f", (filters, channels, window, window), A("o"), A("c"), A("p"), A("q")))
    domain = axes(f"n:{batch} o:{filters} h:{out} w:{out} c:{channels}r p:{window}r q:{window}r")
    write = access("y", (batch, filters, out, out), A("n"), A("o"), A("h"), A("w"))
    return program(Stage("s", domain, reads, PRODUCT, write, "add"), constants=constants)


def depthwise(channels=3, size=9, window=3) -> Program:
    h, w = A("h") + A("p") - 1, A("w") + A("q") - 1
    reads = (access("x", (channels, size, size), A("c"), h, w, guards=(Guard(h, size), Guard(w, size))),
             access("f", (channels, window, window), A("c"), A("p"), A("q")))
    return program(Stage("s", axes(f"c:{channels} h:{size} w:{size} p:{window}r q:{window}r"), reads, PRODUCT,
                         access("y", (channels, size, size), A("c"), A("h"), A("w")), "add"))


def elementwise(*shape: int, dtype: DType = F32) -> Program:
    names = [f"d{i}" for i in range(len(shape))]
    index = [A(n) for n in names]
    body = fn("add", fn("mul", read(0, dtype), read(1, dtype)), expr.const(1, dtype))
    return program(Stage("s", tuple(map(Axis, names, shape)),
                         (access("x", shape, *index, dtype=dtype), access("y", shape[-1:], *index[-1:], dtype=dtype)),
                         body, access("z", shape, *index, dtype=dtype)))


def transpose(m: int, n: int) -> Program:
    return program(Stage("s", axes(f"i:{n} j:{m}"), (access("x", (m, n), A("j"), A("i")),), read(0),
                         access("y", (n, m), A("i"), A("j"))))


def reduction(m: int, n: int, over: str, reduce: str = "add") -> Program:
    kept = [a for a in "ij" if a not in over]
    sizes = {"i": m, "j": n}
    return program(Stage("s", tuple(Axis(a, sizes[a], REDUCTION if a in over else PARALLEL) for a in "ij"),
                         (access("x", (m, n), A("i"), A("j")),), read(0),
                         access("y", [sizes[a] for a in kept], *map(A, kept)), reduce))


def scatter(n: int, width: int, reduce: str | None = "add") -> Program:
    row = (0, expr.read(1, I64))
    return program(Stage("s", axes(f"i:{n} j:{width}"),
                         (access("x", (n, width), A("i"), A("j")), access("at", (n,), A("i"), dtype=I64)), read(0),
                         access("y", (5, width), 0, A("j"), gather=(row,)), reduce, accumulate=True))


def scan(m: int, n: int, along: str) -> Program:
    place = (A("i"), A("j"))
    domain = tuple(Axis(a, s, REDUCTION if a == along else PARALLEL) for a, s in (("i", m), ("j", n)))
    return program(Stage("s", domain, (access("x", (m, n), *place),), fn("max", expr.acc(F32), read(0)),
                         access("y", (m, n), *place), "max", fn("add", expr.acc(F32), read(0)), scan=True))


def recurrence(m: int, n: int) -> Program:
    place = (A("i"), A("j"))
    return program(Stage("s", axes(f"i:{m} j:{n}r"), (access("a", (m, n), *place), access("b", (m, n), *place)),
                         fn("add", fn("mul", read(0), expr.acc(F32)), read(1)), access("y", (m, n), *place), "add",
                         scan=True))


def gather(n: int, width: int) -> Program:
    row = (0, expr.read(1, I64))
    return program(Stage("s", axes(f"i:{n} j:{width}"),
                         (access("x", (5, width), 0, A("j"), gather=(row,)), access("at", (n,), A("i"), dtype=I64)),
                         read(0), access("y", (n, width), A("i"), A("j"))))


def softmax(m: int, n: int, block: int = 1) -> Program:
    x, place = access("x", (m, n), A("i"), A("j")), [A("i")] if block > 1 else []
    top, total = (access(name, [block] * len(place), *place) for name in ("top", "total"))
    row = access("row", ([block] if place else []) + [n], *place, A("j"))
    stages = (Stage("max", axes(f"i:{m} j:{n}r"), (x,), read(0), top, "max"),
              Stage("sum", axes(f"i:{m} j:{n}r"), (x, top), fn("exp", fn("sub", read(0), read(1))), total, "add",
                    keep=row),
              Stage("div", axes(f"i:{m} j:{n}"), (row, total), fn("div", read(0), read(1)), replace(x, buffer="y")))
    scalar = TensorType(F32, tuple([block] * len(place)))
    return program(*stages, shared=((Axis("i", m), block),),
                   locals=(Local("top", scalar), Local("total", scalar), Local("row", TensorType(F32, row.shape))))


SIZES = [(1, 1), (1, 17), (3, 7), (17, 3), (33, 33), (7, 129), (64, 1)]
CASES = {
    **{f"matmul {m}x{n}": matmul(m, n, k) for (m, n), k in zip(SIZES, (1, 3, 7, 17, 33, 129, 5))},
    **{f"conv {c}->{f}@{s}/{t}": conv(c, f, s, w, t, p, b, constants) for c, f, s, w, t, p, b, constants in (
        (3, 5, 7, 3, 1, 1, 1, ()), (17, 33, 7, 3, 1, 1, 2, ("f",)), (64, 64, 14, 3, 1, 1, 1, ("f",)),
        (3, 64, 33, 7, 2, 3, 1, ("f",)), (40, 17, 9, 1, 1, 0, 1, ()), (1, 1, 3, 3, 1, 1, 1, ()))},
    **{f"elementwise {s}": elementwise(*s) for s in (*SIZES, (3, 5, 7), (1,), (1000,), (2, 3, 1, 5))},
    **{f"transpose {m}x{n}": transpose(m, n) for m, n in SIZES},
    **{f"{r} over {o} of {m}x{n}": reduction(m, n, o, r) for m, n in SIZES for o in ("i", "j", "ij")
       for r in ("add", "max")},
    **{f"depthwise {c}@{s}": depthwise(c, s) for c, s in ((1, 3), (3, 9), (17, 33))},
    **{f"softmax {m}x{n} by {b}": softmax(m, n, b) for m, n in SIZES for b in (1, 4) if m % b == 0},
    **{f"scatter {m}x{n}": scatter(m, n) for m, n in SIZES}, "ordered scatter": scatter(6, 33, None),
    **{f"scan along {a} of {m}x{n}": scan(m, n, a) for m, n in SIZES for a in "ij"},
    **{f"recurrence {m}x{n}": recurrence(m, n) for m, n in SIZES},
    **{f"gather {m}x{n}": gather(m, n) for m, n in SIZES},
    "f64": elementwise(5, 33, dtype=F64), "scalar": elementwise(1),
}


# ------------------------------------------------------------------------------------------------ defaults
def check_all(p: Program, target: CpuTarget) -> None:
    for kernel in p.kernels:
        for stage in kernel.stages:
            assert stage.schedule is not None
            legality.check(stage, kernel, p, target)


@pytest.mark.parametrize("target", [AVX512, AVX2, SSE], ids=lambda t: t.name)
@pytest.mark.parametrize("name", CASES)
def test_every_class_gets_a_legal_default(name, target):
    check_all(KernelSchedule(target).run(KernelMergeAxes().run(CASES[name])), target)


@pytest.mark.parametrize("name", [
    "matmul 33x33", "conv 17->33@7/1", "conv 40->17@9/1", "transpose 7x129", "depthwise 3@9", "softmax 17x3 by 1",
    "elementwise (3, 5, 7)", "add over i of 7x129", "gather 3x7", "scan along i of 7x129", "scan along j of 7x129",
    "recurrence 7x129",
    "scan along i of 1x17"])
def test_scheduling_keeps_the_meaning(name):
    """Copy kernels and merged axes compute the same values, in the reference interpreter."""
    before = CASES[name]
    after = KernelSchedule(AVX512).run(KernelMergeAxes().run(before))
    rng = np.random.default_rng(0)

    def data(buffer: str) -> np.ndarray:
        kind = before.buffers[buffer]
        if kind.dtype is I64:
            return rng.integers(0, 5, kind.shape)
        return rng.standard_normal(kind.shape).astype(np.float32)
    arrays = {b: data(b) for b in (*before.inputs, *before.constants)}
    inputs = [arrays[b] for b in before.inputs]
    results = (run_program(replace(p, constants={c: arrays[c] for c in p.constants}), inputs) for p in (before, after))
    for want, got in zip(*results):
        np.testing.assert_allclose(got, want.reshape(got.shape), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["matmul 33x33", "conv 64->64@14/1", "transpose 33x33", "add over i of 33x33"])
def test_candidates_come_cheapest_first_and_end_in_scalar_code(name):
    p = KernelMergeAxes().run(CASES[name])
    kernel = p.kernels[0]
    found = candidates(kernel.stages[0], kernel, p, AVX512)
    assert [c.cost for c in found] == sorted(c.cost for c in found)
    assert found[-1].schedule == scalar_schedule(kernel.stages[0])
    legal = 0
    for candidate in found:
        try:
            check_all(KernelSchedule(AVX512).run(apply(candidate, p, kernel, kernel.stages[0], AVX512)), AVX512)
            legal += 1
        except PassError:
            pass
    assert legal > 1


def test_classes():
    assert {n: classify(CASES[n].kernels[0].stages[0]) for n in (
        "matmul 33x33", "transpose 3x7", "add over j of 3x7", "depthwise 3@9", "scatter 3x7")} == {
        "matmul 33x33": "contraction", "transpose 3x7": "elementwise", "add over j of 3x7": "reduction",
        "depthwise 3@9": "reduction", "scatter 3x7": "scatter"}


def test_every_class_has_cases():
    """With sizes of 1 among them: what a rule cannot schedule it leaves to scalar code."""
    stages = [s for p in CASES.values() for k in p.kernels for s in k.stages]
    assert {classify(s) for s in stages} == set(RULES)
    single = [s for s in stages if all(a.size == 1 for a in s.axes)]
    assert {classify(s) for s in single} >= {"elementwise", "reduction"}


def default(p: Program, target: CpuTarget = AVX512) -> Stage:
    """The scheduled last stage of kernel "k"."""
    p = KernelSchedule(target).run(KernelMergeAxes().run(p))
    return next(k for k in p.kernels if k.name == "k").stages[-1]


def test_an_elementwise_kernel_becomes_one_dimensional():
    x = access("x", (4, 5, 6), A("i"), A("j"), A("k"))
    stage = default(program(Stage("s", axes("i:4 j:5 k:6"), (x,), read(0), replace(x, buffer="y"))))
    assert [a.size for a in stage.axes] == [120] and stage.schedule.vector == stage.axes[0].name


def test_a_pointwise_convolution_becomes_a_matrix_product():
    stage = default(conv(40, 17, 9, 1, 1, 0))
    assert sorted(a.size for a in stage.axes) == [17, 40, 81]


def test_a_row_reduction_takes_its_lanes_from_the_row():
    schedule = default(reduction(33, 129, "j")).schedule
    assert schedule.vector == "j" and dict(schedule.unroll)["j"] == 8


def test_a_column_reduction_takes_its_lanes_from_the_columns():
    assert default(reduction(33, 129, "i")).schedule.vector == "j"


def test_a_transpose_loads_along_one_axis_and_stores_along_the_other():
    schedule = default(transpose(64, 48)).schedule
    assert schedule.vector == "i" and schedule.loops[-2:] == (("j", 16), ("i", 16))


def test_large_results_bypass_the_caches():
    assert default(elementwise(1 << 23)).schedule.stream and not default(elementwise(1 << 16)).schedule.stream


def test_tiny_kernels_stay_on_one_thread():
    assert default(elementwise(64)).schedule.threads == 0 and default(elementwise(1 << 20)).schedule.threads == 1


def test_constant_weights_are_packed_by_a_kernel_that_reads_constants_only():
    p = KernelSchedule(AVX512).run(KernelMergeAxes().run(conv(64, 64, 14, constants=("f",))))
    packs = [k for k in p.kernels if k.read == ("f",)]
    assert len(packs) == 1 and not p.kernels[-1].stages[0].reads[0].guards
    assert "f" not in p.kernels[-1].read


def test_two_kernels_share_an_equal_copy():
    p = conv(16, 32, 9)
    other = replace(p.kernels[0], name="k2", stages=(replace(p.kernels[0].stages[0], write=replace(
        p.kernels[0].stages[0].write, buffer="y2")),))
    p = replace(p, kernels=[p.kernels[0], other], outputs=["y", "y2"], buffers={**p.buffers, "y2": p.buffers["y"]})
    scheduled = KernelSchedule(AVX512).run(KernelMergeAxes().run(p))
    assert [k.name for k in scheduled.kernels].count("pack_x") == 1
    assert scheduled.kernels[-1].read == scheduled.kernels[-2].read


def test_scalars_of_a_wider_type_take_no_lanes():
    p = matmul(64, 64, 64)
    k = p.kernels[0]
    rate = access("rate", (), dtype=F64)
    scaled = fn("mul", expr.acc(F32), expr.cast(read(2, F64), F32))
    stage = replace(k.stages[0], reads=(*k.stages[0].reads, rate), epilogue=scaled)
    p = program(stage)
    assert KernelSchedule(AVX512).run(p).kernels[-1].stages[0].schedule.lanes == 16


def test_columns_of_several_axes_are_packed_as_one_axis_is():
    """Heads and features of a column overlap nowhere: no window slides over them."""
    reads = (access("a", (4, 512, 64), A("h"), A("m"), A("d")),
             access("b", (256, 2048), A("h") * 64 + A("d"), A("n")))
    p = program(Stage("s", axes("m:512 n:2048 h:4r d:64r"), reads, PRODUCT,
                      access("c", (512, 2048), A("m"), A("n")), "add"))
    found = candidates(p.kernels[0].stages[0], p.kernels[0], p, AVX512)
    assert any(pack.read == 1 for c in found for pack in c.schedule.packs)


def test_stages_that_read_parts_of_one_tensor_share_its_turned_copy():
    def taps(name: str, start: int) -> Stage:
        w = access("w", (512, 256, 4), A("k"), A("n"), A("t") * 2 + start)
        x = access("x", (256, 512, 2), A("m"), A("k"), A("t"))
        return Stage(name, axes("m:256 n:256 k:512r t:2r"), (x, w), PRODUCT,
                     access("y" + name, (256, 256), A("m"), A("n")), "add")
    p = KernelSchedule(AVX512).run(program(taps("even", 0), taps("odd", 1)))
    assert len([k for k in p.kernels if k.read == ("w",)]) == 1
    check_all(p, AVX512)


def test_a_hand_written_schedule_stays():
    p = KernelSplit(axis="m", step=2).run(matmul())
    assert KernelSchedule(AVX512).run(p).kernels[0].stages[0].schedule == p.kernels[0].stages[0].schedule


# ------------------------------------------------------------------------------------------------ single passes
def edited(p: Program, *passes: Pass) -> Schedule:
    for step in passes:
        p = step.run(p)
    return p.kernels[0].stages[0].schedule


def test_split_adds_a_loop():
    split = KernelSplit(axis="n", step=16)
    assert edited(matmul(), split, KernelSplit(axis="n", step=8)).loops == (("n", 16), ("n", 8))
    assert edited(matmul(), KernelSplit(axis="n", step=8), KernelSplit(axis="m", step=2, at=0)).loops == (
        ("m", 2), ("n", 8))


def test_reorder_permutes_loops_and_reductions():
    steps = KernelSplit(axis="n", step=8), KernelSplit(axis="m", step=2), KernelSplit(axis="n", step=4)
    assert edited(matmul(), *steps, KernelReorder(order=("m", "n", "n"))).loops == (("m", 2), ("n", 8), ("n", 4))
    assert edited(conv(), KernelReorder(reduction=("p", "q", "c"))).reduction == ("p", "q", "c")


def test_vectorize():
    assert edited(matmul(), KernelVectorize(axis="n")) == Schedule("n", 16, (("n", 16),), ("k",))
    assert edited(reduction(3, 7, "ij"), KernelVectorize(axis="i", lanes=4)).reduction == ("j", "i")


def test_unroll_parallelize_split_guards_stream():
    schedule = edited(matmul(), KernelUnroll(axis="k", factor=2), KernelUnroll(axis="k", factor=4),
                      KernelParallelize(loops=2), KernelStream())
    assert (schedule.unroll, schedule.threads, schedule.stream) == ((("k", 4),), 2, True)
    assert edited(conv(), KernelSplitGuards(axes=("h", "w"))).split == ("h", "w")


def test_pack_inside_a_loop():
    pack = KernelPack(read=1, order=("n//", "k", "n%"), inside=("n", "16"))
    schedule = edited(matmul(), KernelVectorize(axis="n"), pack)
    assert schedule.packs == (Pack(1, ("n", 16), ("n//", "k", "n%")),)


def test_pack_ahead_reads_panels():
    p = KernelPack(read=1, order=("n//", "k", "n%")).run(KernelVectorize(axis="n").run(matmul()))
    copy, main = (k.stages[0] for k in p.kernels)
    assert main.reads[1].shape == (3, 24, 16) and p.buffers["b_packed"].shape == (3, 24, 16)
    assert [str(i) for i in main.reads[1].index] == ["n//16", "k", "n%16"]
    assert [str(g) for g in copy.reads[0].guards] == ["0 <= 16*n_tile + n_place < 40"]


def test_pack_ahead_pads_and_permutes():
    p = KernelPack(read=0, order=("0", "2", "3", "1")).run(conv())
    read_ = p.kernels[-1].stages[0].reads[0]
    assert read_.shape == (1, 9, 9, 3) and not read_.guards
    assert [str(i) for i in read_.index] == ["n", "h + p", "w + q", "c"]


def test_fuse_and_merge_axes():
    p = elementwise(4, 6)
    flat = replace(p.kernels[0].stages[0], reads=p.kernels[0].stages[0].reads[:1], body=read(0))
    p = replace(p, kernels=[Kernel("k", (flat,))])
    for step in (KernelFuse(outer="d0", inner="d1"), KernelMergeAxes()):
        assert step.run(p).kernels[0].stages[0].axes == (Axis("d1", 24),)
    assert len(KernelMergeAxes().run(elementwise(4, 6)).kernels[0].stages[0].axes) == 2     # y lacks d0


def test_a_reduction_over_one_point_becomes_elementwise():
    stage = KernelMergeAxes().run(reduction(5, 1, "j")).kernels[0].stages[0]
    assert stage.reduce is None and not stage.reductions


@pytest.mark.parametrize("step, p, words", [
    (KernelSplit(axis="z", step=4), matmul(), "no axis 'z'"),
    (KernelSplit(axis="m", step=0), matmul(), "step 0 of m is not positive"),
    (KernelReorder(order=("m",)), matmul(), "does not name the loops"),
    (KernelReorder(reduction=("c", "p")), conv(), "must name every reduction axis once"),
    (KernelVectorize(axis="n", lanes=12), matmul(), "12 lanes: not a power of two"),
    (KernelSplit(axis="i", step=2), scatter(3, 7, None), "must run in the order"),
    (KernelVectorize(axis="i"), scatter(3, 7), "two lanes may write the same element"),
    (KernelVectorize(axis="i"), softmax(8, 4), "shared by the stages"),
    (KernelUnroll(axis="m", factor=2), matmul(), "not a reduction axis"),
    (KernelVectorize(axis="j"), recurrence(3, 40), "j is scanned, and its steps are no terms to combine"),
    (KernelSplit(axis="j", step=4), scan(3, 40, "j"), "j, which is scanned inside the register tile"),
    (KernelParallelize(loops=9), matmul(), "threads over 9 loops"),
    (KernelParallelize(loops=1), scatter(3, 7), "two of them may write the same element"),
    (KernelSplitGuards(axes=("c",)), conv(), "no guard"),
    (KernelStream(), scatter(3, 7), "reads y again"),
    (KernelPack(read=1, order=("n", "k"), inside=("n", "16")), matmul(), "there is no loop n step 16"),
    (KernelPack(read=1, order=("n",)), matmul(), "must list exactly the axes k, n"),
    (KernelPack(read=1, order=("k//", "n", "k%")), matmul(), "panels along k, which is a reduction axis"),
    (KernelPack(read=0, order=("0", "1")), conv(), "not a permutation of the 4 dimensions"),
    (KernelPack(read=0, order=("m", "k"), inside=("m",)), matmul(), "is not a loop"),
    (KernelPack(read=0, order=("i", "j")), gather(3, 7), "cannot be copied ahead"),
    (KernelPack(read=0, order=("j",), stage="div"), softmax(8, 4), "written by kernel k itself"),
    (KernelFuse(outer="m", inner="k"), matmul(), "different kinds"),
    (KernelFuse(outer="m", inner="n"), matmul(), "do not merge"),
    (KernelFuse(outer="h", inner="w"), conv(), "matters in a guard"),
], ids=lambda v: type(v).__name__ if isinstance(v, Pass) else "" if isinstance(v, Program) else v)
def test_refused_and_nothing_changed(step, p, words):
    before = replace(p, kernels=list(p.kernels), buffers=dict(p.buffers))
    with pytest.raises(PassError, match=words):
        step.run(p)
    assert p == before


def test_options_from_text():
    assert parse_pass("kernel-pack{read=1 order=n//,k,n% inside=n,16}") == KernelPack(
        read=1, order=("n//", "k", "n%"), inside=("n", "16"))


# ------------------------------------------------------------------------------------------------ legality
def violations(p: Program, schedule: Schedule, target: CpuTarget = AVX512) -> str:
    kernel = p.kernels[0]
    return "; ".join(legality.violations(replace(kernel.stages[0], schedule=schedule), kernel, p, target))


@pytest.mark.parametrize("p, schedule, words", [
    (matmul(), Schedule("n", 16, (), ("k",)), "needs a loop"),
    (matmul(), Schedule("k", 16, (("k", 4),), ("k",)), "must be unblocked"),
    (matmul(), Schedule("", 4, (), ("k",)), "4 lanes without a vector axis"),
    (matmul(), Schedule("n", 16, (("n", 32), ("n", 24)), ("k",)), "does not divide the step 32"),
    (matmul(40), Schedule("n", 16, (("n", 48), ("m", 11)), ("k",)), "33 accumulators do not fit 32"),
    (conv(), Schedule("q", 4, (), ("q", "p", "c")), "must be the innermost reduction axis"),
    (matmul(), Schedule("", 1, (("k", 4),), ("k",), threads=3), "threads over the reduction axis k"),
    (matmul(), Schedule("", 1, (), ("k",), split=("k",)), "split of k, which has no loop"),
    (matmul(), Schedule("", 1, (("m", 2),), ("k",), packs=(Pack(0, ("m", 2), ("m", "k")),) * 2), "packed twice"),
    (conv(), Schedule("", 1, (("o", 2),), ("c", "p", "q"), packs=(Pack(1, ("o", 2), ("o", "c", "p")),)),
     "must list exactly its axes c, o, p, q"),
    (conv(), Schedule("w", 16, (("w", 16),), ("c", "p", "q"), unroll=(("c", 3), ("c", 3))), "unrolled twice"),
    (softmax(8, 4), Schedule("j", 16, (("i", 2),), ("j",)), "loop over the shared axis i"),
    (softmax(8, 4, 4), Schedule("j", 16, (("i", 8),), ("j",)), "exceeds its block of 4"),
    (elementwise(4000, 64), Schedule("d1", 16, (("d0", 4000), ("d1", 64))), "would take about"),
])
def test_illegal(p, schedule, words):
    assert words in violations(p, schedule)


def test_all_violations_are_named():
    found = violations(matmul(), Schedule("n", 3, (("m", 0),), ()))
    assert all(w in found for w in ("3 lanes", "step 0 of m", "needs a loop", "reduction order"))


def test_a_guard_on_an_axis_that_the_pack_does_not_hold():
    """A scatter's guard may lie on a factor without its axis; a panel copied without that axis would be wrong."""
    p = matmul()
    stage = p.kernels[0].stages[0]
    guarded = replace(stage.reads[1], guards=(Guard(A("m") + A("k") - 3, 24),))
    p = program(replace(stage, reads=(stage.reads[0], guarded)))
    schedule = Schedule("n", 16, (("n", 16),), ("k",), packs=(Pack(1, ("n", 16), ("n//", "k", "n%")),))
    assert "the guard 0 <= m + k - 3 < 24 lies on m" in violations(p, schedule)
    with pytest.raises(PassError, match="lies on axes that the copy does not hold"):
        KernelPack(read=1, order=("n//", "k", "n%")).run(KernelVectorize(axis="n").run(p))


def test_digits_need_a_tile_that_divides_them():
    p = KernelPack(read=1, order=("n//", "k", "n%")).run(KernelVectorize(axis="n").run(matmul()))
    p = replace(p, kernels=p.kernels[1:])
    assert not violations(p, Schedule("n", 16, (("n", 32), ("n", 16)), ("k",)))
    assert "the register tile 32 of n does not divide 16" in violations(p, Schedule("n", 16, (("n", 32),), ("k",)))
