"""`kernel-split`: one more loop over an axis."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.kernel import Kernel, Schedule, Stage
from jtc.passes.kernel.schedule_pass import SchedulePass, known_axis


@dataclass(frozen=True)
class KernelSplit(SchedulePass):
    """Add a loop over an axis with a step: loops [(i, 48)] -> [(i, 48), (i, 8)].

    axis, step  the loop; at: its place in the loop list, -1 for innermost
    Assumes the step divides that of the enclosing loop over the axis.  Guarantees a legal schedule or refuses.
    """

    name: ClassVar[str] = "kernel-split"
    axis: str = ""
    step: int = 1
    at: int = -1

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        known_axis(stage, self.axis, self.name)
        place = len(schedule.loops) if self.at < 0 else self.at
        return replace(schedule, loops=(*schedule.loops[:place], (self.axis, self.step), *schedule.loops[place:]))
