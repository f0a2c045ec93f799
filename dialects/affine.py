"""Integer affine forms over named axes: the index language of jtc.

An `Affine` is `sum(coefficient * term) + constant`.  A term is the name of an axis ("i"), or one of the two digits of
an axis in a tile size: "i//48" (number of the tile) and "i%48" (place inside it).  Digits appear only where a pass has
packed an operand into panels; everything before that is plainly affine.
"""
from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

_TERM = re.compile(r"\s*([+-]?)\s*(?:(\d+)(?![\w*])|(?:(\d+)\*)?([A-Za-z_][\w.$]*(?:(?://|%)[1-9]\d*)?))")


class Affine:
    """Immutable affine form.  Supports `+`, `-`, `*` with integers and other forms (`*` with integers only)."""

    __slots__ = ("terms", "const", "_hash", "_axes")

    def __init__(self, terms: Mapping[str, int] | Iterable[tuple[str, int]] = (), const: int = 0):
        items = terms.items() if isinstance(terms, Mapping) else terms
        self.terms: dict[str, int] = {axis: coef for axis, coef in items if coef}
        self.const = const
        self._hash: int | None = None
        self._axes: frozenset[str] | None = None

    @staticmethod
    def axis(name: str) -> Affine:
        return Affine({name: 1})

    @staticmethod
    def parse(text: str) -> Affine:
        """The form that `str` writes: "2*i + p - 1", "-k//48 + 3".  Raises ValueError where the text is not one."""
        terms: dict[str, int] = {}
        const = end = 0
        for match in _TERM.finditer(text):
            sign, number, coef, name = match.groups()
            if match.start() != end or not sign and end:
                break
            end, factor = match.end(), -1 if sign == "-" else 1
            if name is None:
                const += factor * int(number)
            else:
                terms[name] = terms.get(name, 0) + factor * int(coef or 1)
        if end != len(text) or not text:
            raise ValueError(f"{text!r} is not an affine form")
        return Affine(terms, const)

    @staticmethod
    def of(value: Affine | int) -> Affine:
        return value if isinstance(value, Affine) else Affine((), int(value))

    def __add__(self, other: Affine | int) -> Affine:
        if not isinstance(other, Affine):
            return Affine(self.terms, self.const + other)
        terms = dict(self.terms)
        for axis, coef in other.terms.items():
            terms[axis] = terms.get(axis, 0) + coef
        return Affine(terms, self.const + other.const)

    __radd__ = __add__

    def __mul__(self, factor: int) -> Affine:
        return Affine({axis: coef * factor for axis, coef in self.terms.items()}, self.const * factor)

    __rmul__ = __mul__

    def __neg__(self) -> Affine:
        return self * -1

    def __sub__(self, other: Affine | int) -> Affine:
        return self + (-other)

    def __rsub__(self, other: Affine | int) -> Affine:
        return -self + other

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and self.const == other.const and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((frozenset(self.terms.items()), self.const))
        return self._hash

    def __getitem__(self, axis: str) -> int:
        """Coefficient of `axis` (0 where it does not occur)."""
        return self.terms.get(axis, 0)

    @property
    def is_constant(self) -> bool:
        return not self.terms

    @property
    def axes(self) -> frozenset[str]:
        """Names of the axes that occur, also as digits."""
        if self._axes is None:
            self._axes = frozenset(map(axis_of, self.terms))
        return self._axes

    def as_axis(self) -> str | None:
        """The axis name where the form is exactly one axis with coefficient 1, else None."""
        if self.const == 0 and len(self.terms) == 1:
            (axis, coef), = self.terms.items()
            return axis if coef == 1 else None
        return None

    def substitute(self, values: Mapping[str, Affine]) -> Affine:
        """Replace axes by forms.  A digit is only renamed: replacing its axis by more raises ValueError."""
        result = Affine((), self.const)
        for term, coef in self.terms.items():
            axis = axis_of(term)
            if axis not in values:
                result = result + Affine({term: coef})
            elif term == axis:
                result = result + values[axis] * coef
            else:
                name = values[axis].as_axis()
                if name is None:
                    raise ValueError(f"cannot substitute {values[axis]} into the digit {term}")
                result = result + Affine({name + term[len(axis):]: coef})
        return result

    def range(self, sizes: Mapping[str, int]) -> tuple[int, int]:
        """Smallest and largest value (both included) over the box 0 <= axis < sizes[axis]."""
        low = high = self.const
        for term, coef in self.terms.items():
            reach = coef * (term_size(term, sizes) - 1)
            low, high = low + min(0, reach), high + max(0, reach)
        return low, high

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Value at a point; `values` may hold integers or NumPy arrays that broadcast."""
        total = self.const
        for term, coef in self.terms.items():
            axis, op, size = split_term(term)
            value = values[axis]
            if op == "//":
                value = value // size
            elif op == "%":
                value = value % size
            total = total + coef * value
        return total

    def __str__(self) -> str:
        text = ""
        for term, coef in self.terms.items():
            sign = "-" if coef < 0 else "+"
            body = term if abs(coef) == 1 else f"{abs(coef)}*{term}"
            text += f" {sign} {body}" if text else (f"-{body}" if coef < 0 else body)
        if self.const or not text:
            text += (f" {'-' if self.const < 0 else '+'} {abs(self.const)}" if text else str(self.const))
        return text

    __repr__ = __str__


@functools.lru_cache(1 << 14)
def split_term(term: str) -> tuple[str, str, int]:
    """"i" -> ("i", "", 1); "i//48" -> ("i", "//", 48); "i%48" -> ("i", "%", 48)."""
    for op in ("//", "%"):
        axis, found, size = term.partition(op)
        if found:
            return axis, op, int(size)
    return term, "", 1


def axis_of(term: str) -> str:
    return split_term(term)[0]


def term_size(term: str, sizes: Mapping[str, int]) -> int:
    """Number of values the term takes."""
    axis, op, size = split_term(term)
    if op == "//":
        return -(-sizes[axis] // size)
    return min(size, sizes[axis]) if op == "%" else sizes[axis]


def flatten(index: Iterable[Affine], shape: Iterable[int]) -> Affine:
    """Row-major linear offset of a multi-dimensional index, in elements."""
    return _flatten(tuple(index), tuple(shape))


@functools.lru_cache(1 << 14)
def _flatten(index: tuple[Affine, ...], shape: tuple[int, ...]) -> Affine:
    offset = Affine()
    for form, size in zip(index, shape, strict=True):
        offset = offset * size + form
    return offset
