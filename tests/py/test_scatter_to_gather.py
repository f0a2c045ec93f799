"""Affine scatters read backwards: random index maps, every element stored exactly once, no point visited in vain."""
from __future__ import annotations

import random
from math import prod

import numpy as np
import pytest

import jtc
from jtc.compiler.driver import settings_for
from jtc.compiler.phases import advance
from jtc.compiler.verify import verify_program
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import F64
from jtc.dialects.graph import Graph, Node, TensorType
from jtc.dialects.kernel import PARALLEL, Program
from jtc.dialects.reference import run_graph, run_program
from jtc.frontend.traced import trace
from jtc.nn import functional as F
from jtc.passes.graph.graph_fuse import GraphFuse

CASES = 500


def random_map(seed: int) -> tuple[tuple[int, ...], tuple[Affine, ...], tuple[int, ...], str]:
    """A domain of 1 to 4 axes, a map into 1 to 3 dimensions, their sizes, a reduction: strides, dilations, flips,
    paddings, overlaps, results that are too small and too large."""
    rng = random.Random(seed)
    domain = tuple(rng.randint(1, 5) for _ in range(rng.randint(1, 4)))
    forms, shape = [], []
    for _ in range(rng.randint(1, 3)):
        form = Affine((), rng.randint(-3, 3))
        for d in rng.sample(range(len(domain)), rng.randint(0, min(3, len(domain)))):
            form += Affine({f"d{d}": rng.choice((1, 1, 1, 2, 2, 3, 4, 5, 6, -1, -2, -3))})
        _, high = form.range({f"d{d}": n for d, n in enumerate(domain)})
        forms.append(form)
        shape.append(max(1, min(high + rng.randint(-2, 3), 24)))
    return domain, tuple(forms), tuple(shape), rng.choice(("add", "max"))


def stores(program: Program) -> np.ndarray | None:
    """How often each element of the first output is stored; None where it is a scatter."""
    name = program.outputs[0]
    count = np.zeros(program.buffers[name].size, int)
    for stage in (s for k in program.kernels for s in k.stages if s.write.buffer == name):
        if stage.accumulate:
            return None
        axes = [a for a in stage.axes if a.kind == PARALLEL]
        places = dict(zip((a.name for a in axes), np.indices([a.size for a in axes])))
        shape = [a.size for a in axes]
        inside = np.ones(shape, bool)
        for guard in stage.write.guards:
            value = guard.index.evaluate(places)
            inside = inside & (value >= 0) & (value < guard.size)
        np.add.at(count, np.broadcast_to(stage.write.flat.evaluate(places), shape)[inside], 1)
    return count


def test_random_maps() -> None:
    gathers = classes = 0
    for seed in range(CASES):
        domain, forms, shape, fn = random_map(seed)
        x = Node("input", (), {}, TensorType(F64, domain))
        y = Node("reindex_reduce", (x,), {"fn": fn, "map": forms}, TensorType(F64, shape))
        graph, value = Graph("f", [x], [y]), np.random.default_rng(seed).standard_normal(domain)
        program = GraphFuse().run(graph)
        verify_program(program)
        expected = run_graph(graph, [value])[0]
        case = f"seed {seed}: {domain} -> {forms} in {shape}"
        np.testing.assert_allclose(run_program(program, [value])[0], expected, rtol=1e-12, atol=1e-12, err_msg=case)
        count = stores(program)
        if count is not None:
            assert (count == 1).all(), case
            gathers += 1
            classes += len(program.kernels[0].stages) > 1
    assert gathers > 0.95 * CASES and classes > 0.2 * CASES


def points(program: Program) -> int:
    """Multiply-adds of all reductions."""
    return sum(prod(a.size for a in s.axes) for k in program.kernels for s in k.stages if s.reductions)


# kernel, stride, padding, output padding, dilation, residue classes
STRIDED = [(3, 2, 1, 1, 1, 4), (4, 2, 1, 0, 1, 4), (7, 2, 3, 1, 1, 4),
           (5, 3, 1, 0, 1, 9), (3, 2, 2, 1, 2, 4), (3, 2, 0, 0, 3, 4)]


@pytest.mark.parametrize("k, stride, pad, extra, dilation, classes", STRIDED)
def test_strided_convolution(k: int, stride: int, pad: int, extra: int, dilation: int, classes: int) -> None:
    """A transposed convolution, its bias and activation: one kernel, a stage for each residue class; and no element of
    the result meets more weights than a convolution of that stride would use for it."""
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s, np.float32) for s in ((1, 3, 9, 9), (3, 2, k, k), (2,)))

    def net(x, w, b):
        return jtc.relu(F.conv_transpose2d(x, w, b, stride, pad, extra, dilation=dilation))

    graph = trace(net, (x, w, b), name="f").graph
    program = GraphFuse().run(graph)
    kernel, = program.kernels
    assert len(kernel.stages) == classes
    assert all(s.factors() is not None or not s.reductions for s in kernel.stages)
    count = stores(program)
    assert count is not None and (count == 1).all()
    side = -(-graph.outputs[0].shape[2] // stride)
    assert points(program) <= w.size * side * side
    expected = run_graph(graph, [x, w, b], precise=True)[0]
    np.testing.assert_allclose(run_program(program, [x, w, b], precise=True)[0], expected, rtol=1e-12, atol=1e-12)


def test_strided_reader() -> None:
    """What reads the classes through movement: each class keeps its place."""
    x = np.random.default_rng(0).standard_normal((4, 9, 3), np.float32)

    def net(x):
        y = jtc.reindex_reduce(x, "add", (4, 20), lambda n, i, k: (n, 2 * i + k))
        return jtc.exp(jtc.reshape(jtc.permute_dims(y, (1, 0)), (5, 4, 4)))

    graph = trace(net, (x,), name="f").graph
    program = GraphFuse().run(graph)
    verify_program(program)
    got, want = run_program(program, [x], precise=True)[0], run_graph(graph, [x], precise=True)[0]
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("stride", (2, 3))
def test_compiled(stride: int) -> None:
    """Through code generation: strided stores, guards of one factor."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 6, 9, 10), np.float32), rng.standard_normal((6, 5, 3, 4), np.float32)

    def net(x, w):
        return F.conv_transpose2d(x, w, stride=stride, padding=1, output_padding=1)

    graph = trace(net, (x, w), name="f").graph
    expected = run_graph(graph, [x, w], precise=True)[0]
    np.testing.assert_allclose(np.asarray(jtc.jit(net)(x, w)), expected, rtol=1e-4, atol=1e-4)
    codes = advance(graph, "graph", "loops", settings_for("cpu"))
    assert not any("arith.rem" in str(code.data) for code in codes), "an index is computed modulo the stride"
