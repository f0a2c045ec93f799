"""`kernel-schedule`: the default schedule of every stage."""
from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import starmap
from typing import ClassVar

from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Kernel, Program, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.base import Each, Pass, PassError, need_program
from jtc.passes.canonical import canonical, on_parts
from jtc.passes.kernel import legality
from jtc.passes.kernel.choice import Choice, identity
from jtc.passes.kernel.fetching import with_fetches
from jtc.passes.kernel.packing import constant_buffers, hoist
from jtc.passes.kernel.rules import candidates, classify
from jtc.passes.kernel.rules.common import Candidate
from jtc.passes.kernel.rules.reduction import check_kind

SHORTLIST = 8           # candidates that a worker looks for and sends back: the first is legal nearly always


@dataclass(frozen=True)
class KernelSchedule(Pass):
    """Give each stage without a schedule its default one, and put the copy kernels that it wants before its kernel.

    target   the processor: lanes, registers, caches, threads
    packing  whether schedules may copy operands into panels and padded boxes
    reduction  the kind that reductions take where they can: serial, vector, tree or column; auto: what suits each
    tuned    identity of a kernel (see choice.py) -> schedules that were measured to be better than the default ones
    quick    whether little code counts more than fast code: few candidates are looked at, none that was measured
    each     how the contractions of a program are looked at, which takes most of the time; None: in turn
    Rules by class of stage are in passes/kernel/rules.  Guarantees that every schedule is legal.  Stages that have a
    schedule keep it, so a hand-written one survives.
    """

    name: ClassVar[str] = "kernel-schedule"
    target: CpuTarget = field(default_factory=CpuTarget)
    packing: bool = True
    reduction: str = "auto"
    tuned: Mapping[str, Choice] = field(default_factory=dict)
    quick: bool = False
    each: Each | None = field(default=None, compare=False, repr=False)

    def run(self, module: Graph | Program) -> Program:
        check_kind(self.reduction, self.name)
        program = need_program(module, self.name)
        known = self._look_ahead(program, constant_buffers(program))
        program = self._schedule_all(program, known)
        return self._schedule_all(program, known)       # the copies that were put before kernels

    def _look_ahead(self, program: Program, constant: frozenset[str]) -> Known:
        """Look for the candidates of all contractions, before any kernel's copies stand in front of others."""
        known = Known(constant)
        wanted: dict[tuple, tuple[Stage, Kernel]] = {}
        for kernel in program.kernels:
            if self._chosen(program, kernel) is None:
                for stage in kernel.stages:
                    if stage.schedule is None and classify(stage) == "contraction":
                        wanted.setdefault(known.key(kernel, stage), (stage, kernel))
        calls = [(stage, kernel, _surroundings(program, stage), self.target, self.packing, self.reduction,
                  constant.intersection(kernel.operands), self.quick) for stage, kernel in wanted.values()]
        found = self.each(_shortlist, calls) if self.each else starmap(_shortlist, calls)
        known.wanted, known.coming = wanted.keys(), zip(wanted, found)
        return known

    def _schedule_all(self, program: Program, known: Known) -> Program:
        at, seen = 0, {k.name for k in program.kernels}
        while at < len(program.kernels):
            kernel = program.kernels[at]
            chosen = self._chosen(program, kernel)
            missing = [n for n, stage in enumerate(kernel.stages) if stage.schedule is None]
            for position in missing:
                before = len(program.kernels)
                program = schedule_stage(program, kernel, kernel.stages[position], self.target, known, self.packing,
                                         chosen.candidate(position) if chosen else None, self.reduction, self.quick)
                copies = [k for k in program.kernels if k.name not in seen] if len(program.kernels) > before else []
                seen.update(k.name for k in copies)
                known.constant |= {b for k in copies if known.constant.issuperset(k.read) for b in k.written}
                at += len(copies)               # were put before the kernel
                kernel = program.kernels[at]
            if kernel.shared and missing and not self.quick:
                program = _replaced(program, kernel, with_fetches(kernel, self.target))
            at += 1
        return program

    def _chosen(self, program: Program, kernel: Kernel) -> Choice | None:
        """What was measured for a kernel, none of whose stages has a schedule."""
        asked = self.quick or not self.packing or self.reduction != "auto"
        if asked or not self.tuned or any(s.schedule for s in kernel.stages):
            return None
        return self.tuned.get(identity(kernel, program))


@dataclass
class Known:
    """What was found out about a program.

    constant    buffers known when weights are bound
    candidates  what a rule sees of a kernel and which of its stages -> the candidates, or the first of many; equal
                kernels, as the steps of a loop, have the same
    coming      those of `wanted` that are still being looked for, in the order of the kernels
    """

    constant: frozenset[str]
    candidates: dict[tuple, list[Candidate]] = field(default_factory=dict)
    wanted: Collection[tuple] = ()
    coming: Iterator[tuple[tuple, list[Candidate]]] = iter(())

    def has(self, key: tuple) -> bool:
        """Whether candidates are known, when those that are being looked for have come."""
        while key in self.wanted and key not in self.candidates:
            self.candidates.update([next(self.coming)])
        return key in self.candidates

    def key(self, kernel: Kernel, stage: Stage) -> tuple:
        """What the candidates of a stage depend on."""
        form, names = canonical(on_parts(kernel)[0])
        return form, kernel.stages.index(stage), stage.write.size, *(name in self.constant for name in names)


def _shortlist(stage: Stage, kernel: Kernel, program: Program, target: CpuTarget, packing: bool, reduction: str,
               constants: frozenset[str], quick: bool) -> list[Candidate]:
    """The cheapest candidates of a stage."""
    return candidates(stage, kernel, program, target, packing, reduction, constants, quick, SHORTLIST)[:SHORTLIST]


def _surroundings(program: Program, stage: Stage) -> Program:
    """The kernels that read what a contraction multiplies, without values: what its rule sees of a program."""
    read = {stage.reads[number].buffer for number in stage.factors() or ()}
    kernels = [k for k in program.kernels if read & set(k.read)]
    return Program(program.name, [], [], {}, kernels)


def schedule_stage(program: Program, kernel: Kernel, stage: Stage, target: CpuTarget, known: Known,
                   packing: bool = True, tuned: Candidate | None = None, reduction: str = "auto",
                   quick: bool = False) -> Program:
    """The program with the cheapest legal candidate applied to one stage.

    known: found before; added to.  tuned: the candidate to take instead.  Raises PassError where that is not legal.
    """
    if tuned is not None:
        try:
            return apply(tuned, program, kernel, stage, target)
        except PassError as error:
            raise PassError(f"the tuned {error.message}", error.location,
                            "tune again (jtc tune MODEL --again), or set JTC_SCHEDULES=default") from None
    key = known.key(kernel, stage)
    for all_of_them in (False, True):           # where no candidate of a shortlist is legal
        if all_of_them or not known.has(key):
            known.candidates[key] = candidates(stage, kernel, program, target, packing, reduction,
                                               known.constant, quick)
        for candidate in known.candidates[key]:
            try:
                return apply(candidate, program, kernel, stage, target)
            except PassError:
                continue        # the rule proposes freely; legality decides
    raise PassError(f"kernel-schedule: no legal schedule for stage {stage.name} of {kernel.name}")


def apply(candidate: Candidate, program: Program, kernel: Kernel, stage: Stage, target: CpuTarget) -> Program:
    """The program with a candidate's schedule and copies; raises PassError where they are not legal."""
    scheduled = replace(stage, schedule=candidate.schedule)
    new_kernel = replace(kernel, stages=tuple(scheduled if s is stage else s for s in kernel.stages))
    program = _replaced(program, kernel, new_kernel)
    for copy in candidate.copies:
        program, new_kernel, scheduled = hoist(program, new_kernel, scheduled, copy.read, copy.order, copy.pad)
    legality.check(scheduled, new_kernel, program, target)
    return program


def _replaced(program: Program, old: Kernel, new: Kernel) -> Program:
    return replace(program, kernels=[new if k is old else k for k in program.kernels])
