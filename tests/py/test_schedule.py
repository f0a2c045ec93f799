"""Schedules: what each pass does and refuses, and what is legal."""
from __future__ import annotations

from dataclasses import replace

import pytest
from schedule_cases import (
    AVX512,
    A,
    access,
    axes,
    conv,
    elementwise,
    gather,
    matmul,
    program,
    read,
    recurrence,
    reduction,
    scan,
    scatter,
    softmax,
)

from jtc.dialects.kernel import Axis, Guard, Kernel, Pack, Program, Schedule, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.base import Pass, PassError, parse_pass
from jtc.passes.kernel import legality
from jtc.passes.kernel.kernel_fuse import KernelFuse
from jtc.passes.kernel.kernel_merge_axes import KernelMergeAxes
from jtc.passes.kernel.kernel_pack import KernelPack
from jtc.passes.kernel.kernel_parallelize import KernelParallelize
from jtc.passes.kernel.kernel_reorder import KernelReorder
from jtc.passes.kernel.kernel_split import KernelSplit
from jtc.passes.kernel.kernel_split_guards import KernelSplitGuards
from jtc.passes.kernel.kernel_stream import KernelStream
from jtc.passes.kernel.kernel_unroll import KernelUnroll
from jtc.passes.kernel.kernel_vectorize import KernelVectorize


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


def test_a_copy_lacks_the_axes_that_cancel_out_of_the_address():
    stage = Stage("s", axes("b:1 i:23"), (access("x", (23, 1, 1), A("i"), -A("b"), A("b")),), read(0),
                  access("y", (1, 23), A("b"), A("i")))
    copy, _ = (k.stages[0] for k in KernelPack(read=0, order=("i",)).run(program(stage)).kernels)
    assert copy.sizes == {"i": 23} and [str(i) for i in copy.reads[0].index] == ["i", "0", "0"]


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
