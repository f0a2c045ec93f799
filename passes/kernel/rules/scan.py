"""Scans: one axis runs in order, and every step waits for the one before.

What hides that wait is independent work: lanes and several vectors along the axis in which the write is contiguous.
Where that is the scanned axis itself, sums and the like take a vector of steps at once, by doubling; recurrences, where
products of factors could overflow on the way, run a few rows side by side, each scalar.  Long bodies of those fill
lanes with rows instead, though loads and stores of such lanes go element by element.
"""
from __future__ import annotations

from collections.abc import Iterator
from math import log2

from jtc.dialects.kernel import Schedule
from jtc.passes.kernel.rules.common import SCATTER_COST, Candidate, View, round_up

CHAIN = 4.0             # cycles from one step of an addition, product or maximum to the next
LANES = 5               # instructions that carry the value so far into and out of a vector, and store it
LOAD = 1.0              # of a vector, in either direction
CHAINS = 8              # independent ones that keep two ports busy
LINES = 8               # cache lines at once: rows whose distance is a power of two share a set of the first cache
FAR = 8                 # stores that walk along rows side by side: their lines meet in few sets (measured)


def propose(view: View) -> Iterator[Candidate]:
    stage = view.stage
    unroll = tuple((axis, 2) for axis in stage.reductions)
    axis, = stage.reductions
    if abs(view.written[axis]) == 1 and axis in view.free and stage.running_term() is not None:
        vectors = -(-view.free[axis] // view.lanes)
        memory = sum(LOAD if abs(form[axis]) <= 1 else view.load_cost(n, axis) for n, form in enumerate(view.strides))
        step = max(CHAIN, 2 * log2(view.lanes) + LANES + view.work * 0.5 + memory)
        outer = view.by_write_stride(view.parallel)
        yield Candidate(view.points / view.free[axis] * vectors * step, Schedule(
            axis, view.lanes, tuple((a, 1) for a in outer), (axis,), unroll, threads=view.threads(outer)))
    for vector in view.parallel:
        if not view.written[vector]:
            continue
        size, lanes = view.free[vector], view.lanes
        vectors = -(-size // lanes)
        count = min(vectors, CHAINS)
        outer = view.by_write_stride([a for a in view.parallel if a != vector])
        memory = sum(view.load_cost(n, vector) for n in range(len(stage.reads)))
        memory += 1.0 if view.written[vector] == 1 else SCATTER_COST * lanes * FAR
        step = max(count * (view.work * 0.5 + memory), CHAIN)
        cost = view.points / size * round_up(vectors, count) / count * step
        loops = (*((a, 1) for a in outer), (vector, lanes * count))
        threads = view.threads(outer) or (len(loops) if view.threads([vector]) and vectors > count else 0)
        yield Candidate(cost, Schedule(vector, lanes, loops, tuple(stage.reductions), unroll, threads=threads))
    if view.parallel:
        rows = max(view.parallel, key=lambda a: view.free[a])
        count = min(view.free[rows], max(2, LINES // (len(stage.reads) + 1)))
        outer = view.by_write_stride([a for a in view.parallel if a != rows])
        loops = (*((a, 1) for a in outer), (rows, count))
        cost = view.points / count * max(count * (view.work * 0.5 + 1), CHAIN)
        threads = view.threads([*outer, rows])
        yield Candidate(cost, Schedule("", 1, loops, tuple(stage.reductions), unroll, threads=threads))
