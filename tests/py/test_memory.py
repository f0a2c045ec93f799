"""The planned memory of training: values are freed as soon as the backward pass has used them."""
from __future__ import annotations

import numpy as np

import jtc
from jtc import nn, optim

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
