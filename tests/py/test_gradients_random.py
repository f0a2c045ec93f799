"""Gradients of random graphs: through fusion, in forward mode, and for many examples at once."""
from __future__ import annotations

import numpy as np
import pytest
from random_graphs import RandomGraph

from jtc.compiler import pipeline
from jtc.compiler.cpu import machine
from jtc.compiler.phases import Settings
from jtc.dialects.build import make
from jtc.dialects.graph import Graph, Node, TensorType
from jtc.dialects.reference import run_graph, run_program
from jtc.frontend.autodiff import reverse
from jtc.frontend.vmap import batch

SEEDS = [*range(80), 1238]         # the last one reads a reindex_reduce only where it meets nothing
SIZE = 3                      # examples


def pulled(seed: int) -> tuple[Graph, list[Node], list[Node]]:
    """A random graph, symbols for the cotangents of its outputs, and the cotangents of its inputs that there are."""
    graph = RandomGraph(seed).graph(9)
    symbols = [Node("input", (), {}, n.type) for n in graph.outputs]
    return graph, symbols, [g for g in reverse(graph.outputs, symbols, graph.inputs) if g is not None]


def values(nodes: list[Node], seed: int, *leading: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(-8, 9, (*leading, *n.shape)) / 4 + 0.01 * rng.standard_normal((*leading, *n.shape))
            for n in nodes]


def close(got: list[np.ndarray], want: list[np.ndarray], what: str) -> None:
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9, err_msg=what)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_gradients_become_the_right_kernels():
    settings, count = Settings(machine.named("x86-64-v4")), 0
    for seed in SEEDS:
        graph, symbols, found = pulled(seed)
        if not found:
            continue
        inputs = [*graph.inputs, *symbols]
        arrays = values(inputs, seed)
        backward = Graph("f", inputs, found)
        want = run_graph(backward, arrays)
        program = pipeline.run(backward, pipeline.graph_passes(settings), settings)
        close(run_program(program, arrays), want, f"seed {seed}")
        count += sum(np.any(w != 0) for w in want)
    assert count > len(SEEDS) // 2                          # most gradients are not zero everywhere


def test_forward_mode_is_the_transpose():
    """<pulled(u), d> = <u, pushed(d)>."""
    for seed in SEEDS:
        graph, symbols, _ = pulled(seed)
        found = reverse(graph.outputs, symbols, graph.inputs)
        directions = [Node("input", (), {}, n.type) for n in graph.inputs]
        pairs = [(g, d) for g, d in zip(found, directions) if g is not None]
        pushed = reverse([g for g, _ in pairs], [d for _, d in pairs], symbols)
        kept = [(s, p) for s, p in zip(symbols, pushed) if p is not None]
        inputs = [*graph.inputs, *symbols, *directions]
        outputs = [n for pair in (*pairs, *kept) for n in pair]
        if not outputs:
            continue
        results = iter(run_graph(Graph("f", inputs, outputs), values(inputs, seed)))
        sums = [sum(float(np.sum(next(results) * next(results))) for _ in part) for part in (pairs, kept)]
        assert sums[0] == pytest.approx(sums[1], rel=1e-8, abs=1e-8), f"seed {seed}"


def test_batches_are_examples_side_by_side():
    for seed in SEEDS:
        graph, symbols, found = pulled(seed)
        if not found:
            continue
        ones = [*graph.inputs[1:], *symbols]           # all examples share the first input
        many = [Node("input", (), {}, TensorType(n.dtype, (SIZE, *n.shape))) for n in ones]
        wide = batch(found, dict(zip(ones, many)), SIZE)
        shared = values(graph.inputs[:1], seed)
        arrays = values(ones, seed + 1, SIZE)
        got = run_graph(Graph("f", [graph.inputs[0], *many], wide), [*shared, *arrays])
        each = [run_graph(Graph("f", [graph.inputs[0], *ones], found), [*shared, *(a[k] for a in arrays)])
                for k in range(SIZE)]
        close(got, [np.stack(parts) for parts in zip(*each)], f"seed {seed}")


def test_nothing_is_recorded_for_what_is_not_asked_for():
    """Of two factors only one is differentiated: the other's gradient is never made."""
    x, y = (Node("input", (), {}, RandomGraph(0).graph(1).inputs[0].type) for _ in range(2))
    total = make("reduce", [make("mul", [x, y])], {"fn": "add", "axes": tuple(range(x.type.rank))})
    g, = reverse([total], [make("cast", [total], {}, total.type)], [x])
    assert [n.op for n in Graph("f", [x, y], [g]).nodes()].count("mul") == 2
