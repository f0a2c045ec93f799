"""`kernel-parallelize`: spread the outermost loops over threads."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.kernel import Kernel, Schedule, Stage
from jtc.passes.kernel.schedule_pass import SchedulePass


@dataclass(frozen=True)
class KernelParallelize(SchedulePass):
    """Say how many outermost loops may be spread over threads: threads 0 -> threads 2.

    loops  their number; parallel axes without a loop count, they are outside all loops
    Guarantees that no such loop runs over a reduction and that a scatter's threads write apart, or refuses.
    """

    name: ClassVar[str] = "kernel-parallelize"
    loops: int = 1

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        return replace(schedule, threads=self.loops)
