"""Normalisations: subtract a mean, divide by a deviation, scale and shift.  16-bit floats are computed in float32."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jtc.dialects.graph import Node, TensorType
from jtc.frontend.activations import float_node, with_number
from jtc.frontend.autocast import working
from jtc.frontend.manipulation import reshape_node
from jtc.frontend.operands import convert, normalize_shape, to_node
from jtc.frontend.reductions import back, centred, mean_node
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, record


def _scale_shift(y: Node, weight: Any, bias: Any, dims: tuple[int, ...], name: str) -> Node:
    """y * weight + bias, both of the sizes of `dims` in y; either may be None."""
    for fn, value in (("mul", weight), ("add", bias)):
        if value is not None:
            y = record(fn, [y, _along(value, y, dims, name)])
    return y


def _along(value: Any, y: Node, dims: tuple[int, ...], name: str) -> Node:
    """A vector (or block) laid along `dims` of y, repeated over the others."""
    node = convert(to_node(value), y.dtype)
    expected = tuple(y.shape[d] for d in dims)
    if node.shape != expected:
        raise input_error(f"{name}: a parameter has shape {node.shape}, expected {expected}")
    return node if node.shape == y.shape else record("broadcast", [node], {"dims": dims}, TensorType(y.dtype, y.shape))


def _normalise(node: Node, axes: tuple[int, ...], eps: float) -> Node:
    """(x - mean) / sqrt(variance + eps) over `axes`."""
    offset = centred(node, axes)
    variance = mean_node(record("mul", [offset, offset]), axes)
    factor = record("rsqrt", [with_number("add", variance, eps)])
    return record("mul", [offset, back(factor, node.shape, axes)])


def layer_norm(x: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None,
               eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimensions, whose sizes are `normalized_shape`.

    weight and bias have that shape, or are None.  Raises InputError where sizes do not fit.
    """
    (node, dtype), sizes = working(x), normalize_shape(normalized_shape)
    first = len(node.shape) - len(sizes)
    if not sizes or first < 0 or node.shape[first:] != sizes:
        raise input_error(f"layer_norm over {sizes} does not fit shape {node.shape}")
    axes = tuple(range(first, len(node.shape)))
    return Tensor.of(convert(_scale_shift(_normalise(node, axes, eps), weight, bias, axes, "layer_norm"), dtype))


def rms_norm(x: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x**2) + eps) * weight over the last dimensions, whose sizes are `normalized_shape`.

    weight has that shape, or is None; eps defaults to that of the dtype.  Raises InputError where sizes do not fit.
    """
    (node, dtype), sizes = working(x), normalize_shape(normalized_shape)
    first = len(node.shape) - len(sizes)
    if not sizes or first < 0 or node.shape[first:] != sizes:
        raise input_error(f"rms_norm over {sizes} does not fit shape {node.shape}")
    axes = tuple(range(first, len(node.shape)))
    small = float(np.finfo(node.dtype.numpy).eps) if eps is None else eps
    factor = record("rsqrt", [with_number("add", mean_node(record("mul", [node, node]), axes), small)])
    y = record("mul", [node, back(factor, node.shape, axes)])
    return Tensor.of(convert(_scale_shift(y, weight, None, axes, "rms_norm"), dtype))


def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over each of `num_groups` groups of channels of x [n, c, ...].

    weight and bias have shape [c], or are None.  Raises InputError where c is not divisible.
    """
    node, dtype = working(x)
    if len(node.shape) < 2 or num_groups < 1 or node.shape[1] % num_groups:
        raise input_error(f"group_norm in {num_groups} groups does not fit shape {node.shape}")
    grouped = (node.shape[0], num_groups, node.shape[1] // num_groups, *node.shape[2:])
    y = _normalise(reshape_node(node, grouped), tuple(range(2, len(grouped))), eps)
    return Tensor.of(convert(_scale_shift(reshape_node(y, node.shape), weight, bias, (1,), "group_norm"), dtype))


def instance_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over each channel of each sample of x [n, c, ...].

    weight and bias have shape [c], or are None.  Raises InputError for fewer than two dimensions.
    """
    shape = to_node(x).shape
    if len(shape) < 2:
        raise input_error(f"instance_norm needs at least two dimensions, got shape {shape}")
    return group_norm(x, shape[1], weight, bias, eps)


def batch_norm(x: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
               training: bool = False, momentum: Any = 0.1, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel of x [n, c, ...]; the others have shape [c].

    training=False uses the running statistics.  training=True uses those of the batch, and moves running statistics
    that are given towards them: running = (1 - momentum) * running + momentum * batch, with the unbiased variance, as
    PyTorch does.
    """
    node, dtype = working(x)[0], float_node(x).dtype
    if len(node.shape) < 2:
        raise input_error(f"batch_norm needs at least two dimensions, got shape {node.shape}")
    if training:
        axes = tuple(d for d in range(len(node.shape)) if d != 1)
        y = _normalise(node, axes, eps)
        _update_running(node, axes, running_mean, running_var, momentum)
    else:
        if running_mean is None or running_var is None:
            raise input_error("batch_norm needs running statistics unless training=True")
        mean = _along(running_mean, node, (1,), "batch_norm")
        deviation = record("rsqrt", [with_number("add", convert(to_node(running_var), node.dtype), eps)])
        y = record("mul", [record("sub", [node, mean]), _along(Tensor.of(deviation), node, (1,), "batch_norm")])
    return Tensor.of(convert(_scale_shift(y, weight, bias, (1,), "batch_norm"), dtype))


def _update_running(node: Node, axes: tuple[int, ...], mean: Any, var: Any, momentum: Any) -> None:
    count = node.type.size // max(1, node.shape[1])
    for target, name in ((mean, "mean"), (var, "var")):
        if target is None:
            continue
        if not isinstance(target, Tensor):
            raise input_error(f"running_{name} must be a tensor to be updated, got {type(target).__name__}")
        if name == "mean":
            fresh = mean_node(node, axes)
        else:
            offset = centred(node, axes)
            fresh = with_number("mul", mean_node(record("mul", [offset, offset]), axes), count / max(1, count - 1))
        old = Tensor.of(convert(target.node(), fresh.dtype))
        target.assign(old * (1 - momentum) + Tensor.of(fresh) * momentum)
