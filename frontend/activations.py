"""Activations and softmax: elementwise functions, and reductions that are broadcast back."""
from __future__ import annotations

import math
from typing import Any

from jtc.dialects.graph import Node
from jtc.frontend.operands import convert, normalize_axes, to_node
from jtc.frontend.promotion import as_float
from jtc.frontend.reductions import back, reduce_node
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, record, splat


def float_node(x: Any) -> Node:
    """The operand as a float node; integers and bools become float32."""
    node = to_node(x)
    return convert(node, as_float(node.dtype))


def with_number(fn: str, node: Node, value: float) -> Node:
    """fn(node, value)."""
    return record(fn, [node, splat(value, node.dtype, node.shape)])


def relu(x: Any, /) -> Tensor:
    """max(x, 0)."""
    return Tensor.of(with_number("max", to_node(x), 0))


def relu6(x: Any, /) -> Tensor:
    """min(max(x, 0), 6)."""
    return Tensor.of(with_number("min", with_number("max", to_node(x), 0), 6))


def leaky_relu(x: Any, /, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, else negative_slope * x."""
    node = float_node(x)
    positive = with_number("gt", node, 0)
    return Tensor.of(record("where", [positive, node, with_number("mul", node, negative_slope)]))


def elu(x: Any, /, alpha: float = 1.0) -> Tensor:
    """x where it is positive, else alpha * (exp(x) - 1)."""
    node = float_node(x)
    negative = record("expm1", [with_number("min", node, 0)])
    return Tensor.of(record("where", [with_number("gt", node, 0), node, with_number("mul", negative, alpha)]))


def _sigmoid(node: Node) -> Node:
    """1 / (1 + exp(-x)); where exp overflows, 1 / inf is the right 0."""
    one = splat(1, node.dtype, node.shape)
    return record("div", [one, record("add", [one, record("exp", [record("neg", [node])])])])


def sigmoid(x: Any, /) -> Tensor:
    """1 / (1 + exp(-x))."""
    return Tensor.of(_sigmoid(float_node(x)))


def silu(x: Any, /) -> Tensor:
    """x * sigmoid(x)."""
    node = float_node(x)
    return Tensor.of(record("mul", [node, _sigmoid(node)]))


def softplus(x: Any, /, beta: float = 1.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta, without overflow."""
    node = float_node(x)
    scaled = with_number("mul", node, beta)
    small = record("log1p", [record("exp", [record("neg", [record("abs", [scaled])])])])
    return Tensor.of(with_number("mul", record("add", [with_number("max", scaled, 0), small]), 1 / beta))


def logsigmoid(x: Any, /) -> Tensor:
    """log(sigmoid(x)), without overflow."""
    return Tensor.of(record("neg", [softplus(Tensor.of(record("neg", [float_node(x)]))).node()]))


def mish(x: Any, /) -> Tensor:
    """x * tanh(softplus(x))."""
    node = float_node(x)
    return Tensor.of(record("mul", [node, record("tanh", [softplus(Tensor.of(node)).node()])]))


def hardsigmoid(x: Any, /) -> Tensor:
    """x / 6 + 1/2, limited to 0..1."""
    node = with_number("add", with_number("mul", float_node(x), 1 / 6), 0.5)
    return Tensor.of(with_number("min", with_number("max", node, 0), 1))


def hardswish(x: Any, /) -> Tensor:
    """x * hardsigmoid(x)."""
    node = float_node(x)
    return Tensor.of(record("mul", [node, hardsigmoid(Tensor.of(node)).node()]))


def tanh(x: Any, /) -> Tensor:
    """Hyperbolic tangent."""
    return Tensor.of(record("tanh", [float_node(x)]))


def gelu(x: Any, /, approximate: str = "none") -> Tensor:
    """x * Phi(x), Phi the normal distribution function; approximate="tanh" uses its approximation by tanh.

    Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
    """
    node = float_node(x)
    if approximate == "none":
        bell = record("erf", [with_number("mul", node, math.sqrt(0.5))])
    elif approximate == "tanh":
        cube = with_number("mul", record("mul", [node, record("mul", [node, node])]), 0.044715)
        bell = record("tanh", [with_number("mul", record("add", [node, cube]), math.sqrt(2 / math.pi))])
    else:
        raise input_error(f"gelu approximate={approximate!r}", 'it is "none" or "tanh"')
    half = with_number("mul", node, 0.5)
    return Tensor.of(record("mul", [half, with_number("add", bell, 1)]))


def shifted(node: Node, axes: tuple[int, ...]) -> Node:
    """The node minus its maximum over `axes`."""
    return record("sub", [node, back(reduce_node("max", node, axes), node.shape, axes)])


def softmax(x: Any, /, axis: Any = -1) -> Tensor:
    """exp(x) over its sum along `axis` (one, several, or None for all), without overflow."""
    node = float_node(x)
    axes = normalize_axes(axis, len(node.shape))
    powers = record("exp", [shifted(node, axes)])
    return Tensor.of(record("div", [powers, back(reduce_node("add", powers, axes), node.shape, axes)]))


def log_softmax(x: Any, /, axis: Any = -1) -> Tensor:
    """The logarithm of softmax(x)."""
    node = float_node(x)
    axes = normalize_axes(axis, len(node.shape))
    low = shifted(node, axes)
    total = record("log", [reduce_node("add", record("exp", [low]), axes)])
    return Tensor.of(record("sub", [low, back(total, node.shape, axes)]))


def glu(x: Any, /, axis: int = -1) -> Tensor:
    """a * sigmoid(b), a and b the two halves of x along `axis`."""
    from jtc.frontend.manipulation import split
    a, b = split(Tensor.of(float_node(x)), 2, axis=axis)
    return Tensor.of(record("mul", [a.node(), _sigmoid(b.node())]))


PUBLIC = ("relu", "relu6", "leaky_relu", "elu", "sigmoid", "silu", "softplus", "logsigmoid", "mish", "hardsigmoid",
          "hardswish",
          "tanh", "gelu", "softmax", "log_softmax", "glu")
