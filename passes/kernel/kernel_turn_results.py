"""`kernel-turn-results`: sums are stored in rows, and a kernel of its own turns them and finishes them."""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import ClassVar

from jtc.dialects.affine import Affine
from jtc.dialects.expr import Expr, read, rewrite, walk
from jtc.dialects.graph import Graph, TensorType
from jtc.dialects.kernel import PARALLEL, Access, Kernel, Program, Stage
from jtc.dialects.optable import SCALAR_FUNCTIONS
from jtc.dialects.target import CpuTarget
from jtc.passes.base import Pass, need_program
from jtc.passes.kernel.packing import fresh
from jtc.passes.kernel.rules.common import set_share
from jtc.passes.stages import only_needed

FEW = 4096              # results that are not worth a second kernel
VECTORS = 2             # of a register tile, along its lanes


@dataclass(frozen=True)
class KernelTurnResults(Pass):
    """Let sums be stored in rows along the axis of the lanes, and another kernel turn and finish them.

    w[k, c, u, v] -= rate * sum_p y[p, k] * x[p, c, u, v]
        ->  w_rows[c, u, v, k] = sum_p y[p, k] * x[p, c, u, v];  w[k, c, u, v] -= rate * w_rows[c, u, v, k]

    The lanes of a gradient of weights lie along channels, and its neighbours in memory are places of a small window:
    nothing can be stored in rows, and of each tensor that the end of the stage reads or writes a cache line is touched
    for every element.  A transposing kernel takes whole lines of all of them.  With a matrix unit that always pays,
    with vectors where these lines fall into so few sets of the second-level cache that they are gone before the next
    tile takes the elements beside.

    target  the processor

    Sums wait in the type in which they were added up, so results stay the same.  Assumes kernels without schedules.
    """

    name: ClassVar[str] = "kernel-turn-results"
    target: CpuTarget = field(default_factory=CpuTarget)

    def run(self, module: Graph | Program) -> Program:
        program = need_program(module, self.name)
        for kernel in program.kernels:
            axis = _lanes(kernel.stages[0], self.target) if len(kernel.stages) == 1 and not kernel.shared else None
            if axis is not None:
                program = _turned(program, kernel, axis)
        return program


def _lanes(stage: Stage, target: CpuTarget) -> str | None:
    """The axis to store rows along; None where they can be stored in the order of the results, or as they are, or
    where only one tensor is touched at the end."""
    factors, sizes, write = stage.factors(), stage.sizes, stage.write
    if factors is None or stage.schedule is not None \
            or stage.reads[factors[0]].dtype is not stage.reads[factors[1]].dtype:
        return None
    if stage.scan or stage.keep is not None or stage.before is not None or stage.rescale is not None \
            or write.guards or write.gather or prod(sizes[a] for a in stage.parallel) < FEW:
        return None
    forms = [form.as_axis() for form in write.index if form.axes]
    written = [write, *(r.write for r in stage.more)]
    read = [a for a in stage.reads if a.flat.axes >= write.flat.axes]
    if sorted(a or "" for a in forms) != sorted(stage.parallel) or len(written) + len(read) < 2:
        return None
    lanes = target.lanes(stage.body.dtype)
    long = [a for a in stage.parallel if sizes[a] >= lanes]
    if any(write.flat[a] == 1 for a in long):
        return None
    still = [stage.reads[i] for i in factors if all(len(form.axes) < 2 for form in stage.reads[i].index)]
    axis = max((a for a in long if any(a in factor.axes for factor in still)), key=lambda a: sizes[a], default=None)
    if axis is None or target.matrix(stage.reads[factors[0]].dtype) is not None:
        return axis
    rows = VECTORS * lanes          # what is read and what is written may be the same memory
    return axis if any(_crowd(ends, axis, rows, target) for ends in (read, written)) else None


def _crowd(ends: list[Access], axis: str, rows: int, target: CpuTarget) -> bool:
    """Whether as many bytes of the second-level cache as stay there are taken up, or out of use, by the lines that so
    many elements along the axis lie in."""
    touched = sum(rows * set_share(target, [abs(a.flat[axis]) * a.dtype.bytes]) for a in ends)
    return min(touched, sum(a.size * a.dtype.bytes for a in ends)) >= target.l2 * target.core.kept


def _turned(program: Program, kernel: Kernel, axis: str) -> Program:
    """The program with a kernel of the sums, in rows along `axis`, before the one that finishes them."""
    stage, = kernel.stages
    taken, dtype = {k.name for k in program.kernels}, stage.body.dtype
    outer = [a for form in stage.write.index if (a := form.as_axis()) and a != axis]
    name = fresh(f"{stage.write.buffer}_rows", program.buffers)
    shape = tuple(stage.sizes[a] for a in (*outer, axis))
    rows = Access(name, dtype, shape, tuple(Affine.axis(a) for a in (*outer, axis)))
    sums = only_needed(replace(stage, write=rows, epilogue=None, more=()))

    def finished(root: Expr) -> Expr:
        return rewrite(root, lambda e: read(len(stage.reads), dtype) if e.fn == "acc" else None)

    body = finished(stage.epilogue) if stage.epilogue is not None else read(len(stage.reads), dtype)
    ends = only_needed(replace(
        stage, axes=tuple(a for a in stage.axes if a.kind == PARALLEL), reads=(*stage.reads, rows), reduce=None,
        body=body, epilogue=None, more=tuple(replace(r, value=finished(r.value)) for r in stage.more),
        ops=tuple(e.fn for end in stage.ends for e in walk(end) if e.fn in SCALAR_FUNCTIONS)))
    reason = f"in rows along the lanes; they are turned in {kernel.name}"
    first = replace(kernel, name=fresh(f"{kernel.name}_rows", taken), stages=(sums,), reasons=((name, reason),))
    place = program.kernels.index(kernel)
    return replace(program, buffers={**program.buffers, name: TensorType(dtype, shape)}, kernels=[
        *program.kernels[:place], first, replace(kernel, stages=(ends,)), *program.kernels[place + 1:]])
