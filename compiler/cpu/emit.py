"""The CPU emitter: one kernel with schedules -> one function of scf, vector and memref ops, as MLIR text.

Nothing here knows what a kernel computes: matrix product, convolution and softmax are all iteration spaces, affine
accesses and scalar bodies.  The way down:

    emit.py      the function; shared axes and the units that threads take;  needed.py: blocks that are left out
    nest.py      the loops of a stage: blocks, tails, cuts at guards, copies (copies.py)
    tile.py      the register tile: accumulators and reduction loops;  store.py: how its results are stored
    matrix.py    a register tile in a matrix unit (AMX)
    evaluate.py  expressions at one spot of the tile;  memory.py: loads and stores;  operands.py, places.py: addresses
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from jtc.compiler.cpu.code import Code
from jtc.compiler.cpu.loops import Flag, Units, blocks, unit_blocks
from jtc.compiler.cpu.needed import needed_blocks, span
from jtc.compiler.cpu.nest import Context, Flags, Nest, schedule_of, thread_counts
from jtc.compiler.cpu.operands import Memory
from jtc.compiler.cpu.places import Place
from jtc.compiler.cpu.workspace import Workspace
from jtc.dialects.errors import InternalError
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import PARALLEL, Access, Kernel, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.kernel.fetching import fetched


@dataclass(frozen=True)
class Emitted:
    """The code of one kernel.

    text             MLIR module with one `func.func @symbol`: one flat memref for each operand (`llvm.noalias` where no
                     other operand may share its memory), the workspace as bytes, begin and end of the units to run
                     (index)
    operands         buffer names in the order of the arguments
    units            how many there are; every call runs a range of at least one, in any order and on any thread
    workspace_bytes  scratch memory of one call, aligned to 64 bytes
    """

    text: str
    symbol: str
    operands: list[str]
    units: int
    workspace_bytes: int


def emit(kernel: Kernel, buffers: Mapping[str, TensorType], target: CpuTarget) -> Emitted:
    """The code of `kernel`, every stage of which has a legal schedule.

    buffers  types of the kernel's operands.  Raises InternalError where a stage has no schedule.
    """
    for stage in kernel.stages:
        if stage.schedule is None:
            raise InternalError(f"kernel {kernel.name}: stage {stage.name} has no schedule")
    operands = kernel.operands
    code, workspace = Code(target), Workspace()
    memories = {name: Memory(f"%arg{i}", buffers[name].size, buffers[name].dtype) for i, name in enumerate(operands)}
    shared = {name for pair in kernel.in_place for name in pair}
    arguments = [f"%arg{i}: {memories[name].type}{'' if name in shared else ' {llvm.noalias}'}"
                 for i, name in enumerate(operands)]
    for local in kernel.locals:
        memories[local.name] = workspace.memory(local.name, local.type.size, local.type.dtype)
    context = Context(code, target, workspace, memories, frozenset(b.name for b in kernel.locals), _registers(kernel),
                      frozenset(new for new, _ in kernel.in_place),
                      {stage.name: list(_fetches(stage, kernel)) for stage in kernel.stages})
    units = _Units(kernel, context).emit()
    fence = target.family.fence
    if fence and any(schedule_of(s).stream for s in kernel.stages):     # they are done before another thread reads
        code.line(f'llvm.call_intrinsic "{fence}"() : () -> ()')
    symbol, scratch = re.sub(r"\W", "_", kernel.name), f"memref<{max(workspace.bytes, 1)}xi8>"
    offsets = workspace.offsets()
    code.lines[:0] = [f"  {m.ssa} = memref.view %workspace[{code.index(offsets[name])}][] : {scratch} to {m.type}"
                      for (name, _, _), m in workspace.views.items()]
    arguments += [f"%workspace: {scratch}", "%begin: index", "%end: index"]
    text = f"{code.globals()}func.func @{symbol}({', '.join(arguments)}) {{\n{code.text()}\n  return\n}}\n"
    return Emitted(text, symbol, operands, units, workspace.bytes)


def _registers(kernel: Kernel) -> frozenset[str]:
    """Local buffers of one element that no access guards or gathers: candidates for registers."""
    single = {b.name for b in kernel.locals if b.type.size == 1}
    for stage in kernel.stages:
        single -= {r.write.buffer for r in stage.more}
        if stage.before is not None:
            single -= {stage.before.buffer, stage.write.buffer}
        for access in stage.accesses:
            if access.guards or access.gather or access is stage.keep or access is stage.write and stage.accumulate:
                single.discard(access.buffer)
        single -= {stage.reads[pack.read].buffer for pack in schedule_of(stage).packs}
    return frozenset(single)


def _fetches(stage: Stage, kernel: Kernel) -> Iterator[tuple[Access, bool]]:
    for fetch in schedule_of(stage).fetches:
        other = kernel.stages[fetch.stage]
        yield fetched(fetch, stage, kernel), fetch.access >= len(other.reads)


class _Units:
    """The loops around all stages, and how they are cut into units."""

    def __init__(self, kernel: Kernel, context: Context):
        self.kernel, self.context, self.code = kernel, context, context.code
        self.leading = 0
        for axis, _ in kernel.shared:
            if any(a.kind != PARALLEL for s in kernel.stages for a in s.axes if a.name == axis.name):
                break
            self.leading += 1

    def emit(self) -> int:
        """Append the code; returns the number of units."""
        units = Units("%begin", "%end")
        if not self.kernel.shared and len(self.kernel.stages) == 1:
            stage, = self.kernel.stages
            Nest(self.context, stage, {}, {}, Flags()).emit(units if schedule_of(stage).threads else None)
            return prod(thread_counts(stage))
        if self._apart():
            return self._side_by_side()
        counts = self._counts()
        self._shared(0, {}, {s.name: Flags() for s in self.kernel.stages}, units)
        return prod(counts)

    def _apart(self) -> bool:
        """Whether threads may run the stages in any order: nothing goes from one to another."""
        stages = self.kernel.stages
        written = {a.buffer for s in stages for a in s.writes}
        return not self.kernel.shared and all(schedule_of(s).threads for s in stages) and not any(
            s.accumulate or any(a.buffer in written for a in s.reads) for s in stages)

    def _side_by_side(self) -> int:
        """The units of one stage after those of another; returns their number."""
        code, total = self.code, 0
        for stage in self.kernel.stages:
            count = prod(thread_counts(stage))
            begin, end = (code.at_most(code.at_least(code.op(f"arith.subi {x}, {code.index(total)} : index"), 0), count)
                          for x in ("%begin", "%end"))
            Nest(self.context, stage, {}, {}, Flags()).emit(Units(begin, end))
            total += count
        return total

    def _counts(self) -> list[int]:
        return [-(-axis.size // block) for axis, block in self.kernel.shared[:self.leading]]

    def _shared(self, depth: int, places: Mapping[str, Place], flags: Mapping[str, Flags], units: Units) -> None:
        if depth == len(self.kernel.shared):
            self._stages(places, flags)
            return
        axis, block = self.kernel.shared[depth]
        place = Place.whole(axis.size)
        reducing = {s.name for s in self.kernel.stages if axis.name in s.reductions}
        if axis.size <= block:
            self._shared(depth + 1, {**places, axis.name: place}, flags, units)
        elif depth < self.leading:
            inner = prod(self._counts()[depth + 1:])
            unit_blocks(self.code, place, block, [(0, axis.size)], units, inner,
                        lambda part, rest: self._shared(depth + 1, {**places, axis.name: part}, flags, rest))
        else:
            def inside(part: Place, first: Flag, last: Flag) -> None:
                self._shared(depth + 1, {**places, axis.name: part},
                             {n: f.add(first, last) if n in reducing else f for n, f in flags.items()}, units)

            innermost = depth == len(self.kernel.shared) - 1
            found = span(self.code, self.kernel.needed, axis, block, places) if innermost else None
            if found is not None:
                needed_blocks(self.code, axis.size, block, found, inside)
            else:
                blocks(self.code, place, block, [(0, axis.size)], bool(reducing), inside)

    def _stages(self, places: Mapping[str, Place], flags: Mapping[str, Flags]) -> None:
        self.context.scalars.clear()
        for stage in self.kernel.stages:
            outer = {a: p for a, p in places.items() if a in stage.sizes}
            Nest(self.context, stage, outer, places, flags[stage.name]).emit()
