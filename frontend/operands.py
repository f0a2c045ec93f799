"""From what a user passes (tensors, arrays, lists, numbers) to nodes of one dtype and one shape."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jtc.dialects.dtypes import DType
from jtc.dialects.graph import Node, TensorType, is_splat
from jtc.frontend.promotion import is_scalar, promote, scalar_dtype, with_scalar
from jtc.frontend.tensor import Tensor, is_tensor_like, leaf
from jtc.frontend.trace import array_type, current_tracer, input_error, record, shown, splat


def array_node(array: np.ndarray) -> Node:
    """An array as a constant of the trace, or outside of `jit` as a leaf that holds a copy."""
    type = array_type(array)
    if array.ndim == 0:
        return splat(array[()], type.dtype)
    tracer = current_tracer()
    if tracer is not None:
        return tracer.weights(array, type)
    return leaf(array).node()


def to_node(value: Any) -> Node:
    """The node of a tensor, array, scalar or nested list.  Raises InputError for anything else."""
    if isinstance(value, Tensor):
        return value.node()
    if is_scalar(value):
        return splat(value, scalar_dtype(value))
    if isinstance(value, np.ndarray):
        return array_node(value)
    if isinstance(value, (list, tuple)) or is_tensor_like(value):
        from jtc.frontend.creation import asarray
        return asarray(value).node()
    raise input_error(f"expected a tensor, an array or a number, got {type(value).__name__}: {shown(value)}")


def convert(node: Node, dtype: DType) -> Node:
    """The node in another dtype."""
    if node.dtype is dtype:
        return node
    if is_splat(node) and not (dtype.is_integer and node.dtype.is_float):
        return splat(node.attrs["value"], dtype, node.shape)
    return record("cast", [node], {}, TensorType(dtype, node.shape))


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The common shape under NumPy's rules.  Raises InputError."""
    if not shapes:
        return ()
    if all(s == shapes[0] for s in shapes):
        return tuple(shapes[0])
    rank = max(map(len, shapes))
    out = [1] * rank
    for shape in shapes:
        for d, n in enumerate(shape, rank - len(shape)):
            if n != 1 and out[d] != 1 and n != out[d]:
                given = " and ".join(str(tuple(s)) for s in shapes)
                raise input_error(f"shapes {given} do not broadcast: {out[d]} against {n}")
            if n != 1:
                out[d] = n
    return tuple(out)


def expand(node: Node, shape: tuple[int, ...]) -> Node:
    """The node repeated to `shape`, its dimensions aligned on the right."""
    if node.shape == shape:
        return node
    if is_splat(node):
        return splat(node.attrs["value"], node.dtype, shape)
    offset = len(shape) - len(node.shape)
    if offset < 0:
        raise input_error(f"cannot broadcast shape {node.shape} to {shape}: it has more dimensions")
    return record("broadcast", [node], {"dims": tuple(range(offset, len(shape)))}, TensorType(node.dtype, shape))


def common_dtype(values: Sequence[Any]) -> DType:
    """The dtype in which operands meet; scalars are weak."""
    strong = [v.dtype if isinstance(v, (Node, Tensor)) else to_node(v).dtype for v in values if not is_scalar(v)]
    if not strong:
        return promote([scalar_dtype(v) for v in values])
    dtype = promote(strong)
    for v in values:
        if is_scalar(v):
            dtype = with_scalar(dtype, v)
    return dtype


def match(values: Sequence[Any], rule: Callable[[DType], DType] = lambda dtype: dtype) -> list[Node]:
    """Operands as nodes of one shape and one dtype, which is `rule` of their common dtype."""
    given = [None if is_scalar(v) else to_node(v) for v in values]
    dtype = rule(common_dtype([v if n is None else n for v, n in zip(values, given)]))
    shape = broadcast_shapes(*(n.shape for n in given if n is not None))
    return [splat(v, dtype, shape) if n is None else expand(convert(n, dtype), shape) for v, n in zip(values, given)]


def normalize_axis(axis: Any, rank: int, name: str = "axis") -> int:
    """0 <= axis < rank.  Raises InputError."""
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise input_error(f"{name} must be an integer, got {shown(axis)}")
    if not -rank <= axis < rank:
        raise input_error(f"{name} {axis} is out of range for {rank} dimension{'s' * (rank != 1)}")
    return int(axis) % rank


def normalize_axes(axes: Any, rank: int) -> tuple[int, ...]:
    """None means all axes.  Raises InputError for one out of range or named twice."""
    if axes is None:
        return tuple(range(rank))
    found = tuple(normalize_axis(a, rank) for a in (axes if isinstance(axes, (tuple, list)) else (axes,)))
    if len(set(found)) != len(found):
        raise input_error(f"axis {axes} names an axis twice")
    return found


def normalize_shape(shape: Any) -> tuple[int, ...]:
    """An int or a sequence of ints as a shape.  Raises InputError for a negative or non-integer size."""
    if isinstance(shape, (int, np.integer)):
        shape = (shape,)
    if not isinstance(shape, (tuple, list)):
        hint = "write tuple(...) of its elements" if is_tensor_like(shape) else None
        raise input_error(f"a shape is an integer or a tuple of integers, got {shown(shape)}", hint)
    for n in shape:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
            raise input_error(f"a shape holds integers, got {shown(n)} in {shown(tuple(shape), 80)}")
        if n < 0:
            raise input_error(f"negative dimension {n} in shape {tuple(shape)}")
    return tuple(map(int, shape))


def pair(value: Any, count: int, name: str) -> tuple[int, ...]:
    """One integer for all of `count` dimensions, or one for each.  Raises InputError."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return (int(value),) * count
    numbers = isinstance(value, (tuple, list)) and all(isinstance(v, (int, np.integer)) for v in value)
    if numbers and len(value) == count:
        return tuple(map(int, value))
    raise input_error(f"{name} is an integer or {count} integers, got {shown(value)}")


def need_integer(value: Any, name: str, least: int | None = None) -> int:
    """The value as an int.  Raises InputError for anything but an integer, also for a bool, and for less than least."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or least is not None and value < least:
        hint = f"write {int(value)}" if isinstance(value, float) and value.is_integer() else None
        raise input_error(f"{name} is an integer{'' if least is None else f' of at least {least}'}, got {shown(value)}",
                          hint)
    return int(value)
