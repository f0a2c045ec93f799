"""`kernel-update-in-place`: new values of parameters and other state are written over the old ones."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Program
from jtc.passes.base import Pass, need_program
from jtc.passes.updates import Link, links, makers_of


@dataclass(frozen=True)
class KernelUpdateInPlace(Pass):
    """Write an update over what it replaces: w1 = w0 - g   ->   w1 = w0 - g {in_place = [["w1", "w0"]]}.

    reuse  whether values share memory at all

    For each pair in `Program.updates` whose new value is made of the old one element by element, by the last kernel
    that reads the old one; through the values in between, where the program holds several steps.  What the kernels'
    code has to take care of is said in `dialects/in_place.py`; memory is shared by `runtime/planner.py`, and at run
    time only where nobody else holds the old values.
    Assumes that kernels are in launch order and that no pass adds kernels after this one.
    """

    name: ClassVar[str] = "kernel-update-in-place"
    reuse: bool = True

    def run(self, module: Graph | Program) -> Program:
        program = need_program(module, self.name)
        if not self.reuse or not program.updates:
            return program
        kernels, makers = list(program.kernels), makers_of(program.kernels)
        last = {name: number for number, kernel in enumerate(kernels) for name in kernel.read}
        held = {*program.inputs, *program.outputs, *program.constants}
        taken: set[str] = set()                     # what is already written over

        def fits(link: Link) -> bool:
            free = link.old not in held or link.old == program.updates[new] and link.old not in program.outputs
            whole = kernels[link.kernel].slice is None
            return free and whole and link.old not in taken and last[link.old] == link.kernel \
                and program.buffers[link.old] == program.buffers[link.new]

        for new, old in program.updates.items():
            for link in links(kernels, makers, new, old, fits):
                taken.add(link.old)
                kernel = kernels[link.kernel]
                kernels[link.kernel] = replace(kernel, in_place=(*kernel.in_place, (link.new, link.old)))
        return replace(program, kernels=kernels)
