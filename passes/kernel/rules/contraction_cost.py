"""What a contraction costs under one order of loops, in cycles of one core.

    the register tiles      contraction_tile.py
    the loops around them   copies made in them, and the bytes that they fetch from beyond the second-level cache

The constants are measured on one AVX-512 core (see docs/schedules.md).
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd, prod

from jtc.passes.kernel.rules.common import LINE, View, set_share
from jtc.passes.kernel.rules.contraction_tile import (
    L1_MOST,
    L1_SHARE,
    PAGE,
    SETS,
    WAYS,
    Tile,
    at_the_end,
    pieces_of_results,
    pitch,
    row_of_results,
    tile_cycles,
)
from jtc.passes.kernel.rules.walks import addresses, neighbours, whole

PAGES = 64                     # entries of the address cache
FAR_LOAD, FAR_STEP = 1.0, 8.0  # cycles per vector load, per step with broadcasts, where rows are so far apart
SPLIT_LOAD = 0.6               # cycles per vector load that touches two cache lines
CONVERT, CONVERT_SCALAR = 1.0, 3.0         # cycles per vector load, per broadcast, that is converted every time
BLOCK_BYTE = 0.15              # cycles of a matrix unit for a byte from beyond the second-level cache: nothing hides
                               # the way to there
LINE_APART = 30.0              # the same for a cache line of its results in pieces that nothing fetches ahead
PIECES_FOLLOWED = 48           # pages of results in which such pieces are fetched ahead, line by line
LINE_COST = 2.0                # cycles per cache line of scalars, where the next step of the reduction takes others
SET_COST = 4.0                 # cycles per cache line of rows of the scalar operand that crowd a few sets
FOLLOWED = 32                  # pages in which the processor fetches ahead by itself at a time
AGAIN_APART = 4.0              # how much longer lines take that tiles write in parts, each element by itself
COPY, COPY_TURNED = 0.1, 1.4   # cycles per element of a copy
COPY_CROWDED, COPY_APART = 8.0, 12.0       # where it writes into a few cache sets; where it reads a line for each
COPY_BLOCK = 3.0               # cycles to turn a block of as many rows as a panel of scalars is wide, for each column
COPY_RUN = 8.0                 # cycles to begin one contiguous run of a copy
PIECE, PIECE_LINE = 1536, 14.0             # bytes of a row from which on the processor fetches ahead what a pack reads;
                               # cycles per cache line of shorter ones, from beyond the second-level cache
PACK_SHARE = 0.4               # of the second-level cache: the largest copy that stays there
ROWS_AHEAD = 4                 # rows of the scalar operand that the processor fetches ahead by itself
PAGES_AHEAD = 16               # pages in which it does so at a time, where each step of the reduction takes another row
SEEN, SEEN_ALONE = 0.2, 4.0    # share of it where panels are fetched ahead, and more where few tiles use a panel
TAKEN_FAR = 4.0                # how much longer lines of results take that do not stay in the second-level cache
SHORT_RUN = 4 * LINE           # bytes of a row of scalars that are too few for the processor to fetch ahead
FEW_POINTS = 7                 # of a tile, with fewer of which it hides no more than its share of one with so many


@dataclass(frozen=True)
class Operand:
    """One way to read an operand: in place, packed in a loop, or from a copy.

    number  of the read;  cost: cycles of a copy made by a kernel of its own
    pack    order of a pack inside a loop;  copy: order of a copy kernel;  pad: of either
    packed  whether the tile finds panels in its own order
    split   guards stay, loops are cut at their boundaries
    """

    number: int
    cost: float = 0.0
    pack: tuple[str, ...] = ()
    copy: tuple[str, ...] = ()
    pad: int = 0
    packed: bool = False
    split: bool = False


def far_copy(view: View, elements: float) -> float:
    """Cycles per element of a copy that are spent on writing and reading it beyond the second-level cache."""
    if elements * 4 <= view.target.l2 * PACK_SHARE:
        return 0.0
    return 8 * view.core.byte(3 * 4 * elements)         # it is not alone in there


@dataclass(frozen=True)
class Nest:
    """A register tile, how its operands are read, and the loops around it, those without a step first.

    loops       (axis, step), outer to inner
    reductions  reduction axes in the tile, outer to inner
    packed      (operand, the loop it is packed in)
    ahead       whether panels of the vector operand are fetched ahead
    """

    view: View
    tile: Tile
    wide: Operand
    narrow: Operand
    loops: tuple[tuple[str, int], ...]
    reductions: tuple[str, ...] = ()
    packed: tuple[tuple[Operand, tuple[str, int]], ...] = ()
    ahead: bool = False

    @cached_property
    def trips(self) -> list[int]:
        """How often each loop runs inside one iteration of those around it."""
        return [-(-outside.get(axis, 1) // step) for (axis, step), outside in zip(self.loops, self.extents)]

    @cached_property
    def extents(self) -> list[dict[str, int]]:
        """Axis -> its extent inside of the first 0, 1, 2... loops."""
        found = [self.view.free]
        for axis, step in self.loops:
            found.append({**found[-1], axis: min(found[-1].get(axis, 1), step)})
        return found

    @cached_property
    def cycles(self) -> float:
        """Of the whole stage on one core, but for packs in its loops."""
        return self.least + self._fetched() + self._lines_again() + self._pieces() + self._short_pieces()

    @cached_property
    def least(self) -> float:
        """Those of register tiles, of operands read where they lie, and of copy kernels: found soonest."""
        reductions = self.view.reductions
        blocks = prod(t for (a, _), t in zip(self.loops, self.trips) if a in reductions)
        depth = prod(self.extents[-1][r] for r in reductions)
        return self.wide.cost + self.narrow.cost + self._reads(depth) + tile_cycles(
            self.view, self.tile, self.wide.number, self.narrow.number, depth, blocks, self._passing(depth)) \
            + self.view.core.single * self._taken_up(blocks)

    def copied(self, parts: int) -> float:
        """Cycles of the packs where `parts` threads or shares of the outer loops each make their own."""
        total = 0.0
        for operand, loop in self.packed:
            depth = self.loops.index(loop) + 1
            inside = self.extents[depth]
            elements = prod(inside[a] for a in self.view.read_axes[operand.number] if a in inside)
            last = operand.pack[-1].rstrip("/%")
            run = self.tile.vectors * self.view.lanes if operand is self.wide else inside.get(last, 1)
            if operand is self.narrow and operand.pack[-1].endswith("%"):
                run = self.tile.inner
            straight = operand.copy or self.view.strides[operand.number][last] == 1
            each = COPY + COPY_RUN / run if straight else self._turned(operand, inside)
            each += far_copy(self.view, elements)
            again = self._source(operand) * elements
            total += elements * each * (prod(self.trips[:depth]) + parts - 1) + again * (parts - 1)
        return total

    def _source(self, operand: Operand) -> float:
        """Cycles to fetch an element once more that a pack reads; `_fetched` counts it once."""
        read = self.view.stage.reads[operand.number]
        return read.dtype.bytes * self.view.core.byte(read.size * read.dtype.bytes)

    def _turned(self, operand: Operand, inside: dict[str, int]) -> float:
        """Cycles per element of a pack that reads along another axis than it writes."""
        strides, step = self.view.strides[operand.number], 1
        for item in reversed(operand.pack):
            axis = item.rstrip("/%")
            if strides[axis] == 1:
                if operand is self.narrow and operand.pack[-1].endswith("%"):
                    return COPY + COPY_BLOCK / min(self.tile.inner, self.view.lanes)
                return COPY_CROWDED if _crowded(step * 4, self.view.lanes) else COPY_TURNED
            step *= self.tile.vectors * self.view.lanes if item.endswith("%") else inside.get(axis, 1)
        return COPY_APART

    def _reads(self, depth: int) -> float:
        """Cycles lost to rows in other pages, to cache lines used for one element, to loads across two lines, and to
        conversions of what is read in place."""
        view, tile, lanes = self.view, self.tile, self.view.lanes
        if tile.unit is not None:       # takes whole cache lines, each once
            return 0.0
        steps, panels = _visits(view, tile)
        loads, strides, cost = tile.vectors * steps * panels, view.strides[self.wide.number], 0.0
        if not self.wide.packed:
            if _in_order(self.wide) and reach(view, self.wide.number) >= PAGE and depth > PAGES:
                cost += FAR_LOAD * view.core.apart * loads
            if self.wide.copy or any(c % lanes for a, c in strides.terms.items() if a != tile.vector):
                cost += SPLIT_LOAD * loads * view.target.vector_bits / (8 * LINE)    # shorter ones seldom do
            if self._overflows(depth):
                cost += view.core.waiting * view.core.far * loads * view.target.vector_bits / 8
            cost += view.core.single * self._lines_apart(depth, steps * panels)
        scalars = prod(n for a, n in tile.rows if a in view.read_axes[self.narrow.number]) * steps * panels
        if self._in_rows:
            cost += view.core.rows * scalars + view.core.single * self._short_runs(scalars)
        if not self.narrow.packed:
            if _in_order(self.narrow) and reach(view, self.narrow.number) >= PAGE and depth > PAGES:
                far = FAR_STEP * view.core.apart * min(1.0, reach(view, self.narrow.number) / (4 * PAGE))
                cost += far * steps * panels
            if self.reductions and _last_stride(view, self.narrow, self.reductions[-1]) >= lanes:
                cost += LINE_COST * view.core.apart * self._lines() * steps * panels
            form = view.strides[self.narrow.number]
            if not self.narrow.copy and tile.rows and _crowded(form[tile.rows[-1][0]] * 4, tile.rows[-1][1]):
                cost += SET_COST * panels * addresses(view.walks[self.narrow.number], view.free) * 4 / LINE
        if self._converted(self.wide):
            cost += CONVERT * loads
        if self._converted(self.narrow):
            cost += CONVERT_SCALAR * scalars
        return cost

    def _overflows(self, depth: int) -> bool:
        """Whether what a tile reads of the vector operand where it lies falls into so few sets of the second-level
        cache that it does not stay there until the next tile."""
        strides = self.view.strides[self.wide.number]
        share = set_share(self.view.target, (abs(strides[r]) * 4 for r in self.view.reductions))
        return share > LINE and depth * share > self.view.kept

    @property
    def _in_rows(self) -> bool:
        """Whether the scalars of a step lie in rows of their own, not side by side."""
        order = self.narrow.pack or self.narrow.copy
        if order:
            return not order[-1].endswith("%")
        return bool(self.tile.rows) and self.view.strides[self.narrow.number][self.tile.rows[-1][0]] != 1

    def _short_runs(self, scalars: float) -> float:
        """Cache lines of the scalar operand that tiles take from the second-level cache a few at a time: where a block
        of the reduction is short along rows, and tiles between two uses of it fill the first-level cache.

        scalars  broadcasts of all tiles
        """
        view, inner = self.view, self.extents[-1]
        if self.narrow.packed or not view.core.single:
            return 0.0
        along = next((r for r in reversed(view.reductions) if _last_stride(view, self.narrow, r) == 1), None)
        if along is None or inner[along] == view.free[along]:
            return 0.0
        run, between = inner[along] * self._bytes(self.narrow), self._between()
        if run > SHORT_RUN or sum(self._touched(between)) <= L1_SHARE * view.target.l1:
            return 0.0
        return scalars / inner[along] * max(1.0, run / LINE)

    def _lines_apart(self, depth: int, steps: float) -> float:
        """Cache lines of the vector operand that tiles take from the second-level cache one by one: where what a tile
        reads fills the first level, and no neighbour follows, but the next point of the tile (pixels, where images are
        the lanes) or the next step of the reduction, further away.

        depth, steps  of one tile, and of all of them
        """
        view, strides, size = self.view, self.view.strides[self.wide.number], self._bytes(self.wide)
        if not view.core.single:
            return 0.0
        following = [*(a for a, n in self.tile.rows if n > 1), *self.reductions[-1:]]
        if all(abs(strides[a]) * size < 2 * LINE for a in following):
            return 0.0
        lines = self._touched(self.extents[-1])[0] / min(self.tile.vectors * view.lanes * size, LINE)
        return steps / depth * lines if lines * LINE > view.target.l1 else 0.0

    def _taken_up(self, blocks: int) -> float:
        """Cache lines of results that go to the second-level cache and come back between blocks of the reduction."""
        view = self.view
        if blocks == 1 or not view.core.single:
            return 0.0
        last = max(i for i, (a, _) in enumerate(self.loops) if self.trips[i] > 1 and a in view.reductions)
        if sum(self._touched(self.extents[last + 1])) <= L1_SHARE * view.target.l1:
            return 0.0
        size = whole(view, -1) * self._result_bytes
        return 2 * (blocks - 1) * size / LINE * (1 if size <= view.target.l2 else TAKEN_FAR)

    def _between(self) -> dict[str, int]:
        """Extents of the loops inside of the one that comes back to the same scalars."""
        scalars = self.view.read_axes[self.narrow.number]
        for number in range(len(self.loops) - 1, -1, -1):
            if self.trips[number] > 1 and self.loops[number][0] not in scalars:
                return self.extents[number + 1]
        return self.extents[0]

    def _converted(self, way: Operand) -> bool:
        """Whether the tile converts what it loads; a copy holds it converted."""
        in_place = not way.packed and not way.copy and not self.tile.dot
        return in_place and self.view.copied[way.number] is not self.view.stage.reads[way.number].dtype

    def _bytes(self, way: Operand) -> int:
        """Bytes of an element, as the tile reads it."""
        in_place = not way.packed and not way.copy or self.tile.dot
        return (self.view.stage.reads[way.number].dtype if in_place else self.view.copied[way.number]).bytes

    @property
    def _result_bytes(self) -> int:
        """Bytes of an element of the result, or of what waits for it between blocks of the reduction, in a type that
        holds the sum."""
        stage, reductions = self.view.stage, set(self.view.reductions)
        blocked = any(t > 1 for (axis, _), t in zip(self.loops, self.trips) if axis in reductions)
        return max(stage.write.dtype.bytes, stage.body.dtype.bytes if blocked else 0)

    def _lines(self) -> float:
        """Cache lines of the scalar operand that one step of a register tile touches."""
        strides, used = self.view.strides[self.narrow.number], 1.0
        for axis, size in self.tile.rows:
            if strides[axis]:
                used *= 1 + (size - 1) * min(1.0, abs(strides[axis]) * 4 / LINE)
        return used

    @cached_property
    def _sizes(self) -> list[tuple[int, int]]:
        """(number, bytes of an element) of each operand, the vector one first, and of the result (-1)."""
        return [(self.wide.number, self._bytes(self.wide)), (self.narrow.number, self._bytes(self.narrow)),
                (-1, self._result_bytes)]

    def _touched(self, extents: dict[str, int]) -> list[float]:
        """Bytes of each operand and of the result that loops of these extents touch."""
        return [size * addresses(self.view.walks[number], extents) for number, size in self._sizes]

    def _fetched(self) -> float:
        """Cycles of what the loops fetch into the second-level cache.

        The outermost loops inside of which everything stays in the cache fetch it once in each iteration, but for what
        does not change from one iteration to the next.
        """
        view, size, core = self.view, self.view.kept, self.view.core
        forms = [view.walks[number] for number, _ in self._sizes]
        depth, totals = 0, [each * whole(view, number) for number, each in self._sizes]
        parts = totals
        while sum(parts) > size and depth < len(self.loops):
            depth += 1
            parts = self._touched(self.extents[depth])
        alone = (self.wide, (self.tile.vector, self.tile.vectors * view.lanes)) in self.packed
        cycles = 0.0
        for form, part, total in zip(forms, parts, totals):
            times, changed = 1, sum(parts) > size
            for (axis, _), trips in zip(reversed(self.loops[:depth]), reversed(self.trips[:depth])):
                changed = changed or trips > 1 and axis in form
                times *= trips if changed else 1
            if form is forms[1] and view.stage.reads[self.narrow.number].buffer in view.kernel.written and not changed:
                continue                # an earlier stage has left it in the second-level cache
            moved, cost = part * times, view.core.byte(total)
            if self.tile.unit is not None:
                cost = max(cost, BLOCK_BYTE)
                moved *= 2 if form is forms[2] and times * part > total else 1     # read and written again
            if form is forms[0]:        # the inner loop waits for panels: for all, or for those of a pack that return
                panels = max(0.0, moved - total) if self.wide.pack and not alone else moved
                waiting = self._seen if self.ahead else core.waiting if total > size and not alone else 1.0
                moved += panels * (waiting - 1.0)
            elif form is forms[1] and (self._rows_apart or self.narrow.pack and total > size):
                # nothing hides the way from the shared cache: not the arithmetic of a tile, and a pack has none
                moved *= min(core.waiting, core.memory / cost)
            cycles += moved * cost
        return cycles

    def _lines_again(self) -> float:
        """Cycles to fetch lines of results again that tiles write in parts: one in each iteration of a loop inside of
        which the results fill the second-level cache."""
        view, walk = self.view, self.view.walks[-1]
        size = view.stage.write.dtype.bytes
        near = [i for i, (axis, step) in enumerate(self.loops)
                if self.trips[i] > 1 and 0 < walk.get(axis, 0) * step * size < LINE]
        if not near:
            return 0.0
        times = prod(self.trips[i] for i in near)
        inside = self.extents[near[-1] + 1]
        touched = sum(a.dtype.bytes for a in at_the_end(view) if a.flat.axes >= view.written.axes)
        run, gap = neighbours(walk, inside)
        apart = max(1.0, min(gap, LINE / size) / run)
        part = touched * addresses(walk, inside) * apart
        lines = part / max(run * apart * size, LINE)        # or longer pieces
        share = set_share(view.target, (s * size for a, s in walk.items() if inside[a] > 1 and s >= gap))
        if max(part, lines * share) <= view.kept:
            return 0.0
        again = (times - 1) * part * view.core.byte(part)
        return again * (AGAIN_APART if apart > 1 else 1.0)

    def _passing(self, depth: int) -> bool:
        """Whether all panels pass by for each tile of a matrix unit, and are too large for the first-level cache."""
        view, vector = self.view, self.tile.vector
        wide, size = view.strides[self.wide.number].axes, view.stage.reads[self.wide.number].dtype.bytes
        last = max(i for i, (axis, _) in enumerate(self.loops) if axis == vector)
        return self.tile.unit is not None and prod(self.trips[last + 1:]) == 1 \
            and any(t > 1 and axis not in wide for (axis, _), t in zip(self.loops[:last], self.trips)) \
            and depth * view.free[vector] * size > L1_MOST * view.target.l1

    def _pieces(self) -> float:
        """Cycles lost where tiles of a matrix unit take so short pieces of rows at their ends that nothing fetches
        them ahead: where rows in more pages than the processor follows at a time pass by until the next panel."""
        view, vector = self.view, self.tile.vector
        last = max(i for i, (axis, _) in enumerate(self.loops) if axis == vector)
        if self.tile.unit is None or self.extents[last + 1][vector] >= view.free[vector]:
            return 0.0
        touched = pieces_of_results(view, vector)
        rows = prod(n for a, n in self.extents[last + 1].items() if a in view.parallel and a != vector)
        followed = rows * sum(pitch(a, vector) for a in touched) <= PIECES_FOLLOWED * 4 * PAGE
        if followed or sum(a.size * a.dtype.bytes for a in touched) <= view.kept:
            return 0.0
        points = prod(view.free[a] for a in view.parallel if a in view.free)
        return LINE_APART * points * sum(a.dtype.bytes for a in touched) / LINE

    def _short_pieces(self) -> float:
        """Cycles that packs of the vector operand wait for pieces of rows that nothing fetches ahead."""
        view, vector, wide = self.view, self.tile.vector, self.wide
        loop = dict(self.packed).get(wide)
        if loop is None or not row_pieces(view, wide, vector):
            return 0.0
        depth = self.loops.index(loop) + 1
        inside, size = self.extents[depth], view.stage.reads[wide.number].dtype.bytes
        if inside[vector] * size >= PIECE or inside[vector] >= view.free[vector]:
            return 0.0
        read = prod(inside[a] for a in view.read_axes[wide.number] if a in inside)
        return PIECE_LINE * read * prod(self.trips[:depth]) * size / LINE

    @property
    def _rows_apart(self) -> bool:
        """Whether a tile walks along rows of the scalar operand in pages of their own: more than are fetched ahead.

        Rows are points of the tile, or steps of the reduction, of which the next tile takes the elements beside.
        """
        if self.narrow.pack or not self.tile.rows or "%" in "".join(self.narrow.copy):      # or they lie side by side
            return False
        if not self.narrow.packed and _in_order(self.narrow):
            inner, strides = self.extents[-1], self.view.strides[self.narrow.number]
            if any(abs(strides[r]) * 4 * inner[r] > PAGES_AHEAD * 4 * PAGE and abs(strides[r]) * 4 >= PAGE
                   for r in self.view.reductions):
                return True
        axis, rows = self.tile.rows[-1]
        form = self.view.strides[self.narrow.number]
        row = prod(n for a, n in self.view.free.items() if a in self.view.reductions and form[a])
        return rows >= ROWS_AHEAD and bool(form[axis]) and (row if self.narrow.packed else abs(form[axis])) * 4 >= PAGE

    @property
    def _seen(self) -> float:
        """The share of the time to fetch panels ahead that the arithmetic of the tiles of one panel does not hide."""
        wide = self.view.strides[self.wide.number].axes
        last = max(i for i, (axis, _) in enumerate(self.loops) if axis == self.tile.vector)
        tiles = prod(t for (axis, _), t in zip(self.loops[last + 1:], self.trips[last + 1:]) if axis not in wide)
        points = prod(n for a, n in self.extents[last + 1].items() if a in self.view.parallel and a not in wide)
        return min(1.0, SEEN + SEEN_ALONE / min(tiles, max(1.0, points / FEW_POINTS)))


def _visits(view: View, tile: Tile) -> tuple[float, int]:
    """Steps of all register tiles along one panel of the vector operand, and how many panels there are."""
    key = ("visits", tile)
    if key not in view.memo:
        runs = prod(-(-view.free[a] // n) for a, n in tile.rows)
        runs *= prod(n for a, n in view.free.items() if a in view.parallel and a not in (tile.vector, *tile.axes))
        steps = prod(view.free[r] for r in view.reductions) * runs * tile.steps(view)
        view.memo[key] = steps, -(-view.free[tile.vector] // (tile.vectors * view.lanes))
    return view.memo[key]


def least_fetched(view: View, wide: Operand, narrow: Operand) -> float:
    """What no order of loops takes less than to fetch into the second-level cache: each tensor once, in the smallest
    type that it is read in, the panels of the vector operand as well hidden as they can be."""
    stage, cycles = view.stage, 0.0
    for number, share in ((wide.number, SEEN if wide.packed else 1.0), (narrow.number, 1.0), (-1, 1.0)):
        if number == narrow.number and stage.reads[number].buffer in view.kernel.written:
            continue                    # it may be near already
        size = stage.write.dtype.bytes if number == -1 else \
            min(stage.reads[number].dtype.bytes, view.copied[number].bytes)
        total = size * whole(view, number)
        cycles += share * total * view.core.byte(total)
    return cycles * (1 - 1e-9)          # whatever the order in which the parts are summed


def _crowded(stride: int, rows: int) -> bool:
    """Whether rows so many bytes apart take more than half of the ways of the cache sets that they fall into."""
    return stride >= LINE and rows * gcd(stride // LINE, SETS) > SETS * WAYS // 2


def _in_order(way: Operand) -> bool:
    """Whether the operand is read where it lies, or from a copy with the same order of dimensions."""
    return not way.copy or way.copy == tuple(map(str, range(len(way.copy))))


def reach(view: View, number: int) -> int:
    """Bytes between neighbours along the reduction axis with the longest stride."""
    return max((abs(view.strides[number][r]) * 4 for r in view.reductions), default=0)


def row_pieces(view: View, operand: Operand, vector: str) -> bool:
    """Whether packs of the vector operand read pieces of rows that lie apart, beyond the second-level cache."""
    number, read = operand.number, view.stage.reads[operand.number]
    return bool(operand.pack) and not operand.copy and view.strides[number][vector] == 1 \
        and reach(view, number) >= PAGE and read.size * read.dtype.bytes > view.target.l2


def rows_followed(view: View, tile: Tile) -> int:
    """How many rows of results the processor fetches ahead by itself while tiles go along them; 0: any number."""
    pieces = [pitch(a, tile.vector) for a in pieces_of_results(view, tile.vector)]
    rows, pages = (row_of_results(view, tile.vector), FOLLOWED) if tile.unit is None else (pieces, PIECES_FOLLOWED)
    return pages * 4 * PAGE // sum(rows) if sum(rows) else 0


def _last_stride(view: View, way: Operand, axis: str) -> int:
    """Elements between neighbours along a reduction axis, as the operand is read."""
    index = view.stage.reads[way.number].index
    if way.copy and axis in index[int(way.copy[-1])].axes:
        return abs(index[int(way.copy[-1])][axis])
    return abs(view.strides[way.number][axis])
