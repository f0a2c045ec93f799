"""How the stages of one kernel share axes.

A shared axis indexes one dimension of every buffer between two stages, on both sides: in each iteration the second
stage reads only what the first wrote in that iteration.  Stages that only read the same buffer are matched along it.

An axis may also be reduced at the end: a stage that reduces it leaves one number when the last iteration is done,
which only epilogues of stages that reduce it too may read.  The mean of a loss and its number of samples end this way.
Such a kernel runs on one thread, unless it is so large that kernel-two-pass cuts it.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from jtc.dialects.expr import reads_of
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import PARALLEL, REDUCTION, Access, Axis, Guard, Local, Stage
from jtc.passes.graph.fusion.costs import NEAR
from jtc.passes.index_maps import NotAffine, through_reshape
from jtc.passes.stages import map_accesses, rename

MIN_ITERATIONS = 16         # shared iterations that keep a machine's threads busy
SMALL = 1 << 15             # points that one core computes in about the time it takes to wake another
MAX_OPS = 128               # of one kernel's stages together, so that compile time stays in bounds
MAX_LOCALS = NEAR // 2
BLOCK = 64                  # iterations of a block where lanes run along a shared axis: four vectors of f32
LANES = 16                  # where they run along another axis: one vector, so that what lies across is turned
WIDE = 256                  # at least, where no stage waits for all rows of another one: long runs of memory
ROWS = 16                   # rows that stages reduce in turn while they are in the cache: as many as are prefetched
LINE, CROWDED = 64, 512     # bytes: of a cache line; rows a multiple of this apart share a few sets of the first level
SHORT = 8                   # points of an iteration that leave most lanes empty (measured: rows of 10 are best alone)

Match = tuple[str, str]     # axis of the first stage, axis of the second one


class Refused(Exception):
    """Stages cannot be one kernel, for the reason given."""


@dataclass(frozen=True)
class Sharing:
    """How the stages of a unit share axes.

    shared  for each shared axis its name in every stage ("" in one that does not have it), its size and its block
    locals  buffers that live for one block
    spread  whether rows of a local lie so that they do not crowd a few cache sets
    needed  guards outside of which points of the shared axes, i0, i1..., change nothing (`Kernel.needed`)
    """

    shared: tuple[tuple[tuple[str, ...], int, int], ...] = ()
    locals: tuple[str, ...] = ()
    spread: bool = False
    needed: tuple[Guard, ...] = ()


class StageFacts:
    """What grouping asks of one stage again and again."""

    def __init__(self, stage: Stage):
        self.stage = stage
        self.written = {a.buffer for a in stage.writes}
        self.read = {a.buffer for a in stage.reads}
        self.sizes = stage.sizes
        self.points = prod(self.sizes.values())
        self.parallel, self.reductions = set(stage.parallel), set(stage.reductions)
        roots = [stage.body, *(e for a in (*stage.reads, stage.write) for _, e in a.gather)]
        self.read_in_body = {stage.reads[n].buffer for root in roots for n in reads_of(root)}
        self.walked = [a.flat.terms for a in (*stage.reads, stage.write)
                       if prod(self.sizes[x] for x in a.axes) * 2 > self.points]
        self.matches: dict[int, set[Match]] = {}

    def along(self, axis: str) -> int:
        """Accesses to large buffers that walk memory along the axis, minus those that do not."""
        return sum(1 if terms.get(axis) == 1 else -1 for terms in self.walked)

    def match(self, other: StageFacts) -> set[Match]:
        """Axes that go together where `other` comes later."""
        found = self.matches.get(id(other))
        if found is None:
            found = self.matches[id(other)] = pairs(self, other)
        return found


def share_axes(stages: Sequence[StageFacts], outside: set[str], types: Mapping[str, TensorType]) -> Sharing:
    """The shared axes and locals of stages as one kernel; outside: buffers that others read.  Raises Refused."""
    widest = max(range(len(stages)), key=lambda i: (stages[i].points, i))
    classes = _classes(widest, stages)
    sizes = [stages[widest].sizes[c[widest]] for c in classes]
    iterations, most = prod(sizes), stages[widest].points
    if iterations < MIN_ITERATIONS and most > SMALL:
        raise Refused(f"they share {iterations} iterations, too few to spread over threads" if iterations > 1 else
                      "they share no axis")
    blocks = _blocks(classes, sizes, stages, most)
    shared = tuple(zip(classes, sizes, blocks))
    between = set().union(*(s.read for s in stages)) - outside
    sharing = Sharing(shared, tuple(a.buffer for s in stages for a in s.stage.writes if a.buffer in between))
    total = sum(prod(local_shape(s.stage, i, b, sharing)) * types[b].dtype.bytes
                for i, s in enumerate(stages) for b in s.written if b in sharing.locals)
    if total > MAX_LOCALS:
        raise Refused(f"what lies between them takes {total >> 10} KB per iteration")
    passing = most // iterations * prod(blocks) * max(a.dtype.bytes for a in stages[widest].stage.accesses)
    if passing > NEAR and any(block > 1 for block in blocks):
        raise Refused(f"each would walk through {passing >> 10} KB in pieces of rows, too much for the next to find "
                      "in the cache")
    return sharing


def _classes(widest: int, stages: Sequence[StageFacts]) -> list[tuple[str, ...]]:
    """The axes to share, each by its name in every stage: parallel ones, of these the blocked ones last, then reduced
    ones."""
    edges, sizes = _edges(stages), stages[widest].sizes
    found = [c for axis in sizes if (c := _spread(widest, axis, len(stages), edges))]
    classes = [c for c in found if not _reduced(c, stages)]
    classes.sort(key=lambda c: _walked(c, stages))
    points = prod(sizes[c[widest]] for c in classes)
    for c in found:
        # Each iteration is to leave the widest stage something to fill lanes with; that may be its block of columns.
        some = points * sizes[c[widest]] < stages[widest].points or len(_reduced(c, stages)) == len(stages)
        if some and _ends_well(c, classes, stages):
            classes.append(c)
            points *= sizes[c[widest]]
    return classes


def shared_rows(widest: int, stages: Sequence[StageFacts]) -> list[tuple[str, ...]]:
    """The axes that are parallel in all stages, by their names in each, outer to inner as the widest has them."""
    edges = _edges(stages)
    found = [_spread(widest, axis, len(stages), edges) for axis in stages[widest].sizes]
    return [c for c in found if c is not None and not _reduced(c, stages)]


def _edges(stages: Sequence[StageFacts]) -> list[tuple[int, int, set[Match]]]:
    """(stage, later stage, axes that go together): where one reads the other, and where both read a buffer if nothing
    else connects them."""
    edges = [(p, c, stages[p].match(stages[c])) for c in range(len(stages)) for p in range(c)
             if stages[p].written & stages[c].read]
    group = list(range(len(stages)))            # connected stages have one number

    def connect(p: int, c: int) -> None:
        old, new = group[c], group[p]
        group[:] = [new if g == old else g for g in group]

    for p, c, _ in edges:
        connect(p, c)
    for c in range(len(stages)):
        for p in range(c):
            if group[p] != group[c] and stages[p].read & stages[c].read:
                edges.append((p, c, stages[p].match(stages[c])))
                connect(p, c)
    return edges


# ------------------------------------------------------------------------------------------------ matching
def pairs(producer: StageFacts, consumer: StageFacts) -> set[Match]:
    """Axes that index one dimension of a buffer between the stages in every read of it, and no other dimension: in a
    local buffer a shared axis counts from the start of its block.

    Two reductions match along their reduction axes, too, where only the epilogue of the second reads the first.
    """
    found: set[Match] | None = None
    for write in producer.stage.writes:
        for access in consumer.stage.reads:
            if access.buffer == write.buffer:
                here = _same_places(write, access, producer, consumer)
                if write.buffer not in consumer.read_in_body:
                    here |= _reduced_alike(producer, consumer)
                found = here if found is None else found & here
    return _read_alike(producer, consumer) if found is None else found


def _same_places(write: Access, read: Access, producer: StageFacts, consumer: StageFacts) -> set[Match]:
    seen = in_view(read, write.shape, consumer.sizes)
    if seen is None:
        return set()
    gathered = {d for d, _ in (*seen.gather, *write.gather)}
    found = set()
    for d, (w, r) in enumerate(zip(write.index, seen.index)):
        one, two = w.as_axis(), r.as_axis()
        if d not in gathered and one and two and producer.sizes[one] == consumer.sizes[two] \
                and _occurs(write, one) == _occurs(seen, two) == 1:
            found.add((one, two))
    return found


def _read_alike(one: StageFacts, two: StageFacts) -> set[Match]:
    """Axes along which two stages read the largest buffer that both read."""
    common = max(((a, b) for a in one.stage.reads for b in two.stage.reads if a.buffer == b.buffer),
                 key=lambda ab: ab[0].size, default=None)
    return _same_places(*common, one, two) if common is not None else set()


def _reduced_alike(one: StageFacts, two: StageFacts) -> set[Match]:
    """Reduction axes of one size, each with at most one of the other's: first those along which a buffer is read
    alike."""
    found: set[Match] = set()
    alike = _read_alike(one, two)
    for only in (alike, None):
        for a in one.stage.reductions:
            for b in two.stage.reductions:
                taken = any(a == x or b == y for x, y in found)
                if not taken and one.sizes[a] == two.sizes[b] and (only is None or (a, b) in only):
                    found.add((a, b))
    return found


def _occurs(access: Access, axis: str) -> int:
    return sum(axis in form.axes for form in access.index)


def in_view(access: Access, shape: tuple[int, ...], sizes: Mapping[str, int]) -> Access | None:
    """The access through another view of its buffer; None where that has no affine index."""
    if access.shape == shape:
        return access
    if access.gather:
        return None
    try:
        return replace(access, shape=shape, index=through_reshape(access.index, access.shape, shape, sizes))
    except NotAffine:
        return None


def _spread(start: int, axis: str, count: int, edges: Sequence[tuple[int, int, set[Match]]]) -> tuple[str, ...] | None:
    """The axis of every stage that goes with `axis` of stage `start`; None where some stage has none or two."""
    names: dict[int, str] = {start: axis}
    changed = True
    while changed:
        changed = False
        for p, c, matches in edges:
            if (p in names) == (c in names):
                if p in names and (names[p], names[c]) not in matches:
                    return None
                continue
            options = [two for one, two in matches if one == names[p]] if p in names else \
                [one for one, two in matches if two == names[c]]
            if len(options) != 1:
                return None
            names[c if p in names else p] = options[0]
            changed = True
    return tuple(names[i] for i in range(count)) if len(names) == count else None


def _reduced(names: Sequence[str], stages: Sequence[StageFacts]) -> set[int]:
    """Numbers of the stages that reduce a class of axes."""
    return {i for i, (name, s) in enumerate(zip(names, stages)) if name in s.reductions}


def _walked(names: Sequence[str], stages: Sequence[StageFacts]) -> bool:
    """Whether memory is walked along a class of axes."""
    return sum(s.points * s.along(name) for name, s in zip(names, stages)) > 0


def _in_lines(names: Sequence[str], stages: Sequence[StageFacts]) -> bool:
    """Whether elements of a large buffer lie side by side along a class of axes."""
    return any(terms.get(name) == 1 for name, s in zip(names, stages) for terms in s.walked)


def _ends_well(names: Sequence[str], classes: Sequence[Sequence[str]], stages: Sequence[StageFacts]) -> bool:
    """Whether an axis that some stages reduce can be shared: they leave one number, for epilogues of stages like them.

    With other parallel axes a stage would have to keep all its partial results from iteration to iteration.
    """
    ends = _reduced(names, stages)
    if len(ends) == len(stages) and (_linked(stages) or not classes or not _walked(classes[-1], stages)
                                     or len(_reduced(classes[-1], stages)) > 0):
        return False                # each has better loops of its own, unless they read the same columns
    for i in ends:
        if not stages[i].parallel <= {c[i] for c in classes}:
            return False
        for later, s in enumerate(stages):
            if stages[i].written & s.read and (later not in ends or stages[i].written & s.read_in_body):
                return False
    return bool(ends)


def _blocks(classes: Sequence[Sequence[str]], sizes: Sequence[int], stages: Sequence[StageFacts],
            most: int) -> list[int]:
    """Iterations of each class that run together.

    More than one where the axis is the one that memory is walked along, so that lanes and cache lines are filled; where
    some of it is, so that it is turned in registers instead of taking a cache line for each element; and where an
    iteration has few points.
    """
    walks = [s for s in stages if s.points * 2 > most]
    again = _linked(walks) and not any(_reduced(names, stages) for names in classes)
    blocks = []
    for names, size in zip(classes, sizes):
        reduced = _reduced(names, stages)
        if len(reduced) == len(stages):
            blocks.append(min(size, ROWS))
        else:
            wide = 1
            if not reduced and _walked(names, stages):
                wide = BLOCK if again else _share(size)
            elif not reduced and _in_lines(names, stages):
                wide = LANES
            blocks.append(min(size, wide))
    if classes and most // prod(sizes) <= SHORT and set(blocks) == {1}:
        blocks[-1] = min(sizes[-1], BLOCK)
    return blocks


def _share(size: int) -> int:
    """Iterations of a block of at least WIDE, so many that a power of two of threads takes equal shares."""
    parts = 1 << max(0, (size // WIDE).bit_length() - 1)
    return -(-size // parts)


def _linked(stages: Sequence[StageFacts]) -> bool:
    """Whether one of the stages reads what another one writes."""
    return any(p.written & c.read for p in stages for c in stages)


# ------------------------------------------------------------------------------------------------ the kernel's form
def local_shape(stage: Stage, number: int, buffer: str, sharing: Sharing) -> list[int]:
    """Shape of a local that `stage` (by its number) writes: shared dimensions shrink to their block, or go."""
    access = next(a for a in stage.writes if a.buffer == buffer)
    shrunk = {names[number]: block for names, _, block in sharing.shared}
    shape = []
    for form, size in zip(access.index, access.shape):
        axis = form.as_axis()
        block = shrunk.get(axis) if axis is not None else None
        if block is None:
            shape.append(size)
        elif block > 1:
            shape.append(block)
    return _spread_rows(shape, access, sharing)


def _spread_rows(shape: list[int], access: Access, sharing: Sharing) -> list[int]:
    """The shape of a local with one cache line more in every row where rows are so far apart that they crowd."""
    row, line = shape[-1] * access.dtype.bytes if len(shape) > 1 else 0, LINE // access.dtype.bytes
    return [*shape[:-1], shape[-1] + line] if sharing.spread and row and row % CROWDED == 0 else shape


def finish(stages: Sequence[Stage], sharing: Sharing, types: Mapping[str, TensorType]
           ) -> tuple[list[Stage], tuple[tuple[Axis, int], ...], list[Local]]:
    """The stages with canonical axis names, the shared axes with their blocks, the locals."""
    views = {a.buffer: (i, a) for i, s in enumerate(stages) for a in s.writes}
    done: list[Stage] = []
    for number, stage in enumerate(stages):
        def place(access: Access, stage: Stage = stage) -> Access:
            if access.buffer not in sharing.locals:
                return access
            return _in_local(access, stage, *views[access.buffer], sharing)

        done.append(_canonical(map_accesses(stage, place), [names[number] for names, _, _ in sharing.shared]))
    shared = tuple((Axis(f"i{k}", size), block) for k, (_, size, block) in enumerate(sharing.shared))
    local = [Local(b, TensorType(types[b].dtype, tuple(local_shape(stages[i], i, b, sharing))))
             for b, (i, _) in views.items() if b in sharing.locals]
    return done, shared, local


def _in_local(access: Access, stage: Stage, writer: int, write: Access, sharing: Sharing) -> Access:
    """The access to a local: dimensions of shared axes without a block go."""
    if not sharing.shared:
        return access
    seen = in_view(access, write.shape, stage.sizes)
    assert seen is not None, "shared axes were found through the writer's view"
    gone: dict[int, int] = {}           # dimension -> block
    for d, form in enumerate(write.index):
        for names, _, block in sharing.shared:
            if form.as_axis() == names[writer]:
                gone[d] = block
    kept = [d for d in range(len(seen.shape)) if gone.get(d, 2) > 1]
    renumbered = {d: i for i, d in enumerate(kept)}
    return replace(seen, shape=tuple(_spread_rows([gone.get(d, seen.shape[d]) for d in kept], access, sharing)),
                   index=tuple(seen.index[d] for d in kept), gather=tuple((renumbered[d], e) for d, e in seen.gather))


def _canonical(stage: Stage, shared: Sequence[str]) -> Stage:
    """Axes in the order shared, parallel, reduction; i0, i1... for the first two, r0, r1... for the last."""
    if stage.accumulate:                # runs in the order of its axes
        names = {a.name: f"i{n}" for n, a in enumerate(stage.axes)}
        return rename(stage, names)
    rest = [a for a in stage.axes if a.name not in shared]
    own = {a.name: a for a in stage.axes}
    ordered = [*(own[n] for n in shared if n), *(a for a in rest if a.kind == PARALLEL),
               *(a for a in rest if a.kind == REDUCTION)]
    names, parallel, reduced = {}, len(shared), 0
    for axis in ordered:
        if axis.name in shared:
            names[axis.name] = f"i{shared.index(axis.name)}"
        elif axis.kind == PARALLEL:
            names[axis.name], parallel = f"i{parallel}", parallel + 1
        else:
            names[axis.name], reduced = f"r{reduced}", reduced + 1
    return rename(replace(stage, axes=tuple(ordered)), names)
