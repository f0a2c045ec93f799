"""What the register tiles of a contraction cost, in cycles of one core: arithmetic, loads and stores; smaller tiles at
the edges are counted exactly.

The constants are measured on one AVX-512 core (see docs/schedules.md).
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import gcd, log2, prod

from jtc.dialects.affine import Affine
from jtc.dialects.expr import reads_of
from jtc.dialects.family import Matrix
from jtc.dialects.kernel import PAIR, Access
from jtc.passes.kernel.matrix_blocks import cut
from jtc.passes.kernel.rules.common import LINE, View

LATENCY = 4.0                  # cycles of one fused multiply-add: a step of the reduction takes at least these
CROWDED = 0.1                  # the same per cache line of a panel that fills most of the first-level cache
L1_SHARE, L1_MOST = 0.6, 0.8   # of the first-level cache: the largest panel that stays there; that does not fit beside
                               # all else, but is not fetched again for every tile
PAGE = 1024                    # bytes; rows this far apart crowd the first-level cache and its address cache
BLOCK, CONFIGURE = 16.0, 200.0     # cycles of a matrix unit to multiply two blocks; to take up other shapes of blocks
BLOCK_LINE, BLOCK_LINE_FAR = 0.5, 1.2      # the same for a row of a block that it loads, from the second-level cache
BLOCK_LINE_PASSING = 2.4       # the same where other panels have passed by since
BLOCK_APART = 0.25             # share of these that multiplications do not hide
BLOCK_STORED = 1.5             # for a row of its results, which are stored and loaded again
BLOCK_RESUMED = 4.0            # the same between blocks of the reduction
SETS, WAYS = 64, 8             # of the first-level cache
TILE_START = 20.0              # cycles to enter and leave one register tile
STORE, STORE_SCATTERED = 0.5, 20.0         # cycles per accumulator
STORE_FAR = 100.0              # where its elements lie in pages of their own, for each tensor that is walked so
STORE_MISSED = 270.0           # the same of a tensor that does not stay in the second-level cache, as weights that are
                               # updated: from a cache line for each element on
STORE_TURNED = 1.72            # cycles per shuffle of a block of lanes x lanes that is turned, full or not
FAR_ROW = 25.0                 # cycles per row of a tile in a page of its own, of each tensor larger than the L2 cache,
                               # unless it is still there from the tile before
RELOAD, RELOAD_TURNED = 1.5, 9.0           # cycles per accumulator that a later block of the reduction takes up again
EPILOGUE = 0.9                 # cycles per instruction of the epilogue and accumulator


@dataclass(frozen=True)
class Tile:
    """A register tile: `vectors` vectors along `vector`, `inner` points along the last of `axes`, `outer` along the
    first where there are two.  dot: the reduction axis whose steps are multiplied in pairs.  unit: the matrix unit that
    multiplies blocks of them;  gap: rows of its blocks from one point of the outer axis to the next, where they run on
    (matrix_blocks.py)."""

    vector: str
    vectors: int
    axes: tuple[str, ...]
    inner: int
    outer: int
    dot: str = ""
    unit: Matrix | None = None
    gap: int = 0

    def steps(self, view: View) -> float:
        """Steps of a register tile for each step of its reduction: pairs count as one, as does the last one alone."""
        size = view.free[self.dot] if self.dot else 1
        return -(-size // PAIR) / size if self.dot else 1.0

    @cached_property
    def rows(self) -> list[tuple[str, int]]:
        """(axis, extent), outer to inner, without the vector axis."""
        return [*zip(self.axes, (self.outer, self.inner) if len(self.axes) > 1 else (self.inner,))]


def tile_cycles(view: View, tile: Tile, wide: int, narrow: int, depth: int, blocks: int = 1,
                passing: bool = False) -> float:
    """Cycles of all register tiles.  The reduction runs in `blocks` blocks of `depth` steps.

    wide, narrow  numbers of the reads that are loaded as vectors and broadcast
    passing       whether all panels pass by before the next tile, so that none stays in the first-level cache
    """
    steps = depth * tile.steps(view)    # a pair takes as long as a multiply-add, and as many bytes as a float32
    panel = steps * min(tile.vectors * view.lanes, view.free[tile.vector]) * 4 / view.target.l1
    line = 0.0 if panel <= L1_SHARE else CROWDED if panel <= L1_MOST else view.core.line
    return _tile_cycles(view, tile, wide, narrow, steps, blocks, line,
                        BLOCK_LINE_PASSING if passing else BLOCK_LINE_FAR if line else BLOCK_LINE)


def least_cycles(view: View, tile: Tile, wide: int, narrow: int) -> float:
    """What no order of loops around register tiles comes below: one block of the reduction, panels always near."""
    depth = prod(view.free[r] for r in view.reductions)
    return _tile_cycles(view, tile, wide, narrow, depth * tile.steps(view), 1, 0.0, BLOCK_LINE)


def _tile_cycles(view: View, tile: Tile, wide: int, narrow: int, depth: float, blocks: int, line: float, row: float
                 ) -> float:
    key = (tile, wide, narrow, depth, blocks, line, row)
    if key not in view.memo:
        view.memo[key] = _all_tiles(view, *key)
    return float(view.memo[key])


def _all_tiles(view: View, tile: Tile, wide: int, narrow: int, depth: float, blocks: int, line: float, row: float
               ) -> float:
    """Cycles of all register tiles of `depth` steps.

    line  cycles on top for a cache line of a panel;  row: cycles of a matrix unit to load a row of a block
    """
    write, lanes, axes = view.written, view.lanes, tile.axes
    straight, turned = write[tile.vector] == 1, bool(axes) and write[axes[-1]] == 1
    in_narrow = [a in view.read_axes[narrow] for a in axes]
    in_wide = [a in view.read_axes[wide] for a in axes]
    if "touched" not in view.memo:
        view.memo["touched"] = [(a.flat, a.size * a.dtype.bytes > view.target.l2) for a in at_the_end(view)]
    touched = view.memo["touched"]
    apart = [STORE_MISSED if missed else STORE_FAR for form, missed in touched
             if abs(form[tile.vector]) * 4 >= (PAGE // 16 if missed and len(touched) > 1 else 4 * PAGE)]
    scattered = sum(apart) if apart else STORE_SCATTERED
    lines, shuffles = view.target.vector_bits / (8 * LINE), lanes * log2(lanes)
    large = [form for form, missed in touched if missed]

    def one(vectors: int, inner: int, outer: int) -> float:
        count = vectors * inner * outer
        extents = (outer, inner) if len(axes) > 1 else (inner,)
        scalars = prod(n for n, used in zip(extents, in_narrow) if used)
        loads = vectors * prod(n for n, used in zip(extents, in_wide) if used)
        if tile.unit is not None:
            step, start, reload = _matrix_step(tile, tile.unit, vectors, inner, outer, row)
        else:
            core = view.core
            step = max(count / 2, (scalars + loads) * core.load, LATENCY) + core.scalar * scalars
            step += line * loads * lines
            if tile.dot:
                step *= view.core.pairs
            start, reload = TILE_START, RELOAD_TURNED if turned and not straight else RELOAD
        store = (STORE if straight else scattered) * count
        finished = count
        if turned and not straight:
            finished = vectors * lanes * outer * -(-inner // lanes)
            store = STORE_TURNED * shuffles * finished / lanes
        points = {**dict(zip(axes, extents)), tile.vector: vectors * lanes}
        store += FAR_ROW * view.core.apart * sum(_far_rows(form, points, axes[-1:]) for form in large)
        return blocks * (step * depth + start + store) + (blocks - 1) * reload * count + finished * EPILOGUE * view.work

    def along(size: int, step: int, cost: Callable[[int], float]) -> float:
        return size // step * cost(step) + (cost(size % step) if size % step else 0.0)

    outer_size = view.free[axes[0]] if len(axes) > 1 else 1
    inner_size = view.free[axes[-1]] if axes else 1
    total = along(view.free[tile.vector], tile.vectors * lanes, lambda n: along(
        inner_size, tile.inner, lambda i: along(outer_size, tile.outer, lambda o: one(-(-n // lanes), i, o))))
    return total * prod(n for a, n in view.free.items() if a in view.parallel and a != tile.vector and a not in axes)


def _matrix_step(tile: Tile, unit: Matrix, vectors: int, inner: int, outer: int, row: float
                 ) -> tuple[float, float, float]:
    """(cycles of one pair of steps, to begin and end, and per vector to go on with a next block of the reduction) of a
    register tile in a matrix unit.

    row  cycles of the unit to load a row of a panel of the vector operand
    """
    most, rows = ((outer - 1) * tile.gap + inner for outer, inner in ((tile.outer, tile.inner), (outer, inner)))
    height = cut(most, unit.rows)[0]
    blocks = -(-rows // height) * (1 if tile.gap else outer)
    loaded = unit.pairs * (row * vectors + BLOCK_LINE_FAR * blocks)
    step = (max(BLOCK * blocks * vectors, loaded) + BLOCK_APART * loaded) / unit.pairs
    start = TILE_START + 2 * CONFIGURE * (rows < height) + BLOCK_STORED * unit.rows * vectors * blocks
    return step, start, BLOCK_RESUMED


def at_the_end(view: View) -> list[Access]:
    """What a tile touches when its reduction is finished: results, and what its epilogues read."""
    if "at the end" not in view.memo:
        after = {i for tail in view.stage.tails for i in reads_of(tail)}
        stored = (view.stage.write, *(r.write for r in view.stage.more))
        view.memo["at the end"] = [*stored, *(view.stage.reads[i] for i in after)]
    return view.memo["at the end"]


def row_of_results(view: View, along: str) -> list[int]:
    """Bytes from row to row of each tensor that tiles touch at their ends in rows along an axis, where it does not stay
    in the second-level cache."""
    large = [a for a in at_the_end(view) if a.size * a.dtype.bytes > view.target.l2 and a.flat[along] == 1]
    return [pitch(a, along) for a in large]


def pieces_of_results(view: View, along: str) -> list[Access]:
    """What tiles touch at their ends in rows along an axis that lie apart; two lines at a time are fetched anyway."""
    return [a for a in at_the_end(view) if a.flat[along] == 1 and pitch(a, along) > 2 * LINE]


def pitch(access: Access, along: str) -> int:
    """Bytes from row to row of rows along an axis; 0 where there is one."""
    return access.dtype.bytes * min((abs(access.flat[b]) for b in access.flat.axes - {along}), default=0)


def _far_rows(form: Affine, points: dict[str, int], inner: tuple[str, ...]) -> int:
    """Rows of a tile that lie in pages of their own, where the next tile finds them in no cache: it lies in other
    pages, or the rows fall into one cache set or into too few of them.

    inner  the axis along which the next tile lies
    """
    far = {a: n for a, n in points.items() if abs(form[a]) * 4 >= 4 * PAGE}
    rows, apart = prod(far.values()), gcd(*(abs(form[a]) * 4 for a in far), SETS * LINE)
    stay = not far.keys() & set(inner) and apart < SETS * LINE and rows * apart <= SETS * LINE * WAYS
    return 0 if stay else rows
