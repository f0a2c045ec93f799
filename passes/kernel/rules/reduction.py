"""Reductions that are not contractions: along rows, along columns, over everything, over windows.

* row: the data is contiguous along a reduction axis.  Lanes and several accumulators share that axis; one horizontal
  reduction at the end of each row.
* column: it is contiguous along a parallel axis, which takes the lanes; several vectors side by side, the reduction
  runs inside.  Long columns go in blocks of rows, with the partial results in the first-level cache.
* window (pooling, depthwise convolution): a column whose rows slide.  The window is unrolled, and its loops are cut
  where guards begin to hold: a padded copy costs three times as much as the work (measured at 96 channels of 112x112).
"""
from __future__ import annotations

from collections.abc import Iterator
from math import prod

from jtc.dialects.kernel import Schedule
from jtc.passes.kernel.rules.common import SCATTER_COST, TRANSPOSE_COST, Candidate, View, round_up

ACCUMULATORS = 8           # hides 4 cycles of latency on two ports
HORIZONTAL = 16.0          # cycles to combine the lanes of one accumulator
COLUMN_ROWS = 16           # rows of a column block: as many streams as the prefetchers follow
COLUMN_BLOCK = 8 << 10     # bytes of partial results kept in the first-level cache
WINDOW_CODE = 400          # steps of an unrolled window in one tile


def propose(view: View) -> Iterator[Candidate]:
    shared = {axis.name for axis, _ in view.kernel.shared}
    for vector in view.reductions:
        if vector not in shared:
            yield _row(view, vector)
    for vector in view.parallel:
        yield _column(view, vector)


def _loads(view: View, vector: str) -> float:
    """Cycles of one vector's loads, and of its store where the body is kept."""
    keep = view.stage.keep
    kept = 0.0 if keep is None else 1.0 if keep.flat[vector] == 1 else SCATTER_COST * view.lanes
    return sum(view.load_cost(i, vector) for i in view.body_reads) + kept


def _row(view: View, vector: str) -> Candidate:
    size, lanes = view.free[vector], view.body_lanes        # the epilogue works on single results
    count = max(1, min(ACCUMULATORS if view.work < 8 else 4, size // lanes))
    outer = view.by_write_stride(view.parallel)
    loops: list[tuple[str, int]] = []
    if outer and count < 4:             # short rows: several at once hide the latency of the horizontal step
        loops = [(a, 1) for a in outer[:-1]] + [(outer[-1], min(view.free[outer[-1]], 4 // count))]
    results = prod(view.free[a] for a in view.parallel)
    steps = view.points / size * -(-size // lanes)
    cost = steps * (view.work * 0.5 + _loads(view, vector)) + results * HORIZONTAL
    return Candidate(cost, Schedule(vector, lanes, tuple(loops), view.reduction_order(vector), ((vector, count),),
                                    threads=view.threads(outer)))


def _column(view: View, vector: str) -> Candidate:
    stage, lanes, size = view.stage, view.lanes, view.free[vector]
    write = stage.write.flat
    others = view.by_write_stride([a for a in view.parallel if a != vector])
    vectors = -(-size // lanes)
    count = max(1, min(ACCUMULATORS if view.work < 8 else 4, vectors))
    order = view.reduction_order()
    unroll: tuple[tuple[str, int], ...] = ()
    if order and order[-1] in view.free:
        unroll = ((order[-1], min(4, view.free[order[-1]])),)
    loops = [(a, 1) for a in others]
    store = 1.0
    contiguous = [a for a in others if write[a] == 1]
    sliding = [a for a in others if _slides(view, a)]
    if write[vector] != 1 and contiguous:
        store, count = TRANSPOSE_COST, 1
        loops = [(a, 1) for a in others if a != contiguous[0]]
        loops.append((contiguous[0], min(lanes, view.free[contiguous[0]])))
    elif write[vector] != 1:
        store = SCATTER_COST * lanes
    elif sliding:
        count = -(-vectors // -(-vectors // min(count, 4)))       # equal shares of the row
        rows = min(view.free[sliding[-1]], max(1, 4 // count))
        loops = [(a, rows if a == sliding[-1] else 1) for a in others]
        unroll = _whole_windows(view, order, count * rows)
    elif others and count < 4:          # short rows: several output rows in one tile
        loops[-1] = (others[-1], min(view.free[others[-1]], 4 // count))
    tile = lanes * count
    steps = view.points / size * vectors
    results = prod(view.free[a] for a in view.parallel)
    cost = steps * (view.work * 0.5 + _loads(view, vector)) + results / lanes * store
    threads = view.threads([a for a, _ in loops])
    long = [r for r in order if r in view.free and view.free[r] > COLUMN_ROWS
            and max((abs(view.strides[i][r]) for i in view.body_reads), default=0) >= size]
    if long and not others and vectors > 2 * count:
        block = round_up(min(size, COLUMN_BLOCK // stage.body.dtype.bytes), tile)
        loops = [(vector, block), (long[0], COLUMN_ROWS), (vector, tile)]
        threads = 1 if view.threads([vector]) else 0
    else:
        loops.append((vector, tile))
    return Candidate(cost, Schedule(vector, lanes, tuple(loops), order, unroll, split=view.cuts(), threads=threads))


def _slides(view: View, axis: str) -> bool:
    """Whether a window slides along a parallel axis: some index of a read adds it and a reduction axis."""
    reductions = set(view.reductions)
    return any(axis in form.axes and form.axes & reductions for i in view.body_reads
               for form in view.stage.reads[i].index)


def _whole_windows(view: View, order: tuple[str, ...], tile: int) -> tuple[tuple[str, int], ...]:
    """The innermost reduction axes unrolled whole, as far as the code of one tile stays small."""
    unroll: list[tuple[str, int]] = []
    for axis in reversed([r for r in order if r in view.free]):
        tile *= view.free[axis]
        if tile > WINDOW_CODE:
            break
        unroll.append((axis, view.free[axis]))
    return tuple(unroll)
