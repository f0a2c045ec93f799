"""What it costs to move the operands of a run of kernels, whole or slice by slice, in cycles of one core.

A byte costs what the nearest cache that can still hold it costs (family.Core): nothing from the second level on.
What can be held is told by the bytes that are touched between one use and the next.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from jtc.dialects.kernel import Kernel
from jtc.dialects.target import CpuTarget
from jtc.passes.kernel.rules.contraction_operands import LAUNCH
from jtc.passes.kernel.slices import Cut

ROWS = 14                   # points of a register tile along what is cut: fewer at the end take as long
WRITTEN = 2                 # times that a line moves which is written: in, and out again


@dataclass(frozen=True)
class Member:
    """A kernel of a run: the bytes that it moves, and how much it computes.

    reads, writes  buffer -> bytes, of what is cut;  fixed: of what all slices read
    multiplied     of each contraction that has one factor cut, how many multiply-adds, and points that this factor has
                   beside the other
    """

    reads: Mapping[str, int]
    writes: Mapping[str, int]
    fixed: Mapping[str, int]
    multiplied: Sequence[tuple[int, int]]


def member(kernel: Kernel, cut: Cut, sizes: Mapping[str, int]) -> Member:
    """sizes: bytes of global buffers."""
    multiplied = []
    for stage, axis in zip(kernel.stages, cut.axes, strict=True):
        factors = [stage.reads[n].axes for n in stage.factors() or ()]
        rows = next((own - other for own, other in itertools.permutations(factors, 2) if axis in own - other), None)
        if rows is not None:
            multiplied.append((prod(stage.sizes.values()), prod(stage.sizes[a] for a in stage.parallel if a in rows)))
    return Member({b: sizes[b] for b in kernel.read if b in cut.dims}, {b: sizes[b] for b in kernel.written},
                  {b: sizes[b] for b in kernel.read if b not in cut.dims}, multiplied)


class Traffic:
    """The cycles of a run that depend on the number of slices, for one such number, while kernels are added to it."""

    def __init__(self, count: int, target: CpuTarget):
        self.count, self.core, self.per_cycle = count, target.core, target.per_cycle
        self.held = target.l2 * self.core.kept
        self._cycles = 0.0
        self._sizes: dict[str, float] = {}              # bytes of all that a slice touches
        self._again = 0                                 # bytes that slices read once more
        self._last: dict[str, float] = {}               # bytes that were touched before, and with, the last use
        self._made: dict[str, float] = {}               # bytes that lie between uses of the memory of what is written
        self._position = self._before = 0.0

    def add(self, new: Member, inner: Iterable[str]) -> None:
        """inner: the buffers that nothing outside of the run touches, now that it has this kernel."""
        touched = {**{b: size / self.count for b, size in (*new.reads.items(), *new.writes.items())}, **new.fixed}
        own = sum(touched.values())
        self._position += own
        for name, size in new.reads.items():
            self._cycles += size * self._away(self._position - self._last[name] if name in self._last else size)
        for name, size in new.writes.items():
            self._cycles += WRITTEN * size * self._away(size)
            self._made[name] = own + self._before
        for name in inner:                              # memory that is used again and again
            whole = self.count * (touched[name] if name in touched else self._sizes[name])
            self._cycles += WRITTEN * whole * (self._away(self._made[name]) - self._away(whole))
        for multiplied, points in new.multiplied:
            self._cycles += multiplied / self.per_cycle * _whole_tiles(points / self.count)
        self._cycles += LAUNCH * self.count
        self._again += (self.count - 1) * sum(new.fixed.values())
        self._sizes.update(touched)
        self._last.update(dict.fromkeys(touched, self._position))
        self._before = own

    @property
    def cycles(self) -> float:
        return self._cycles + self._again * self._away(sum(self._sizes.values()))

    def _away(self, distance: float) -> float:
        """Cycles of a byte that was touched so many bytes ago."""
        return 0.0 if distance <= self.held else self.core.byte(distance)


def _whole_tiles(points: float) -> float:
    """How many times as many points register tiles go through."""
    return -(-points // ROWS) * ROWS / points
