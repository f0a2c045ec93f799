"""`kernel-pack`: copy what a read needs into the order in which the register tile reads it."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Kernel, Pack, Program, Schedule, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.base import PassError, need_program
from jtc.passes.kernel import legality
from jtc.passes.kernel.packing import hoist
from jtc.passes.kernel.schedule_pass import SchedulePass


@dataclass(frozen=True)
class KernelPack(SchedulePass):
    """Pack one read: packs [] -> [%1 inside (k, 512) as (j//, k, j%)]; without `inside`, a copy kernel before this one.

    read    number of the read
    order   outer to inner: axes as "k", "j//" (tile number), "j%" (place in the tile); or dimension numbers, for a
            padded and permuted copy of the whole box that the read touches (only without `inside`), where the axes of
            an index may stand for its dimension
    inside  axis,step of the loop that starts with the copy; none: before the kernel
    pad     extra elements on the second-innermost stride
    Guarantees the same values.  A copy kernel whose source is constant runs once, when weights are bound.
    """

    name: ClassVar[str] = "kernel-pack"
    read: int = 0
    order: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    pad: int = 0

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        axis, step = self._loop()
        return replace(schedule, packs=(*schedule.packs, Pack(self.read, (axis, step), self.order, self.pad)))

    def run(self, module: Graph | Program) -> Program:
        if self.inside:
            return super().run(module)
        program = need_program(module, self.name)
        if self.pad < 0:
            raise PassError(f"{self.name}: pad={self.pad} is negative")
        for name in [k.name for k in program.kernels if self.kernel in ("", k.name)]:
            kernel = next(k for k in program.kernels if k.name == name)
            for stage in (s for s in kernel.stages if self.stage in ("", s.name)):
                if not 0 <= self.read < len(stage.reads):
                    raise PassError(f"{self.name}: stage {stage.name} has no read {self.read}")
                program, kernel, edited = hoist(program, kernel, stage, self.read, self.order, self.pad)
                legality.check(edited, kernel, program, CpuTarget())
        return program

    def _loop(self) -> tuple[str, int]:
        if len(self.inside) != 2 or not self.inside[1].isdecimal():
            raise PassError(f"{self.name}: inside={','.join(self.inside)} is not a loop", hint="write inside=axis,step")
        return self.inside[0], int(self.inside[1])
