"""`kernel-widen`: 16-bit floats are computed in float32."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from jtc.dialects.dtypes import F32
from jtc.dialects.expr import Expr, acc, cast, const, expr, read, walk
from jtc.dialects.graph import Graph, TensorType
from jtc.dialects.kernel import Access, Kernel, Local, Program, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.base import Pass, need_program
from jtc.passes.kernel.rounded_factors import rounded_factors
from jtc.passes.stages import map_accesses

MAX_LOCALS = 512 << 10      # bytes of local buffers as float32; larger ones stay narrow


@dataclass(frozen=True)
class KernelWiden(Pass):
    """Compute 16-bit floats in float32: add of bf16 -> casts to f32, add of f32, cast to bf16.

    strict  round the result of every function, not only what is stored
    target  the processor, which decides about factors of products (rounded_factors.py)

    Sums and products of many numbers are combined in float32, and local buffers hold float32 (not with `strict`).  A
    cast to a 16-bit float that was there before still rounds.  What only moves elements is left alone, and so is a
    scatter's combination with what its buffer holds.
    """

    name: ClassVar[str] = "kernel-widen"
    strict: bool = False
    target: CpuTarget = field(default_factory=CpuTarget)

    def run(self, module: Graph | Program) -> Program:
        program = need_program(module, self.name)
        return replace(program, kernels=[self._kernel(k) for k in program.kernels])

    def _kernel(self, kernel: Kernel) -> Kernel:
        halves = {b.name for b in kernel.locals if b.type.dtype.is_half}
        fits = sum(b.type.size * (4 if b.name in halves else b.type.dtype.bytes) for b in kernel.locals) <= MAX_LOCALS
        wide = frozenset(halves if fits and not self.strict else ())
        locals_ = tuple(Local(b.name, TensorType(F32, b.type.shape)) if b.name in wide else b for b in kernel.locals)
        widened = replace(kernel, stages=tuple(_Widen(s, wide, self.strict).stage() for s in kernel.stages),
                          locals=locals_)
        return widened if self.strict else rounded_factors(widened, self.target)


class _Widen:
    """One stage.  wide: local buffers that become float32."""

    def __init__(self, stage: Stage, wide: frozenset[str], strict: bool):
        self.old, self.wide, self.strict = stage, wide, strict
        self.narrowed: dict[Expr, Expr] = {}        # an expression -> the same value in its own type
        self.widened: dict[Expr, Expr] = {}         # one of 16 bits -> its value in float32

    def stage(self) -> Stage:
        old = self.old
        roots = [old.body, *old.tails]
        roots += [e for a in old.accesses for _, e in a.gather]
        if not any(e.dtype.is_half for root in roots for e in walk(root)):
            return old
        for root in roots:
            self._survey(root)
        write = self._result(old.write)
        new = map_accesses(old, self._access)
        new = replace(new, more=tuple(replace(r, value=self._result(was.write)(was.value))
                                      for r, was in zip(new.more, old.more)))
        if old.reduce is None or old.accumulate:
            return replace(new, body=write(old.body))
        body = self.widened.get(old.body, self.narrowed[old.body])
        epilogue = None
        if old.epilogue is not None:
            epilogue = write(old.epilogue)
        elif old.write.dtype.is_half and old.write.buffer not in self.wide:
            epilogue = cast(acc(F32), old.write.dtype)
        rescale = old.rescale
        if rescale is not None:
            rescale = self.widened.get(rescale, self.narrowed[rescale])
        return replace(new, body=body, epilogue=epilogue, rescale=rescale)

    def _access(self, access: Access) -> Access:
        dtype = F32 if access.buffer in self.wide else access.dtype
        return replace(access, dtype=dtype, gather=tuple((d, self.narrowed[e]) for d, e in access.gather))

    def _result(self, write: Access) -> Callable[[Expr], Expr]:
        """What gives the value to write, for the expression that is to be written."""
        return self.widened.__getitem__ if write.buffer in self.wide else self.narrowed.__getitem__

    def _survey(self, root: Expr) -> None:
        for e in walk(root):
            if e in self.narrowed:
                continue
            if e.dtype.is_half:
                self.widened[e], self.narrowed[e] = self._half(e)
            else:
                args = tuple(self.widened.get(a, self.narrowed[a]) for a in e.args)
                self.narrowed[e] = cast(args[0], e.dtype) if e.fn == "cast" else expr(e.fn, args, e.dtype, e.attr)

    def _half(self, e: Expr) -> tuple[Expr, Expr]:
        """(in float32, in its own type)."""
        if e.fn == "read":
            if self.old.reads[e.attr].buffer in self.wide:
                value = read(e.attr, F32)
                return value, cast(value, e.dtype)
            return cast(e, F32), e
        if e.fn == "const":
            return const(e.attr, F32), e
        if e.fn == "acc":
            return acc(F32), cast(acc(F32), e.dtype)
        if e.fn == "cast":
            x, = e.args
            narrow = cast(self.widened.get(x, self.narrowed[x]), e.dtype)
            return cast(narrow, F32), narrow
        if e.fn == "where":
            condition, *values = e.args
            test = self.narrowed[condition]
            wide = expr("where", (test, *(self.widened[v] for v in values)), F32)
            if all(self.narrowed[v].fn != "cast" for v in values):
                return wide, expr("where", (test, *(self.narrowed[v] for v in values)), e.dtype)
            return wide, cast(wide, e.dtype)
        wide = expr(e.fn, tuple(self.widened.get(a, self.narrowed[a]) for a in e.args), F32, e.attr)
        narrow = cast(wide, e.dtype)
        return (cast(narrow, F32) if self.strict else wide), narrow
