"""`kernel-inline-copies`: a copy of what one elementwise kernel makes is made by that kernel."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from jtc.dialects.dtypes import BOOL
from jtc.dialects.expr import Expr, cast, const, expr, rewrite, same_number
from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Access, Kernel, Program, Stage
from jtc.dialects.optable import SCALAR_FUNCTIONS
from jtc.dialects.reference_values import convert, literal, scalar
from jtc.passes.base import Pass, need_program
from jtc.passes.index_maps import NotAffine, is_injective, through_reshape
from jtc.passes.kernel.kernel_merge_axes import merge_axes
from jtc.passes.stages import substitute


@dataclass(frozen=True)
class KernelInlineCopies(Pass):
    """Compute a value where it is copied, if nothing else reads it: a scaled weight goes into its panels at once.

    t[i, k] = w[i, k] * s[i];  p[k, i] = t[i, k]   ->   p[k, i] = w[i, k] * s[i]

    Both kernels have one stage; the first one computes every element of the buffer between them once, without a
    reduction, and the second one reads each at most once.  The new stage has no schedule; the buffer and the kernel
    that made it are gone.
    """

    name: ClassVar[str] = "kernel-inline-copies"

    def run(self, module: Graph | Program) -> Program:
        program = need_program(module, self.name)
        stages = [s for k in program.kernels for s in k.stages]
        readers = Counter(a.buffer for s in stages for a in (*s.reads, *([s.write] if s.accumulate else [])))
        kernels = {k.name: k for k in program.kernels}
        makers = {b: k.name for k in program.kernels for b in k.written if b not in program.outputs}
        gone: set[str] = set()
        for kernel in program.kernels:
            source = _copied(kernel)
            if source not in makers or readers[source] > 1:
                continue
            maker = kernels[makers[source]]
            stage = _inlined(kernel.stages[0], maker)
            if stage is not None:
                reasons = (*kernel.reasons, *(r for r in maker.reasons if r[0] != source))
                kernels[kernel.name] = replace(kernel, stages=(stage,), reasons=reasons)
                del kernels[maker.name]
                gone.add(source)
        return replace(program, kernels=list(kernels.values()),
                       buffers={b: t for b, t in program.buffers.items() if b not in gone},
                       storage={b: s for b, s in program.storage.items() if b not in gone})


def _is_map(kernel: Kernel) -> bool:
    """Whether a kernel is one stage that computes each element of its result by itself, from places known ahead."""
    stage = kernel.stages[0]
    return len(kernel.stages) == 1 and stage.reduce is None and not any(a.gather for a in (*stage.reads, stage.write))


def _copied(kernel: Kernel) -> str:
    """The buffer that a kernel only moves or converts, each element to at most one place; "" for any other kernel."""
    stage = kernel.stages[0]
    value = stage.body.args[0] if stage.body.fn == "cast" else stage.body
    moves = _is_map(kernel) and len(stage.reads) == 1 and value.fn == "read"
    return stage.reads[0].buffer if moves and is_injective(stage.reads[0].index, stage.sizes) else ""


def _inlined(copy: Stage, maker: Kernel) -> Stage | None:
    """The copy with the maker's body at the place that it reads; None where that is not one stage."""
    made, read = maker.stages[0], copy.reads[0]
    places = [form.as_axis() for form, n in zip(made.write.index, made.write.shape) if n > 1]
    wide = [n for n in made.write.shape if n > 1]
    if not _is_map(maker) or made.write.guards or sorted(made.sizes) != sorted(map(str, places)) \
            or [made.sizes[str(a)] for a in places] != wide:
        return None
    try:
        index = through_reshape(read.index, read.shape, made.write.shape, copy.sizes)
    except NotAffine:
        return None
    moving = [form for form, n in zip(index, made.write.shape) if n > 1]
    made = substitute(made, dict(zip(map(str, places), moving, strict=True)))
    body = made.body
    if read.guards and not _fills(body, made.reads, read.fill):
        body = expr("where", (expr("inbounds", (), BOOL, read.guards), body, const(read.fill, read.dtype)), read.dtype)
    reads = tuple(replace(a, guards=tuple(dict.fromkeys((*a.guards, *read.guards)))) for a in made.reads)
    return merge_axes(replace(copy, name=made.name, reads=reads, body=cast(body, copy.body.dtype), ops=made.ops,
                              schedule=None, locs=tuple(dict.fromkeys(made.locs + copy.locs))), set())


def _fills(root: Expr, reads: tuple[Access, ...], fill: bool | int | float) -> bool:
    """Whether the expression is `fill` wherever every read gives its own."""
    def number(e: Expr) -> Expr | None:
        if e.fn == "read":
            return const(reads[e.attr].fill, e.dtype)
        if e.fn not in SCALAR_FUNCTIONS and e.fn != "cast" or any(a.fn != "const" for a in e.args):
            return None
        args = [literal(a.attr, a.dtype, False) for a in e.args]
        with np.errstate(all="ignore"):
            value = convert(args[0], e.dtype, False) if e.fn == "cast" else scalar(e.fn, args, e.dtype, False)
        return const(value.item(), e.dtype)

    found = rewrite(root, number)
    return found.fn == "const" and same_number(found.attr, fill)
