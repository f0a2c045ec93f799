"""`reindex` and `reindex_reduce`: the meta-operators a user writes index functions for."""
from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jtc.dialects.affine import Affine
from jtc.dialects.errors import JtcError
from jtc.dialects.graph import TensorType
from jtc.dialects.optable import REDUCTIONS
from jtc.frontend.operands import normalize_shape, to_node
from jtc.frontend.promotion import check_range, is_scalar
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, record, shown

_NOT_AFFINE = "an index is a sum of axes times integers plus an integer, such as 2*i + p - 1"


class Index:
    """What an index function receives for an axis: it can be added, subtracted and multiplied with integers."""

    __slots__ = ("form",)

    def __init__(self, form: Affine):
        self.form = form

    def __add__(self, other: Any) -> Index:
        return Index(self.form + _form(other, "+"))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Index:
        return Index(self.form - _form(other, "-"))

    def __rsub__(self, other: Any) -> Index:
        return Index(_form(other, "-") - self.form)

    def __neg__(self) -> Index:
        return Index(-self.form)

    def __pos__(self) -> Index:
        return self

    def __mul__(self, other: Any) -> Index:
        if isinstance(other, Index):
            raise input_error(f"index ({self.form}) * ({other.form}) is not affine", _NOT_AFFINE)
        return Index(self.form * _form(other, "*"))               # type: ignore[operator]

    __rmul__ = __mul__

    def __abs__(self) -> Any:
        self._refuse(f"abs({self.form})")

    def _refuse(self, operation: str, hint: str = _NOT_AFFINE) -> Any:
        raise input_error(f"index {operation} is not affine", hint)

    def __floordiv__(self, other: Any) -> Any:
        self._refuse(f"({self.form}) // {other}",
                     "split the axis instead: give the shape one axis for the quotient and one for the remainder")

    def __mod__(self, other: Any) -> Any:
        self._refuse(f"({self.form}) % {other}",
                     "split the axis instead: give the shape one axis for the quotient and one for the remainder")

    def __truediv__(self, other: Any) -> Any:
        self._refuse(f"({self.form}) / {shown(other)}")

    def __pow__(self, other: Any) -> Any:
        self._refuse(f"({self.form}) ** {shown(other)}")

    def _shift(self, other: Any) -> Any:
        self._refuse(f"({self.form}) with a shift or a bit operation", "multiply with an integer")

    def _divides(self, other: Any) -> Any:
        self._refuse(f"{shown(other)} divided by ({self.form})")

    __lshift__ = __rshift__ = __and__ = __or__ = __xor__ = _shift
    __rlshift__ = __rrshift__ = __rand__ = __ror__ = __rxor__ = _shift
    __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = _divides

    def _compare(self, other: Any) -> Any:
        raise input_error(f"index ({self.form}) cannot be compared: its value is not known here",
                          "read out of range to get `fill`, or choose with jtc.where afterwards")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _compare

    def __bool__(self) -> bool:
        return self._compare(0)

    def __int__(self) -> int:
        return self._compare(0)

    __index__ = __float__ = __int__

    def __hash__(self) -> int:
        return hash(self.form)


def _form(value: Any, operation: str) -> Affine | int:
    if isinstance(value, Index):
        return value.form
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Tensor):
        raise input_error(f"index {operation} a tensor is not affine",
                          "for indices that depend on data use jtc.gather or jtc.take")
    raise input_error(f"index {operation} {shown(value, 40)} is not affine: {type(value).__name__} is not an integer",
                      _NOT_AFFINE)


def index_map(name: str, function: Callable[..., Any], shape: Sequence[int], results: int) -> tuple[Affine, ...]:
    """The affine map of a Python index function over the axes of `shape`, with `results` forms.  Raises InputError."""
    domain = len(shape)
    if not callable(function):
        raise input_error(f"{name} needs an index function, got {shown(function)}", "for example lambda i, j: (j, i)")
    try:
        inspect.signature(function).bind(*range(domain))
    except TypeError:
        count = len(inspect.signature(function).parameters)
        raise input_error(f"{name}: the index function takes {count} indices, but there are {domain} axes to index",
                          f"write lambda {', '.join(f'i{d}' for d in range(domain))}: (...)") from None
    except ValueError:
        pass                                                   # a builtin without a signature: the call below decides
    try:
        value = function(*(Index(Affine.axis(f"d{d}")) for d in range(domain)))
    except JtcError:
        raise
    except Exception as error:
        raise input_error(f"{name}: the index function failed: {type(error).__name__}: {error}", _NOT_AFFINE) from error
    if value is None:
        raise input_error(f"{name}: the index function returns None", "return the indices: (i, j)")
    forms = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(forms) != results:
        raise input_error(f"{name}: the index function gives {len(forms)} indices for {results} dimensions")
    found = tuple(Affine.of(_form(f, "of")) for f in forms)
    sizes = {f"d{d}": n for d, n in enumerate(shape)}
    for form in found if all(shape) else ():
        if max(map(abs, form.range(sizes))) >= 1 << 62:
            raise input_error(f"{name}: the index {shown(form)} leaves the range of 64-bit integers")
    return found


def _number(name: str, fill: Any) -> Any:
    if not is_scalar(fill):
        raise input_error(f"{name} fill must be a number, got {shown(fill)}")
    return fill.item() if isinstance(fill, np.generic) else fill


def reindex(x: Any, shape: Sequence[int], index: Callable[..., Any], fill: Any = 0) -> Tensor:
    """y[i, j, ...] = x[index(i, j, ...)], a tensor of `shape`; `fill` where the index lies outside of x.

    `index` gets one symbolic index for each axis of `shape` and returns one affine index for each dimension of x.
    Raises InputError for an index function of the wrong arity, for one that is not affine, for a negative size.
    """
    node, dims = to_node(x), normalize_shape(shape)
    forms = index_map("reindex", index, dims, len(node.shape))
    return Tensor.of(reindex_node(node, dims, forms, fill))


def reindex_node(node: Any, shape: tuple[int, ...], forms: Sequence[Affine], fill: Any = 0) -> Any:
    """The "reindex" node of given affine forms over the axes d0, d1, ... of `shape`."""
    fill = _number("reindex", fill)
    kind = node.dtype.kind
    if kind in ("int", "uint") and isinstance(fill, float):
        if not fill.is_integer():
            raise input_error(f"fill {fill} does not fit into {node.dtype.public}")
    if node.dtype.is_integer:
        check_range(fill, node.dtype)
    fill = {"bool": bool, "float": float}.get(kind, int)(fill)
    return record("reindex", [node], {"map": tuple(forms), "fill": fill}, TensorType(node.dtype, shape))


def reindex_reduce(x: Any, fn: str, shape: Sequence[int], index: Callable[..., Any]) -> Tensor:
    """y[index(i, j, ...)] = fn(y[...], x[i, j, ...]) over all elements of x, starting from fn's identity.

    fn is "add", "mul", "max", "min", "and" or "or"; `index` gets one symbolic index for each axis of x and returns
    one affine index for each dimension of `shape`.  Writes outside of y are dropped.  Raises InputError as `reindex`
    does.
    """
    node, dims = to_node(x), normalize_shape(shape)
    if fn not in REDUCTIONS:
        raise input_error(f"unknown reduction {shown(fn)}", f"one of {', '.join(REDUCTIONS)}")
    forms = index_map("reindex_reduce", index, node.shape, len(dims))
    return Tensor.of(record("reindex_reduce", [node], {"fn": fn, "map": forms}, TensorType(node.dtype, dims)))


PUBLIC = ("reindex", "reindex_reduce")
