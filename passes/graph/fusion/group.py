"""Stages that share outer axes become one kernel.

Two stages can stand in one kernel when the second reads, in each iteration of the shared outer axes, only what the
first wrote in that iteration: a shared axis indexes one dimension of the buffer between them, on both sides.  A value
that nobody else reads then lives for one iteration (or one block of iterations) and never reaches memory: softmax,
layer_norm and batch_norm are one kernel each.

Contractions and scatters stay alone: they need loops of their own.  A group needs buffers that fit into the
second-level cache, and either no more than SMALL points in all, or a reduction and MIN_ITERATIONS shared iterations to
spread over threads.  Without a reduction only small stages of equal size are joined, to launch and compile fewer
kernels.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from jtc.dialects.affine import Affine
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import PARALLEL, REDUCTION, Access, Axis, Local, Stage
from jtc.passes.graph.fusion.edit import map_accesses, rename, rename_access, rename_expression, renumber
from jtc.passes.graph.fusion.movement import NotAffine, through_reshape

MIN_ITERATIONS = 16         # shared iterations that keep a machine's threads busy
SMALL = 1 << 15             # points that one core computes in about the time it takes to wake another
MAX_OPS = 128               # of one kernel's stages together, so that compile time stays in bounds
MAX_LOCALS = 512 << 10      # bytes: half of a second-level cache of 1 MB
BLOCK = 64                  # iterations of a block where lanes run along a shared axis: four vectors of f32
SHORT = 8                   # points of an iteration that leave most lanes empty (measured: rows of 10 are best alone)


@dataclass(eq=False)
class Unit:
    """Stages that become one kernel, in order.

    fixed    whether they depend on weights only, and so run once
    refused  (buffer, why the stage that reads it could not join)
    layout   how they share axes; None for stages that do not
    """

    stages: list[Stage]
    fixed: bool = False
    refused: list[tuple[str, str]] = field(default_factory=list)
    layout: Layout | None = None

    @property
    def written(self) -> list[str]:
        return [b for s in self.stages for b in _written(s)]

    @property
    def read(self) -> list[str]:
        return list(dict.fromkeys(a.buffer for s in self.stages for a in s.reads))


@dataclass(frozen=True)
class Layout:
    """How the stages of a unit share axes: for each one its name in every stage, size and block; what is local."""

    shared: tuple[tuple[tuple[str, ...], int, int], ...]
    locals: tuple[str, ...]


class Refused(Exception):
    """Two units cannot be one, for the reason given."""


class _Units:
    """Units by number, and which of them depend on which.  Sets of numbers are integers: bit n stands for unit n."""

    def __init__(self, units: Sequence[Unit]):
        """units: producers before readers."""
        self.units: dict[int, Unit] = dict(enumerate(units))
        self.owner = {b: n for n, u in self.units.items() for b in u.written}
        self.readers: dict[str, set[int]] = {}
        self.before: dict[int, int] = {}            # all that a unit depends on, directly or not
        for n, unit in self.units.items():
            self.before[n] = 0
            for b in unit.read:
                self.readers.setdefault(b, set()).add(n)
            for p in self.producers(n):
                self.before[n] |= self.before[p] | 1 << p

    def producers(self, n: int) -> list[int]:
        """The units that write what unit n reads, by number."""
        return sorted({self.owner[b] for b in self.units[n].read if b in self.owner and self.owner[b] != n})

    def between(self, first: int, second: int) -> bool:
        """Whether something must run after the first and before the second."""
        return any(p != first and self.before[p] >> first & 1 for p in self.producers(second))

    def merge(self, first: int, second: int, unit: Unit) -> None:
        """Put `unit` in the place of two."""
        before = (self.before.pop(first) | self.before[second]) & ~(1 << first | 1 << second)
        del self.units[first]
        self.units[second], self.before[second] = unit, before
        for b in unit.written:
            self.owner[b] = second
        for b in unit.read:
            self.readers[b] = self.readers.get(b, set()) - {first} | {second}
        for n, needs in self.before.items():
            if n != second and needs & (1 << first | 1 << second):
                self.before[n] = (needs | before | 1 << second) & ~(1 << first)

    def in_order(self) -> list[Unit]:
        """Producers first; else by number."""
        done, result = 0, []
        pending = sorted(self.units)
        while pending:
            ready = next(n for n in pending if not self.before[n] & ~done)
            pending.remove(ready)
            done |= 1 << ready
            result.append(self.units[ready])
        return result


def group(units: Sequence[Unit], outputs: Iterable[str], types: Mapping[str, TensorType]) -> list[Unit]:
    """The units with as many as possible joined, in an order in which they can run.

    units   producers before readers
    """
    kept = set(outputs)
    held = _Units(keep_rows(units, kept))
    for n in sorted(held.units):
        unit = held.units[n]
        # The largest buffer between two is the one most worth keeping out of memory.
        size = {p: max(types[b].bytes for b in held.units[p].written if b in unit.read) for p in held.producers(n)}
        for p in sorted(size, key=lambda p: (-size[p], -p)):
            other = held.units[p]
            if other.fixed != unit.fixed:
                continue
            try:
                held.merge(p, n, join(p, n, held, kept, types))
            except Refused as reason:
                other.refused += [(b, f"{unit.stages[-1].write.buffer} does not join: {reason}")
                                  for b in other.written if b in unit.read]
    return held.in_order()


def join(first: int, second: int, held: _Units, kept: set[str], types: Mapping[str, TensorType]) -> Unit:
    """One unit of both; raises Refused."""
    one, two = held.units[first], held.units[second]
    for stage in (*one.stages, *two.stages):
        if stage.accumulate:
            raise Refused("a scatter has loops of its own")
        if stage.factors() is not None:
            raise Refused("a contraction has loops of its own")
        if any(a.size == 0 for a in stage.axes):
            raise Refused("it is empty")
    stages = stages_in_order([*one.stages, *two.stages])
    if sum(len(s.ops) for s in stages) > MAX_OPS:
        raise Refused(f"a kernel has at most {MAX_OPS} ops")
    if not any(s.reduce for s in stages) and (points(stages[0]) > SMALL or len(set(map(points, stages))) > 1):
        raise Refused("neither reduces")
    if held.between(first, second):
        raise Refused("another kernel runs between them")
    outside = {b for s in stages for b in _written(s) if b in kept or held.readers.get(b, set()) - {first, second}}
    return Unit(stages, one.fixed, one.refused + two.refused, lay_out(stages, outside, types))


def points(stage: Stage) -> int:
    return prod(a.size for a in stage.axes)


def stages_in_order(stages: Sequence[Stage]) -> list[Stage]:
    """Producers first; otherwise as given."""
    result: list[Stage] = []
    pending = list(stages)
    while pending:
        missing = {b for s in pending for b in _written(s)}
        ready = next(s for s in pending if not missing & {a.buffer for a in s.reads})
        result.append(ready)
        pending.remove(ready)
    return result


# ------------------------------------------------------------------------------------------------ shared axes
def lay_out(stages: Sequence[Stage], outside: set[str], types: Mapping[str, TensorType]) -> Layout:
    """The shared axes and locals of stages as one kernel; outside: buffers that others read.  Raises Refused."""
    edges = [(p, c, pairs(stages[p], stages[c])) for p in range(len(stages)) for c in range(p + 1, len(stages))
             if any(a.buffer in _written(stages[p]) for a in stages[c].reads)]
    widest = max(range(len(stages)), key=lambda i: (points(stages[i]), i))
    classes = [found for axis in stages[widest].axes if (found := _spread(widest, axis.name, len(stages), edges))]
    classes = [c for c in classes if _kinds_fit(c, classes, stages)]
    sizes = [stages[widest].sizes[c[widest]] for c in classes]
    iterations, most = prod(sizes), points(stages[widest])
    if iterations < MIN_ITERATIONS and most > SMALL:
        raise Refused(f"they share {iterations} iterations, too few to spread over threads" if iterations > 1 else
                      "they share no axis")
    blocks = _blocks(classes, sizes, stages)
    if classes and most // iterations <= SHORT and set(blocks) == {1} \
            and classes[-1][-1] not in stages[-1].reductions:
        blocks[-1] = min(sizes[-1], BLOCK)
    order = sorted(range(len(classes)), key=lambda k: blocks[k] > 1)
    shared = tuple((classes[k], sizes[k], blocks[k]) for k in order)
    local = tuple(b for s in stages for b in _written(s) if b not in outside and any(
        b == a.buffer for c in stages for a in c.reads))
    layout = Layout(shared, local)
    total = sum(prod(local_shape(s, i, b, layout)) * types[b].dtype.bytes
                for i, s in enumerate(stages) for b in _written(s) if b in local)
    if total > MAX_LOCALS:
        raise Refused(f"what lies between them takes {total >> 10} KB per iteration")
    return layout


def _written(stage: Stage) -> list[str]:
    return [a.buffer for a in (stage.write, stage.keep) if a is not None]


def pairs(producer: Stage, consumer: Stage) -> set[tuple[str, str]]:
    """(axis of the producer, axis of the consumer) that index one dimension of a buffer between them, in every read.

    They index no other dimension: in a local buffer a shared axis counts from the start of its block.
    """
    found: set[tuple[str, str]] | None = None
    for write in (producer.write, producer.keep):
        if write is None:
            continue
        for access in consumer.reads:
            if access.buffer == write.buffer:
                seen = in_view(access, write.shape, consumer.sizes)
                here = set()
                if seen is not None:
                    gathered = {d for d, _ in seen.gather}
                    for d, (w, r) in enumerate(zip(write.index, seen.index)):
                        one, two = w.as_axis(), r.as_axis()
                        if d not in gathered and one and two and producer.sizes[one] == consumer.sizes[two] \
                                and _occurs(write, one) == _occurs(seen, two) == 1:
                            here.add((one, two))
                found = here if found is None else found & here
    return found or set()


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


def _spread(start: int, axis: str, count: int,
            edges: Sequence[tuple[int, int, set[tuple[str, str]]]]) -> tuple[str, ...] | None:
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


def _kinds_fit(names: Sequence[str], classes: Sequence[Sequence[str]], stages: Sequence[Stage]) -> bool:
    """A shared axis is parallel in every stage but the last, where it may be reduced if that leaves one number.

    With other parallel axes the last stage would have to keep all its partial results from block to block.
    """
    if any(name in s.reductions for name, s in zip(names[:-1], stages[:-1])):
        return False
    return names[-1] not in stages[-1].reductions or set(stages[-1].parallel) <= {c[-1] for c in classes}


def _blocks(classes: Sequence[Sequence[str]], sizes: Sequence[int], stages: Sequence[Stage]) -> list[int]:
    """Iterations that run together, for each shared axis: more than one where the axis is the one that memory is walked
    along, so that lanes and cache lines are filled."""
    blocks = []
    for names, size in zip(classes, sizes):
        along = across = 0
        for name, stage in zip(names, stages):
            count = points(stage)
            for access in (*stage.reads, stage.write):
                if access.axes == set(stage.sizes) or prod(stage.sizes[a] for a in access.axes) * 2 > count:
                    along += count * (access.flat[name] == 1)
                    across += count * (access.flat[name] != 1)
        reduced = any(name in s.reductions for name, s in zip(names, stages))
        blocks.append(min(size, BLOCK) if along > across and not reduced else 1)
    return blocks


# ------------------------------------------------------------------------------------------------ locals
def local_shape(stage: Stage, number: int, buffer: str, layout: Layout) -> list[int]:
    """Shape of a local that `stage` (by its number) writes: shared dimensions shrink to their block, or go."""
    access = next(a for a in (stage.write, stage.keep) if a is not None and a.buffer == buffer)
    shrunk = {names[number]: block for names, _, block in layout.shared}
    shape = []
    for form, size in zip(access.index, access.shape):
        block = shrunk.get(form.as_axis() or "")
        if block is None:
            shape.append(size)
        elif block > 1:
            shape.append(block)
    return shape


def finish(unit: Unit,
           types: Mapping[str, TensorType]) -> tuple[list[Stage], tuple[tuple[Axis, int], ...], list[Local]]:
    """The unit's stages with canonical axis names, its shared axes with their blocks, its locals."""
    layout = unit.layout or Layout((), ())
    views = {a.buffer: (i, a) for i, s in enumerate(unit.stages) for a in (s.write, s.keep) if a is not None}
    stages: list[Stage] = []
    for number, stage in enumerate(unit.stages):
        def place(access: Access, stage: Stage = stage) -> Access:
            if access.buffer not in layout.locals:
                return access
            return _in_local(access, stage, *views[access.buffer], layout)

        stages.append(_canonical(map_accesses(stage, place), [names[number] for names, _, _ in layout.shared]))
    shared = tuple((Axis(f"i{k}", size), block) for k, (_, size, block) in enumerate(layout.shared))
    local = [Local(b, TensorType(types[b].dtype, tuple(local_shape(unit.stages[i], i, b, layout))))
             for b, (i, _) in views.items() if b in layout.locals]
    return stages, shared, local


def _in_local(access: Access, stage: Stage, writer: int, write: Access, layout: Layout) -> Access:
    """The access to a local: dimensions of shared axes without a block go."""
    if not layout.shared:
        return access
    seen = in_view(access, write.shape, stage.sizes)
    assert seen is not None, "shared axes were found through the writer's view"
    gone: dict[int, int] = {}           # dimension -> block
    for d, form in enumerate(write.index):
        for names, _, block in layout.shared:
            if form.as_axis() == names[writer]:
                gone[d] = block
    kept = [d for d in range(len(seen.shape)) if gone.get(d, 2) > 1]
    renumbered = {d: i for i, d in enumerate(kept)}
    return replace(seen, shape=tuple(gone.get(d, seen.shape[d]) for d in kept),
                   index=tuple(seen.index[d] for d in kept),
                   gather=tuple((renumbered[d], e) for d, e in seen.gather))


def _canonical(stage: Stage, shared: Sequence[str]) -> Stage:
    """Axes in the order shared, parallel, reduction; i0, i1... for the first two, r0, r1... for the last."""
    if stage.accumulate:                # runs in the order of its axes
        names = {a.name: f"i{n}" for n, a in enumerate(stage.axes)}
        return rename(stage, names)
    rest = [a for a in stage.axes if a.name not in shared]
    own = {a.name: a for a in stage.axes}
    ordered = [own[n] for n in shared] + [a for kind in (PARALLEL, REDUCTION) for a in rest if a.kind == kind]
    names, parallel, reduced = {}, len(shared), 0
    for position, axis in enumerate(ordered):
        if position < len(shared):
            names[axis.name] = f"i{position}"
        elif axis.kind == PARALLEL:
            names[axis.name], parallel = f"i{parallel}", parallel + 1
        else:
            names[axis.name], reduced = f"r{reduced}", reduced + 1
    return rename(replace(stage, axes=tuple(ordered)), names)


# ------------------------------------------------------------------------------------------------ unread values
def drop_unread(units: Sequence[Unit], outputs: Iterable[str]) -> list[Unit]:
    """The units without those that write nothing that is needed, as where a guard that never holds hid their reader."""
    needed, result = set(outputs), []
    for unit in reversed(units):
        if needed & set(unit.written):
            needed |= set(unit.read)
            result.append(unit)
    return result[::-1]


# ------------------------------------------------------------------------------------------------ kept rows
def keep_rows(units: Sequence[Unit], outputs: set[str]) -> list[Unit]:
    """Merge an elementwise stage into the reduction that reads exactly its result: computed once, reduced, and kept
    where others read it, too."""
    held = _Units(units)
    for n in sorted(held.units):
        stages = held.units[n].stages
        if len(stages) != 1 or stages[0].reduce is not None or stages[0].write.guards:
            continue
        for reader in sorted(held.readers.get(stages[0].write.buffer, ())):
            other = held.units[reader]
            if len(other.stages) != 1 or other.fixed != held.units[n].fixed or held.between(n, reader):
                continue
            merged = _kept(stages[0], other.stages[0])
            if merged is not None:
                name = stages[0].write.buffer
                if name not in outputs and held.readers[name] == {reader}:
                    merged = replace(merged, keep=None)
                held.merge(n, reader, Unit([merged], other.fixed))
                break
    return held.in_order()


def _kept(stage: Stage, reduction: Stage) -> Stage | None:
    """The reduction that computes `stage` as its body and keeps it, where it reduces exactly that."""
    body = reduction.body
    if reduction.reduce is None or reduction.accumulate or reduction.keep is not None or body.fn != "read":
        return None
    access = reduction.reads[body.attr]
    if access.buffer != stage.write.buffer or access.shape != stage.write.shape or access.guards or access.gather \
            or sum(a.buffer == access.buffer for a in reduction.reads) != 1:
        return None
    names: dict[str, str] = {}
    for mine, theirs in zip(stage.write.index, access.index):
        one, two = mine.as_axis(), theirs.as_axis()
        if one is None and two is None and mine == theirs:
            continue
        if one is None or two is None or stage.sizes[one] != reduction.sizes[two]:
            return None
        names[one] = two
    targets = set(names.values())
    if len(targets) != len(names) or set(names) != set(stage.sizes) or targets != set(reduction.sizes):
        return None
    values = {old: Affine.axis(new) for old, new in names.items()}
    inner = renumber(stage, {n: n + len(reduction.reads) for n in range(len(stage.reads))})
    inner = map_accesses(inner, lambda a: replace(
        rename_access(a, values), gather=tuple((d, rename_expression(e, values)) for d, e in a.gather)))
    merged = replace(reduction, reads=reduction.reads + inner.reads, body=rename_expression(inner.body, values),
                     keep=inner.write, locs=tuple(dict.fromkeys(stage.locs + reduction.locs)),
                     ops=stage.ops + reduction.ops)
    reads = [n for n in range(len(merged.reads)) if n != body.attr]
    merged = renumber(merged, {old: new for new, old in enumerate(reads)})
    return replace(merged, reads=tuple(merged.reads[n] for n in reads))
