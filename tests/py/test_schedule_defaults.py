"""Default schedules: every class of stage gets a legal one, which keeps the meaning; and what each rule decides."""
from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from schedule_cases import (
    AVX2,
    AVX512,
    CASES,
    PRODUCT,
    SSE,
    A,
    access,
    axes,
    conv,
    depthwise,
    elementwise,
    fn,
    matmul,
    panels,
    program,
    read,
    reduction,
    transpose,
    turned_sum,
)

from jtc.compiler import workers
from jtc.compiler.cpu import machine
from jtc.dialects import expr
from jtc.dialects.dtypes import BF16, F32, F64, I64
from jtc.dialects.kernel import Guard, Program, Stage
from jtc.dialects.reference import run_program
from jtc.dialects.target import CpuTarget
from jtc.passes.base import PassError
from jtc.passes.kernel import kernel_schedule, legality
from jtc.passes.kernel.kernel_merge_axes import KernelMergeAxes
from jtc.passes.kernel.kernel_schedule import KernelSchedule, apply
from jtc.passes.kernel.kernel_split import KernelSplit
from jtc.passes.kernel.rules import RULES, candidates, classify
from jtc.passes.kernel.rules.contraction_cost import PIECE
from jtc.passes.kernel.schedule_pass import scalar_schedule


def check_all(p: Program, target: CpuTarget) -> None:
    for kernel in p.kernels:
        for stage in kernel.stages:
            assert stage.schedule is not None
            legality.check(stage, kernel, p, target)


@pytest.mark.parametrize("target", [AVX512, AVX2, SSE], ids=lambda t: t.name)
@pytest.mark.parametrize("name", CASES)
def test_every_class_gets_a_legal_default(name, target):
    check_all(KernelSchedule(target).run(KernelMergeAxes().run(CASES[name])), target)


@pytest.mark.parametrize("name", CASES)
def test_quick_code_has_a_legal_schedule_of_the_same_kind(name):
    """In vectors wherever the default is, so the few candidates that are looked at suffice; and nothing is unrolled but
    vectors side by side."""
    merged = KernelMergeAxes().run(CASES[name])
    quick, default = (KernelSchedule(AVX512, quick=q).run(merged) for q in (True, False))
    check_all(quick, AVX512)
    for k in merged.kernels:
        stages = [[s for p in (quick, default) for kernel in p.kernels if kernel.name == k.name
                   for s in kernel.stages if s.name == stage.name] for stage in k.stages]
        for quickly, well in stages:
            assert quickly.schedule.lanes == well.schedule.lanes
            assert not quickly.schedule.split and all(a == quickly.schedule.vector for a, _ in quickly.schedule.unroll)


@pytest.mark.parametrize("name", [
    "matmul 33x33", "conv 17->33@7/1", "conv 40->17@9/1", "transpose 7x129", "depthwise 3@9", "softmax 17x3 by 1",
    "elementwise (3, 5, 7)", "add over i of 7x129", "gather 3x7", "scan along i of 7x129", "scan along j of 7x129",
    "recurrence 7x129", "panels of 33x144", "scan along i of 1x17", "turned sum 33x33"])
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


@pytest.mark.parametrize("few", [1, 3, 8])
@pytest.mark.parametrize("p", [matmul(33, 33, 33), matmul(512, 512, 512), conv(64, 64, 28, batch=8), conv(3, 64, 56),
                               matmul(16, 4096, 4096), matmul(512, 4096, 1024, constants=("b",))],
                         ids=["small matmul", "matmul", "convolution", "window", "far weights", "constant weights"])
def test_few_candidates_are_the_first_of_all(p, few):
    p = KernelMergeAxes().run(p)
    kernel = p.kernels[0]
    every, found = (candidates(kernel.stages[0], kernel, p, AVX512, few=n) for n in (0, few))
    assert found[:few] == every[:few]
    assert few <= len(found) < len(every)           # and others are not all looked at
    every, found = (candidates(kernel.stages[0], kernel, p, AVX512, packing=False, few=n) for n in (0, few))
    assert found[:few] == every[:few]


@pytest.mark.parametrize("name", ["matmul 33x33", "conv 64->64@14/1"])
def test_schedules_are_the_same_wherever_candidates_are_found(name, monkeypatch):
    """In this process, in workers, and here again where none of those that workers sent is legal."""
    merged = KernelMergeAxes().run(CASES[name])
    here = KernelSchedule(AVX512).run(merged)
    assert KernelSchedule(AVX512, each=partial(workers.each, 2)).run(merged) == here
    workers.stop()
    monkeypatch.setattr(kernel_schedule, "SHORTLIST", 0)
    assert KernelSchedule(AVX512).run(merged) == here


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


@pytest.mark.parametrize("constants", [(), ("b",)], ids=["", "weights"])
@pytest.mark.parametrize("target", [AVX2, SSE], ids=lambda t: t.name)
def test_a_product_shares_loads_in_sixteen_registers(target, constants):
    """Two vectors wide or more: with one, every multiply-add waits for a broadcast of its own."""
    schedule = default(matmul(1024, 1024, 1024, constants), target).schedule
    vectors, rows = dict(schedule.loops)["n"] // target.lanes(F32), dict(schedule.loops)["m"]
    assert vectors >= 2 and 8 <= vectors * rows <= 12 and schedule.lanes == target.lanes(F32)


def test_a_row_reduction_takes_its_lanes_from_the_row():
    """Several rows at once where there are some; else several accumulators."""
    for rows, at_once in ((33, 8), (3, 3), (1, 1)):
        schedule = default(reduction(rows, 1290, "j")).schedule
        assert schedule.vector == "j" and dict(schedule.loops).get("i", 1) == at_once
        assert dict(schedule.unroll)["j"] == 8 // at_once


def test_rows_are_read_in_whole_cache_lines():
    """Where vectors are half or a quarter of a line, as many fewer rows at once."""
    for target, vectors in ((AVX2, 2), (SSE, 4)):
        schedule = default(reduction(33, 1290, "j"), target).schedule
        assert dict(schedule.loops)["i"] == 8 // vectors and dict(schedule.unroll)["j"] == vectors


def test_a_column_reduction_takes_its_lanes_from_the_columns():
    assert default(reduction(33, 129, "i")).schedule.vector == "j"


def test_a_transpose_loads_along_one_axis_and_stores_along_the_other():
    schedule = default(transpose(64, 48)).schedule
    assert schedule.vector == "i" and schedule.loops[-2:] == (("j", 16), ("i", 16))


def test_a_read_that_lies_across_is_turned_in_blocks():
    schedule = default(turned_sum(512, 4608)).schedule
    assert schedule.vector == "j" and schedule.loops == (("i", 16), ("j", 256), ("i", 1), ("j", 64))
    assert [(p.read, p.inside, p.order) for p in schedule.packs] == [(1, ("j", 256), ("i", "j"))]


def test_large_results_are_written_along_their_rows():
    """Turned tiles touch a page for each of their rows, which costs more than turning the larger operand ahead."""
    reads = (access("a", (1024, 768), A("m"), A("k")), access("b", (3072, 768), A("n"), A("k")))
    stage = Stage("s", axes("m:1024 n:3072 k:768r"), reads, PRODUCT, access("c", (1024, 3072), A("m"), A("n")), "add")
    assert default(program(stage)).schedule.vector == "n"


def test_rows_of_large_results_are_finished_within_a_few_pages():
    """Of 25088 x 256 results, which leave the caches, a block has no more rows than the processor fetches ahead by
    itself: 8.1 ms where blocks as large as the second-level cache took 13.3."""
    loops = default(matmul(25088, 256, 64, constants=("b",))).schedule.loops
    (axis, rows), (vector, width), _ = loops
    assert (axis, vector) == ("m", "n") and width < 256 and rows * 256 * 4 <= 32 * 4096


def test_results_in_the_same_cache_lines_are_written_one_after_the_other():
    """The gradient of a convolution's weight: a line holds parts of two windows, and the whole does not fit a cache."""
    reads = (access("a", (8, 7, 7, 512), A("b"), A("y"), A("x"), A("m")),
             access("b", (8, 9, 9, 512), A("b"), A("y") + A("p"), A("x") + A("q"), A("n")))
    stage = Stage("s", axes("m:512 n:512 p:3 q:3 b:8r y:7r x:7r"), reads, PRODUCT,
                  access("c", (512, 512, 3, 3), A("m"), A("n"), A("p"), A("q")), "add")
    loops = [axis for axis, _ in default(program(stage)).schedule.loops]
    window = min(loops.index("p"), loops.index("q"))
    assert {"m", "n"} <= set(loops[:window])


def test_windows_of_a_stride_do_not_overflow_the_sets_of_a_cache():
    """The same with stride 2: pixels with 512 channels are 4 KiB apart, so that an image read in place fills few sets,
    and so do rows of results if all pass by before the next channel: 36 ms, 66 and 70 otherwise."""
    y, x = A("y") * 2 + A("p") - 1, A("x") * 2 + A("q") - 1
    reads = (access("a", (8, 7, 7, 512), A("b"), A("y"), A("x"), A("m")),
             access("b", (8, 14, 14, 512), A("b"), y, x, A("n"), guards=(Guard(y, 14), Guard(x, 14))))
    stage = Stage("s", axes("m:512 n:512 p:3 q:3 b:8r y:7r x:7r"), reads, PRODUCT,
                  access("c", (512, 512, 3, 3), A("m"), A("n"), A("p"), A("q")), "add")
    schedule = default(program(stage)).schedule
    assert schedule.vector == "m" and schedule.loops[-1] == ("n", 1)


def test_the_image_of_a_weight_gradient_lies_channel_by_channel():
    """A tile reduces over the pixels of a channel: 29 kB side by side, not a line in each of 900 pages."""
    y, x = A("y") + A("p") - 1, A("x") + A("q") - 1
    reads = (access("a", (8, 28, 28, 128), A("b"), A("y"), A("x"), A("m")),
             access("b", (8, 28, 28, 128), A("b"), y, x, A("n"), guards=(Guard(y, 28), Guard(x, 28))))
    stage = Stage("s", axes("m:128 n:128 p:3 q:3 b:8r y:28r x:28r"), reads, PRODUCT,
                  access("c", (128, 128, 3, 3), A("m"), A("n"), A("p"), A("q")), "add")
    best = candidates(*_of(program(stage)), CpuTarget(threads=1))[0]
    assert [(c.read, c.order) for c in best.copies] == [(1, ("3", "1", "2", "0"))]


def test_a_turned_scalar_operand_is_read_in_place_a_few_rows_at_a_time():
    """Rows of 64 steps are known to the address cache; turning them first takes longer than the product gains."""
    reads = (access("a", (48, 256, 256), A("h"), A("k"), A("m")), access("b", (48, 256, 64), A("h"), A("k"), A("n")))
    stage = Stage("s", axes("h:48 m:256 n:64 k:256r"), reads, PRODUCT,
                  access("c", (48, 256, 64), A("h"), A("m"), A("n")), "add")
    schedule = default(program(stage)).schedule
    assert ("k", 64) in schedule.loops and all(pack.read != 0 for pack in schedule.packs)


def test_a_turned_scalar_operand_is_cut_into_panels_of_whole_half_vectors():
    """The gradient of a weight: both operands lie step by step, so that neither is turned."""
    reads = (access("a", (1568, 1024), A("k"), A("m")), access("b", (1568, 256), A("k"), A("n")))
    stage = Stage("s", axes("m:1024 n:256 k:1568r"), reads, PRODUCT, access("c", (1024, 256), A("m"), A("n")), "add")
    schedule = default(program(stage)).schedule
    narrow = next(pack for pack in schedule.packs if pack.order[-1] != schedule.vector + "%")
    axis = narrow.order[-1].removesuffix("%")
    assert narrow.order == (axis + "//", "k", axis + "%") and schedule.loops[-1][1] % 8 == 0


def test_panels_are_cut_out_of_several_rows_side_by_side():
    assert default(panels(3072, 48, 16)).schedule.loops == (("r", 8), ("t", 1), ("r", 1), ("p", 48))
    assert default(panels(3072, 1024, 16)).schedule.loops[0] == ("t", 1), "long rows are streams of their own"


def test_large_results_bypass_the_caches():
    assert default(elementwise(1 << 23)).schedule.stream and not default(elementwise(1 << 16)).schedule.stream


def test_parts_of_cache_lines_do_not_bypass_the_caches():
    """A tile of 16 x 16 turned results fills lines of 64 bytes of float32, and half of each of bfloat16."""
    def turned(dtype):
        body = expr.cast(read(0), dtype)
        return program(Stage("s", axes("i:3072 j:768"), (access("x", (768, 3072), A("j"), A("i")),), body,
                             access("y", (3072, 768), A("i"), A("j"), dtype=dtype)))
    assert default(turned(F32)).schedule.stream and not default(turned(BF16)).schedule.stream


def test_tiles_that_fill_up_lines_are_written_one_after_the_other():
    """Eight images of a pixel lie side by side, and then those of the next pixel: half a line each."""
    stage = Stage("s", axes("c:128 h:56 w:56 n:8"), (access("x", (8, 56, 56, 128), A("n"), A("h"), A("w"), A("c")),),
                  read(0), access("y", (128, 56, 56, 8), A("c"), A("h"), A("w"), A("n")))
    schedule = KernelSchedule(AVX512).run(program(stage)).kernels[0].stages[0].schedule
    assert schedule.vector == "c" and not schedule.stream
    assert schedule.loops == (("h", 1), ("c", 16), ("w", 1), ("n", 8))


def test_an_operand_that_is_converted_is_packed_by_a_kernel_where_that_pays():
    """Also on one thread, where a contiguous one of float32 is packed in blocks."""
    stage = matmul(1024, 3072, 768).kernels[0].stages[0]

    def packed(dtype):
        body = fn("mul", *(expr.cast(read(i, dtype), F32) for i in (0, 1)))
        reads = tuple(replace(a, dtype=dtype) for a in stage.reads)
        best = candidates(*_of(program(replace(stage, reads=reads, body=body))), CpuTarget(threads=1))[0]
        return [c.read for c in best.copies]
    assert packed(BF16) == [1] and packed(F32) == []


def _of(p: Program):
    kernel, = p.kernels
    return kernel.stages[0], kernel, p


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


def test_rows_that_the_next_tile_goes_on_in_cost_no_pages():
    """32 channels of an image lie in 32 pages, which the tiles of a row walk through side by side."""
    schedule = default(conv(3, 64, 224, 7, 2, 3, constants=("f",))).schedule
    assert dict(schedule.loops)["o"] == 2 * schedule.lanes and dict(schedule.loops)["w"] == 14


def test_windows_take_as_many_rows_as_fill_eight_accumulators():
    schedule = default(depthwise(96, 112)).schedule
    assert dict(schedule.loops)["h"] * dict(schedule.loops)["w"] == 8 * schedule.lanes


def test_designs_of_cores_differ_in_costs():
    """Where broadcasts from rows cost something, rows are turned into panels, for tiles that leave LLVM registers."""
    p = matmul(1024, 1024, 1024)
    for target, most in ((AVX512, 0), (machine.named("sapphirerapids"), 26), (machine.named("znver3"), 12)):
        found = candidates(p.kernels[0].stages[0], p.kernels[0], p, target)
        turned = [dict(c.schedule.loops) for c in found for pack in c.schedule.packs
                  if pack.read == 0 and c.schedule.vector == "n" and pack.order[-1] == "m%"]
        assert (target.core.rows > 0) == bool(turned) == (most > 0)
        assert all(steps["m"] * -(-steps["n"] // target.lanes(F32)) <= most for steps in turned)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [512, 1024, 2048])
def test_where_loads_cost_more_tiles_are_nearly_square(size, threads):
    """Eight loads for twelve vectors of results, where one vector and twelve rows take thirteen (Zen 3: 1.4 times)."""
    p = matmul(size, size, size)
    target = replace(machine.named("znver3"), threads=threads)
    best = candidates(p.kernels[0].stages[0], p.kernels[0], p, target, few=1)[0].schedule
    steps, rows = dict(best.loops), "m" if best.vector == "n" else "n"
    assert (steps[best.vector], steps[rows]) == (2 * best.lanes, 6)


def images(count, size, channels, filters, window=2):
    """A convolution with the channels innermost, in images and in results."""
    wide = size + window - 1
    reads = (access("x", (count, wide, wide, channels), A("b"), A("y") + A("p"), A("x") + A("q"), A("c")),
             access("w", (channels, filters, window, window), A("c"), A("f"), A("p"), A("q")))
    every = axes(f"b:{count} f:{filters} y:{size} x:{size} c:{channels}r p:{window}r q:{window}r")
    return program(Stage("s", every, reads, PRODUCT,
                         access("o", (count, size, size, filters), A("b"), A("y"), A("x"), A("f")), "add"))


ZEN3 = replace(machine.named("znver3"), l1=32 << 10, l2=512 << 10)


def without_and_with_single_lines(p):
    """The first choices for Zen 3 where single lines from the second-level cache are free, and where they are not."""
    free = replace(ZEN3, family=replace(ZEN3.family, cores=(replace(ZEN3.core, needs=(), single=0.0),)))
    return [candidates(p.kernels[0].stages[0], p.kernels[0], p, t, few=1)[0].schedule for t in (free, ZEN3)]


def test_where_single_lines_cost_something_the_reduction_is_cut_into_long_blocks():
    """16 channels of a pixel are one cache line, and results go to the second level and back (LSGAN on Zen 3: 1.25)."""
    p = images(16, 8, 256, 128)
    block, single = (dict(s.loops).get("c", 256) for s in without_and_with_single_lines(p))
    assert block <= 16 and single >= 64


def halved(count, size, channels, filters):
    """A convolution with a window of 4 x 4 in steps of 2, padded by 1, of images that lie beside each other."""
    at = [2 * A("y") + A("p") - 1, 2 * A("x") + A("q") - 1]
    reads = (access("x", (channels, 2 * size, 2 * size, count), A("c"), *at, A("b"),
                    guards=tuple(Guard(form, 2 * size) for form in at)),
             access("w", (filters, channels, 4, 4), A("f"), A("c"), A("p"), A("q")))
    every = axes(f"b:{count} f:{filters} y:{size} x:{size} c:{channels}r p:4r q:4r")
    return program(Stage("s", every, reads, PRODUCT,
                         access("o", (count, filters, size, size), A("b"), A("f"), A("y"), A("x")), "add"))


def test_where_single_lines_cost_something_tiles_take_no_pixels_that_lie_apart():
    """With images as lanes each pixel is a cache line, and a tile of four takes every other one (LSGAN on Zen 3: 2)."""
    p = halved(16, 4, 256, 512)
    best = without_and_with_single_lines(p)
    assert [s.vector for s in best] == ["b", "b"]
    assert [dict(s.loops).get("x", 1) for s in best] == [4, 1]


def test_vectors_of_a_deep_reduction_that_lie_in_rows_apart_are_read_in_blocks_or_packed():
    """The gradient of weights: 1024 cache lines in rows of their own for each tile (LSGAN on Zen 3: 1.45)."""
    at = [2 * A("y") + A("p") - 1, 2 * A("x") + A("q") - 1]
    reads = (access("g", (16, 8, 8, 272), A("b"), A("y"), A("x"), A("f")),
             access("x", (128, 16, 16, 16), A("c"), *at, A("b"), guards=tuple(Guard(form, 16) for form in at)))
    every = axes("f:256 c:128 p:4 q:4 b:16r y:8r x:8r")
    p = program(Stage("s", every, reads, PRODUCT,
                      access("o", (256, 128, 4, 4), A("f"), A("c"), A("p"), A("q")), "add"))
    best = without_and_with_single_lines(p)
    assert [s.vector for s in best] == ["f", "f"]
    assert [dict(s.loops).get("b", 16) < 16 or any(pack.read == 0 for pack in s.packs) for s in best] == [False, True]


def test_boxes_hold_the_pixels_of_an_image_together():
    """But where a tile takes points of several images: these lie beside each other then (LSGAN on Zen 3: 1.2)."""
    p = halved(16, 8, 128, 256)
    found = candidates(p.kernels[0].stages[0], p.kernels[0], p, ZEN3)
    boxes = {(dict(c.schedule.loops).get("b", 1) > 1, copy.order) for c in found if c.schedule.vector == "f"
             for copy in c.copies if copy.read == 0 and copy.order[-1] == "0"}
    assert {(False, ("3", "1", "2", "0")), (True, ("1", "2", "3", "0"))} <= boxes


@pytest.mark.parametrize("size, shallow", [(512, True), (1024, False)])
def test_results_beyond_the_second_level_are_taken_up_seldom(size, shallow):
    """Panels of 256 steps stay in the first level; results of 4 MiB would come back three times (Zen 3: 0.99)."""
    p = matmul(size, size, size)
    best = candidates(p.kernels[0].stages[0], p.kernels[0], p, ZEN3, few=1)[0].schedule
    assert (dict(best.loops).get("k", size) <= 256) == shallow


def test_tiles_take_points_of_a_longer_axis_where_both_inner_ones_are_short():
    p = images(16, 4, 512, 256)
    best = candidates(p.kernels[0].stages[0], p.kernels[0], p, ZEN3, few=1)[0]
    assert dict(best.schedule.loops)["b"] > 1


def test_packs_from_memory_take_long_pieces_of_rows():
    """Pixels of images that lie beyond the caches are packed for several panels at once."""
    p = KernelMergeAxes().run(conv(256, 64, 56, window=1, pad=0, batch=8))
    kernel, = p.kernels
    schedule = candidates(kernel.stages[0], kernel, p, AVX512)[0].schedule
    pack, = [pack for pack in schedule.packs if pack.read == 0]
    assert pack.inside[0] == schedule.vector and pack.inside[1] > dict(schedule.loops)[schedule.vector]
    assert pack.inside[1] * 4 >= PIECE
