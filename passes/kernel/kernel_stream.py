"""`kernel-stream`: write past the caches."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.kernel import Kernel, Schedule, Stage
from jtc.passes.base import PassError
from jtc.passes.kernel.schedule_pass import SchedulePass


@dataclass(frozen=True)
class KernelStream(SchedulePass):
    """Use non-temporal stores for the write: stream false -> stream true.

    Worth it for results much larger than the caches that nobody reads soon.  Refused for scatters, for reductions in
    blocks and for local buffers, which are read again at once.
    """

    name: ClassVar[str] = "kernel-stream"

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        blocked = {a for a, _ in schedule.loops} & set(stage.reductions)
        if stage.accumulate or blocked or stage.write.buffer in {b.name for b in kernel.locals}:
            raise PassError(f"{self.name}: stage {stage.name} reads {stage.write.buffer} again while it runs")
        return replace(schedule, stream=True)
