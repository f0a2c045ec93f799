"""Affine index maps, and what can be asked of them: composition, ranges, inverses, reshapes.

A map is a tuple of forms over the axes d0, d1... of its domain; `sizes` gives for each axis the end of its box from 0.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from jtc.dialects.affine import Affine, flatten


class NotAffine(Exception):
    """The index is not affine in the axes as they are.

    split  (axis, size) where it becomes affine once the axis is an outer one and an inner one of that size, else None
    """

    def __init__(self, split: tuple[str, int] | None = None):
        super().__init__("the index is not affine")
        self.split = split


def domain_sizes(shape: Sequence[int]) -> dict[str, int]:
    return {f"d{i}": n for i, n in enumerate(shape)}


def identity(rank: int) -> tuple[Affine, ...]:
    return tuple(Affine.axis(f"d{i}") for i in range(rank))


def apply(forms: Sequence[Affine], index: Sequence[Affine]) -> tuple[Affine, ...]:
    """The map `forms` over d0, d1... at the place `index`."""
    values = {f"d{i}": form for i, form in enumerate(index)}
    return tuple(form.substitute(values) for form in forms)


def leaves_range(form: Affine, size: int, sizes: Mapping[str, int]) -> bool:
    """Whether the form can leave 0 <= form < size while its axes stay in their boxes."""
    low, high = form.range(sizes)
    return low < 0 or high >= size


def stays_outside(form: Affine, size: int, sizes: Mapping[str, int]) -> bool:
    """Whether the form is outside of 0 <= form < size wherever its axes stay in their boxes."""
    low, high = form.range(sizes)
    return high < 0 or low >= size


def is_injective(index: Sequence[Affine], sizes: Mapping[str, int]) -> bool:
    """Whether no two points of the axes `sizes` have the same index; sufficient, not necessary.

    The offset in the smallest box around the index is injective where every stride is larger than the reach of all
    smaller ones: a mixed radix.
    """
    ranges = [form.range(sizes) for form in index]
    strides = flatten(index, [high - low + 1 for low, high in ranges]).terms
    if any(n > 1 and axis not in strides for axis, n in sizes.items()):
        return False
    reach = 0
    for axis, stride in sorted(strides.items(), key=lambda term: abs(term[1])):
        if sizes[axis] > 1:
            if abs(stride) <= reach:
                return False
            reach += abs(stride) * (sizes[axis] - 1)
    return True


def blocks(outer: Sequence[int], inner: Sequence[int]) -> Iterator[tuple[range, range]]:
    """The finest cut of two shapes of equal size into consecutive pieces of equal products: (dims of each)."""
    i = j = 0
    while i < len(outer) or j < len(inner):
        first_i, first_j = i, j
        a = b = 1
        while True:
            if i < len(outer) and (a <= b or j == len(inner)):
                a, i = a * outer[i], i + 1
            elif j < len(inner):
                b, j = b * inner[j], j + 1
            if a == b:
                break
        yield range(first_i, i), range(first_j, j)


def through_reshape(index: Sequence[Affine], result: Sequence[int], argument: Sequence[int],
                    sizes: Mapping[str, int]) -> tuple[Affine, ...]:
    """The index into a tensor of shape `argument`, given the index into its reshape to `result`.  Raises NotAffine."""
    if 0 in result:
        return tuple(Affine() for _ in argument)        # nothing is ever read
    forms: list[Affine] = []
    for of_result, of_argument in blocks(result, argument):
        wide = [d for d in of_result if result[d] != 1]
        if len(wide) == 1 and sum(argument[d] != 1 for d in of_argument) == 1:
            forms += [index[wide[0]] if argument[d] != 1 else Affine() for d in of_argument]
        else:
            offset = flatten([index[d] for d in wide], [result[d] for d in wide])
            forms += digits(offset, [argument[d] for d in of_argument], sizes)
    return tuple(forms)


def digits(offset: Affine, shape: Sequence[int], sizes: Mapping[str, int]) -> list[Affine]:
    """The row-major index into `shape` of an offset; every digit affine.  Raises NotAffine."""
    forms: list[Affine] = []
    for d in range(len(shape)):
        stride = prod(shape[d + 1:])
        if shape[d] == 1:
            forms.append(Affine())
            continue
        low = Affine({a: c for a, c in offset.terms.items() if c % stride}, offset.const)
        smallest, largest = low.range(sizes)
        quotient = smallest // stride
        if largest // stride != quotient:
            raise NotAffine(_split(low, stride, sizes))
        forms.append(Affine({a: c // stride for a, c in offset.terms.items() if not c % stride}, quotient))
        offset = low + (-quotient * stride)
    return forms


def _split(low: Affine, stride: int, sizes: Mapping[str, int]) -> tuple[str, int] | None:
    """The axis to cut so that its outer part moves in whole strides."""
    for axis, coef in sorted(low.terms.items(), key=lambda term: -abs(term[1])):
        inner = stride // abs(coef)
        if stride % abs(coef) == 0 and 1 < inner < sizes[axis] and sizes[axis] % inner == 0:
            return axis, inner
    return None
