"""Stages that accumulate into what their buffer holds (`accumulate`): scatters and overlapping reindex_reduce.

Lanes need an axis along which no two points write the same element, and only a commutative function may leave the axis
order.  Everything else runs as scalar code, in order.
"""
from __future__ import annotations

from collections.abc import Iterator

from jtc.dialects.kernel import Schedule
from jtc.passes.kernel.legality import injective
from jtc.passes.kernel.rules.common import SCATTER_COST, Candidate, View


def propose(view: View) -> Iterator[Candidate]:
    stage = view.stage
    for vector in view.parallel:
        if not injective(stage.write, vector):
            continue
        size, lanes = view.free[vector], view.lanes
        contiguous = stage.write.flat[vector] == 1
        loads = sum(view.load_cost(i, vector) for i in view.body_reads)
        outer = [a for a in view.parallel if a != vector]
        loops = (*((a, 1) for a in outer), (vector, lanes))
        store = 2 if contiguous else SCATTER_COST * lanes
        cost = view.points / size * -(-size // lanes) * (view.work * 0.5 + loads + store)
        yield Candidate(cost, Schedule(vector, lanes, loops, tuple(stage.reductions), threads=view.threads(outer)))
