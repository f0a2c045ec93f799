"""`graph-join-products`: gradients of weights that many steps share, as one product each."""
from __future__ import annotations

import numpy as np
import pytest
from frontend_checks import normal

import jtc
from jtc import nn
from jtc.compiler import phases
from jtc.compiler.driver import settings_for
from jtc.dialects.reference import run_graph
from jtc.passes.graph.graph_join_products import GraphJoinProducts
from jtc.runtime import knobs

STEPS, BATCH, SIZE = 11, 3, 6


def recurrence(x, w, b):
    """The last state and all states of tanh(h w + b + x)."""
    return jtc.scan(lambda h, x: 2 * (jtc.tanh(h @ w + b + x),), jtc.zeros((BATCH, SIZE)), x)


def by_weights(x, w, b):
    last, states = recurrence(x, w, b)
    return jtc.gradients(jtc.sum(states * states) + jtc.sum(last), [w, b])


def backward(x, w, b):
    """The gradients by w and b, in float64."""
    states, h = [], np.zeros((BATCH, SIZE))
    for row in x:
        states.append(h)
        h = np.tanh(h @ w + b + row)
    after = [*states[1:], h]
    g, dw, db = np.ones((BATCH, SIZE)), np.zeros((SIZE, SIZE)), np.zeros(SIZE)
    for before, h in zip(reversed(states), reversed(after)):
        inner = (g + 2 * h) * (1 - h * h)
        dw, db, g = dw + before.T @ inner, db + inner.sum(axis=0), inner @ w.T
    return dw, db


ARGS = normal(STEPS, BATCH, SIZE), normal(SIZE, SIZE, seed=1) / 3, normal(SIZE, seed=2)


def dots(graph, **knob):
    with knobs.use(**knob):
        program = phases.advance(graph, "graph", "kernel", settings_for("cpu"))
    return [k.name for k in program.kernels if "_dot" in k.name]


@pytest.mark.parametrize("strict", [False, True])
def test_values(strict):
    with knobs.use(strict=strict):
        for ours, wanted in zip(jtc.jit(by_weights)(*ARGS), backward(*(a.astype(np.float64) for a in ARGS))):
            np.testing.assert_allclose(ours.numpy(), wanted, rtol=2e-5, atol=2e-5)


def test_one_product_for_all_steps():
    """Forward and backward have a product for each step but the first, whose state is 0; the gradient by w has one."""
    graph = jtc.jit(by_weights).graph(*ARGS)
    joined, apart = dots(graph), dots(graph, strict=True)
    assert len(apart) - len(joined) == STEPS - 2


def test_the_graph_means_the_same():
    graph = jtc.jit(by_weights).graph(*ARGS)
    joined = GraphJoinProducts().run(graph)
    assert sum(n.op == "reduce" for n in joined.nodes()) < sum(n.op == "reduce" for n in graph.nodes())
    for one, other in zip(run_graph(joined, ARGS), run_graph(graph, ARGS), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_layers_of_both_directions():
    layer = nn.GRU(4, 5, bidirectional=True)
    x = normal(10, 2, 4)

    def gradients(x):
        return jtc.gradients(jtc.sum(layer(x)[0] ** 2), list(layer.parameters()))
    ours = jtc.jit(gradients)(x)
    with knobs.use(backend="reference"):
        for one, other in zip(ours, jtc.jit(gradients)(x), strict=True):
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-5)
