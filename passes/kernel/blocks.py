"""How a register tile is cut into blocks of a matrix unit (family.Matrix): what legality, costs and code agree on."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from jtc.dialects.kernel import Schedule, Stage


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of the largest register tile of a stage.

    axis     along which the rows of a block lie; "" where the tile has one row
    rows     of a block;  along: blocks along the axis
    groups   points of the tile along its other axes;  vectors: blocks along the lanes
    """

    axis: str
    rows: int
    along: int
    groups: int
    vectors: int

    @property
    def count(self) -> int:
        """Blocks of results."""
        return self.groups * self.along * self.vectors

    def starts(self, extent: int) -> list[int]:
        """Where the blocks of a tile begin, which may be smaller than the largest; the last one may overlap another."""
        rows = min(self.rows, extent)
        return [min(at, extent - rows) for at in range(0, extent, rows)]


def cut(extent: int, most: int) -> tuple[int, int]:
    """(rows of a block, blocks) of an extent in the fewest blocks of no more than `most` rows."""
    count = -(-extent // most)
    return -(-extent // count), count


def blocks_of(stage: Stage, schedule: Schedule, tile: Mapping[str, int], most: int) -> Blocks:
    """The blocks of a contraction's register tile of these extents (parallel axis -> extent), of at most so many rows.

    Rows lie along the longest axis that the scalar operand has and the vector operand does not.
    """
    factors = stage.factors()
    assert factors is not None
    wide = next(i for i in factors if schedule.vector in stage.reads[i].axes)
    narrow = factors[0] if wide == factors[1] else factors[1]
    rows = [a for a, n in tile.items() if n > 1 and a in stage.reads[narrow].axes - stage.reads[wide].axes]
    axis = max(rows, key=lambda a: tile[a], default="")
    height, along = cut(tile.get(axis, 1), most)
    groups = prod(n for a, n in tile.items() if a not in (axis, schedule.vector))
    return Blocks(axis, height, along, groups, -(-tile[schedule.vector] // schedule.lanes))
