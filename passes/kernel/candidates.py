"""The candidates of a stage that are worth measuring: legal ones, the cheapest of every kind first."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from jtc.dialects.kernel import Kernel, Program, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.base import PassError
from jtc.passes.kernel.kernel_schedule import apply
from jtc.passes.kernel.neighbours import neighbours
from jtc.passes.kernel.packing import constant_buffers
from jtc.passes.kernel.rules import candidates
from jtc.passes.kernel.rules.common import Candidate, View
from jtc.passes.kernel.rules.contraction_estimate import estimate
from jtc.passes.kernel.sums import same_result

WORST = 3.0         # times the cheapest: what the cost model puts further behind is not measured


class Options:
    """One stage and its candidates.

    default  what the rule gives it
    strict   whether only candidates are offered that give the default's result bit for bit
    """

    def __init__(self, stage: Stage, kernel: Kernel, program: Program, target: CpuTarget, strict: bool = False):
        self.stage, self.kernel, self.program, self.target, self.strict = stage, kernel, program, target, strict
        constants = constant_buffers(program)
        self.ranked = candidates(stage, kernel, program, target, constants=constants)
        self.default = next(c for c in self.ranked if self._is_legal(c))
        self._view = View(stage, kernel, program, target, constants=constants)

    def first(self, count: int) -> list[Candidate]:
        """Of what the rules propose: half of them the cheapest of their kind, which is how operands are read and which
        axes are in the register tile; then the cheapest of all."""
        near = [c for c in self.ranked if c.cost <= WORST * self.ranked[0].cost]
        kinds = {_kind(c): c for c in reversed(near)}.values()
        ordered = [*sorted(kinds, key=lambda c: c.cost)[:count // 2 + 1], *near]
        return self._taken(ordered, count)

    def around(self, best: Candidate, count: int) -> list[Candidate]:
        """The cheapest candidates that are one step away from the best one found so far."""
        found = [self._estimated(c) for c in neighbours(best, self.stage, self.kernel, self.target)]
        return self._taken(sorted(found, key=lambda c: c.cost), count)

    def _estimated(self, candidate: Candidate) -> Candidate:
        cost = estimate(self._view, candidate)
        return candidate if cost is None else replace(candidate, cost=cost)

    def _taken(self, found: Iterable[Candidate], count: int) -> list[Candidate]:
        """The first `count` that may be tried, each schedule once, without the default one."""
        taken: list[Candidate] = []
        for candidate in _once(found, self.default):
            if len(taken) == count:
                break
            allowed = not self.strict or same_result(self.stage, self.kernel, candidate, self.default)
            if allowed and self._is_legal(candidate):
                taken.append(candidate)
        return taken

    def _is_legal(self, candidate: Candidate) -> bool:
        try:
            apply(candidate, self.program, self.kernel, self.stage, self.target)
        except PassError:
            return False
        return True


def _kind(candidate: Candidate) -> tuple[object, ...]:
    schedule = candidate.schedule
    tile = frozenset(a for a, step in dict(schedule.loops).items() if step > 1)
    return (schedule.vector, tile, tuple(p.read for p in schedule.packs), tuple(c.read for c in candidate.copies),
            len(schedule.loops))


def _once(found: Iterable[Candidate], default: Candidate) -> Iterator[Candidate]:
    seen = {(default.schedule, default.copies)}
    for candidate in found:
        key = (candidate.schedule, candidate.copies)
        if key not in seen:
            seen.add(key)
            yield candidate
