"""`kernel-prefetch`: fetch the next panel of a packed read early."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.kernel import Kernel, Schedule, Stage
from jtc.passes.kernel.schedule_pass import SchedulePass


@dataclass(frozen=True)
class KernelPrefetch(SchedulePass):
    """Fetch the next panel of a read while the tiles of one panel run: prefetch [] -> [1].

    read  number of a read that is packed in panels along the vector axis
    Worth it where all panels together do not fit the second-level cache.  Changes no value.
    """

    name: ClassVar[str] = "kernel-prefetch"
    read: int = 0

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        return replace(schedule, prefetch=(*(n for n in schedule.prefetch if n != self.read), self.read))
