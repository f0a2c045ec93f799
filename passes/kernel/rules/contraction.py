"""Contractions: sums of products of two reads that each miss a parallel axis of the other (matmul, convolution...).

One operand takes the lanes (the vector operand), the other is broadcast (the scalar operand).  The register tile is
lanes along one axis of the vector operand times points of one or two axes that it lacks.  The rule enumerates

    vector axis  x  tile axes  x  tile sizes     the few with the least cycles in the tiles alone, then for each
    how each operand is read  x  loop order      cycles with copies, and with the bytes moved between caches

and offers as many loops to threads as give each of them equal shares.  Costs are in contraction_cost.py.  Operands that
are constant are packed ahead for nothing; guarded ones are read from a padded copy.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from math import prod

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import F32
from jtc.dialects.kernel import PAIR, Access, Pack, Schedule
from jtc.passes.kernel.legality import in_pairs
from jtc.passes.kernel.packing import box_copied
from jtc.passes.kernel.rules.common import GATHER_COST, SMALL_KERNEL, Candidate, Copy, View, round_up
from jtc.passes.kernel.rules.contraction_cost import (
    COPY,
    FOLLOWED,
    L1_SHARE,
    L3,
    LINE,
    PAGE,
    PAGES,
    Nest,
    Operand,
    Tile,
    far_copy,
    reach,
    row_of_results,
    tile_cycles,
)

COPY_KERNEL = 0.5              # cycles per element of a copy made by a kernel of its own, but for what far_copy counts
KERNEL_TURNED, KERNEL_ROWS, KERNEL_APART = 0.8, 1.3, 8.0    # the same where it transposes into panels; into long rows;
                                                            # where elements of the source share no cache line
KERNEL_BOX = 1.0               # the same of a copy that turns the dimensions of a box with guards
LAUNCH = 5_000.0               # cycles to start one more kernel on several threads
DEPTH = 768                    # steps of the reduction in one block: more gain less than their share of the cache costs
SHALLOW = 256                  # fewer spend too long on starting tiles and on results that are taken up again
SAME_SET = 1024                # bytes; pixels of a copy this far apart crowd a few sets of the first-level cache
TILE_STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 16, 28)
TILES = 4                      # register tiles that are tried with every order of loops
SPARE = 26                     # accumulators next to which LLVM also keeps the addresses of prefetches (measured)
UNROLL = 4                     # instructions of one accumulator in an iteration of the innermost loop; in tiles of
MANY = 24                      # more accumulators half of them: the loop itself costs less there than more code
QUICK_STEPS, QUICK_TILE = (1, 2, 4, 7), 16      # rows, and accumulators, of tiles for quick code
PARTS = 4                      # of the units, in which each thread takes them
UNITS = 64                     # shares of a kernel that are enough for any number of threads

Loops = list[tuple[str, int]]


def propose(view: View) -> Iterator[Candidate]:
    factors = view.stage.factors()
    if factors is None:
        return
    for vector in view.parallel:
        holders = [i for i in factors if vector in view.strides[i].axes]
        if not holders or len(holders) == 2 and not all(view.strides[i][vector] == 1 for i in holders):
            continue
        wide = holders[0]
        narrow = factors[0] if wide == factors[1] else factors[1]
        tiles = list(_tiles(view, vector, wide, narrow))
        choices = [tiles, *([replace(t, dot=axis) for t in tiles] for axis in _in_pairs(view, wide, narrow))]
        found = (c for choice in choices for tile in _best(view, choice, wide, narrow)
                 for c in _variants(view, tile, wide, narrow))
        yield from {(c.schedule, c.copies): c for c in found}.values()


def _in_pairs(view: View, wide: int, narrow: int) -> list[str]:
    """Reduction axes whose steps may be multiplied in pairs, where the processor does that: those along which the
    vector operand can be packed."""
    reads = [view.stage.reads[i] for i in (wide, narrow)]
    known = reads[0].dtype is reads[1].dtype and view.target.multiplies_pairs(reads[0].dtype)
    if not known or not view.packing or view.stage.body.dtype is not F32 or any(r.fill for r in reads):
        return []
    return [r for r in view.reductions
            if all(r in view.read_axes[i] for i in (wide, narrow)) and not _in_window(view, wide, r)]


# ------------------------------------------------------------------------------------------------ register tile
def _tiles(view: View, vector: str, wide: int, narrow: int) -> Iterator[Tile]:
    write = view.written
    reuse = sorted((a for a in view.parallel if a != vector and a not in view.read_axes[wide]),
                   key=lambda a: -abs(write[a]))
    choices = [tuple(reuse[-2:])]
    if write[vector] != 1 and len(reuse) > 2:
        longest = sorted(sorted(reuse, key=lambda a: -view.free[a])[:2], key=lambda a: -abs(write[a]))
        choices.append(tuple(longest))
    if not reuse:       # nothing shares the vector operand but the windows that slide over it
        sliding = [a for a in view.parallel if a != vector and _in_window(view, wide, a)]
        choices = [tuple(sorted(sliding, key=lambda a: -abs(write[a]))[-1:])]
    turned = [a for a in view.parallel if a != vector and write[a] == 1 and a in view.read_axes[wide]]
    if turned and reuse:        # results are turned in registers, so that they are stored along another axis
        choices.append((reuse[-1], turned[0]))
    inner_steps = QUICK_STEPS if view.quick else TILE_STEPS
    outer_steps = (1,) if view.quick else (1, 2, 3, 4)
    largest = QUICK_TILE if view.quick else view.target.registers
    for axes in dict.fromkeys(choices):
        inner_sizes = [n for n in inner_steps if axes and n <= view.free[axes[-1]]] or [1]
        outer_sizes = [n for n in outer_steps if len(axes) > 1 and n <= view.free[axes[0]]] or [1]
        for vectors in range(1, min(7, -(-view.free[vector] // view.lanes) + 1)):
            for inner in inner_sizes:
                for outer in outer_sizes:
                    if vectors * inner * outer <= min(largest, view.target.registers - _spare(view, vectors, narrow)):
                        yield Tile(vector, vectors, axes, inner, outer)


def _spare(view: View, vectors: int, narrow: int) -> int:
    """Registers for loaded vectors, broadcasts and what LLVM's scheduler holds ahead: more of them where the broadcast
    scalars lie side by side in panels, and there are many registers (measured: beyond this it spills)."""
    if vectors > 2:
        return 7
    panels = is_fixed(view, narrow) and not any(_in_window(view, narrow, a) for a in view.read_axes[narrow])
    return 6 if panels and view.target.registers > 16 else 4


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


def _in_window(view: View, number: int, axis: str) -> bool:
    """Whether `axis` shares an index of the read with another axis that it overlaps with (a window that slides).

    Axes that are the digits of an index, as the heads and features of a column are, overlap nowhere.
    """
    key = ("window", number)
    if key not in view.memo:
        index = view.stage.reads[number].index
        view.memo[key] = frozenset().union(*(form.axes for form in index if _overlaps(view, form)))
    return axis in view.memo[key]


def _overlaps(view: View, form: Affine) -> bool:
    """Whether two points of the axes in an index may have one value of it."""
    reach = 0
    for axis, stride in sorted(((a, abs(form[a])) for a in form.axes & view.free.keys()), key=lambda item: item[1]):
        if stride <= reach:
            return True
        reach += stride * (view.free[axis] - 1)
    return False


# ------------------------------------------------------------------------------------------------ operands
def _variants(view: View, tile: Tile, wide: int, narrow: int) -> Iterator[Candidate]:
    reductions = _order(view, wide, narrow)
    vector_ways, scalar_ways = _vector_ways, _scalar_ways
    if tile.dot:
        reductions = (*(r for r in reductions if r != tile.dot), tile.dot)
        vector_ways, scalar_ways = _paired_vector_ways, _paired_scalar_ways
    for vector_way in vector_ways(view, tile, wide, reductions):
        for scalar_way in scalar_ways(view, tile, narrow, reductions):
            nests = _nests(view, tile, scalar_way, reductions)
            for loops, in_wide, in_narrow in itertools.islice(nests, 1 if view.quick else None):
                yield from _candidate(view, tile, vector_way, scalar_way, reductions, loops, in_wide, in_narrow)


def _order(view: View, wide: int, narrow: int) -> tuple[str, ...]:
    """Reduction axes, outer to inner.  Windows run inside long axes where the lanes slide; else outside of them."""
    windows = [r for r in view.stage.reductions if any(_in_window(view, i, r) for i in (wide, narrow))]
    rest = [r for r in view.stage.reductions if r not in windows]
    rest.sort(key=lambda r: -abs(view.strides[narrow][r]))
    if any(_in_window(view, wide, r) for r in windows):
        return (*rest, *windows)
    if view.stage.reads[narrow].guards:
        return (*windows, *rest)
    return tuple(sorted(view.stage.reductions, key=lambda r: -abs(view.strides[narrow][r])))


def is_fixed(view: View, number: int) -> bool:
    return view.stage.reads[number].buffer in view.constants


def _can_hoist(view: View, number: int) -> bool:
    read = view.stage.reads[number]
    return not view.is_local(read) and read.buffer not in view.kernel.written and not read.gather


def _panel_order(view: View, number: int, tiled: tuple[str, ...], reductions: tuple[str, ...]) -> tuple[str, ...]:
    """Outer axes and tile numbers, then the reduction, then the place in the tile."""
    axes = view.strides[number].axes
    tiled = tuple(a for a in tiled if a in axes)
    outer = [a for a in view.stage.parallel if a in axes and a not in tiled]
    return (*outer, *(a + "//" for a in tiled), *(r for r in reductions if r in axes), *(a + "%" for a in tiled))


def _is_box(view: View, number: int) -> bool:
    read = view.stage.reads[number]
    return all(g.index in read.index and read.shape[read.index.index(g.index)] == g.size for g in read.guards)


def _box_order(view: View, number: int, last: str) -> tuple[str, ...]:
    """Dimensions, those of parallel axes outside, the one that holds `last` innermost."""
    index, reductions = view.stage.reads[number].index, set(view.stage.reductions)
    dims = sorted(range(len(index)), key=lambda d: (
        last in index[d].axes, bool(index[d].axes) and index[d].axes <= reductions, d))
    return tuple(map(str, dims))


def volume(view: View, number: int) -> float:
    return float(prod(view.free.get(a, 1) for a in view.strides[number].axes))


def copying(view: View, number: int, volume: float, each: float) -> float:
    """Cycles of a kernel that copies `volume` elements of a read, which the threads share; `each`: of one element."""
    launch = LAUNCH / prod(-(-axis.size // block) for axis, block in view.kernel.shared)
    return launch + volume * (each + far_copy(view, volume)) / view.repeats(number)


def _turned_whole(view: View, number: int, vector: str) -> Iterator[tuple[tuple[str, ...], float]]:
    """(order of dimensions, cycles) of a copy of the whole box of a read that has the vector axis innermost.

    Stages that read parts of one tensor, as residue classes of a kernel's window do, share it.
    """
    read = view.stage.reads[number]
    order = _box_order(view, number, vector)
    if read.guards or not _can_hoist(view, number) or read.index[int(order[-1])].as_axis() != vector:
        return
    readers = sum(a.buffer == read.buffer for s in view.kernel.stages for a in s.reads)
    if box_copied(view.program, view.kernel, view.stage, number, order):
        yield order, 0.0
    elif readers > 1:
        yield order, copying(view, number, read.size, KERNEL_TURNED) / readers


def _vector_ways(view: View, tile: Tile, number: int, reductions: tuple[str, ...]) -> Iterator[Operand]:
    read, strides = view.stage.reads[number], view.strides[number]
    contiguous, order = strides[tile.vector] == 1, _panel_order(view, number, (tile.vector,), reductions)
    window = any(_in_window(view, number, a) for a in strides.axes)
    if view.packing and is_fixed(view, number) and _can_hoist(view, number) and not read.guards:
        yield Operand(number, copy=order, packed=True)
        return
    if not view.packing and not contiguous:
        yield Operand(number, cost=GATHER_COST * view.points / (tile.inner * tile.outer), split=bool(read.guards))
    if contiguous and not read.guards:
        yield Operand(number)
    if contiguous and read.guards:
        yield Operand(number, cost=0.1 * view.points / view.lanes, split=True)
        if _is_box(view, number) and _can_hoist(view, number):
            size = prod(high - low + 1 for low, high in (f.range(view.stage.sizes) for f in read.index))
            yield Operand(number, cost=size * COPY, copy=tuple(map(str, range(len(read.index)))))
    if not window and not (_outside(read) and read.guards):
        yield Operand(number, pack=order, packed=True)
        sharers = view.sharers[number]
        once = view.target.threads > 1 or not contiguous or sharers > 1 or view.copied[number] is not read.dtype
        if once and _can_hoist(view, number) and not read.guards:
            each = COPY_KERNEL if contiguous else KERNEL_TURNED if 1 in strides.terms.values() else KERNEL_APART
            cost = copying(view, number, volume(view, number), each) / sharers
            yield Operand(number, cost=cost, copy=order, packed=True)
        if not contiguous:
            for box, cost in _turned_whole(view, number, tile.vector):
                yield Operand(number, cost=cost, copy=box, pack=order, packed=True)


def _outside(read: Access) -> bool:
    """Whether a guard lies on axes that the read itself does not walk: a copy could not hold it."""
    return any(g.index.axes - read.flat.axes for g in read.guards)


def _scalar_ways(view: View, tile: Tile, number: int, reductions: tuple[str, ...]) -> Iterator[Operand]:
    read, strides = view.stage.reads[number], view.strides[number]
    window = any(_in_window(view, number, a) for a in strides.axes)
    if view.packing and is_fixed(view, number) and _can_hoist(view, number) and not read.guards and not window:
        yield Operand(number, copy=_panel_order(view, number, tile.axes, reductions), packed=True)
        return
    if read.guards:
        if _is_box(view, number) and _can_hoist(view, number):
            ranges = [form.range(view.stage.sizes) for form in read.index]
            size = prod(high - low + 1 for low, high in ranges)
            order = _box_order(view, number, reductions[-1] if reductions else "")
            low, high = ranges[int(order[-1])]
            pad = view.lanes if (high - low + 1) * read.dtype.bytes % SAME_SET == 0 else 0
            yield Operand(number, cost=size * KERNEL_BOX, copy=order, pad=pad)
            yield Operand(number, cost=size * COPY, copy=tuple(map(str, range(len(read.index)))))
        if not view.packing or not (_is_box(view, number) and _can_hoist(view, number)):
            yield Operand(number, cost=view.points / view.lanes, split=True)
        return
    yield Operand(number)
    if not window and tile.axes and tile.axes[0] in strides.axes:
        outer = [a for a in view.stage.parallel if a in strides.axes]
        order = (*outer, *(r for r in reductions if r in strides.axes))
        yield Operand(number, pack=order, pad=view.lanes, packed=True)
        if len(tile.axes) == 1 and strides[tile.axes[0]] == 1 and tile.inner % (view.lanes // 2) == 0:
            # pieces that are whole halves of vectors, cut out where rows would have to be turned
            yield Operand(number, pack=_panel_order(view, number, tile.axes, reductions), packed=True)
        sharers = view.sharers[number]
        if (view.target.threads > 1 or sharers > 1) and _can_hoist(view, number):
            turned = KERNEL_ROWS if 1 in strides.terms.values() else KERNEL_APART
            cost = copying(view, number, volume(view, number), COPY_KERNEL if strides[order[-1]] == 1 else turned)
            yield Operand(number, cost=cost / sharers, copy=order, pad=view.lanes, packed=True)


def _paired_vector_ways(view: View, tile: Tile, number: int, reductions: tuple[str, ...]) -> Iterator[Operand]:
    """Those in panels, which hold the two elements of a pair next to each other."""
    for way in _vector_ways(view, tile, number, reductions):
        if way.packed:
            yield replace(way, pack=in_pairs(way.pack, tile.dot), copy=in_pairs(way.copy, tile.dot))


def _paired_scalar_ways(view: View, tile: Tile, number: int, reductions: tuple[str, ...]) -> Iterator[Operand]:
    """Those in which the two elements of a pair are neighbours."""
    read = view.stage.reads[number]
    for way in _scalar_ways(view, tile, number, reductions):
        if way.pack:
            near = way.pack[-1] == tile.dot
        elif way.copy and way.copy[0].isdecimal():
            near = read.index[int(way.copy[-1])][tile.dot] == 1
        elif way.copy:
            way = replace(way, copy=in_pairs(way.copy, tile.dot))
            near = way.copy[-1] in (tile.dot, tile.dot + "%")
        else:
            near = not read.guards and view.strides[number][tile.dot] == 1
        if near:
            yield way


# ------------------------------------------------------------------------------------------------ loops
Anchored = tuple[Loops, tuple[str, int] | None, tuple[str, int] | None]


def _nests(view: View, tile: Tile, narrow: Operand, reductions: tuple[str, ...]) -> Iterator[Anchored]:
    """Orders of loops, each with the loops inside of which the vector and the scalar operand are packed."""
    width, free, rows = tile.vectors * view.lanes, view.free, tile.rows
    panel = (tile.vector, width)
    apart = not narrow.packed and reach(view, narrow.number) >= PAGE
    for big, block in _reduction_blocks(view, width, reductions, apart):
        blocked = [(big, block)] if block < free.get(big, 0) else []
        # panels of the vector operand outermost: each is used by all rows before the next one is touched
        first = [panel, *blocked]
        yield [*first, *rows], first[-1], None
        if not rows:
            continue
        # one slice of rows outermost: it stays near while all panels pass by
        if len(rows) > 1 and not blocked:
            yield [rows[0], panel, *rows[1:]], None, rows[0]
        # blocks of rows, panels of the vector operand pass by; whole columns first where its copy is used by all
        axis, step = rows[0]
        per_row = max(1, 4 * int(volume(view, narrow.number) // free[axis] // max(1, free.get(big, 1)) * block))
        shares = [int(view.target.l2 * 0.4) // per_row // step * step]
        if view.target.threads > 1:
            shares.append(free[axis] // (4 * view.target.threads) // step * step)
        for even in dict.fromkeys((axis, _even(free[axis], share, step)) for share in shares):
            if even[1] > step or len(rows) == 1 and even[1] == step:
                inner = rows if even[1] > step else rows[1:]
                yield [even, *blocked, panel, *inner], (blocked or [even])[-1], even
            if big and even[1] > step:
                deep = prod(free[r] for r in view.reductions) // free[big] * block
                columns = (tile.vector, round_up(min(free[tile.vector], max(width, L3 // (4 * deep))), width))
                yield [columns, *blocked, even, panel, *rows], (blocked or [columns])[-1], even
        # so few rows that the processor fetches their results ahead by itself
        row_bytes = sum(row_of_results(view, tile.vector))
        if row_bytes and not blocked:
            few = (axis, _even(free[axis], int(FOLLOWED * 4 * PAGE / row_bytes) // step * step, step))
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


def _candidate(view: View, tile: Tile, wide: Operand, narrow: Operand, reductions: tuple[str, ...], loops: Loops,
               in_wide: tuple[str, int] | None, in_narrow: tuple[str, int] | None) -> Iterator[Candidate]:
    anchors = [(way, loop) for way, loop in ((wide, in_wide), (narrow, in_narrow)) if way.pack]
    if any(loop is None for _, loop in anchors):
        return
    wanted = [loop for _, loop in anchors if loop is not None]
    kept, moved = _useful(view, tile, loops, wanted)
    packed = tuple((way, moved[loop]) for way, loop in anchors if loop is not None)
    lead = [(a, 1) for a in view.stage.parallel if all(a != b for b, _ in kept)]
    ahead = _fetched_ahead(view, tile, wide, dict(packed).get(wide))
    ways = (wide, narrow)
    split = tuple(dict.fromkeys(a for w in ways if w.split for g in view.stage.reads[w.number].guards
                                for a in sorted(g.index.axes) if a in view.parallel))[:2]
    unroll = _unroll(view, tile, wide.number, reductions)
    packs = tuple(Pack(w.number, loop, w.pack, w.pad) for w, loop in packed)
    copies = tuple(Copy(w.number, w.copy, w.pad) for w in ways if w.copy)
    # results of some lie in the same cache lines: innermost, these are still near when the next tile writes into them
    near = sorted((loop for loop in lead if 0 < abs(view.written[loop[0]]) * view.stage.write.dtype.bytes < LINE),
                  key=lambda loop: -abs(view.written[loop[0]]))
    for inside in ([], near) if near else ([],):
        order = (*(loop for loop in lead if loop not in inside), *kept, *inside)
        cost, threads = total(view, Nest(view, tile, wide, narrow, order, reductions, packed, ahead))
        schedule = Schedule(tile.vector, view.lanes, (*kept, *inside), reductions, unroll, packs, split, threads,
                            prefetch=(wide.number,) if ahead else (), dot=tile.dot)
        yield Candidate(cost, schedule, copies)


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
    return several and bool(there) and prod((tile.vectors, *(step for _, step in tile.rows))) <= SPARE


def _useful(view: View, tile: Tile, loops: Loops, wanted: list[tuple[str, int]]
            ) -> tuple[Loops, dict[tuple[str, int], tuple[str, int]]]:
    """The loops without those that run once and are not register tiles, and where packs inside of them go instead.

    Such a loop would only keep threads out.  A pack goes to the next loop around, or to one over all columns.
    """
    extents, kept, moved = dict(view.free), Loops(), {}
    for number, (axis, step) in enumerate(loops):
        loop, once = (axis, step), step >= extents.get(axis, 1) or (axis, step) in kept
        tiled = axis in view.parallel and all(a != axis for a, _ in loops[number + 1:])
        extents[axis] = min(extents.get(axis, 1), step)
        if loop not in kept and (tiled or not once):
            kept.append(loop)
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
    windows = [r for r in inner if _in_window(view, wide, r) and view.free[r] <= 8]
    if windows:
        total, chosen = 1, []
        for r in reversed(windows):
            total *= view.free[r]
            if total * tile.vectors * tile.inner * tile.outer <= 512:
                chosen.append((r, view.free[r]))
        return tuple(chosen)
    steps = UNROLL if tile.vectors * tile.inner * tile.outer <= MANY else UNROLL // 2
    return ((inner[-1], min(steps * (PAIR if tile.dot else 1), view.free[inner[-1]])),) if inner else ()
