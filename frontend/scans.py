"""Running sums and products, linear recurrences: along one axis, every step is kept."""
from __future__ import annotations

from typing import Any

from jtc.dialects.dtypes import F32
from jtc.dialects.graph import Node
from jtc.dialects.optable import REDUCTIONS
from jtc.frontend.manipulation import axes_of
from jtc.frontend.meta import reindex_node
from jtc.frontend.operands import convert, match, normalize_axis, to_node
from jtc.frontend.reductions import accumulator
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, record


def _axis(name: str, node: Node, axis: int | None) -> int:
    if axis is None:
        if len(node.shape) != 1:
            raise input_error(f"{name} of shape {node.shape} needs an axis", "only one dimension needs none")
        return 0
    return normalize_axis(axis, len(node.shape))


def _stepped(op: str, args: list[Node], attrs: dict[str, Any]) -> Node:
    """The op, with narrow floats carried as float32 from step to step."""
    dtype = args[0].dtype
    inner = F32 if dtype.is_half else dtype
    return convert(record(op, [convert(a, inner) for a in args], attrs), dtype)


def _cumulative(name: str, fn: str, node: Node, axis: int | None, include_initial: bool) -> Tensor:
    a = _axis(name, node, axis)
    result = _stepped("scan", [node], {"fn": fn, "axis": a})
    if include_initial:
        forms, shape = axes_of(len(node.shape)), list(node.shape)
        forms[a], shape[a] = forms[a] - 1, shape[a] + 1
        result = reindex_node(result, tuple(shape), forms, REDUCTIONS[fn].identity(node.dtype))
    return Tensor.of(result)


def cumulative_sum(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """The sums of x[0], x[0] + x[1], ... along one axis (needed unless x has one dimension), in the shape of x.

    dtypes as for `sum`.  include_initial puts the sum of nothing, 0, in front: that axis is then longer by one.
    Raises InputError for an axis that x does not have.
    """
    node = to_node(x)
    return _cumulative("cumulative_sum", "add", convert(node, accumulator(node.dtype, dtype)), axis, include_initial)


def cumulative_prod(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """The products of x[0], x[0] * x[1], ...; arguments, dtypes and errors as for `cumulative_sum`."""
    node = to_node(x)
    return _cumulative("cumulative_prod", "mul", convert(node, accumulator(node.dtype, dtype)), axis, include_initial)


def cumulative_max(x: Any, /, *, axis: int | None = None) -> Tensor:
    """The largest of x[0], of x[0] and x[1], ... along an axis, in the shape and dtype of x; NaN from the first NaN on.

    The gradient of equal maxima is shared from step to step, as that of `maximum` is.
    """
    return _cumulative("cumulative_max", "max", to_node(x), axis, False)


def cumulative_min(x: Any, /, *, axis: int | None = None) -> Tensor:
    """The smallest of x[0], of x[0] and x[1], ...; see `cumulative_max`."""
    return _cumulative("cumulative_min", "min", to_node(x), axis, False)


def linear_recurrence(a: Any, b: Any, /, *, axis: int = 0, initial: Any = None, reverse: bool = False) -> Tensor:
    """h[t] = a[t] * h[t - 1] + b[t] along one axis: all h, in the shape and dtype that a and b have together.

    initial: h before the first step, in that shape without the axis; 0 where it is None.  reverse: from the end,
    h[t] = a[t] * h[t + 1] + b[t].  Discounted sums, moving averages and state space models with a diagonal matrix are
    of this form.  Raises InputError for bools, and for shapes that do not fit.
    """
    factors, terms = match([a, b])
    axis = normalize_axis(axis, len(terms.shape))
    back = axes_of(len(terms.shape))
    back[axis] = terms.shape[axis] - 1 - back[axis]
    if reverse:
        factors, terms = (reindex_node(n, n.shape, back) for n in (factors, terms))
    if initial is not None and terms.type.size:
        terms = _started(factors, terms, axis, to_node(initial))
    result = _stepped("recurrence", [factors, terms], {"axis": axis})
    return Tensor.of(reindex_node(result, result.shape, back) if reverse else result)


def _started(factors: Node, terms: Node, axis: int, initial: Node) -> Node:
    """The terms, with what `initial` adds to the first."""
    rest = terms.shape[:axis] + terms.shape[axis + 1:]
    if initial.shape != rest:
        raise input_error(f"linear_recurrence starts from shape {initial.shape}, its steps have shape {rest}")
    forms = axes_of(len(rest) + 1)
    narrow = terms.shape[:axis] + (1,) + terms.shape[axis + 1:]
    first = reindex_node(factors, narrow, forms)
    start = reindex_node(convert(initial, terms.dtype), narrow, forms[:axis] + forms[axis + 1:])
    return record("add", [terms, reindex_node(record("mul", [first, start]), terms.shape, forms)])


PUBLIC = ("cumulative_sum", "cumulative_prod", "cumulative_max", "cumulative_min", "linear_recurrence")
