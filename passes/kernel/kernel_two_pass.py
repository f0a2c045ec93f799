"""`kernel-two-pass`: partial results of parts of a reduction in one kernel, and their combination in a second one."""
from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from jtc.dialects.affine import Affine, axis_of
from jtc.dialects.expr import read, reads_of, walk
from jtc.dialects.graph import Graph, TensorType
from jtc.dialects.kernel import PARALLEL, REDUCTION, Access, Axis, Guard, Kernel, Program, Stage
from jtc.dialects.optable import REDUCTIONS, SCALAR_FUNCTIONS
from jtc.passes.base import Pass, PassError, need_program
from jtc.passes.kernel.kernel_merge_axes import merge_axes
from jtc.passes.kernel.legality import instructions
from jtc.passes.kernel.packing import fresh
from jtc.passes.kernel.rules.reduction import COLUMN_BLOCK, COLUMN_ROWS, LONG, ROWS, check_kind, rounds
from jtc.passes.stages import only_needed, substitute

UNITS = 16              # with fewer, parts are made: threads of different speed need some to share
PARTS = 32              # units to make
LARGE = 1 << 18         # instructions that are worth a second kernel, and the threads' waking up
PART = 1 << 14          # of one part
LANES = 16              # multiply-adds of a contraction in one instruction
TILE = 448              # results of its register tile
TILES = 4               # with more, its threads have enough to share
ROUND = 1024            # steps of an axis from which on parts begin at multiples of a few cache lines
LINES = 64


@dataclass(frozen=True)
class KernelTwoPass(Pass):
    """Reduce parts of an axis in one kernel, and their results in a second one.

    y[] = sum_k x[k]  ->  y_parts[p] = sum_q x[p * 4096 + q];  y[] = sum_p y_parts[p]

    kernel, axis, parts  cut this kernel's reduction over this axis into so many parts; "": all kernels that threads
                         cannot share otherwise, where that pays
    reduction            the kind of all reductions (see docs/schedules.md): other kinds than auto and two_pass are left
                         in one piece; two_pass cuts small ones, too
    In a kernel of several stages, a shared axis that is reduced at the end is cut.  What does not fill a part goes into
    a kernel of its own.  Parts depend on sizes only, so results do not depend on the number of threads.  Runs before
    schedules are made; kernels that have some are left alone.
    """

    name: ClassVar[str] = "kernel-two-pass"
    kernel: str = ""
    axis: str = ""
    parts: int = 0
    reduction: str = "auto"

    def run(self, module: Graph | Program) -> Program:
        program = need_program(module, self.name)
        check_kind(self.reduction, self.name)
        if self.axis:
            return self._by_hand(program)
        if self.reduction not in ("auto", "two_pass"):
            return program
        for kernel in program.kernels:
            found = _wanted(kernel, self.reduction == "two_pass") if self.kernel in ("", kernel.name) else None
            if found is not None:
                program = cut(program, kernel, *found)
        return program

    def _by_hand(self, program: Program) -> Program:
        chosen = [k for k in program.kernels if self.kernel in ("", k.name)]
        if len(chosen) != 1:
            raise PassError(f"{self.name}: kernel={self.kernel!r} names {len(chosen)} kernels, an axis is of one",
                            hint=f"one of {', '.join(k.name for k in program.kernels)}")
        kernel, = chosen
        reason = _refusal(kernel, self.axis)
        size = max((s.sizes.get(self.axis, 0) for s in kernel.stages), default=0)
        if not reason and not 2 <= self.parts <= -(-size // dict(_blocks(kernel)).get(self.axis, 1)):
            reason = f"{self.parts} parts of {size} steps"
        if reason:
            raise PassError(f"{self.name}: {kernel.name} cannot be cut along {self.axis}: {reason}")
        return cut(program, kernel, self.axis, self.parts)


# ------------------------------------------------------------------------------------------------ where
def _blocks(kernel: Kernel) -> list[tuple[str, int]]:
    return [(axis.name, block) for axis, block in kernel.shared]


def _leading(kernel: Kernel) -> int:
    """How many shared axes are parallel in every stage: those that threads share."""
    reduced = {a for s in kernel.stages for a in s.reductions}
    return next((i for i, (axis, _) in enumerate(kernel.shared) if axis.name in reduced), len(kernel.shared))


def _ends(kernel: Kernel, axis: str) -> list[Stage]:
    """The stages that reduce the axis."""
    return [s for s in kernel.stages if axis in s.reductions]


def _refusal(kernel: Kernel, axis: str) -> str:
    """Why the reduction over an axis cannot be cut, "" where it can."""
    ends = _ends(kernel, axis)
    if not ends:
        return "no stage reduces it"
    if any(s.schedule is not None for s in kernel.stages):
        return "it is scheduled already"
    names = {a.name for a, _ in kernel.shared}
    if names and axis not in names or not names and len(kernel.stages) > 1:
        return "its stages do not share the axis"
    if names and axis != kernel.shared[_leading(kernel)][0].name:
        return "it is not the first reduced axis that the stages share"
    inner = names - {a.name for a, _ in kernel.shared[:_leading(kernel)]}
    results = {s.write.buffer for s in ends}
    local = {b.name for b in kernel.locals}
    for s in kernel.stages:
        if s.accumulate or s.scan or s.more or s.before is not None or s.rescale is not None:
            return f"stage {s.name} is no plain reduction"
        if any(axis_of(t) == axis != t for a in s.accesses for form in a.index for t in form.terms):
            return f"stage {s.name} reads a packed operand"
        if s not in ends:
            if results & {a.buffer for a in s.reads}:
                return f"stage {s.name} reads what is reduced over it"
            continue
        if not inner <= set(s.reductions) or not _associative(s):
            return f"stage {s.name} needs its terms in order"
        if {s.reads[n].buffer for n in reads_of(s.epilogue)} & local - results:
            return f"the end of stage {s.name} needs a value of the last iteration"
    return ""


def _associative(stage: Stage) -> bool:
    return stage.reduce in REDUCTIONS and "associative" in SCALAR_FUNCTIONS[REDUCTIONS[stage.reduce].fn].facts


def _wanted(kernel: Kernel, always: bool) -> tuple[str, int] | None:
    """(axis, parts) where threads cannot share the kernel otherwise and it is large; always: wherever it can be cut."""
    work = sum(prod(s.sizes.values()) * max(1.0, instructions(s.body)) for s in kernel.stages)
    product = len(kernel.stages) == 1 and kernel.stages[0].factors() is not None
    blocks = dict(_blocks(kernel))
    if kernel.shared:
        leading = _leading(kernel)
        axes = [kernel.shared[leading][0]] if leading < len(kernel.shared) else []
        units = prod(-(-a.size // block) for a, block in kernel.shared[:leading])
    else:
        stage = kernel.stages[0]
        if len(kernel.stages) > 1 or _window(stage):
            return None
        axes = sorted((a for a in stage.axes if a.kind == REDUCTION), key=lambda a: -_stride(stage, a.name))
        units = _units(stage)
    if product:
        if always or units > TILES:
            return None
        work /= LANES
    if always:
        most = PARTS
    elif units >= UNITS or work < LARGE:
        most = 0
    else:
        most = min(_parts(kernel, units), int(work / units) // PART)
    best: tuple[str, int] | None = None
    for axis in axes:
        parts = min(max(most, _accurate(kernel, axis)), -(-axis.size // blocks.get(axis.name, 1)))
        if parts >= 2 and (best is None or parts > best[1]) and not _refusal(kernel, axis.name):
            best = axis.name, parts
    return best


def _units(stage: Stage) -> int:
    """About how many pieces the default schedule of a reduction offers to threads: rows, or blocks of columns; of a
    contraction: register tiles."""
    results = prod(a.size for a in stage.axes if a.kind == PARALLEL)
    if stage.factors() is not None:
        return max(1, results // TILE)
    return max(1, results // (ROWS if _along_rows(stage) else COLUMN_BLOCK // stage.body.dtype.bytes))


def _parts(kernel: Kernel, units: int) -> int:
    """Parts for PARTS units, of which one takes the parts of several rows at once."""
    stage = kernel.stages[0]
    if stage.factors() is not None:
        return 1 << (PARTS // units).bit_length() - 1       # which divides more sizes
    if kernel.shared or not _along_rows(stage):
        return PARTS // units
    return PARTS * ROWS // prod(a.size for a in stage.axes if a.kind == PARALLEL)


def _along_rows(stage: Stage) -> bool:
    return any(_step(stage, n, a) == 1 for n in reads_of(stage.body) for a in stage.reductions)


def _accurate(kernel: Kernel, axis: Axis) -> int:
    """Parts of a long sum down columns: their blocks of rows, which are added up one by one, are to be few."""
    stage = kernel.stages[0]
    if kernel.shared or stage.factors() is not None or _along_rows(stage) or not rounds(stage):
        return 0
    return -(-axis.size // (LONG * COLUMN_ROWS))


def _step(stage: Stage, number: int, axis: str) -> int:
    return stage.reads[number].flat[axis]


def _stride(stage: Stage, axis: str) -> int:
    return max((abs(_step(stage, n, axis)) for n in reads_of(stage.body)), default=0)


def _window(stage: Stage) -> bool:
    """Whether some index adds a reduction axis and a parallel axis: pooling, depthwise convolution."""
    reduced = set(stage.reductions)
    return any(form.axes & reduced and form.axes - reduced for a in stage.reads for form in a.index)


# ------------------------------------------------------------------------------------------------ the cut
def cut(program: Program, kernel: Kernel, axis: str, parts: int) -> Program:
    """The program with the kernel's reduction over `axis` in about so many parts.

    Every part has as many steps, a multiple of the axis's block; what is left over is one more part.
    """
    block = dict(_blocks(kernel)).get(axis, 1)
    size = next(s.sizes[axis] for s in kernel.stages if axis in s.sizes)
    steps = max(size // parts // block, 1) * block
    if steps >= ROUND and steps // LINES * LINES % block == 0:
        steps = steps // LINES * LINES
    count, rest = divmod(size, steps)
    taken = {k.name for k in program.kernels}
    buffers = dict(program.buffers)
    partial: dict[str, str] = {}                # stage -> buffer of its partial results
    for stage in _ends(kernel, axis):
        name = partial[stage.name] = fresh(f"{stage.write.buffer}_parts", buffers)
        shape = tuple(stage.sizes[a] for a in stage.parallel)
        buffers[name] = TensorType(stage.body.dtype, (count + (rest > 0), *shape))
    part = fresh(f"{axis}_part", {a for s in kernel.stages for a in s.sizes})
    pieces = [_piece(kernel, axis, steps, (part, count), Affine({part: steps, axis: 1}), partial, buffers,
                     fresh(f"{kernel.name}_parts", taken))]
    if rest:
        pieces.append(_piece(kernel, axis, rest, None, Affine.axis(axis) + count * steps, partial, buffers,
                             fresh(f"{kernel.name}_rest", taken)))
    last = _combination(kernel, axis, Axis(part, count + (rest > 0), REDUCTION), partial, buffers)
    place = next(i for i, k in enumerate(program.kernels) if k.name == kernel.name)
    return replace(program, buffers=buffers,
                   kernels=[*program.kernels[:place], *pieces, last, *program.kernels[place + 1:]])


def _piece(kernel: Kernel, axis: str, size: int, part: tuple[str, int] | None, value: Affine, partial: dict[str, str],
           buffers: dict[str, TensorType], name: str) -> Kernel:
    """The kernel over `size` steps of the axis, which stand for `value`: of every part, or without one of the rest."""
    local = {b.name for b in kernel.locals}
    place = Affine.axis(part[0]) if part else None
    stages = []
    for stage in kernel.stages:
        def inside(new: Access, old: Access) -> Access:
            return replace(new, index=old.index) if old.buffer in local else new        # they count from their block

        moved = substitute(stage, {axis: value})
        reads = tuple(map(inside, moved.reads, stage.reads))
        moved = replace(moved, reads=reads, write=inside(moved.write, stage.write),
                        keep=inside(moved.keep, stage.keep) if moved.keep and stage.keep else None)
        axes = tuple(replace(a, size=size) if a.name == axis else a for a in stage.axes)
        if part:
            front = sum(a.name in {n for n, _ in _blocks(kernel)[:_leading(kernel)]} for a in axes)
            axes = (*axes[:front], Axis(*part), *axes[front:])
        moved = replace(moved, axes=axes)
        if stage.name in partial:
            parallel = [Affine.axis(a) for a in stage.parallel]
            buffer = partial[stage.name]
            shape = buffers[buffer].shape
            first = place if place is not None else Affine() + (shape[0] - 1)
            write = Access(buffer, stage.body.dtype, shape, (first, *parallel))
            moved = only_needed(replace(moved, epilogue=None, write=write))
        stages.append(moved if kernel.shared else merge_axes(moved, set()))
    ended = {s.write.buffer for s in kernel.stages if s.name in partial}
    shared = tuple((replace(a, size=size) if a.name == axis else a, block) for a, block in kernel.shared)
    if part and shared:
        front = _leading(kernel)
        shared = (*shared[:front], (Axis(*part), 1), *shared[front:])
    reason = f"threads share the parts; their results are combined in {kernel.name}"
    needed = tuple(Guard(g.index.substitute({axis: value}), g.size) for g in kernel.needed)
    return Kernel(name, tuple(stages), shared, tuple(b for b in kernel.locals if b.name not in ended),
                  tuple((buffer, reason) for buffer in partial.values()), needed=needed, slice=kernel.slice)


def _combination(kernel: Kernel, axis: str, part: Axis, partial: dict[str, str], buffers: dict[str, TensorType]
                 ) -> Kernel:
    """The kernel that reduces the partial results, and finishes each stage as it was."""
    stages = []
    for stage in _ends(kernel, axis):
        buffer, dtype = partial[stage.name], stage.body.dtype
        parallel = tuple(a for a in stage.axes if a.kind == PARALLEL)
        results = Access(buffer, dtype, buffers[buffer].shape,
                         (Affine.axis(part.name), *(Affine.axis(a.name) for a in parallel)))
        ends = [e.fn for e in walk(stage.epilogue) if e.fn in SCALAR_FUNCTIONS] if stage.epilogue is not None else []
        stages.append(only_needed(replace(
            stage, axes=(*parallel, part), reads=(*stage.reads, results), keep=None,
            body=read(len(stage.reads), dtype), ops=("reduce", *ends))))
    ended = {s.write.buffer for s in stages}
    return Kernel(kernel.name, tuple(stages), kernel.shared[:_leading(kernel)],
                  tuple(b for b in kernel.locals if b.name in ended), kernel.reasons, slice=kernel.slice)
