"""How the operands of a contraction may be read: in place, packed in a loop, from a copy kernel; and what copies cost.

Each way is an `Operand`.  Which of them is best depends on the loops around the register tile (contraction.py).
"""
from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from math import prod

from jtc.dialects.affine import Affine
from jtc.dialects.kernel import Access
from jtc.passes.kernel.legality import in_pairs
from jtc.passes.kernel.packing import box_copied
from jtc.passes.kernel.rules.common import GATHER_COST, View
from jtc.passes.kernel.rules.contraction_cost import COPY, Operand, far_copy
from jtc.passes.kernel.rules.contraction_tile import Tile

COPY_KERNEL = 0.5              # cycles per element of a copy made by a kernel of its own, but for what far_copy counts
KERNEL_TURNED, KERNEL_ROWS, KERNEL_APART = 0.8, 1.3, 8.0    # the same where it transposes into panels; into long rows;
                                                            # where elements of the source share no cache line
KERNEL_BOX = 1.0               # the same of a copy that turns the dimensions of a box with guards
LAUNCH = 5_000.0               # cycles to start one more kernel on several threads
SAME_SET = 1024                # bytes; pixels of a copy this far apart crowd a few sets of the first-level cache


def in_window(view: View, number: int, axis: str) -> bool:
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


def reduction_order(view: View, tile: Tile, wide: int, narrow: int) -> tuple[str, ...]:
    """Reduction axes, outer to inner, the one whose steps are multiplied in pairs last."""
    return tuple(sorted(_order(view, wide, narrow), key=lambda axis: axis == tile.dot))


def _order(view: View, wide: int, narrow: int) -> tuple[str, ...]:
    """Windows run inside long axes where the lanes slide; else outside of them."""
    windows = [r for r in view.stage.reductions if any(in_window(view, i, r) for i in (wide, narrow))]
    rest = [r for r in view.stage.reductions if r not in windows]
    rest.sort(key=lambda r: -abs(view.strides[narrow][r]))
    if any(in_window(view, wide, r) for r in windows):
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


def _box_order(view: View, number: int, last: str, tiled: Collection[str] | None = None) -> tuple[str, ...]:
    """Dimensions, those of parallel axes outside, the one that holds `last` innermost.

    tiled  where it is given, dimensions of one axis that is not among these come first: pixels of one image together

    A window that slides is one of the axis with more steps: in the gradient of weights that is the reduction over an
    image, all of which lies together then for each channel.
    """
    index, sizes = view.stage.reads[number].index, view.stage.sizes
    longest = [max(sorted(form.axes), key=sizes.__getitem__, default="") for form in index]
    inside = [tiled is not None and (len(form.axes) > 1 or bool(form.axes & set(tiled))) for form in index]
    dims = sorted(range(len(index)), key=lambda d: (last in index[d].axes, longest[d] in view.stage.reductions,
                                                    inside[d], d))
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


def vector_ways(view: View, tile: Tile, number: int, reductions: tuple[str, ...]) -> Iterator[Operand]:
    """How the operand that takes the lanes may be read."""
    return (_paired_vector_ways if tile.dot else _vector_ways)(view, tile, number, reductions)


def scalar_ways(view: View, tile: Tile, number: int, reductions: tuple[str, ...]) -> Iterator[Operand]:
    """How the operand whose elements are broadcast may be read."""
    return (_paired_scalar_ways if tile.dot else _scalar_ways)(view, tile, number, reductions)


def _vector_ways(view: View, tile: Tile, number: int, reductions: tuple[str, ...]) -> Iterator[Operand]:
    read, strides = view.stage.reads[number], view.strides[number]
    contiguous, order = strides[tile.vector] == 1, _panel_order(view, number, (tile.vector,), reductions)
    window = any(in_window(view, number, a) for a in strides.axes)
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
    window = any(in_window(view, number, a) for a in strides.axes)
    apart = view.target.vector_bits // 8 // (read.dtype if tile.dot else view.copied[number]).bytes
    if view.packing and is_fixed(view, number) and _can_hoist(view, number) and not read.guards and not window:
        yield Operand(number, copy=_panel_order(view, number, tile.axes, reductions), packed=True)
        return
    if read.guards:
        if _is_box(view, number) and _can_hoist(view, number):
            ranges = [form.range(view.stage.sizes) for form in read.index]
            size = prod(high - low + 1 for low, high in ranges)
            order = _box_order(view, number, reductions[-1] if reductions else "", tile.axes)
            low, high = ranges[int(order[-1])]
            pad = apart if (high - low + 1) * read.dtype.bytes % SAME_SET == 0 else 0
            straight = tuple(map(str, range(len(order))))
            if order != straight or pad:
                yield Operand(number, cost=size * KERNEL_BOX, copy=order, pad=pad)
            yield Operand(number, cost=size * COPY, copy=straight)
        if not view.packing or not (_is_box(view, number) and _can_hoist(view, number)):
            yield Operand(number, cost=view.points / view.lanes, split=True)
        return
    yield Operand(number)
    if not window and tile.axes and tile.axes[0] in strides.axes:
        outer = [a for a in view.stage.parallel if a in strides.axes]
        order = (*outer, *(r for r in reductions if r in strides.axes))
        yield Operand(number, pack=order, pad=apart, packed=True)
        panels, rows = _panel_order(view, number, tile.axes, reductions), strides[order[-1]] == 1
        room = view.target.registers - spare(view, tile.vectors, panels=True)
        turned = rows and view.core.rows > 0 and tile.vectors * tile.inner * tile.outer <= room
        if len(tile.axes) == 1 and (turned or strides[tile.axes[0]] == 1 and tile.inner % (view.lanes // 2) == 0):
            # where rows would have to be turned, pieces that are whole halves of vectors are cut out of them
            yield Operand(number, pack=panels, packed=True)
        sharers = view.sharers[number]
        if (view.target.threads > 1 or sharers > 1) and _can_hoist(view, number):
            each = COPY_KERNEL if rows else KERNEL_ROWS if 1 in strides.terms.values() else KERNEL_APART
            cost = copying(view, number, volume(view, number), each)
            yield Operand(number, cost=cost / sharers, copy=order, pad=apart, packed=True)
            if turned:
                cost = copying(view, number, volume(view, number), KERNEL_TURNED)
                yield Operand(number, cost=cost / sharers, copy=panels, packed=True)


def spare(view: View, vectors: int, panels: bool) -> int:
    """Registers for loaded vectors, broadcasts and what LLVM's scheduler holds ahead: more of them where the broadcast
    scalars lie side by side in panels, and there are many registers (measured: beyond this it spills)."""
    if vectors > 2:
        return 7
    return 6 if panels and view.target.registers > 16 else 4


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
        if near and not (tile.unit and any(item.endswith("%") for item in (*way.pack, *way.copy))):
            yield way
