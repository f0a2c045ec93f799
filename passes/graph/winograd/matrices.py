"""The matrices of Winograd's minimal algorithms F(m, 3), as nodes of a graph.

m results of a filter of 3 taps take m + 2 products:  y = A . ((G . w) * (B . x)),  where x has m + 2 elements: the
values of two polynomials at m + 1 points and infinity, multiplied there (Toom and Cook), transposed.  Source: A. Lavin,
S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.
"""
from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

from jtc.dialects.build import make, splat
from jtc.dialects.dtypes import I64, DType
from jtc.dialects.graph import Node, TensorType

Matrix = tuple[tuple[Fraction, ...], ...]

TAPS = 3
TILES = (2, 4)                  # m: results of a tile along each axis of the image

# m -> points.  For m = 4 errors are a third of those of the usual 0, 1, -1, 2, -2: the largest powers are smaller.
POINTS = {2: (Fraction(0), Fraction(1), Fraction(-1)),
          4: (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2))}


def matrices(points: Sequence[Fraction]) -> dict[str, Matrix]:
    """B (m + 2 by m + 2), G (m + 2 by 3) and A (m by m + 2) for m + 1 points."""
    m, zero = len(points) - 1, Fraction(0)
    b, g = [], []
    for point in points:
        others = [q for q in points if q != point]
        scale = prod((point - q for q in others), start=Fraction(1))
        b.append((*_with_roots(others), zero))
        g.append(tuple(point ** j / scale for j in range(TAPS)))
    b.append(_with_roots(points))
    g.append(tuple(Fraction(j == TAPS - 1) for j in range(TAPS)))
    a = tuple((*(point ** i for point in points), Fraction(i == m - 1)) for i in range(m))
    return {"B": tuple(b), "G": tuple(g), "A": a}


def _with_roots(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients of the polynomial with these roots, the constant first."""
    found = [Fraction(1)]
    for root in roots:
        found = [low - root * high for low, high in zip([Fraction(0), *found], [*found, Fraction(0)])]
    return tuple(found)


MATRICES = {m: matrices(points) for m, points in POINTS.items()}


def matrix(name: str, tile: int, dtype: DType) -> Node:
    """The matrix as a tensor: a choice by the number of the element, which is made once, when a module is loaded."""
    rows = MATRICES[tile][name]
    shape = len(rows), len(rows[0])
    flat = TensorType(I64, (shape[0] * shape[1],))
    number = make("reshape", [make("iota", [], {"axis": 0}, flat)], {}, TensorType(I64, shape))
    result = splat(0.0, dtype, shape)
    for at, value in enumerate(v for row in rows for v in row):
        if value:
            here = make("eq", [number, splat(at, I64, shape)])
            result = make("where", [here, splat(float(value), dtype, shape), result])
    return result
