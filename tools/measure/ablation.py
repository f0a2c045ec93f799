"""What each optimisation is worth: a model with one of them off at a time, all interleaved.

An optimisation is off through a knob that users have.  Every program computes what the model says, which is checked:
the outputs, or the first losses, are compared with those of the program that has everything on.
"""
from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jtc.dialects.errors import InternalError, UsageError, near
from jtc.runtime import knobs
from jtc.tools.measure.machine import Machine, Priority
from jtc.tools.measure.rounds import HOLD, Ratio, calls, interleave
from jtc.tools.measure.subject import Running, Subject
from jtc.tools.measure.tables import markdown

UNROLL = 2                  # training steps in one program
TOLERANCE = 1e-3            # of the largest value: what reordered float32 sums of deep networks may differ by
ON = "everything on"


@dataclass(frozen=True)
class Optimisation:
    """knobs: what switches it off; or on, where it is measured on top of another row.

    onto: the name of that row;  unrolled: whether several training steps are one program
    """

    name: str
    doc: str
    knobs: Mapping[str, Any] = field(default_factory=dict)
    onto: str = ""
    unrolled: bool = False


OPTIMISATIONS = (
    Optimisation("nothing", "the same program, compiled and started once more: what other rows have to differ from"),
    Optimisation("fusion", "every operation is a kernel of its own, but for movement and the products that are summed",
                 {"fusion": "none"}),
    Optimisation("fusion across reductions", "every reduction ends a kernel: softmax and norms are several",
                 {"fusion": "elementwise"}),
    Optimisation("chains of products", "attention is three kernels: products, and the softmax between them",
                 {"chains": "off"}),
    Optimisation("layout", "values between kernels lie in the order of their dimensions", {"layout": "off"}),
    Optimisation("packing", "contractions read their operands where they lie: no panels, no padded copies",
                 {"packing": False}),
    Optimisation("slices", "kernels that hand on a batch run one after the other", {"slices": "off"}),
    Optimisation("Winograd", "3 x 3 convolutions are sums of products as they were written", {"winograd": "off"}),
    Optimisation("algebra", "scales and shifts are not folded into weights, constants not taken out of sums",
                 {"strict": True}),
    Optimisation("sharing memory", "every value between kernels has memory of its own", {"reuse": False}),
    Optimisation("pool", "freed memory goes back to the system: every call gets new pages", {"pool_limit": 0}),
    Optimisation("threads", "one thread", {"threads": 1}),
    Optimisation("tuning", "default schedules also where tuning has found better ones", {"schedules": "default"}),
    Optimisation("steps as one program", f"against {UNROLL} training steps in one program", onto=ON, unrolled=True),
    Optimisation("updates with products", "against these steps with each update in the kernel of the next product of "
                 "its weight", {"carry": True}, "steps as one program", unrolled=True),
)


@dataclass
class Row:
    """One program: its seconds in every round (of one training step), launches, memory between kernels, and the
    largest difference of its outputs, as a share of the largest value."""

    name: str
    doc: str
    seconds: list[float]
    launches: int
    memory: int
    difference: float
    worth: Ratio | None = None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "worth": self.worth.to_json() if self.worth else None}


def applicable(training: bool, words: Sequence[str] = ()) -> list[Optimisation]:
    """Those that mean something here: threads where there are several, unrolled steps where there are steps.

    words: only those with one of them in their names, and what they are measured onto.  Raises UsageError where a word
    is in none.
    """
    here = [o for o in OPTIMISATIONS if (training or not o.unrolled)
            and (o.knobs != {"threads": 1} or knobs.get("threads") > 1)]
    for word in words:
        if not any(word in o.name for o in here):
            raise UsageError(f"no optimisation {word!r} can be switched off here",
                             hint=near(word, [o.name for o in here]))
    chosen = [o for o in here if not words or any(word in o.name for word in words)]
    return [o for o in here if o in chosen or any(o.name == c.onto for c in chosen)]


def ablate(subject: Subject, rounds: int, seconds: float, lock: str | None = None, hold: float = HOLD,
           progress: Callable[[str, int, int], None] = lambda step, done, total: None, words: Sequence[str] = ()
           ) -> list[Row]:
    """A row for the program with everything on, then one for each optimisation that `applicable` gives.

    Raises UsageError as that does, InternalError where a program with an optimisation off computes something else.
    """
    wanted, priority = applicable(subject.training, words), Priority()
    try:
        return _ablate(subject, wanted, priority, lambda runs: interleave(
            runs, rounds, seconds, lock, hold, lambda number: progress("measuring", number, rounds)), progress)
    finally:
        priority.restore()


def _ablate(subject: Subject, wanted: Sequence[Optimisation], priority: Priority,
            measure: Callable[[dict[str, Callable[[float], float]]], dict[str, list[float]]],
            progress: Callable[[str, int, int], None]) -> list[Row]:
    # Knobs that code depends on make a call look its program up in Python: all programs are called in this way.
    same = {"optimize": knobs.get("optimize")}
    programs: dict[str, tuple[Running, dict[str, Any]]] = {}
    for number, (name, off, unroll) in enumerate([(ON, {}, None), *((o.name, o.knobs, UNROLL if o.unrolled else None)
                                                                   for o in wanted)]):
        progress(f"compiling: {name}", number, len(wanted) + 1)
        with knobs.use(**same, **off):
            programs[name] = subject.start(unroll), {**same, **off}
    rows = {name: _row(name, running, programs[ON][0]) for name, (running, _) in programs.items()}
    times = measure({name: _timed(*program, priority) for name, program in programs.items()})
    for name, row in rows.items():
        row.seconds = times[name]
    for o in wanted:
        row = rows[o.name]
        row.doc = o.doc
        row.worth = Ratio.of(times[o.onto], times[o.name]) if o.onto else Ratio.of(times[o.name], times[ON])
    return list(rows.values())


def _timed(running: Running, off: Mapping[str, Any], priority: Priority) -> Callable[[float], float]:
    def slice_of(seconds: float) -> float:
        with knobs.use(**off), priority.timing():
            return statistics.median(calls(running.run, seconds)) / running.steps
    return slice_of


def _row(name: str, running: Running, base: Running) -> Row:
    worst = 0.0
    for got, want in zip(running.outputs, base.outputs, strict=True):
        if want.size:
            a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
            worst = max(worst, float(np.abs(a - b).max()) / max(float(np.abs(b).max()), 1e-30))
    if not worst <= TOLERANCE:
        raise InternalError(f"{running.module.name} without {name} computes something else: "
                            f"outputs differ by {worst:.1e} of the largest value")
    return Row(name, "", [], len(running.module.plan.launches), running.module.plan.memory, worst)


def text(subject: str, rows: list[Row], machine: Machine, rounds: int, seconds: float) -> str:
    """The table in Markdown."""
    base, *others = rows
    table: list[list[object]] = [[base.name, f"{statistics.median(base.seconds) * 1e3:.3g}", "", base.launches,
                                  f"{base.memory / 2**20:.3g}", ""]]
    table += [[r.name, f"{statistics.median(r.seconds) * 1e3:.3g}", r.worth, r.launches, f"{r.memory / 2**20:.3g}",
               f"{r.difference:.0e}"] for r in others]
    head = ["without", "ms", "times longer", "launches", "MiB between kernels", "outputs differ by"]
    notes = [f"* {r.name}: {r.doc}" for r in others]
    return "\n".join([
        f"{subject}: {machine}, {knobs.get('threads')} thread{'s' * (knobs.get('threads') != 1)}, medians of {rounds} "
        f"rounds of {seconds:g} s; times longer: paired by round, in brackets the middle half of the rounds.", "",
        markdown(head, table), "", *notes]) + "\n"


def report(subject: str, rows: list[Row], machine: Machine) -> dict[str, Any]:
    """All of it, for JSON."""
    return {"model": subject, "machine": machine.to_json(), "threads": knobs.get("threads"),
            "rows": [r.to_json() for r in rows]}
