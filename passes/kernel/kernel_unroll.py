"""`kernel-unroll`: unroll a reduction axis inside the register tile."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.kernel import Kernel, Schedule, Stage
from jtc.passes.kernel.schedule_pass import SchedulePass, known_axis


@dataclass(frozen=True)
class KernelUnroll(SchedulePass):
    """Set the unroll factor of a reduction axis: unroll [] -> [(k, 4)].

    axis, factor  for the vector axis of a reduction, the factor is its number of vector accumulators
    Guarantees that the accumulators and the code of the register tile stay within bounds, or refuses.
    """

    name: ClassVar[str] = "kernel-unroll"
    axis: str = ""
    factor: int = 1

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        known_axis(stage, self.axis, self.name)
        others = tuple(u for u in schedule.unroll if u[0] != self.axis)
        return replace(schedule, unroll=(*others, (self.axis, self.factor)))
