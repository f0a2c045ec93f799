"""Type promotion: the table of the Array API standard, widened where it leaves a gap, and weak Python numbers.

* Two tensors: within a kind the wider type; an integer or bool with a float gives the float; a bool with a number
  gives the number; uint64 with a signed integer has no common type and is an error.
* A Python or NumPy *scalar* is weak: it takes the tensor's dtype, unless its kind is higher (a float with an integer
  tensor gives float32, an integer with a bool tensor int64).
* True division and float functions of integers and bools give float32, the default float type.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from jtc.dialects.dtypes import BOOL, DTYPES, F32, I64, DType
from jtc.frontend.trace import input_error

DEFAULT_FLOAT, DEFAULT_INT = F32, I64
_RANK = {"bool": 0, "uint": 1, "int": 1, "float": 2}


def is_scalar(value: object) -> bool:
    """Whether `value` is a weak number: a Python bool, int or float, or a NumPy scalar."""
    return isinstance(value, (bool, int, float)) or isinstance(value, (np.bool_, np.integer, np.floating))


def scalar_kind(value: object) -> str:
    """"bool", "int" or "float"."""
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    return "int" if isinstance(value, (int, np.integer)) else "float"


@cache
def _pair(a: DType, b: DType) -> DType | None:
    if a is b:
        return a
    if _RANK[a.kind] != _RANK[b.kind]:
        return a if _RANK[a.kind] > _RANK[b.kind] else b
    if a.kind == b.kind:
        if a.bits != b.bits:
            return a if a.bits > b.bits else b
        return F32                                   # float16 with bfloat16
    signed, unsigned = (a, b) if a.kind == "int" else (b, a)
    bits = max(signed.bits, unsigned.bits * 2)
    return DTYPES[f"i{bits}"] if bits <= 64 else None


def promote(dtypes: Sequence[DType]) -> DType:
    """The common dtype of tensors.  Raises InputError where there is none."""
    result = dtypes[0]
    for other in dtypes[1:]:
        common = _pair(result, other)
        if common is None:
            raise input_error(f"no common dtype of {result.public} and {other.public}",
                              "convert one of them with astype")
        result = common
    return result


def with_scalar(dtype: DType, value: object) -> DType:
    """The dtype in which a tensor of `dtype` meets a weak scalar.  Raises InputError where an integer does not fit."""
    kind = scalar_kind(value)
    if kind == "float" and not dtype.is_float:
        return DEFAULT_FLOAT
    if kind == "int" and dtype is BOOL:
        return DEFAULT_INT
    if kind == "int" and dtype.is_integer:
        check_range(value, dtype)
    return dtype


def check_range(value: object, dtype: DType) -> None:
    info = np.iinfo(dtype.numpy)
    if not info.min <= int(value) <= info.max:       # type: ignore[call-overload]
        raise input_error(f"{value} does not fit into {dtype.public} ({info.min} to {info.max})",
                          "use a wider dtype: x.astype(jtc.int64)" if dtype.bits < 64 else None)


def scalar_dtype(value: object) -> DType:
    """The dtype that a weak scalar has where no tensor stands beside it."""
    return {"bool": BOOL, "int": DEFAULT_INT, "float": DEFAULT_FLOAT}[scalar_kind(value)]


def as_float(dtype: DType) -> DType:
    return dtype if dtype.is_float else DEFAULT_FLOAT
