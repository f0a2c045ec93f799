"""Whether two schedules of a stage give the same result bit for bit.

Parallel axes, copies, prefetches and threads change where a value is computed, not its value.  What can change it is
the order in which a floating-point reduction adds up: blocks of the reduction are sums of their own, lanes and several
accumulators along a reduction axis too.
"""
from __future__ import annotations

from jtc.dialects.kernel import Kernel, Schedule, Stage
from jtc.passes.kernel.legality import extents
from jtc.passes.kernel.rules.common import Candidate


def same_result(stage: Stage, kernel: Kernel, one: Candidate, other: Candidate) -> bool:
    """Whether every sum of the stage is made in the same order under both; never says so where it is not known."""
    if stage.reduce is None and not stage.accumulate or not stage.body.dtype.is_float:
        return True
    first, second = one.schedule, other.schedule
    if stage.accumulate:                # threads and lanes write apart; which point comes first is the loops' matter
        return _points(first) == _points(second)
    if _order(stage, first) != _order(stage, second):
        return False
    # A short sum that is unrolled whole begins with its first term, any other with 0: -0 is the difference.  Where the
    # operands lie decides which axes are walked as one, and so whether it is short.
    looped = all(any(n > _factor(s, a) for a, n in _steps(stage, kernel, s).items()) for s in (first, second))
    return looped or (first.unroll, first.packs, one.copies) == (second.unroll, second.packs, other.copies)


def _points(schedule: Schedule) -> tuple[object, ...]:
    return schedule.loops, schedule.reduction, schedule.vector, schedule.lanes, schedule.unroll


def _order(stage: Stage, schedule: Schedule) -> tuple[object, ...]:
    """What decides in which order terms of one sum meet."""
    reductions = set(stage.reductions)
    size = stage.sizes
    blocks = tuple(loop for loop in schedule.loops if loop[0] in reductions and loop[1] < size[loop[0]])
    inside = tuple(a for a in schedule.reduction if size[a] > 1)
    across = (schedule.vector, schedule.lanes, dict(schedule.unroll).get(schedule.vector, 1)) \
        if schedule.vector in reductions else None
    return blocks, inside, across, schedule.tree, schedule.dot, schedule.matrix


def _steps(stage: Stage, kernel: Kernel, schedule: Schedule) -> dict[str, int]:
    """Reduction axis -> its steps in one register tile."""
    found = {a: n for a, n in extents(stage, kernel).items() if a in stage.reductions}
    for axis, step in (*schedule.loops, *schedule.tree):
        if axis in found:
            found[axis] = min(found[axis], step)
    return found


def _factor(schedule: Schedule, axis: str) -> int:
    lanes = schedule.lanes if axis == schedule.vector else 1
    return dict(schedule.unroll).get(axis, 1) * lanes
