"""What a contraction costs under one order of loops, in cycles of one core.

    the register tiles      arithmetic, loads and stores; smaller tiles at the edges counted exactly
    the loops around them   copies made in them, and the bytes that they fetch from beyond the second-level cache

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
from jtc.passes.kernel.rules.common import View

LATENCY = 4.0                  # cycles of one fused multiply-add: a step of the reduction takes at least these
SCALAR = 0.12                  # cycles per broadcast that do not overlap with the arithmetic
CROWDED = 0.1                  # the same per cache line of a panel that fills most of the first-level cache
L1_SHARE, L1_MOST = 0.6, 0.8   # of the first-level cache: the largest panel that stays there; that does not fit beside
                               # all else, but is not fetched again for every tile
PAGE = 1024                    # bytes; rows this far apart crowd the first-level cache and its address cache
PAGES = 64                     # entries of the address cache
FAR_LOAD, FAR_STEP = 1.0, 8.0  # cycles per vector load, per step with broadcasts, where rows are so far apart
SPLIT_LOAD = 0.6               # cycles per vector load that touches two cache lines
CONVERT, CONVERT_SCALAR = 1.0, 3.0         # cycles per vector load, per broadcast, that is converted every time
BLOCK, CONFIGURE = 16.0, 200.0     # cycles of a matrix unit to multiply two blocks; to take up other shapes of blocks
BLOCK_LINE, BLOCK_LINE_FAR = 0.5, 1.2      # the same for a row of a block that it loads, from the second-level cache
BLOCK_BYTE = 0.15              # for a byte from beyond the second-level cache: nothing hides the way to there
BLOCK_APART = 0.25             # share of these that multiplications do not hide
BLOCK_STORED = 1.5             # for a row of its results, which are stored and loaded again
LINE_APART = 30.0              # for a cache line of results in pieces that nothing fetches ahead
BLOCK_RESUMED = 4.0            # the same between blocks of the reduction
LINE_COST = 2.0                # cycles per cache line of scalars, where the next step of the reduction takes others
LINE, SETS, WAYS = 64, 64, 8   # bytes of a cache line; sets and ways of the first-level cache
SET_COST = 4.0                 # cycles per cache line of rows of the scalar operand that crowd a few sets
TILE_START = 20.0              # cycles to enter and leave one register tile
STORE, STORE_SCATTERED = 0.5, 20.0         # cycles per accumulator
STORE_FAR = 100.0              # where its elements lie in pages of their own, for each tensor that is walked so
STORE_MISSED = 270.0           # the same of a tensor that does not stay in the second-level cache, as weights that are
                               # updated: from a cache line for each element on
STORE_TURNED = 1.72            # cycles per shuffle of a block of lanes x lanes that is turned, full or not
FAR_ROW = 25.0                 # cycles per row of a tile in a page of its own, of each tensor larger than the L2 cache,
                               # unless it is still there from the tile before
FOLLOWED = 32                  # pages in which the processor fetches ahead by itself at a time
RELOAD, RELOAD_TURNED = 1.5, 9.0           # cycles per accumulator that a later block of the reduction takes up again
EPILOGUE = 0.9                 # cycles per instruction of the epilogue and accumulator
COPY, COPY_TURNED = 0.1, 1.4   # cycles per element of a copy
COPY_CROWDED, COPY_APART = 8.0, 12.0       # where it writes into a few cache sets; where it reads a line for each
COPY_BLOCK = 3.0               # cycles to turn a block of as many rows as a panel of scalars is wide, for each column
COPY_RUN = 8.0                 # cycles to begin one contiguous run of a copy
PIECE, PIECE_LINE = 1536, 14.0             # bytes of a row from which on the processor fetches ahead what a pack reads;
                               # cycles per cache line of shorter ones, from beyond the second-level cache
PACK_SHARE = 0.4               # of the second-level cache: the largest copy that stays there
WAITING = 3.0                  # how much longer where the inner loop waits for it, not fetched ahead
ROWS_AHEAD = 4                 # rows of the scalar operand that the processor fetches ahead by itself
PAGES_AHEAD = 16               # pages in which it does so at a time, where each step of the reduction takes another row
SEEN, SEEN_ALONE = 0.2, 4.0    # share of it where panels are fetched ahead, and more where few tiles use a panel
FEW_POINTS = 7                 # of a tile, with fewer of which it hides no more than its share of one with so many
L3 = 8 << 20                   # bytes of a shared cache that one kernel may count on


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

    @property
    def rows(self) -> list[tuple[str, int]]:
        """(axis, extent), outer to inner, without the vector axis."""
        return [*zip(self.axes, (self.outer, self.inner) if len(self.axes) > 1 else (self.inner,))]


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


def tile_cycles(view: View, tile: Tile, wide: int, narrow: int, depth: int, blocks: int = 1) -> float:
    """Cycles of all register tiles.  The reduction runs in `blocks` blocks of `depth` steps.

    wide, narrow  numbers of the reads that are loaded as vectors and broadcast
    """
    key = (tile, wide, narrow, depth, blocks)
    if key not in view.memo:
        view.memo[key] = _tile_cycles(view, *key)
    return float(view.memo[key])


def _tile_cycles(view: View, tile: Tile, wide: int, narrow: int, depth: float, blocks: int) -> float:
    write, lanes, axes = view.written, view.lanes, tile.axes
    straight, turned = write[tile.vector] == 1, bool(axes) and write[axes[-1]] == 1
    depth *= tile.steps(view)           # a pair takes as long as a multiply-add, and as many bytes as a float32
    in_narrow = [a in view.read_axes[narrow] for a in axes]
    in_wide = [a in view.read_axes[wide] for a in axes]
    panel = depth * min(tile.vectors * lanes, view.free[tile.vector]) * 4 / view.target.l1
    line = 0.0 if panel <= L1_SHARE else CROWDED if panel <= L1_MOST else view.core.line

    if "touched" not in view.memo:
        view.memo["touched"] = [(a.flat, a.size * a.dtype.bytes > view.target.l2) for a in at_the_end(view)]
    touched = view.memo["touched"]
    far = [STORE_MISSED if missed else STORE_FAR for form, missed in touched
           if abs(form[tile.vector]) * 4 >= (PAGE // 16 if missed and len(touched) > 1 else 4 * PAGE)]
    scattered = sum(far) if far else STORE_SCATTERED
    lines, shuffles = view.target.vector_bits / (8 * LINE), lanes * log2(lanes)
    large = [form for form, missed in touched if missed]

    def one(vectors: int, inner: int, outer: int) -> float:
        count = vectors * inner * outer
        extents = (outer, inner) if len(axes) > 1 else (inner,)
        scalars = prod(n for n, used in zip(extents, in_narrow) if used)
        loads = vectors * prod(n for n, used in zip(extents, in_wide) if used)
        if tile.unit is not None:
            step, start, reload = _matrix_step(tile, tile.unit, vectors, inner, outer, line > 0)
        else:
            step = max(count / 2, (scalars + loads) / 2, LATENCY) + SCALAR * scalars + line * loads * lines
            if tile.dot:
                step *= view.core.pairs
            start, reload = TILE_START, RELOAD_TURNED if turned and not straight else RELOAD
        store = (STORE if straight else scattered) * count
        finished = count
        if turned and not straight:
            finished = vectors * lanes * outer * -(-inner // lanes)
            store = STORE_TURNED * shuffles * finished / lanes
        points = {**dict(zip(axes, extents)), tile.vector: vectors * lanes}
        store += FAR_ROW * sum(_far_rows(form, points, axes[-1:]) for form in large)
        return blocks * (step * depth + start + store) + (blocks - 1) * reload * count + finished * EPILOGUE * view.work

    def along(size: int, step: int, cost: Callable[[int], float]) -> float:
        return size // step * cost(step) + (cost(size % step) if size % step else 0.0)

    outer_size = view.free[axes[0]] if len(axes) > 1 else 1
    inner_size = view.free[axes[-1]] if axes else 1
    total = along(view.free[tile.vector], tile.vectors * lanes, lambda n: along(
        inner_size, tile.inner, lambda i: along(outer_size, tile.outer, lambda o: one(-(-n // lanes), i, o))))
    return total * prod(n for a, n in view.free.items() if a in view.parallel and a != tile.vector and a not in axes)


def _matrix_step(tile: Tile, unit: Matrix, vectors: int, inner: int, outer: int, far: bool
                 ) -> tuple[float, float, float]:
    """(cycles of one pair of steps, to begin and end, and per vector to go on with a next block of the reduction) of a
    register tile in a matrix unit.

    far  whether panels of the vector operand come from the second-level cache
    """
    most, rows = ((outer - 1) * tile.gap + inner for outer, inner in ((tile.outer, tile.inner), (outer, inner)))
    height = cut(most, unit.rows)[0]
    blocks = -(-rows // height) * (1 if tile.gap else outer)
    loaded = unit.pairs * ((BLOCK_LINE_FAR if far else BLOCK_LINE) * vectors + BLOCK_LINE_FAR * blocks)
    step = (max(BLOCK * blocks * vectors, loaded) + BLOCK_APART * loaded) / unit.pairs
    start = TILE_START + 2 * CONFIGURE * (rows < height) + BLOCK_STORED * unit.rows * vectors * blocks
    return step, start, BLOCK_RESUMED


def at_the_end(view: View) -> list[Access]:
    """What a tile touches when its reduction is finished: results, and what its epilogues read."""
    after = {i for tail in view.stage.tails for i in reads_of(tail)}
    stored = (view.stage.write, *(r.write for r in view.stage.more))
    return [*stored, *(view.stage.reads[i] for i in after)]


def row_of_results(view: View, along: str) -> list[int]:
    """Bytes from row to row of each tensor that tiles touch at their ends in rows along an axis, where it does not stay
    in the second-level cache."""
    large = [a for a in at_the_end(view) if a.size * a.dtype.bytes > view.target.l2 and a.flat[along] == 1]
    return [a.dtype.bytes * min((abs(a.flat[b]) for b in view.parallel if b != along and a.flat[b]), default=0)
            for a in large]


def _far_rows(form: Affine, points: dict[str, int], inner: tuple[str, ...]) -> int:
    """Rows of a tile that lie in pages of their own, where the next tile finds them in no cache: it lies in other
    pages, or the rows fall into one cache set or into too few of them.

    inner  the axis along which the next tile lies
    """
    far = {a: n for a, n in points.items() if abs(form[a]) * 4 >= 4 * PAGE}
    rows, apart = prod(far.values()), gcd(*(abs(form[a]) * 4 for a in far), SETS * LINE)
    stay = not far.keys() & set(inner) and apart < SETS * LINE and rows * apart <= SETS * LINE * WAYS
    return 0 if stay else rows


def far_copy(view: View, elements: float) -> float:
    """Cycles per element of a copy that are spent on writing and reading it beyond the second-level cache."""
    if elements * 4 <= view.target.l2 * PACK_SHARE:
        return 0.0
    return 8 * (view.core.far if elements * 4 <= L3 // 3 else view.core.memory)     # it is not alone in there


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
        extents, trips = dict(self.view.free), []
        for axis, step in self.loops:
            trips.append(-(-extents.get(axis, 1) // step))
            extents[axis] = min(extents.get(axis, 1), step)
        return trips

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
        reductions = self.view.reductions
        blocks = prod(t for (a, _), t in zip(self.loops, self.trips) if a in reductions)
        depth = prod(self.extents[-1][r] for r in reductions)
        cycles = tile_cycles(self.view, self.tile, self.wide.number, self.narrow.number, depth, blocks)
        return cycles + self._reads(depth) + self._fetched() + self._lines_again() + self._pieces() \
            + self._short_pieces() + self.wide.cost + self.narrow.cost

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
            total += elements * each * (prod(self.trips[:depth]) + parts - 1)
        return total

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
        runs = prod(-(-view.free[a] // n) for a, n in tile.rows)
        runs *= prod(n for a, n in view.free.items() if a in view.parallel and a not in (tile.vector, *tile.axes))
        steps = prod(view.free[r] for r in view.reductions) * runs * tile.steps(view)
        panels = -(-view.free[tile.vector] // (tile.vectors * lanes))
        loads, strides, cost = tile.vectors * steps * panels, view.strides[self.wide.number], 0.0
        if not self.wide.packed:
            if _in_order(self.wide) and reach(view, self.wide.number) >= PAGE and depth > PAGES:
                cost += FAR_LOAD * loads
            if self.wide.copy or any(c % lanes for a, c in strides.terms.items() if a != tile.vector):
                cost += SPLIT_LOAD * loads * view.target.vector_bits / (8 * LINE)    # shorter ones seldom do
        scalars = prod(n for a, n in tile.rows if a in view.read_axes[self.narrow.number]) * steps * panels
        if self._in_rows:
            cost += view.core.rows * scalars
        if not self.narrow.packed:
            if _in_order(self.narrow) and reach(view, self.narrow.number) >= PAGE and depth > PAGES:
                cost += FAR_STEP * min(1.0, reach(view, self.narrow.number) / (4 * PAGE)) * steps * panels
            if self.reductions and _last_stride(view, self.narrow, self.reductions[-1]) >= lanes:
                cost += LINE_COST * self._lines() * steps * panels
            form = view.strides[self.narrow.number]
            if not self.narrow.copy and tile.rows and _crowded(form[tile.rows[-1][0]] * 4, tile.rows[-1][1]):
                cost += SET_COST * panels * _elements(view.walks[self.narrow.number], view.free) * 4 / LINE
        if self._converted(self.wide):
            cost += CONVERT * loads
        if self._converted(self.narrow):
            cost += CONVERT_SCALAR * scalars
        return cost

    @property
    def _in_rows(self) -> bool:
        """Whether the scalars of a step lie in rows of their own, not side by side."""
        order = self.narrow.pack or self.narrow.copy
        if order:
            return not order[-1].endswith("%")
        return bool(self.tile.rows) and self.view.strides[self.narrow.number][self.tile.rows[-1][0]] != 1

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

    def _fetched(self) -> float:
        """Cycles of what the loops fetch into the second-level cache.

        The outermost loops inside of which everything stays in the cache fetch it once in each iteration, but for what
        does not change from one iteration to the next.
        """
        view, size, core = self.view, self.view.kept, self.view.core
        forms = [view.walks[number] for number in (self.wide.number, self.narrow.number, -1)]
        sizes = [self._bytes(self.wide), self._bytes(self.narrow), self._result_bytes]
        depth, totals = 0, [each * _elements(form, view.free) for form, each in zip(forms, sizes)]
        parts = totals
        while sum(parts) > size and depth < len(self.loops):
            depth += 1
            parts = [each * _elements(form, self.extents[depth]) for form, each in zip(forms, sizes)]
        alone = (self.wide, (self.tile.vector, self.tile.vectors * view.lanes)) in self.packed
        cycles = 0.0
        for form, part, total in zip(forms, parts, totals):
            times, changed = 1, sum(parts) > size
            for (axis, _), trips in zip(reversed(self.loops[:depth]), reversed(self.trips[:depth])):
                changed = changed or trips > 1 and axis in form
                times *= trips if changed else 1
            if form is forms[1] and view.stage.reads[self.narrow.number].buffer in view.kernel.written and not changed:
                continue                # an earlier stage has left it in the second-level cache
            moved, cost = part * times, core.far if total <= L3 else core.memory
            if self.tile.unit is not None:
                cost = max(cost, BLOCK_BYTE)
                moved *= 2 if form is forms[2] and times * part > total else 1     # read and written again
            if form is forms[0]:        # the inner loop waits for panels: for all, or for those of a pack that return
                panels = max(0.0, moved - total) if self.wide.pack and not alone else moved
                waiting = self._seen if self.ahead else WAITING if total > size and not alone else 1.0
                moved += panels * (waiting - 1.0)
            elif form is forms[1] and (self._rows_apart or self.narrow.pack and total > size):
                # nothing hides the way from the shared cache: not the arithmetic of a tile, and a pack has none
                moved *= min(WAITING, core.memory / cost)
            cycles += moved * cost
        return cycles

    def _lines_again(self) -> float:
        """Cycles to fetch lines of results again that tiles write in parts: one in each iteration of a loop inside of
        which the results fill the second-level cache."""
        view, walk = self.view, self.view.walks[-1]
        size = view.stage.write.dtype.bytes
        near = [i for i, (axis, step) in enumerate(self.loops) if 0 < walk.get(axis, 0) * step * size < LINE]
        times = prod(self.trips[i] for i in near)
        if times == 1:
            return 0.0
        inside = self.extents[near[-1] + 1]
        apart = min((stride for axis, stride in walk.items() if inside[axis] > 1), default=1)
        touched = sum(a.dtype.bytes for a in at_the_end(view) if a.flat.axes >= view.written.axes)
        part = touched * _elements(walk, inside) * min(apart, LINE // size)
        if part <= view.kept:
            return 0.0
        return (times - 1) * part * (view.core.far if part <= L3 else view.core.memory)

    def _pieces(self) -> float:
        """Cycles lost where tiles of a matrix unit take so short pieces of rows at their ends that nothing fetches
        them ahead, of so many rows in turn that the second-level cache does not keep these until the next panel."""
        view, vector = self.view, self.tile.vector
        last = max(i for i, (axis, _) in enumerate(self.loops) if axis == vector)
        if self.tile.unit is None or self.extents[last + 1][vector] >= view.free[vector]:
            return 0.0
        touched = [a for a in at_the_end(view) if a.flat[vector] == 1 and a.flat.axes - {vector}]
        rows = prod(n for a, n in self.extents[last + 1].items() if a in view.parallel and a != vector)
        if rows * view.free[vector] * sum(a.dtype.bytes for a in touched) <= view.kept:
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


def _elements(walk: dict[str, int], extents: dict[str, int]) -> float:
    """Different addresses that an operand has over these extents; those of sliding windows are counted once.

    walk  see `View.walks`
    """
    count, reach = 1.0, 0
    for axis, stride in walk.items():
        size = extents[axis]
        count *= size if stride > reach else 1 + stride * (size - 1) / (reach + 1)
        reach += stride * (size - 1)
    return count


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


def _last_stride(view: View, way: Operand, axis: str) -> int:
    """Elements between neighbours along a reduction axis, as the operand is read."""
    index = view.stage.reads[way.number].index
    if way.copy and axis in index[int(way.copy[-1])].axes:
        return abs(index[int(way.copy[-1])][axis])
    return abs(view.strides[way.number][axis])
