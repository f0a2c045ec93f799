"""Kernels of a batch that run image by image: which can, that it changes nothing, and where their values lie."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from frontend_checks import normal
from random_graphs import RandomGraph, arrays

import jtc
from jtc import knobs
from jtc.compiler import phases, pipeline
from jtc.compiler.driver import compile_graph, settings_for
from jtc.compiler.explain import explain_graph
from jtc.compiler.verify import VerifyError, verify_program
from jtc.dialects.reader import read_text
from jtc.dialects.reference import run_program
from jtc.dialects.target import CpuTarget
from jtc.dialects.text import program_text
from jtc.nn import functional as fn
from jtc.passes.kernel.kernel_slice import KernelSlice
from jtc.passes.kernel.slices import cuts
from jtc.runtime.module import load_module
from jtc.runtime.planner import build_plan


def fused(graph, **options):
    """The kernels of a graph as kernel-slice gets them."""
    settings = settings_for("cpu")
    return pipeline.run(graph, pipeline.graph_passes(replace(settings, **options)), settings)


def block(x, w, v):
    """Two convolutions with a sum of all channels between them, and a residual."""
    y = fn.relu(fn.conv2d(x, w, padding=1))
    z = fn.conv2d(y, v, padding=1) + x
    return z / (1 + jtc.max(z, axis=1, keepdims=True))


def images(n=4, c=8, size=6):
    return normal(n, c, size, size), normal(c, c, 3, 3, seed=1) / 8, normal(c, c, 3, 3, seed=2) / 8


def parts(program):
    return [k.slice and (k.slice.number, k.slice.count) for k in program.kernels]


def test_slices_compute_what_the_batch_does():
    args = images()
    program = fused(jtc.jit(block).graph(*args))
    expected = run_program(program, args)
    for count in (2, 4):
        sliced = KernelSlice(slices=str(count)).run(program)
        assert sorted({p for p in parts(sliced) if p}) == [(n, count) for n in range(count)]
        for got, want in zip(run_program(sliced, args), expected, strict=True):
            np.testing.assert_array_equal(got, want)        # the same arithmetic in the same order
    assert KernelSlice(slices="3").run(program).kernels == program.kernels      # 4 images are not 3 slices


def test_random_programs_in_slices():
    """Arbitrary maps and fills, cut wherever that is possible."""
    sliced = 0
    for seed in range(60):
        graph = RandomGraph(seed).graph(8)
        program, inputs = fused(graph, fusion=("full", "elementwise")[seed % 2]), arrays(graph, seed)
        expected = run_program(program, inputs)
        for count in (2, 3):
            made = KernelSlice(slices=str(count)).run(program)
            sliced += any(parts(made))
            for got, want in zip(run_program(made, inputs), expected, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9, err_msg=f"seed {seed}")
    assert sliced > 20


def test_values_between_kernels_of_a_slice_are_its_own():
    args = images()
    sliced = KernelSlice(slices="4").run(fused(jtc.jit(block).graph(*args)))
    inner = {b for k in sliced.kernels for b in k.written} - set(sliced.outputs)
    touched = {b: {k.slice for k in sliced.kernels if b in k.operands} for b in inner}
    assert inner and all(len(where) == 1 for where in touched.values())
    assert all(sliced.buffers[b].shape[0] == 1 for b in inner)


def test_what_cannot_be_cut_ends_a_run():
    """A mean over the batch needs all images; so does what depends on their number."""
    x = normal(4, 8, 16)

    def centred(x):
        y = jtc.exp(x) - jtc.max(x, axis=2, keepdims=True)
        return y - jtc.mean(y, axis=0)

    program = KernelSlice(slices="2").run(fused(jtc.jit(centred).graph(x), fusion="elementwise"))
    whole = [k for k in program.kernels if k.slice is None]
    assert any(s.reduce == "add" for k in whole for s in k.stages)
    np.testing.assert_allclose(run_program(program, [x])[0], centred(jtc.asarray(x)).numpy(), atol=1e-5)

    numbered = fused(jtc.jit(lambda x: x * jtc.arange(4, dtype=jtc.float32)[:, None, None]).graph(x))
    kernel, = numbered.kernels
    assert {cut.dims[numbered.outputs[0]] for cut in cuts(kernel, numbered.buffers)} == {1, 2}


def test_kernels_that_do_not_depend_on_a_run_go_before_it():
    def function(x, w):
        y = jtc.exp(x) @ w
        other = jtc.sum(jtc.exp(w), axis=0)             # stands between the two products
        return jtc.tanh(y + other) @ w

    x, w = normal(6, 16), normal(16, 16, seed=1)
    program = KernelSlice(slices="3").run(fused(jtc.jit(function).graph(x, w)))
    found = parts(program)
    first = next(i for i, p in enumerate(found) if p)
    assert None in found[:first] and None not in found[first:] and found[first:] == sorted(found[first:])
    np.testing.assert_allclose(run_program(program, [x, w])[0], function(*map(jtc.asarray, (x, w))).numpy(), atol=1e-4)


def test_the_estimate_slices_what_leaves_the_caches():
    """56 x 56 images of 64 channels: eight of them do; one, and eight of 7 x 7, do not."""
    w = normal(64, 64, 3, 3) / 24

    def layers(x):
        for _ in range(3):
            x = fn.relu(fn.conv2d(x, w, padding=1))
        return x

    target = CpuTarget()
    for n, size, expected in ((8, 56, True), (1, 56, False), (8, 7, False)):
        program = fused(jtc.jit(layers).graph(normal(n, 64, size, size)), winograd="off")
        assert any(parts(KernelSlice(target=target).run(program))) == expected, (n, size)
    large = KernelSlice(target=replace(target, l2=1 << 30)).run(
        fused(jtc.jit(layers).graph(normal(8, 64, 56, 56)), winograd="off"))
    assert not any(parts(large))


def test_text_keeps_parts():
    program = KernelSlice(slices="2").run(fused(jtc.jit(block).graph(*images())))
    assert parts(read_text(program_text(program))) == parts(program)
    kernels = [replace(k, slice=replace(k.slice, number=2)) if k.slice else k for k in program.kernels]
    with pytest.raises(VerifyError, match="there is no slice 2 of 2"):
        verify_program(replace(program, kernels=kernels))


def compiled(function, *args, **options):
    return load_module(compile_graph(jtc.jit(function).graph(*args), **options))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_compiled_slices(threads):
    """Each runs on one thread, in memory of its own, also where there are fewer or more threads than planned for."""
    args = images(n=12)
    expected = compiled(block, *args, slices="off")(*args)
    module = compiled(block, *args, slices="12")
    with knobs.use(threads=threads):
        for _ in range(3):
            np.testing.assert_allclose(np.asarray(module(*args)), np.asarray(expected), atol=1e-5)
    plan = module.plan
    assert {launch.slice for launch in plan.launches} >= set(range(12))
    waves = {launch.wave for launch in plan.launches if launch.slice >= 0}
    assert len(waves) == 1 and plan.own_bytes > 0
    own = [b for b in plan.buffers if b.kind == "own"]
    assert own and plan.own_bytes < sum(b.bytes for b in own)
    times = module.profile(*args)
    assert len(times) == len(plan.launches) and all(t >= 0 for t in times) and sum(times) > 0


def test_copies_that_all_slices_read_are_made_once():
    """Weights that are inputs are packed before the slices, images within them."""
    args = images(n=4, c=32, size=12)
    program = phases.advance(jtc.jit(block).graph(*args), "graph", "schedule",
                             replace(settings_for("cpu"), slices="4", winograd="off"))
    copies = [k for k in program.kernels if k.name.startswith("pack_")]
    assert copies and any(k.slice is None for k in copies)
    for kernel in copies:
        readers = {k.slice for k in program.kernels if kernel.written[0] in k.read}
        assert readers == {kernel.slice} if kernel.slice else len(readers) == 4
    found = [p for p in parts(program) if p]
    first = parts(program).index(found[0])
    assert None not in parts(program)[first:first + len(found)]


class Code:
    """What a plan has to know of a kernel's code."""

    symbol, units, workspace_bytes, offsets = "", 1, 0, ()

    def __init__(self, operands):
        self.operands = operands


def test_slices_run_apart_only_where_they_keep_all_threads_busy():
    program = KernelSlice(slices="4").run(fused(jtc.jit(block).graph(*images())))
    functions = {k.name: Code(k.operands) for k in program.kernels}

    def plan(threads, module=program):
        return build_plan(module, functions, CpuTarget(threads=threads))

    for threads, apart in ((1, True), (2, True), (4, True), (3, False), (8, False)):
        assert any(launch.slice >= 0 for launch in plan(threads).launches) == apart, threads
    missing = replace(program, kernels=[replace(k, slice=None) if k.slice and k.slice.number == 2 else k
                                        for k in program.kernels])
    assert all(launch.slice < 0 for launch in plan(2, missing).launches)
    broken = plan(2)
    broken.launches[0].slice = -1
    with pytest.raises(jtc.InputError, match="damaged"):
        broken.check()


def test_winograd_in_slices():
    x, w = normal(4, 32, 12, 12), normal(32, 32, 3, 3, seed=1) / 17

    def function(x):
        return fn.conv2d(x, w, padding=1)

    module = compiled(function, x, slices="4", winograd="4", embed=True)
    assert {launch.slice for launch in module.plan.launches} == {0, 1, 2, 3}
    expected = np.asarray(compiled(function, x, slices="off", winograd="off", embed=True)(x))
    np.testing.assert_allclose(np.asarray(module(x)), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_explain_shows_one_slice():
    args = images()
    graph = jtc.jit(block).graph(*args)
    report, whole = explain_graph(graph, slices="4"), explain_graph(graph, slices="off")
    assert [k.slices for k in report.kernels] == [4] * len(whole.kernels)
    assert "    slices   4, of which this is the first: asked for" in str(report)
    assert report.least == whole.least and 0 < report.memory < whole.memory
