"""What the passes that edit one schedule share: the scalar schedule they start from, and the check after the edit."""
from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

from jtc.dialects.kernel import Kernel, Program, Schedule, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.base import PassError, StagePass
from jtc.passes.kernel import legality


def scalar_schedule(stage: Stage) -> Schedule:
    """One point at a time, in axis order: legal for every stage."""
    return Schedule(vector="", lanes=1, reduction=tuple(stage.reductions))


@dataclass(frozen=True)
class SchedulePass(StagePass):
    """A pass that changes the schedule of a stage and nothing else; a result that is not legal is refused."""

    @abstractmethod
    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        """The schedule after the pass; legality is checked afterwards."""

    def run_stage(self, stage: Stage, kernel: Kernel, program: Program) -> Stage:
        edited = replace(stage, schedule=self.edit(stage.schedule or scalar_schedule(stage), stage, kernel))
        legality.check(edited, kernel, program, CpuTarget())
        return edited


def known_axis(stage: Stage, axis: str, name: str) -> None:
    """Refuse an axis that the stage does not have."""
    if axis not in stage.sizes:
        raise PassError(f"{name}: stage {stage.name} has no axis {axis!r}",
                        hint=f"one of {', '.join(a.name for a in stage.axes) or 'none: it is a scalar'}")
