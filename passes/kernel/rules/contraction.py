"""Contractions: sums of products of two reads that each miss a parallel axis of the other (matmul, convolution...).

One operand takes the lanes (the vector operand), the other is broadcast (the scalar operand).  The register tile is
lanes along one axis of the vector operand times points of one or two axes that it lacks.  The rule enumerates

    vector axis  x  tile axes  x  tile sizes     ranked by cycles in the inner loop, tails counted exactly
    how each operand is read  x  loop order      ranked by the bytes moved between the caches and the copies made

and adds the two.  Operands that are constant are packed ahead for nothing; guarded ones are read from a padded copy.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

from jtc.dialects.affine import Affine
from jtc.dialects.kernel import Access, Pack, Schedule
from jtc.passes.kernel.rules.common import Candidate, Copy, View, round_up

LATENCY = 4.0                  # cycles of one fused multiply-add: a step of the reduction takes at least these
FROM_L2 = 2.0                  # extra cycles per vector load that misses the first-level cache
PAGE = 1024                    # bytes; rows this far apart miss in the first-level cache and its address cache
PAGES = 64                     # entries of the address cache
PAGE_COST = 8.0                # cycles per such row and tile
SPLIT_LOAD = 1.0               # cycles per vector load that is not aligned and so touches two cache lines
LOAD_PORT = 0.2                # cycles per load that do not overlap with the arithmetic
LINE_COST = 2.0                # cycles per scalar whose next one in the reduction lies in another cache line
SET_BYTES = 4096               # rows of the scalar operand this far apart share one set of the first-level cache
SET_COST = 4.0                 # cycles per cache line of such rows
STORE, STORE_SCATTERED = 1.0, 40.0         # cycles per accumulator
STORE_TRANSPOSED = 72.0        # cycles per block of lanes x lanes that is turned, full or not
DEPTH = 768                    # steps of the reduction after which a longer tile gains less than its share of cache
TILE_START = 30.0              # cycles to enter and leave one register tile
COPY, COPY_TRANSPOSED = 0.15, 1.0          # cycles per element of a copy
L2_BYTE, L3_BYTE, MEMORY_BYTE = 1 / 40, 1 / 12, 1 / 4      # cycles per byte that comes from there
L3 = 8 << 20                   # bytes of a shared cache that one kernel may count on
SAME_SET = 1024                # bytes; pixels of a copy this far apart crowd a few sets of the first-level cache
SPARE = 26                     # accumulators next to which LLVM also keeps the addresses of prefetches (measured)
TILE_STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 16, 28)


@dataclass(frozen=True)
class Tile:
    """A register tile: `vectors` vectors along `vector`, `inner` points along the last of `axes`, `outer` along the
    first where there are two."""

    cost: float
    vector: str
    vectors: int
    axes: tuple[str, ...]
    inner: int
    outer: int


@dataclass(frozen=True)
class Operand:
    """One way to read an operand: in place, packed in a loop, or from a copy.  cost: cycles of making copies."""

    cost: float = 0.0
    pack: tuple[str, ...] = ()      # order of a pack inside the blocking loop
    copy: tuple[str, ...] = ()      # order of a copy kernel
    pad: int = 0
    packed: bool = False            # panels in the order of the tile
    split: bool = False             # guards stay, loops are cut at their boundaries


def propose(view: View) -> Iterator[Candidate]:
    factors = view.stage.factors()
    if factors is None:
        return
    for vector in view.parallel:
        holders = [i for i in factors if vector in view.strides[i].axes]
        if len(holders) == 2 and not all(view.strides[i][vector] == 1 for i in holders):
            continue
        tiles = sorted(_tiles(view, vector, holders[0], factors), key=lambda t: t.cost)
        for tile in _best(tiles):
            yield from _variants(view, tile, holders[0], factors)


def _best(tiles: list[Tile], count: int = 3) -> list[Tile]:
    """The cheapest tiles, one for each number of vectors."""
    found: list[Tile] = []
    for tile in tiles:
        if tile.cost <= 1.5 * tiles[0].cost and all((t.vectors, t.axes) != (tile.vectors, tile.axes) for t in found):
            found.append(tile)
    return found[:count]


# ------------------------------------------------------------------------------------------------ register tile
def _tiles(view: View, vector: str, wide: int, factors: tuple[int, int]) -> Iterator[Tile]:
    narrow = factors[0] if wide == factors[1] else factors[1]
    write = view.stage.write.flat
    reuse = sorted((a for a in view.parallel if a != vector and a not in view.strides[wide].axes),
                   key=lambda a: -abs(write[a]))
    choices = [tuple(reuse[-2:])]
    if write[vector] != 1 and len(reuse) > 2:
        longest = sorted(sorted(reuse, key=lambda a: -view.free[a])[:2], key=lambda a: -abs(write[a]))
        choices.append(tuple(longest))
    if not reuse:       # nothing shares the vector operand but the windows that slide over it
        sliding = [a for a in view.parallel if a != vector and _in_window(view, wide, a)]
        choices = [tuple(sorted(sliding, key=lambda a: -abs(write[a]))[-1:])]
    for axes in dict.fromkeys(choices):
        inner_sizes = [n for n in TILE_STEPS if axes and n <= view.free[axes[-1]]] or [1]
        outer_sizes = [n for n in (1, 2, 3, 4) if len(axes) > 1 and n <= view.free[axes[0]]] or [1]
        for vectors in range(1, min(7, -(-view.free[vector] // view.lanes) + 1)):
            for inner in inner_sizes:
                for outer in outer_sizes:
                    if vectors * inner * outer <= _budget(view, vectors):
                        tile = Tile(0.0, vector, vectors, axes, inner, outer)
                        yield Tile(_tile_cost(view, tile, wide, narrow), vector, vectors, axes, inner, outer)


def _budget(view: View, vectors: int) -> int:
    """Accumulators that fit next to loaded vectors, broadcasts and what LLVM's scheduler holds ahead (measured)."""
    return view.target.registers - (4 if vectors <= 2 else 7)


def _tile_cost(view: View, tile: Tile, wide: int, narrow: int) -> float:
    """Cycles of all register tiles, the smaller ones at the edges included, without copies and cache misses."""
    depth = prod(view.free[r] for r in view.reductions)
    write, lanes, axes = view.stage.write.flat, view.lanes, tile.axes
    straight, turned = write[tile.vector] == 1, bool(axes) and write[axes[-1]] == 1
    in_narrow = [a in view.strides[narrow].axes for a in axes]
    in_wide = [a in view.strides[wide].axes for a in axes]
    far = depth * tile.vectors * lanes * 4 > view.target.l1 * 0.75

    def one(vectors: int, inner: int, outer: int) -> float:
        count = vectors * inner * outer
        extents = (outer, inner) if len(axes) > 1 else (inner,)
        scalars = prod(n for n, used in zip(extents, in_narrow) if used)
        loads = vectors * prod(n for n, used in zip(extents, in_wide) if used)
        step = max(count / 2, (scalars + loads) / 2, LATENCY) + LOAD_PORT * (scalars + loads)
        if far:
            step += FROM_L2 * max(0.0, loads - count / 8)
        store = STORE * count if straight else STORE_SCATTERED * count
        if turned and not straight:
            store = STORE_TRANSPOSED * vectors * outer * -(-inner // lanes)
        return step * depth + TILE_START + store + count * 0.5 * view.work

    def along(size: int, step: int, cost: Callable[[int], float]) -> float:
        return size // step * cost(step) + (cost(size % step) if size % step else 0.0)

    outer_size = view.free[axes[0]] if len(axes) > 1 else 1
    inner_size = view.free[axes[-1]] if axes else 1
    total = along(view.free[tile.vector], tile.vectors * lanes, lambda n: along(
        inner_size, tile.inner, lambda i: along(outer_size, tile.outer, lambda o: one(-(-n // lanes), i, o))))
    return total * prod(n for a, n in view.free.items() if a in view.parallel and a != tile.vector and a not in axes)


def _in_window(view: View, number: int, axis: str) -> bool:
    """Whether `axis` shares an index of the read with another axis (a window that slides)."""
    return any(axis in form.axes and len(form.axes) > 1 for form in view.stage.reads[number].index)


# ------------------------------------------------------------------------------------------------ operands
def _variants(view: View, tile: Tile, wide: int, factors: tuple[int, int]) -> Iterator[Candidate]:
    narrow = factors[0] if wide == factors[1] else factors[1]
    reductions = _order(view, wide, narrow)
    for vector_way in _vector_ways(view, tile, wide, reductions):
        for scalar_way in _scalar_ways(view, tile, narrow, reductions):
            yield from _orders(view, tile, (wide, vector_way), (narrow, scalar_way), reductions)


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


def _fixed(view: View, number: int) -> bool:
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


def _volume(view: View, number: int) -> float:
    return float(prod(view.free.get(a, 1) for a in view.strides[number].axes))


def _vector_ways(view: View, tile: Tile, number: int, reductions: tuple[str, ...]) -> Iterator[Operand]:
    read, strides = view.stage.reads[number], view.strides[number]
    contiguous, order = strides[tile.vector] == 1, _panel_order(view, number, (tile.vector,), reductions)
    window = any(_in_window(view, number, a) for a in strides.axes)
    if _fixed(view, number) and _can_hoist(view, number) and not read.guards:
        yield Operand(copy=order, packed=True)
        return
    if contiguous and not read.guards:
        yield Operand()
    if contiguous and read.guards:
        yield Operand(cost=0.1 * view.points / view.lanes, split=True)
        if _is_box(view, number) and _can_hoist(view, number):
            size = prod(high - low + 1 for low, high in (f.range(view.stage.sizes) for f in read.index))
            yield Operand(cost=size * COPY, copy=tuple(map(str, range(len(read.index)))))
    if not window and not (_outside(read) and read.guards):
        yield Operand(cost=_volume(view, number) * (COPY if contiguous else COPY_TRANSPOSED), pack=order, packed=True)


def _outside(read: Access) -> bool:
    """Whether a guard lies on axes that the read itself does not walk: a copy could not hold it."""
    return any(g.index.axes - read.flat.axes for g in read.guards)


def _scalar_ways(view: View, tile: Tile, number: int, reductions: tuple[str, ...]) -> Iterator[Operand]:
    read, strides = view.stage.reads[number], view.strides[number]
    window = any(_in_window(view, number, a) for a in strides.axes)
    if _fixed(view, number) and _can_hoist(view, number) and not read.guards and not window:
        yield Operand(copy=_panel_order(view, number, tile.axes, reductions), packed=True)
        return
    if read.guards:
        if _is_box(view, number) and _can_hoist(view, number):
            ranges = [form.range(view.stage.sizes) for form in read.index]
            size = prod(high - low + 1 for low, high in ranges)
            order = _box_order(view, number, reductions[-1] if reductions else "")
            low, high = ranges[int(order[-1])]
            pad = view.lanes if (high - low + 1) * read.dtype.bytes % SAME_SET == 0 else 0
            yield Operand(cost=size * COPY_TRANSPOSED, copy=order, pad=pad)
            yield Operand(cost=size * COPY, copy=tuple(map(str, range(len(read.index)))))
        else:
            yield Operand(cost=view.points / view.lanes, split=True)
        return
    yield Operand()
    if not window and tile.axes and tile.axes[0] in strides.axes:
        outer = [a for a in view.stage.parallel if a in strides.axes]
        order = (*outer, *(r for r in reductions if r in strides.axes))
        straight = bool(reductions) and strides[reductions[-1]] == 1
        yield Operand(cost=_volume(view, number) * (COPY if straight else COPY_TRANSPOSED), pack=order, pad=view.lanes,
                      packed=True)


# ------------------------------------------------------------------------------------------------ loops
def _orders(view: View, tile: Tile, wide: tuple[int, Operand], narrow: tuple[int, Operand],
            reductions: tuple[str, ...]) -> Iterator[Candidate]:
    (wide_number, wide_way), (narrow_number, narrow_way) = wide, narrow
    width, free = tile.vectors * view.lanes, view.free
    rows = [(tile.axes[0], tile.outer), (tile.axes[-1], tile.inner)] if len(tile.axes) > 1 else \
        [(tile.axes[0], tile.inner)] if tile.axes else []
    copies = tuple(Copy(n, w.copy, w.pad) for n, w in (wide, narrow) if w.copy)
    split = tuple(dict.fromkeys(a for n, w in (wide, narrow) if w.split for g in view.stage.reads[n].guards
                                for a in g.index.axes if a in view.parallel))[:2]
    depth = prod(free[r] for r in view.reductions)
    lead = [a for a in view.parallel if a != tile.vector and a not in tile.axes]
    batch = prod(free[a] for a in lead)
    row_points = prod(free[a] for a, _ in rows)
    wide_bytes = depth * free[tile.vector] * 4
    narrow_lead = prod(free[a] for a in lead if a in view.strides[narrow_number].axes)
    narrow_bytes = int(_volume(view, narrow_number) * 4 / narrow_lead)
    panels, tiles = -(-free[tile.vector] // width), -(-row_points // (tile.inner * tile.outer))
    base = tile.cost + wide_way.cost + narrow_way.cost
    steps = depth * panels * tiles * batch
    base += _access_cost(view, tile, wide, narrow, reductions, steps)
    if not narrow_way.packed and not narrow_way.copy and rows and rows[-1][1] >= 4:
        stride = view.strides[narrow_number][rows[-1][0]] * 4
        base += SET_COST * batch * panels * narrow_bytes / 64 if stride and stride % SET_BYTES == 0 else 0.0
    unroll = _unroll(view, tile, wide_number, reductions)
    blocked, big = _reduction_blocks(view, depth, width, reductions)

    def moved(size: float, passes: float) -> float:
        return size * passes * (L2_BYTE if size <= view.target.l2 * 0.6 else L3_BYTE if size <= L3 else MEMORY_BYTE)

    def candidate(cost: float, loops: list[tuple[str, int]], threads: int, wide_loop: tuple[str, int] | None,
                  narrow_loop: tuple[str, int] | None) -> Iterator[Candidate]:
        packs = []
        for number, way, loop in ((wide_number, wide_way, wide_loop), (narrow_number, narrow_way, narrow_loop)):
            if way.pack:
                if loop is None:
                    return
                packs.append(Pack(number, loop, way.pack, way.pad))
        offered = view.threads([*lead, *(a for a, _ in loops[:threads])])
        several = panels > 1 and wide_loop != (tile.vector, width)
        spare = tile.vectors * tile.inner * tile.outer <= SPARE
        prefetch = (wide_number,) if wide_way.packed and several and spare else ()
        yield Candidate(cost, Schedule(tile.vector, view.lanes, tuple(loops), reductions, unroll, tuple(packs), split,
                                       offered, prefetch=prefetch), copies)

    # panels of the vector operand outermost: each is used by all rows before the next one is touched
    inner = [(big, blocked)] if blocked else []
    first = [(tile.vector, width), *inner]
    yield from candidate(base + batch * moved(narrow_bytes, panels) + batch * moved(wide_bytes, 1),
                         [*first, *rows], 1, first[-1], None)
    if not rows:
        return
    # one slice of rows outermost: it stays near while all panels pass by
    outer_axis, outer_step = rows[0]
    slices = -(-free[outer_axis] // outer_step)
    if len(rows) > 1 and not wide_way.pack:
        yield from candidate(base + batch * moved(wide_bytes, slices) + batch * moved(narrow_bytes, 1),
                             [rows[0], (tile.vector, width), *rows[1:]], 1, None, None)
    # blocks of both: a block of rows stays in the second-level cache, panels of the vector operand pass by
    kc = blocked or (free[big] if big else 1)
    per_row = max(1, narrow_bytes // max(1, free[outer_axis])) * (kc if blocked else 1) // (free[big] if blocked else 1)
    block = max(outer_step, int(view.target.l2 * 0.4) // max(per_row, 1) // outer_step * outer_step)
    block = min(block, round_up(free[outer_axis], outer_step))
    even = round_up(-(-free[outer_axis] // -(-free[outer_axis] // block)), outer_step)
    passes = -(-free[outer_axis] // even)
    if big:
        columns = round_up(min(free[tile.vector], max(width, L3 // (4 * max(1, depth // free[big]) * kc))), width)
        loops = [(tile.vector, columns), (big, kc), (outer_axis, even), (tile.vector, width), *rows]
        loops = [loop for i, loop in enumerate(loops) if loop not in loops[:i]]
        if [a for a, _ in loops].count(outer_axis) > 1 and even == outer_step:
            return
        again = (-(-free[tile.vector] // columns) - 1) * narrow_way.cost
        if wide_way.pack and columns * kc * 4 > view.target.l2:      # written, and read back from further away
            again += 2 * batch * moved(wide_bytes, 1)
        results = row_points * free[tile.vector] * 4
        cost = base + again + batch * (moved(narrow_bytes / passes, panels * passes) + moved(wide_bytes, passes)
                                       + moved(results, 2 * (-(-free[big] // kc) - 1)))
        yield from candidate(cost, loops, 1, (big, kc), (outer_axis, even))


def _access_cost(view: View, tile: Tile, wide: tuple[int, Operand], narrow: tuple[int, Operand],
                 reductions: tuple[str, ...], steps: int) -> float:
    """Cycles lost to rows in other pages, to cache lines used for one element, and to loads across two lines."""
    cost, depth = 0.0, prod(view.free[r] for r in view.reductions)
    for number, way in (wide, narrow):
        in_order = not way.copy or way.copy == tuple(map(str, range(len(way.copy))))
        if not way.packed and in_order and _stride_bytes(view, number) >= PAGE and depth > PAGES:
            cost += PAGE_COST * steps
    number, way = narrow
    if not way.packed and reductions and _last_stride(view, number, way, reductions[-1]) >= 16:
        cost += LINE_COST * steps
    number, way = wide
    strides = view.strides[number]
    if not way.packed and (way.copy or any(c % view.lanes for a, c in strides.terms.items() if a != tile.vector)):
        cost += SPLIT_LOAD * tile.vectors * steps
    return cost


def _last_stride(view: View, number: int, way: Operand, axis: str) -> int:
    """Elements between neighbours along a reduction axis, as the operand is read."""
    index = view.stage.reads[number].index
    if way.copy and axis in index[int(way.copy[-1])].axes:
        return abs(index[int(way.copy[-1])][axis])
    return abs(view.strides[number][axis])


def _stride_bytes(view: View, number: int) -> int:
    strides: Affine = view.strides[number]
    return max((abs(strides[r]) * 4 for r in view.reductions), default=0)


def _reduction_blocks(view: View, depth: int, width: int, reductions: tuple[str, ...]) -> tuple[int, str]:
    """Block of the longest reduction axis (0: none needed), so that one panel takes little of the second-level cache,
    and the axis."""
    inner = [r for r in reductions if r in view.free]
    if not inner:
        return 0, ""
    big = max(inner, key=lambda r: view.free[r])
    limit = min(view.target.l2 // 8 // (width * 4), DEPTH)
    if depth <= limit * 1.25:
        return 0, big
    parts = -(-depth // limit)
    return round_up(-(-view.free[big] // parts), 4), big


def _unroll(view: View, tile: Tile, wide: int, reductions: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """Windows that slide under the lanes are unrolled whole, so that loads are shared; else the innermost axis by 4."""
    inner = [r for r in reductions if r in view.free]
    windows = [r for r in inner if _in_window(view, wide, r) and view.free[r] <= 8]
    if windows:
        total, chosen = 1, []
        for r in reversed(windows):
            total *= view.free[r]
            if total * tile.vectors * tile.inner * tile.outer <= 512:
                chosen.append((r, view.free[r]))
        return tuple(chosen)
    return ((inner[-1], min(4, view.free[inner[-1]])),) if inner else ()
