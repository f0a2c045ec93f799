"""The loop nest of one stage: blocks with exact tails, cuts where guards begin to hold, units for threads, copies.

Every loop over an axis replaces its `Place` by a smaller block, until the places are those of a register tile.  Blocks
of a reduction axis also say whether they are the first and the last one.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import gcd, prod

from jtc.compiler.cpu.code import Code
from jtc.compiler.cpu.copies import copies, layout
from jtc.compiler.cpu.evaluate import Evaluator
from jtc.compiler.cpu.loops import Flag, Units, blocks, unit_blocks
from jtc.compiler.cpu.matrix import MatrixTile, MatrixUnit
from jtc.compiler.cpu.operands import Memory, Operand
from jtc.compiler.cpu.places import Form, Place
from jtc.compiler.cpu.store import Finish, finish
from jtc.compiler.cpu.tile import Tile
from jtc.compiler.cpu.workspace import Workspace
from jtc.dialects.affine import Affine, axis_of, split_term
from jtc.dialects.errors import InternalError
from jtc.dialects.kernel import Access, Guard, Pack, Schedule, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.kernel.legality import panel_widths, register_tile
from jtc.passes.kernel.matrix_blocks import blocks_of

Places = Mapping[str, Place]
MAX_VARIANTS = 24         # register tiles of one stage, counting tails and cuts, before cuts are given up


@dataclass(frozen=True)
class Context:
    """What the stages of one kernel share.

    memories   buffer -> memory;  locals: those in the workspace that live for one block of the shared axes
    scalars    local buffer -> SSA name of its element, where it is known in the current block
    registers  locals of one element that every stage uses plainly, so that they need no memory
    in_place   buffers whose memory may be that of one that their stage reads
    fetches    stage name -> what it fetches for other stages, and whether it will be written
    """

    code: Code
    target: CpuTarget
    workspace: Workspace
    memories: dict[str, Memory]
    locals: frozenset[str] = frozenset()
    registers: frozenset[str] = frozenset()
    in_place: frozenset[str] = frozenset()
    fetches: Mapping[str, Sequence[tuple[Access, bool]]] = field(default_factory=dict)
    scalars: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Flags:
    """Conditions that all reduction loops are at their first, at their last block: all must hold."""

    first: tuple[Flag, ...] = ()
    last: tuple[Flag, ...] = ()

    def add(self, first: Flag, last: Flag) -> Flags:
        return Flags((*self.first, first), (*self.last, last))


def schedule_of(stage: Stage) -> Schedule:
    """The schedule, which every stage that is emitted has."""
    assert stage.schedule is not None
    return stage.schedule


def outer_loops(stage: Stage, outside: Sequence[str]) -> list[tuple[str, int]]:
    """All loops of a stage: parallel axes without one run in steps of 1, outside of the others.

    outside  axes that loops around the stage run over
    """
    loops = schedule_of(stage).loops
    named = {axis for axis, _ in loops}
    return [*((a, 1) for a in stage.parallel if a not in named and a not in outside), *loops]


def thread_counts(stage: Stage) -> list[int]:
    """Iterations of the loops that are spread over threads, where no loops are around the stage."""
    counts, extents = [], dict(stage.sizes)
    for axis, step in outer_loops(stage, ())[:schedule_of(stage).threads]:
        counts.append(-(-extents[axis] // step))
        extents[axis] = min(extents[axis], step)
    return counts


class Nest:
    """Emits one stage.

    outer   places of the axes that loops around the stage run over: shared axes; for a copy, all axes it is made for
    origin  places that local buffers count from: the shared axes' blocks
    flags   first and last block of the shared axes that the stage reduces
    """

    def __init__(self, context: Context, stage: Stage, outer: Places, origin: Places, flags: Flags):
        self.context, self.code, self.stage, self.schedule = context, context.code, stage, schedule_of(stage)
        self.outer, self.origin, self.flags, self.depth = outer, origin, flags, context.code.depth
        outside = [a for a, p in outer.items() if p.extent == 1 or a not in stage.sizes]
        self.loops = outer_loops(stage, outside)
        self.tile_steps = panel_widths(stage, self.schedule)
        self.paired = stage.factors() if self.schedule.dot else None
        self.limits = dict(stage.sizes) | {a: p.extent for a, p in outer.items()}
        self.values = Evaluator(context.code, stage, [*map(self._read, range(len(stage.reads)))],
                                context.scalars)
        self.write = self._operand(stage.write)
        self.keep = self._operand(stage.keep) if stage.keep is not None else None
        self.more = [self._operand(result.write) for result in stage.more]
        self.before = self._operand(stage.before) if stage.before is not None else None
        self.fetches = [(self._operand(access), written) for access, written in context.fetches.get(stage.name, ())]
        self.partial = self._partial()
        self.split = self._affordable_cuts()
        self.matrix = self._matrix_unit() if self.schedule.matrix else None

    def _operand(self, access: Access) -> Operand:
        local = access.buffer in self.context.locals
        operand = Operand.of(access, self.context.memories[access.buffer], self.origin if local else {})
        whole = {a: size for a, size in operand.panels.items() if self.tile_steps.get(a, 1) % self.schedule.lanes == 0}
        return replace(operand, panels=whole)       # a vector stays inside a panel where tiles are whole vectors

    def _matrix_unit(self) -> MatrixUnit:
        assert self.paired is not None
        unit = self.context.target.family.matrices[self.stage.reads[self.paired[0]].dtype.name]
        tile = {a: min(n, self.limits[a]) for a, n in register_tile(self.stage, self.schedule).items()}
        blocks = blocks_of(self.stage, self.schedule, tile, unit.rows, self.outer)
        return MatrixUnit(self.code, unit, blocks, self.context.workspace)

    def _read(self, number: int) -> Operand:
        """An operand in the steps of the register tile, which may be pairs."""
        operand = self._operand(self.stage.reads[number])
        if self.paired is None or number not in self.paired:
            return operand
        return replace(operand, form=operand.form.in_pairs(self.schedule.dot))

    def emit(self, units: Units | None = None) -> None:
        """Append the stage's code; `units` restricts the thread loops."""
        places = {a.name: Place.whole(a.size) for a in self.stage.axes} | dict(self.outer)
        if any(places[a].extent == 0 for a in self.stage.parallel):
            return
        if self.stage.accumulate and any(p.extent == 0 for p in places.values()):
            return
        if self.matrix is None:
            self._nest(0, places, self.flags, units)
            return
        self.matrix.configure(self.matrix.blocks.rows)
        self._nest(0, places, self.flags, units)
        self.matrix.release()

    # -------------------------------------------------------------------------------------------- loops
    def _nest(self, depth: int, places: Places, flags: Flags, units: Units | None) -> None:
        if depth == len(self.loops):
            self._tile(places, flags)
            return
        axis, step = self.loops[depth]
        place = places[axis]
        if place.extent <= step:
            self._inside(depth, places, flags, units)
            return
        segments = self._segments(axis, step, places)
        if units is not None and depth < self.schedule.threads:
            unit_blocks(self.code, place, step, segments, units, self._inner_units(depth, places),
                        lambda block, rest: self._inside(depth, {**places, axis: block}, flags, rest))
            return
        reduced = axis in self.stage.reductions
        if reduced and self.partial is None:
            self.partial = self._waiting(self._limits(depth - 1), places)
            self._nest(depth, places, flags, units)
            self.partial = None
            return
        blocks(self.code, place, step, segments, reduced, lambda block, first, last: self._inside(
            depth, {**places, axis: block}, flags.add(first, last) if reduced else flags, units))

    def _inside(self, depth: int, places: Places, flags: Flags, units: Units | None) -> None:
        """The body of a loop: its copies, then what is inside."""
        for pack in self.schedule.packs:
            if pack.inside == self.loops[depth]:
                self._pack(pack, places, self._limits(depth))
        self._nest(depth + 1, places, flags, units)

    def _limits(self, depth: int) -> dict[str, int]:
        """Axis -> the largest extent of its block inside the loop at `depth`."""
        limits = dict(self.limits)
        for axis, step in self.loops[:depth + 1]:
            limits[axis] = min(limits[axis], step)
        return limits

    def _inner_units(self, depth: int, places: Places) -> int:
        """Units in one iteration of the thread loop at `depth`."""
        extents, total = {a: p.extent for a, p in places.items()}, 1
        for i, (axis, step) in enumerate(self.loops[depth:self.schedule.threads]):
            total *= -(-extents[axis] // step) if i else 1
            extents[axis] = min(extents[axis], step)
        return total

    def _pack(self, pack: Pack, places: Places, limits: Mapping[str, int]) -> None:
        """Copy what a read needs from here on, and read the copy."""
        read = self.stage.reads[pack.read]
        panel = layout(pack, self.tile_steps, limits)
        name = f"{self.stage.name}.%{pack.read}"
        dtype = self.stage.copied_as(pack.read)
        memory = self.context.workspace.memory(name, panel.count, dtype)
        self.context.memories[name] = memory
        for copy in copies(read, pack, self.tile_steps, places, Access(name, dtype, (panel.count,), ()), panel,
                           self.context.target):
            outer = {a: places[a] for a in read.axes if a in places}
            Nest(self.context, copy, outer, self.origin, Flags()).emit()
        origin = {a: places[a] for a in panel.axes}
        form = Form(panel.terms, 0, panel.steps, origin)
        if self.paired is not None and pack.read in self.paired:
            form = form.in_pairs(self.schedule.dot)
        self.values.operands[pack.read] = Operand(memory, form, source=self._operand(read))

    # -------------------------------------------------------------------------------------------- guards
    def _segments(self, axis: str, step: int, places: Places) -> list[tuple[int, int]]:
        """The parts of a loop: one, or before, inside and after the range where guards on the axis hold."""
        place = places[axis]
        if axis not in self.split or place.ssa is not None:
            return [(0, place.extent)]
        low, high = self._interior(axis, places)
        low = min(max(0, -(-(low - place.const) // step) * step), place.extent)
        high = max(low, low + (min(high - place.const, place.extent) - low) // step * step)
        if high == low:
            return [(0, place.extent)]
        return [(a, b) for a, b in ((0, low), (low, high), (high, place.extent)) if b > a]

    def _guards(self) -> list[Guard]:
        return [g for a in self.stage.accesses for g in a.guards]

    def _interior(self, axis: str, places: Places) -> tuple[int, int]:
        """The range of the axis in which guards on it hold, whatever the other axes are."""
        low, high = 0, places[axis].const + places[axis].extent
        for guard in self._guards():
            step = guard.index[axis]
            if not step:
                continue
            least = most = guard.index.const
            for term, coefficient in guard.index.terms.items():
                if term != axis:
                    other = places[axis_of(term)]
                    ends = coefficient * other.low, coefficient * (other.high + other.extent - 1)
                    least, most = least + min(ends), most + max(ends)
            if step > 0:        # 0 <= step * axis + least  and  step * axis + most < size
                low, high = max(low, -(least // step)), min(high, (guard.size - 1 - most) // step + 1)
            else:               # 0 <= step * axis + least  and  step * axis + most < size, step negative
                low, high = max(low, -((guard.size - 1 - most) // -step)), min(high, least // -step + 1)
        return low, high

    def _affordable_cuts(self) -> tuple[str, ...]:
        """The axes to cut, as many as the size of the code allows."""
        variants = 1
        extents = dict(self.limits)
        for axis, step in self.loops:
            variants *= 2 if extents[axis] > step and extents[axis] % step else 1
            extents[axis] = min(extents[axis], step)
        kept: list[str] = []
        for axis in self.schedule.split:
            if variants * 3 <= MAX_VARIANTS:
                variants, kept = variants * 3, [*kept, axis]
        return tuple(kept)

    # -------------------------------------------------------------------------------------------- tile
    def _tile(self, places: Places, flags: Flags) -> None:
        self._check_panels(places)
        tile = Tile(self.code, self.stage, self.values, self.write, self.keep, self.more, self.before,
                    places, self.context.workspace, self.context.in_place, self.fetches)
        partial = self.partial or self.write        # nothing waits where no loop runs over blocks of a reduction
        stage, frame = self.stage, tile.frame(partial.forms())
        first, last = self._all(flags.first), self._all(flags.last)
        if stage.accumulate or stage.scan:
            tile.reduce(frame)
            return
        once = self.code.depth == self.depth and first is True and last is True     # not inside a loop of the stage
        scalars = self.context.scalars if once and stage.write.buffer in self.context.registers else None
        how = Finish(first, last, partial, scalars, self.schedule.stream, self._untouched())
        if self.matrix is not None:
            MatrixTile(self.matrix, tile, partial).emit(frame, how)
            return
        finish(tile, frame, tile.reduce(frame) if stage.reduce is not None else None, how)

    def _check_panels(self, places: Places) -> None:
        """A register tile lies in one panel of every operand that is packed ahead; legality sees to it."""
        for operand in self.values.operands:
            for term in operand.form.terms:
                axis, digit, size = split_term(term)
                if axis == self.schedule.dot:
                    continue
                place = places[axis]
                step = gcd(size, place.multiple if place.ssa else 0)        # distance between possible starts
                if digit and axis not in operand.form.origin and place.const % step + place.extent > step:
                    raise InternalError(f"stage {self.stage.name}: a register tile straddles panels {size} wide "
                                        f"of {axis}")

    def _all(self, flags: Sequence[Flag]) -> Flag:
        """The conjunction."""
        if any(f is False for f in flags):
            return False
        unknown = [f for f in flags if isinstance(f, str)]
        return self.code.conjunction(unknown) if unknown else True

    def _partial(self) -> Operand | None:
        """Where partial results wait between blocks of a reduction: in the output, or where it cannot hold them, in the
        workspace; None where the outermost loop over blocks makes room for those inside of it."""
        stage = self.stage
        blocked = bool(self.flags.first) or any(a in stage.reductions and s < stage.sizes[a] for a, s in self.loops)
        fits = stage.write.dtype is stage.body.dtype and not stage.write.guards and not stage.write.gather \
            and self._untouched() and (not self.schedule.matrix or self._in_blocks(stage.write))
        if stage.reduce is None or stage.accumulate or not blocked or fits:
            return self.write
        if not self.flags.first:
            return None
        order = list(self.outer)        # shared axes, outer to inner
        within = order[:next(i for i, a in enumerate(order) if a in stage.reductions)]
        whole = {a: n if a not in within else self.outer[a].extent for a, n in stage.sizes.items()}
        return self._waiting(whole, {a: self.outer[a] for a in within})

    def _in_blocks(self, write: Access) -> bool:
        """Whether a matrix unit can load and store the blocks of a result where it lies."""
        vector = self.schedule.vector
        return write.flat[vector] == 1 and self.stage.sizes[vector] % self.schedule.lanes == 0

    def _untouched(self) -> bool:
        """Whether the stage reads nothing from the memory that it writes, which may hold something else first then."""
        written = self.stage.write.buffer
        return written not in self.context.in_place and all(a.buffer != written for a in self.stage.reads)

    def _waiting(self, sizes: Mapping[str, int], origin: Places) -> Operand:
        """Workspace for the partial results of blocks of these sizes that start at `origin`."""
        stage, flat, order = self.stage, Affine(), self.stage.parallel
        if self.schedule.matrix:        # whole rows of blocks
            vector, lanes = self.schedule.vector, self.schedule.lanes
            order = [*(a for a in order if a != vector), vector]
            sizes = {**sizes, vector: -(-sizes[vector] // lanes) * lanes}
        for axis in order:
            flat = flat * sizes[axis] + Affine.axis(axis)
        count = prod(sizes[a] for a in order)
        memory = self.context.workspace.memory(f"{stage.name}.partial", count, stage.body.dtype)
        return Operand(memory, Form.of(flat, origin))
