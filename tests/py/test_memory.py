"""The planned memory of training: values are freed as soon as the backward pass has used them."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np

import jtc
from jtc import nn, optim
from jtc.dialects.dtypes import F32
from jtc.dialects.graph import TensorType
from jtc.passes.graph.fusion.order import launch_order

LAYERS, ROWS, WIDTH = 6, 512, 64
ACTIVATION = ROWS * WIDTH * 4


def step_of(net):
    opt = optim.SGD(net.parameters(), lr=0.1)

    def step(x):
        loss = jtc.mean(net(x) ** 2)
        opt.step(loss)
        return loss

    return step


def test_a_gradient_is_freed_before_the_next_layer():
    """One activation for each layer, and the two cotangents that a layer works on."""
    net = nn.Sequential(*[module for _ in range(LAYERS) for module in (nn.Linear(WIDTH, WIDTH), nn.ReLU())])
    report = jtc.explain(step_of(net), np.zeros((ROWS, WIDTH), np.float32))
    assert LAYERS * ACTIVATION <= report.memory <= (LAYERS + 2.2) * ACTIVATION     # and packed weights
    assert f"{report.memory / 1024:.3g} KiB of memory between kernels" in str(report)


def test_the_order_of_launches():
    """As recorded, what frees memory first; a kernel that also writes something late runs when it is first needed."""
    def unit(read: str, written: str) -> SimpleNamespace:
        return SimpleNamespace(read=read.split(), written=written.split())

    def names(units, outputs="out") -> list[str]:
        recorded = {"a": 1, "b": 2, "again": 8, "g": 4, "out": 9, "w": 10, "late": 11}
        types = {name: TensorType(F32, (100,)) for name in recorded}
        return [" ".join(u.written) for u in launch_order(units, outputs.split(), types, recorded, {})]

    forward = [unit("x", "a"), unit("a", "b")]
    assert names([unit("x", "again"), *forward, unit("b", "g"), unit("g again", "out")]) \
        == ["a", "b", "g", "again", "out"]
    # `late` is an output that the kernel of g happens to hold
    assert names([unit("x", "again"), *forward, unit("b", "g late"), unit("g again", "out")], "out late") \
        == ["a", "b", "g late", "again", "out"]
    # the update w reads g last, so it frees it
    assert names([*forward, unit("b", "g"), unit("x", "again"), unit("again", "out"), unit("g", "w")], "out w") \
        == ["a", "b", "g", "w", "again", "out"]
