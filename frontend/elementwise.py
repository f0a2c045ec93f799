"""Functions of single elements, under their Array API names, generated from the op table.

Every function takes tensors, arrays and numbers, broadcasts them as NumPy does and returns a tensor.  FUNCTIONS says
for each public name which scalar function of the op table it is, and under which rule its operands are converted:

| rule    | operands |
|---|---|
| promote | to their common dtype |
| float   | to their common dtype, integers and bools to float32 |
| bool    | to bool (non-zero is true) |
| round   | as `promote`; integers and bools are returned as they are |
| test    | as `promote`; false for integers and bools |
"""
from __future__ import annotations

import builtins
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from jtc.dialects.dtypes import BOOL, DType
from jtc.dialects.gradients import FIRST_IF_NOT_ABOVE, FIRST_IF_NOT_BELOW
from jtc.dialects.graph import Node
from jtc.dialects.optable import SCALAR_FUNCTIONS
from jtc.frontend.autocast import FULL, full
from jtc.frontend.operands import broadcast_shapes, common_dtype, convert, expand, match, to_node
from jtc.frontend.promotion import as_float, is_scalar, promote
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, public_dtype, record, shown, splat

_NAMED: dict[str, tuple[str, str]] = {
    "add": ("add", "promote"), "subtract": ("sub", "promote"), "multiply": ("mul", "promote"),
    "divide": ("div", "float"),
    "floor_divide": ("floordiv", "promote"), "remainder": ("mod", "promote"), "atan2": ("atan2", "float"),
    "maximum": ("max", "promote"), "minimum": ("min", "promote"),
    "equal": ("eq", "promote"), "not_equal": ("ne", "promote"), "less": ("lt", "promote"),
    "less_equal": ("le", "promote"),
    "greater": ("gt", "promote"), "greater_equal": ("ge", "promote"),
    "bitwise_and": ("and", "promote"), "bitwise_or": ("or", "promote"), "bitwise_xor": ("xor", "promote"),
    "bitwise_left_shift": ("shl", "promote"), "bitwise_right_shift": ("shr", "promote"),
    "bitwise_invert": ("not", "promote"),
    "logical_and": ("and", "bool"), "logical_or": ("or", "bool"), "logical_xor": ("xor", "bool"),
    "logical_not": ("not", "bool"),
    "negative": ("neg", "promote"), "abs": ("abs", "promote"), "sign": ("sign", "promote"),
    "floor": ("floor", "round"), "ceil": ("ceil", "round"), "trunc": ("trunc", "round"), "round": ("round", "round"),
    "isnan": ("isnan", "test"), "isinf": ("isinf", "test"),
}
# Float functions of one argument (exp, sqrt...) go by their name in the op table.
FUNCTIONS = _NAMED | {name: (name, "float") for name, row in SCALAR_FUNCTIONS.items()
                      if row.arity == 1 and row.kinds == {"float"} and name not in _NAMED}


def _operands(rule: str, values: tuple[Any, ...]) -> list[Node]:
    if rule == "bool":
        return [_truth(n) for n in match(values)]
    return match(values, as_float) if rule == "float" else match(values)


def _truth(node: Node) -> Node:
    """Whether each element is not zero."""
    return node if node.dtype is BOOL else record("ne", [node, splat(0, node.dtype, node.shape)])


def apply(fn: str, rule: str, *values: Any) -> Tensor:
    """The scalar function `fn` of the op table on operands converted under `rule`."""
    nodes = _operands(rule, values)
    if fn in FULL:
        nodes = [full(n) for n in nodes]
    if rule in ("round", "test") and not nodes[0].dtype.is_float:
        return Tensor.of(nodes[0] if rule == "round" else splat(False, BOOL, nodes[0].shape))
    return Tensor.of(record(fn, nodes))


def _make(name: str, fn: str, rule: str) -> Callable[..., Tensor]:
    row = SCALAR_FUNCTIONS[fn]
    if row.arity == 1:
        def function(x: Any, /) -> Tensor:
            return apply(fn, rule, x)
    else:
        def function(x1: Any, x2: Any, /) -> Tensor:       # type: ignore[misc]
            return apply(fn, rule, x1, x2)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = _document(fn, rule)
    return function


def _document(fn: str, rule: str) -> str:
    """The docstring of a function, from its row in the op table: what it computes, shapes, dtypes, errors."""
    row = SCALAR_FUNCTIONS[fn]
    one = row.arity == 1
    names = {"a": "x"} if one else {"a": "x1", "b": "x2"}
    doc = re.sub(r"\b[ab]\b", lambda name: names.get(name[0], name[0]), row.doc)
    takes = "any shape" if one else "any shapes, broadcast against each other"
    gives = "bools" if "bool" in (row.result, rule) else "the dtype of x" if one else "the common dtype"
    effect = {"float": "  Integers and bools become float32.",
              "bool": "  Operands become bools first: what is not zero is true.",
              "round": "  Integers and bools are returned as they are.",
              "test": "  False for integers and bools."}.get(rule, "")
    refused = [f"{kind}s" for kind in ("bool", "float") if rule == "promote" and kind not in row.kinds]
    refused += [] if one else ["shapes that do not fit"]
    raises = f"  Raises InputError for {', and for '.join(refused)}." if refused else ""
    return f"Elementwise: {doc}.\n\n    Takes {takes}; gives {gives}.{effect}{raises}\n    "


globals().update({name: _make(name, *row) for name, row in FUNCTIONS.items()})
if TYPE_CHECKING:
    def __getattr__(name: str) -> Callable[..., Tensor]: ...           # of FUNCTIONS


def pow(x1: Any, x2: Any, /) -> Tensor:
    """Elementwise x1 to the power x2.

    A small Python integer as exponent is a chain of products, also for integer tensors (negative exponents only for
    floats); integer tensors with any other integer exponent raise InputError.
    """
    if is_scalar(x2) and not isinstance(x2, (bool, np.bool_)) and float(x2) == _whole(x2) and builtins.abs(x2) <= 16:
        dtype = common_dtype([x1, x2])
        base = convert(to_node(x1), dtype)
        if dtype.is_float or x2 >= 0:
            return _power(Tensor.of(base), int(x2))
    if not is_scalar(x2) or not is_scalar(x1):
        dtype = common_dtype([x1, x2])
        if not dtype.is_float:
            raise input_error(f"pow of {dtype.public} with exponent {shown(x2)} is not an integer in general",
                              "convert one operand with astype(jtc.float32)")
    return apply("pow", "float", x1, x2)


def _whole(value: Any) -> float:
    """The value rounded towards zero; NaN for infinities and NaN, which equals nothing."""
    return math.trunc(value) if math.isfinite(value) else math.nan


def _power(x: Tensor, n: int) -> Tensor:
    """x to the n by repeated squaring."""
    if n < 0:
        return apply("div", "float", 1.0, _power(x, -n))
    result: Tensor | None = None
    while n:
        if n & 1:
            result = x if result is None else apply("mul", "promote", result, x)
        n >>= 1
        if n:
            x = apply("mul", "promote", x, x)
    return Tensor.of(splat(1, x.dtype, x.shape)) if result is None else result


def where(condition: Any, x1: Any, x2: Any, /) -> Tensor:
    """x1 where `condition` (bool, or a number that is not zero) holds, else x2.

    All three are broadcast against each other; the result has the common dtype of x1 and x2.  Raises InputError for
    shapes that do not fit.
    """
    test = _truth(to_node(condition))
    a, b = match([x1, x2])
    shape = broadcast_shapes(test.shape, a.shape)
    return Tensor.of(record("where", [expand(test, shape), expand(a, shape), expand(b, shape)]))


def astype(x: Any, dtype: Any, /, *, copy: bool = True) -> Tensor:
    """x with elements converted to `dtype`: floats to integers towards zero, anything to bool by `!= 0`.

    Of the shape of x.  Integers wrap; a float that the integer type cannot hold becomes its smallest.  Raises
    InputError for what is no dtype.
    """
    node, to = to_node(x), public_dtype(dtype)
    if node.dtype is to and isinstance(x, Tensor):
        return x
    return Tensor.of(_truth(node) if to is BOOL else convert(node, to))


def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:
    """x limited to `min` .. `max`, numbers or tensors, in the dtype of x; either may be None.

    All are broadcast against each other.  Raises InputError for shapes that do not fit.
    """
    node = to_node(x)
    for fn, limit, rule in (("max", min, FIRST_IF_NOT_BELOW), ("min", max, FIRST_IF_NOT_ABOVE)):
        if limit is not None:
            node, bound = match([Tensor.of(node), limit])
            node = record(fn, [node, bound])
            node.data = rule                             # the limits themselves are inside
    return Tensor.of(node)


def square(x: Any, /) -> Tensor:
    """x * x."""
    node = to_node(x)
    return Tensor.of(record("mul", [node, node]))


def reciprocal(x: Any, /) -> Tensor:
    """1 / x.  Integers and bools become float32."""
    return apply("div", "float", 1, x)


def positive(x: Any, /) -> Tensor:
    """x itself."""
    return Tensor.of(to_node(x))


def isfinite(x: Any, /) -> Tensor:
    """Whether each element is neither an infinity nor NaN."""
    node = to_node(x)
    if not node.dtype.is_float:
        return Tensor.of(splat(True, BOOL, node.shape))
    return Tensor.of(record("lt", [record("abs", [node]), splat(math.inf, node.dtype, node.shape)]))


def logaddexp(x1: Any, x2: Any, /) -> Tensor:
    """log(exp(x1) + exp(x2)), without overflow; operands as for `add`.  Integers and bools become float32."""
    a, b = _operands("float", (x1, x2))
    high, gap = record("max", [a, b]), record("neg", [record("abs", [record("sub", [a, b])])])
    total = record("add", [high, record("log1p", [record("exp", [gap])])])
    same = record("eq", [a, b])                      # equal infinities have no difference
    return Tensor.of(record("where", [same, record("add", [a, splat(math.log(2), a.dtype, a.shape)]), total]))


def hypot(x1: Any, x2: Any, /) -> Tensor:
    """sqrt(x1**2 + x2**2), without overflow; operands as for `add`.  Integers and bools become float32."""
    a, b = (record("abs", [n]) for n in _operands("float", (x1, x2)))
    high, low = record("max", [a, b]), record("min", [a, b])
    one = splat(1, a.dtype, a.shape)
    ratio = record("div", [low, record("where", [record("eq", [high, splat(0, a.dtype, a.shape)]), one, high])])
    length = record("mul", [high, record("sqrt", [record("add", [record("mul", [ratio, ratio]), one])])])
    infinite = record("or", [record("isinf", [a]), record("isinf", [b])])      # also beside NaN
    return Tensor.of(record("where", [infinite, splat(math.inf, a.dtype, a.shape), length]))


def result_type(*values: Any) -> DType:
    """The dtype in which tensors, arrays, dtypes and weak numbers meet."""
    dtypes = [v for v in values if isinstance(v, DType)]
    rest = [v for v in values if not isinstance(v, DType)]
    return promote(dtypes + ([common_dtype(rest)] if rest else []))


PUBLIC = (*FUNCTIONS, "pow", "where", "astype", "clip", "square", "reciprocal", "positive", "isfinite", "logaddexp",
          "hypot", "result_type")
