"""Rows that are reduced as blocks of their columns come by.

    m[i] = max_j x[i, j];   l[i] = sum_j exp(x[i, j] - m[i]);   y[i, e] = sum_j exp(x[i, j] - m[i]) * v[j, e]

With m the maximum so far, each further block of columns multiplies the sums so far by exp(m before it - m), and then
adds its own terms: y and l need no row of x as a whole.  Source: M. Milakov, N. Gimelshein, "Online normalizer
calculation for softmax", 2018; T. Dao and others, "FlashAttention", 2022.

It is found by what the stages compute, not by what they are called.  The terms of every sum over columns either do not
depend on a maximum over columns, or scale with exp(-m).  Maxima and sums themselves are what other stages read at the
end of a row only.  Maxima are taken of just what they are subtracted from, so that no term is above 1.  A row whose
maximum is -inf so far has only terms exp(-inf) = 0; with exp(x - 0) in place of exp(x - m) they are just that, and a
row that ends so is 0 / 0 = NaN, as it is when computed at once.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL
from jtc.dialects.expr import Expr, acc, cast, const, expr, read, reads_of, rewrite, walk
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import PARALLEL, Access, Result, Stage
from jtc.passes.graph.fusion.sharing import Refused, in_view


@dataclass(frozen=True)
class Part:
    """A stage, its names of the rows' axes, and of the columns' axis ("" where it has none)."""

    stage: Stage
    rows: tuple[str, ...]
    columns: str = ""


def normalised_last(parts: list[Part], outside: set[str]) -> list[Part]:
    """The parts with a factor of whole rows outside of the last product, if there is one:

    p[i, j] = e[i, j] * c[i];  y[i, d] = sum_j p[i, j] * v[j, d]   ->   y[i, d] = (sum_j e[i, j] * v[j, d]) * c[i]

    Where p is e * c converted to 16 bits, the product takes e converted, and is converted at its end.
    """
    last = parts[-1].stage
    for number in last.factors() or ():
        found = _scaled(parts, last, number, outside)
        if found is not None:
            maker, whole, factor, fn = found
            used = last.reads[number]
            reads = list(last.reads)
            reads[number] = whole
            reads.append(factor)
            dtype = whole.dtype
            taken = cast(cast(read(number, dtype), used.dtype), dtype)
            sides = tuple(taken if number in reads_of(side) else cast(side, dtype) for side in last.body.args)
            scaled = cast(expr(fn, (acc(dtype), read(len(reads) - 1, factor.dtype)), dtype), last.body.dtype)
            end = _with_acc(last.epilogue or acc(last.body.dtype), scaled)
            merged = replace(last, reads=tuple(reads), body=expr("mul", sides, dtype), epilogue=end,
                             ops=maker.ops + last.ops, locs=tuple(dict.fromkeys(maker.locs + last.locs)))
            return [*(p for p in parts[:-1] if p.stage is not maker), replace(parts[-1], stage=merged)]
    return parts


def _scaled(parts: Sequence[Part], last: Stage, number: int, outside: set[str]
            ) -> tuple[Stage, Access, Access, str] | None:
    """The stage that makes a factor of the last product by scaling rows; what it scales and by what, as the product
    would read them; and the function that does it."""
    used = last.reads[number]
    maker = next((p.stage for p in parts if p.stage.write.buffer == used.buffer), None)
    if maker is None or maker.reduce is not None or maker.more or maker.accumulate or used.buffer in outside:
        return None
    value = maker.body.args[0] if maker.body.fn == "cast" else maker.body
    if value.fn not in ("mul", "div") or any(a.fn != "read" for a in value.args) or not value.dtype.is_float \
            or value.dtype.bytes < last.body.dtype.bytes \
            or sum(a.buffer == used.buffer for p in parts for a in p.stage.reads) > 1:
        return None
    names = _axes_at(maker.write, used, last)
    if names is None or names.keys() != maker.sizes.keys():
        return None
    sides = [maker.reads[a.attr] for a in value.args]
    wholes = sides if value.fn == "mul" else sides[:1]
    whole = next((s for s in wholes if s.axes == names.keys()), None)
    factor = next((s for s in sides if s is not whole), None)
    reduced = set(last.reductions)
    if whole is None or factor is None or {names[a] for a in factor.axes} & reduced or whole.guards or whole.gather \
            or factor.guards or factor.gather:
        return None
    moved = {old: Affine.axis(new) for old, new in names.items()}
    return maker, _moved(whole, moved), _moved(factor, moved), value.fn


def _with_acc(root: Expr, value: Expr) -> Expr:
    return rewrite(root, lambda e: value if e.fn == "acc" else None)


def _axes_at(write: Access, used: Access, reader: Stage) -> dict[str, str] | None:
    """Axis of the writer -> axis of the reader along which it reads; None where they are not one to one."""
    seen = in_view(used, write.shape, reader.sizes)
    if seen is None or seen.guards or seen.gather or write.guards or write.gather:
        return None
    names: dict[str, str] = {}
    for here, there in zip(write.index, seen.index):
        one, two = here.as_axis(), there.as_axis()
        if one is None and two is None and here == there:
            continue
        if one is None or two is None:
            return None
        names[one] = two
    return names if len(set(names.values())) == len(names) else None


def _same(a: Expr, one: Stage, b: Expr, two: Stage, names: dict[str, Affine]) -> bool:
    """Whether expressions of two stages have the same value, where `names` gives the axes of the second for those of
    the first."""
    if a.fn != b.fn or a.dtype is not b.dtype:
        return False
    if a.fn == "read":
        x, y = one.reads[a.attr], two.reads[b.attr]
        guards = {(g.index.substitute(names), g.size) for g in x.guards}
        return x.buffer == y.buffer and x.flat.substitute(names) == y.flat and x.fill == y.fill \
            and guards == {(g.index, g.size) for g in y.guards} and not x.gather and not y.gather
    mine = a.attr.substitute(names) if isinstance(a.attr, Affine) else a.attr
    return mine == b.attr and all(_same(x, one, y, two, names) for x, y in zip(a.args, b.args, strict=True))


def _moved(access: Access, forms: dict[str, Affine]) -> Access:
    return replace(access, index=tuple(form.substitute(forms) for form in access.index))


def _not_above_0(e: Expr) -> Expr:
    """The value, which is not above 0; in this form, code sees it."""
    return expr("min", (e, const(0.0, e.dtype)), e.dtype)


# ------------------------------------------------------------------------------------------------ blocks of columns
def by_blocks(parts: list[Part], outside: set[str], types: dict[str, TensorType], block: int
              ) -> tuple[list[Part], int]:
    """The parts with running reductions over a shared axis of columns, and that axis's block; as they are, and 0, where
    rows have no more columns than that.

    types: of all buffers; those of the new ones are added.  Raises Refused.
    """
    parts = _with_columns(parts, outside)
    if max(p.stage.sizes[p.columns] for p in parts if p.columns) <= block:
        return parts, 0
    running = _Running(types)
    return [new for part in parts for new in running.parts(part)], block


def _with_columns(parts: Sequence[Part], outside: set[str]) -> list[Part]:
    """The parts with the names of the columns' axis, which runs along one dimension of what lies between them."""
    first = parts[0].stage
    own = [a for a in first.parallel if a not in parts[0].rows and first.sizes[a] > 1]
    if first.factors() is None or len(own) != 1:
        raise Refused("its rows have several axes")
    along: dict[str, tuple[Access, int]] = {}       # buffer -> how it is written, and its dimension of columns
    result: list[Part] = []
    for part in parts:
        stage = part.stage
        found = {own[0]} if stage is first else set[str]()
        for access in stage.reads:
            if access.buffer in along:
                write, dim = along[access.buffer]
                seen = in_view(access, write.shape, stage.sizes)
                axis = None if seen is None or seen.guards or seen.gather else seen.index[dim].as_axis()
                if axis is None or sum(axis in form.axes for form in access.index) > 1:
                    raise Refused(f"{access.buffer} is read at other columns")
                found.add(axis)
        if len(found) > 1 or any(stage.sizes[a] != first.sizes[own[0]] for a in found):
            raise Refused("columns are paired with other columns")
        columns = next(iter(found), "")
        for access in stage.writes if columns else ():
            dims = [d for d, form in enumerate(access.index) if columns in form.axes]
            if dims and (len(dims) > 1 or access.index[dims[0]].as_axis() != columns or access.guards or access.gather):
                raise Refused(f"{access.buffer} is written at other columns")
            if dims and access.buffer in outside:
                raise Refused(f"{access.buffer} is read by other kernels")
            if dims:
                along[access.buffer] = access, dims[0]
        result.append(replace(part, columns=columns))
    return result


class _Running:
    """Makes reductions over columns running ones.

    finite   buffer of a maximum -> that of its value with 0 in place of -inf
    shrink   the same -> that of the factor by which a block shrinks what was summed before it
    maxima   the stages that compute maxima, by buffer, with the names of their rows' axes
    scales   local buffer -> the maximum m with whose exp(-m) its values scale, where they do
    sums     buffers of finished sums
    """

    def __init__(self, types: dict[str, TensorType]):
        self.types = types
        self.finite: dict[str, str] = {}
        self.shrink: dict[str, str] = {}
        self.maxima: dict[str, Part] = {}
        self.scales: dict[str, str] = {}
        self.sums: set[str] = set()

    def parts(self, part: Part) -> list[Part]:
        stage = part.stage
        early = [stage.body] if stage.reduce is not None else [stage.body, *stage.tails]
        for buffer in {stage.reads[n].buffer for root in early for n in reads_of(root)} & self.sums:
            raise Refused(f"{buffer} is a sum of whole rows that is needed at every column")
        if not part.columns:
            raise Refused("a stage between its products has no columns")
        if stage.scan or stage.accumulate:
            raise Refused("a stage between its products runs in order")
        reduced = part.columns in stage.reductions
        if reduced and stage.reduce == "max" and not stage.ends and stage.keep is None:
            return self.maximum(part)
        if stage.reduce is not None and reduced and (stage.reduce != "add" or not stage.body.dtype.is_float):
            raise Refused(f"its rows are reduced by {stage.reduce}")
        return [self.scaled(part, reduced)]

    def maximum(self, part: Part) -> list[Part]:
        """A running maximum, and a stage that makes of it what sums need."""
        stage, m = part.stage, part.stage.write
        if self.scale_of(part, stage.body):
            raise Refused("a maximum is taken of what depends on another one")
        old, finite, shrink = (self.local(m, what) for what in ("before", "finite", "shrink"))
        self.maxima[m.buffer], self.finite[m.buffer], self.shrink[m.buffer] = part, finite.buffer, shrink.buffer
        value, before = read(0, m.dtype), read(1, m.dtype)
        lowest = expr("eq", (value, const(-math.inf, m.dtype)), BOOL)
        number = expr("where", (lowest, const(0.0, m.dtype), value), m.dtype)
        factor = expr("exp", (_not_above_0(expr("sub", (before, number), m.dtype)),), m.dtype)
        axes = tuple(a for a in stage.axes if a.kind == PARALLEL)
        made = Stage("", axes, (m, old), number, finite, more=(Result(shrink, factor),), locs=stage.locs)
        return [replace(part, stage=replace(stage, before=old)), Part(made, part.rows)]

    def local(self, access: Access, what: str) -> Access:
        name = f"{access.buffer}_{what}"
        while name in self.types:
            name += "_"
        self.types[name] = self.types[access.buffer]
        return replace(access, buffer=name)

    def scaled(self, part: Part, reduced: bool) -> Part:
        """The part with finite maxima, whose sums shrink with them."""
        stage = part.stage
        scale = self.scale_of(part, stage.body)
        stage = replace(stage, body=rewrite(stage.body, lambda e: self.below_maximum(stage, e)))
        for access in stage.writes:
            if part.columns in access.axes and scale:
                self.scales[access.buffer] = scale
        if stage.more and (scale or reduced):
            raise Refused("a stage between its products has several results")
        reads = [replace(a, buffer=self.finite.get(a.buffer, a.buffer)) for a in stage.reads]
        stage = replace(stage, reads=tuple(reads))
        if not reduced:
            return replace(part, stage=stage)
        if any(self.maxima.get(part.stage.reads[n].buffer) for n in reads_of(stage.epilogue)):
            raise Refused("a sum ends with a maximum")
        self.sums.add(stage.write.buffer)
        if scale:
            maximum = self.maxima[scale]
            rows = {old: Affine.axis(new) for old, new in zip(maximum.rows, part.rows)}
            write = maximum.stage.write
            if not write.axes <= rows.keys():
                raise Refused("maxima are taken over parts of rows")
            reads.append(_moved(replace(write, buffer=self.shrink[scale]), rows))
            stage = replace(stage, reads=tuple(reads), rescale=read(len(reads) - 1, write.dtype))
        return replace(part, stage=stage)

    def bounds(self, buffer: str, part: Part, value: Expr) -> bool:
        """Whether a maximum is that of `value`: else exp(value - m) may overflow where m is still small."""
        maximum = self.maxima[buffer]
        axes = zip((*maximum.rows, maximum.columns), (*part.rows, part.columns))
        names = {old: Affine.axis(new) for old, new in axes}
        return _same(maximum.stage.body, maximum.stage, value, part.stage, names)

    def below_maximum(self, stage: Stage, e: Expr) -> Expr | None:
        """exp(x - m) with an exponent whose sign is seen, which `bounds` has shown; None for other expressions."""
        if e.fn == "exp" and e.args[0].fn == "sub":
            m = e.args[0].args[1]
            if m.fn == "read" and stage.reads[m.attr].buffer in self.maxima:
                return expr("exp", (_not_above_0(e.args[0]),), e.dtype)
        return None

    def scale_of(self, part: Part, root: Expr) -> str:
        """The maximum m with whose exp(-m) a value scales; "" where it does not depend on one.  Raises Refused."""
        stage = part.stage
        found: dict[Expr, str] = {}
        for e in walk(root):
            inner = [found[a] for a in e.args]
            if e.fn == "read":
                buffer = stage.reads[e.attr].buffer
                found[e] = f"={buffer}" if buffer in self.maxima else self.scales.get(buffer, "")
            elif e.fn == "sub" and inner[0] == "" and inner[1].startswith("="):
                found[e] = f"-{inner[1][1:]}"
                if not self.bounds(inner[1][1:], part, e.args[0]):
                    raise Refused("a maximum is subtracted from other values than it is taken of")
            elif e.fn == "exp" and inner[0].startswith("-"):
                found[e] = inner[0][1:]
            elif not any(inner):
                found[e] = ""
            elif any(x[:1] in ("=", "-") for x in inner):
                raise Refused(f"a maximum is used in {e.fn}")
            elif e.fn in ("cast", "neg"):
                found[e] = inner[0]
            elif e.fn == "mul" and "" in inner:
                found[e] = "".join(inner)
            elif e.fn == "div" and inner[1] == "":
                found[e] = inner[0]
            elif e.fn == "where" and inner[0] == "" and all(
                    x in inner or a.fn == "const" and a.attr == 0 for x, a in zip(inner[1:], e.args[1:])):
                kinds = {x for x, a in zip(inner[1:], e.args[1:]) if not (a.fn == "const" and a.attr == 0)}
                if len(kinds) != 1:
                    raise Refused("a choice of values that scale differently")
                found[e] = kinds.pop()
            else:
                raise Refused(f"what depends on a maximum is used in {e.fn}")
        if found[root][:1] in ("=", "-"):
            raise Refused("a maximum is needed at every column")
        return found[root]
