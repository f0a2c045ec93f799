"""The matrices of Winograd's minimal algorithms F(m, 3), as nodes of a graph.

m results of a filter of 3 taps take m + 2 products:  y = A . ((G . w) * (B . x)),  where x has m + 2 elements.  Source:
A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015; its points are 0, 1, -1 and infinity for
m = 2, and 2 and -2 besides for m = 4.
"""
from __future__ import annotations

from fractions import Fraction

from jtc.dialects.build import make, splat
from jtc.dialects.dtypes import I64, DType
from jtc.dialects.graph import Node, TensorType

Matrix = tuple[tuple[Fraction, ...], ...]

TAPS = 3
TILES = (2, 4)                  # m: results of a tile along each axis of the image


def _matrix(*rows: str) -> Matrix:
    return tuple(tuple(map(Fraction, row.split())) for row in rows)


# m -> B (m + 2 by m + 2), G (m + 2 by 3), A (m by m + 2)
MATRICES: dict[int, dict[str, Matrix]] = {
    2: {"B": _matrix("1 0 -1 0", "0 1 1 0", "0 -1 1 0", "0 1 0 -1"),
        "G": _matrix("1 0 0", "1/2 1/2 1/2", "1/2 -1/2 1/2", "0 0 1"),
        "A": _matrix("1 1 1 0", "0 1 -1 -1")},
    4: {"B": _matrix("4 0 -5 0 1 0", "0 -4 -4 1 1 0", "0 4 -4 -1 1 0", "0 -2 -1 2 1 0", "0 2 -1 -2 1 0",
                     "0 4 0 -5 0 1"),
        "G": _matrix("1/4 0 0", "-1/6 -1/6 -1/6", "-1/6 1/6 -1/6", "1/24 1/12 1/6", "1/24 -1/12 1/6", "0 0 1"),
        "A": _matrix("1 1 1 1 1 0", "0 1 -1 2 -2 0", "0 1 1 4 4 0", "0 1 -1 8 -8 1")},
}


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
