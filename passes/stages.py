"""Edits of stages that both levels of passes need: other axes, other accesses, other numbers of reads."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from jtc.dialects.affine import Affine
from jtc.dialects.expr import Expr, expr, read, reads_of, rewrite
from jtc.dialects.kernel import Access, Guard, Result, Stage


def substitute(stage: Stage, values: Mapping[str, Affine]) -> Stage:
    """The stage with forms in place of axes, wherever they occur; `axes` itself is left to the caller."""
    def guards(found: tuple[Guard, ...]) -> tuple[Guard, ...]:
        return tuple(Guard(g.index.substitute(values), g.size) for g in found)

    def leaf(e: Expr) -> Expr | None:
        if e.fn == "index":
            return expr("index", (), e.dtype, e.attr.substitute(values))
        return expr("inbounds", (), e.dtype, guards(e.attr)) if e.fn == "inbounds" else None

    def access(a: Access) -> Access:
        return replace(a, index=tuple(form.substitute(values) for form in a.index), guards=guards(a.guards))

    return map_accesses(map_expressions(stage, lambda root: rewrite(root, leaf)), access)


def rename(stage: Stage, names: Mapping[str, str]) -> Stage:
    """The stage with its axes renamed."""
    stage = substitute(stage, {old: Affine.axis(new) for old, new in names.items()})
    return replace(stage, axes=tuple(replace(a, name=names.get(a.name, a.name)) for a in stage.axes))


def renumber(stage: Stage, numbers: Mapping[int, int]) -> Stage:
    """The stage's expressions with reads renumbered; `reads` itself is left to the caller."""
    return map_expressions(stage, lambda root: rewrite(
        root, lambda e: read(numbers[e.attr], e.dtype) if e.fn == "read" and e.attr in numbers else None))


def only_needed(stage: Stage) -> Stage:
    """The stage without the reads that none of its expressions needs."""
    used: list[int] = []
    pending = [number for root in (stage.body, *stage.tails) for number in reads_of(root)]
    while pending:
        number = pending.pop(0)
        if number not in used:
            used.append(number)
            pending += [n for _, e in stage.reads[number].gather for n in reads_of(e)]
    made = renumber(stage, {old: new for new, old in enumerate(used)})
    return replace(made, reads=tuple(made.reads[n] for n in used))


def map_accesses(stage: Stage, change: Callable[[Access], Access]) -> Stage:
    return replace(stage, reads=tuple(map(change, stage.reads)), write=change(stage.write),
                   keep=change(stage.keep) if stage.keep is not None else None,
                   before=change(stage.before) if stage.before is not None else None,
                   more=tuple(replace(r, write=change(r.write)) for r in stage.more))


def map_expressions(stage: Stage, change: Callable[[Expr], Expr]) -> Stage:
    """The stage with every expression changed: body, epilogue, further results, gathered indices."""
    def access(a: Access) -> Access:
        return replace(a, gather=tuple((d, change(e)) for d, e in a.gather)) if a.gather else a

    return replace(map_accesses(stage, access), body=change(stage.body),
                   epilogue=change(stage.epilogue) if stage.epilogue is not None else None,
                   rescale=change(stage.rescale) if stage.rescale is not None else None,
                   more=tuple(Result(access(r.write), change(r.value)) for r in stage.more))
