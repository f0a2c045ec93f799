"""Windows of few channels as whole blocks of a matrix unit (kernel-join-window): where, and that results are right."""
from __future__ import annotations

from dataclasses import replace

import pytest
from emitting import access
from test_dot import agrees, half, normal

import jtc
import jtc.nn.functional as F
from jtc.compiler.driver import settings_for
from jtc.compiler.phases import advance
from jtc.dialects.dtypes import BF16
from jtc.passes.kernel.kernel_join_window import _filled, _spread


def gradient(stride, window=3):
    """Of sum(conv(x, w) * y) by w; images are channels last."""
    def function(x, y):
        x, y = (half(a).transpose(0, 3, 1, 2) for a in (x, y))
        w = jtc.zeros((y.shape[1], x.shape[1], window, window))

        def loss(w):
            out = F.conv2d(x, half(w), stride=stride, padding=window // 2)
            return jtc.sum(jtc.astype(out, jtc.float32) * jtc.astype(y, jtc.float32))
        return jtc.grad(loss)(w)
    return function


RGB, TWO, FIVE = normal(64, 3, 7, 7) / 12, normal(48, 2, 5, 5) / 7, normal(64, 5, 3, 3) / 7
PROGRAMS = {
    "7x7": (lambda x: F.conv2d(half(x), half(RGB), padding=3, stride=2), normal(1, 3, 48, 50)),
    "two channels": (lambda x: F.conv2d(half(x), half(TWO), padding=2), normal(2, 2, 28, 31)),
    "five channels, no padding": (lambda x: jtc.relu(F.conv2d(half(x), half(FIVE))), normal(2, 5, 40, 40)),
    "weights given": (lambda x, w: F.conv2d(half(x), half(w), padding=3, stride=2), normal(1, 3, 48, 50), RGB),
    "patches": (lambda x, w: F.conv2d(half(x), half(w), stride=8), normal(2, 3, 64, 64), normal(96, 3, 8, 8) / 14),
    "channels innermost": (lambda x: F.conv2d(half(x).transpose(0, 3, 1, 2), half(RGB), padding=3, stride=2),
                           normal(1, 48, 50, 3)),
    "columns apart": (lambda x: F.conv2d(half(x), half(RGB), padding=6, stride=2, dilation=2), normal(1, 3, 64, 64)),
    "weights' gradient": (gradient(1), normal(8, 14, 14, 24), normal(8, 14, 14, 40)),
    "weights' gradient, stride 2": (gradient(2), normal(8, 14, 14, 24), normal(8, 7, 7, 40)),
    "weights' gradient, odd sizes": (gradient(2), normal(5, 17, 13, 24), normal(5, 9, 7, 40)),
    "a product of every other pixel": (gradient(2, 1), normal(8, 28, 28, 64), normal(8, 14, 14, 64)),
    "a product of few pixels": (gradient(1, 1), normal(8, 7, 7, 64), normal(8, 7, 7, 64)),
}


def scheduled(name, target="sapphirerapids", **options):
    function, *inputs = PROGRAMS[name]
    graph = jtc.jit(lambda *a: jtc.astype(function(*a), jtc.float32)).graph(*inputs)
    return graph, inputs, advance(graph, "graph", "schedule", replace(settings_for(f"cpu:{target}"), **options))


def joined(program):
    return [k.name for k in program.kernels if k.name.startswith("join_")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_results(name, tmp_path):
    graph, inputs, program = scheduled(name)
    product = next(s for k in program.kernels for s in k.stages if s.factors())
    assert joined(program) and product.schedule.matrix and any(product.sizes[r] % 32 == 0 for r in product.reductions)
    agrees(program, graph, inputs, tmp_path / "m.so")


def test_only_for_the_unit_and_not_where_arithmetic_is_kept():
    assert not joined(scheduled("7x7", "cooperlake")[-1])
    assert not joined(scheduled("7x7", strict=True)[-1])
    assert not joined(scheduled("7x7", quick=True)[-1])


@pytest.mark.parametrize("function, shape", [
    (lambda x: F.conv2d(half(x), half(normal(64, 64, 3, 3)), padding=1), (1, 64, 28, 28)),      # channels fill blocks
    (lambda x: F.conv2d(half(x), half(RGB[:, :, :1, :1])), (1, 3, 64, 64)),                     # no window
])
def test_left_alone(function, shape):
    graph = jtc.jit(lambda x: jtc.astype(function(x), jtc.float32)).graph(normal(*shape))
    assert not joined(advance(graph, "graph", "schedule", settings_for("cpu:sapphirerapids")))


def test_places_beyond_the_window_hold_zeros():
    """The image's copy is 0 in its fourth channel; the weights' in that and in an eighth column."""
    _, _, program = scheduled("7x7")
    image, weights = (k.stages[0] for k in program.kernels if k.name in joined(program))
    assert image.write.shape[-1] == 4 and weights.write.shape[-2:] == (8, 4)
    assert {g.size for g in image.reads[0].guards} == {48, 50, 3}
    assert {g.size for g in weights.reads[0].guards} == {7, 3}


def test_axes_that_one_operand_lacks_are_not_joined():
    """sum over k, r of a[i, k] * b[j, k, r]: r is not in a."""
    def function(a, b):
        return jtc.sum(jtc.astype(half(a)[:, None, :, None] * half(b)[None], jtc.float32), axis=(2, 3))
    graph = jtc.jit(function).graph(normal(40, 7), normal(48, 7, 5))
    assert not joined(advance(graph, "graph", "schedule", settings_for("cpu:sapphirerapids")))
    x = access("x", BF16, (9, 9, 4), "h + p, h + q, c")
    assert _spread(x, ("p", "c")) is None, "h walks along a dimension of its own, and along one with p"
    assert _spread(x, ("p", "k")) is None
    assert _spread(access("x", BF16, (9, 9, 4), "h + p, w + q, c"), ("q", "c")) == ([0], ["w", "q", "c"])


@pytest.mark.parametrize("columns, channels, filled", [(7, 3, (8, 4)), (3, 1, (32, 1)), (3, 5, (4, 8)), (8, 4, (8, 4)),
                                                       (3, 9, (4, 16)), (2, 12, (2, 16))])
def test_filled(columns, channels, filled):
    assert _filled(columns, channels, 32) == filled
