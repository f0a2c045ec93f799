"""`kernel-fuse`: two axes become one."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jtc.dialects.kernel import Kernel, Program, Stage
from jtc.passes.base import PassError, StagePass
from jtc.passes.kernel.kernel_merge_axes import merge_pair
from jtc.passes.kernel.schedule_pass import known_axis


@dataclass(frozen=True)
class KernelFuse(StagePass):
    """Merge an outer and an inner axis, and with them their loops: axes [i:4, j:8] -> [j:32].

    outer, inner  the axes; the result has the inner's name and size(outer) * size(inner) points
    Assumes a stage without schedule.  Refuses with the reason where some access does not walk both as
    one; `kernel-merge-axes` does this for all pairs that allow it.
    """

    name: ClassVar[str] = "kernel-fuse"
    outer: str = ""
    inner: str = ""

    def run_stage(self, stage: Stage, kernel: Kernel, program: Program) -> Stage:
        for axis in (self.outer, self.inner):
            known_axis(stage, axis, self.name)
        if stage.schedule is not None:
            raise PassError(f"{self.name}: stage {stage.name} has a schedule already",
                            hint="fuse axes before scheduling")
        axes = {a.name: a for a in stage.axes}
        if self.outer == self.inner:
            raise PassError(f"{self.name}: {self.outer} cannot merge with itself")
        merged = merge_pair(stage, axes[self.outer], axes[self.inner], {axis.name for axis, _ in kernel.shared})
        if isinstance(merged, str):
            raise PassError(f"{self.name}: {self.outer} and {self.inner} of stage {stage.name} do not merge: {merged}")
        return merged
