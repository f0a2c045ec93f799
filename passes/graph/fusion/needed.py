"""Where the columns of rows matter that are reduced block by block: a causal mask leaves half of them.

    x[i, j] = where(j <= i, s[i, j], -inf);   m[i] = max_j x[i, j];   l[i] = sum_j exp(x[i, j] - m[i])

A condition on indices is a set of affine forms that are not negative, here i - j.  Assume that one of them is negative:
then some values are known, x is -inf and exp(x - m) is 0, whatever m is.  Where the terms of every reduction over
columns are then what changes nothing in it, columns at which the form is negative for all rows of a block need not be
computed.  That -inf + s is -inf and that 0 * v is 0 is taken for granted: where s or v are infinite or NaN at columns
that are left out, the result does not show it.

What is known of a value is found by computing it with what is known of its arguments (`_Assumed`); conditions may come
from `inbounds`, from guards of reads, and through buffers that other stages make of indices alone.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL
from jtc.dialects.expr import Expr, const, same_number, walk
from jtc.dialects.kernel import Access, Guard, Stage
from jtc.dialects.optable import REDUCTIONS, SCALAR_FUNCTIONS
from jtc.passes.graph.fusion.online import Part
from jtc.passes.graph.fusion.sharing import in_view

# (function, position of an argument, its value) -> the function's value, whatever finite number the other one is
INF = float("inf")
ABSORBING: dict[tuple[str, int, Any], Any] = {
    **{(fn, n, x): x for n in (0, 1) for fn, x in (("and", False), ("or", True), ("add", -INF), ("add", INF),
                                                   ("mul", 0), ("min", -INF), ("max", INF))},
    ("sub", 0, -INF): -INF, ("sub", 0, INF): INF, ("sub", 1, -INF): INF, ("sub", 1, INF): -INF, ("div", 0, 0): 0}


def needed(parts: Sequence[Part], makers: Mapping[str, Stage]) -> tuple[Guard, ...]:
    """The guards outside of which a point of rows and columns changes nothing; () where there are none.

    The axes of part k's rows are called i0, i1..., as in the kernel, and its columns come after them.
    makers: buffer -> the stage that makes it, outside of the parts
    """
    first = next(p for p in parts if p.columns)
    shared = [*first.rows, first.columns]
    sizes = {f"i{n}": first.stage.sizes[axis] for n, axis in enumerate(shared)}
    inner = f"i{len(shared) - 1}"
    asked: dict[Affine, None] = {}
    _Assumed(parts, makers, sizes, None, asked).changes_nothing()
    candidates = dict.fromkeys(h for form in asked for h in (form, -form - 1)
                               if inner in form.terms and form.axes <= sizes.keys())
    return _guards([h for h in candidates if _Assumed(parts, makers, sizes, h, {}).changes_nothing()], sizes)


def _guards(forms: Sequence[Affine], sizes: Mapping[str, int]) -> tuple[Guard, ...]:
    """Guards that hold where none of the forms is negative; of parallel ones the strictest, opposite ones as one."""
    least: dict[Affine, int] = {}           # form without constant -> the smallest constant
    for form in forms:
        bare = form - form.const
        least[bare] = min(form.const, least.get(bare, form.const))
    found: list[Guard] = []
    for bare, low in least.items():
        if any(g.index - g.index.const == -bare for g in found):
            continue
        high = min([(bare + low).range(sizes)[1], *([least[-bare] + low] if -bare in least else [])])
        if high >= 0:                       # else it holds nowhere: one block of columns runs in any case
            found.append(Guard(bare + low, high + 1))
    return tuple(found)


@dataclass(frozen=True)
class _Place:
    """A stage whose axes stand for forms of the shared axes and of its own others, which are called `name'`."""

    stage: Stage
    forms: Mapping[str, Affine]
    sizes: Mapping[str, int]

    def moved(self, form: Affine) -> Affine | None:
        try:
            return form.substitute(self.forms)
        except ValueError:                  # a digit
            return None


class _Assumed:
    """What is known of values where `negative`, a form of shared axes, is negative; None: anywhere.

    asked  takes the forms whose sign values depend on
    """

    def __init__(self, parts: Sequence[Part], makers: Mapping[str, Stage], sizes: Mapping[str, int],
                 negative: Affine | None, asked: dict[Affine, None]):
        self.parts, self.makers, self.sizes = parts, makers, sizes
        self.negative, self.asked = negative, asked
        self.known: dict[str, Any] = {}     # buffer between the parts -> its value

    def changes_nothing(self) -> bool:
        """Whether no reduction over columns changes."""
        unchanged = True
        for part in self.parts:
            stage = part.stage
            names = {axis: f"i{n}" for n, axis in enumerate((*part.rows, part.columns)) if axis}
            forms = {a: Affine.axis(names.get(a, f"{a}'")) for a in stage.sizes}
            place = _Place(stage, forms, {**self.sizes, **{f"{a}'": n for a, n in stage.sizes.items()}})
            body, acc = self.value(place, stage.body, None), None
            if stage.reduce is not None:
                identity = REDUCTIONS[stage.reduce].identity(stage.body.dtype)
                same = body is not None and same_number(abs(body) if body == 0 else body, identity)
                if part.columns in stage.reductions:
                    unchanged = unchanged and same
                    if stage.keep is not None:
                        self.known[stage.keep.buffer] = body
                    continue
                acc = identity if same else None
                if stage.keep is not None:
                    self.known[stage.keep.buffer] = body
            end = acc if stage.reduce is not None else body
            self.known[stage.write.buffer] = end if stage.epilogue is None else self.value(place, stage.epilogue, acc)
            self.known.update({r.write.buffer: self.value(place, r.value, acc) for r in stage.more})
        return unchanged

    # -------------------------------------------------------------------------------------------- values
    def value(self, place: _Place, root: Expr, acc: Any) -> Any:
        """The value of an expression, None where it is not known."""
        found: dict[Expr, Any] = {}
        for e in walk(root):
            args = [found[a] for a in e.args]
            if e.fn == "const":
                found[e] = e.attr
            elif e.fn == "acc":
                found[e] = acc
            elif e.fn == "read":
                found[e] = self.read(place, place.stage.reads[e.attr])
            elif e.fn == "inbounds":
                found[e] = self.inside(place, e.attr)
            elif e.fn == "index":
                found[e] = None
            else:
                found[e] = _applied(e, args)
        return found[root]

    def read(self, place: _Place, access: Access) -> Any:
        if self.inside(place, access.guards) is False:
            return access.fill
        if access.gather:
            return None
        if access.buffer in self.known:
            return self.known[access.buffer]
        maker = self.makers.get(access.buffer)
        if maker is None or maker.reduce is not None or maker.write.guards or maker.write.gather \
                or maker.write.buffer != access.buffer:
            return None
        seen = in_view(access, maker.write.shape, place.stage.sizes)
        if seen is None:
            return None
        forms: dict[str, Affine] = {}
        for here, there in zip(maker.write.index, seen.index):
            axis, form = here.as_axis(), place.moved(there)
            if axis is not None and form is not None:
                forms[axis] = form
            elif here != there:
                return None
        if forms.keys() != maker.sizes.keys():
            return None
        return self.value(_Place(maker, forms, place.sizes), maker.body, None)

    def inside(self, place: _Place, guards: Sequence[Guard]) -> bool | None:
        """Whether all guards hold."""
        signs = [self.sign(half, place.sizes) for g in guards if (form := place.moved(g.index)) is not None
                 for half in _halves(form, g.size)]
        if any(sign is False for sign in signs):
            return False
        return True if len(signs) == 2 * len(guards) and all(signs) else None

    def sign(self, form: Affine, sizes: Mapping[str, int]) -> bool | None:
        """Whether a form is not negative."""
        low, high = form.range(sizes)
        if low >= 0 or high < 0:
            return low >= 0
        self.asked[form] = None
        if self.negative is None:
            return None
        above, below = form - self.negative, form + self.negative
        if above.is_constant and above.const <= 0:
            return False
        return True if below.is_constant and below.const >= -1 else None


def _halves(form: Affine, size: int) -> Iterator[Affine]:
    """Forms that are not negative where 0 <= form < size, without common factors."""
    for half in (form, -form + (size - 1)):
        common = gcd(*half.terms.values())
        yield Affine({t: c // common for t, c in half.terms.items()}, half.const // common) if common > 1 else half


def _applied(e: Expr, args: Sequence[Any]) -> Any:
    """A function of values, some of which are not known."""
    if e.fn == "where":
        condition, yes, no = args
        if condition is not None:
            return yes if condition else no
        return yes if yes is not None and no is not None and same_number(yes, no) else None
    logic = e.fn in ("and", "or")
    if not logic or e.dtype is BOOL:
        for n, x in enumerate(args):
            if x is not None and (e.fn, n, x) in ABSORBING and (e.dtype.is_float or logic):
                if args[1 - n] is None:
                    return ABSORBING[e.fn, n, x]
    if any(x is None for x in args):
        return None
    with np.errstate(all="ignore"):
        if e.fn == "cast":
            return const(args[0], e.dtype).attr if e.dtype.is_float or np.isfinite(args[0]) else None
        values = [np.asarray(x).astype(a.dtype.numpy) for x, a in zip(args, e.args)]
        return const(np.asarray(SCALAR_FUNCTIONS[e.fn].numpy(*values)).astype(e.dtype.numpy).item(), e.dtype).attr
