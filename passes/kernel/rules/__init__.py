"""The default schedules, one module per class of stage, and the choice between them."""
from __future__ import annotations

from collections.abc import Callable, Iterator

from jtc.dialects.kernel import Kernel, Program, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.kernel.packing import constant_buffers
from jtc.passes.kernel.rules import contraction, elementwise, reduction, scan, scatter
from jtc.passes.kernel.rules.common import Candidate, View, shortened
from jtc.passes.kernel.schedule_pass import scalar_schedule

# Class -> what its stages have, and the rule that schedules them.  A stage is of the first class that it fits.
RULES: dict[str, tuple[Callable[[Stage], bool], Callable[[View], Iterator[Candidate]]]] = {
    "scatter": (lambda stage: stage.accumulate, scatter.propose),
    "scan": (lambda stage: stage.scan, scan.propose),
    "contraction": (lambda stage: stage.factors() is not None, contraction.propose),
    "reduction": (lambda stage: stage.reduce is not None, reduction.propose),
    "elementwise": (lambda stage: True, elementwise.propose),
}


def classify(stage: Stage) -> str:
    """Name of the class in RULES."""
    return next(name for name, (fits, _) in RULES.items() if fits(stage))


def candidates(stage: Stage, kernel: Kernel, program: Program, target: CpuTarget, packing: bool = True,
               reduction_kind: str = "auto", constants: frozenset[str] | None = None,
               quick: bool = False, few: int = 0) -> list[Candidate]:
    """Schedules worth trying, cheapest first by the cost rule (cycles of one core); scalar code is the last one.

    packing: whether they may copy operands.  reduction_kind: one of reduction.KINDS, whose candidates come first where
    a reduction has such; or "auto".  constants: buffers known when weights are bound, where the caller has asked
    already.  quick: few, with little code.  few: how many of the first are wanted, others may be missing; 0: all.  Not
    every candidate need be legal: the caller takes the first that is.
    """
    constants = constant_buffers(program) if constants is None else constants
    view = View(stage, kernel, program, target, packing, reduction_kind, constants, quick, few if packing else 0)
    name = classify(stage)
    proposed = [c for c in RULES[name][1](view) if packing or not c.copies and not c.schedule.packs]
    found = [*sorted(proposed, key=lambda c: c.cost), Candidate(view.points * 4.0 * 16, scalar_schedule(stage))]
    if name == "reduction" and reduction_kind not in ("auto", "two_pass"):
        found.sort(key=lambda c: reduction.kind(stage, c.schedule) != reduction_kind)
    return [shortened(c) for c in found] if quick else found
