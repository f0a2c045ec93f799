"""Reductions that are not contractions: along rows, along columns, over everything.

* row: the data is contiguous along a reduction axis.  Lanes and several accumulators share that axis; one horizontal
  reduction at the end of each row.
* column: it is contiguous along a parallel axis, which takes the lanes; several vectors side by side, the reduction runs
  inside in blocks of rows, with the partial results in the first-level cache.
"""
from __future__ import annotations

from collections.abc import Iterator

from jtc.dialects.kernel import Schedule
from jtc.passes.kernel.rules.common import SCATTER_COST, TRANSPOSE_COST, Candidate, View, round_up

ACCUMULATORS = 8           # hides 4 cycles of latency on two ports
HORIZONTAL = 16.0          # cycles to combine the lanes of one accumulator
COLUMN_ROWS = 16           # rows of a column block: as many streams as the prefetchers follow
COLUMN_BLOCK = 8 << 10     # bytes of partial results kept in the first-level cache


def propose(view: View) -> Iterator[Candidate]:
    stage = view.stage
    for vector in view.reductions:
        if any(axis.name == vector for axis, _ in view.kernel.shared):
            continue
        yield from _row(view, vector)
    for vector in view.parallel:
        yield from _column(view, vector)
    if not stage.reductions and not view.parallel:
        return


def _row(view: View, vector: str) -> Iterator[Candidate]:
    size, lanes = view.free[vector], view.lanes
    count = max(1, min(ACCUMULATORS if view.work < 8 else 4, size // lanes))
    loads = sum(view.load_cost(i, vector) for i in view.body_reads)
    keep = 0.0
    if view.stage.keep is not None:
        keep = 1 if view.stage.keep.flat[vector] == 1 else SCATTER_COST * lanes
    outer = view.by_write_stride(view.parallel)
    loops: list[tuple[str, int]] = []
    rows = 1
    if outer and count < 4:             # short rows: several at once hide the latency of the horizontal step
        rows = max(1, min(view.free[outer[-1]], 4 // count))
        if rows > 1:
            loops = [(a, 1) for a in outer[:-1]] + [(outer[-1], rows)]
    results = view.points / size
    for other in view.reductions:
        if other != vector:
            results /= view.free[other]
    cost = view.points / size * -(-size // lanes) * (view.work * 0.5 + loads + keep) + results * HORIZONTAL
    yield Candidate(cost, Schedule(vector, lanes, tuple(loops), view.reduction_order(vector), ((vector, count),),
                                   threads=view.threads(outer)))


def _column(view: View, vector: str) -> Iterator[Candidate]:
    stage, lanes, size = view.stage, view.lanes, view.free[vector]
    write = stage.write.flat
    loads = sum(view.load_cost(i, vector) for i in view.body_reads)
    if stage.keep is not None:
        loads += 1 if stage.keep.flat[vector] == 1 else SCATTER_COST * lanes
    others = view.by_write_stride([a for a in view.parallel if a != vector])
    count = max(1, min(ACCUMULATORS if view.work < 8 else 4, -(-size // lanes)))
    loops = [(a, 1) for a in others]
    store = 1.0
    if write[vector] != 1:
        contiguous = [a for a in others if write[a] == 1]
        store = TRANSPOSE_COST if contiguous else SCATTER_COST * lanes
        if contiguous:
            loops = [(a, 1) for a in others if a != contiguous[0]] + [(contiguous[0], min(lanes, view.free[contiguous[0]]))]
            count = 1
    elif others and count < 4:          # short rows: several output rows in one tile
        loops[-1] = (others[-1], min(view.free[others[-1]], 4 // count))
    tile = lanes * count
    order = view.reduction_order()
    results = view.points
    for r in view.reductions:
        results //= view.free[r]
    cost = (view.points / size * -(-size // lanes) * (view.work * 0.5 + loads)
            + results / lanes * store)
    threads = view.threads([a for a, _ in loops])
    long = [r for r in order if r in view.free and all(abs(view.strides[i][r]) >= size for i in view.body_reads)]
    wide = lanes * ACCUMULATORS
    if long and not others and size > 2 * wide and stage.keep is None:
        block = round_up(min(size, COLUMN_BLOCK // stage.write.dtype.bytes), tile)
        loops = [(vector, block), (long[0], COLUMN_ROWS), (vector, tile)]
        threads = 1 if view.threads([vector]) else 0
    else:
        loops.append((vector, tile))
    unroll = ((order[-1], min(4, view.free[order[-1]])),) if order and order[-1] in view.free else ()
    yield Candidate(cost, Schedule(vector, lanes, tuple(loops), order, unroll, threads=threads))
