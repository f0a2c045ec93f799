"""Activations and softmax: elementwise functions, and reductions that are broadcast back."""
from __future__ import annotations

import math
from typing import Any

from jtc.dialects.gradients import (
    FIRST_IF_NOT_ABOVE,
    FIRST_IF_RESULT_POSITIVE,
    FIRST_IF_STRICTLY_ABOVE,
    FIRST_IF_STRICTLY_BELOW,
    STOP,
    Rule,
)
from jtc.dialects.graph import Node
from jtc.frontend.autocast import full, working
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


def _limited(fn: str, node: Node, limit: float, rule: Rule) -> Node:
    """fn(node, limit) with a gradient rule of its own for where the two are equal."""
    result = with_number(fn, node, limit)
    result.data = rule
    return result


def relu(x: Any, /) -> Tensor:
    """max(x, 0), with gradient 0 at 0."""
    return Tensor.of(_limited("max", to_node(x), 0, FIRST_IF_RESULT_POSITIVE))


def relu6(x: Any, /) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(x, 0, 6)


def leaky_relu(x: Any, /, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, else negative_slope * x."""
    node = float_node(x)
    positive = with_number("gt", node, 0)
    return Tensor.of(record("where", [positive, node, with_number("mul", node, negative_slope)]))


def elu(x: Any, /, alpha: float = 1.0) -> Tensor:
    """x where it is positive, else alpha * (exp(x) - 1)."""
    node = float_node(x)
    negative = record("expm1", [_limited("min", node, 0, FIRST_IF_NOT_ABOVE)])
    return Tensor.of(record("where", [with_number("gt", node, 0), node, with_number("mul", negative, alpha)]))


def selu(x: Any, /) -> Tensor:
    """scale * elu(x, alpha), which keeps mean 0 and variance 1.

    Source of the constants: Klambauer et al., "Self-normalizing neural networks", 2017.
    """
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return Tensor.of(with_number("mul", elu(x, alpha).node(), scale))


def hardtanh(x: Any, /, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x limited to min_val..max_val, with gradient 0 at both."""
    node = _limited("max", to_node(x), min_val, FIRST_IF_STRICTLY_ABOVE)
    return Tensor.of(_limited("min", node, max_val, FIRST_IF_STRICTLY_BELOW))


def softsign(x: Any, /) -> Tensor:
    """x / (1 + |x|)."""
    node = float_node(x)
    return Tensor.of(record("div", [node, with_number("add", record("abs", [node]), 1)]))


def prelu(x: Any, weight: Any, /) -> Tensor:
    """x where it is positive, else weight * x; weight is one number, or one for each channel of x [n, c, ...]."""
    from jtc.frontend.manipulation import reshape_node
    node = float_node(x)
    slope = convert(to_node(weight), node.dtype)
    if slope.type.size != 1:
        if len(node.shape) < 2 or slope.shape != (node.shape[1],):
            raise input_error(f"prelu weight of shape {slope.shape} does not fit shape {node.shape}")
        slope = reshape_node(slope, (slope.shape[0], *(1 for _ in node.shape[2:])))
    else:
        slope = reshape_node(slope, ())
    low = (Tensor.of(slope) * Tensor.of(node)).node()
    return Tensor.of(record("where", [with_number("gt", node, 0), node, low]))


def sigmoid(x: Any, /) -> Tensor:
    """1 / (1 + exp(-x))."""
    return Tensor.of(record("sigmoid", [float_node(x)]))


def silu(x: Any, /) -> Tensor:
    """x * sigmoid(x)."""
    node = float_node(x)
    return Tensor.of(record("mul", [node, record("sigmoid", [node])]))


def softplus(x: Any, /, beta: float = 1.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta, without overflow."""
    node = full(float_node(x))
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
    return hardtanh(Tensor.of(node), 0, 1)


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
    """The node minus its maximum over `axes`, in functions that do not depend on what is subtracted."""
    high = reduce_node("max", node, axes)
    if high is not node:
        high.data = STOP
    return record("sub", [node, back(high, node.shape, axes)])


def softmax(x: Any, /, axis: Any = -1) -> Tensor:
    """exp(x) over its sum along `axis` (one, several, or None for all), without overflow."""
    node, dtype = working(x)
    axes = normalize_axes(axis, len(node.shape))
    powers = record("exp", [shifted(node, axes)])
    total = back(reduce_node("add", powers, axes), node.shape, axes)
    return Tensor.of(convert(record("div", [powers, total]), dtype))


def log_softmax(x: Any, /, axis: Any = -1) -> Tensor:
    """The logarithm of softmax(x)."""
    node, dtype = working(x)
    axes = normalize_axes(axis, len(node.shape))
    low = shifted(node, axes)
    total = record("log", [reduce_node("add", record("exp", [low]), axes)])
    return Tensor.of(convert(record("sub", [low, back(total, node.shape, axes)]), dtype))


def glu(x: Any, /, axis: int = -1) -> Tensor:
    """a * sigmoid(b), a and b the two halves of x along `axis`."""
    from jtc.frontend.manipulation import split
    a, b = split(Tensor.of(float_node(x)), 2, axis=axis)
    return Tensor.of(record("mul", [a.node(), record("sigmoid", [b.node()])]))
