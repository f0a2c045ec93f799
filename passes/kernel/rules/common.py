"""What the rules know of a stage: sizes, strides, and what a load or store costs along an axis."""
from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd, prod
from typing import Any

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import DType
from jtc.dialects.expr import Expr, reads_of, walk
from jtc.dialects.family import Core
from jtc.dialects.kernel import Access, Kernel, Program, Schedule, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.kernel.legality import extents, injective, instructions

SMALL_KERNEL = 16_384      # points below which waking another thread costs more than it brings
GATHER_COST = 1.0          # cycles per element of a strided or gathered load
TRANSPOSE_COST = 4.0       # cycles per vector that is stored through an in-register transpose
SCATTER_COST = 2.5         # cycles per element of a store that is not contiguous
LINE = 64                  # bytes of a cache line
L2_WAYS = 16               # of the second-level cache


def set_share(target: CpuTarget, strides: Iterable[int]) -> int:
    """Bytes of the second-level cache that each of many pieces takes up which lie at multiples of these distances: more
    than it has where they fall into few sets."""
    return max(LINE, gcd(target.l2 // L2_WAYS, *strides))


@dataclass(frozen=True)
class Copy:
    """A copy kernel that a candidate needs: read number and order, as in `kernel-pack` without `inside`."""

    read: int
    order: tuple[str, ...]
    pad: int = 0


@dataclass(frozen=True)
class Candidate:
    """A schedule, the copies to make before it, and the predicted cycles of one core for the whole stage."""

    cost: float
    schedule: Schedule
    copies: tuple[Copy, ...] = ()


@dataclass(frozen=True)
class View:
    """A stage with what its rule asks.  `free` are the axes that loops may run over, with their extents.

    packing: whether operands may be copied; a rule that proposes copies has others for where they may not
    reduction: the kind of reduction that is asked for (see reduction.py), or "auto"
    constants: buffers known when weights are bound
    quick: whether little code counts more than fast code; a rule need then look at few candidates only
    few: how many of the cheapest candidates are wanted, of which a rule need not propose others; 0: all
    """

    stage: Stage
    kernel: Kernel
    program: Program
    target: CpuTarget
    packing: bool = True
    reduction: str = "auto"
    constants: frozenset[str] = frozenset()
    quick: bool = False
    few: int = 0

    @cached_property
    def core(self) -> Core:
        return self.target.core

    @cached_property
    def kept(self) -> float:
        """Bytes that stay in the second-level cache."""
        return self.target.l2 * self.core.kept

    @cached_property
    def free(self) -> dict[str, int]:
        single = {axis.name for axis, block in self.kernel.shared if block == 1}
        return {a: n for a, n in extents(self.stage, self.kernel).items() if a not in single and n > 1}

    @cached_property
    def parallel(self) -> list[str]:
        return [a for a in self.stage.parallel if a in self.free]

    @cached_property
    def reductions(self) -> list[str]:
        return [a for a in self.stage.reductions if a in self.free]

    @cached_property
    def points(self) -> int:
        return prod(self.free.values())

    @cached_property
    def lanes(self) -> int:
        """Lanes of the widest type that the stage loads or stores; what it computes may take two registers."""
        dtypes = [self.stage.write.dtype, self.stage.body.dtype, *(r.write.dtype for r in self.stage.more)]
        return self._lanes((self.stage.body, *self.stage.tails), dtypes)

    @cached_property
    def body_lanes(self) -> int:
        """Lanes where only the body is computed in vectors."""
        return self._lanes((self.stage.body,), [self.stage.body.dtype])

    def _lanes(self, roots: Iterable[Expr], dtypes: Iterable[DType]) -> int:
        """Lanes for what the expressions load and compute, and for values of `dtypes`.

        What has the same value at every point, such as a learning rate in float64, is a scalar and takes no lanes.
        """
        found = [self.target.lanes(dtype) for dtype in dtypes]
        moving: dict[Expr, bool] = {}
        for e in (e for root in roots for e in walk(root)):
            read = self.stage.reads[e.attr] if e.fn == "read" else None
            moving[e] = any(moving[a] for a in e.args) or e.fn in ("acc", "index", "inbounds") or \
                read is not None and bool(read.axes or read.gather)
            if moving[e]:
                found.append(self.target.lanes(e.dtype) * (1 if read is not None else 2))
        return min(found)

    @cached_property
    def strides(self) -> list[Affine]:
        return [a.flat for a in self.stage.reads]

    @cached_property
    def read_axes(self) -> list[frozenset[str]]:
        """The axes that each read moves along."""
        return [form.axes for form in self.strides]

    @cached_property
    def written(self) -> Affine:
        """Strides of the write."""
        return self.stage.write.flat

    @cached_property
    def copied(self) -> list[DType]:
        """The element type that a copy of each read holds."""
        return [self.stage.copied_as(number) for number in range(len(self.stage.reads))]

    @cached_property
    def body_reads(self) -> list[int]:
        return reads_of(self.stage.body)

    @cached_property
    def known(self) -> bool:
        """Whether all that the body reads is known when weights are bound, so that the stage runs once."""
        return all(self.stage.reads[i].buffer in self.constants for i in self.body_reads)

    @cached_property
    def work(self) -> float:
        """Vector instructions of one point's body, epilogue and further results."""
        return instructions(self.stage.body) + sum(instructions(tail) for tail in self.stage.tails)

    @cached_property
    def walks(self) -> list[dict[str, int]]:
        """For each read, then the write: axis -> elements between neighbours, the closest first."""
        return [dict(sorted(((a, abs(form[a])) for a in form.axes & self.free.keys()), key=lambda item: item[::-1]))
                for form in (*self.strides, self.written)]

    @cached_property
    def memo(self) -> dict[Hashable, Any]:
        """What a rule has found out, by what that depends on: many candidates share it."""
        return {}

    @cached_property
    def sharers(self) -> list[int]:
        """For each read, how many kernels of the program read the same elements in the same way, as the steps of a loop
        read its weights: they share a copy that is made outside of all loops."""
        sizes, mine = self.stage.sizes, {read.buffer for read in self.stage.reads}
        found = [(k.name, s.sizes, a) for k in self.program.kernels for s in k.stages for a in s.reads
                 if a.buffer in mine]
        return [len({name for name, others, access in found if access == read
                     and all(others[x] == sizes[x] for x in read.flat.axes)}) for read in self.stage.reads]

    def repeats(self, number: int) -> int:
        """How many blocks of the shared axes read the same elements of a read: they share a copy made before."""
        return prod(-(-axis.size // block) for axis, block in self.kernel.shared
                    if axis.name not in self.stage.reads[number].axes)

    def is_local(self, access: Access) -> bool:
        return any(b.name == access.buffer for b in self.kernel.locals)

    def load_cost(self, number: int, axis: str) -> float:
        """Cycles to load one vector of a read whose lanes run along `axis`."""
        read, stride = self.stage.reads[number], self.strides[number][axis]
        if any(axis in e.attr.axes if e.fn == "index" else e.fn == "read" and axis in self.stage.reads[e.attr].axes
               for _, root in read.gather for e in walk(root)):
            return self.lanes * GATHER_COST
        if stride in (0, 1):
            return 0.5
        return 3.0 if stride == 2 else self.lanes * GATHER_COST

    def reduction_order(self, innermost: str | None = None) -> tuple[str, ...]:
        """All reduction axes, those with long strides outermost, `innermost` (if given) last."""
        weight = {r: sum(abs(self.strides[i][r]) for i in self.body_reads) for r in self.stage.reductions}
        order = sorted(self.stage.reductions, key=lambda r: (r == innermost, -weight[r]))
        return tuple(order)

    def by_write_stride(self, axes: list[str]) -> list[str]:
        """Outer to inner as the write walks them; axes in which the write does not move are outermost."""
        flat = self.stage.write.flat
        return sorted(axes, key=lambda a: (flat[a] != 0, -abs(flat[a])))

    def cuts(self) -> tuple[str, ...]:
        """Axes to cut at guard boundaries: those of guards on the body's reads, where a cut leaves a large interior.

        None where all reads are constants: what runs once, when weights are bound, had better be little code.
        """
        if self.known:
            return ()
        guards = [g for i in self.body_reads for g in self.stage.reads[i].guards]
        axes = dict.fromkeys(a for g in guards for a in sorted(g.index.axes) if a in self.parallel)
        return tuple(a for a in axes if self.free[a] >= 4)[:2]

    def threads(self, outer: list[str]) -> int:
        """How many of the outermost loops to offer to threads: parallel ones, up to a few hundred iterations."""
        if self.points * max(self.work, 1) < SMALL_KERNEL or self.kernel.shared:
            return 0
        count, units = 0, 1
        for axis in outer:
            if axis not in self.parallel or units >= 256:
                break
            if self.stage.accumulate and not injective(self.stage.write, axis):
                break
            count, units = count + 1, units * self.free[axis]
        return count


def shortened(candidate: Candidate) -> Candidate:
    """The candidate with less code: windows and reductions in loops, guards asked everywhere, nothing fetched ahead.

    Vectors side by side along the lanes' axis stay: they are little code, and one alone waits for its own sums.
    """
    schedule = candidate.schedule
    unroll = tuple((axis, count) for axis, count in schedule.unroll if axis == schedule.vector)
    return replace(candidate, schedule=replace(schedule, unroll=unroll, split=(), prefetch=()))


def round_up(value: int, step: int) -> int:
    return -(-value // step) * step
