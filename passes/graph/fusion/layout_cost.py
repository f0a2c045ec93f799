"""What it costs a stage that its values lie in one order or another, in cycles of one core.

Not how long the stage takes: terms that no order changes are left out, so only differences mean something.  Strides
alone decide, never what a stage computes.  The measures are those of the schedule rules (passes/kernel/rules), which
choose among many schedules what is weighed here in one formula for each class of stages:

    contraction  for each axis on the lanes: empty lanes, copies of what is not contiguous, results that are turned
    others       for each axis on the lanes: empty lanes, loads and stores that are not contiguous
"""
from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from jtc.dialects.affine import Affine
from jtc.dialects.expr import reads_of
from jtc.dialects.kernel import Access, Stage
from jtc.passes.graph.fusion.costs import NEAR

VECTOR = 64                     # bytes of a vector register, and of a cache line
PANEL, ROWS = 48, 8             # elements along the lanes, and points across them, of a usual register tile
FMA = 0.5                       # cycles of a multiply-add of vectors
LOAD, STORE = 0.5, 1.0          # cycles of a vector that is contiguous
TURN = 6.9                      # cycles of a vector that is turned in registers before it is stored
LINES = 3.0                     # cycles of an element that is stored, or read for an epilogue, in a line of its own
GATHER = 1.0                    # cycles of an element that is read apart from its neighbours
HORIZONTAL = 16.0               # cycles to combine the lanes of one accumulator
COPY, COPY_TURNED, COPY_APART = 0.25, 0.8, 8.0     # cycles per element of a copy, also of one that turns its source, or
                                                   # takes a cache line for each element
COPY_BOX, COPY_BOX_TURNED = 0.1, 1.0               # the same of a box that guards reach beyond
SLIDING = 0.6                   # cycles per vector of a row that slides over its windows: most lie across two lines
LINE = 2.0                      # cycles per cache line of scalars that a step of the reduction takes
CROWD, CROWDED = 1024, 0.25     # bytes; rows a multiple of this apart share few cache sets: cycles per scalar


@dataclass(frozen=True, eq=False)
class StageCost:
    """The cost of one stage.

    fixed   for each read whether it is known when weights are bound
    shares  for each read how many stages read the same in the same way, as steps do their weights: they share copies
    """

    stage: Stage
    fixed: tuple[bool, ...]
    shares: tuple[int, ...]

    @cached_property
    def sizes(self) -> dict[str, int]:
        return {a: n for a, n in self.stage.sizes.items() if n > 1}

    @cached_property
    def parallel(self) -> list[str]:
        return [a for a in self.stage.parallel if a in self.sizes]

    @cached_property
    def reductions(self) -> list[str]:
        return [a for a in self.stage.reductions if a in self.sizes]

    @cached_property
    def points(self) -> int:
        return prod(self.sizes.values())

    @cached_property
    def results(self) -> int:
        return prod(self.sizes[a] for a in self.parallel)

    @cached_property
    def guarded(self) -> frozenset[str]:
        """Axes that guards lie on: no loop over them is merged with another one."""
        return frozenset().union(*(g.index.axes for a in self.stage.accesses for g in a.guards))

    @cached_property
    def after(self) -> frozenset[int]:
        """Reads whose elements are taken when a result is finished."""
        return frozenset(i for tail in self.stage.tails for i in reads_of(tail))

    @cached_property
    def form(self) -> tuple[Hashable, ...]:
        """What the cost depends on besides strides."""
        s = self.stage
        return (s.axes, self.fixed, self.shares, s.factors(), s.reduce, s.accumulate, s.scan, s.keep is None,
                self.after, tuple((a.shape, a.index, a.guards, a.dtype) for a in s.accesses))

    @cached_property
    def windows(self) -> list[frozenset[str]]:
        """For each read the axes that share an index with another one."""
        return [frozenset().union(*(form.axes & self.sizes.keys() for form in a.index
                                    if len(form.axes & self.sizes.keys()) > 1)) for a in self.stage.reads]

    def cycles(self, strides: Sequence[Affine]) -> float:
        """Where the accesses, reads then writes, have these strides."""
        if self.stage.accumulate or self.stage.scan or not self.points:
            return 0.0          # their values keep their order
        found = self._contraction(strides) if self.stage.factors() is not None else self._other(strides)
        return min(found, default=0.0)

    # -------------------------------------------------------------------------------------------- contractions
    def _contraction(self, strides: Sequence[Affine]) -> Iterator[float]:
        factors = self.stage.factors()
        assert factors is not None
        count = len(self.stage.reads)
        stored = [(a, strides[i]) for i, a in enumerate(self.stage.accesses) if i >= count or i in self.after]
        for vector in self.parallel:
            holders = [i for i in factors if strides[i][vector]]
            if not holders or len(holders) == 2 and any(strides[i][vector] != 1 for i in holders):
                continue
            wide = holders[0]
            narrow = factors[0] if wide == factors[1] else factors[1]
            lanes = VECTOR // self.stage.write.dtype.bytes
            vectors = self._vectors(vector, strides, lanes)
            yield vectors * self.points / self.sizes[vector] * FMA + self._wide(wide, vector, strides[wide], lanes) \
                + self._narrow(narrow, vector, strides, wide) + self._stored(stored, vector, lanes)

    def _vectors(self, vector: str, strides: Sequence[Affine], lanes: int) -> float:
        """Vectors along an axis, in each of its rows; rows that all accesses walk as one are merged."""
        row, rows, free = self.sizes[vector], 1, set(self.parallel) - {vector} - self.guarded
        while vector not in self.guarded and vector in self.parallel:
            found = next((a for a in free if all(s[a] == s[vector] * row for s in strides)), None)
            if found is None:
                break
            free.remove(found)
            row, rows = row * self.sizes[found], rows * self.sizes[found]
        return -(-row // lanes) / rows

    def _volume(self, form: Affine) -> int:
        return prod(self.sizes.get(a, 1) for a in form.axes)

    def _wide(self, number: int, vector: str, form: Affine, lanes: int) -> float:
        """Of the operand on the lanes."""
        read = self.stage.reads[number]
        if self.fixed[number] and not read.guards:
            return 0.0
        if vector in self.windows[number]:
            loads = self.points / lanes / ROWS
            box = read.size * (COPY_BOX if form[vector] == 1 else COPY_BOX_TURNED) if read.guards else 0.0
            return box + loads * (SLIDING if form[vector] == 1 else lanes * GATHER)
        if read.guards or self.windows[number]:
            return read.size * (COPY_BOX if form[vector] == 1 else COPY_BOX_TURNED)
        copied = COPY if form[vector] == 1 else COPY_TURNED if 1 in form.terms.values() else COPY_APART
        return self._volume(form) * copied / self.shares[number]

    def _narrow(self, number: int, vector: str, strides: Sequence[Affine], wide: int) -> float:
        """Of the operand that is broadcast."""
        read, form = self.stage.reads[number], strides[number]
        if self.fixed[number] and not read.guards and not self.windows[number]:
            return 0.0
        inner = any(form[r] == 1 for r in self.reductions if r not in self.windows[number])
        panels = -(-self.sizes[vector] // PANEL)
        if inner:
            row = min((abs(form[a]) for a in self.parallel if form[a] and not strides[wide][a]), default=1)
            place = self._volume(form) * panels * CROWDED if row * read.dtype.bytes % CROWD == 0 else 0.0
        else:
            beside = any(form[a] == 1 for a in self.parallel if not strides[wide][a])
            place = LINE * (1 if beside else ROWS) * self.points / ROWS / PANEL
        if read.guards:
            return min(read.size * COPY_BOX + place, read.size * COPY_BOX_TURNED)
        if self.windows[number]:
            return place
        copied = COPY if inner else COPY_TURNED if 1 in form.terms.values() else COPY_APART
        return min(place, self._volume(form) * copied)      # in a loop of each stage, for itself

    def _stored(self, stored: Sequence[tuple[Access, Affine]], vector: str, lanes: int) -> float:
        """Of results, and of what is read for each of them."""
        best = float("inf")
        for axis in [vector, *(a for a in self.parallel if a != vector and any(s[a] == 1 for _, s in stored))]:
            filled = 1.0 if axis == vector else min(1.0, self.sizes[axis] / lanes)
            vectors = self.results / lanes
            cost = 0.0 if axis == vector else vectors * TURN / filled
            for access, form in stored:
                if form[axis] in (0, 1):
                    cost += vectors * STORE / filled
                else:
                    far = LINES if access.size * access.dtype.bytes > NEAR else 1.0
                    cost += self.results * GATHER * far
            best = min(best, cost)
        return best

    # -------------------------------------------------------------------------------------------- all others
    def _other(self, strides: Sequence[Affine]) -> Iterator[float]:
        count = len(self.stage.reads)
        for vector in [*self.parallel, *self.reductions]:
            across = vector not in self.parallel
            lanes = VECTOR // self.stage.write.dtype.bytes
            steps = self._vectors(vector, strides, lanes) * self.points / self.sizes[vector]
            loads = sum(LOAD if form[vector] in (0, 1) else lanes * GATHER for form in strides[:count])
            cost = steps * loads + (self.results * HORIZONTAL if across else 0.0)
            for access, form in zip(self.stage.writes, strides[count:], strict=True):
                walked = self.points if access is self.stage.keep else self.results
                if across and access is not self.stage.keep:
                    continue
                turned = any(form[a] == 1 and self.sizes[a] >= lanes // 2 for a in self.parallel)
                cost += walked / lanes * (STORE if form[vector] == 1 else 4.0 if turned else lanes * LINES)
            yield cost
