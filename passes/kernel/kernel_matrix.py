"""`kernel-matrix`: multiply blocks in a matrix unit."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.kernel import Kernel, Schedule, Stage
from jtc.passes.kernel.kernel_dot import KernelDot


@dataclass(frozen=True)
class KernelMatrix(KernelDot):
    """Multiply blocks of the register tile and of pairs of steps in a matrix unit: -> dot k, matrix.

    axis   the reduction axis, as for kernel-dot
    A processor without the unit (family.Matrix) runs the same schedule with functions in its place, slowly.  Guarantees
    a legal schedule or refuses, besides what kernel-dot refuses: of lanes that are not as many as the columns of a
    block, of steps that are no multiple of those of a block, of a scalar operand whose steps do not lie next to each
    other, of tiles that take more registers than the unit has.
    """

    name: ClassVar[str] = "kernel-matrix"

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        return replace(super().edit(schedule, stage, kernel), matrix=True)
