"""`kernel-vectorize`: choose the axis on the vector lanes."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.kernel import Kernel, Schedule, Stage
from jtc.passes.kernel.schedule_pass import SchedulePass, known_axis


@dataclass(frozen=True)
class KernelVectorize(SchedulePass):
    """Put an axis on the vector lanes: vector "" -> vector j, lanes 16.

    axis   a parallel axis (it gets a loop of one vector if it has none) or a reduction axis (it moves innermost)
    lanes  elements in one vector, a power of two
    Guarantees a legal schedule or refuses, for instance where the reduction is not associative.
    """

    name: ClassVar[str] = "kernel-vectorize"
    axis: str = ""
    lanes: int = 16

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        known_axis(stage, self.axis, self.name)
        loops, reduction = schedule.loops, schedule.reduction
        if self.axis in stage.reductions:
            reduction = (*(a for a in reduction if a != self.axis), self.axis)
        elif self.axis not in {a for a, _ in loops}:
            loops = (*loops, (self.axis, self.lanes))
        return replace(schedule, vector=self.axis, lanes=self.lanes, loops=loops, reduction=reduction)
