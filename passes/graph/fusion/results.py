"""Before grouping: what is computed element by element from a result, and lasts, is one more result of its stage.

    m1[i, j] = 0.9 * m0[i, j] + sum of x[k, i] * y[k, j];   w1[i, j] = w0[i, j] - 0.1 * m1[i, j]

is one stage with two results: m1 is still in registers when w1 is computed.  So the state of an optimiser and the
parameter are updated by the kernel that computes the gradient.

Only for results that last, which are outputs of the program or such for one of its steps: others would have to live
from where their operand is made, not from where they are needed.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jtc.dialects.affine import Affine
from jtc.dialects.expr import Expr, acc, read, reads_of, rewrite
from jtc.dialects.kernel import Access, Result, Stage
from jtc.passes.graph.fusion.plan import MAX_LEAVES
from jtc.passes.graph.fusion.sharing import MAX_OPS, in_view
from jtc.passes.graph.fusion.units import Unit, Units
from jtc.passes.stages import map_expressions, substitute


def join_results(units: Sequence[Unit], lasting: set[str], outputs: set[str]) -> list[Unit]:
    """The units with stages joined.  lasting: buffers whose values last; outputs: buffers that are read outside."""
    held = Units(units)
    for n in range(len(units)):
        held.enter(n)
        for p in held.producers(n):
            one, two = held.units[p], held.units[n]
            if any(len(u.stages) != 1 or u.apart for u in (one, two)) or one.fixed != two.fixed \
                    or not set(two.written) <= lasting or held.between(p, n):
                continue
            joined = _joined(one.stages[0], two.stages[0])
            if joined is not None:
                unread = {b for b in one.written if b not in outputs and held.readers.get(b, set()) <= {p, n}}
                held.merge(p, n, Unit([_without(joined, unread)], two.fixed, one.refused + two.refused))
    return held.in_order()


def _joined(maker: Stage, stage: Stage) -> Stage | None:
    """`maker` with the results of `stage`; None where these are not computed from its results alone, or elsewhere."""
    if maker.accumulate or maker.scan or stage.reduce is not None or stage.accumulate:
        return None
    if len(maker.ops) + len(stage.ops) > MAX_OPS or any(a.guards or a.gather for a in (*maker.writes, *stage.writes)):
        return None
    values = _values(maker)
    made = {a.buffer: a for a in maker.writes}
    names: dict[str, str] = {}
    for access in stage.reads:
        if access.buffer in made and not _matched(made[access.buffer], access, maker, stage, names):
            return None
    if names.keys() != stage.sizes.keys() or sorted(names.values()) != sorted(maker.parallel):
        return None
    moved = substitute(stage, {old: Affine.axis(new) for old, new in names.items()})
    if not _same_walk(moved, maker.write):
        return None
    reads = list(maker.reads)
    numbers: dict[int, Expr] = {}
    for number, access in enumerate(moved.reads):
        if access.buffer in values:
            numbers[number] = values[access.buffer]
        else:
            if access not in reads:
                reads.append(access)
            numbers[number] = read(reads.index(access), access.dtype)
    if len(reads) > MAX_LEAVES or any(stage.reads[m].buffer in values
                                      for a in stage.reads for _, e in a.gather for m in reads_of(e)):
        return None
    moved = map_expressions(replace(moved, reads=()), lambda root: rewrite(
        root, lambda e: numbers[e.attr] if e.fn == "read" else None))
    return replace(maker, reads=tuple(reads), more=(*maker.more, Result(moved.write, moved.body), *moved.more),
                   locs=tuple(dict.fromkeys(maker.locs + stage.locs)), ops=maker.ops + stage.ops)


def _values(stage: Stage) -> dict[str, Expr]:
    """Buffer -> the value that the stage writes into it at a point."""
    finished = stage.body if stage.reduce is None else acc(stage.body.dtype)
    return {stage.write.buffer: stage.epilogue or finished, **{r.write.buffer: r.value for r in stage.more}}


def _matched(write: Access, access: Access, maker: Stage, stage: Stage, names: dict[str, str]) -> bool:
    """Whether a point reads what one point of `maker` writes; adds the axis of `maker` for each axis of `stage`."""
    seen = in_view(access, write.shape, stage.sizes)
    if seen is None or seen.gather:
        return False
    for here, there in zip(seen.index, write.index):
        mine, theirs = here.as_axis(), there.as_axis()
        if mine is None and theirs is None and here == there:
            continue
        if mine is None or theirs is None or stage.sizes[mine] != maker.sizes[theirs] \
                or names.setdefault(mine, theirs) != theirs:
            return False
    return True


def _same_walk(stage: Stage, write: Access) -> bool:
    """Whether all that a stage touches at every point lies in the order of `write`, so that no access is scattered."""
    whole = stage.sizes.keys()
    return all(a.flat.terms == write.flat.terms for a in stage.accesses if a.axes == whole) \
        and all(a.axes == whole for a in stage.writes) and not any(a.gather for a in stage.reads)


def _without(stage: Stage, unread: set[str]) -> Stage:
    """The stage without results that nobody reads; one is left."""
    more = [r for r in stage.more if r.write.buffer not in unread]
    if stage.write.buffer in unread and more:
        first = more.pop(0)
        if stage.reduce is None:
            stage = replace(stage, write=first.write, body=first.value)
        else:
            stage = replace(stage, write=first.write, epilogue=None if first.value.fn == "acc" else first.value)
    return replace(stage, more=tuple(more))
