"""`kernel-join-window`: two axes of a reduction become one: a window's columns and the channels in them, or an image's
columns and the images of a batch."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import permutations
from math import prod
from typing import ClassVar

from jtc.dialects.affine import Affine, split_term
from jtc.dialects.graph import Graph
from jtc.dialects.kernel import PAIR, REDUCTION, Access, Axis, Guard, Kernel, Program, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.base import Pass, need_program
from jtc.passes.kernel.kernel_merge_axes import merge_axes
from jtc.passes.kernel.packing import constant_buffers, copied, fresh
from jtc.passes.kernel.rules import candidates
from jtc.passes.kernel.rules.contraction_tile import BLOCK

PRODUCTS = 2            # vectors that are multiplied in a cycle


@dataclass(frozen=True)
class KernelJoinWindow(Pass):
    """Join two axes of a reduction to whole blocks of a matrix unit: windows of few channels c:3 u:7 v:7 -> u:7 v:32.

        sum over c, u, v of  x[n, c, 2h + u - 3, 2w + v - 3] * y[k, c, u, v]
        sum over u, v    of  X[n, 2h + u, 8w + v] * Y[k, u, v]

    X is a copy of x with 0 around the image, in which the channels of a pixel lie side by side, in a place for four: so
    a row of the window is one piece of 28 elements, and with the next pixel, by which Y multiplies 0, a block of 32.
    Where the window slides by several pixels as the joined axis goes on, as in the gradient of weights of stride 2, X
    holds the pixels of each of its columns (v) for itself:

        sum over n, h, w of  x[n, 2h + u, 2w + v, c] * y[n, h, w, k]     h:14 w:14 n:8
        sum over h, w    of  X[2h + u, c, v, w] * Y[h, k, w]             h:14 w:128

    Of the ways to join two axes the one is tried that takes least arithmetic and copying, and taken where the unit then
    multiplies in less time, by the rules that choose schedules, copies included.

    target  the processor

    Rounds differently.  An infinite or NaN pixel also shows where only places of the window that Y fills up touch it.
    Assumes kernels without schedules, computed in float32.
    """

    name: ClassVar[str] = "kernel-join-window"
    target: CpuTarget = field(default_factory=CpuTarget)

    def run(self, module: Graph | Program) -> Program:
        program = need_program(module, self.name)
        for old in program.kernels:
            kernel = old
            for number in range(0 if old.shared else len(old.stages)):
                program, kernel = self._stage(program, kernel, kernel.stages[number])
        return program

    def _stage(self, program: Program, kernel: Kernel, stage: Stage) -> tuple[Program, Kernel]:
        """The cheapest way to compute a stage, by what its cheapest schedule is estimated to cost."""
        def cost(program: Program, kernel: Kernel, stage: Stage) -> float:
            return candidates(stage, kernel, program, self.target, few=1)[0].cost

        windows = [*_windows(stage, kernel, self.target)]
        if not windows:
            return program, kernel
        fixed = constant_buffers(program)
        window = min(windows, key=lambda w: (w.effort(stage, self.target, fixed), -w.along))
        joined = _Joined(program, kernel, stage, window)
        fixed = constant_buffers(joined.program)
        copies = sum(cost(joined.program, k, k.stages[0]) for k in joined.copies if not set(k.written) <= fixed)
        cycles = copies + cost(joined.program, joined.kernel, joined.stage)
        fastest = prod(stage.sizes.values()) / (PRODUCTS * self.target.lanes(stage.body.dtype))     # without the unit
        if cycles < fastest or cycles < cost(program, kernel, stage):
            return joined.program, joined.kernel
        return program, kernel


@dataclass(frozen=True)
class _Window:
    """What can be joined: `columns` of an axis and `channels` of another, both filled up to these sizes.

    image, weights  numbers of the reads: the first is read beyond what is joined, where the second is 0
    along, across   the image's dimensions that columns and channels walk along
    slides          whether windows are pieces of rows, one pixel apart
    """

    image: int
    weights: int
    column: str
    channel: str
    along: int
    across: int
    slides: bool
    columns: int
    channels: int

    def filled(self, stage: Stage) -> Stage:
        """The stage with all columns and channels."""
        sizes = {self.column: self.columns, self.channel: self.channels}
        return replace(stage, axes=tuple(replace(a, size=sizes.get(a.name, a.size)) for a in stage.axes))

    def effort(self, stage: Stage, target: CpuTarget, fixed: frozenset[str]) -> float:
        """Cycles of the unit, and one for each element that is copied; fixed: buffers whose copies cost nothing."""
        unit, sizes = target.matrix(stage.reads[self.image].dtype), self.filled(stage).sizes
        assert unit is not None
        cycles = prod(sizes.values()) * BLOCK / (unit.rows * unit.columns * unit.pairs * PAIR)
        for read in (stage.reads[self.image], stage.reads[self.weights]):
            found = _spread(read, (self.column, self.channel))
            assert found is not None
            kept, names = found
            if self.slides and read is stage.reads[self.image]:
                kept, names = [*range(len(read.index))], []
            ranges = [read.index[d].range(sizes) for d in kept]
            if read.buffer not in fixed:
                cycles += prod(high - low + 1 for low, high in ranges) * prod(sizes[a] for a in names)
        return cycles


def _windows(stage: Stage, kernel: Kernel, target: CpuTarget) -> Iterator[_Window]:
    """The ways to join a stage's reduction for the matrix unit; none where it has an axis of whole blocks."""
    factors = stage.factors()
    if factors is None or stage.reads[factors[0]].dtype is not stage.reads[factors[1]].dtype:
        return
    unit = target.matrix(stage.reads[factors[0]].dtype)
    if unit is None:
        return
    depth, sizes, own = unit.pairs * PAIR, stage.sizes, {b.name for b in kernel.locals} | set(kernel.written)
    merged = merge_axes(stage, set())
    if any(merged.sizes[r] % depth == 0 for r in merged.reductions) \
            or any(stage.reads[i].buffer in own for i in factors) \
            or not all(_plain(stage.reads[i]) for i in factors):
        return
    elsewhere = frozenset().union(*(a.axes for a in stage.accesses if all(a is not stage.reads[i] for i in factors)))
    for image, weights in (factors, factors[::-1]):
        shared = [r for r in stage.reductions if r in stage.reads[weights].axes and r not in elsewhere]
        index = stage.reads[image].index
        for column, channel in permutations(shared, 2):
            if all(_spread(stage.reads[i], (column, channel)) for i in factors):
                columns, channels = _filled(sizes[column], sizes[channel], depth)
                along, across = (next(d for d, form in enumerate(index) if a in form.axes) for a in (column, channel))
                whole = index[across] == Affine.axis(channel) and sizes[channel] == stage.reads[image].shape[across]
                slides = whole and index[along][column] == 1 and index[along] != Affine.axis(column)
                yield _Window(image, weights, column, channel, along, across, slides, columns, channels)


def _spread(read: Access, joined: tuple[str, str]) -> tuple[list[int], list[str]] | None:
    """(the dimensions that these axes do not walk along, all axes that walk along the others, these last); None where a
    copy could not have them as dimensions, since one walks along none or two."""
    kept = [d for d, form in enumerate(read.index) if not form.axes & set(joined)]
    walked = [a for d, form in enumerate(read.index) if d not in kept for a in sorted(form.axes - set(joined))]
    names = [*walked, *joined]
    once = all(sum(name in form.axes for form in read.index) == 1 for name in names)
    return (kept, names) if once else None


def _plain(read: Access) -> bool:
    """Whether a copy can hold what is read: 0 where it is beyond the bounds of a dimension."""
    bounds = [*zip(read.index, read.shape)]
    return not read.gather and read.fill == 0 and all((g.index, g.size) in bounds for g in read.guards) \
        and not any(split_term(t)[1] for form in read.index for t in form.terms)


def _filled(columns: int, channels: int, depth: int) -> tuple[int, int]:
    """The smallest sizes from these on whose product is a multiple of `depth`; of equal products the one with fewer
    channels."""
    sizes = [(n, c) for c in range(channels, channels + depth) for n in range(columns, columns + depth)
             if n * c % depth == 0]
    return min(sizes, key=lambda nc: (nc[0] * nc[1], nc[1]))


class _Joined:
    """A program in which a stage has one reduction axis for a window's columns and channels.

    filled  the stage with all columns and channels;  copies: the kernels that make its operands
    """

    def __init__(self, program: Program, kernel: Kernel, stage: Stage, window: _Window):
        self.old, self.window = stage, window
        self.filled = window.filled(stage)
        self.axis = Axis(window.column, window.columns * window.channels, REDUCTION)
        self.buffers = dict(program.buffers)
        self.names = {k.name for k in program.kernels}
        self.copies: list[Kernel] = []
        views = {window.image: self._image(), window.weights: self._weights()}
        axes = tuple(self.axis if a.name == window.column else a for a in stage.axes if a.name != window.channel)
        self.stage = replace(stage, axes=axes, reads=tuple(views.get(i, a) for i, a in enumerate(stage.reads)))
        self.kernel = replace(kernel, stages=tuple(self.stage if s is stage else s for s in kernel.stages))
        place = program.kernels.index(kernel)
        kernels = [*program.kernels[:place], *self.copies, self.kernel, *program.kernels[place + 1:]]
        self.program = replace(program, kernels=kernels, buffers=self.buffers)

    def _image(self) -> Access:
        """Make the copy of the image, and see the rows of its windows in it."""
        window, read = self.window, self.old.reads[self.window.image]
        if not window.slides:
            return self._spread(read)
        last = (window.along, window.across)
        view = self._copied(read, (*(d for d in range(len(read.index)) if d not in last), *last))
        column = Affine.axis(window.column)
        return replace(view, index=(*view.index[:-2], (view.index[-2] - column) * window.channels + column))

    def _weights(self) -> Access:
        """Make the copy of the weights, which is 0 beyond what is joined, and see the joined axis in it."""
        window, sizes, filled = self.window, self.old.sizes, self.filled.sizes
        beyond = (Guard(Affine.axis(a), sizes[a]) for a in (window.column, window.channel) if filled[a] > sizes[a])
        read = self.old.reads[window.weights]
        return self._spread(replace(read, guards=(*read.guards, *beyond)))

    def _spread(self, read: Access) -> Access:
        """Make a copy with dimensions for what is joined, and see the joined axis in it."""
        found = _spread(read, (self.window.column, self.window.channel))
        assert found is not None
        view = self._copied(read, (*found[0], *found[1]))
        return replace(view, index=view.index[:-1])

    def _copied(self, read: Access, order: tuple[int | str, ...]) -> Access:
        """A kernel that copies what the filled windows touch; the copy, with its last two dimensions seen as one."""
        stage, view = copied(self.filled, read, tuple(map(str, order)), 0, read.dtype)
        name = fresh(f"{read.buffer}_joined", self.buffers)
        stage = replace(stage, write=replace(stage.write, buffer=name))
        maker = Kernel(fresh(f"join_{read.buffer}", self.names), (stage,),
                       reasons=((read.buffer, "its reduction takes whole blocks of a matrix unit"),))
        self.buffers[name] = replace(self.buffers[read.buffer], shape=view.shape)
        self.names.add(maker.name)
        self.copies.append(maker)
        return replace(view, buffer=name, shape=(*view.shape[:-2], view.shape[-2] * view.shape[-1]))
