"""Functions of neural networks against NumPy."""
from __future__ import annotations

import math

import numpy as np
import pytest
from frontend_checks import normal, same

import jtc
from jtc.nn import functional as F

pytestmark = pytest.mark.usefixtures("backend")
sigmoid = lambda x: 1 / (1 + np.exp(-x))                                        # noqa: E731
erf = np.vectorize(math.erf, otypes=[np.float64])
ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0), "relu6": lambda x: np.clip(x, 0, 6), "sigmoid": sigmoid,
               "silu": lambda x: x * sigmoid(x),
    "leaky_relu": lambda x: np.where(x > 0, x, x * x.dtype.type(0.01)),
               "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "softplus": lambda x: np.log1p(np.exp(x)), "logsigmoid": lambda x: -np.log1p(np.exp(-x)), "tanh": np.tanh,
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))), "hardsigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
               "gelu": lambda x: (x * (1 + erf(x / math.sqrt(2))) / 2).astype(x.dtype)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, dtype):
    x = normal(3, 7, dtype=dtype) * 3
    same(getattr(F, name)(x), ACTIVATIONS[name](x).astype(dtype))


def test_activations_far_out_and_options():
    x = np.array([-1e4, -100, 0, 100, 1e4], np.float32)
    same(F.sigmoid(x), np.array([0, 0, 0.5, 1, 1], np.float32), 1e-6)
    same(F.softplus(x), np.array([0, 0, math.log(2), 100, 1e4], np.float32))
    same(F.leaky_relu(x, 0.2), np.where(x > 0, x, x * np.float32(0.2)))
    x = normal(5)
    same(F.gelu(x, approximate="tanh"),
         x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))).astype(np.float32) / 2)
    same(F.glu(normal(3, 4)), normal(3, 4)[:, :2] * sigmoid(normal(3, 4)[:, 2:]))


@pytest.mark.parametrize("axis", [-1, 0, (1, 2), None], ids=str)
def test_softmax(axis):
    x = normal(2, 3, 4) * 50
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    total = powers.sum(axis=axis, keepdims=True)
    same(jtc.softmax(x, axis=axis), powers / total)
    same(jtc.log_softmax(x, axis=axis), x - x.max(axis=axis, keepdims=True) - np.log(total))


def reference_conv(x, w, stride, padding, dilation, groups):
    """x [n, c, *space], w [o, c/groups, *kernel], element by element of the kernel."""
    rank = w.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0)] + [(padding, padding)] * rank)
    space = [(n - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(x.shape[2:], w.shape[2:])]
    out = np.zeros((x.shape[0], w.shape[0], *space), x.dtype)
    o, c = w.shape[0] // groups, w.shape[1]
    for place in np.ndindex(*w.shape[2:]):
        window = x[(slice(None), slice(None), *(slice(p * dilation, p * dilation + (n - 1) * stride + 1, stride)
                                                for p, n in zip(place, space)))]
        for g in range(groups):
            out[:, g * o:(g + 1) * o] += np.einsum("nc...,oc->no...", window[:, g * c:(g + 1) * c],
                                                   w[(slice(g * o, (g + 1) * o), slice(None), *place)])
    return out


@pytest.mark.parametrize("stride,padding,dilation,groups", [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 1), (1, 1, 1, 2),
                                                            (2, 1, 1, 4)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolution(rank, stride, padding, dilation, groups):
    x, w = normal(2, 4, *(9, 8, 7)[:rank]), normal(8, 4 // groups, *(3, 3, 2)[:rank], seed=1)
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    expected = reference_conv(x, w, stride, padding, dilation, groups)
    same(conv(x, w, None, stride, padding, dilation, groups), expected)
    b = normal(8, seed=2)
    same(conv(x, w, b, stride, padding, dilation, groups)[0], expected[0] + b.reshape(-1, *[1] * rank))
    same(conv(x[0], w, None, stride, padding, dilation, groups), expected[0])


def test_convolution_same_padding():
    x, w = normal(1, 2, 5, 6), normal(3, 2, 3, 3, seed=1)
    same(F.conv2d(x, w, padding="same"), reference_conv(x, w, 1, 1, 1, 1))
    same(F.conv2d(x, w, padding="valid"), reference_conv(x, w, 1, 0, 1, 1))


@pytest.mark.parametrize("stride,padding,extra,groups,dilation",
                         [(1, 0, 0, 1, 1), (2, 1, 0, 1, 1), (2, 1, 1, 2, 1), (3, 0, 0, 1, 2)])
def test_transposed_convolution(stride, padding, extra, groups, dilation):
    x, w = normal(2, 4, 5, 6), normal(4, 6 // groups, 3, 4, seed=1)
    size = [(n - 1) * stride - 2 * padding + dilation * (k - 1) + extra + 1 for n, k in zip((5, 6), (3, 4))]
    full = np.zeros((2, 6, size[0] + 2 * padding, size[1] + 2 * padding), np.float32)
    c, o = 4 // groups, 6 // groups
    for i, j, p, q in np.ndindex(5, 6, 3, 4):
        for g in range(groups):
            full[:, g * o:(g + 1) * o, i * stride + p * dilation, j * stride + q * dilation] += \
                x[:, g * c:(g + 1) * c, i, j] @ w[g * c:(g + 1) * c, :, p, q]
    expected = full[:, :, padding:padding + size[0], padding:padding + size[1]]
    same(F.conv_transpose2d(x, w, None, stride, padding, extra, groups, dilation), expected)
    b = normal(6, seed=2)
    same(F.conv_transpose2d(x, w, b, stride, padding, extra, groups, dilation), expected + b[:, None, None])


def windows(x, k, s, p, fill):
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(x, (k, k), (2, 3))[:, :, ::s, ::s]


@pytest.mark.parametrize("k,s,p", [(2, 2, 0), (3, 2, 1), (3, 1, 0)])
def test_pooling(k, s, p):
    x = normal(2, 3, 7, 8)
    same(F.max_pool2d(x, k, s, p), windows(x, k, s, p, -np.inf).max((4, 5)))
    same(F.avg_pool2d(x, k, s, p), windows(x, k, s, p, 0).mean((4, 5)))
    count = windows(np.ones_like(x), k, s, p, 0).sum((4, 5))
    same(F.avg_pool2d(x, k, s, p, count_include_pad=False), windows(x, k, s, p, 0).sum((4, 5)) / count)
    integers = (x * 10).astype(np.int32) - 50
    same(F.max_pool2d(integers, k, s, p), windows(integers, k, s, p, np.iinfo(np.int32).min).max((4, 5)))


def test_other_poolings():
    x = normal(2, 3, 7, 8)
    same(F.max_pool2d(x, 2), windows(x, 2, 2, 0, 0).max((4, 5)))
    same(F.max_pool2d(x, 2, ceil_mode=True), windows(np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=-9),
                                                     2, 2, 0, 0).max((4, 5)))
    same(F.max_pool2d(x[0], 2), windows(x, 2, 2, 0, 0).max((4, 5))[0])
    same(F.max_pool1d(x[0], 2), x[0].reshape(3, 7, 4, 2).max(-1))
    same(F.avg_pool1d(x[0], 2), x[0].reshape(3, 7, 4, 2).mean(-1))
    same(F.adaptive_avg_pool2d(x, 1), x.mean((2, 3), keepdims=True))
    same(F.adaptive_avg_pool2d(x, (None, 4)), x.reshape(2, 3, 7, 4, 2).mean(-1))
    expected = np.stack([x[:, :, a:b].mean(2) for a, b in ((0, 3), (2, 5), (4, 7))], 2)
    same(F.adaptive_avg_pool2d(x, (3, 8)), expected)


def normalised(x, axes, eps=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def test_norms():
    x, g, b = normal(4, 6, 5), normal(6, seed=1), normal(6, seed=2)
    same(F.layer_norm(x, 5), normalised(x, 2))
    same(F.layer_norm(x, (6, 5), normal(6, 5, seed=3), normal(6, 5)),
         normalised(x, (1, 2)) * normal(6, 5, seed=3) + normal(6, 5))
    same(F.rms_norm(x, (5,), normal(5)),
         x / np.sqrt((x * x).mean(-1, keepdims=True) + np.finfo(np.float32).eps) * normal(5))
    grouped = normalised(x.reshape(4, 3, 10), 2).reshape(x.shape)
    same(F.group_norm(x, 3, g, b), grouped * g[:, None] + b[:, None])
    same(F.instance_norm(x), normalised(x, 2))
    same(F.batch_norm(x, None, None, g, b, training=True), normalised(x, (0, 2)) * g[:, None] + b[:, None])
    mean, var = normal(6, seed=4), np.abs(normal(6, seed=5)) + np.float32(0.5)
    expected = (x - mean[:, None]) / np.sqrt(var + 1e-5)[:, None] * g[:, None] + b[:, None]
    same(F.batch_norm(x, mean, var, g, b), expected.astype(np.float32))


@pytest.mark.parametrize("compiled", [False, True])
def test_batch_norm_moves_running_statistics(compiled):
    x = normal(4, 6, 5)
    mean, var = jtc.zeros((6,)), jtc.ones((6,))
    f = lambda x: F.batch_norm(x, mean, var, training=True)                     # noqa: E731
    same((jtc.jit(f) if compiled else f)(x), normalised(x, (0, 2)))
    same(mean, np.float32(0.1) * x.mean((0, 2)))
    same(var, np.float32(0.9) + np.float32(0.1) * x.var((0, 2), ddof=1))


def test_losses():
    x, t = normal(5, 4), np.array([0, 3, 1, 1, 2])
    scores = x - x.max(1, keepdims=True)
    scores = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    picked = -scores[np.arange(5), t]
    for dtype in (np.int32, np.int64):
        same(F.cross_entropy(x, t.astype(dtype)), picked.mean())
    same(F.cross_entropy(x, t, reduction="none"), picked)
    same(F.cross_entropy(x, t, reduction="sum"), picked.sum())
    same(F.nll_loss(scores, t), picked.mean())
    ignored = np.array([0, -100, 1, 1, -100])
    same(F.cross_entropy(x, ignored), np.float32(-(scores[0, 0] + scores[2, 1] + scores[3, 1]) / 3))
    w = np.array([1, 2, 3, 4], np.float32)
    same(F.cross_entropy(x, t, weight=w), np.float32((picked * w[t]).sum() / w[t].sum()))
    same(F.cross_entropy(x, np.eye(4, dtype=np.float32)[t]), picked.mean())
    same(F.cross_entropy(x, t, label_smoothing=0.1), np.float32((0.9 * picked - 0.1 * scores.mean(1)).mean()))
    image = normal(2, 4, 3)
    log = image - np.log(np.exp(image).sum(1, keepdims=True))
    labels = np.array([[0, 1, 2], [3, 0, 1]])
    same(F.cross_entropy(image, labels), -np.take_along_axis(log, labels[:, None], 1).mean())
    y = normal(5, 4, seed=1)
    same(F.mse_loss(x, y), ((x - y) ** 2).mean())
    same(F.l1_loss(x, y, reduction="sum"), np.abs(x - y).sum())
    z = (y > 0).astype(np.float32)
    same(F.binary_cross_entropy_with_logits(x, z), -(z * np.log(sigmoid(x)) + (1 - z) * np.log(1 - sigmoid(x))).mean())
    same(F.one_hot(t, 4), np.eye(4, dtype=np.int64)[t])


def test_linear_and_embedding():
    x, w, b = normal(2, 3, 4), normal(5, 4, seed=1), normal(5, seed=2)
    same(F.linear(x, w, b), x @ w.T + b)
    same(F.bilinear(x[0], x[1], normal(6, 4, 4)), np.einsum("ni,oij,nj->no", x[0], normal(6, 4, 4), x[1]))
    same(F.embedding(np.array([[0, 4], [2, 2]]), w), w[[[0, 4], [2, 2]]])


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal):
    q, k, v = normal(2, 3, 5, 4), normal(2, 3, 5, 4, seed=1), normal(2, 3, 5, 4, seed=2)
    scores = q @ k.swapaxes(-1, -2) / 2
    if causal:
        scores = np.where(np.tril(np.ones((5, 5), bool)), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True)
    same(F.scaled_dot_product_attention(q, k, v, is_causal=causal), (p @ v).astype(np.float32))
    if not causal:
        mask = np.tril(np.ones((5, 5), bool))
        same(F.scaled_dot_product_attention(q, k, v, mask),
             F.scaled_dot_product_attention(q, k, v, is_causal=True).numpy())
        bias = np.where(mask, 0, -np.inf).astype(np.float32)
        same(F.scaled_dot_product_attention(q, k, v, bias), F.scaled_dot_product_attention(q, k, v, mask).numpy())


def test_dropout_and_random_numbers():
    jtc.random.seed(3)
    first = jtc.random.uniform((2000,))
    second = jtc.random.uniform((2000,))
    jtc.random.seed(3)
    draw = jtc.jit(lambda: jtc.random.uniform((2000,)))
    same(draw(), first.numpy())
    same(draw(), second.numpy())
    assert draw.compiles == 1 and not np.array_equal(first.numpy(), second.numpy())
    for dtype in (jtc.float32, jtc.float64):
        u = jtc.random.uniform((4000,), dtype=dtype).numpy()
        assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.03 and len(np.unique(u)) > 3990
        n = jtc.random.normal((4000,), 1, 2, dtype=dtype).numpy()
        assert abs(n.mean() - 1) < 0.15 and abs(n.std() - 2) < 0.15 and n.dtype == dtype.numpy
    for short, full in ((jtc.random.rand, jtc.random.uniform), (jtc.random.randn, jtc.random.normal)):
        jtc.random.seed(5)
        got = short(3, 4, dtype=jtc.float64)
        jtc.random.seed(5)
        same(got, full((3, 4), dtype=jtc.float64).numpy())
    i = jtc.random.randint(-2, 3, (1000,)).numpy()
    assert set(i) == {-2, -1, 0, 1, 2}
    assert abs(jtc.random.bernoulli(0.2, (4000,)).numpy().mean() - 0.2) < 0.04
    y = F.dropout(np.ones(4000, np.float32), 0.25).numpy()
    assert abs((y == 0).mean() - 0.25) < 0.04 and np.allclose(y[y != 0], 1 / 0.75)
    same(F.dropout(first, 0.25, training=False), first.numpy())


def test_sigmoid_far_from_0():
    """Values underflow gradually, and gradients are those of y (1 - y): no infinity on the way."""
    x = np.array([-1000, -100, -80, 0, 80, 1000], np.float32)
    y = 1 / (1 + np.exp(np.minimum(-x.astype(np.float64), 700)))
    np.testing.assert_allclose(jtc.sigmoid(x).numpy(), y, rtol=1e-2, atol=1e-44)
    for function, wanted in ((jtc.sigmoid, y * (1 - y)), (F.silu, y * (1 + x * (1 - y)))):
        gradient = jtc.vmap(jtc.grad(function))(jtc.array(x))
        np.testing.assert_allclose(gradient.numpy(), wanted, rtol=1e-5, atol=1e-35)
