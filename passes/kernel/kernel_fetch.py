"""`kernel-fetch`: fetch what another stage of the kernel will move."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.kernel import Fetch, Kernel, Schedule, Stage
from jtc.passes.kernel.schedule_pass import SchedulePass


@dataclass(frozen=True)
class KernelFetch(SchedulePass):
    """Fetch what another stage of the kernel will move: fetches [] -> ["2.1 + 0"].

    other, access  number of that stage, and of the access among its reads, then its writes
    blocks  how many blocks of the innermost shared axis later it will be moved
    Worth it in a stage that computes on what the caches hold.  Changes no value.
    """

    name: ClassVar[str] = "kernel-fetch"
    other: int = 0
    access: int = 0
    blocks: int = 0

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        fetch = Fetch(self.other, self.access, self.blocks)
        return replace(schedule, fetches=(*(f for f in schedule.fetches if f != fetch), fetch))
