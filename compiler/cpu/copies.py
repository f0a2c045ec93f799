"""Copies in loops: a pack as stages without reduction, which the same emitter turns into code.

Where the source's guards are bounds of one axis of the copy, the copy is cut into one box without guards, whose
contiguous axes merge, and boxes of fill around it.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jtc.compiler.cpu.places import Place
from jtc.dialects.affine import Affine
from jtc.dialects.expr import cast, const
from jtc.dialects.expr import read as read_expr
from jtc.dialects.kernel import PAIR, Access, Axis, Guard, Pack, Schedule, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.kernel.pairs import crossed

VECTORS = 4         # vectors side by side in a straight copy
LINE = 16           # elements apart from which on two of them share no cache line
ROWS = 8            # rows that are cut into panels side by side


@dataclass(frozen=True)
class Layout:
    """Where a pack puts its elements: the address of the place (axis values from the copy's start) in it.

    terms, steps  as in `Form`;  items  (item of the order, stride);  count  elements in all
    """

    terms: dict[str, int]
    steps: dict[str, int]
    items: tuple[tuple[str, int], ...]
    count: int

    @property
    def axes(self) -> set[str]:
        return {_axis(item) for item, _ in self.items}


def _axis(item: str) -> str:
    return item.rstrip("/%")


def layout(pack: Pack, tile: Mapping[str, int], limits: Mapping[str, int]) -> Layout:
    """The layout of a pack.  tile: axis -> step of its register tile; limits: axis -> largest extent of the copy."""
    terms: dict[str, int] = {}
    steps: dict[str, int] = {}
    items, stride = [], 1
    for position, item in enumerate(reversed(pack.order)):
        axis = _axis(item)
        items.append((item, stride))
        if item.endswith("%"):
            steps[axis] = stride
            stride *= tile[axis]
        elif item.endswith("//"):
            terms[f"{axis}//{tile[axis]}"] = stride
            stride *= -(-limits[axis] // tile[axis])
        else:
            terms[axis] = steps[axis] = stride
            stride *= limits[axis]
        if position == 0:
            stride += pack.pad
    return Layout(terms, steps, tuple(reversed(items)), stride)


def copies(read: Access, pack: Pack, tile: Mapping[str, int], places: Mapping[str, Place], write: Access, panel: Layout,
           target: CpuTarget) -> Iterator[Stage]:
    """The stages that make the copy: `read` seen from the blocks in `places`, into `write` laid out as `panel`.

    The last panel is filled up to whole vectors, which tiles load: what an earlier kernel left there would be
    multiplied as well, and where that happens to be denormal numbers, a hundred times as slowly.
    """
    lanes = min(target.lanes(read.dtype), target.lanes(write.dtype))
    tiled = [_axis(item) for item in pack.order if item.endswith("//")]
    for edges in itertools.product((False, True), repeat=len(tiled)):
        edge = dict(zip(tiled, edges))
        axes: dict[str, int] = {}
        filled: list[Guard] = []
        values: dict[str, Affine] = {a: Affine.axis(a) for a in panel.axes}      # `a` stands for the start of the block
        target_index = Affine()
        for item, stride in panel.items:
            axis, width, extent = _axis(item), tile.get(_axis(item), 1), places[_axis(item)].extent
            whole, rest = divmod(extent, width)
            name = f"{axis}.copy"
            if item.endswith("//"):
                name = f"{axis}.tile"
                if edge[axis]:
                    values[axis] = values[axis] + whole * width
                    target_index = target_index + whole * stride
                    continue
                axes[name] = whole
                values[axis] = values[axis] + Affine({name: width})
            elif item.endswith("%"):
                name = f"{axis}.place"
                axes[name] = min(-(-rest // lanes) * lanes, width) if edge[axis] else width
                if edge[axis] and axes[name] > rest > 0:
                    filled.append(Guard(Affine.axis(name), rest))
                values[axis] = values[axis] + Affine.axis(name)
            else:
                axes[name] = extent
                values[axis] = values[axis] + Affine.axis(name)
            target_index = target_index + Affine({name: stride})
        if all(axes.values()):
            guards = (*filled, *(Guard(g.index.substitute(values), g.size) for g in read.guards))
            source = Access(read.buffer, read.dtype, (read.size,), (read.flat.substitute(values),), guards, read.fill)
            sink = Access(write.buffer, write.dtype, write.shape, (target_index,))
            yield from _boxes(axes, source, sink, places, target)


def _boxes(axes: dict[str, int], source: Access, sink: Access, places: Mapping[str, Place], target: CpuTarget
           ) -> Iterator[Stage]:
    """One interior box, and a box of fill on each side where a guard's bound cuts the copy."""
    interior: dict[str, tuple[int, int]] = {}
    rest = []
    for guard in source.guards:
        own = [a for a in guard.index.terms if a in axes]
        others = [a for a in guard.index.terms if a not in axes]
        if len(own) != 1 or guard.index[own[0]] != 1 or any(places[a].ssa is not None for a in others):
            rest.append(guard)
            continue
        start = guard.index.const + sum(guard.index[a] * places[a].const for a in others)
        low, high = interior.get(own[0], (0, axes[own[0]]))
        low, high = max(low, -start), min(high, guard.size - start)
        interior[own[0]] = (min(low, axes[own[0]]), max(high, min(low, axes[own[0]])))
    box = {a: (0, n) for a, n in axes.items()}
    for axis, (low, high) in interior.items():
        yield from _copy({**box, axis: (0, low)}, source, sink, (), True, target)
        yield from _copy({**box, axis: (high, axes[axis])}, source, sink, (), True, target)
        box[axis] = (low, high)
    yield from _copy(box, source, sink, tuple(rest), False, target)


def _copy(box: Mapping[str, tuple[int, int]], source: Access, sink: Access, guards: tuple[Guard, ...], fill: bool,
          target: CpuTarget) -> Iterator[Stage]:
    """The stage that copies, or fills, one box."""
    if any(high <= low for low, high in box.values()):
        return
    sizes = {a: high - low for a, (low, high) in box.items() if high - low > 1}
    shift = {a: Affine({a: 1} if a in sizes else {}, low) for a, (low, _) in box.items()}
    guards = tuple(Guard(g.index.substitute(shift), g.size) for g in guards)
    taken, put = source.flat.substitute(shift), sink.flat.substitute(shift)
    sizes = _merge(sizes, [put] if fill else [taken, put], {a for g in guards for a in g.index.terms})
    gone = box.keys() - sizes.keys()
    taken, put = (Affine({t: c for t, c in f.terms.items() if t not in gone}, f.const) for f in (taken, put))
    write = Access(sink.buffer, sink.dtype, sink.shape, (put,))
    reads = () if fill else (Access(source.buffer, source.dtype, source.shape, (taken,), guards, source.fill),)
    body = cast(const(source.fill, source.dtype) if fill else read_expr(0, source.dtype), sink.dtype)
    lanes = min(target.lanes(source.dtype), target.lanes(sink.dtype))
    schedule = _schedule(sizes, put if fill else taken, put, lanes, bool(guards))
    yield Stage("copy", tuple(Axis(a, n) for a, n in sizes.items()), reads, body, write, schedule=schedule)


def _merge(sizes: dict[str, int], forms: list[Affine], fixed: set[str]) -> dict[str, int]:
    """Axes that all forms walk as one become one, with the name of the inner."""
    sizes = dict(sizes)
    merged = True
    while merged:
        merged = False
        for outer, inner in itertools.permutations([a for a in sizes if a not in fixed], 2):
            if all(f[outer] == sizes[inner] * f[inner] for f in forms):
                sizes[inner] *= sizes.pop(outer)
                merged = True
                break
    return sizes


def _schedule(sizes: Mapping[str, int], taken: Affine, put: Affine, lanes: int, guarded: bool) -> Schedule:
    """Vectors where both sides are contiguous, else a transposing tile, of pairs too, else gathers."""
    if not sizes:
        return Schedule("", 1)
    order = sorted(sizes, key=lambda a: -put[a])
    pairs = None if guarded else crossed(sizes, taken.terms, put.terms)
    if pairs is not None:
        rows, columns, pair = pairs
        around = [(a, 1) for a in order if a not in pairs]
        return Schedule(pair, lanes, (*around, (columns, lanes // PAIR), (rows, lanes // PAIR), (pair, PAIR)))
    from_axis = next((a for a in order if taken[a] == 1), "")
    to_axis = next((a for a in order if put[a] == 1), "")
    if to_axis and taken[to_axis] != 1 and from_axis:
        loops = [(a, 1) for a in order if a not in (from_axis, to_axis)] + [(from_axis, lanes), (to_axis, lanes)]
        return Schedule(from_axis, lanes, tuple(loops))
    vector = to_axis or order[-1]
    if abs(taken[vector]) < LINE:
        outer = [a for a in order if a != vector]
        loops = [(a, 1) for a in outer] + [(vector, lanes * VECTORS)]
        if len(outer) > 1 and sizes[outer[-1]] > ROWS and taken[outer[-1]] >= LINE \
                and any(0 < taken[a] < taken[outer[-1]] for a in outer[:-1]):
            loops.insert(0, (outer[-1], ROWS))      # panels that are cut out of rows: several rows side by side
        return Schedule(vector, lanes, tuple(loops))
    # Gathers: what lies in one cache line of the source is taken at once, the lines in their order.
    rest = sorted((a for a in order if a != vector), key=lambda a: -abs(taken[a]))
    near = [(a, 1) for a in rest if abs(taken[a]) < LINE]
    return Schedule(vector, lanes, (*((a, 1) for a in rest if abs(taken[a]) >= LINE), (vector, lanes), *near))
