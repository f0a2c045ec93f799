"""How a register tile is cut into blocks of a matrix unit (family.Matrix): what legality, costs and code agree on."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import permutations
from math import prod

from jtc.dialects.affine import split_term
from jtc.dialects.kernel import Schedule, Stage


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of the largest register tile of a stage.

    axis     along which the rows of a block lie; "" where the tile has one row
    rows     of a block;  along: blocks along the axis
    groups   points of the tile along its other axes;  vectors: blocks along the lanes
    around   an axis around `axis`, along which rows run on: its next point is `gap` rows further, and those between
             them, which are no points of the tile, are computed as well.  So 7 rows of 7 pixels, in an image padded to
             rows of 9, are 61 rows in four blocks; "" where each row of pixels has blocks of its own
    """

    axis: str
    rows: int
    along: int
    groups: int
    vectors: int
    around: str = ""
    gap: int = 0

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


def blocks_of(stage: Stage, schedule: Schedule, tile: Mapping[str, int], most: int, shared: Collection[str] = ()
              ) -> Blocks:
    """The blocks of a contraction's register tile of these extents (parallel axis -> extent), of at most so many rows.

    Rows lie along the longest axis that the scalar operand has and the vector operand does not, or run on along another
    one, where these are fewer blocks.  shared: the axes that loops around the stage run over.
    """
    factors = stage.factors()
    assert factors is not None
    wide = next(i for i in factors if schedule.vector in stage.reads[i].axes)
    narrow = factors[0] if wide == factors[1] else factors[1]
    rows = [a for a, n in tile.items() if n > 1 and a in stage.reads[narrow].axes - stage.reads[wide].axes]
    axis = max(rows, key=lambda a: tile[a], default="")
    vectors = -(-tile[schedule.vector] // schedule.lanes)

    def blocks(axis: str, around: str = "", gap: int = 0) -> Blocks:
        height, along = cut((tile.get(around, 1) - 1) * gap + tile.get(axis, 1), most)
        groups = prod(n for a, n in tile.items() if a not in (axis, around, schedule.vector))
        return Blocks(axis, height, along, groups, vectors, around, gap)

    found = [blocks(axis)]
    blocked = any(a in stage.reductions and step < stage.sizes[a] for a, step in schedule.loops) \
        or any(a in stage.reductions for a in shared)      # then only points of the tile have a place to wait
    if not blocked and all(pack.read != narrow for pack in schedule.packs):
        flat = stage.reads[narrow].flat
        plain = [a for a in rows if flat[a] and not any(split_term(t)[0] == a and split_term(t)[1] for t in flat.terms)]
        for inner, outer in permutations(plain, 2):
            gap, rest = divmod(flat[outer], flat[inner])
            if rest == 0 and gap >= tile[inner]:
                found.append(blocks(inner, outer, gap))
    return min(found, key=lambda b: b.count)
