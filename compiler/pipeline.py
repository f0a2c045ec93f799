"""Which passes run, in which order, and why there.

A pipeline is a list of passes; `run` runs one, verifies, reports times, and turns a crash into an InternalError with a
file that replays it.
"""
from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

from jtc.compiler import reproducer
from jtc.compiler.phases import PHASES, Settings
from jtc.dialects.errors import JtcError
from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Program
from jtc.passes.base import Pass, registry


@dataclass(frozen=True)
class Step:
    """A pass and the reason for its place.

    strict, quick  whether it also runs where the arithmetic is kept as written, where code is wanted soon
    """

    name: str
    why: str
    strict: bool = True
    quick: bool = True


GRAPH = (
    Step("graph-expand", "first, so that no later pass has to know the composite ops"),
    Step("graph-push-gather", "before simplifying what it takes apart"),
    Step("graph-canonicalize", "before folding: constant chains and double transposes hide scales from it"),
    Step("graph-factor-sums", "before folding, which puts such factors into weights", strict=False),
    Step("graph-canonicalize", "sums that differed in factors only are equal now", strict=False),
    Step("graph-join-products", "terms are plain sums of products; their factors stay apart", strict=False),
    Step("graph-fold-scale", "while convolutions and matmuls are still separate from their scales", strict=False),
    Step("graph-canonicalize", "folding leaves dead nodes, and constants to combine", strict=False),
    Step("graph-winograd", "after folding, which looks for convolutions as they were written", strict=False,
         quick=False),              # five kernels in the place of one
    Step("graph-canonicalize", "makes repetitions and sums plain again", strict=False, quick=False),
    Step("graph-fuse", "last on graphs: decides which values get a buffer, makes kernels"),
)
KERNEL = (
    Step("kernel-widen", "first, so that all others see what is computed and what only moves"),
    Step("kernel-turn-results", "what is stored in rows is a tensor of its own then, which the others see",
         quick=False),
    Step("kernel-join-window", "before slices, as its copies are cut like others; windows have axes of their own",
         strict=False, quick=False),
    Step("kernel-slice", "sees what kernels hand on; before axes of a batch merge with others", quick=False),
    Step("kernel-merge-axes", "before schedules, which choose tiles for the axes that are left"),
    Step("kernel-two-pass", "axes have their final sizes; before schedules, which are made for each part"),
    Step("kernel-schedule", "a default schedule for every stage; may split packing off as kernels of its own"),
    Step("kernel-inline-copies", "now that copies are known: values that are only computed to be copied"),
    Step("kernel-schedule", "again, for the copies that compute"),
    Step("kernel-update-in-place", "last: which kernel reads a value last is known when all copies are there"),
)


def graph_passes(settings: Settings) -> list[Pass]:
    """Graph -> Program: from meta-ops to fused kernels."""
    return make(_names(GRAPH, settings), settings)


def kernel_passes(settings: Settings) -> list[Pass]:
    """Program -> Program with schedules."""
    return make(_names(KERNEL, settings), settings)


def _names(steps: Sequence[Step], settings: Settings) -> list[str]:
    return [s.name for s in steps if (s.strict or not settings.strict) and (s.quick or not settings.quick)]


def make(names: Sequence[str], settings: Settings) -> list[Pass]:
    """Passes by name with their default options; a pass that has a field of the name of a setting gets the setting."""
    known, given = registry(), {f.name for f in fields(Settings)}
    passes = []
    for name in names:
        wanted = {f.name for f in fields(known[name])} & given
        passes.append(known[name](**{option: getattr(settings, option) for option in wanted}))
    return passes


def run(module: Graph | Program, passes: Sequence[Pass], settings: Settings) -> Graph | Program:
    """The module after all passes, verified.

    Raises what a pass raises for wrong input (PassError and other JtcError); any other exception, and IR that does not
    verify after a pass, becomes an InternalError with a reproducer file.  What the last pass leaves is verified; where
    that or a pass fails, all run once more, each verified, so that the first that broke a rule is named.
    """
    result = module
    for number, step in enumerate(passes, start=1):
        start = time.perf_counter()
        try:
            result = step.run(result)
            if settings.verify and number == len(passes):
                verify(result, settings)
        except Exception:
            break
        settings.watch("pass", step.name, time.perf_counter() - start, result)
    else:
        return result
    return _step_by_step(module, passes, settings)              # passes are functions: they fail again


def _step_by_step(module: Graph | Program, passes: Sequence[Pass], settings: Settings) -> Graph | Program:
    """What `run` gives or raises, with each pass verified."""
    for number, step in enumerate(passes):
        try:
            result = step.run(module)
            if settings.verify:
                verify(result, settings)
        except JtcError as error:
            if _refused(error, step):
                raise
            raise reproducer.report(module, passes[number:], settings, error, f"pass {step.name} failed") from error
        except Exception as error:
            raise reproducer.report(module, passes[number:], settings, error, f"pass {step.name} failed") from error
        module = result
    return module


def verify(module: Graph | Program, settings: Settings) -> None:
    """Run the verifier of the module's phase.  Raises VerifyError."""
    if isinstance(module, Graph):
        PHASES["graph"].verify(module, settings)
    else:
        PHASES["kernel"].verify(module, settings)
        if any(s.schedule for k in module.kernels for s in k.stages):
            PHASES["schedule"].verify(module, settings)


def _refused(error: JtcError, step: Pass) -> bool:
    """Whether a pass refused its input, rather than left broken IR behind or reported a bug of its own."""
    from jtc.compiler.verify import VerifyError
    return not isinstance(error, VerifyError) and error.exit_code != 70
