"""Register tiles of contractions for a matrix unit (family.Matrix, AMX): which to try, and how deep their panels are.

A tile is as many blocks of results as leave registers for the operands, of rows along one axis of the scalar operand,
or along two of an image, where rows run on from one to the next (matrix_blocks.py).
"""
from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import prod

from jtc.dialects.affine import Affine
from jtc.dialects.family import Matrix
from jtc.dialects.kernel import PAIR
from jtc.passes.kernel.matrix_blocks import cut
from jtc.passes.kernel.rules.common import View
from jtc.passes.kernel.rules.contraction_tile import L1_SHARE, Tile

UNROLL = 2              # blocks of pairs that one iteration multiplies


def matrix_tiles(view: View, vector: str, wide: int, narrow: int, dot: str) -> Iterator[Tile]:
    """The tiles for pairs of steps of `dot`; none where the processor has no unit, or these are no whole blocks."""
    unit = view.target.matrix(view.stage.reads[wide].dtype)
    if unit is None or view.lanes != unit.columns or view.free.get(dot, 1) % (unit.pairs * PAIR):
        return
    reuse = sorted((a for a in view.parallel if a in view.read_axes[narrow] - view.read_axes[wide]),
                   key=lambda a: -abs(view.written[a]))
    inner = max(reuse, key=lambda a: (min(view.free[a], unit.rows), reuse.index(a)), default="")
    outer = next((a for a in reversed(reuse) if a != inner), "")
    size = view.free.get(inner, 1)
    gaps = [(far, near, row_gap(view, narrow, far, near)) for far, near in itertools.permutations(reuse, 2)]
    for vectors in range(1, -(-view.free[vector] // view.lanes) + 1):
        most = (unit.registers - 1) // vectors - 1      # blocks of rows
        for groups in range(1, min(most, view.free.get(outer, 1)) + 1):
            for along in range(1, min(most // groups, -(-size // unit.rows)) + 1):
                whole = min(size, along * unit.rows)
                even = next(n for n in range(whole, 0, -1) if size % n == 0)
                for rows in dict.fromkeys((whole, even if even > whole // 2 else whole)):
                    axes, outside = ((outer, inner), groups) if groups > 1 else ((inner,) if inner else (), 1)
                    yield Tile(vector, vectors, axes, rows, outside, dot, unit)
        for far, near, gap in gaps:
            size_near = view.free[near]
            room = (most * unit.rows - size_near) // gap + 1 if gap >= size_near else 0
            for points in range(2, min(room, view.free[far]) + 1):
                if cut((points - 1) * gap + size_near, unit.rows)[1] < points:
                    yield Tile(vector, vectors, (far, near), size_near, points, dot, unit, gap)
        if most <= 1:
            return


def row_gap(view: View, number: int, outer: str, inner: str) -> int:
    """How many points of `inner` lie from one point of `outer` to the next, in the read or the copy of its box that is
    made where it is guarded; 0 where that is no whole number."""
    read, strides = view.stage.reads[number], view.strides[number]
    far, near = strides[outer], strides[inner]
    if read.guards:             # the box keeps the order of the dimensions that axes of the tile walk along
        walked, size = Affine(), 1
        for form in reversed([f for f in read.index if not f.axes <= set(view.stage.reductions)]):
            walked, (low, high) = walked + form * size, form.range(view.stage.sizes)
            size *= high - low + 1
        far, near = walked[outer], walked[inner]
    return far // near if near > 0 and far % near == 0 else 0


def matrix_depths(view: View, tile: Tile, number: int, unit: Matrix) -> list[tuple[str, int]]:
    """Blocks of the longest reduction axis: one in which a panel stays in the first-level cache, and all of it.  Where
    rows run on it is all: what lies between has no place to wait for the next block.

    number  of the scalar operand's read
    """
    inner = [r for r in view.reductions if r in view.free]
    big = max(inner, key=lambda r: view.free[r])
    others = prod(view.free[r] for r in inner) // view.free[big]
    step, width = unit.pairs * PAIR, tile.vectors * view.lanes * view.stage.reads[number].dtype.bytes
    most = int(view.target.l1 * L1_SHARE) // width // others
    even = [n for n in range(step, min(most + 1, view.free[big]), step) if view.free[big] % n == 0]
    return [*((big, n) for n in even[-1:] if not tile.gap), (big, view.free[big])]


def matrix_unroll(view: View, tile: Tile, unit: Matrix) -> tuple[tuple[str, int], ...]:
    """How far the reduction is unrolled."""
    return ((tile.dot, min(UNROLL * unit.pairs * PAIR, view.free[tile.dot])),)
