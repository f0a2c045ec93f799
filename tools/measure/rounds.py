"""Measuring several things against each other: rounds in rotating order, ratios of the same round.

A machine that is shared changes its speed from minute to minute.  Every round times everything, so that what disturbs
disturbs all; a ratio is taken within a round, and the median and the spread are those over rounds.
"""
from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from jtc.tools.measure.machine import alone

LONG = 4.0              # a call that takes so many slices needs no other to warm up
HOLD = 45.0             # seconds after which a lock is let go between rounds
T = TypeVar("T")


@dataclass(frozen=True)
class Ratio:
    """How many times longer one thing takes than another: the median over rounds, and the middle half of them."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(longer: Sequence[float], shorter: Sequence[float]) -> Ratio:
        """From the seconds of two things in the same rounds."""
        return Ratio.spread([a / b for a, b in zip(longer, shorter)])

    @staticmethod
    def spread(values: Sequence[float]) -> Ratio:
        if len(values) < 2:
            return Ratio(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return Ratio(median, low, high)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def rotating(names: Sequence[str], rounds: int) -> Iterator[Sequence[str]]:
    """The names once a round, each round beginning with another one."""
    for number in range(rounds):
        first = number % len(names) if names else 0
        yield [*names[first:], *names[:first]]


def locked(items: Iterable[T], lock: str | None, hold: float = HOLD) -> Iterator[T]:
    """The items, each given while a file is locked, which is let go between two of them every `hold` seconds."""
    left = deque(items)
    while left:
        with alone(lock):
            end = time.monotonic() + hold
            while left and time.monotonic() < end:
                yield left.popleft()


def calls(run: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call that fits into a slice of time, at least one, after one to warm up."""
    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    if first > LONG * seconds:
        return [first]
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def interleave(runs: Mapping[str, Callable[[float], float]], rounds: int, seconds: float,
               lock: str | None = None, hold: float = HOLD, done: Callable[[int], None] = lambda number: None
               ) -> dict[str, list[float]]:
    """Name -> its seconds in every round.

    runs  name -> function that measures it for a slice of `seconds`, and gives seconds
    lock  a file to lock meanwhile, see `locked`;  done: called with the number of rounds that are over
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number, order in enumerate(locked(rotating(list(runs), rounds), lock, hold), start=1):
        for name in order:
            times[name].append(runs[name](seconds))
        done(number)
    return times
