"""Rematerialisation: the same gradients, less memory."""
from __future__ import annotations

import numpy as np
import pytest
from derivatives import check
from frontend_checks import normal, same

import jtc
from jtc import nn, optim
from jtc.frontend.traced import trace

ROWS, WIDTH, BLOCKS = 512, 64, 6


def blocks():
    jtc.random.seed(3)
    return [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU())
            for _ in range(BLOCKS)]


def loss(layers, x, again: bool):
    for layer in layers:
        x = jtc.checkpoint(layer)(x) if again else layer(x)
    return jtc.mean(x * x)


@pytest.mark.usefixtures("backend")
def test_gradients_are_the_same():
    layers, x = blocks()[:2], jtc.array(normal(4, WIDTH))
    params = [p for layer in layers for p in layer.parameters()]
    for a, b in zip(*(jtc.gradients(loss(layers, x, again), [*params, x]) for again in (False, True))):
        same(b, a.numpy(), rtol=1e-5)


@pytest.mark.usefixtures("backend")
def test_random_numbers_and_state():
    """The second run draws the numbers of the first, and moves running statistics no further."""
    def run(again):
        jtc.random.seed(5)
        net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        f = jtc.checkpoint(net) if again else net
        value, found = jtc.jit(jtc.value_and_grad(lambda x: jtc.sum(f(x) ** 2)))(jtc.array(normal(8, 3)))
        return [value, found, net[1].running_mean, net[1].num_batches_tracked, jtc.random.uniform((3,))]

    for a, b in zip(run(False), run(True)):
        same(b, a.numpy(), rtol=1e-5)


@pytest.mark.usefixtures("backend")
def test_orders_modes_and_nesting():
    inner = jtc.checkpoint(lambda x, y: {"a": jtc.sin(x) * y, "n": jtc.argmax(x)})
    outer = jtc.checkpoint(lambda x, y: inner(jtc.exp(x), y)["a"] * x)
    check(lambda x, y: outer(x, y), normal(4), normal(4, seed=1))
    square = jtc.checkpoint(jtc.custom_grad(lambda x: (x * x, lambda g: g * 5)))
    same(jtc.grad(lambda x: jtc.sum(square(x * 2.0)))(jtc.ones(2)), np.full(2, 10, np.float32))
    with pytest.raises(jtc.InputError, match="checkpoint needs a function"):
        jtc.checkpoint(3)


def test_memory_and_work():
    """One activation for each block, instead of five; each block's products are computed once more."""
    reports = []
    for again in (False, True):
        layers = blocks()
        opt = optim.SGD([p for layer in layers for p in layer.parameters()], lr=0.1, momentum=0.9)

        def step(x, layers=layers, again=again, opt=opt):
            value = loss(layers, x, again)
            opt.step(value)
            return value

        reports.append(jtc.explain(step, np.zeros((ROWS, WIDTH), np.float32)))
    kept, again = reports
    activation = ROWS * WIDTH * 4
    assert kept.memory > 4 * BLOCKS * activation
    assert again.memory < (BLOCKS + 8) * activation

    def products(report):
        return sum("dot" in k.name for k in report.kernels)

    assert products(kept) == 2 * 3 * BLOCKS - 1 and products(again) <= products(kept) + 2 * BLOCKS


def test_equal_copies_are_not_shared():
    x = np.ones((4, 4), np.float32)
    graph = trace(jtc.grad(lambda x: jtc.sum(jtc.checkpoint(lambda x: jtc.exp(jtc.exp(x)))(x))), (x,)).graph
    assert [n.op for n in graph.nodes()].count("recompute") == 1
    same(jtc.jit(jtc.grad(lambda x: jtc.sum(jtc.checkpoint(lambda x: jtc.exp(jtc.exp(x)))(x))))(x),
         np.exp(np.exp(x)) * np.exp(x), rtol=1e-5)
