"""Stages without a reduction: maps, copies, transposes, gathers.

The vector axis is the one along which loads and the store together cost least, usually the contiguous axis of the
write.
Where the reads are contiguous along another axis than the write, lanes follow the reads and a second tile axis
follows the write: the tile is transposed in registers.
"""
from __future__ import annotations

from collections.abc import Iterator

from jtc.dialects.kernel import PAIR, Pack, Schedule
from jtc.passes.kernel.pairs import crossed
from jtc.passes.kernel.rules.common import LINE, SCATTER_COST, TRANSPOSE_COST, Candidate, View, round_up

STREAM_BYTES = 16 << 20     # results from this size on bypass the caches (measured: 1.2-1.3x at 64 MB)
HEAVY_BODY = 24             # instructions from which one vector at a time is enough to fill the pipeline
APART = 16                  # elements apart from which on two of them share no cache line
ROWS = 8                    # rows that are cut into panels side by side: as many streams (measured: 4x at 768 columns)
BLOCK = 256                 # elements of rows that are turned at once
RUN = 1024                  # elements of a row from which on it is a stream of its own
FEW = 1 << 14               # points that scalar code runs through in less time than compiling vectors takes


def propose(view: View) -> Iterator[Candidate]:
    write = view.stage.write.flat
    if view.known and (view.quick or view.points <= FEW):
        yield _point_by_point(view)
        return
    yield from _crossing(view)
    for vector in view.parallel:
        contiguous = [a for a in view.parallel if a != vector and write[a] == 1]
        loads = sum(view.load_cost(i, vector) for i in view.body_reads)
        if write[vector] == 1:
            yield _straight(view, vector, loads + 1)
            yield from _turning(view, vector)
        elif contiguous and not view.known:     # that is much code for what runs once
            yield _transposing(view, vector, contiguous[0], loads + TRANSPOSE_COST)
        elif write[vector]:
            yield _straight(view, vector, loads + SCATTER_COST * view.lanes)


def _point_by_point(view: View) -> Candidate:
    """Scalars in the order of the write: what runs once, when weights are bound, and has to be compiled soon."""
    axes = view.by_write_stride(view.parallel)
    schedule = Schedule("", 1, tuple((a, 1) for a in axes), threads=view.threads(axes))
    return Candidate(view.points * view.work, schedule)


def _straight(view: View, vector: str, memory: float) -> Candidate:
    """Rows of vectors: [(outer axes, 1)..., (vector, lanes * n)]."""
    size, lanes = view.free[vector], view.lanes
    count = 1 if view.work >= 4 * HEAVY_BODY else 2 if view.work >= HEAVY_BODY else 4
    vectors = -(-size // lanes)
    others = view.by_write_stride([a for a in view.parallel if a != vector])
    apart = min((abs(view.strides[i][vector]) for i in view.body_reads), default=0) >= APART
    if others and apart and not view.cuts():
        return _gathering(view, vector, others, memory)
    loops = [(a, 1) for a in others]
    if vectors < count and others:      # short rows: several of them in one tile
        loops[-1] = (others[-1], min(view.free[others[-1]], count // vectors))
    if _turns(view, vector, others):            # such as panels that are cut out of rows
        loops.insert(0, (others[-1], ROWS))
    block = lanes * min(count, vectors)
    threads = view.threads([a for a, _ in loops])
    if not threads and view.threads([vector]) and size >= 64 * block:
        threads, part = len(loops) + 1, round_up(max(size // 64, 1), block)
        if part > block:
            loops.append((vector, part))      # blocks of a long row for the threads
    loops.append((vector, block))
    stream = write_streams(view) and view.stage.write.flat[vector] == 1
    cost = view.points / size * vectors * (view.work * 0.5 + memory)
    return Candidate(cost, Schedule(vector, lanes, tuple(loops), split=view.cuts(), threads=threads, stream=stream))


def _turns(view: View, vector: str, others: list[str]) -> bool:
    """Whether a read jumps from short row to short row where the write walks on, and walks on along an outer axis.

    others  axes without the vector's, outer to inner
    """
    if len(others) < 2 or view.free[others[-1]] <= ROWS or view.free[vector] >= RUN:
        return False
    strides = [[abs(view.strides[i][a]) for a in others] for i in view.body_reads]
    return any(inner >= APART and any(0 < s < inner for s in outer) for *outer, inner in strides)


def _gathering(view: View, vector: str, others: list[str], memory: float) -> Candidate:
    """Lanes each from a cache line of its own: loops in the order of the reads, those inside of the lines innermost."""
    reach = {a: max(abs(view.strides[i][a]) for i in view.body_reads) for a in others}
    others = sorted(others, key=lambda a: -reach[a])
    far = [(a, 1) for a in others if reach[a] >= APART]
    near = [(a, 1) for a in others if reach[a] < APART]
    threads = view.threads([*(a for a, _ in far), vector])
    cost = view.points / view.free[vector] * -(-view.free[vector] // view.lanes) * (view.work * 0.5 + memory)
    return Candidate(cost, Schedule(vector, view.lanes, (*far, (vector, view.lanes), *near), split=view.cuts(),
                                    threads=threads))


def _turning(view: View, vector: str) -> Iterator[Candidate]:
    """Rows of vectors, and the one read that lies along another axis turned in blocks: so each tensor is walked along
    its rows, as weights that are updated with sums that lie otherwise."""
    apart = [i for i in view.body_reads if abs(view.strides[i][vector]) >= APART]
    along = [a for a in view.parallel if a != vector and len(apart) == 1 and view.strides[apart[0]][a] == 1]
    others = [i for i in view.body_reads if i not in apart]
    if not view.packing or not along or view.cuts() or view.kernel.shared or len(view.parallel) > 2 \
            or not any(view.strides[i][vector] == 1 for i in others):
        return
    lanes, rows, size = view.lanes, along[0], view.free[vector]
    piece = min(round_up(size, lanes), 4 * lanes)
    block = round_up(-(-size // -(-size // BLOCK)), piece)
    loops = ((rows, lanes), (vector, block), (rows, 1), (vector, piece))
    loads = sum(view.load_cost(i, vector) for i in others) + TRANSPOSE_COST + 2
    pack = Pack(apart[0], (vector, block), (rows, vector))
    cost = view.points / size * -(-size // lanes) * (view.work * 0.5 + loads)
    yield Candidate(cost, Schedule(vector, lanes, loops, packs=(pack,), threads=view.threads([rows, vector])))


def _crossing(view: View) -> Iterator[Candidate]:
    """Panels of pairs from rows of pairs: tiles of as many of both as are in a vector, transposed as whole pairs."""
    body, write = view.stage.body, view.stage.write
    if body.fn != "read" or write.dtype.bytes != 2 or view.kernel.shared or view.stage.more \
            or view.stage.reads[body.attr].guards or view.stage.reads[body.attr].gather:
        return
    found = crossed(view.free, view.strides[body.attr].terms, write.flat.terms)
    if found is None:
        return
    rows, columns, pair = found
    outer = view.by_write_stride([a for a in view.parallel if a not in found])
    count = view.lanes // PAIR
    cost = view.points / view.lanes * (TRANSPOSE_COST + 1)
    loops = (*((a, 1) for a in outer), (columns, count), (rows, count), (pair, PAIR))
    yield Candidate(cost, Schedule(pair, view.lanes, loops, threads=view.threads([*outer, columns, rows])))


def _transposing(view: View, vector: str, along: str, memory: float) -> Candidate:
    """Tiles of lanes x lanes, loads along `vector`, stores along `along`.

    The tiles follow the reads, which then come in order.  Each writes whole cache lines far apart, so results beyond
    the second-level cache bypass it (measured: 2x from 4 MB on, against any blocking with ordinary stores).  Parts of
    lines may not: each would go to memory by itself (bfloat16 of 2.4 million float32: 15 ms, 2 ms through the caches).
    The tiles that fill up lines then come one after the other.
    """
    lanes, write = view.lanes, view.stage.write
    others = view.by_write_stride([a for a in view.parallel if a not in (vector, along)])
    run = min(lanes, view.free[along])
    loops = [*((a, 1) for a in others), (along, run), (vector, lanes)]
    if write.flat[vector] == run:
        run *= lanes
    whole = run * write.dtype.bytes >= LINE
    if others and not whole and write.flat[others[-1]] == view.free[along] \
            and view.free[others[-1]] * run * write.dtype.bytes >= LINE:
        loops.insert(len(others) - 1, loops.pop())
    threads = view.threads(list(dict.fromkeys(a for a, _ in loops)))
    vectors = view.points / view.free[vector] * -(-view.free[vector] // lanes)
    cost = vectors * (view.work * 0.5 + memory) * max(1.0, lanes / 4 / view.free[along])
    stream = whole and write_streams(view, 4 * view.target.l2)
    return Candidate(cost, Schedule(vector, lanes, tuple(loops), split=view.cuts(), threads=threads, stream=stream))


def write_streams(view: View, threshold: int = STREAM_BYTES) -> bool:
    """Whether the write is worth non-temporal stores: large, plain, each element written once."""
    write = view.stage.write
    if view.is_local(write) or write.guards or write.gather or view.kernel.shared:
        return False
    return view.points * write.dtype.bytes >= threshold
