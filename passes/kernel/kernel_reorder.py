"""`kernel-reorder`: another order of the loops."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.kernel import Kernel, Schedule, Stage
from jtc.passes.base import PassError
from jtc.passes.kernel.schedule_pass import SchedulePass


@dataclass(frozen=True)
class KernelReorder(SchedulePass):
    """Permute loops and reduction axes: loops [(i, 8), (j, 48)] -> [(j, 48), (i, 8)].

    order      axes of all loops, outer to inner; an axis with several loops is named once for each, larger steps first
    reduction  order of the reduction axes inside the register tile ("" keeps it)
    Guarantees a legal schedule or refuses.
    """

    name: ClassVar[str] = "kernel-reorder"
    order: tuple[str, ...] = ()
    reduction: tuple[str, ...] = ()

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        if self.order:
            if sorted(self.order) != sorted(axis for axis, _ in schedule.loops):
                raise PassError(f"{self.name}: {','.join(self.order)} does not name the loops of stage {stage.name}",
                                hint=f"its loops are over {', '.join(a for a, _ in schedule.loops) or 'nothing'}")
            steps = {axis: iter([s for a, s in schedule.loops if a == axis]) for axis in self.order}
            schedule = replace(schedule, loops=tuple((axis, next(steps[axis])) for axis in self.order))
        return replace(schedule, reduction=self.reduction or schedule.reduction)
