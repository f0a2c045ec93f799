"""`kernel-dot`: multiply pairs of steps of a reduction in one instruction."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.kernel import PAIR, Kernel, Schedule, Stage
from jtc.passes.kernel.legality import in_pairs
from jtc.passes.kernel.schedule_pass import SchedulePass, known_axis


@dataclass(frozen=True)
class KernelDot(SchedulePass):
    """Multiply the steps of a reduction in pairs: packs [%1 as (j//, k, j%)] -> [%1 as (j//, k//, j%, k%)], dot k.

    axis   the reduction axis; it moves innermost
    Packs in panels take the two steps of a pair next to each other.  A processor without the instruction (family.Dot)
    runs the same schedule with two multiply-adds in its place.  Guarantees a legal schedule or refuses: of what is not
    a product of two 16-bit floats of one type, of a vector operand that is not packed, of pairs that do not lie next to
    each other.
    """

    name: ClassVar[str] = "kernel-dot"
    axis: str = ""

    def edit(self, schedule: Schedule, stage: Stage, kernel: Kernel) -> Schedule:
        known_axis(stage, self.axis, self.name)
        packs = tuple(replace(pack, order=in_pairs(pack.order, self.axis)) for pack in schedule.packs)
        loops = tuple((a, -(-step // PAIR) * PAIR if a == self.axis else step) for a, step in schedule.loops)
        moved = dict(zip(schedule.loops, loops))
        packs = tuple(replace(pack, inside=moved.get(pack.inside, pack.inside)) for pack in packs)
        reduction = (*(a for a in schedule.reduction if a != self.axis), self.axis)
        return replace(schedule, dot=self.axis, packs=packs, loops=loops, reduction=reduction)
