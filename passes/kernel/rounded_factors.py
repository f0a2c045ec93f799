"""Local buffers whose values a product takes rounded to 16-bit floats: the weights of attention.

    sum_j float32(bf16(e[i, j])) * float32(v[j, d])

Where a matrix unit multiplies such floats, e is held in that type: its values are rounded once, when they are written,
and products read what the unit multiplies.  Elsewhere products are computed in float32, and take e as it is.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from jtc.dialects.dtypes import F32, DType
from jtc.dialects.expr import Expr, cast, expr, read, reads_of
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import PAIR, Access, Kernel, Local, Stage
from jtc.dialects.target import CpuTarget
from jtc.passes.stages import map_accesses


def rounded_factors(kernel: Kernel, target: CpuTarget) -> Kernel:
    """The kernel, computed in float32, with these buffers as the processor multiplies them best."""
    held: dict[str, DType] = {}
    for local in kernel.locals:
        found = set(_uses(kernel, local.name)) if local.type.dtype is F32 else set()
        dtype = found.pop() if len(found) == 1 else None
        if dtype is not None and _in_blocks(kernel, local.name, dtype, target):
            held[local.name] = dtype
    own = {local.name for local in kernel.locals}
    stages = tuple(_stage(s, own, held) for s in kernel.stages)
    locals_ = tuple(Local(b.name, TensorType(held.get(b.name, b.type.dtype), b.type.shape)) for b in kernel.locals)
    return replace(kernel, stages=stages, locals=locals_)


def _rounded(factor: Expr) -> tuple[int, DType] | None:
    """(number, type) of a float32 read that is rounded to a type and back."""
    if factor.fn != "cast" or factor.dtype is not F32 or factor.args[0].fn != "cast":
        return None
    inner = factor.args[0]
    source = inner.args[0]
    return (source.attr, inner.dtype) if inner.dtype.is_half and source.fn == "read" and source.dtype is F32 else None


def _factors(stage: Stage) -> list[tuple[int, DType]]:
    """The rounded reads among the factors of a product."""
    if stage.reduce != "add" or stage.accumulate or stage.body.fn != "mul" or stage.body.dtype is not F32:
        return []
    return [found for a in stage.body.args if (found := _rounded(a)) is not None]


def _uses(kernel: Kernel, buffer: str) -> Iterator[DType | None]:
    """For each stage that reads a buffer, the type that it rounds it to; None where it also takes it as it is, and
    where the buffer is written as something else than the value of a body."""
    for stage in kernel.stages:
        numbers = [n for n, a in enumerate(stage.reads) if a.buffer == buffer]
        if not numbers:
            continue
        rounded = dict(_factors(stage))
        later = {n for tail in stage.tails for n in reads_of(tail)}
        alone = len(numbers) == 1 and numbers[0] in rounded and numbers[0] not in later
        yield rounded[numbers[0]] if alone else None
    for stage in kernel.stages:
        plain = [stage.keep] if stage.reduce is not None else [stage.write]
        if any(a.buffer == buffer and all(a is not p for p in plain) for a in stage.writes):
            yield None


def _in_blocks(kernel: Kernel, buffer: str, dtype: DType, target: CpuTarget) -> bool:
    """Whether a matrix unit multiplies what is in a buffer by another operand of its type."""
    unit = target.matrix(dtype)
    if unit is None:
        return False
    for stage in kernel.stages:
        for number, _ in _factors(stage):
            if stage.reads[number].buffer == buffer:
                others = [a for a in stage.body.args if number not in reads_of(a)]
                same = all(a.fn == "cast" and a.args[0].fn == "read" and a.args[0].dtype is dtype for a in others)
                summed = [a for a in stage.reductions if stage.reads[number].flat[a] == 1]
                if not same or not summed or stage.sizes[summed[0]] % (unit.pairs * PAIR):
                    return False
    return True


def _stage(stage: Stage, own: set[str], held: dict[str, DType]) -> Stage:
    """own: the kernel's local buffers;  held: the type of those that are rounded when they are written."""
    def access(a: Access) -> Access:
        return replace(a, dtype=held[a.buffer]) if a.buffer in held else a

    taken = {number: held.get(stage.reads[number].buffer, F32) for number, _ in _factors(stage)
             if stage.reads[number].buffer in own}

    def side(factor: Expr) -> Expr:
        found = _rounded(factor)
        return cast(read(found[0], taken[found[0]]), F32) if found is not None and found[0] in taken else factor

    new = map_accesses(stage, access)
    if taken:
        new = replace(new, body=expr("mul", tuple(map(side, stage.body.args)), F32))
    if stage.write.buffer in held:
        new = replace(new, body=cast(new.body, held[stage.write.buffer]))
    return new
