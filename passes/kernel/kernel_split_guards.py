"""`kernel-split-guards`: cut loops where guards begin and end to hold."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.kernel import Kernel, Schedule, Stage
from jtc.passes.base import PassError
from jtc.passes.kernel.schedule_pass import SchedulePass, known_axis


@dataclass(frozen=True)
class KernelSplitGuards(SchedulePass):
    """Cut the loops over axes at guard boundaries, so that the interior runs without them: split () -> (h, w).

    axes  the axes whose loops are cut; each must occur in a guard
    Guarantees the same points in the same order; the code of the tile is repeated for border and interior.
    """

    name: ClassVar[str] = "kernel-split-guards"
    axes: tuple[str, ...] = ()

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        guarded = {a for access in (*stage.reads, stage.write) for g in access.guards for a in g.index.axes}
        for axis in self.axes:
            known_axis(stage, axis, self.name)
            if axis not in guarded:
                raise PassError(f"{self.name}: no guard of stage {stage.name} lies on axis {axis!r}",
                                hint=f"guarded axes: {', '.join(sorted(guarded)) or 'none'}")
        return replace(schedule, split=self.axes)
