"""Edits of stages: renaming axes, replacing reads."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from jtc.dialects.affine import Affine
from jtc.dialects.expr import Expr, expr, read, rewrite
from jtc.dialects.kernel import Access, Guard, Stage


def rename(stage: Stage, names: Mapping[str, str]) -> Stage:
    """The stage with its axes renamed."""
    values = {old: Affine.axis(new) for old, new in names.items()}
    stage = map_expressions(stage, lambda e: rename_expression(e, values))
    stage = map_accesses(stage, lambda a: rename_access(a, values))
    return replace(stage, axes=tuple(replace(a, name=names.get(a.name, a.name)) for a in stage.axes))


def rename_access(access: Access, values: Mapping[str, Affine]) -> Access:
    return replace(access, index=tuple(form.substitute(values) for form in access.index),
                   guards=tuple(_guard(g, values) for g in access.guards))


def rename_expression(root: Expr, values: Mapping[str, Affine]) -> Expr:
    def leaf(e: Expr) -> Expr | None:
        if e.fn == "index":
            return expr("index", (), e.dtype, e.attr.substitute(values))
        if e.fn == "inbounds":
            return expr("inbounds", (), e.dtype, tuple(_guard(g, values) for g in e.attr))
        return None
    return rewrite(root, leaf)


def _guard(guard: Guard, values: Mapping[str, Affine]) -> Guard:
    return Guard(guard.index.substitute(values), guard.size)


def map_accesses(stage: Stage, change: Callable[[Access], Access]) -> Stage:
    return replace(stage, reads=tuple(map(change, stage.reads)), write=change(stage.write),
                   keep=change(stage.keep) if stage.keep is not None else None)


def map_expressions(stage: Stage, change: Callable[[Expr], Expr]) -> Stage:
    """The stage with every expression changed: body, epilogue, gathered indices."""
    def access(a: Access) -> Access:
        return replace(a, gather=tuple((d, change(e)) for d, e in a.gather)) if a.gather else a

    return replace(map_accesses(stage, access), body=change(stage.body),
                   epilogue=change(stage.epilogue) if stage.epilogue is not None else None)


def renumber(stage: Stage, numbers: Mapping[int, int]) -> Stage:
    """The stage's expressions with reads renumbered; `reads` itself is left to the caller."""
    return map_expressions(stage, lambda root: rewrite(
        root, lambda e: read(numbers[e.attr], e.dtype) if e.fn == "read" and e.attr in numbers else None))
