"""Which schedules to measure, and which of them to take.

    search   batches of candidates, one for each kernel in every variant of the program, with the default and the best
             so far among them; what the rules propose first, then what is one step away from the best
    duel     the winners against the default in rounds of their own: those that won the search by luck lose here

A ratio is taken between times of the same round, since a shared machine changes its speed from one to the next.  A
candidate replaces the default where the whole interval of its median gain lies above 1 and a margin.  Nothing here
knows what a clock or a kernel is, so tests give both.
"""
from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import comb
from typing import Protocol

from jtc.compiler.tuning.measure import Measure, Times
from jtc.passes.kernel.choice import Choice
from jtc.passes.kernel.rules.common import Candidate

BATCH = 6               # variants that are measured together, besides the default
ROUNDS = 5              # of a batch
DUEL = (7, 8, 16)       # rounds of the last comparison; the next ones where it is not decided
MARGIN = 0.01           # a gain below is not worth another schedule
CONFIDENCE = 0.98       # of the interval of a median gain
FIRST = 18              # candidates of the rules for one stage
AROUND = 12             # neighbours of the best
STEPS = 8               # times that the search goes on from the best
SEARCH_SHARE = 0.75     # of the budget; the rest is for the duel


class Stage(Protocol):
    """The candidates of one stage (passes/kernel/candidates.py has it)."""

    default: Candidate

    def first(self, count: int) -> list[Candidate]: ...

    def around(self, best: Candidate, count: int) -> list[Candidate]: ...


Stages = tuple[Candidate | None, ...]


@dataclass
class Task:
    """A kernel to tune.

    best    the candidate of each stage that was best so far, None for the default; gain: over the default
    tried   how many schedules were measured
    """

    identity: str
    name: str
    stages: Sequence[Stage]
    best: Stages = ()
    gain: float = 1.0
    tried: int = 0
    _queue: list[Stages] = field(default_factory=list)
    _seen: set[Stages] = field(default_factory=set)
    _starts: dict[Stages, float] = field(default_factory=dict)      # measured, not searched around yet -> gain
    _alone: list[dict[Candidate | None, float]] = field(default_factory=list)       # of each stage -> gain with it
    _steps: int = 0

    def __post_init__(self) -> None:
        self.best = self.best or (None,) * len(self.stages)
        self._alone = [{None: 1.0} for _ in self.stages]
        self._seen.add(self.best)
        self._starts[self.best] = 1.0
        for position, stage in enumerate(self.stages):
            self._add(self.best, position, stage.first(FIRST))

    def _add(self, start: Stages, position: int, candidates: Sequence[Candidate | None]) -> None:
        for candidate in candidates:
            stages = (*start[:position], candidate, *start[position + 1:])
            if stages not in self._seen:
                self._seen.add(stages)
                self._queue.append(stages)

    def next(self) -> Stages | None:
        """What to measure next: when the queue is empty, what is around the best that was not searched around yet.

        None where nothing is left.
        """
        while not self._queue and self._starts and self._steps < STEPS:
            start = self.best if self.best in self._starts else max(self._starts, key=self._starts.__getitem__)
            del self._starts[start]
            self._steps += 1
            for position, stage in enumerate(self.stages):
                best = max(self._alone[position], key=self._alone[position].__getitem__)
                self._add(start, position, [best, *stage.around(start[position] or stage.default, AROUND)])
        return self._queue.pop(0) if self._queue else None

    @property
    def incumbent(self) -> Choice | None:
        """The best so far, where that is not the default."""
        return Choice(self.best, self.gain) if any(c is not None for c in self.best) else None

    def measured(self, default: Sequence[float], incumbent: Sequence[float],
                 found: Sequence[tuple[Stages, Sequence[float]]]) -> None:
        """Times of the same rounds: of the default, of the best so far, and of new ones, which may take its place."""
        self.tried += len(found)
        fastest, stages, times = 1.0, self.best, incumbent
        for candidate, seconds in found:
            self._starts[candidate] = statistics.median(ratios(default, seconds))
            if len(changed := [i for i, part in enumerate(candidate) if part is not None]) == 1:
                self._alone[changed[0]][candidate[changed[0]]] = self._starts[candidate]
            against = sorted(ratios(incumbent, seconds))
            gain = statistics.median(against)
            if gain > fastest and against[len(against) // 4] > 1:       # in all rounds but for a quarter
                fastest, stages, times = gain, candidate, seconds
        self.best, self.gain = stages, statistics.median(ratios(default, times))


@dataclass(frozen=True)
class Interval:
    """The median of a ratio, and where it lies with some confidence."""

    low: float
    median: float
    high: float

    @staticmethod
    def of(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
        """Between two of the sorted values, whatever their distribution is.

        Each of n values is above the median or below it like a coin, so the k-th from either end bounds it but for
        twice the chance of fewer than k heads (W. J. Conover, Practical Nonparametric Statistics, 3rd ed., 3.2).  With
        too few values the interval is that of all of them.
        """
        ordered, n = sorted(values), len(values)
        k, missed = 0, 1 / 2 ** n
        while k + 1 < (n + 1) // 2 and 2 * (missed + comb(n, k + 1) / 2 ** n) <= 1 - confidence:
            k += 1
            missed += comb(n, k) / 2 ** n
        return Interval(ordered[k], statistics.median(ordered), ordered[n - 1 - k])


@dataclass
class Search:
    """See the module's text.

    now, budget  the clock, and how long the search may take
    seconds      that one variant takes in one round, so that batches can be as large as the budget allows
    report       called with what is done and how much of the budget is spent (0 to 1)
    """

    tasks: list[Task]
    measure: Measure
    now: Callable[[], float]
    budget: float
    seconds: float = 0.0
    report: Callable[[str, float], None] = lambda what, share: None
    interrupted: bool = False

    def run(self) -> dict[str, Choice]:
        """Identity -> the schedules to take.  Ctrl-C ends the search, and what it found goes to the duel; a second one
        is raised."""
        start = self.now()
        try:
            self._search(start, start + self.budget * SEARCH_SHARE)
        except KeyboardInterrupt:
            self.interrupted = True
        return self._duel(start)

    def _search(self, start: float, end: float) -> None:
        slowest = 0.0
        fits = int((end - start) / (ROUNDS * self.seconds)) - 2 if self.seconds else BATCH
        while self.now() + slowest < end or not slowest:
            began = self.now()
            batch: list[dict[str, Stages]] = []
            for _ in range(min(max(fits, 1), BATCH)):
                if not (row := {t.identity: s for t in self.tasks if (s := t.next()) is not None}):
                    break
                batch.append(row)
            if not batch:
                return
            self.report("searching", (began - start) / self.budget)
            best = {t.identity: i for t in self.tasks if (i := t.incumbent)}
            variants = [{i: Choice(s) for i, s in row.items()} for row in batch]
            base, incumbent, *times = self.measure([{}, best, *variants], ROUNDS)
            self._record(base, incumbent, batch, times)
            slowest = max(slowest, self.now() - began)

    def _record(self, base: Times | None, incumbent: Times | None, batch: Sequence[dict[str, Stages]],
                times: Sequence[Times | None]) -> None:
        assert base is not None and incumbent is not None, "what was measured before cannot be measured again"
        for task in self.tasks:
            found = [(row[task.identity], t.kernels[task.identity]) for row, t in zip(batch, times)
                     if t is not None and task.identity in row]
            if found:
                task.measured(base.kernels[task.identity], incumbent.kernels[task.identity], found)

    def _duel(self, start: float) -> dict[str, Choice]:
        winners = {t.identity: i for t in self.tasks if (i := t.incumbent) and i.gain > 1 + MARGIN}
        if not winners:
            return {}
        taken: dict[str, Choice] = {}
        gains: dict[str, list[float]] = {identity: [] for identity in winners}
        total: list[float] = []
        for rounds in DUEL:
            self.report("comparing the best with the default", min(1.0, (self.now() - start) / self.budget))
            base, found = self.measure([{}, winners], rounds)
            if base is None or found is None:
                return {}               # the problem was told
            total += ratios(base.total, found.total)
            for identity, values in gains.items():
                values += ratios(base.kernels[identity], found.kernels[identity])
            sure = {identity: Interval.of(values) for identity, values in gains.items()}
            taken = {identity: Choice(winners[identity].stages, round(gain.median, 3))
                     for identity, gain in sure.items() if gain.low > 1 + MARGIN}
            if Interval.of(total).high < 1:
                taken = {}              # each faster, and all together slower: the kernels disturb each other
            close = any(gain.low <= 1 + MARGIN < gain.median for gain in sure.values())
            if not close or self.interrupted or self.now() - start > self.budget:
                break
        return taken


def ratios(longer: Sequence[float], shorter: Sequence[float]) -> list[float]:
    """How many times as fast the second is, round by round; 1 where it does not run at all."""
    return [a / b if b > 0 else 1.0 for a, b in zip(longer, shorter, strict=True)]

