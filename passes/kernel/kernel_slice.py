"""`kernel-slice`: kernels of a batch, image by image."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from jtc.dialects.errors import UsageError
from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Kernel, Program, Slice
from jtc.dialects.target import CpuTarget
from jtc.passes.base import Pass, need_program
from jtc.passes.kernel.packing import constant_buffers, fresh
from jtc.passes.kernel.slice_cost import Member, Traffic, member
from jtc.passes.kernel.slices import Cut, cuts, part, sliced

LONGEST = 64                # kernels of a run that are looked at
LEAST = 0.05                # share of a run's cycles that slices have to save
LEAST_EACH = 100_000.0      # cycles that they have to save for each of their launches
MOST = 64                   # slices of a run


@dataclass(frozen=True)
class KernelSlice(Pass):
    """Run kernels that hand on a batch slice by slice, where it leaves the caches otherwise: k0 k1 -> k0_0 k1_0 k0_1...

    slices  auto: where that is estimated to save time; off; or a number of slices, wherever kernels can be cut into it
    target  the processor, whose caches decide

    A run is a sequence of kernels that can be cut along one axis (slices.py) and hand on what is cut.  Buffers that no
    other kernel touches become one for each slice, with lifetimes of their own, so that slices use the same memory one
    after the other.  Kernels in between that do not depend on the run go before it.  Inputs and outputs of a run are
    cut along their first dimension only: so all slices of a kernel have the same code (passes/canonical.py).
    Assumes kernels without schedules.  Changes no arithmetic.
    """

    name: ClassVar[str] = "kernel-slice"
    slices: str = "auto"
    target: CpuTarget = field(default_factory=CpuTarget)

    def run(self, module: Graph | Program) -> Program:
        program = need_program(module, self.name)
        if self.slices not in ("auto", "off") and not (self.slices.isdecimal() and int(self.slices) > 1):
            raise UsageError(f"{self.name}: slices={self.slices!r} is not auto, off or a number above 1")
        if self.slices == "off":
            return program
        for run in reversed(self._choose(_Runs(program))):
            program = _apart(program, run)
        return program

    def _choose(self, runs: _Runs) -> list[Run]:
        """Runs that follow one another and together save most, and into how many slices they go."""
        best: list[tuple[float, list[Run]]] = [(0.0, [])] * (len(runs.program.kernels) + 1)     # up to each kernel
        for start in range(len(runs.program.kernels)):
            if best[start + 1][0] < best[start][0]:
                best[start + 1] = best[start]
            for run, gain in self._gains(start, runs):
                if best[start][0] + gain > best[run.end][0]:
                    best[run.end] = best[start][0] + gain, [*best[start][1], run]
        return best[-1][1]

    def _gains(self, start: int, runs: _Runs) -> Iterator[tuple[Run, float]]:
        """Runs from a kernel on, in slices, and what they save."""
        for cut in runs.cuts[start]:
            if any(cut.dims.get(b) for b in runs.program.kernels[start].read):
                continue
            if self.slices == "auto":
                yield from self._estimated(start, cut, runs)
            elif cut.size % int(self.slices) == 0:
                yield from ((replace(run, count=int(self.slices), why="asked for"), float(len(run.members)))
                            for run in runs.starting(start, cut) if runs.ends_well(run))

    def _estimated(self, start: int, cut: Cut, runs: _Runs) -> Iterator[tuple[Run, float]]:
        """Runs from a kernel on, in the best number of slices, and the cycles that they save."""
        if not runs.leaves(start, self.target.l2 * self.target.core.kept):
            return
        counts = [Traffic(n, self.target) for n in range(1, min(cut.size, MOST) + 1)
                  if cut.size % n == 0 and (n == 1 or self.target.shares(n))]
        for run in runs.starting(start, cut):
            if run.members[-1][0] == run.end - 1:
                for traffic in counts:
                    traffic.add(runs.member(*run.members[-1]), run.closed)
            if runs.ends_well(run):
                whole, best = counts[0].cycles, min(counts, key=lambda traffic: traffic.cycles)
                gain = whole - best.cycles
                if gain > max(LEAST * whole, LEAST_EACH * best.count * len(run.members)):
                    why = f"estimated to save {gain:.2g} of {whole:.2g} cycles"
                    yield replace(run, count=best.count, why=why), gain


@dataclass(frozen=True)
class Run:
    """Kernels first to end - 1 of a program.

    members  number and cut of those that are cut;  ahead: numbers of the others, which go before them
    dims     buffer -> dimension that is cut;  size: of the axes;  count: slices;  why: so many
    made     buffers it writes;  open: of these -> how many of their readers it does not have, where there are any
    closed   those that nothing else touches since the last kernel was added
    """

    first: int
    end: int
    members: tuple[tuple[int, Cut], ...]
    ahead: tuple[int, ...]
    dims: Mapping[str, int]
    size: int
    made: frozenset[str] = frozenset()
    open: Mapping[str, int] = field(default_factory=dict)
    closed: tuple[str, ...] = ()
    count: int = 1
    why: str = ""

    @property
    def inner(self) -> frozenset[str]:
        """The buffers that nothing outside of the run touches."""
        return self.made - self.open.keys()


class _Runs:
    """The runs of a program."""

    def __init__(self, program: Program):
        self.program = program
        self.sizes = {b: t.bytes for b, t in program.buffers.items()}
        self.readers = Counter(b for k in program.kernels for b in k.read)
        writers = Counter(b for k in program.kernels for b in k.written)
        once = constant_buffers(program)
        open_ = {b for b, n in writers.items() if n == 1} - once
        self.cuts: list[list[Cut]] = [
            list(cuts(k, program.buffers)) if k.written and open_.issuperset(k.written)
            and not any(s.schedule for s in k.stages) else [] for k in program.kernels]
        self._members: dict[tuple[int, tuple[str, ...]], Member] = {}

    def member(self, number: int, cut: Cut) -> Member:
        key = number, cut.axes
        if key not in self._members:
            self._members[key] = member(self.program.kernels[number], cut, self.sizes)
        return self._members[key]

    def leaves(self, number: int, held: float) -> bool:
        """Whether a kernel writes so much that it matters in which order others read it."""
        return max(self.sizes[b] for b in self.program.kernels[number].written) > held / 4

    def starting(self, first: int, cut: Cut) -> Iterator[Run]:
        """All runs that start with a kernel that is cut so, the shortest first."""
        kernels = self.program.kernels
        run = self._grown(Run(first, first, (), (), {}, cut.size), cut)
        while True:
            yield run
            if run.end == len(kernels) or len(run.members) == LONGEST:
                return
            kernel = kernels[run.end]
            found = next((c for c in self.cuts[run.end] if _joins(c, kernel, run)), None)
            if found is not None:
                run = self._grown(run, found)
            elif run.made.isdisjoint(kernel.read):
                run = replace(run, end=run.end + 1, ahead=(*run.ahead, run.end), closed=())
            else:
                return

    def _grown(self, run: Run, cut: Cut) -> Run:
        """The run with one more kernel."""
        kernel = self.program.kernels[run.end]
        readers = {**run.open, **{b: self.readers[b] + (b in self.program.outputs) for b in kernel.written}}
        for name in kernel.read:
            if name in readers:
                readers[name] -= 1
        local = {b.name for b in kernel.locals}
        dims = {b: at for b, at in cut.dims.items() if b not in local}
        return replace(run, end=run.end + 1, members=(*run.members, (run.end, cut)), dims={**run.dims, **dims},
                       made=run.made.union(kernel.written), open={b: n for b, n in readers.items() if n},
                       closed=tuple(b for b, n in readers.items() if not n))

    def ends_well(self, run: Run) -> bool:
        """Whether the last kernel belongs to the run, and what others touch is cut along its first dimension."""
        inner = run.inner
        return run.members[-1][0] == run.end - 1 and all(at == 0 for b, at in run.dims.items() if b not in inner)


def _joins(cut: Cut, kernel: Kernel, run: Run) -> bool:
    """Whether a kernel that is cut so can go on with what a run hands on, or starts from."""
    shared = cut.dims.keys() & run.dims.keys()
    return cut.size == run.size and bool(shared) and all(cut.dims[b] == run.dims[b] for b in shared) \
        and cut.dims.keys() >= run.made.intersection(kernel.read)


def _apart(program: Program, run: Run) -> Program:
    """The program with a run in slices."""
    inner, storage = sorted(run.inner), dict(program.storage)
    buffers = {b: t for b, t in program.buffers.items() if b not in run.inner}
    kernels, taken = [program.kernels[n] for n in run.ahead], {k.name for k in program.kernels}
    for number in range(run.count):
        names = {b: fresh(f"{b}_{number}", buffers) for b in inner}
        for b, name in names.items():
            old = program.buffers[b]
            buffers[name] = replace(old, shape=sliced(old.shape, run.dims[b], run.count))
            if b in program.storage:
                storage[name] = program.storage[b]
        for n, cut in run.members:
            name = fresh(f"{program.kernels[n].name}_{number}", taken)
            taken.add(name)
            kernels.append(replace(part(program.kernels[n], cut, Slice(number, run.count, run.why), names), name=name))
    return replace(program, buffers=buffers, storage={b: s for b, s in storage.items() if b not in run.inner},
                   kernels=[*program.kernels[:run.first], *kernels, *program.kernels[run.end:]])
