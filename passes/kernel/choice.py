"""Schedules that were chosen for a kernel by measuring it, and how the kernel is recognised again."""
from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from jtc.dialects.kernel import Kernel, Program
from jtc.dialects.text import program_text
from jtc.passes.canonical import canonical, on_parts
from jtc.passes.kernel.packing import constant_buffers
from jtc.passes.kernel.rules.common import Candidate


@dataclass(frozen=True)
class Choice:
    """stages: for each stage a candidate, None for what the rules give it.

    gain: how many times as fast as under the default schedules the kernel was, with the copies that these want
    """

    stages: tuple[Candidate | None, ...]
    gain: float = 1.0

    def candidate(self, position: int) -> Candidate | None:
        """The candidate of one stage, with the gain in its schedule."""
        found = self.stages[position]
        return None if found is None else replace(found, schedule=replace(found.schedule, gain=self.gain))


def identity(kernel: Kernel, program: Program) -> str:
    """A hash of all that the schedule of a kernel without one depends on, besides the processor.

    Its canonical form, the types of its buffers, and which of these are constant, so that copies of them cost nothing.
    """
    inner, parts = on_parts(kernel)
    form, names = canonical(inner)
    buffers = {new: parts[old].type if old in parts else program.buffers[old] for old, new in names.items()}
    constant = constant_buffers(program)
    alone = Program("kernel", [names[n] for n in kernel.operands if n not in kernel.written and n not in constant],
                    [names[n] for n in kernel.written], buffers, [form],
                    {new: None for old, new in names.items() if old in constant and old not in kernel.written})
    return hashlib.sha256(program_text(alone, locations=False).encode()).hexdigest()[:24]
