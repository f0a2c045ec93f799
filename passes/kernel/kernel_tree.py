"""`kernel-tree`: pairwise summation along a reduction axis."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.kernel import Kernel, Schedule, Stage
from jtc.passes.kernel.schedule_pass import SchedulePass, known_axis


@dataclass(frozen=True)
class KernelTree(SchedulePass):
    """Let the results of blocks of a reduction axis meet in a binary tree: tree [] -> [(k, 2048)].

    axis, steps  the reduction axis, and how many of its steps make a block; on the vector axis, whole vectors
    The rounding error of a sum then grows with the logarithm of the number of blocks, not with their number.
    """

    name: ClassVar[str] = "kernel-tree"
    axis: str = ""
    steps: int = 1

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        known_axis(stage, self.axis, self.name)
        others = tuple(t for t in schedule.tree if t[0] != self.axis)
        return replace(schedule, tree=(*others, (self.axis, self.steps)))
