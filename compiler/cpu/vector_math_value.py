"""Values with operators: lets the expansions read like the formulas they come from, while MLIR text is written.

A `Value` is one SSA value, a scalar or a vector of `lanes` elements.  `a * b + 1.0` appends `arith` ops to the builder;
a Python number becomes a shared constant of the other operand's type.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from jtc.compiler.cpu.builder import Builder
from jtc.dialects.dtypes import DTYPES

_PREDICATES = {"lt": ("olt", "slt"), "le": ("ole", "sle"), "gt": ("ogt", "sgt"), "ge": ("oge", "sge"),
               "eq": ("oeq", "eq"), "ne": ("une", "ne")}


# Registers of the types that are not MLIR's own: unsigned integers, and 16-bit floats as their bits.
_REGISTERS = {d.name: f"i{d.bits}" for d in DTYPES.values() if d.kind == "uint" or d.is_half}
_INFINITY = {32: 0x7F800000, 64: 0x7FF << 52}


def type_name(element: str, lanes: int | None) -> str:
    """MLIR type of a scalar (lanes None) or vector in registers: "f32", "vector<16xf32>"; "i16" for bf16."""
    element = _REGISTERS.get(element, element)
    return element if lanes is None else f"vector<{lanes}x{element}>"


def literal(value: bool | int | float, element: str) -> str:
    """A number as MLIR writes it for this element type; floats as the bits of the nearest value, so nothing is lost."""
    if element == "i1":
        return "true" if value else "false"
    if element in ("f16", "bf16"):
        with np.errstate(over="ignore"):
            return str(np.asarray(value).astype(DTYPES[element].numpy).view(np.int16).item())
    if element[0] in "iu":
        bits = DTYPES[element].bits
        value = int(value) & ((1 << bits) - 1)
        return str(value - (1 << bits) if value >> (bits - 1) else value)
    if element == "f32":
        try:
            return f"0x{struct.unpack('<I', struct.pack('<f', value))[0]:08X}"
        except OverflowError:
            return "0x7F800000" if value > 0 else "0xFF800000"
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """`element` is the IR's name of the element type: "f32", "ui8", "i1"...; 16-bit floats are only converted."""

    builder: Builder
    name: str
    element: str
    lanes: int | None

    # -------------------------------------------------------------------------------------------- plumbing
    @property
    def type(self) -> str:
        return type_name(self.element, self.lanes)

    @property
    def is_float(self) -> bool:
        """Whether arithmetic on it is that of floats."""
        return self.element in ("f32", "f64")

    @property
    def is_unsigned(self) -> bool:
        return self.element[0] == "u"

    @property
    def is_number(self) -> bool:
        """Whether it is a float constant other than NaN."""
        text = self.builder.literals.get(self.name, "").removeprefix("dense<").removesuffix(">")
        if not self.is_float or not text.startswith("0x"):
            return False
        magnitude = int(text, 16) & (1 << self.bits - 1) - 1
        return magnitude <= _INFINITY[self.bits]

    @property
    def bits(self) -> int:
        return DTYPES[self.element].bits

    @property
    def integer(self) -> str:
        """The integer type of the same width."""
        return "i" + self.element[1:]

    def _new(self, text: str, element: str | None = None) -> Value:
        return Value(self.builder, self.builder.op(text), element or self.element, self.lanes)

    def const(self, number: bool | int | float, element: str | None = None) -> Value:
        """The number in every lane, in this value's element type or the one named."""
        element = element or self.element
        text = literal(number, element)
        name = self.builder.constant(text if self.lanes is None else f"dense<{text}>", type_name(element, self.lanes))
        return Value(self.builder, name, element, self.lanes)

    def _other(self, other: Value | int | float) -> Value:
        return other if isinstance(other, Value) else self.const(other)

    def _binary(self, float_op: str, int_op: str, other: Value | int | float, swap: bool = False) -> Value:
        a, b = (self._other(other), self) if swap else (self, self._other(other))
        return self._new(f"arith.{float_op if self.is_float else int_op} {a.name}, {b.name} : {self.type}")

    @property
    def _divide(self) -> str:
        return "divui" if self.is_unsigned else "divsi"

    @property
    def _shift(self) -> str:
        return "shrui" if self.is_unsigned else "shrsi"

    # -------------------------------------------------------------------------------------------- arithmetic
    def __add__(self, other: Value | int | float) -> Value: return self._binary("addf", "addi", other)
    def __radd__(self, other: Value | int | float) -> Value: return self._binary("addf", "addi", other, True)
    def __sub__(self, other: Value | int | float) -> Value: return self._binary("subf", "subi", other)
    def __rsub__(self, other: Value | int | float) -> Value: return self._binary("subf", "subi", other, True)
    def __mul__(self, other: Value | int | float) -> Value: return self._binary("mulf", "muli", other)
    def __rmul__(self, other: Value | int | float) -> Value: return self._binary("mulf", "muli", other, True)
    def __truediv__(self, other: Value | int | float) -> Value: return self._binary("divf", self._divide, other)
    def __rtruediv__(self, other: Value | int | float) -> Value: return self._binary("divf", self._divide, other, True)
    def __and__(self, other: Value | int | float) -> Value: return self._binary("", "andi", other)
    def __or__(self, other: Value | int | float) -> Value: return self._binary("", "ori", other)
    def __xor__(self, other: Value | int | float) -> Value: return self._binary("", "xori", other)
    def __lshift__(self, other: Value | int | float) -> Value: return self._binary("", "shli", other)
    def __rshift__(self, other: Value | int | float) -> Value: return self._binary("", self._shift, other)

    def __neg__(self) -> Value:
        return self._new(f"arith.negf {self.name} : {self.type}") if self.is_float else self.const(0) - self

    def __invert__(self) -> Value:
        return self ^ self.const(-1 if self.element != "i1" else True)

    def shift_right_logical(self, other: Value | int) -> Value:
        return self._binary("", "shrui", other)

    def remainder(self, other: Value | int) -> Value:
        """Of the integer division towards zero."""
        return self._binary("", "remui" if self.is_unsigned else "remsi", other)

    def fma(self, factor: Value | float, addend: Value | float) -> Value:
        """self * factor + addend, fused where the target has the instruction: for polynomials."""
        factor, addend = self._other(factor), self._other(addend)
        if self.lanes is not None:
            return self._new(f"vector.fma {self.name}, {factor.name}, {addend.name} : {self.type}")
        product = self.builder.op(f"arith.mulf {self.name}, {factor.name} fastmath<contract> : {self.type}")
        return self._new(f"arith.addf {product}, {addend.name} fastmath<contract> : {self.type}")

    def exact_fma(self, factor: Value | float, addend: Value | float) -> Value:
        """self * factor + addend rounded once on every target: where the rounding error of the product matters."""
        factor, addend = self._other(factor), self._other(addend)
        return self._new(f"math.fma {self.name}, {factor.name}, {addend.name} : {self.type}")

    def polynomial(self, coefficients: tuple[float, ...] | list[float]) -> Value:
        """Horner's scheme at this point; the highest power's coefficient comes first."""
        y = self.const(coefficients[0])
        for coefficient in coefficients[1:]:
            y = y.fma(self, coefficient)
        return y

    def unary(self, op: str) -> Value:
        """A unary op of the math dialect that is one instruction, or that lower.py expands where it is none."""
        return self._new(f"math.{op} {self.name} : {self.type}")

    def abs(self) -> Value:
        if self.is_float:
            return self.unary("absf")
        if self.is_unsigned:
            return self
        return (self < 0).select(-self, self)

    def copysign(self, sign: Value) -> Value:
        return self._new(f"math.copysign {self.name}, {sign.name} : {self.type}")

    # -------------------------------------------------------------------------------------------- comparison, choice
    def compare(self, predicate: str, other: Value | int | float) -> Value:
        """"lt" "le" "gt" "ge" "eq" "ne" as in NumPy: with a NaN all but "ne" are false."""
        other = self._other(other)
        dialect = "cmpf" if self.is_float else "cmpi"
        exact = _PREDICATES[predicate][not self.is_float]
        if self.element == "i1" or self.is_unsigned:
            exact = exact.replace("s", "u")  # True is 1, not -1
        return self._new(f"arith.{dialect} {exact}, {self.name}, {other.name} : {self.type}", "i1")

    def __lt__(self, other: Value | int | float) -> Value: return self.compare("lt", other)
    def __le__(self, other: Value | int | float) -> Value: return self.compare("le", other)
    def __gt__(self, other: Value | int | float) -> Value: return self.compare("gt", other)
    def __ge__(self, other: Value | int | float) -> Value: return self.compare("ge", other)
    def eq(self, other: Value | int | float) -> Value: return self.compare("eq", other)
    def ne(self, other: Value | int | float) -> Value: return self.compare("ne", other)

    def is_nan(self) -> Value:
        return self._new(f"arith.cmpf uno, {self.name}, {self.name} : {self.type}", "i1")

    def unsigned_below(self, other: Value | int) -> Value:
        return self._new(f"arith.cmpi ult, {self.name}, {self._other(other).name} : {self.type}", "i1")

    def select(self, yes: Value | float, no: Value | float) -> Value:
        """`yes` where this bool holds, else `no`; at most one of them may be a Python number."""
        model = yes if isinstance(yes, Value) else no
        if not isinstance(model, Value):
            raise TypeError(f"select of two numbers, {yes} and {no}: neither says the type of the result")
        yes, no = model._other(yes), model._other(no)
        types = model.type if self.lanes is None else f"{self.type}, {model.type}"
        return model._new(f"arith.select {self.name}, {yes.name}, {no.name} : {types}")

    def at_least(self, low: Value | float) -> Value:
        """max(self, low) where low is no NaN; a NaN of self stays (written so that x86 needs one instruction)."""
        bound = self._other(low)
        return (bound > self).select(bound, self)

    def at_most(self, high: Value | float) -> Value:
        bound = self._other(high)
        return (bound < self).select(bound, self)

    # -------------------------------------------------------------------------------------------- other types
    def bitcast(self, element: str) -> Value:
        return self._new(f"arith.bitcast {self.name} : {self.type} to {type_name(element, self.lanes)}", element)

    def cast(self, op: str, element: str) -> Value:
        """One of arith's casts: sitofp, uitofp, fptosi, extsi, extui, trunci, extf, truncf."""
        return self._new(f"arith.{op} {self.name} : {self.type} to {type_name(element, self.lanes)}", element)

    def taken_as(self, element: str) -> Value:
        """The same register as another element type of the same bits and register type: "ui8" and "i8"."""
        return Value(self.builder, self.name, element, self.lanes)

    def any(self) -> Value:
        """Scalar i1: whether this bool holds in any lane."""
        if self.lanes is None:
            return self
        name = self.builder.op(f"vector.reduction <or>, {self.name} : {self.type} into i1")
        return Value(self.builder, name, "i1", None)
