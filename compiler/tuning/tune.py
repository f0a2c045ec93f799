"""Tune a program: measure schedules of the kernels that its time goes to, and keep the best for every compilation."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from jtc.compiler.phases import Settings
from jtc.compiler.tuning import store
from jtc.compiler.tuning.measure import Bench, Measure, slice_seconds, unscheduled
from jtc.compiler.tuning.search import Search, Task
from jtc.dialects.errors import InternalError, JtcError
from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Program
from jtc.passes.kernel.candidates import Options

log = logging.getLogger("jtc")
SHARE = 0.005       # of the run's time: kernels below are not worth it
SHORTEST = 5e-6     # seconds: what takes less is timed too roughly
LOOK = 3            # rounds of the first look at where the time goes


@dataclass
class Row:
    """One kernel of the report: its share of the run's time, what it took, what became of it.

    gain  how many times as fast it is now; 1 where the default stays
    known whether it had been tuned before
    """

    name: str
    share: float
    seconds: float
    tried: int
    gain: float
    known: bool = False


@dataclass
class Tuning:
    """What came of it: kernels, the longest first; seconds: of one run, with the default schedules."""

    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False


Clock = Callable[[], float]


def tune(program: Graph | Program, phase: str, settings: Settings, budget: float,
         progress: Callable[[str, int, int], None] = lambda step, done, total: None, *, again: bool = False,
         now: Clock = time.perf_counter, measure: Callable[[Bench], Measure] = lambda bench: bench) -> Tuning:
    """Measure schedules of a program for `budget` seconds and keep what is faster than the default.

    phase     of the program: graph or kernel
    again     also kernels that were tuned before
    measure   what takes the times, in place of the bench
    Ctrl-C ends the search: what was found until then is compared with the default and kept, and `interrupted` says so.
    Raises UsageError where nothing can be kept, KeyboardInterrupt where Ctrl-C comes again, what compilation raises.
    """
    kept = store.stored(settings.target)
    if kept.cache.mode != "on":
        raise store.unkept()
    progress("preparing", 0, 0)
    plain = _plain(settings)
    bench = Bench(unscheduled(program, phase, plain), plain, _warn)
    timed = measure(bench)
    base, = timed([{}], LOOK)
    if base is None:
        raise InternalError(f"{bench.program.name}: the default schedules cannot be measured")
    total = _median(base.total)
    tasks: list[Task] = []
    result = Tuning([], total)
    for identity, name in {i: n for n, i in reversed(bench.identities.items())}.items():
        seconds = _median(base.kernels[identity])
        if seconds < max(SHARE * total, SHORTEST):
            continue
        if identity in kept.tuned and not again:
            found = kept.tuned[identity]
            gain = found.choice.gain if found.choice else 1.0
            result.rows.append(Row(name, seconds / total, seconds / gain, found.tried, gain, known=True))
            continue
        kernel = next(k for k in bench.program.kernels if k.name == name)
        if all(s.schedule is None for s in kernel.stages):
            tasks.append(Task(identity, name, [Options(s, kernel, bench.program, plain.target, plain.strict)
                                               for s in kernel.stages]))
    search = Search(tasks, timed, now, budget, slice_seconds(total),
                    lambda what, share: progress(what, round(100 * share), 100))
    choices = search.run() if tasks else {}
    if choices and timed is bench and not bench.agree({}, choices):
        log.warning("%s: with the fastest schedules results differ by more than rounding; the default ones stay",
                    bench.program.name)
        choices = {}
    found_now = {t.identity: store.Tuned(t.name, bench.program.name, t.tried, choices.get(t.identity))
                 for t in tasks if t.tried}
    if found_now and not kept.keep(found_now):
        raise store.unkept()
    for t in tasks:
        gain = choices[t.identity].gain if t.identity in choices else 1.0
        seconds = _median(base.kernels[t.identity])
        result.rows.append(Row(t.name, seconds / total, seconds / gain, t.tried, gain))
    result.rows.sort(key=lambda row: -row.share)
    result.interrupted = search.interrupted
    log.info("tuned %s: %d of %d kernels are faster", bench.program.name, len(choices), len(tasks))
    return result


def _plain(settings: Settings) -> Settings:
    return replace(settings, tuned={}, watch=lambda kind, name, seconds, value: None)


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _warn(error: JtcError) -> None:
    log.warning("a schedule could not be measured: %s", error)
