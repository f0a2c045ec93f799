"""Where the axes of a stage stand, and the addresses and conditions that are linear in them.

A `Place` says what is known of one axis at one point of the loop nest; a `Form` is a linear form whose value at the
start of a register tile is computed once (a `Linear`), and which inside the tile moves by constant steps.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import gcd

from jtc.compiler.cpu.code import Code
from jtc.dialects.affine import Affine, axis_of, split_term
from jtc.dialects.kernel import PAIR


@dataclass(frozen=True, slots=True)
class Place:
    """The current block of an axis: [value, value + extent) with value = ssa + const.

    ssa       SSA name of an index, None where the value is the constant
    low, high smallest and largest value (both included)
    multiple  a number that divides the SSA part
    """

    ssa: str | None
    const: int
    low: int
    high: int
    extent: int
    multiple: int = 1

    @staticmethod
    def whole(size: int) -> Place:
        """The whole axis."""
        return Place(None, 0, 0, 0, size)

    def part(self, offset: int, extent: int) -> Place:
        """The block of `extent` points from `offset` on."""
        return Place(self.ssa, self.const + offset, self.low + offset, self.high + offset, extent, self.multiple)


@dataclass(frozen=True, slots=True)
class Linear:
    """The value ssa + const of a form at the start of a tile, known to lie in [low, high]."""

    ssa: str | None
    const: int
    low: int
    high: int


@dataclass(frozen=True, eq=False, slots=True)
class Form:
    """A linear form of axes, compared by identity.

    terms   term ("i", "i//48", "i%48") -> coefficient, of the axis's value minus its `origin`
    steps   axis -> growth for one point inside the tile (a digit "i//48" does not move there, "i%48" moves as i)
    origin  axis -> the place that the axis counts from (0 where absent): the start of a copy or of a shared block
    """

    terms: Mapping[str, int]
    const: int
    steps: Mapping[str, int]
    origin: Mapping[str, Place] = field(default_factory=dict)

    @staticmethod
    def of(affine: Affine, origin: Mapping[str, Place] | None = None) -> Form:
        steps: dict[str, int] = {}
        for term, coefficient in affine.terms.items():
            axis, digit, _ = split_term(term)
            if digit != "//":
                steps[axis] = steps.get(axis, 0) + coefficient
        axes = affine.axes
        return Form(affine.terms, affine.const, steps, {a: p for a, p in (origin or {}).items() if a in axes})

    def in_pairs(self, axis: str) -> Form:
        """The same, where a step inside the tile along `axis` is from one pair of its points to the next."""
        step = self.terms.get(f"{axis}//{PAIR}", PAIR * self.steps.get(axis, 0))
        return replace(self, steps={**self.steps, axis: step})

    @property
    def axes(self) -> set[str]:
        return {axis_of(term) for term in self.terms}

    def offset(self, offsets: Mapping[str, int]) -> int:
        """How far a point inside the tile is from the tile's start."""
        return sum(step * offsets.get(axis, 0) for axis, step in self.steps.items())


def linear(code: Code, form: Form, places: Mapping[str, Place]) -> Linear:
    """Append the index arithmetic for the form's value at the start of the blocks in `places`."""
    ssa, const, low, high = None, form.const, form.const, form.const
    for term, coefficient in form.terms.items():
        axis, digit, size = split_term(term)
        place = _relative(code, places[axis], form.origin.get(axis))
        value = _digit(code, place, digit, size) if digit else place
        const += coefficient * value.const
        low += coefficient * (value.low if coefficient > 0 else value.high)
        high += coefficient * (value.high if coefficient > 0 else value.low)
        if value.ssa is not None:
            ssa = code.sum(ssa, code.product(value.ssa, coefficient))
    return Linear(ssa, const, low, high)


def _relative(code: Code, place: Place, origin: Place | None) -> Place:
    """The place counted from its origin."""
    if origin is None:
        return place
    const, low, high = place.const - origin.const, place.low - origin.high, place.high - origin.low
    if place.ssa == origin.ssa:
        return Place(None, const, const, const, place.extent)
    multiple = gcd(place.multiple if place.ssa else 0, origin.multiple if origin.ssa else 0)
    if origin.ssa is None:
        return Place(place.ssa, const, low, high, place.extent, multiple)
    difference = code.op(f"arith.subi {place.ssa or code.index(0)}, {origin.ssa} : index")
    return Place(difference, const, low, high, place.extent, multiple)


def _digit(code: Code, place: Place, digit: str, size: int) -> Linear:
    """place // size or place % size; places are never negative."""
    low, high = (place.low // size, place.high // size) if digit == "//" else (0, size - 1)
    if place.ssa is None:
        value = place.const // size if digit == "//" else place.const % size
        return Linear(None, value, value, value)
    if place.multiple % size == 0:
        if digit == "%":
            value = place.const % size
            return Linear(None, value, value, value)
        return Linear(code.op(f"arith.divui {place.ssa}, {code.index(size)} : index"), place.const // size, low, high)
    op = "divui" if digit == "//" else "remui"
    start = code.offset(place.ssa, place.const)
    return Linear(code.op(f"arith.{op} {start}, {code.index(size)} : index"), 0, low, high)


class Frame:
    """The forms' values at the start of a tile, or of one step of a reduction loop inside it.

    A frame also remembers what has been computed in its scope, so that equal values are computed once.
    """

    def __init__(self, code: Code, values: dict[Form, Linear], memo: dict[tuple, str]):
        self.code, self.values, self.memo = code, values, memo

    @staticmethod
    def at(code: Code, forms: Sequence[Form], places: Mapping[str, Place], opaque: bool = False) -> Frame:
        """The frame at the start of a tile.  opaque: whether LLVM is kept from looking behind the values there."""
        values = {form: linear(code, form, places) for form in forms}
        if opaque:
            hidden = {ssa: code.opaque(ssa) for ssa in dict.fromkeys(v.ssa for v in values.values()) if ssa}
            values = {form: replace(v, ssa=hidden[v.ssa]) if v.ssa else v for form, v in values.items()}
        return Frame(code, values, {})

    def moved(self, axis: str, ssa: str, high: int) -> Frame:
        """The frame of a loop over `axis` inside the tile, at iteration value `ssa` in [0, high].

        What does not move with the axis stays known: a memo key's second part holds the axes that its value moves with.
        """
        values = {}
        for form, value in self.values.items():
            step = form.steps.get(axis, 0)
            if step:
                reach = step * high
                value = Linear(self.code.sum(value.ssa, self.code.product(ssa, step)), value.const,
                               value.low + min(0, reach), value.high + max(0, reach))
            values[form] = value
        return Frame(self.code, values, {k: v for k, v in self.memo.items() if axis not in k[1]})

    def address(self, form: Form, extra: int) -> str:
        """SSA name of the form's value plus a constant."""
        value = self.values[form]
        if value.ssa is None:
            return self.code.index(value.const + extra)
        key = ("address", (), value.ssa, value.const + extra)
        if key not in self.memo:
            self.memo[key] = self.code.offset(value.ssa, value.const + extra)
        return self.memo[key]
