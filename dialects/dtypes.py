"""The element types, in one table: the name in the IR, the NumPy type, and what promotion and code generation ask."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class DType:
    """One element type.

    name    as in MLIR text: "f32", "i64", "ui8", "i1"
    public  as in the Array API: "float32", "int64", "uint8", "bool"
    kind    "bool" | "int" | "uint" | "float"
    bits    width of a value; a bool takes 8 bits in memory
    """

    name: str
    public: str
    kind: str
    bits: int

    @property
    def bytes(self) -> int:
        return max(1, self.bits // 8)

    @property
    def numpy(self) -> np.dtype:
        return _numpy_dtype(self.public)

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_half(self) -> bool:
        """Whether it is a float of 16 bits: a way to store numbers, which are computed in float32."""
        return self.kind == "float" and self.bits == 16

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    def __reduce__(self) -> tuple[Any, ...]:
        """There is one of each: what another process sends is the one of this process."""
        return dtype_of, (self.name,)

    def __str__(self) -> str:
        return self.public

    def __repr__(self) -> str:
        return f"jtc.{self.public}"


DTYPES: dict[str, DType] = {
    row.name: row
    for row in (
        DType("i1", "bool", "bool", 1),
        DType("i8", "int8", "int", 8),
        DType("i16", "int16", "int", 16),
        DType("i32", "int32", "int", 32),
        DType("i64", "int64", "int", 64),
        DType("ui8", "uint8", "uint", 8),
        DType("ui16", "uint16", "uint", 16),
        DType("ui32", "uint32", "uint", 32),
        DType("ui64", "uint64", "uint", 64),
        DType("f16", "float16", "float", 16),
        DType("bf16", "bfloat16", "float", 16),
        DType("f32", "float32", "float", 32),
        DType("f64", "float64", "float", 64),
    )
}
BOOL, I32, I64, F16, BF16, F32, F64 = (DTYPES[n] for n in ("i1", "i32", "i64", "f16", "bf16", "f32", "f64"))
_BY_PUBLIC = {d.public: d for d in DTYPES.values()}


def _numpy_dtype(public: str) -> np.dtype:
    if public == "bfloat16":
        import ml_dtypes
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(public)


def dtype_of(value: Any) -> DType:
    """The DType of a DType, an IR name, a public name, a NumPy dtype or scalar type, or a Python scalar type.

    Raises TypeError for anything that has none (str, object, complex...).
    """
    if isinstance(value, DType):
        return value
    if isinstance(value, str):
        found = DTYPES.get(value) or _BY_PUBLIC.get(value)
        if found:
            return found
    if value is bool or value is int or value is float:
        return {bool: BOOL, int: I64, float: F32}[value]
    try:
        return _BY_PUBLIC[np.dtype(value).name]
    except (KeyError, TypeError):
        pass
    known = ", ".join(d.public for d in DTYPES.values())
    raise TypeError(f"{value!r} is not a jtc element type\nhint: one of {known}")
