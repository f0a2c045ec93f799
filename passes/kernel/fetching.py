"""What a stage fetches for others (`Schedule.fetches`): the elements, what is legal, and the rule that says which.

Stages that share rows take turns.  While one of them computes on rows that the caches hold, memory is idle; then the
next one waits for it.  So a stage that moves nothing itself fetches, vector by vector, what the next one will write, or
what the first one will read in the next block.  It changes no value: a prefetch never faults, and an address past the
end of a buffer is allowed.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from jtc.dialects.affine import Affine
from jtc.dialects.kernel import Access, Axis, Fetch, Kernel, Stage
from jtc.dialects.target import CpuTarget

SHARE = 4           # of the second-level cache, one part in so many may hold what is fetched of one buffer


def fetched(fetch: Fetch, stage: Stage, kernel: Kernel) -> Access:
    """The elements, in terms of the axes of the stage that fetches them."""
    other = kernel.stages[fetch.stage]
    names = {theirs.name: Affine.axis(mine.name)
             for theirs, mine in zip(_own_axes(other, kernel), _own_axes(stage, kernel), strict=True)}
    axis, block = kernel.shared[-1]
    names[axis.name] = Affine.axis(axis.name) + fetch.blocks * block
    access = other.accesses[fetch.access]
    return replace(access, index=tuple(form.substitute(names) for form in access.index))


def refusal(fetch: Fetch, stage: Stage, kernel: Kernel) -> str | None:
    """Why a stage with a schedule cannot fetch something; None where it can."""
    if not 0 <= fetch.stage < len(kernel.stages) or kernel.stages[fetch.stage].name == stage.name:
        return f"{fetch.stage} is no other stage"
    other, schedule = kernel.stages[fetch.stage], stage.schedule
    if not 0 <= fetch.access < len(other.accesses):
        return f"stage {other.name} has {len(other.accesses)} accesses"
    if not kernel.shared:
        return "the stages share no axis"
    access = other.accesses[fetch.access]
    if any(local.name == access.buffer for local in kernel.locals):
        return f"{access.buffer} is in the caches anyway"
    if access.guards or access.gather:
        return f"where {access.buffer} is accessed is guarded, or depends on data"
    mine, theirs = ([axis.size for axis in _own_axes(s, kernel)] for s in (stage, other))
    if mine != theirs:
        return f"stage {stage.name} runs over {mine} in a block, stage {other.name} over {theirs}"
    if stage.scan or stage.accumulate:
        return "scans and scatters fetch nothing"
    if schedule is None or fetched(fetch, stage, kernel).flat[schedule.vector] != 1:
        return f"{access.buffer} is not contiguous along the vector axis"
    return None


def possible(stage: Stage, kernel: Kernel) -> Iterator[Fetch]:
    """What the stage could fetch: what others move that nothing before them has moved in the same block."""
    here = next(number for number, s in enumerate(kernel.stages) if s.name == stage.name)
    for number in range(len(kernel.stages)):
        for access in _moved(kernel, number):
            fetch = Fetch(number, access, int(here > number))
            if refusal(fetch, stage, kernel) is None:
                yield fetch


def with_fetches(kernel: Kernel, target: CpuTarget) -> Kernel:
    """The kernel, all stages of which have schedules, with what they fetch for each other; as it is, where that was
    chosen already."""
    if any(stage.schedule is not None and stage.schedule.fetches for stage in kernel.stages):
        return kernel
    moved = [list(_moved(kernel, number)) for number in range(len(kernel.stages))]
    stages = list(kernel.stages)
    for number, accesses in enumerate(moved):
        before = [*range(number - 1, -1, -1), *range(len(moved) - 1, number, -1)]
        for idle in [n for n in before if not moved[n]][:1]:
            for access in accesses:
                stages[idle] = _fetching(stages[idle], Fetch(number, access, int(idle > number)), kernel, target)
    return replace(kernel, stages=tuple(stages))


def _fetching(stage: Stage, fetch: Fetch, kernel: Kernel, target: CpuTarget) -> Stage:
    """The stage with one more fetch, where that is legal and worth it."""
    access, schedule = kernel.stages[fetch.stage].accesses[fetch.access], stage.schedule
    if schedule is None or refusal(fetch, stage, kernel) is not None or not _worth(access, kernel, target):
        return stage
    return replace(stage, schedule=replace(schedule, fetches=(*schedule.fetches, fetch)))


def _own_axes(stage: Stage, kernel: Kernel) -> list[Axis]:
    """The axes that the stage does not share."""
    shared = {axis.name for axis, _ in kernel.shared}
    return [axis for axis in stage.axes if axis.name not in shared]


def _moved(kernel: Kernel, number: int) -> Iterator[int]:
    """Numbers of the accesses by which a stage moves what no stage before it has moved in the same block."""
    shared, local = {axis.name for axis, _ in kernel.shared}, {buffer.name for buffer in kernel.locals}
    seen = {a.buffer for stage in kernel.stages[:number] for a in stage.accesses}
    for place, access in enumerate(kernel.stages[number].accesses):
        if access.buffer not in seen | local and access.axes & shared:
            seen.add(access.buffer)
            yield place


def _worth(access: Access, kernel: Kernel, target: CpuTarget) -> bool:
    """Whether the buffer comes from beyond the second-level cache, and what is fetched for a block stays in it."""
    size = access.size * access.dtype.bytes
    blocks = prod(-(-axis.size // block) for axis, block in kernel.shared if axis.name in access.axes)
    return size > target.l2 and size <= target.l2 // SHARE * blocks
