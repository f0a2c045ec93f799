"""The kinds of reductions: which is chosen, each forced by the knob, how they round; threads change nothing."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from emitting import TARGETS, access, axes, check, data, fn
from schedule_cases import AVX512, reduction

import jtc
from jtc.compiler.driver import settings_for
from jtc.compiler.explain import explain_graph
from jtc.compiler.phases import advance
from jtc.dialects.dtypes import BOOL, DTYPES, F32, F64, I32
from jtc.dialects.expr import acc, const, read
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Axis, Kernel, Local, Program, Schedule, Stage
from jtc.dialects.reference import run_program
from jtc.frontend.traced import trace
from jtc.nn import functional as F
from jtc.passes.kernel.kernel_merge_axes import KernelMergeAxes
from jtc.passes.kernel.kernel_schedule import KernelSchedule
from jtc.passes.kernel.kernel_two_pass import KernelTwoPass, cut
from jtc.passes.kernel.rules.reduction import KINDS, kind
from jtc.runtime import knobs

EPS = 2.0 ** -24
rng = np.random.default_rng(5)


def run(function: Callable, *args: np.ndarray, **settings) -> np.ndarray:
    with knobs.use(**settings):
        return np.asarray(jtc.jit(lambda *values: function(*values))(*args))


# ------------------------------------------------------------------------------------------------ trees
TREES = {
    "rows": lambda lanes: Schedule("k", lanes, (), ("k",), (("k", 4),), tree=(("k", 4 * lanes),)),
    "rows side by side": lambda lanes: Schedule("k", lanes, (("i", 2),), ("k",), tree=(("k", lanes),)),
    "one by one": lambda lanes: Schedule("", 1, (), ("k",), tree=(("k", 7),)),
    "columns": lambda lanes: Schedule("i", lanes, (("i", lanes),), ("k",), (("k", 3),), tree=(("k", 7),)),
    "blocked columns": lambda lanes: Schedule("i", lanes, (("k", 40), ("i", lanes)), ("k",), tree=(("k", 7),)),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", TREES)
def test_blocks_meet_in_pairs(name, target):
    """Numbers of blocks with and without rest, for types of every size; the numbers are small, so sums are exact."""
    for n, function, dtype in ((1, "add", F32), (29, "max", F32), (64, "add", I32), (129, "and", BOOL),
                               (131, "min", DTYPES["bf16"]), (300, "add", F64), (321, "add", F32)):
        stage = Stage("s", axes(f"i:5 k:{n}r"), (access("x", dtype, (5, n), "i, k"),), read(0, dtype),
                      access("y", dtype, (5,), "i"), function, schedule=TREES[name](4 if target == "x86-64" else 8))
        check(stage, {"x": data(TensorType(dtype, (5, n)))}, target=target)


@pytest.mark.parametrize("target", TARGETS)
def test_trees_along_two_axes(target):
    for n in (31, 100):
        check(Stage("s", axes(f"i:3 h:11r k:{n}r"), (access("x", F32, (3, 11, n), "i, h, k"),),
                    read(0, F32), access("y", F32, (3,), "i"), "add",
                    schedule=Schedule("k", 4, (), ("h", "k"), (("k", 2),), tree=(("h", 2), ("k", 16)))),
              target=target)


# ------------------------------------------------------------------------------------------------ two passes
@pytest.mark.parametrize("m, n, over", [(1, 1000, "j"), (50, 70, "ij"), (100, 3, "i"), (3, 101, "j"), (64, 64, "i")])
def test_parts_of_a_reduction_give_its_result(m, n, over):
    before = reduction(m, n, over)
    values = [rng.integers(-9, 9, before.buffers["x"].shape).astype(np.float32)]
    want, = run_program(before, values)
    for axis in over:
        size = m if axis == "i" else n
        for parts in (p for p in (2, 3, 7, size) if 2 <= p <= size):
            after = KernelTwoPass(kernel="k", axis=axis, parts=parts).run(before)
            rest = size % (size // parts) > 0
            assert [k.name for k in after.kernels] == ["k_parts", *(["k_rest"] if rest else []), "k"]
            for program in (after, KernelSchedule(AVX512).run(KernelMergeAxes().run(after))):
                np.testing.assert_array_equal(run_program(program, values)[0], want)


def mean_loss(rows: int, classes: int, block: int) -> Program:
    """A kernel whose stages share rows, over which the last one reduces: the mean of log(sum(exp(x)))."""
    place, shape = ("i", (block,)) if block > 1 else ("", ())
    total, x = access("t", F32, shape, place), access("x", F32, (rows, classes), "i, j")
    stages = (Stage("s0", axes(f"i:{rows} j:{classes}r"), (x,), fn("exp", read(0, F32)), total, "add"),
              Stage("s1", axes(f"i:{rows}r"), (total,), fn("log", read(0, F32)), access("y", F32, (), ""), "add",
                    fn("div", acc(F32), const(rows, F32))))
    kernel = Kernel("k", stages, ((Axis("i", rows), block),), (Local("t", TensorType(F32, shape)),))
    return Program("f", ["x"], ["y"], {"x": TensorType(F32, (rows, classes)), "y": TensorType(F32, ())}, [kernel])


@pytest.mark.parametrize("rows, block, parts", [(96, 1, 4), (100, 1, 7), (256, 64, 3), (300, 64, 2)])
def test_kernels_whose_shared_axis_is_reduced_are_cut(rows, block, parts):
    before = mean_loss(rows, 9, block)
    values = [rng.standard_normal((rows, 9)).astype(np.float32)]
    after = cut(before, before.kernels[0], "i", parts)
    assert len(after.kernels) == 2 + (rows % (after.kernels[0].shared[1][0].size) > 0)
    for program in (after, KernelSchedule(AVX512).run(after)):
        np.testing.assert_allclose(run_program(program, values)[0], run_program(before, values)[0], rtol=1e-5)


def test_what_is_cut():
    """Large reductions with less to share than threads want; contractions, windows and small ones are not."""
    def kernels(function: Callable, *shapes: tuple[int, ...]) -> list[str]:
        graph = trace(function, tuple(jtc.zeros(s) for s in shapes), name="f").graph
        return [k.name for k in explain_graph(graph).kernels]

    assert kernels(jtc.sum, (1 << 20,)) == ["k0_sum_parts", "k0_sum"]
    assert kernels(lambda x: jtc.max(x, axis=0), (4096, 1024)) == ["k0_max_parts", "k0_max"]
    loss = kernels(lambda x: jtc.mean(jtc.logsumexp(x, axis=-1)), (4096, 128))
    assert len(loss) == 2 and loss[0] == loss[1] + "_parts"
    for function, shape in ((jtc.sum, (1 << 12,)), (lambda x: jtc.sum(x, axis=1), (4096, 1024)),
                            (lambda x: F.avg_pool2d(x, 32), (4, 64, 64, 64)), (lambda x: x @ x, (256, 256))):
        assert len(kernels(function, shape)) == 1, shape


# ------------------------------------------------------------------------------------------------ the knob
SUMS = (((300_001,), None), ((2049, 130), 0), ((3, 100_000), 1), ((5000, 3), 0), ((2, 999, 600), 1))


@pytest.mark.parametrize("wanted", ["auto", *KINDS])
def test_every_kind_gives_the_sum(wanted):
    for shape, axis in SUMS:
        x = rng.random(shape, dtype=np.float32)
        got, want = run(partial(jtc.sum, axis=axis), x, reduction=wanted), x.sum(axis, dtype=np.float64)
        np.testing.assert_allclose(got, want, rtol=1e-4 if wanted == "serial" else 2e-6)


def test_the_knob_forces_the_kind():
    def kinds(shape: tuple[int, ...], axis: int | None, wanted: str) -> list[str]:
        graph = trace(partial(jtc.sum, axis=axis), (jtc.zeros(shape),), name="f").graph
        with knobs.use(reduction=wanted):
            program = advance(graph, "graph", "schedule", settings_for("cpu:x86-64-v4"))
        return [kind(s, s.schedule) for k in program.kernels for s in k.stages if s.reduce]

    for wanted in ("serial", "vector", "tree"):
        assert kinds((1 << 20,), None, wanted) == [wanted]
        assert kinds((4096, 1024), 1, wanted) == [wanted]
    assert kinds((4096, 1024), 0, "column") == ["column"]
    assert kinds((4096, 1024), 0, "serial") == ["serial"]
    assert kinds((1 << 20,), None, "auto") == ["tree", "vector"]            # parts, then their results
    assert kinds((3000,), None, "auto") == ["vector"]
    assert len(kinds((3000,), None, "two_pass")) == 3                       # with what is left over


def test_products_with_few_results_are_cut():
    """Threads share the steps of a sum of products where they have too few results to share."""
    def kernels(*shapes: tuple[int, int]) -> list[str]:
        graph = trace(lambda a, b: jtc.relu(a @ b), [jtc.zeros(shape) for shape in shapes], name="f").graph
        return [k.name for k in advance(graph, "graph", "schedule", settings_for("cpu:x86-64-v4")).kernels]

    assert [name.endswith("_parts") for name in kernels((8, 65536), (65536, 8))] == [True, False]
    assert len(kernels((16, 20000), (20000, 16))) == 2                      # 20000 = 32 * 625
    assert len(kernels((64, 8192), (8192, 64))) == 1                        # results enough
    assert len(kernels((16, 3000), (3000, 16))) == 1                        # little work
    for m, k, n in ((8, 65536, 8), (3, 40_001, 20), (30, 20_000, 30)):
        a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
        one, two = (run(lambda a, b: jtc.relu(a @ b), a, b, threads=threads) for threads in (1, 2))
        np.testing.assert_array_equal(one, two)
        want = np.maximum(a.astype(np.float64) @ b, 0)
        assert np.abs(one - want).max() <= 1e-5 * np.sqrt(k)


def test_threads_do_not_change_a_result():
    x = rng.standard_normal((1000, 2000)).astype(np.float32)
    functions = (jtc.sum, lambda t: jtc.sum(t, axis=0), lambda t: jtc.mean(jtc.logsumexp(t, axis=-1)),
                 lambda t: F.cross_entropy(t, jtc.zeros((1000,), dtype=jtc.int64)))
    for strict in (False, True):
        for function in functions:
            one, two = (run(function, x, threads=threads, strict=strict) for threads in (1, 2))
            np.testing.assert_array_equal(one, two)


# ------------------------------------------------------------------------------------------------ rounding
def test_rounding_errors_of_sums():
    """The bounds of docs/schedules.md, for terms of one sign: (terms in a row + depth of the tree) * 2^-24 at most."""
    x = rng.random(1 << 20, dtype=np.float32)
    want = x.sum(dtype=np.float64)
    # the most additions that a term goes through, with lanes of any target
    depth = {"serial": 1 << 20, "vector": (1 << 20) // 32 + 8, "tree": 64 + 24, "two_pass": 64 + 24 + 16}
    for wanted, most in depth.items():
        error = abs(float(run(jtc.sum, x, reduction=wanted)) - want) / want
        assert error <= most * EPS, wanted
    for shape, axis in (((1 << 20,), None), ((1 << 14, 64), 0)):        # what is chosen is as good as pairs are
        x = np.full(shape, 0.1, np.float32)
        got, want = run(partial(jtc.sum, axis=axis), x), x.sum(axis, dtype=np.float64)
        assert np.max(np.abs(got - want) / want) < 4e-6


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_sums_are_rounded_once(dtype):
    """Terms are added in float32: 1 is not lost beside 4096."""
    x = jtc.astype(jtc.ones((1 << 14,)), dtype)
    for wanted in ("auto", *KINDS):
        assert float(np.asarray(run(jtc.sum, x, reduction=wanted), np.float64)) == 1 << 14


@pytest.mark.parametrize("wanted", ["auto", *KINDS])
def test_what_is_exact_is_so_in_every_kind(wanted):
    """Integers wrap, NaN comes through, the first of equal elements is found; odd extents."""
    x = rng.integers(-1 << 31, 1 << 31, 300_007).astype(np.int32)
    assert run(lambda t: jtc.sum(t, dtype=jtc.int32), x, reduction=wanted) == x.sum(dtype=np.int32)
    y = rng.integers(0, 7, (1031, 301)).astype(np.float32)
    np.testing.assert_array_equal(run(partial(jtc.argmax, axis=0), y, reduction=wanted), y.argmax(0))
    np.testing.assert_array_equal(run(partial(jtc.argmax, axis=1), y, reduction=wanted), y.argmax(1))
    assert run(jtc.argmin, y.reshape(-1), reduction=wanted) == y.argmin()
    y[517, 300] = np.nan
    for function in (jtc.max, jtc.min):
        assert np.isnan(run(function, y, reduction=wanted))
    np.testing.assert_array_equal(np.isnan(run(partial(jtc.max, axis=0), y, reduction=wanted)), np.arange(301) == 300)
    assert run(lambda t: jtc.all(t > -1), np.abs(y[:500]), reduction=wanted)


def test_unknown_kinds_are_refused():
    with pytest.raises(jtc.UsageError, match="reduction='pairs' is not valid"), knobs.use(reduction="pairs"):
        pass
    with pytest.raises(jtc.UsageError, match="reduction='pairs' is not one of auto, serial"):
        KernelSchedule(reduction="pairs").run(reduction(3, 4, "i"))


def test_a_schedule_of_a_tree_is_kept():
    """A hand-written tree survives the default schedules."""
    program = reduction(3, 400, "j")
    kernel, = program.kernels
    stage = replace(kernel.stages[0], schedule=Schedule("j", 16, (), ("j",), tree=(("j", 64),)))
    program = replace(program, kernels=[replace(kernel, stages=(stage,))])
    assert KernelSchedule(AVX512).run(program).kernels[0].stages[0].schedule.tree == (("j", 64),)
