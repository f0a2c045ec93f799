"""Schedules one step away from a given one: what a tuner tries after the candidates of the rules.

One function for each kind of move, named after the pass that makes it by hand.  A move edits the data and keeps it in
itself consistent (steps of outer loops stay multiples of inner ones, packs follow the loop they are made in); whether
the result is legal is for `legality.py` to say, as everywhere.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from jtc.dialects.affine import split_term
from jtc.dialects.kernel import Kernel, Pack, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.kernel import fetching
from jtc.passes.kernel.legality import extents
from jtc.passes.kernel.rules.common import Candidate, round_up

BLOCKS = (4, 16)            # register tiles in a new block of a parallel axis
DEPTHS = (128, 256, 512)    # steps in a new block of a reduction axis
FACTORS = (2, 4, 8)         # a reduction axis that was not unrolled

Loops = list[tuple[str, int]]


def neighbours(candidate: Candidate, stage: Stage, kernel: Kernel, target: CpuTarget) -> Iterator[Candidate]:
    """Candidates that differ from this one in one decision, each once, one of every kind of move after the other.

    They carry the cost of the one they come from.
    """
    around = _Around(candidate, stage, kernel, target)
    moves = [iter(move(around)) for move in MOVES.values()]
    seen = {(candidate.schedule, candidate.copies)}
    while moves:
        for move in list(moves):
            found = next(move, None)
            if found is None:
                moves.remove(move)
            elif (found.schedule, found.copies) not in seen:
                seen.add((found.schedule, found.copies))
                yield found


class _Around:
    """The schedule that moves start from, and what they ask of its stage."""

    def __init__(self, candidate: Candidate, stage: Stage, kernel: Kernel, target: CpuTarget):
        self.candidate, self.schedule, self.stage = candidate, candidate.schedule, stage
        self.kernel, self.target = kernel, target
        self.loops: Loops = list(candidate.schedule.loops)
        self.reach = extents(stage, kernel)
        self.reductions = set(stage.reductions)

    def edit(self, **changes: object) -> Candidate:
        return replace(self.candidate, schedule=replace(self.schedule, **changes))      # type: ignore[arg-type]

    def tile(self, axis: str) -> int:
        """Extent of the axis in the register tile."""
        return next((step for a, step in reversed(self.loops) if a == axis), 1)

    def is_tile(self, place: int) -> bool:
        """Whether the loop gives a parallel axis its register tile."""
        axis = self.loops[place][0]
        return axis not in self.reductions and all(a != axis for a, _ in self.loops[place + 1:])

    def with_loops(self, loops: Loops, moved: dict[tuple[str, int], tuple[str, int]]) -> Candidate:
        """Other loops; `moved` says where packs go that were made in a loop which is no more."""
        packs = tuple(replace(p, inside=moved.get(p.inside, p.inside)) for p in self.schedule.packs)
        return self.edit(loops=tuple(loops), packs=packs, threads=min(self.schedule.threads, len(loops)))


def _split(at: _Around) -> Iterator[Candidate]:
    """Other steps of the loops, one more loop over an axis, one less."""
    for place, (axis, step) in enumerate(at.loops):
        for other in _steps(at, axis, step):
            yield _restepped(at, place, other)
    for place, loop in enumerate(at.loops):
        if not at.is_tile(place) and len(at.loops) > 1:
            rest = at.loops[:place] + at.loops[place + 1:]
            yield at.with_loops(rest, {loop: rest[max(place - 1, 0)]})
    for axis, size in at.reach.items():
        present = [step for a, step in at.loops if a == axis]
        blocks = DEPTHS if axis in at.reductions else [n * present[-1] for n in BLOCKS] if present else []
        for block in blocks if not present or axis not in at.reductions else ():
            places = (0, _innermost_block(at, axis)) if max(present, default=0) < block < size else ()
            for place in dict.fromkeys(places):
                yield at.with_loops([*at.loops[:place], (axis, block), *at.loops[place:]], {})


def _innermost_block(at: _Around, axis: str) -> int:
    """Where a block of an axis may stand at most inside: before the first register tile, and before its own loops."""
    return next((i for i, (a, _) in enumerate(at.loops) if a == axis or at.is_tile(i)), len(at.loops))


def _steps(at: _Around, axis: str, step: int) -> list[int]:
    """Other steps for a loop: a little more and less, half and twice as much, equal shares of the axis."""
    size, unit = at.reach[axis], at.schedule.lanes if axis == at.schedule.vector else 1
    parts = -(-size // step)
    wanted = [step + unit, step - unit, step * 2, step // 2, -(-size // (parts + 1)), -(-size // max(parts - 1, 1))]
    rounded = [round_up(s, unit) for s in wanted if s > 0]
    return [s for s in dict.fromkeys(rounded) if s != step and s <= round_up(size, unit)]


def _restepped(at: _Around, place: int, step: int) -> Candidate:
    """Another step of one loop; those around it over the same axis become multiples, those inside must divide it."""
    axis, loops = at.loops[place][0], list(at.loops)
    loops[place] = (axis, step)
    inner = step
    for i in range(place - 1, -1, -1):
        if loops[i][0] == axis:
            inner = round_up(loops[i][1], inner)
            loops[i] = (axis, inner)
    return at.with_loops(loops, dict(zip(at.loops, loops)))


def _reorder(at: _Around) -> Iterator[Candidate]:
    """Neighbouring loops, and neighbouring reduction axes, change places."""
    for i in range(len(at.loops) - 1):
        if at.loops[i][0] != at.loops[i + 1][0]:
            yield at.edit(loops=(*at.loops[:i], at.loops[i + 1], at.loops[i], *at.loops[i + 2:]))
    order = at.schedule.reduction
    for i in range(len(order) - 1):
        yield at.edit(reduction=(*order[:i], order[i + 1], order[i], *order[i + 2:]))


def _pack(at: _Around) -> Iterator[Candidate]:
    """A pack less, in another loop, with padding or without; one more; a copy kernel less."""
    packs, schedule = at.schedule.packs, at.schedule
    for i, pack in enumerate(packs):
        others = packs[:i] + packs[i + 1:]
        for loop in at.loops:
            if loop != pack.inside:
                yield at.edit(packs=(*others, replace(pack, inside=loop)))
        yield at.edit(packs=(*others, replace(pack, pad=0 if pack.pad else schedule.lanes)))
        yield at.edit(packs=others, prefetch=tuple(n for n in schedule.prefetch if n != pack.read))
    for i, copy in enumerate(at.candidate.copies):
        yield replace(at.candidate, copies=at.candidate.copies[:i] + at.candidate.copies[i + 1:], schedule=replace(
            schedule, prefetch=tuple(n for n in schedule.prefetch if n != copy.read)))
    taken = {p.read for p in packs} | {c.read for c in at.candidate.copies}
    for number in (n for n in range(len(at.stage.reads)) if n not in taken):
        order = _panels(at, number)
        for loop in at.loops if order else ():
            yield at.edit(packs=(*packs, Pack(number, loop, order)))


def _panels(at: _Around, number: int) -> tuple[str, ...]:
    """The order of panels along the lanes, or for a read without them of rows along the reduction; () for neither."""
    read, vector = at.stage.reads[number], at.schedule.vector
    axes = read.flat.axes
    if read.gather or any(split_term(t)[1] for form in read.index for t in form.terms) or not axes & at.reductions:
        return ()
    outer = [a for a in at.stage.parallel if a in axes and a != vector]
    inner = [r for r in at.schedule.reduction if r in axes]
    if vector in axes and vector not in at.reductions:
        return (*outer, vector + "//", *inner, vector + "%")
    return (*outer, *inner)


def _vectorize(at: _Around) -> Iterator[Candidate]:
    """Half or twice the lanes."""
    lanes = at.schedule.lanes
    for other in (lanes // 2, lanes * 2) if at.schedule.vector else ():
        if other >= 2 and other * 8 <= at.target.vector_bits:
            yield at.edit(lanes=other)


def _unroll(at: _Around) -> Iterator[Candidate]:
    factors = dict(at.schedule.unroll)
    for axis in at.stage.reductions:
        now = factors.get(axis, 1)
        wanted = dict.fromkeys((now * 2, now // 2, at.reach[axis]) if now > 1 else (*FACTORS, at.reach[axis]))
        for factor in (f for f in wanted if f != now and 1 <= f <= max(at.reach[axis], now)):
            changed = {**factors, axis: factor}
            yield at.edit(unroll=tuple((a, f) for a, f in changed.items() if f > 1))


def _parallelize(at: _Around) -> Iterator[Candidate]:
    if at.target.threads > 1 and not at.kernel.shared:
        for threads in (at.schedule.threads - 1, at.schedule.threads + 1):
            if threads >= 0:
                yield at.edit(threads=threads)


def _prefetch(at: _Around) -> Iterator[Candidate]:
    now, vector = at.schedule.prefetch, at.schedule.vector
    panels = [p.read for p in at.schedule.packs if vector + "//" in p.order]
    panels += [c.read for c in at.candidate.copies if vector + "//" in c.order]
    for number in panels if vector else ():
        yield at.edit(prefetch=tuple(n for n in now if n != number) if number in now else (*now, number))


def _fetch(at: _Around) -> Iterator[Candidate]:
    now = at.schedule.fetches
    for fetch in now:
        yield at.edit(fetches=tuple(f for f in now if f != fetch))
    if not now:
        stage = replace(at.stage, schedule=at.schedule)
        yield from (at.edit(fetches=(fetch,)) for fetch in fetching.possible(stage, at.kernel))


def _stream(at: _Around) -> Iterator[Candidate]:
    blocked = {a for a, _ in at.loops} & at.reductions
    local = any(b.name == at.stage.write.buffer for b in at.kernel.locals)
    if at.schedule.stream or not (at.stage.accumulate or blocked or local):
        yield at.edit(stream=not at.schedule.stream)


def _split_guards(at: _Around) -> Iterator[Candidate]:
    now = at.schedule.split
    guarded = dict.fromkeys(a for read in at.stage.reads for g in read.guards for a in g.index.axes
                            if a not in at.reductions)
    for axis in guarded:
        yield at.edit(split=tuple(a for a in now if a != axis) if axis in now else (*now, axis))


# Pass that makes the move by hand -> the moves of this kind.
MOVES: dict[str, Callable[[_Around], Iterator[Candidate]]] = {
    "kernel-split": _split,
    "kernel-reorder": _reorder,
    "kernel-pack": _pack,
    "kernel-unroll": _unroll,
    "kernel-prefetch": _prefetch,
    "kernel-fetch": _fetch,
    "kernel-parallelize": _parallelize,
    "kernel-split-guards": _split_guards,
    "kernel-stream": _stream,
    "kernel-vectorize": _vectorize,
}

