"""What gradients compile to: few kernels, no scatters, and no more multiply-adds than the forward pass."""
from __future__ import annotations

from math import prod

import numpy as np
import pytest

import jtc
from jtc import nn, optim
from jtc.compiler.driver import settings_for
from jtc.compiler.phases import advance
from jtc.frontend.traced import trace
from jtc.nn import functional as F


def kernels(function, *arrays):
    """The fused kernels of a function."""
    return advance(trace(function, arrays, name="f").graph, "graph", "kernel", settings_for("cpu")).kernels


def array(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


ROWS = array(300, 512)
# function, arguments, kernels for its gradients by all arguments
NORMS = {
    "softmax": (lambda x: jtc.softmax(x), (ROWS,), 1),
    "log_softmax": (lambda x: jtc.log_softmax(x), (ROWS,), 1),
    "gelu": (jtc.gelu, (ROWS,), 1),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, 512, w, b), (ROWS, array(512), array(512)), 2),
    "rms_norm": (lambda x, w: F.rms_norm(x, 512, w), (ROWS, array(512)), 2),
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
                   (array(8, 32, 12, 12), array(32), array(32)), 2),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), (array(4, 8, 12, 12),), 1),
}


@pytest.mark.parametrize("name", NORMS)
def test_gradients_of_norms_are_few_kernels(name):
    function, arrays, most = NORMS[name]
    y = array(*trace(function, arrays, name="f").graph.outputs[0].shape)
    found = kernels(lambda g, *xs: jtc.vjp(function, *xs)[1](g), y, *arrays)
    assert len(found) <= most, [k.name for k in found]
    assert not any(s.accumulate for k in found for s in k.stages)


@pytest.mark.parametrize("rows", [64, 5000])
def test_a_loss_and_its_gradient(rows):
    found = kernels(jtc.value_and_grad(F.cross_entropy), array(rows, 100), np.zeros(rows, np.int64))
    assert len(found) <= 2, [k.name for k in found]
    assert not any(s.accumulate for k in found for s in k.stages)


def products(function, *arrays) -> int:
    """Multiply-adds of the contractions; every reduction must be one."""
    stages = [s for k in kernels(function, *arrays) for s in k.stages]
    assert not any(s.accumulate for s in stages)
    assert all(s.factors() is not None for s in stages if s.reductions)
    return sum(prod(a.size for a in s.axes) for s in stages if s.reductions)


TRANSPOSED = {"stride": 2, "padding": 1, "output_padding": 1}
CONVOLUTIONS = [("conv2d", (2, 8, 16, 16), (16, 8, 3, 3), {"padding": 1}),
                ("conv2d", (2, 8, 16, 16), (16, 8, 3, 3), {"padding": 1, "stride": 2}),
                ("conv2d", (2, 3, 32, 32), (16, 3, 7, 7), {"padding": 3, "stride": 2}),
                ("conv2d", (2, 8, 16, 16), (16, 8, 1, 1), {"stride": 2}),
                ("conv2d", (2, 8, 16, 16), (16, 4, 3, 3), {"padding": 1, "groups": 2}),
                ("conv2d", (2, 8, 16, 16), (16, 8, 3, 3), {"padding": 2, "dilation": 2}),
                ("conv2d", (2, 4, 18, 18), (8, 4, 5, 5), {"padding": 1, "stride": 3}),
                ("conv_transpose2d", (2, 8, 8, 8), (8, 4, 3, 3), TRANSPOSED)]


@pytest.mark.parametrize("name, x, w, options", CONVOLUTIONS, ids=str)
def test_gradients_of_convolutions_cost_what_they_do(name, x, w, options):
    def conv(x, w):
        return getattr(F, name)(x, w, **options)

    x, w = array(*x), array(*w)
    y = array(*trace(conv, (x, w), name="f").graph.outputs[0].shape)
    forward = products(conv, x, w)
    for side in (0, 1):
        assert products(lambda g, x, w, side=side: jtc.vjp(conv, x, w)[1](g)[side], y, x, w) == forward


def test_depthwise_convolutions_are_gathers():
    def conv(x, w):
        return F.conv2d(x, w, padding=1, stride=2, groups=8)

    x, w, y = array(2, 8, 16, 16), array(8, 1, 3, 3), array(2, 8, 8, 8)
    for kernel in kernels(lambda g, x, w: jtc.vjp(conv, x, w)[1](g), y, x, w):
        assert not any(s.accumulate for s in kernel.stages)


def test_the_update_is_part_of_the_weights_gradient():
    """A linear layer's step: forward, the loss, and one kernel for each parameter."""
    net = nn.Linear(64, 32)
    opt = optim.SGD(net.parameters(), lr=0.1)

    def step(x):
        loss = jtc.sum(net(x) ** 2)
        opt.step(loss)
        return loss

    assert len(kernels(step, array(128, 64))) <= 4


def test_small_updates_are_computed_side_by_side():
    """Updates of vectors of different sizes are one kernel, that of a matrix is one of its own."""
    sizes = [(48,), (16,), (96,), (512, 512), (8, 4)]
    opt = optim.SGD([nn.Parameter(np.zeros(size, np.float32)) for size in sizes], lr=0.1, momentum=0.9)
    found = kernels(lambda *g: opt.update(g), *(array(*size) for size in sizes))
    assert sorted([len(s.writes) for s in k.stages] for k in found) == [[2], [2] * 4]


def test_an_update_reads_everything_once():
    """Adam's two means and the parameter: three results of one stage, however large."""
    weight = nn.Parameter(np.zeros((512, 512), np.float32))
    opt = optim.Adam([weight], lr=0.1)
    found = kernels(lambda g: opt.update([g]), array(512, 512))
    large = [k for k in found if any(prod(a.size for a in s.axes) >= weight.size for s in k.stages)]
    assert len(large) == 1 and len(large[0].stages) == 1 and len(large[0].stages[0].more) == 2
