"""`kernel-merge-axes`: fewer, longer axes."""
from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import ClassVar

from jtc.dialects.affine import Affine, axis_of
from jtc.dialects.expr import Expr, const, rewrite, walk
from jtc.dialects.kernel import Access, Axis, Kernel, Program, Stage
from jtc.dialects.optable import REDUCTIONS
from jtc.passes.base import StagePass
from jtc.passes.stages import map_accesses, substitute


@dataclass(frozen=True)
class KernelMergeAxes(StagePass):
    """Drop axes of size 1 and merge axes that every access walks as one: [i:4, j:8] x[i, j] -> [j:32] x[j].

    Two axes merge where the outer's stride is the inner's size times its stride in every access, both are of one kind,
    and no guard, gather or index expression names them.  So an elementwise kernel becomes one-dimensional, and a 1x1
    convolution a matrix product.  Shared axes stay.  Assumes a stage without schedule; stages that have one are kept.
    """

    name: ClassVar[str] = "kernel-merge-axes"

    def run_stage(self, stage: Stage, kernel: Kernel, program: Program) -> Stage:
        if stage.schedule is not None:
            return stage
        return merge_axes(stage, {axis.name for axis, _ in kernel.shared})


def merge_axes(stage: Stage, shared: set[str]) -> Stage:
    """The stage with as few axes as its accesses allow; those in `shared` stay."""
    stage = drop_unit_axes(stage, shared)
    while (merged := _merge_any(stage, shared)) is not None:
        stage = merged
    return stage


def drop_unit_axes(stage: Stage, shared: set[str]) -> Stage:
    """The stage without axes of size 1.  A reduction that loses its last axis becomes plain elementwise work."""
    digits = {axis_of(t) for a in stage.accesses for form in a.index for t in form.terms if axis_of(t) != t}
    gone = {a.name: Affine() for a in stage.axes if a.size == 1 and a.name not in shared | digits}
    if not gone:
        return stage
    reduced = [a.name for a in stage.axes if a.kind != "parallel"]
    axes = tuple(a for a in stage.axes if a.name not in gone)
    if stage.keep is not None and reduced and set(reduced) <= gone.keys():
        gone.pop(reduced[-1])       # the kept values need a reduction to hang on
        axes = tuple(a for a in stage.axes if a.name not in gone)
    new = replace(substitute(stage, gone), axes=axes)
    if new.reduce and not new.accumulate and not new.reductions:
        body = new.body
        if new.scan:
            start = const(REDUCTIONS[new.reduce].identity(body.dtype), body.dtype)
            new = replace(new, body=rewrite(body, lambda e: start if e.fn == "acc" else None), scan=False)
            body = new.body
        summed = body                   # of one term

        def finished(root: Expr) -> Expr:
            return rewrite(root, lambda e: summed if e.fn == "acc" else None)

        if new.epilogue is not None:
            body = finished(new.epilogue)
        new = replace(new, body=body, reduce=None, epilogue=None,
                      more=tuple(replace(r, value=finished(r.value)) for r in new.more))
    return new


def pinned(stage: Stage) -> set[str]:
    """Axes whose own value matters somewhere: in guards, gathers, index expressions or digits."""
    found: set[str] = set()
    roots = [stage.body, *stage.tails]
    for access in stage.accesses:
        roots += [e for _, e in access.gather]
        for g in access.guards:
            found |= g.index.axes
        found |= {axis_of(t) for form in access.index for t in form.terms if axis_of(t) != t}
        if access.gather:
            found |= access.axes
    for root in roots:
        for e in walk(root):
            if e.fn == "index":
                found |= e.attr.axes
            elif e.fn == "inbounds":
                found |= set().union(*(g.index.axes for g in e.attr))
    return found


def _merge_any(stage: Stage, shared: set[str]) -> Stage | None:
    for outer, inner in permutations(stage.axes, 2):
        merged = merge_pair(stage, outer, inner, shared)
        if isinstance(merged, Stage):
            return merged
    return None


def merge_pair(stage: Stage, outer: Axis, inner: Axis, shared: set[str]) -> Stage | str:
    """The stage with the two axes as one (under the inner's name), or the reason why they cannot merge."""
    named = {outer.name, inner.name} & (pinned(stage) | shared)
    if outer.kind != inner.kind:
        return f"{outer} and {inner} are of different kinds"
    if named:
        return f"the value of {', '.join(sorted(named))} matters in a guard, a gather, an index or another stage"
    if stage.accumulate and stage.axes.index(inner) != stage.axes.index(outer) + 1:
        return "a scatter runs in axis order, and they are not neighbours"
    for access in stage.accesses:
        flat = access.flat
        if flat[outer.name] != inner.size * flat[inner.name]:
            return (f"{access.buffer} has stride {flat[outer.name]} along {outer.name}, "
                    f"not {inner.size} times its stride {flat[inner.name]} along {inner.name}")
    views: list[Access] = []
    for access in stage.accesses:           # in the order of map_accesses
        view = _merge_in(access, outer, inner)
        if view is None:
            return f"{access.buffer} is guarded and its dimensions do not join"
        views.append(view)
    given = iter(views)
    axis = Axis(inner.name, outer.size * inner.size, inner.kind)
    return map_accesses(replace(stage, axes=tuple(axis if a is inner else a for a in stage.axes if a is not outer)),
                        lambda _: next(given))


def _merge_in(access: Access, outer: Axis, inner: Axis) -> Access | None:
    """The access with the two axes as one: neighbouring dimensions join; else, without guards, all of them do."""
    if not access.axes & {outer.name, inner.name}:
        return access
    index, shape = list(access.index), list(access.shape)
    for d in range(len(index) - 1):
        rest = index[:d] + index[d + 2:]
        if index[d:d + 2] == [Affine.axis(outer.name), Affine.axis(inner.name)] and shape[d + 1] == inner.size \
                and not any(f.axes & {outer.name, inner.name} for f in rest):
            index[d:d + 2] = [Affine.axis(inner.name)]
            shape[d:d + 2] = [shape[d] * shape[d + 1]]
            return replace(access, index=tuple(index), shape=tuple(shape))
    if access.guards:
        return None
    flat = access.flat
    terms = {t: c for t, c in flat.terms.items() if t != outer.name}
    return replace(access, index=(Affine(terms, flat.const),), shape=(access.size,))
