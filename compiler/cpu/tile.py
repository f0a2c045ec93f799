"""The register tile: the innermost piece of a stage, without loops over parallel axes.

    accumulators = nothing yet                   one for each point of the tile and vector of lanes
    for the reduction axes (loops, unrolled):    accumulators = reduce(accumulators, body)
    [combine lanes, where they lie along a reduction axis]
    store (store.py): transpose, add earlier partial results, epilogue
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from jtc.compiler.cpu.code import Code, type_of
from jtc.compiler.cpu.evaluate import Evaluator
from jtc.compiler.cpu.operands import Operand, Spot
from jtc.compiler.cpu.places import Form, Frame, Place
from jtc.compiler.cpu.prefetch import Prefetches, fetch_for_others, sources
from jtc.compiler.cpu.tree import reduce_in_pairs
from jtc.compiler.cpu.workspace import Workspace
from jtc.dialects.dtypes import DType
from jtc.dialects.expr import Expr, walk
from jtc.dialects.kernel import PAIR, Schedule, Stage
from jtc.dialects.optable import REDUCTIONS, SCALAR_FUNCTIONS, Reduction

TOGETHER = 4        # vectors whose long expressions are computed side by side
LONG = 16           # instructions of an expression from which on that pays

Accumulators = list[str | None]


def is_long(roots: Iterable[Expr]) -> bool:
    """Whether expressions take so many instructions that a processor cannot look past one vector's to the next."""
    return sum(SCALAR_FUNCTIONS[e.fn].cost for root in roots for e in walk(root) if e.fn in SCALAR_FUNCTIONS) >= LONG


@dataclass(frozen=True, slots=True)
class Slot:
    """One accumulator: where its first value belongs, without reduction axes, and its width (None: a scalar)."""

    spot: Spot
    width: int | None


@dataclass(frozen=True)
class Tile:
    """One register tile.

    places  where every axis stands; their extents are the tile's
    more    what the stage's further results are written to;  before: what its reduction was before this block
    in_place  the buffers written whose memory may be that of a read at the same elements
    workspace  where results wait for others that they meet in pairs
    fetches  what is fetched for other stages, and whether it will be written
    """

    code: Code
    stage: Stage
    values: Evaluator
    write: Operand
    keep: Operand | None
    more: Sequence[Operand]
    before: Operand | None
    places: Mapping[str, Place]
    workspace: Workspace
    in_place: frozenset[str] = frozenset()
    fetches: Sequence[tuple[Operand, bool]] = ()

    # -------------------------------------------------------------------------------------------- shape
    @cached_property
    def schedule(self) -> Schedule:
        assert self.stage.schedule is not None
        return self.stage.schedule

    @cached_property
    def lanes(self) -> int:
        return self.schedule.lanes

    @cached_property
    def vector(self) -> str:
        """The axis on the lanes; "" where all is scalar."""
        return self.schedule.vector if self.lanes > 1 else ""

    @cached_property
    def across(self) -> bool:
        """Whether the lanes lie along a reduction axis."""
        return self.vector in self.stage.reductions

    @cached_property
    def dot(self) -> str:
        """The reduction axis whose steps are taken in pairs; its extent in the tile counts these."""
        return self.schedule.dot

    @cached_property
    def dtype(self) -> DType:
        return self.stage.body.dtype

    @cached_property
    def points(self) -> list[dict[str, int]]:
        """Offsets along the parallel axes that are not on the lanes."""
        axes = [a for a in self.stage.parallel if a != self.vector and self.places[a].extent > 1]
        return [dict(zip(axes, p)) for p in itertools.product(*(range(self.places[a].extent) for a in axes))]

    def pieces(self, size: int, start: int = 0) -> Iterator[tuple[int, int, int | None]]:
        """`size` points along the vector axis as (start, lanes, width): whole vectors, then the tail."""
        whole = size // self.lanes * self.lanes
        for at in range(0, whole, self.lanes):
            yield start + at, self.lanes, self.lanes
        rest, width = size - whole, self.lanes
        if self._in_one_vector(rest):
            yield start + whole, rest, width
            return
        while rest:
            width //= 2
            if rest >= width:
                yield start + size - rest, width, width if width > 1 else None
                rest -= width

    def _in_one_vector(self, rest: int) -> bool:
        """Whether a tail of so many points is a vector of which the rest is not used, not some narrower vectors."""
        target = self.code.target
        if self.dot:
            return rest > 0
        if target.masks:
            return rest > 1
        # AVX2 loads 4 or 8 bytes by a mask as fast as all; a half or a quarter of a vector needs none
        return rest.bit_count() > 1 and target.has("avx2") and all(a.dtype.bytes in (4, 8) for a in self.stage.accesses)

    def spot(self, point: Mapping[str, int], start: int, lanes: int, width: int | None) -> Spot:
        if width is None:
            return Spot({**point, self.vector: start} if self.vector else point)
        return Spot(point, self.vector, start, lanes, width)

    @cached_property
    def spots(self) -> list[Spot]:
        """The vectors and scalars that cover the tile, where the lanes lie along a parallel axis."""
        if not self.vector:
            return [Spot(p) for p in self.points]
        pieces = list(self.pieces(self.places[self.vector].extent))
        return [self.spot(p, *piece) for p in self.points for piece in pieces]

    @cached_property
    def streams(self) -> int:
        """Vectors side by side along a vector reduction axis."""
        wanted = dict(self.schedule.unroll).get(self.vector, 1)
        return max(1, min(wanted, self.reduction_extents[self.vector] // self.lanes))

    @cached_property
    def slots(self) -> list[Slot]:
        if not self.across:
            return [Slot(s, s.width) for s in self.spots]
        if self.stage.scan:
            return [Slot(Spot(p), None) for p in self.points]
        width = self.lanes
        return [slot for p in self.points for slot in (
            *(Slot(Spot(p, self.vector, u * width, width, width), width) for u in range(self.streams)),
            *(Slot(self.spot(p, *piece), piece[2]) for piece in self._narrow))]

    @cached_property
    def _narrow(self) -> list[tuple[int, int, int | None]]:
        """Pieces narrower than a vector at the end of a vector reduction axis, each with an accumulator of its own."""
        size = self.reduction_extents[self.vector]
        rest = size % self.lanes
        return [p for p in self.pieces(rest, size - rest) if p[2] != self.lanes]

    # -------------------------------------------------------------------------------------------- reduction
    def forms(self) -> list[Form]:
        found = self.values.forms() + self.write.forms() + [source.form for source in sources(self).values()]
        found += [form for operand in self.more for form in operand.forms()]
        found += [operand.form for operand, _ in self.fetches]
        return found + [form for kept in (self.keep, self.before) if kept is not None for form in kept.forms()]

    def frame(self, extra: Sequence[Form]) -> Frame:
        """The values of all forms at the tile's start.

        In front of a reduction they are opaque, so that LLVM looks for the best addresses in its loops only: in those
        around it there is little to gain, and the search takes most of the time to compile a kernel.
        """
        return Frame.at(self.code, [*self.forms(), *extra], self.places, opaque=bool(self.reduction_extents))

    @cached_property
    def reduction_extents(self) -> dict[str, int]:
        """Reduction axis -> extent, outer to inner, after merging those that all operands walk as one."""
        order = list(self.schedule.reduction)
        extents = {a: -(-self.places[a].extent // PAIR) if a == self.dot else self.places[a].extent for a in order}
        operands = [*self.values.operands, self.write, *self.more, *([self.keep] if self.keep is not None else []),
                    *(operand for operand, _ in self.fetches)]
        fixed = self._unmergeable(operands)
        inner = order[-1] if order else ""
        for outer in reversed(order[:-1]):
            nested = all(o.form.steps.get(outer, 0) == extents[inner] * o.form.steps.get(inner, 0) for o in operands)
            if nested and not {outer, inner} & fixed and 0 not in (extents[outer], extents[inner]):
                extents[inner] *= extents.pop(outer)
            else:
                inner = outer
        return extents

    def _unmergeable(self, operands: list[Operand]) -> set[str]:
        """Axes that matter in more than addresses: also those whose blocks meet in pairs, or that are in pairs."""
        forms = [form for o in operands for form in o.forms() if form is not o.form]
        forms += self.values.indices.values()
        forms += [form for guards in self.values.bounds.values() for form, _ in guards]
        found = {axis for form in forms for axis in form.steps}.union(dict(self.schedule.tree), {self.dot})
        for operand in operands:
            for gathered in operand.gather:
                found = found.union(*(self.values.axes[e] for e in gathered.exprs))
        return found

    def reduce(self, frame: Frame) -> Accumulators:
        """Append the reduction loops; returns one accumulator for each slot, None where there was nothing to add."""
        accs: Accumulators = [None] * (0 if self.stage.accumulate else len(self.slots))
        return self.reduce_over(list(self.reduction_extents), frame, {}, accs, Prefetches.before(self, frame))

    def factor(self, axis: str) -> int:
        """How many steps of a reduction axis (not one on the lanes) one iteration takes."""
        wanted = dict(self.schedule.unroll).get(axis, 1)
        return min(max(1, wanted // PAIR) if axis == self.dot else wanted, self.reduction_extents[axis])

    def reduce_over(self, order: list[str], frame: Frame, offsets: Mapping[str, int], accs: Accumulators,
                    ahead: Prefetches) -> Accumulators:
        """Append the loops over the axes in `order` at these places along the others."""
        if not order:
            for i, spot in enumerate(self.spots):
                spot = replace(spot, offsets={**spot.offsets, **offsets})
                if self.stage.accumulate:
                    self._scatter(frame, spot)
                elif self.stage.scan:
                    accs = [*accs[:i], self._step(frame, spot, accs[i]), *accs[i + 1:]]
                else:
                    accs = [*accs[:i], self._accumulate(frame, spot, accs[i]), *accs[i + 1:]]
            return accs
        axis, *rest = order
        steps = dict(self.schedule.tree).get(axis, 0)
        if 0 < steps < self.reduction_extents[axis]:
            return self._joined(accs, reduce_in_pairs(self, order, steps, frame, offsets))
        if axis == self.vector:
            return self._scan_lanes(frame, accs) if self.stage.scan else self._reduce_lanes(frame, offsets, accs)
        extent, factor = self.reduction_extents[axis], self.factor(axis)
        alike = self.places[axis].extent // PAIR if axis == self.dot else extent        # without the last step alone
        whole = alike // factor * factor if alike > factor else 0
        if whole:
            fetch = None if rest else ahead.along(self, frame, offsets, factor)

            def body(value: str, carried: Accumulators) -> Accumulators:
                inner = frame.moved(axis, value, whole - factor)
                for u in range(factor):
                    carried = self.reduce_over(rest, inner, {**offsets, axis: u}, carried, ahead)
                    if fetch is not None:
                        fetch(value, u)
                return carried
            accs = self._loop(whole, factor, body, accs)
        for place in range(whole, extent):
            accs = self.reduce_over(rest, frame, {**offsets, axis: place}, accs, ahead)
        return accs

    def _joined(self, before: Accumulators, after: Accumulators) -> Accumulators:
        """Two sets of accumulators in one; None is nothing yet."""
        return [b if a is None else a if b is None else self.combine(b, a, slot.width)
                for a, b, slot in zip(before, after, self.slots)]

    def _loop(self, extent: int, step: int, body: Callable[[str, Accumulators], Accumulators],
              accs: Accumulators) -> Accumulators:
        """A loop that carries the accumulators."""
        def carry(value: str, carried: list[str]) -> list[str]:
            return self._started(body(value, [*carried]))

        code = self.code
        types = [type_of(self.dtype, s.width) for s in self.slots] if accs else []
        return [*code.loop(code.index(0), code.index(extent), step, carry, self._started(accs), types)]

    def _started(self, accs: Accumulators) -> list[str]:
        """The accumulators, from the identity where they have no value yet."""
        return [self.identity(s.width) if a is None else a for a, s in zip(accs, self.slots)]

    def _reduce_lanes(self, frame: Frame, offsets: Mapping[str, int], accs: Accumulators) -> Accumulators:
        """Along the lanes' axis: `streams` vectors at a time, then single vectors, then what is narrower."""
        extent, width, streams = self.reduction_extents[self.vector], self.lanes, self.streams
        step = streams * width
        whole = extent // step * step
        per_point = streams + len(self._narrow)

        def add(frame: Frame, accs: Accumulators, pieces: Sequence[tuple[int, int, int, int | None]]) -> Accumulators:
            """pieces: (start, lanes, slot, width)"""
            accs = list(accs)

            def one(spot: Spot, slot: int) -> None:
                accs[slot] = self._accumulate(frame, spot, accs[slot])

            self.together([partial(one, self.spot({**point, **offsets}, start, lanes, width), q * per_point + slot)
                           for start, lanes, slot, width in pieces for q, point in enumerate(self.points)],
                          [self.stage.body])
            return accs

        side_by_side = [(u * width, width, u, width) for u in range(streams)]

        def body(value: str, carried: Accumulators) -> Accumulators:
            return add(frame.moved(self.vector, value, max(whole - step, 0)), carried, side_by_side)
        if whole > step:
            accs = self._loop(whole, step, body, accs)
        elif whole:
            accs = add(frame, accs, side_by_side)
        rest = [p for p in self.pieces(extent - whole, whole) if p[2] == width]
        for i, (start, lanes, _) in enumerate(rest):
            accs = add(frame, accs, [(start, lanes, i % streams, width)])
        for i, (start, lanes, narrow) in enumerate(self._narrow):
            accs = add(frame, accs, [(start, lanes, streams + i, narrow)])
        return accs

    def together(self, bodies: Sequence[Callable[[], None]], roots: Iterable[Expr]) -> None:
        """Append bodies that compute `roots`, some side by side where these are chains so long that a processor cannot
        look past one to the next."""
        count = TOGETHER if is_long(roots) else 1
        for at in range(0, len(bodies), count):
            self.code.interleave(bodies[at:at + count])

    def _scan_lanes(self, frame: Frame, accs: Accumulators) -> Accumulators:
        """A scan along the lanes' axis: `streams` vectors in each iteration, then the rest."""
        extent, step = self.reduction_extents[self.vector], self.streams * self.lanes
        whole = extent // step * step

        def body(value: str, carried: Accumulators) -> Accumulators:
            inner = frame.moved(self.vector, value, max(whole - step, 0))
            for start in range(0, step, self.lanes):
                carried = self._prefixes(inner, carried, start, self.lanes, self.lanes)
            return carried

        if whole:
            accs = self._loop(whole, step, body, accs)
        for start, lanes, width in self.pieces(extent - whole, whole):
            accs = self._prefixes(frame, accs, start, lanes, width)
        return accs

    def _prefixes(self, frame: Frame, accs: Accumulators, start: int, lanes: int, width: int | None) -> Accumulators:
        """`lanes` steps of a scan at once: every lane takes in the one 1, 2, 4... before it, then the value so far.

        Source: Hillis, Steele, "Data parallel algorithms", 1986.
        """
        code, dtype, after = self.code, self.dtype, Accumulators()
        term = self.stage.running_term()
        assert term is not None
        for point, acc in zip(self.points, self._started(accs)):
            spot = self.spot(point, start, lanes, width)
            x = self.values.value(frame, term, spot)
            if width is None:
                x = last = self.combine(x, acc, None)
            else:
                kind, shift = type_of(dtype, width), 1
                while shift < lanes:
                    order = [lane if lane < shift else width + lane - shift for lane in range(width)]
                    moved = code.op(f"vector.shuffle {self.identity(width)}, {x} {order} : {kind}, {kind}")
                    x, shift = self.combine(x, moved, width), shift * 2
                last = self.combine(code.extract(x, lanes - 1, dtype, width), acc, None)
                x = self.combine(x, code.broadcast(acc, dtype, width), width)
            self.values.memory.store(frame, self.write, spot, self.final(frame, spot, x))
            after.append(last)
        return after

    def _accumulate(self, frame: Frame, spot: Spot, acc: str | None) -> str:
        """reduce(acc, body) at a spot."""
        stage, code = self.stage, self.code
        fetch_for_others(self, frame, spot)
        if self.dot:
            return self._add_pair(frame, spot, acc)
        body, tail = stage.body, self.across and spot.width is not None and not spot.full
        if stage.reduce == "add" and body.fn == "mul" and self.dtype.is_float and acc is not None \
                and not tail and self.keep is None:
            x, y = (self.values.value(frame, a, spot) for a in body.args)
            return code.multiply_add(x, y, acc, self.dtype, spot.width)
        x = self.values.value(frame, body, spot)
        if self.keep is not None:
            kept = code.convert(x, self.dtype, self.keep.memory.dtype, spot.width)
            self.values.memory.store(frame, self.keep, spot, kept)
        if tail:        # lanes past the end must not count
            inside = code.mask([lane < spot.lanes for lane in range(spot.vector_width)])
            kind = type_of(self.dtype, spot.width)
            x = code.op(f"arith.select {inside}, {x}, {self.identity(spot.width)} : vector<{spot.width}xi1>, {kind}")
        return x if acc is None else self.combine(x, acc, spot.width)

    def _add_pair(self, frame: Frame, spot: Spot, acc: str | None) -> str:
        """acc + the products of a pair of steps, or of the last one alone, where the axis has an odd number of them."""
        factors = self.stage.factors()
        assert factors is not None
        alone = spot.offsets[self.dot] == self.places[self.dot].extent // PAIR      # no whole pair lies so far
        first, second = (self.values.pair(frame, number, spot, alone) for number in factors)
        start = self.identity(spot.width) if acc is None else acc
        return self.code.add_pairs(start, first, second, self.stage.reads[factors[0]].dtype, spot.vector_width)

    def _step(self, frame: Frame, spot: Spot, acc: str | None) -> str:
        """One step of a scan: the next value, which is written."""
        before = self.identity(spot.width) if acc is None else acc
        value = self.values.value(frame, self.stage.body, spot, before)
        self.values.memory.store(frame, self.write, spot, self.final(frame, spot, value))
        return value

    def final(self, frame: Frame, spot: Spot, value: str) -> str:
        """What is written where the reduction gave `value`."""
        epilogue, dtype = self.stage.epilogue, self.dtype
        if epilogue is not None:
            value, dtype = self.values.value(frame, epilogue, spot, value), epilogue.dtype
        return self.code.convert(value, dtype, self.stage.write.dtype, spot.width)

    def resumed(self, frame: Frame, spot: Spot, value: str, partial: Operand) -> str:
        """The reduction of a block, `value`, with what earlier blocks have left in `partial`."""
        earlier, rescale = self.values.memory.load(frame, partial, spot), self.stage.rescale
        if rescale is None:
            return self.combine(value, earlier, spot.width)
        factor = self.values.value(frame, rescale, spot)
        return self.code.multiply_add(earlier, factor, value, self.dtype, spot.width)

    def further(self, frame: Frame, spot: Spot, value: str) -> list[tuple[Operand, str]]:
        """What else is written where the reduction gave `value`."""
        return [(operand, self.values.value(frame, result.value, spot, value))
                for operand, result in zip(self.more, self.stage.more)]

    def _scatter(self, frame: Frame, spot: Spot) -> None:
        """write = reduce(write, body) at a spot."""
        x = self.values.value(frame, self.stage.body, spot)
        if self.stage.reduce not in (None, "replace"):
            x = self.combine(x, self.values.memory.load(frame, self.write, spot), spot.width)
        self.values.memory.store(frame, self.write, spot, x)

    # -------------------------------------------------------------------------------------------- accumulators
    @cached_property
    def reduction(self) -> Reduction:
        assert self.stage.reduce is not None
        return REDUCTIONS[self.stage.reduce]

    def identity(self, width: int | None) -> str:
        return self.code.number(self.reduction.identity(self.dtype), self.dtype, width)

    def combine(self, x: str, acc: str, width: int | None) -> str:
        return self.code.apply(self.reduction.fn, [x, acc], self.dtype, width)

    @cached_property
    def root_widths(self) -> list[int | None]:
        """Widths of what `roots` gives."""
        if not self.across:
            return [s.width for s in self.slots]
        return [self.lanes, *(width for _, _, width in self._narrow)] * len(self.points)

    def roots(self, inner: Tile, accs: Accumulators) -> list[str]:
        """The accumulators of a part of this tile's reduction, those side by side along the lanes' axis combined."""
        if not self.across:
            return inner._started(accs)
        found, count, size = [], len(inner.slots) // len(self.points), len(self.root_widths) // len(self.points)
        for q in range(len(self.points)):
            parts = [x for x in accs[q * count:q * count + inner.streams] if x is not None]
            narrow = accs[q * count + inner.streams:(q + 1) * count] or [None] * (size - 1)
            first = self._paired(parts) if parts else self.identity(self.lanes)
            found += [first, *(self.identity(w) if x is None else x for x, w in zip(narrow, self.root_widths[1:size]))]
        return found

    def from_roots(self, roots: Sequence[str]) -> Accumulators:
        """Accumulators of which the first one along the lanes' axis holds what all have found."""
        if not self.across:
            return list(roots)
        size, idle = len(self.root_widths) // len(self.points), [None] * (self.streams - 1)
        return [x for q in range(len(self.points))
                for x in (roots[q * size], *idle, *roots[q * size + 1:(q + 1) * size])]

    def _paired(self, level: list[str]) -> str:
        """Whole vectors combined in pairs."""
        while len(level) > 1:
            pairs = [self.combine(a, b, self.lanes) for a, b in zip(level[::2], level[1::2])]
            level = pairs + level[len(pairs) * 2:]
        return level[0]

    def results(self, accs: Accumulators) -> list[tuple[str, Spot]]:
        """The finished accumulators: vectors along a parallel axis, or one scalar for each point."""
        if not self.across:
            return list(zip(self._started(accs), self.spots))
        per_point = len(self.slots) // len(self.points)
        slots = list(zip(accs, self.slots))
        return [(self._horizontal(slots[q * per_point:(q + 1) * per_point]), Spot(p))
                for q, p in enumerate(self.points)]

    def _horizontal(self, parts: list[tuple[str | None, Slot]]) -> str:
        """All lanes of all accumulators of one point in one scalar."""
        whole = [x for x, s in parts if x is not None and s.width == self.lanes]
        scalars = [self._fold(self._paired(whole), self.lanes)] if whole else []
        scalars += [self._fold(x, s.width) for x, s in parts if x is not None and s.width != self.lanes]
        if not scalars:
            return self.identity(None)
        total = scalars[0]
        for x in scalars[1:]:
            total = self.combine(x, total, None)
        return total

    def _fold(self, x: str, width: int | None) -> str:
        """The lanes of a vector combined, upper half with lower half."""
        if width is None:
            return x
        while width > 1:
            kind, half = type_of(self.dtype, width), width // 2
            low, high = (self.code.op(f"vector.shuffle {x}, {x} [{', '.join(str(i + at) for i in range(half))}] : "
                                      f"{kind}, {kind}") for at in (0, half))
            x, width = self.combine(high, low, half), half
        return self.code.extract(x, 0, self.dtype, 1)
