"""Arithmetic and comparisons of indices as what they are: affine forms, and ranges in which they lie.

    sub(index(j), index(i))   ->   index(j - i)                  where integers of its type can hold it
    le(index(j - i), 0)       ->   inbounds(0 <= i - j < 1024)
    and(inbounds(a), inbounds(b))   ->   inbounds(a, b)

So a mask that is made of places costs what a guard costs, and later passes see where it holds.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL, I32, I64, DType
from jtc.dialects.expr import Expr, const, expr, index
from jtc.dialects.kernel import Guard

COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq"})


def simplified(e: Expr, sizes: Mapping[str, int]) -> Expr:
    """The expression, whose arguments are simple, in its simple form.  sizes: of all axes."""
    if e.fn == "and" and all(a.fn == "inbounds" for a in e.args):
        return expr("inbounds", (), BOOL, tuple(dict.fromkeys(g for a in e.args for g in a.attr)))
    forms = [_form(a) for a in e.args]
    if not any(a.fn == "index" for a in e.args) or any(form is None for form in forms):
        return e
    one, two = (*forms, Affine())[:2]
    assert one is not None and two is not None
    if e.fn in COMPARISONS:
        return _compared(e.fn, one - two, sizes)
    linear = {"add": one + two, "sub": one - two, "neg": -one, "cast": one}
    if e.fn == "mul" and (one.is_constant or two.is_constant):
        made = two * one.const if one.is_constant else one * two.const
    elif e.fn in linear and e.dtype in (I32, I64):
        made = linear[e.fn]
    else:
        return e
    return index(made, e.dtype) if _fits(made, e.dtype, sizes) else e


def _form(e: Expr) -> Affine | None:
    if e.fn == "index":
        return e.attr
    return Affine.of(e.attr) if e.fn == "const" and e.dtype.is_integer else None


def _fits(form: Affine, dtype: DType, sizes: Mapping[str, int]) -> bool:
    low, high = form.range(sizes)
    kind = np.iinfo(dtype.numpy)
    return kind.min <= low and high <= kind.max


def _compared(fn: str, difference: Affine, sizes: Mapping[str, int]) -> Expr:
    """The comparison of a difference with 0."""
    form = {"lt": -difference - 1, "le": -difference, "gt": difference - 1, "ge": difference, "eq": difference}[fn]
    form = Affine(sorted(form.terms.items()), form.const)
    low, high = form.range(sizes)
    size = 1 if fn == "eq" else high + 1
    if high < 0 or low >= size:
        return const(False, BOOL)
    if low >= 0 and high < size:
        return const(True, BOOL)
    return expr("inbounds", (), BOOL, (Guard(form, size),))
