"""Reductions that are not contractions: along rows, along columns, over everything, over windows.

The kinds differ in the order in which terms meet (docs/schedules.md says when each is chosen, and what it rounds to):

* serial: one accumulator for each result takes the terms one after the other; lanes, if any, are other results.  What
  columns of a few rows take, and windows (pooling, depthwise convolution), columns whose rows slide: the window is
  unrolled, and its loops are cut where guards begin to hold, because a padded copy costs three times as much as the
  work (measured at 96 channels of 112x112).
* vector: the data is contiguous along a reduction axis, whose points the lanes share.  Several accumulators of lanes,
  or several rows at once, a cache line of each; one horizontal reduction at the end of each row.
* tree: blocks of either, whose results meet in pairs.  For sums so long that the error of one accumulator shows.
* column: long columns go in blocks of rows, with the partial results in the first-level cache.
* two_pass: `kernel-two-pass` has cut the reduction into parts before; each part is then one of the above.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from jtc.dialects.affine import Affine
from jtc.dialects.errors import UsageError
from jtc.dialects.kernel import Schedule, Stage
from jtc.passes.kernel.rules.common import LINE, SCATTER_COST, TRANSPOSE_COST, Candidate, View, round_up

KINDS = ("serial", "vector", "tree", "column", "two_pass")

ACCUMULATORS = 8           # hides 4 cycles of latency on two ports
ROWS = 8                   # rows at once: one row alone comes from memory at 6 GB/s, eight at 10
HORIZONTAL = 16.0          # cycles to combine the lanes of one accumulator
COLUMN_ROWS = 16           # rows of a column block: as many streams as the prefetchers follow
COLUMN_BLOCK = 8 << 10     # bytes of partial results kept in the first-level cache
WINDOW = 16                # reach of a window that need not overlap the next one
WINDOW_CODE = 400          # steps of an unrolled window in one tile
PAGE = 4.0                 # cycles for each row of a narrow column whose rows are in pages of their own
LONG_BLOCK = 4             # vectors of a shared block from which on lanes may lie along it
LONG = 512                 # terms that one accumulator takes before blocks meet in a tree
TREE_BLOCK = 64            # terms that it takes in a block of the tree


def check_kind(name: str, where: str) -> None:
    """Refuse what is neither a kind nor "auto".  Raises UsageError."""
    if name not in ("auto", *KINDS):
        raise UsageError(f"{where}: reduction={name!r} is not one of auto, {', '.join(KINDS)}")


def propose(view: View) -> Iterator[Candidate]:
    """Candidates of all kinds; long sums meet in trees, unless they are of the kind that is asked for."""
    for candidate in _plain(view):
        tree = _tree(view, candidate, TREE_BLOCK if view.reduction == "tree" else LONG)
        wanted = view.reduction == "tree" or rounds(view.stage) \
            and kind(view.stage, candidate.schedule) != view.reduction
        yield tree if tree is not None and wanted else candidate


def kind(stage: Stage, schedule: Schedule) -> str:
    """The kind of a scheduled reduction, one of KINDS; two_pass is none of a single stage."""
    if schedule.tree:
        return "tree"
    if schedule.vector in stage.reductions:
        return "vector"
    return "column" if any(a in stage.reductions for a, _ in schedule.loops) else "serial"


def _plain(view: View) -> Iterator[Candidate]:
    short = {axis.name for axis, block in view.kernel.shared if block < LONG_BLOCK * view.lanes}
    for vector in view.reductions:
        if vector not in short:
            yield _row(view, vector)
    for vector in view.parallel:
        yield from _column(view, vector)


# ------------------------------------------------------------------------------------------------ trees
def rounds(stage: Stage) -> bool:
    """Whether the order of the terms shows in the result, beyond its last bits if they are many."""
    return stage.reduce in ("add", "mul") and stage.body.dtype.is_float


def _tree(view: View, candidate: Candidate, most: int) -> Candidate | None:
    """The candidate with trees where one accumulator would take more than `most` terms; None where none does.

    In a block of an axis an accumulator takes TREE_BLOCK terms; then its result counts as one term for the next axis.
    """
    schedule = candidate.schedule
    vector, blocked = schedule.vector, {a for a, _ in schedule.loops}
    trees: list[tuple[str, int]] = []
    terms = 1
    for axis in reversed([a for a in schedule.reduction if a in view.free and a not in blocked]):
        side = schedule.lanes * dict(schedule.unroll).get(axis, 1) if axis == vector else 1
        count = terms * -(-view.free[axis] // side)
        steps = max(1, TREE_BLOCK // terms) * side
        if count > most and steps < view.free[axis]:
            trees.append((axis, steps))
            terms = 1
        else:
            terms = count
    return replace(candidate, schedule=replace(schedule, tree=tuple(trees))) if trees else None


# ------------------------------------------------------------------------------------------------ rows
def _loads(view: View, vector: str) -> float:
    """Cycles of one vector's loads, and of its store where the body is kept."""
    keep = view.stage.keep
    kept = 0.0 if keep is None else 1.0 if keep.flat[vector] == 1 else SCATTER_COST * view.lanes
    return sum(view.load_cost(i, vector) for i in view.body_reads) + kept


def _line(view: View, vector: str) -> int:
    """Vectors of a row that share a cache line: of eight rows that share a set of the first level, the second half of
    a line would be gone before it is read."""
    wide = max((view.stage.reads[i].dtype.bytes for i in view.body_reads if view.strides[i][vector] == 1), default=LINE)
    return max(1, LINE // (wide * view.body_lanes))


def _row(view: View, vector: str) -> Candidate:
    size, lanes = view.free[vector], view.body_lanes        # the epilogue works on single results
    most = ACCUMULATORS if view.work < 8 else 4
    outer = view.by_write_stride(view.parallel)
    rows = min(ROWS, max(1, most // _line(view, vector)), view.free[outer[-1]]) if outer else 1
    count = max(1, min(most // rows, size // lanes))
    loops = [(a, 1) for a in outer[:-1]] + [(outer[-1], rows)] if rows > 1 else []
    results = prod(view.free[a] for a in view.parallel)
    steps = view.points / size * -(-size // lanes)
    cost = steps * (view.work * 0.5 + _loads(view, vector)) + results * HORIZONTAL
    return Candidate(cost, Schedule(vector, lanes, tuple(loops), view.reduction_order(vector), ((vector, count),),
                                    threads=view.threads(outer)))


# ------------------------------------------------------------------------------------------------ columns
def _column(view: View, vector: str) -> Iterator[Candidate]:
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
        rows = min(view.free[sliding[-1]], max(1, ACCUMULATORS // count))
        loops = [(a, rows if a == sliding[-1] else 1) for a in others]
        unroll = _whole_windows(view, order, count * rows)
    elif others and count < 4:          # short rows: several output rows in one tile
        loops[-1] = (others[-1], min(view.free[others[-1]], 4 // count))
    tile = lanes * count
    steps = view.points / size * vectors
    results = prod(view.free[a] for a in view.parallel)
    cost = steps * (view.work * 0.5 + _loads(view, vector)) + results / lanes * store
    threads = view.threads([*(a for a, _ in loops), vector])
    long = _long(view, order, vector)
    blocked = bool(long) and not sliding and write[vector] == 1 and vectors > 2 * count
    plain = Schedule(vector, lanes, (*loops, (vector, tile)), order, unroll, split=view.cuts(), threads=threads)
    yield Candidate(cost + (steps / count * PAGE if blocked else 0.0), plain)
    if blocked:
        block = round_up(min(size, COLUMN_BLOCK // stage.body.dtype.bytes), tile)
        around = [(a, 1) for a in others]
        yield Candidate(cost, replace(plain, loops=(*around, (vector, block), (long, COLUMN_ROWS), (vector, tile)),
                                      threads=view.threads([*others, vector])))


def _long(view: View, order: tuple[str, ...], vector: str) -> str:
    """The outermost reduction axis along which columns are long, with rows that do not overlap; "" if there is none."""
    return next((r for r in order if r in view.free and view.free[r] > COLUMN_ROWS and max(
        (abs(view.strides[i][r]) for i in view.body_reads), default=0) >= view.free[vector]), "")


def _slides(view: View, axis: str) -> bool:
    """Whether a window slides along a parallel axis: some index of a read adds it and reduction axes.

    Long ones that do not overlap are no windows, but parts of something longer.
    """
    def window(form: Affine) -> bool:
        reach = sum(abs(form[r]) * (view.free[r] - 1) for r in form.axes.intersection(view.reductions))
        return axis in form.axes and reach > 0 and (reach < WINDOW or reach >= abs(form[axis]))

    return any(window(form) for i in view.body_reads for form in view.stage.reads[i].index)


def _whole_windows(view: View, order: tuple[str, ...], tile: int) -> tuple[tuple[str, int], ...]:
    """The innermost reduction axes unrolled whole, as far as the code of one tile stays small."""
    unroll: list[tuple[str, int]] = []
    for axis in reversed([r for r in order if r in view.free]):
        tile *= view.free[axis]
        if tile > WINDOW_CODE:
            break
        unroll.append((axis, view.free[axis]))
    return tuple(unroll)
