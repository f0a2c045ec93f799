"""The primitives of the workloads in NumPy, with their gradients: the float64 reference, and the peer `numpy`.

A Value remembers how it was computed where gradients are wanted; `gradients` walks back.  Plain formulas throughout:
this has to be right, not fast.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from jtc.tools.peers.workload import STEPS, Workload

EPS = 1e-5
Back = Callable[[np.ndarray], np.ndarray]           # gradient of a result -> gradient of one argument


class Value:
    """An array and, for gradients, what it was computed from: (argument, how its gradient follows) pairs."""

    __slots__ = ("data", "parents", "wanted")

    def __init__(self, data: np.ndarray, parents: Sequence[tuple[Value, Back]] = (), wanted: bool = False):
        self.data = data
        self.parents: list[tuple[Value, Back]] = [(v, back) for v, back in parents if v.wanted]
        self.wanted: bool = wanted or bool(self.parents)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def __add__(self, other: Any) -> Value:
        b = _value(other, self)
        return Value(self.data + b.data, [(self, _summed(self)), (b, _summed(b))])

    def __sub__(self, other: Any) -> Value:
        b = _value(other, self)
        return Value(self.data - b.data, [(self, _summed(self)), (b, lambda g: _summed(b)(-g))])

    def __mul__(self, other: Any) -> Value:
        b = _value(other, self)
        return Value(self.data * b.data, [(self, lambda g: _summed(self)(g * b.data)),
                                          (b, lambda g: _summed(b)(g * self.data))])


def _value(x: Any, like: Value) -> Value:
    return x if isinstance(x, Value) else Value(np.asarray(x, like.data.dtype))


def _summed(x: Value) -> Back:
    """The sum of a gradient over the axes along which `x` was repeated."""
    def back(g: np.ndarray) -> np.ndarray:
        g = g.sum(axis=tuple(range(g.ndim - x.data.ndim)))
        axes = tuple(d for d, n in enumerate(x.shape) if n == 1 and g.shape[d] != 1)
        return g.sum(axis=axes, keepdims=True) if axes else g
    return back


def gradients(loss: Value, wanted: Sequence[Value]) -> list[np.ndarray]:
    """Of a scalar with respect to values that it was computed from."""
    order: list[Value] = []
    seen: set[int] = set()
    stack: list[tuple[Value, bool]] = [(loss, False)]
    while stack:
        value, ready = stack.pop()
        if ready:
            order.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            stack.append((value, True))
            stack += [(v, False) for v, _ in value.parents]
    found: dict[int, np.ndarray] = {id(loss): np.ones_like(loss.data)}
    kept = {id(v) for v in wanted}
    for value in reversed(order):
        g = found[id(value)] if id(value) in kept else found.pop(id(value))
        for parent, back in value.parents:
            part = back(g)
            found[id(parent)] = found[id(parent)] + part if id(parent) in found else part
    return [found[id(v)] for v in wanted]


def _map(x: Value, data: np.ndarray, slope: Callable[[], np.ndarray]) -> Value:
    """An elementwise function: its values, and its derivative."""
    return Value(data, [(x, lambda g: g * slope())])


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[x.dtype])(x) if x.dtype == np.float64 else _erf_fast(x)


def _erf_fast(x: np.ndarray) -> np.ndarray:
    """1.2e-7 from erf (Abramowitz and Stegun 7.1.26 in float64 would be 1.5e-7; this is Numerical Recipes' erfc)."""
    t = 1 / (1 + 0.5 * np.abs(x))
    terms = (-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587,
             -0.82215223, 0.17087277)
    power = np.zeros_like(x)
    for c in reversed(terms):
        power = power * t + c
    tail = t * np.exp(-x * x + power)
    return np.where(x >= 0, 1 - tail, tail - 1)


class F:
    """See `Workload`; arrays are in the layouts of PyTorch."""

    @staticmethod
    def matmul(a: Value, b: Value) -> Value:
        return Value(a.data @ b.data, [(a, lambda g: g @ b.data.swapaxes(-1, -2)),
                                       (b, lambda g: a.data.swapaxes(-1, -2) @ g)])

    @staticmethod
    def linear(x: Value, w: Value, b: Value) -> Value:
        inner, outer = w.shape[1], w.shape[0]
        return Value(x.data @ w.data.T + b.data, [
            (x, lambda g: g @ w.data), (b, _summed(b)),
            (w, lambda g: g.reshape(-1, outer).T @ x.data.reshape(-1, inner))])

    @staticmethod
    def reshape(x: Value, shape: Sequence[int]) -> Value:
        return Value(x.data.reshape(shape), [(x, lambda g: g.reshape(x.shape))])

    @staticmethod
    def transpose(x: Value, axes: Sequence[int]) -> Value:
        return Value(x.data.transpose(axes), [(x, lambda g: g.transpose(np.argsort(axes)))])

    @staticmethod
    def index0(x: Value, i: int) -> Value:
        def back(g: np.ndarray) -> np.ndarray:
            full = np.zeros_like(x.data)
            full[i] = g
            return full
        return Value(x.data[i], [(x, back)])

    @staticmethod
    def relu(x: Value) -> Value:
        return _map(x, np.maximum(x.data, 0), lambda: (x.data > 0).astype(x.data.dtype))

    @staticmethod
    def leaky_relu(x: Value, slope: float) -> Value:
        factor = np.where(x.data > 0, 1, slope).astype(x.data.dtype)
        return _map(x, x.data * factor, lambda: factor)

    @staticmethod
    def sigmoid(x: Value) -> Value:
        y = 1 / (1 + np.exp(-x.data))
        return _map(x, y, lambda: y * (1 - y))

    @staticmethod
    def tanh(x: Value) -> Value:
        y = np.tanh(x.data)
        return _map(x, y, lambda: 1 - y * y)

    @staticmethod
    def sqrt(x: Value) -> Value:
        y = np.sqrt(x.data)
        return _map(x, y, lambda: 0.5 / y)

    @staticmethod
    def abs(x: Value) -> Value:
        return _map(x, np.abs(x.data), lambda: np.sign(x.data))

    @staticmethod
    def minimum(x: Value, bound: float) -> Value:
        kind = x.data.dtype
        return _map(x, np.minimum(x.data, kind.type(bound)), lambda: (x.data < bound).astype(kind))

    @staticmethod
    def gelu(x: Value) -> Value:
        half = 0.5 * (1 + _erf(x.data * np.asarray(2**-0.5, x.data.dtype)))
        return _map(x, x.data * half, lambda: half + x.data * np.exp(-0.5 * x.data**2) / math.sqrt(2 * math.pi))

    @staticmethod
    def gelu_tanh(x: Value) -> Value:
        scale = x.data.dtype.type(math.sqrt(2 / math.pi))
        t = np.tanh(scale * (x.data + x.data.dtype.type(0.044715) * x.data**3))
        return _map(x, 0.5 * x.data * (1 + t),
                    lambda: 0.5 * (1 + t) + 0.5 * x.data * (1 - t * t) * scale * (1 + 3 * 0.044715 * x.data**2))

    @staticmethod
    def softmax(x: Value) -> Value:
        e = np.exp(x.data - x.data.max(-1, keepdims=True))
        y = e / e.sum(-1, keepdims=True)
        return Value(y, [(x, lambda g: y * (g - (g * y).sum(-1, keepdims=True)))])

    @staticmethod
    def sum(x: Value, axis: int | None) -> Value:
        def back(g: np.ndarray) -> np.ndarray:
            return np.broadcast_to(g if axis is None else np.expand_dims(g, axis), x.shape)
        return Value(np.asarray(x.data.sum(axis)), [(x, back)])

    @staticmethod
    def mean_square(x: Value) -> Value:
        return Value(np.asarray((x.data**2).mean()), [(x, lambda g: g * (2 / x.data.size) * x.data)])

    @staticmethod
    def _normalised(x: Value, axes: tuple[int, ...], g: Value, b: Value, shape: tuple[int, ...]) -> Value:
        """(x - mean) / deviation * g + b, with the mean and deviation over `axes`; shape: of g and b beside x."""
        centred = x.data - x.data.mean(axes, keepdims=True)
        scale = 1 / np.sqrt((centred**2).mean(axes, keepdims=True) + EPS)
        y, gain = centred * scale, g.data.reshape(shape)
        others = tuple(d for d in range(x.data.ndim) if shape[d] == 1)

        def back(grad: np.ndarray) -> np.ndarray:
            d = grad * gain
            return scale * (d - d.mean(axes, keepdims=True) - y * (d * y).mean(axes, keepdims=True))
        return Value(y * gain + b.data.reshape(shape), [
            (x, back), (g, lambda grad: (grad * y).sum(others).reshape(g.shape)),
            (b, lambda grad: grad.sum(others).reshape(b.shape))])

    @staticmethod
    def layernorm(x: Value, g: Value, b: Value) -> Value:
        return F._normalised(x, (-1,), g, b, (1,) * (x.data.ndim - 1) + g.shape)

    @staticmethod
    def batchnorm_train(x: Value, g: Value, b: Value) -> Value:
        return F._normalised(x, (0, 2, 3), g, b, (1, g.shape[0], 1, 1))

    @staticmethod
    def batchnorm_infer(x: Value, g: Value, b: Value, mean: Value, var: Value) -> Value:
        """Forward only."""
        scale = g.data / np.sqrt(var.data + EPS)
        return Value(x.data * scale[:, None, None] + (b.data - mean.data * scale)[:, None, None])

    @staticmethod
    def conv2d(x: Value, w: Value, stride: int = 1, padding: int = 0, groups: int = 1) -> Value:
        y = _correlate(x.data, w.data, stride, padding, groups)
        return Value(y, [(x, lambda g: _spread(g, w.data, x.shape, stride, padding, groups)),
                         (w, lambda g: _weights(x.data, g, w.shape, stride, padding, groups))])

    @staticmethod
    def conv_transpose2d(x: Value, w: Value, stride: int, padding: int) -> Value:
        n, _, *sides = x.shape
        shape = (n, w.shape[1], *((side - 1) * stride - 2 * padding + w.shape[2] for side in sides))
        y = _spread(x.data, w.data, shape, stride, padding, 1)
        return Value(y, [(x, lambda g: _correlate(g, w.data, stride, padding, 1)),
                         (w, lambda g: _weights(g, x.data, w.shape, stride, padding, 1))])

    @staticmethod
    def maxpool(x: Value, window: int, stride: int, padding: int) -> Value:
        padded = np.pad(x.data, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2), constant_values=-np.inf)
        y = sliding_window_view(padded, (window, window), (2, 3))[:, :, ::stride, ::stride].max((4, 5))

        def back(g: np.ndarray) -> np.ndarray:
            """To the first of equal values in the window."""
            full, left = np.zeros_like(padded), np.ones(g.shape, bool)
            for i in range(window):
                for j in range(window):
                    place = _place(i, j, y.shape, stride)
                    hit = left & (padded[place] == y)
                    full[place] += g * hit
                    left &= ~hit
            return full[:, :, padding:padding + x.shape[2], padding:padding + x.shape[3]]
        return Value(y, [(x, back)])

    @staticmethod
    def global_avgpool(x: Value) -> Value:
        size = x.shape[2] * x.shape[3]
        return Value(x.data.mean((2, 3)), [(x, lambda g: np.broadcast_to(g[:, :, None, None] / size, x.shape))])

    @staticmethod
    def attention(q: Value, k: Value, v: Value, causal: bool) -> Value:
        last = len(k.shape) - 1
        scores = F.matmul(q * q.shape[-1]**-0.5, F.transpose(k, (*range(last - 1), last, last - 1)))
        if causal:
            scores = scores + np.triu(np.full(scores.shape[-2:], -1e30, scores.data.dtype), 1)
        return F.matmul(F.softmax(scores), v)

    @staticmethod
    def cross_entropy(logits: Value, labels: Value) -> Value:
        shifted = logits.data - logits.data.max(-1, keepdims=True)
        p = np.exp(shifted)
        p /= p.sum(-1, keepdims=True)
        rows = np.arange(len(p)), labels.data

        def back(g: np.ndarray) -> np.ndarray:
            d = p.copy()
            d[rows] -= 1
            return g * d / len(p)
        return Value(np.asarray(-np.log(p[rows]).mean()), [(logits, back)])


def _place(i: int, j: int, shape: Sequence[int], stride: int) -> tuple[slice, ...]:
    """Where in a padded image the point (i, j) of each window lies."""
    return (..., slice(i, i + stride * shape[-2], stride), slice(j, j + stride * shape[-1], stride))   # type: ignore


def _pad(x: np.ndarray, padding: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2)) if padding else x


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """[n, c, h, w] as [n, groups, c / groups, h * w]."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)


def _correlate(x: np.ndarray, w: np.ndarray, stride: int, padding: int, groups: int) -> np.ndarray:
    """A convolution as one product for each point of the window."""
    padded, window = _pad(x, padding), w.shape[2]
    sides = [(n - window) // stride + 1 for n in padded.shape[2:]]
    parts = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    y = np.zeros((x.shape[0], groups, parts.shape[1], sides[0] * sides[1]), x.dtype)
    for i in range(window):
        for j in range(window):
            y += parts[..., i, j] @ _grouped(padded[_place(i, j, sides, stride)], groups)
    return y.reshape(x.shape[0], w.shape[0], *sides)


def _spread(g: np.ndarray, w: np.ndarray, shape: Sequence[int], stride: int, padding: int, groups: int) -> np.ndarray:
    """The gradient of a convolution's image, which is a transposed convolution."""
    n, channels, *sides = shape
    full = np.zeros((n, channels, *(side + 2 * padding for side in sides)), g.dtype)
    parts = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    grad = _grouped(g, groups)
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            full[_place(i, j, g.shape, stride)] += (parts[..., i, j].swapaxes(1, 2) @ grad).reshape(
                n, channels, *g.shape[2:])
    return full[:, :, padding:padding + sides[0], padding:padding + sides[1]]


def _weights(x: np.ndarray, g: np.ndarray, shape: Sequence[int], stride: int, padding: int, groups: int) -> np.ndarray:
    """The gradient of a convolution's weights."""
    padded, grad = _pad(x, padding), _grouped(g, groups)
    d = np.zeros((groups, shape[0] // groups, *shape[1:]), g.dtype)
    for i in range(shape[2]):
        for j in range(shape[3]):
            part = _grouped(padded[_place(i, j, g.shape, stride)], groups)
            d[..., i, j] = (grad @ part.swapaxes(2, 3)).sum(0)
    return d.reshape(shape)


def values(w: Workload, dtype: Any) -> dict[str, Value]:
    """The inputs of a workload, integers as they are."""
    trained = {name for _, names in w.phases for name in names}
    return {name: Value(a.astype(dtype) if a.dtype.kind == "f" else a, wanted=name in trained)
            for name, a in w.inputs().items()}


def stepper(w: Workload, dtype: Any) -> Callable[[], list[float]]:
    """A function that does one training step and returns the losses."""
    tensors = values(w, dtype)
    speed = {name: np.zeros_like(tensors[name].data) for _, names in w.phases for name in names}

    def step() -> list[float]:
        known, losses = dict(tensors), []
        for objective, names in w.phases:
            loss, later = objective(F, known)
            for name, g in zip(names, gradients(loss, [known[n] for n in names])):
                speed[name] = w.momentum * speed[name] + g
                tensors[name] = known[name] = Value((known[name].data - w.lr * speed[name]).astype(dtype), wanted=True)
            known |= {name: Value(value.data) for name, value in later.items()}
            losses.append(float(loss.data))
        return losses
    return step


def reference(w: Workload) -> list[np.ndarray]:
    """What a workload computes, in float64; of training, the losses of the first steps: [steps, phases]."""
    if w.training:
        step = stepper(w, np.float64)
        return [np.array([step() for _ in range(STEPS)])]
    assert w.fwd is not None                    # a workload is one or the other
    return [out.data for out in w.fwd(F, values(w, np.float64))]
