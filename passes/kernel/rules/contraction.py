"""Contractions: sums of products of two reads that each miss a parallel axis of the other (matmul, convolution...).

One operand takes the lanes (the vector operand), the other is broadcast (the scalar operand).  The register tile is
lanes along one axis of the vector operand times points of one or two axes that it lacks.  The rule enumerates

    vector axis  x  tile axes  x  tile sizes     the few with the least cycles in the tiles alone, then for each
    how each operand is read  x  loop order      cycles with copies, and with the bytes moved between caches

and offers as many loops to threads as give each of them equal shares.  Costs are in contraction_cost.py, tiles for a
matrix unit in contraction_matrix.py, the ways to read operands in contraction_operands.py: those that are constant are
packed ahead for nothing, guarded ones are read from a padded copy.
"""
from __future__ import annotations

import itertools
from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import inf, prod

from jtc.dialects.dtypes import F32
from jtc.dialects.kernel import PAIR, Pack, Schedule
from jtc.passes.kernel.rules.common import SMALL_KERNEL, Candidate, Copy, View, round_up
from jtc.passes.kernel.rules.contraction_cost import (
    PACK_SHARE,
    PAGES,
    PIECE,
    Nest,
    Operand,
    least_fetched,
    reach,
    row_pieces,
    rows_followed,
)
from jtc.passes.kernel.rules.contraction_matrix import matrix_depths, matrix_tiles, matrix_unroll
from jtc.passes.kernel.rules.contraction_operands import (
    in_window,
    is_fixed,
    reduction_order,
    scalar_ways,
    spare,
    vector_ways,
    volume,
)
from jtc.passes.kernel.rules.contraction_tile import L1_SHARE, LINE, PAGE, Tile, least_cycles, tile_cycles

DEPTH = 768                    # steps of the reduction in one block: more gain less than their share of the cache costs
SHALLOW = 256                  # fewer spend too long on starting tiles and on results that are taken up again
SHORT = 6                      # points of axes that few tiles divide
TILE_STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 16, 28)
TILES = 4                      # register tiles that are tried with every order of loops
GROUPS = (0.125, 0.25, PACK_SHARE)         # shares of the second-level cache that panels take which are packed at once
SPARE = 26                     # accumulators next to which LLVM also keeps the addresses of prefetches (measured)
UNROLL = 4                     # instructions of one accumulator in an iteration of the innermost loop; in tiles of
MANY = 24                      # more accumulators half of them: the loop itself costs less there than more code
QUICK_STEPS, QUICK_TILE = (1, 2, 4, 7), 16      # rows, and accumulators, of tiles for quick code
PARTS = 4                      # of the units, in which each thread takes them
UNITS = 64                     # shares of a kernel that are enough for any number of threads

Loops = list[tuple[str, int]]
Anchored = tuple[Loops, tuple[str, int] | None, tuple[str, int] | None]
Packed = tuple[tuple[Operand, tuple[str, int]], ...]           # an operand, and the loop inside of which it is packed


def propose(view: View) -> Iterator[Candidate]:
    factors, cheapest = view.stage.factors(), Cheapest(view.few)
    if factors is None:
        return
    for vector in view.parallel:
        holders = [i for i in factors if vector in view.strides[i].axes]
        if not holders or len(holders) == 2 and not all(view.strides[i][vector] == 1 for i in holders):
            continue
        wide = holders[0]
        narrow = factors[0] if wide == factors[1] else factors[1]
        tiles = list(_tiles(view, vector, wide, narrow))
        pairs = _in_pairs(view, wide, narrow)
        choices = [tiles, *([replace(t, dot=axis) for t in tiles] for axis in pairs),
                   *(list(matrix_tiles(view, vector, wide, narrow, axis)) for axis in pairs)]
        for choice in reversed(choices):        # beside those of a matrix unit few others need be looked at
            for tile in _best(view, choice, wide, narrow):
                for c in _variants(view, tile, wide, narrow, cheapest):
                    cheapest.add(c)
    yield from cheapest.found.values()


class Cheapest:
    """The candidates found so far, each once, and what one may cost at most to be among the few that are wanted."""

    def __init__(self, few: int):
        self.few = few
        self.found: dict[tuple[Schedule, tuple[Copy, ...]], Candidate] = {}
        self._costs: list[float] = []           # of the cheapest, in order

    @property
    def most(self) -> float:
        return self._costs[-1] if 0 < self.few == len(self._costs) else inf

    def add(self, candidate: Candidate) -> None:
        if self.few and (candidate.schedule, candidate.copies) not in self.found:
            insort(self._costs, candidate.cost)
            del self._costs[self.few:]
        self.found[candidate.schedule, candidate.copies] = candidate


def _in_pairs(view: View, wide: int, narrow: int) -> list[str]:
    """Reduction axes whose steps may be multiplied in pairs, where the processor does that: those along which the
    vector operand can be packed."""
    reads = [view.stage.reads[i] for i in (wide, narrow)]
    known = reads[0].dtype is reads[1].dtype and view.target.multiplies_pairs(reads[0].dtype)
    if not known or not view.packing or view.stage.body.dtype is not F32 or any(r.fill for r in reads):
        return []
    return [r for r in view.reductions
            if all(r in view.read_axes[i] for i in (wide, narrow)) and not in_window(view, wide, r)]


# ------------------------------------------------------------------------------------------------ register tile
def _tiles(view: View, vector: str, wide: int, narrow: int) -> Iterator[Tile]:
    write = view.written
    reuse = sorted((a for a in view.parallel if a != vector and a not in view.read_axes[wide]),
                   key=lambda a: -abs(write[a]))
    choices = [tuple(reuse[-2:])]
    if len(reuse) > 2 and (write[vector] != 1 or max(view.free[a] for a in reuse[-2:]) <= SHORT):
        longest = sorted(sorted(reuse, key=lambda a: -view.free[a])[:2], key=lambda a: -abs(write[a]))
        choices.append(tuple(longest))
    if not reuse:       # nothing shares the vector operand but the windows that slide over it
        sliding = [a for a in view.parallel if a != vector and in_window(view, wide, a)]
        choices = [tuple(sorted(sliding, key=lambda a: -abs(write[a]))[-1:])]
    turned = [a for a in view.parallel if a != vector and write[a] == 1 and a in view.read_axes[wide]]
    if turned and reuse:        # results are turned in registers, so that they are stored along another axis
        choices.append((reuse[-1], turned[0]))
    inner_steps = QUICK_STEPS if view.quick else TILE_STEPS
    outer_steps = (1,) if view.quick else (1, 2, 3, 4)
    largest = QUICK_TILE if view.quick else view.target.registers
    panels = is_fixed(view, narrow) and not any(in_window(view, narrow, a) for a in view.read_axes[narrow])
    for axes in dict.fromkeys(choices):
        inner_sizes = [n for n in inner_steps if axes and n <= view.free[axes[-1]]] or [1]
        outer_sizes = [n for n in outer_steps if len(axes) > 1 and n <= view.free[axes[0]]] or [1]
        for vectors in range(1, min(7, -(-view.free[vector] // view.lanes) + 1)):
            room = view.target.registers - spare(view, vectors, panels)
            for inner in inner_sizes:
                for outer in outer_sizes:
                    if vectors * inner * outer <= min(largest, room):
                        yield Tile(vector, vectors, axes, inner, outer)


def _best(view: View, tiles: list[Tile], wide: int, narrow: int) -> list[Tile]:
    """The cheapest tiles, one for each number of vectors."""
    depth = prod(view.free[r] for r in view.reductions)
    blocks = -(-depth // DEPTH)
    costs = {t: tile_cycles(view, t, wide, narrow, -(-depth // blocks), blocks) for t in tiles}
    found: list[Tile] = []
    for tile in sorted(tiles, key=lambda t: costs[t]):
        if costs[tile] <= 1.5 * min(costs.values()) and all(
                (t.vectors, t.axes) != (tile.vectors, tile.axes) for t in found):
            found.append(tile)
    return found[:1 if view.quick else TILES]


# ------------------------------------------------------------------------------------------------ loops
def _variants(view: View, tile: Tile, wide: int, narrow: int, cheapest: Cheapest) -> Iterator[Candidate]:
    least = least_cycles(view, tile, wide, narrow)
    if least > cheapest.most:
        return
    reductions = reduction_order(view, tile, wide, narrow)
    scalars = list(scalar_ways(view, tile, narrow, reductions))
    for vector_way in vector_ways(view, tile, wide, reductions):
        for scalar_way in scalars:
            fetched = least_fetched(view, vector_way, scalar_way)
            if least + vector_way.cost + scalar_way.cost + fetched > cheapest.most:
                continue
            nests = itertools.islice(_nests(view, tile, vector_way, scalar_way, reductions), 1 if view.quick else None)
            for loops, packed in dict.fromkeys(_simplified(view, tile, vector_way, scalar_way, nests)):
                yield from _candidates(view, tile, vector_way, scalar_way, reductions, loops, packed, fetched, cheapest)


def _nests(view: View, tile: Tile, wide: Operand, narrow: Operand, reductions: tuple[str, ...]) -> Iterator[Anchored]:
    """Orders of loops, each with the loops inside of which the vector and the scalar operand are packed."""
    width, free, rows = tile.vectors * view.lanes, view.free, tile.rows
    panel = (tile.vector, width)
    apart = not narrow.packed and reach(view, narrow.number) >= PAGE
    blocks = _reduction_blocks(view, width, reductions, apart) if tile.unit is None else \
        matrix_depths(view, tile, narrow.number, tile.unit)
    for big, block in blocks:
        blocked = [(big, block)] if block < free.get(big, 0) else []
        # panels of the vector operand outermost: each is used by all rows before the next one is touched
        first = [panel, *blocked]
        yield [*first, *rows], first[-1], None
        if not rows:
            continue
        # several panels are packed at once, so that longer pieces of rows are read
        if tile.unit is None and not blocked and row_pieces(view, wide, tile.vector):
            held = view.target.l2 // (4 * prod(free[r] for r in view.reductions if r in free))
            groups = [_even(free[tile.vector], int(share * held), width) for share in GROUPS]
            group = next((g for g in groups if 4 * g >= PIECE), groups[-1])
            if width < group < free[tile.vector]:
                yield [(tile.vector, group), panel, *rows], (tile.vector, group), None
        # one slice of rows outermost: it stays near while all panels pass by
        if len(rows) > 1 and not blocked:
            yield [rows[0], panel, *rows[1:]], None, rows[0]
        # one tile of rows: all panels of a matrix unit pass by for whole rows of results
        if tile.unit is not None and not blocked:
            yield [*rows, panel], None, rows[-1]
        # blocks of rows, panels of the vector operand pass by; whole columns first where its copy is used by all
        axis, step = rows[0]
        each = 4 if tile.unit is None else view.stage.reads[narrow.number].dtype.bytes
        per_row = max(1, each * int(volume(view, narrow.number) // free[axis] // max(1, free.get(big, 1)) * block))
        shares = [int(view.target.l2 * 0.4) // per_row // step * step]
        if view.target.threads > 1:
            shares.append(free[axis] // (4 * view.target.threads) // step * step)
        for even in dict.fromkeys((axis, _even(free[axis], share, step)) for share in shares):
            if even[1] > step or len(rows) == 1 and even[1] == step:
                inner = rows if even[1] > step else rows[1:]
                yield [even, *blocked, panel, *inner], (blocked or [even])[-1], even
            if big and even[1] > step:
                deep = prod(free[r] for r in view.reductions) // free[big] * block
                there = max(width, view.core.shared // (4 * deep))
                columns = (tile.vector, round_up(min(free[tile.vector], there), width))
                yield [columns, *blocked, even, panel, *rows], (blocked or [columns])[-1], even
        # so few rows that the processor fetches their results ahead by itself
        followed = rows_followed(view, tile)
        if followed and not blocked:
            few = (axis, _even(free[axis], followed // step * step, step))
            if few[1] < free[axis]:
                yield [few, panel, *rows], few, few


def _even(size: int, share: int, step: int) -> int:
    """The largest of parts of equal size that take no more than `share`, but at least one step."""
    parts = -(-size // min(max(step, share), round_up(size, step)))
    return round_up(-(-size // parts), step)


def _reduction_blocks(view: View, width: int, reductions: tuple[str, ...], apart: bool) -> list[tuple[str, int]]:
    """Blocks of the longest reduction axis to try: the whole, and where that is long, so much that one panel takes
    little of the second-level cache, or, in a product, stays in the first-level one, if the block is not short then.

    apart  whether rows of the scalar operand lie pages apart: then also so many steps that their pages stay known
    """
    inner = [r for r in reductions if r in view.free]
    if not inner:
        return [("", 1)]
    big, depth = max(inner, key=lambda r: view.free[r]), prod(view.free[r] for r in view.reductions)
    limit = min(view.target.l2 // 8 // (width * 4), DEPTH)
    few = PAGES // (depth // view.free[big])
    known = [(big, few)] if apart and 16 <= few < view.free[big] else []
    near = int(view.target.l1 * L1_SHARE) // (width * 4)
    blocks = []
    for most in (limit, near if near >= SHALLOW and depth == view.free[big] else limit):
        if depth > most * 1.25:
            block = round_up(-(-view.free[big] // -(-depth // most)), 4)
            even = [n for n in range(3 * block // 4, 5 * block // 4 + 1) if n % 4 == 0 and view.free[big] % n == 0]
            blocks.append((big, min(even, key=lambda n: abs(n - block), default=block)))        # even: less code
    return [*dict.fromkeys(blocks), (big, view.free[big]), *known]


def _simplified(view: View, tile: Tile, wide: Operand, narrow: Operand, nests: Iterable[Anchored]
                ) -> Iterator[tuple[tuple[tuple[str, int], ...], Packed]]:
    """Nests that have a loop for each pack, without loops that do nothing; different ones may be equal then."""
    for loops, in_wide, in_narrow in nests:
        anchors = [(way, loop) for way, loop in ((wide, in_wide), (narrow, in_narrow)) if way.pack]
        wanted = [loop for _, loop in anchors if loop is not None]
        if len(wanted) == len(anchors):
            kept, moved = _useful(view, tile, loops, wanted)
            yield tuple(kept), tuple((way, moved[loop]) for (way, _), loop in zip(anchors, wanted))


def _candidates(view: View, tile: Tile, wide: Operand, narrow: Operand, reductions: tuple[str, ...],
                kept: tuple[tuple[str, int], ...], packed: Packed, fetched: float, cheapest: Cheapest
                ) -> Iterator[Candidate]:
    """The candidates with these loops that may be among the cheapest; fetched: what all of them fetch at least."""
    lead = [(a, 1) for a in view.stage.parallel if all(a != b for b, _ in kept)]
    ahead = _fetched_ahead(view, tile, wide, dict(packed).get(wide))
    # results of some lie in the same cache lines: innermost, these are still near when the next tile writes into them
    near = sorted((loop for loop in lead if 0 < abs(view.written[loop[0]]) * view.stage.write.dtype.bytes < LINE),
                  key=lambda loop: -abs(view.written[loop[0]]))
    for inside in ([], near) if near else ([],):
        order = (*(loop for loop in lead if loop not in inside), *kept, *inside)
        nest = Nest(view, tile, wide, narrow, order, reductions, packed, ahead)
        least = nest.least + fetched            # what else costs only makes it more
        if least > cheapest.most or least + nest.copied(1) > cheapest.most:
            continue
        cost, threads = total(view, nest)
        copies = tuple(Copy(way.number, way.copy, way.pad) for way in (wide, narrow) if way.copy)
        yield Candidate(cost, _schedule(nest, (*kept, *inside), threads), copies)


def _schedule(nest: Nest, loops: tuple[tuple[str, int], ...], threads: int) -> Schedule:
    """The schedule of a nest, of whose loops these have a step."""
    view, tile, wide = nest.view, nest.tile, nest.wide
    split = tuple(dict.fromkeys(a for w in (wide, nest.narrow) if w.split for g in view.stage.reads[w.number].guards
                                for a in sorted(g.index.axes) if a in view.parallel))[:2]
    packs = tuple(Pack(way.number, loop, way.pack, way.pad) for way, loop in nest.packed)
    return Schedule(tile.vector, view.lanes, loops, nest.reductions,
                    _unroll(view, tile, wide.number, nest.reductions), packs, split, threads,
                    prefetch=(wide.number,) if nest.ahead else (), dot=tile.dot, matrix=tile.unit is not None)


def total(view: View, nest: Nest) -> tuple[float, int]:
    """(cycles with the threads of the target, how many loops they share)."""
    threads, share, copies = _shares(view, nest)
    return nest.cycles * share + nest.copied(copies), threads


def _fetched_ahead(view: View, tile: Tile, wide: Operand, loop: tuple[str, int] | None) -> bool:
    """Whether the next panel of the vector operand, or what it is packed from, is there to be fetched, and registers
    for its address.

    loop  that it is packed in
    """
    width = tile.vectors * view.lanes
    several = wide.packed and view.free[tile.vector] > width
    there = loop != (tile.vector, width) or \
        (wide.copy or view.strides[wide.number][tile.vector] == 1) and not view.stage.reads[wide.number].guards
    room = tile.unit is not None or prod((tile.vectors, *(step for _, step in tile.rows))) <= SPARE
    return several and bool(there) and room


def _useful(view: View, tile: Tile, loops: Loops, wanted: list[tuple[str, int]]
            ) -> tuple[Loops, dict[tuple[str, int], tuple[str, int]]]:
    """The loops without those that run once and are not register tiles, and where packs inside of them go instead.

    Such a loop would only keep threads out.  A pack goes to the next loop around, or to one over all columns.
    """
    extents, kept, moved = dict(view.free), Loops(), {}
    for number, (axis, step) in enumerate(loops):
        loop, extent = (axis, step), extents.get(axis, 1)
        extents[axis] = min(extent, step)
        if loop not in kept and (step < extent or
                                 axis in view.parallel and all(a != axis for a, _ in loops[number + 1:])):
            kept.append(loop)           # it runs more than once, or is a register tile
        elif loop in wanted and not kept:
            kept.append((tile.vector, round_up(view.free[tile.vector], tile.vectors * view.lanes)))
        if kept:
            moved[loop] = kept[-1]
    return kept, moved


def _shares(view: View, nest: Nest) -> tuple[int, float, int]:
    """How many loops threads share; how much longer than an equal share the largest one is; how often a pack around
    the loops that they share is made again."""
    threads = view.target.threads
    if view.points * max(view.work, 1) < SMALL_KERNEL or view.kernel.shared:
        return 0, 1.0, 1
    count, units = 0, 1
    for (axis, _), trips in zip(nest.loops, nest.trips):
        if axis in view.reductions or units >= UNITS:
            break
        count, units = count + 1, units * trips
    share = -(-units // threads) * threads / units
    inside = [nest.loops.index(loop) + 1 for _, loop in nest.packed]
    again = threads > 1 and any(depth < count for depth in inside)
    return count, share, min(units, PARTS * threads) if again else 1


def _unroll(view: View, tile: Tile, wide: int, reductions: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """Windows that slide under the lanes are unrolled whole, so that loads are shared; else the innermost axis by 4, or
    by 2 where a tile has many accumulators (measured on ResNet-50 with AVX-512: 1 is 7 % slower, 2 is not)."""
    inner = [r for r in reductions if r in view.free]
    windows = [r for r in inner if in_window(view, wide, r) and view.free[r] <= 8]
    if windows:
        total, chosen = 1, []
        for r in reversed(windows):
            total *= view.free[r]
            if total * tile.vectors * tile.inner * tile.outer <= 512:
                chosen.append((r, view.free[r]))
        return tuple(chosen)
    if tile.unit is not None:
        return matrix_unroll(view, tile, tile.unit)
    steps = UNROLL if tile.vectors * tile.inner * tile.outer <= MANY else UNROLL // 2
    return ((inner[-1], min(steps * (PAIR if tile.dot else 1), view.free[inner[-1]])),) if inner else ()
