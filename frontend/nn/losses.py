"""Losses.

reduction: "mean" or "sum" of the losses, a tensor without dimensions, or "none" for one of their shape.  Integers,
bools and 16-bit floats become float32.  Raises InputError for shapes that do not fit and an unknown reduction.
"""
from __future__ import annotations

from typing import Any

from jtc.dialects.dtypes import I64
from jtc.dialects.graph import Node, TensorType
from jtc.frontend.activations import log_softmax, softplus, with_number
from jtc.frontend.autocast import working
from jtc.frontend.elementwise import maximum
from jtc.frontend.indexing import take, take_along_axis
from jtc.frontend.manipulation import reshape_node
from jtc.frontend.operands import broadcast_shapes, convert, expand, match, to_node
from jtc.frontend.reductions import mean_node, reduce_node
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, public_dtype, record, splat
from jtc.frontend.transforms import custom_grad


def _wide(x: Any) -> Node:
    """The operand as a float node of at least 32 bits."""
    return working(x)[0]


def _reduced(node: Node, reduction: str) -> Tensor:
    if reduction == "none":
        return Tensor.of(node)
    if reduction not in ("mean", "sum"):
        raise input_error(f"unknown reduction {reduction!r}", "one of mean, sum, none")
    axes = tuple(range(len(node.shape)))
    return Tensor.of(mean_node(node, axes) if reduction == "mean" else reduce_node("add", node, axes))


def nll_loss(log_probabilities: Any, target: Any, weight: Any = None, ignore_index: int = -100,
             reduction: str = "mean") -> Tensor:
    """-log_probabilities[i, target[i]] of [n, classes, ...] and integer classes [n, ...].

    Targets equal to ignore_index count nothing; `weight` [classes] weighs the classes, and the mean is over the
    weights.
    """
    node, index = _wide(log_probabilities), to_node(target)
    if not node.shape:
        raise input_error("nll_loss needs at least one dimension, that of the classes")
    if not index.dtype.is_integer:
        raise input_error(f"nll_loss takes class numbers as integers, got {index.dtype.public}")
    axis = 1 if len(node.shape) > 1 else 0
    expected = node.shape[:axis] + node.shape[axis + 1:]
    if index.shape != expected:
        raise input_error(f"nll_loss of shape {node.shape} needs targets of shape {expected}, got {index.shape}")
    index = convert(index, I64)
    ignored = record("eq", [index, splat(ignore_index, I64, index.shape)])
    zero = splat(0, I64, index.shape)
    safe = record("where", [ignored, zero, index])
    column = reshape_node(safe, expected[:axis] + (1,) + expected[axis:])
    picked = take_along_axis(Tensor.of(node), Tensor.of(column), axis=axis).node()
    loss = record("neg", [reshape_node(picked, expected)])
    nothing = splat(0, node.dtype, expected)
    one = splat(1, node.dtype, expected)
    if weight is not None:
        one = convert(take(weight, Tensor.of(safe), axis=0).node(), node.dtype)
        loss = record("mul", [loss, one])
    loss = record("where", [ignored, nothing, loss])
    if reduction != "mean":
        return _reduced(loss, reduction)
    axes = tuple(range(len(expected)))
    count = reduce_node("add", record("where", [ignored, nothing, one]), axes)
    return Tensor.of(record("div", [reduce_node("add", loss, axes), count]))


def cross_entropy(logits: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """-log(softmax(logits)) at the target class: logits [n, classes, ...], integer targets [n, ...].

    Float targets of the shape of the logits are probabilities of the classes.
    """
    node, goal = _wide(logits), to_node(target)
    axis = 1 if len(node.shape) > 1 else 0
    scores = log_softmax(Tensor.of(node), axis=axis)
    if goal.dtype.is_float:
        if goal.shape != node.shape:
            raise input_error(f"cross_entropy of shape {node.shape} with probabilities of shape {goal.shape}")
        if weight is not None:
            raise input_error("cross_entropy with class weights takes class numbers, not probabilities")
        classes = node.shape[axis]
        chances = convert(goal, node.dtype)
        if label_smoothing:
            chances = with_number("mul", chances, 1 - label_smoothing)
            chances = with_number("add", chances, label_smoothing / classes)
        loss = record("neg", [reduce_node("add", record("mul", [scores.node(), chances]), (axis,))])
        return _reduced(loss, reduction)
    exact = nll_loss(scores, target, weight, ignore_index, reduction)
    if not label_smoothing:
        return exact
    if weight is not None or reduction == "none":
        raise input_error("label_smoothing goes with reduction mean or sum and no class weights",
                          "pass probabilities as targets")
    used = record("ne", [convert(goal, I64), splat(ignore_index, I64, goal.shape)])
    spread = record("neg", [mean_node(scores.node(), (axis,))])
    spread = record("where", [used, spread, splat(0, node.dtype, spread.shape)])
    axes = tuple(range(len(spread.shape)))
    smooth = reduce_node("add", spread, axes)
    if reduction == "mean":
        smooth = record("div", [smooth, reduce_node("add", convert(used, node.dtype), axes)])
    return Tensor.of(record("add", [with_number("mul", exact.node(), 1 - label_smoothing),
                                    with_number("mul", smooth, label_smoothing)]))


def _pairwise(x: Any, target: Any, name: str) -> tuple[Node, Node]:
    a, b = match([Tensor.of(_wide(x)), Tensor.of(_wide(target))])
    if broadcast_shapes(to_node(x).shape, to_node(target).shape) != to_node(x).shape:
        raise input_error(f"{name} of shapes {to_node(x).shape} and {to_node(target).shape}")
    return a, b


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """The mean ("sum": sum, "none": all) of (x - target)**2; target is broadcast to the shape of x."""
    a, b = _pairwise(x, target, "mse_loss")
    gap = record("sub", [a, b])
    return _reduced(record("mul", [gap, gap]), reduction)


def l1_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """The mean ("sum": sum, "none": all) of |x - target|; target is broadcast to the shape of x."""
    a, b = _pairwise(x, target, "l1_loss")
    return _reduced(record("abs", [record("sub", [a, b])]), reduction)


def smooth_l1_loss(x: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """0.5 * (x - target)**2 / beta where |x - target| < beta, else |x - target| - 0.5 * beta."""
    if beta < 0:
        raise input_error(f"smooth_l1_loss with beta {beta}", "beta is not negative")
    if beta == 0:
        return l1_loss(x, target, reduction)
    return _reduced(with_number("mul", _huber(x, target, beta, "smooth_l1_loss"), 1 / beta), reduction)


def huber_loss(x: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """0.5 * (x - target)**2 where |x - target| < delta, else delta * (|x - target| - 0.5 * delta)."""
    if delta <= 0:
        raise input_error(f"huber_loss with delta {delta}", "delta is positive")
    return _reduced(_huber(x, target, delta, "huber_loss"), reduction)


def _huber(x: Any, target: Any, delta: float, name: str) -> Node:
    """m * (|gap| - 0.5 * m) with m = min(|gap|, delta): both cases without a branch."""
    a, b = _pairwise(x, target, name)
    gap = record("abs", [record("sub", [a, b])])
    small = with_number("min", gap, delta)
    return record("mul", [small, record("sub", [gap, with_number("mul", small, 0.5)])])


def binary_cross_entropy(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """-(t * log(x) + (1 - t) * log(1 - x)) of probabilities x; logarithms are at least -100, as in PyTorch."""
    a, b = _pairwise(x, target, "binary_cross_entropy")
    return _reduced(_cross_entropy_of_two(Tensor.of(a), Tensor.of(b)).node(), reduction)


@custom_grad
def _cross_entropy_of_two(x: Tensor, t: Tensor) -> Any:
    """The limits of the logarithms would make the gradient 0 / 0 where x is 0 or 1: there x * (1 - x) is limited."""
    yes, no = (Tensor.of(with_number("max", n, -100)) for n in
               (record("log", [x.node()]), record("log1p", [record("neg", [x.node()])])))

    def backward(g: Tensor) -> tuple[Tensor, Tensor]:
        return g * (x - t) / maximum(x * (1 - x), 1e-12), g * (no - yes)

    return -(t * yes + (1 - t) * no), backward


def binary_cross_entropy_with_logits(x: Any, target: Any, weight: Any = None, reduction: str = "mean",
                                     pos_weight: Any = None) -> Tensor:
    """-(w * t * log(sigmoid(x)) + (1 - t) * log(1 - sigmoid(x))), w = pos_weight or 1; times `weight`."""
    a, b = _pairwise(x, target, "binary_cross_entropy_with_logits")
    if pos_weight is None:
        loss = record("sub", [softplus(Tensor.of(a)).node(), record("mul", [a, b])])
    else:
        # (1 - t) * x + (1 + (w - 1) * t) * softplus(-x)
        weigh = expand(convert(to_node(pos_weight), a.dtype), a.shape)
        rest = record("sub", [splat(1, b.dtype, b.shape), b])
        factor = with_number("add", record("mul", [with_number("sub", weigh, 1), b]), 1)
        low = softplus(Tensor.of(record("neg", [a]))).node()
        loss = record("add", [record("mul", [rest, a]), record("mul", [factor, low])])
    if weight is not None:
        loss = record("mul", [loss, expand(convert(to_node(weight), a.dtype), a.shape)])
    return _reduced(loss, reduction)


def kl_div(x: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target * (log(target) - x), 0 where target is 0: x holds logarithms, target too if `log_target`.

    reduction "batchmean" divides the sum by the first size, which is the divergence in mathematics.
    """
    a, b = _pairwise(x, target, "kl_div")
    if log_target:
        loss = record("mul", [record("exp", [b]), record("sub", [b, a])])
    else:
        zero = splat(0, b.dtype, b.shape)
        positive = record("gt", [b, zero])
        # The logarithm is of a positive number in both branches, so that its gradient has no nan.
        entropy = record("mul", [b, record("log", [record("where", [positive, b, splat(1, b.dtype, b.shape)])])])
        loss = record("sub", [record("where", [positive, entropy, zero]), record("mul", [b, a])])
    if reduction != "batchmean":
        return _reduced(loss, reduction)
    return Tensor.of(with_number("mul", _reduced(loss, "sum").node(), 1 / max(1, loss.shape[0])))


def one_hot(x: Any, num_classes: int, dtype: Any = None) -> Tensor:
    """y[..., c] = 1 where x[...] == c, else 0: integers [...] -> [..., num_classes]; int64 unless dtype is given."""
    index = convert(to_node(x), I64)
    shape = (*index.shape, num_classes)
    classes = record("iota", [], {"axis": len(shape) - 1}, TensorType(I64, shape))
    wide = record("broadcast", [index], {"dims": tuple(range(len(index.shape)))}, TensorType(I64, shape))
    return Tensor.of(convert(record("eq", [wide, classes]), I64 if dtype is None else public_dtype(dtype)))
