"""Reductions over one, several or all axes.  axis: None (all), an integer or a tuple; keepdims: keep them, as 1."""
from __future__ import annotations

import builtins
from typing import Any

from jtc.dialects.dtypes import BOOL, DTYPES, I64, DType
from jtc.dialects.gradients import STOP
from jtc.dialects.graph import Node, TensorType
from jtc.frontend.autocast import full, working
from jtc.frontend.elementwise import _truth
from jtc.frontend.operands import convert, normalize_axes, normalize_axis, to_node
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, public_dtype, record, splat


def reduce_node(fn: str, node: Node, axes: tuple[int, ...], keepdims: bool = False) -> Node:
    """Combine over `axes`."""
    result = record("reduce", [node], {"fn": fn, "axes": axes}) if axes else node
    return _keep(result, node.shape, axes) if keepdims else result


def _keep(result: Node, shape: tuple[int, ...], axes: tuple[int, ...]) -> Node:
    kept = tuple(1 if d in axes else n for d, n in enumerate(shape))
    return result if kept == result.shape else record("reshape", [result], {}, TensorType(result.dtype, kept))


def back(node: Node, shape: tuple[int, ...], axes: tuple[int, ...]) -> Node:
    """A reduced node (without its axes) repeated over them again."""
    rest = tuple(d for d in range(len(shape)) if d not in axes)
    return node if node.shape == shape else record("broadcast", [node], {"dims": rest}, TensorType(node.dtype, shape))


def accumulator(dtype: DType, wanted: Any) -> DType:
    """Sums of bools and narrow integers are int64, as in the Array API; floats stay."""
    if wanted is not None:
        return public_dtype(wanted)
    if dtype is BOOL or dtype.kind == "int":
        return I64
    if dtype.kind == "uint":
        return DTYPES["ui64"]
    return dtype


def sum(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis`: None for all, an integer, or a tuple; keepdims keeps those dimensions, with size 1.

    Floats keep their dtype; bools and integers are added as int64, unsigned ones as uint64; `dtype` says otherwise.
    The sum of nothing is 0.  Raises InputError for an axis that x does not have.
    """
    return _fold("add", x, axis, dtype, keepdims)


def prod(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The product; arguments, dtypes and errors as for `sum`.  The product of nothing is 1."""
    return _fold("mul", x, axis, dtype, keepdims)


def _fold(fn: str, x: Any, axis: Any, dtype: Any, keepdims: bool) -> Tensor:
    node = full(to_node(x))
    node = convert(node, accumulator(node.dtype, dtype))
    return Tensor.of(reduce_node(fn, node, normalize_axes(axis, len(node.shape)), keepdims))


def _extreme(fn: str, x: Any, axis: Any, keepdims: bool) -> Tensor:
    node = to_node(x)
    axes = normalize_axes(axis, len(node.shape))
    if builtins.any(node.shape[a] == 0 for a in axes):
        raise input_error(f"{fn} of an empty axis: shape {node.shape}, axis {axis}")
    return Tensor.of(reduce_node(fn, node, axes, keepdims))


def max(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The largest element over `axis`, in the dtype of x; NaN where one is NaN.  axis and keepdims as for `sum`.

    Raises InputError over an empty axis.
    """
    return _extreme("max", x, axis, keepdims)


def min(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The smallest element over `axis`, in the dtype of x; NaN where one is NaN.  axis and keepdims as for `sum`.

    Raises InputError over an empty axis.
    """
    return _extreme("min", x, axis, keepdims)


def all(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over `axis` are true (not zero): bools.  axis and keepdims as for `sum`."""
    node = _truth(to_node(x))
    return Tensor.of(reduce_node("and", node, normalize_axes(axis, len(node.shape)), keepdims))


def any(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether some element over `axis` is true (not zero): bools.  axis and keepdims as for `sum`."""
    node = _truth(to_node(x))
    return Tensor.of(reduce_node("or", node, normalize_axes(axis, len(node.shape)), keepdims))


def argmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """int64 index of the first largest element along `axis` (one), or in row-major order of all where it is None.

    A NaN counts as the largest.  Raises InputError over an empty axis.
    """
    return _arg("max", x, axis, keepdims)


def argmin(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """int64 index of the first smallest element along `axis` (one), or in row-major order of all where it is None.

    A NaN counts as the smallest.  Raises InputError over an empty axis.
    """
    return _arg("min", x, axis, keepdims)


def _arg(fn: str, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    node = to_node(x)
    shape = node.shape
    axes = tuple(range(len(shape))) if axis is None else (normalize_axis(axis, len(shape)),)
    if axis is None:
        node = record("reshape", [node], {}, TensorType(node.dtype, (node.type.size,)))
    result = record("arg_reduce", [node], {"fn": fn, "axis": axes[0] if axis is not None else 0})
    return Tensor.of(_keep(result, shape, axes) if keepdims else result)


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    total = 1
    for a in axes:
        total *= shape[a]
    return total


def mean_node(node: Node, axes: tuple[int, ...]) -> Node:
    """The mean over `axes` of a float node: the sum times 1 / count."""
    count = _count(node.shape, axes)
    total = reduce_node("add", node, axes)
    factor = 1 / count if count else float("nan")
    return record("mul", [total, splat(factor, node.dtype, total.shape)])


def mean(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean over `axis`; axis and keepdims as for `sum`.  NaN over an empty axis.

    Floats keep their dtype, integers and bools become float32.  Raises InputError for a dtype that is no float.
    """
    node, found = working(x)
    wanted = found if dtype is None else public_dtype(dtype)
    if not wanted.is_float:
        raise input_error(f"mean is a float, not {wanted.public}")
    axes = normalize_axes(axis, len(node.shape))
    result = convert(mean_node(node if wanted.is_half else convert(node, wanted), axes), wanted)
    return Tensor.of(_keep(result, node.shape, axes) if keepdims else result)


def centred(node: Node, axes: tuple[int, ...]) -> Node:
    """The node minus its mean over `axes`."""
    return record("sub", [node, back(mean_node(node, axes), node.shape, axes)])


def var(x: Any, /, *, axis: Any = None, correction: int | float = 0, keepdims: bool = False) -> Tensor:
    """The variance over `axis`: the sum of (x - mean)**2 by count - correction.  axis and keepdims as for `sum`.

    correction 1 gives the unbiased estimate.  Integers and bools become float32.  NaN where count <= correction.
    """
    node, dtype = working(x)
    axes = normalize_axes(axis, len(node.shape))
    offset = centred(node, axes)
    total = reduce_node("add", record("mul", [offset, offset]), axes)
    count = _count(node.shape, axes) - correction
    factor = splat(1 / count if count > 0 else float("nan"), node.dtype, total.shape)
    result = convert(record("mul", [total, factor]), dtype)
    return Tensor.of(_keep(result, node.shape, axes) if keepdims else result)


def std(x: Any, /, *, axis: Any = None, correction: int | float = 0, keepdims: bool = False) -> Tensor:
    """The standard deviation: the square root of `var`, with its arguments."""
    return Tensor.of(record("sqrt", [var(x, axis=axis, correction=correction, keepdims=keepdims).node()]))


def logsumexp(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow; -inf over an empty axis.  axis and keepdims as for `sum`.

    Integers and bools become float32.
    """
    node, dtype = working(x)
    axes = normalize_axes(axis, len(node.shape))
    high = reduce_node("max", node, axes)
    finite = record("lt", [record("abs", [high]), splat(float("inf"), high.dtype, high.shape)])
    shift = record("where", [finite, high, splat(0, high.dtype, high.shape)])    # inf - inf would be NaN
    shift.data = STOP                                    # the result does not depend on it
    terms = record("exp", [record("sub", [node, back(shift, node.shape, axes)])])
    result = convert(record("add", [record("log", [reduce_node("add", terms, axes)]), shift]), dtype)
    return Tensor.of(_keep(result, node.shape, axes) if keepdims else result)


def count_nonzero(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """int64 number of elements over `axis` that are not zero.  axis and keepdims as for `sum`."""
    return sum(Tensor.of(_truth(to_node(x))), axis=axis, keepdims=keepdims)


PUBLIC = ("sum", "prod", "max", "min", "all", "any", "argmax", "argmin", "mean", "var", "std", "logsumexp",
          "count_nonzero")
