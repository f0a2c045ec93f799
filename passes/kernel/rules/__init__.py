"""The default schedules, one module per class of stage, and the choice between them."""
from __future__ import annotations

from jtc.dialects.kernel import Kernel, Program, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.kernel.rules import contraction, elementwise, reduction, scatter
from jtc.passes.kernel.rules.common import Candidate, View
from jtc.passes.kernel.schedule_pass import scalar_schedule


def classify(stage: Stage) -> str:
    """"scatter", "contraction", "reduction" or "elementwise": which rule schedules the stage."""
    if stage.accumulate:
        return "scatter"
    if stage.factors() is not None:
        return "contraction"
    return "reduction" if stage.reduce else "elementwise"


def candidates(stage: Stage, kernel: Kernel, program: Program, target: CpuTarget) -> list[Candidate]:
    """Schedules worth trying, cheapest first by the cost rule (cycles of one core); the last one is scalar code.

    Not every candidate need be legal: the caller takes the first that is.
    """
    view = View(stage, kernel, program, target)
    rule = {"scatter": scatter, "contraction": contraction, "reduction": reduction, "elementwise": elementwise}
    found = list(rule[classify(stage)].propose(view))
    found.sort(key=lambda c: c.cost)
    return [*found, Candidate(view.points * 4.0 * 16, scalar_schedule(stage))]
