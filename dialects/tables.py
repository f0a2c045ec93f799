"""Small buffers that hold the same numbers in every run, whatever a program is given."""
from __future__ import annotations

from jtc.dialects.kernel import Program

TABLE_BYTES = 1 << 14       # of a buffer that is kept for good


def tables(program: Program) -> set[str]:
    """Buffers of at most TABLE_BYTES whose kernels read nothing, and which are no outputs: matrices of numbers.

    They are made once, when weights are bound.  Larger ones (positions, masks, random numbers) are made in every run:
    keeping them would cost memory for good where computing them is cheap.
    """
    others = {*program.inputs, *program.outputs, *program.constants}
    found: set[str] = set()
    for kernel in program.kernels:
        plain = not kernel.read and not any(s.accumulate for s in kernel.stages)
        if plain and all(program.buffers[b].bytes <= TABLE_BYTES for b in kernel.written):
            found.update(kernel.written)
        else:
            others.update(kernel.written)
    return found - others
