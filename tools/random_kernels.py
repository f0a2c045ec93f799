"""Random kernels, for `jtc fuzz`: every feature of the kernel form, in small sizes, with values that add up exactly.

Inputs are small integers (also as floats), so that sums and products come out exactly in any order; functions that
round stand only at the top of a body.  What is left to tolerance is their error alone.
"""
from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BF16, BOOL, F16, F32, F64, I32, I64, DType, dtype_of
from jtc.dialects.expr import Expr, acc, cast, const, expr, index, read, walk
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import PARALLEL, REDUCTION, Access, Axis, Guard, Kernel, Local, Program, Result, Stage
from jtc.dialects.optable import REDUCTIONS

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 23, 31, 33, 40, 65)
MAX_POINTS = 12_000
DTYPES = (F32, F32, F32, F32, F64, I32, I64, BOOL, F16, BF16, BF16, *map(dtype_of, ("i8", "ui8", "ui16", "ui64")))
ROUNDING = ("exp", "tanh", "sin", "erf")


@dataclass
class Case:
    """A program, and what its buffers hold at the start: (buffer, kind) with kind "value" or "index" in [low, high)."""

    program: Program
    indices: dict[str, tuple[int, int]] = field(default_factory=dict)
    nan: bool = False


@dataclass
class Maker:
    """Grows one kernel.  Every buffer it names is entered in `buffers`."""

    rng: random.Random
    buffers: dict[str, TensorType] = field(default_factory=dict)
    indices: dict[str, tuple[int, int]] = field(default_factory=dict)
    reads: list[Access] = field(default_factory=list)
    rounds: bool = False
    to_integer: bool = False

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def buffer(self, dtype: DType, shape: Sequence[int], prefix: str = "x") -> str:
        name = f"{prefix}{len(self.buffers)}"
        self.buffers[name] = TensorType(dtype, tuple(shape))
        return name

    # -------------------------------------------------------------------------------------------- accesses
    def form(self, axes: Sequence[Axis]) -> Affine:
        """A linear form of one axis, sometimes of two or none."""
        if not axes or self.chance(0.08):
            return Affine((), self.rng.randrange(3))
        axis = self.rng.choice(axes)
        if self.chance(0.1):
            return Affine({axis.name: -1}, axis.size - 1)
        form = Affine({axis.name: self.rng.choice((1, 1, 1, 1, 2, 3))})
        if self.chance(0.25):
            form = form + Affine({self.rng.choice(axes).name: self.rng.choice((1, 1, 2, -1))})
        return form

    def access(self, axes: Sequence[Axis], dtype: DType, prefix: str = "x", plain: bool = False) -> Access:
        """A new buffer seen through random forms; some of them guarded."""
        sizes = {a.name: a.size for a in axes}
        forms: list[Affine] = []
        shape: list[int] = []
        guards: list[Guard] = []
        rank = self.rng.randrange(4)
        picked = self.rng.sample(list(axes), min(rank, len(axes))) if self.chance(0.6) else None
        for d in range(len(picked) if picked is not None else rank):
            form = Affine.axis(picked[d].name) if picked is not None else self.form(axes)
            low, high = form.range(sizes)
            size = high - low + 1 + (self.rng.randrange(3) if self.chance(0.2) else 0)
            form = form - low
            if not plain and self.chance(0.25):        # part of it lies outside
                size = max(1, size - self.rng.randrange(1, 4))
                form = form - self.rng.randrange(3)
                guards.append(Guard(form, size))
            if prod(shape) * size > 60_000:
                break
            forms.append(form)
            shape.append(size)
        guards = [g for g in guards if g.index in forms]
        if axes and not plain and self.chance(0.1):       # a condition that the address knows nothing of
            form = self.form(axes)
            low, high = form.range(sizes)
            guards.append(Guard(form - self.rng.randrange(low, high + 1), self.rng.randrange(1, high - low + 2)))
        name = self.buffer(dtype, shape, prefix)
        fill = self.rng.choice((0, 0, 1, -2 if dtype.kind != "uint" else 2))
        return Access(name, dtype, tuple(shape), tuple(forms), tuple(guards), bool(fill) if dtype is BOOL else fill)

    def read(self, axes: Sequence[Axis], dtype: DType) -> Expr:
        """A read of that dtype, an old or a new one; sometimes through an index buffer."""
        old = [i for i, a in enumerate(self.reads) if a.dtype is dtype and a.buffer not in self.indices]
        if old and self.chance(0.4) and all(a.axes <= {x.name for x in axes} for a in self.reads):
            return read(self.rng.choice(old), dtype)
        access = self.access(axes, dtype)
        if access.shape and self.chance(0.12):
            access = self._gathered(axes, access)
        self.reads.append(access)
        return read(len(self.reads) - 1, dtype)

    def _gathered(self, axes: Sequence[Axis], access: Access) -> Access:
        where = self.access(axes, self.rng.choice((I32, I64)), "at", plain=self.chance(0.7))
        dim = self.rng.randrange(len(access.shape))
        forms = list(access.index)
        if self.chance(0.7):
            forms[dim] = Affine()
        sizes = {a.name: a.size for a in axes}
        low, high = forms[dim].range(sizes)
        guards = tuple(g for g in access.guards if g.index in forms)
        size = access.shape[dim]
        self.indices[where.buffer] = (-low - 1, size - high + 1) if self.chance(0.5) else (0, size)
        self.reads.append(where)
        e = read(len(self.reads) - 1, where.dtype)
        return Access(access.buffer, access.dtype, access.shape, tuple(forms), guards, access.fill, ((dim, e),))

    # -------------------------------------------------------------------------------------------- expressions
    def expression(self, axes: Sequence[Axis], dtype: DType, depth: int) -> Expr:
        """An expression whose value is exact."""
        if depth == 0 or self.chance(0.15):
            return self.leaf(axes, dtype)

        def sub(d: DType = dtype) -> Expr:
            return self.expression(axes, d, depth - 1)
        if dtype is BOOL:
            if self.chance(0.5):
                kind = self.rng.choice(DTYPES)
                return expr(self.rng.choice(("lt", "le", "gt", "ge", "eq", "ne")), (sub(kind), sub(kind)), BOOL)
            return expr("not", (sub(),), BOOL) if self.chance(0.2) else \
                expr(self.rng.choice(("and", "or", "xor", "max", "min")), (sub(), sub()), BOOL)
        choice = self.rng.random()
        if choice < 0.12:
            return expr("where", (sub(BOOL), sub(), sub()), dtype)
        if choice < 0.25:
            # What wraps around to a large unsigned number would not be exact as a float.
            kinds = ("uint", "bool") if dtype.kind == "uint" else ("uint", "bool", "int", "float")
            source = self.rng.choice([d for d in DTYPES if d is not dtype and d.kind in kinds])
            self.to_integer |= source.is_float and not dtype.is_float
            return cast(sub(source), dtype)
        if choice < 0.35:
            return expr(self.rng.choice(("abs", "sign", "neg")[:2 if dtype.kind == "uint" else 3]), (sub(),), dtype)
        names = ("add", "add", "mul", "mul", "max", "min") + (() if dtype.is_float else ("and", "or", "xor"))
        names += ("sub",) if dtype.kind != "uint" else ()
        return expr(self.rng.choice(names), (sub(), sub()), dtype)

    def leaf(self, axes: Sequence[Axis], dtype: DType) -> Expr:
        choice = self.rng.random()
        if choice < 0.1:
            return const(self.rng.randrange(-2 if dtype.kind != "uint" else 0, 3), dtype)
        if choice < 0.18 and dtype in (I32, I64) and axes:
            return index(self.form(axes), dtype)
        if choice < 0.3 and dtype is BOOL and axes:
            form = self.form(axes)
            low, high = form.range({a.name: a.size for a in axes})
            return expr("inbounds", (), BOOL, (Guard(form - self.rng.randrange(low, high + 1), high - low + 1),))
        return self.read(axes, dtype)

    def top(self, e: Expr) -> Expr:
        """Sometimes a function that rounds, on top."""
        if e.dtype.is_float and self.chance(0.2):
            self.rounds = True
            small = expr("min", (expr("max", (e, const(-3, e.dtype)), e.dtype), const(3, e.dtype)), e.dtype)
            return expr(self.rng.choice(ROUNDING), (small,), e.dtype)
        return e


def make_axes(rng: random.Random, count: int, reductions: int) -> tuple[Axis, ...]:
    """Axes of random kinds and sizes, not too many points."""
    kinds = [REDUCTION] * reductions + [PARALLEL] * (count - reductions)
    rng.shuffle(kinds)
    axes: list[Axis] = []
    for name, kind in zip("ijklm", kinds):
        room = MAX_POINTS // max(1, prod(a.size for a in axes))
        axes.append(Axis(name, rng.choice([s for s in SIZES if s <= room] or [1]), kind))
    if axes and rng.random() < 0.02:
        at = rng.randrange(len(axes))
        axes[at] = Axis(axes[at].name, 0, axes[at].kind)
    return tuple(axes)


def write_of(maker: Maker, parallel: Sequence[Axis], dtype: DType) -> Access:
    """A write that gives every point of the parallel axes an element of its own."""
    rng = maker.rng
    axes = list(parallel)
    rng.shuffle(axes)
    forms: list[Affine] = []
    shape: list[int] = []
    guards: list[Guard] = []
    while axes:
        axis = axes.pop()
        form, size = Affine.axis(axis.name), axis.size
        if axes and maker.chance(0.2):
            other = axes.pop()
            form, size = form * other.size + Affine.axis(other.name), size * other.size
        choice = rng.random()
        if choice < 0.1 and size:
            form = -form + size - 1
        elif choice < 0.2 and size:
            form, size = form * 2, size * 2 - rng.randrange(2)
        elif choice < 0.3:
            form, size = form + 1, size + rng.randrange(1, 3)
        elif choice < 0.4 and size > 2:
            form, size = form - 1, size - 2
            guards.append(Guard(form, size))
        forms.append(form)
        shape.append(size)
    if maker.chance(0.1):
        forms.append(Affine((), 1))
        shape.append(2)
    return Access(maker.buffer(dtype, shape, "y"), dtype, tuple(shape), tuple(forms), tuple(guards))


def single_stage(rng: random.Random) -> Case:
    """Elementwise work or a reduction of any kind."""
    maker = Maker(rng)
    count = rng.choice((0, 1, 1, 2, 2, 2, 3, 3, 4))
    reductions = rng.choice((0, 0, 1, 1, 2)) if count else 0
    axes = make_axes(rng, count, min(count, reductions))
    dtype = rng.choice(DTYPES)
    reduce = None
    if any(a.kind == REDUCTION for a in axes):
        names = [n for n, r in REDUCTIONS.items() if dtype.kind in r.kinds]
        reduce = rng.choice([n for n in names if n != "mul" or not dtype.is_float])     # products of floats overflow
    if maker.chance(0.3) and dtype is not BOOL:
        body = expr("mul", (maker.read(axes, dtype), maker.read(axes, dtype)), dtype)
    else:
        body = maker.top(maker.expression(axes, dtype, rng.randrange(4)))
    parallel = [a for a in axes if a.kind == PARALLEL]
    keep = None
    if reduce and maker.chance(0.15):
        shape = tuple(a.size for a in axes)
        keep = Access(maker.buffer(dtype, shape, "kept"), dtype, shape, tuple(Affine.axis(a.name) for a in axes))
    epilogue, out = None, dtype
    if reduce and maker.chance(0.5):
        epilogue, out = _epilogue(maker, parallel, acc(dtype))
    write, more = write_of(maker, parallel, out), []
    while maker.chance(0.2):
        value, out = _epilogue(maker, parallel, acc(dtype)) if reduce else (maker.expression(axes, dtype, 1), dtype)
        more.append(Result(write_of(maker, parallel, out), value))
    stage = Stage("s", axes, tuple(maker.reads), body, write, reduce, epilogue, keep, tuple(more))
    return _case(maker, Kernel("k", (stage,)))


def _epilogue(maker: Maker, parallel: Sequence[Axis], value: Expr) -> tuple[Expr, DType]:
    choice = maker.rng.random()
    if value.dtype is BOOL:
        return expr("xor", (value, maker.expression(parallel, BOOL, 1)), BOOL), BOOL
    if choice < 0.2 and not maker.rounds:
        return expr("gt", (value, const(0, value.dtype)), BOOL), BOOL
    if choice < 0.4 and not maker.rounds:
        to = maker.rng.choice((F64, I64) if value.dtype.is_float else (F64, I64, I32))
        maker.to_integer |= value.dtype.is_float and not to.is_float
        return cast(value, to), to
    other = maker.expression(parallel, value.dtype, 1)
    return expr(maker.rng.choice(("add", "mul", "max")), (value, other), value.dtype), value.dtype


def scatter(rng: random.Random) -> Case:
    """A stage that accumulates where an index buffer, or a sum of axes, says."""
    maker = Maker(rng)
    reduce = rng.choice(("add", "max", "min", "replace"))
    axes = make_axes(rng, rng.choice((1, 2, 2, 3)), 0 if reduce == "replace" else rng.choice((0, 0, 1)))
    dtype = rng.choice((F32, F32, F64, I32, I64))
    body = maker.expression(axes, dtype, rng.randrange(3))
    shape: list[int] = []
    forms: list[Affine] = []
    gather: list[tuple[int, Expr]] = []
    guards: list[Guard] = []
    rest = list(axes)
    while rest:
        axis = rest.pop()
        size, form = axis.size, Affine.axis(axis.name)
        choice = rng.random()
        if choice < 0.3:
            size = rng.choice((1, 3, 7))
            where = maker.access(axes, rng.choice((I32, I64)), "at", plain=True)
            maker.indices[where.buffer] = (-1, size + 1)
            maker.reads.append(where)
            gather.append((len(shape), read(len(maker.reads) - 1, where.dtype)))
            form = Affine()
        elif choice < 0.5 and rest:
            other = rest.pop()
            form, size = form + Affine.axis(other.name) - 1, max(1, axis.size + other.size - 3)
            guards.append(Guard(form, size))
        forms.append(form)
        shape.append(size)
    write = Access(maker.buffer(dtype, shape, "y"), dtype, tuple(shape), tuple(forms), tuple(guards), 0, tuple(gather))
    if prod(shape) > 60_000:
        return scatter(rng)
    return _case(maker, Kernel("k", (Stage("s", axes, tuple(maker.reads), body, write, reduce, accumulate=True),)))


def scan(rng: random.Random) -> Case:
    """A stage that keeps every step of one axis: running sums and extremes, sums that start anew, from either end."""
    maker = Maker(rng)
    axes = make_axes(rng, rng.choice((1, 2, 2, 3)), 1)
    dtype, reduce = rng.choice((F32, F32, F64, I32, I64)), rng.choice(("add", "add", "max", "min"))
    value, carried = maker.expression(axes, dtype, rng.randrange(3)), acc(dtype)
    if reduce == "add" and maker.chance(0.5):
        kept = maker.expression(axes, BOOL, 1)
        carried = expr("where", (kept, carried, const(0, dtype)), dtype)
    epilogue = None
    if maker.chance(0.4):
        epilogue = expr(rng.choice(("add", "max")), (acc(dtype), maker.expression(axes, dtype, 1)), dtype)
    write = write_of(maker, axes, dtype)
    body = expr(reduce, (carried, value), dtype)
    stage = Stage("s", axes, tuple(maker.reads), body, write, reduce, epilogue, scan=True)
    return _case(maker, Kernel("k", (stage,)))


def rows(rng: random.Random) -> Case:
    """Softmax-like: two reductions along rows and a map; locals for row values and sometimes for the row itself."""
    n, m, dtype = rng.choice(SIZES[2:]), rng.choice(SIZES), rng.choice((F32, F32, F64))
    block = rng.choice((1, 1, 1, 2, 4, n))
    maker, row = Maker(rng), Axis("i", n)
    x, y = maker.buffer(dtype, (n, m)), maker.buffer(dtype, (n, m), "y")
    i, j = Affine.axis("i"), Affine.axis("j")
    place = (i,) if block > 1 else ()
    shape = (block,) if block > 1 else ()
    locals_ = [Local("top", TensorType(dtype, shape)), Local("total", TensorType(dtype, shape))]
    source = Access(x, dtype, (n, m), (i, j))
    top, total = (Access(b.name, dtype, shape, place) for b in locals_)
    if rng.random() < 0.5:
        kept = Access(y, dtype, (n, m), (i, j))
    else:
        locals_.append(Local("row", TensorType(dtype, (*shape, m))))
        kept = Access("row", dtype, (*shape, m), (*place, j))
    r0, r1 = read(0, dtype), read(1, dtype)
    along = (row, Axis("j", m, REDUCTION))
    shifted = expr("sub", (r0, r1), dtype)
    body = expr("exp", (shifted,), dtype) if rng.random() < 0.5 else shifted
    maker.rounds = body is not shifted
    stages = (
        Stage("top", along, (source,), r0, top, rng.choice(("max", "min", "add"))),
        Stage("total", along, (source, top), body, total, "add", keep=kept,
              epilogue=expr("add", (expr("abs", (acc(dtype),), dtype), const(1, dtype)), dtype)),
        Stage("map", (row, Axis("j", m)), (kept, total), expr("div", (r0, r1), dtype),
              Access(y, dtype, (n, m), (i, j))))
    maker.rounds = True
    return _case(maker, Kernel("k", stages, ((row, block),), tuple(locals_)))


def columns(rng: random.Random) -> Case:
    """A map into a local block of rows, and a last stage that reduces over the rows."""
    batch, n, m = rng.choice((1, 2, 3)), rng.choice(SIZES[2:]), rng.choice(SIZES)
    dtype = rng.choice((F32, F64, I32, I64))
    block = rng.choice((1, 2, 4, 8, n))
    maker, b, row = Maker(rng), Axis("b", batch), Axis("i", n)
    i, j, at = Affine.axis("i"), Affine.axis("j"), Affine.axis("b")
    axes = (b, row, Axis("j", m))
    body = maker.expression(axes, dtype, 2)
    shape, place = ((block, m), (i, j)) if block > 1 else ((m,), (j,))
    local = Access("t", dtype, shape, place)
    epilogue, out = None, dtype
    if rng.random() < 0.4:
        epilogue, out = expr("gt", (acc(dtype), const(0, dtype)), BOOL), BOOL
    y = maker.buffer(out, (batch, m), "y")
    last = (b, Axis("i", n, REDUCTION), Axis("j", m))
    reduce = rng.choice(("add", "max", "min"))
    stages = (Stage("map", axes, tuple(maker.reads), body, local),
              Stage("sum", last, (local,), read(0, dtype), Access(y, out, (batch, m), (at, j)), reduce, epilogue))
    kernel = Kernel("k", stages, ((b, 1), (row, block)), (Local("t", TensorType(dtype, shape)),))
    return _case(maker, kernel)


def attention(rng: random.Random) -> Case:
    """Two contractions with a row reduction between them, in blocks of rows."""
    heads, n, t, d = rng.choice((1, 2)), rng.choice(SIZES[2:]), rng.choice(SIZES[1:]), rng.choice((3, 8, 16, 17))
    block = rng.choice((2, 4, 8, n))
    maker, h, row = Maker(rng), Axis("h", heads), Axis("i", n)
    q, k, v = (maker.buffer(F32, (heads, size, d)) for size in (n, t, t))
    y = maker.buffer(F32, (heads, n, d), "y")
    hh, i, j, e = (Affine.axis(a) for a in "hije")
    s = Access("s", F32, (block, t), (i, j))
    total = Access("total", F32, (block,), (i,))
    r0, r1 = read(0, F32), read(1, F32)
    product = expr("mul", (r0, r1), F32)
    stages = (
        Stage("scores", (h, row, Axis("j", t), Axis("e", d, REDUCTION)),
              (Access(q, F32, (heads, n, d), (hh, i, e)), Access(k, F32, (heads, t, d), (hh, j, e))), product, s,
              "add"),
        Stage("total", (h, row, Axis("j", t, REDUCTION)), (s,), expr("abs", (r0,), F32), total, "add",
              epilogue=expr("add", (acc(F32), const(1, F32)), F32)),
        Stage("out", (h, row, Axis("e", d), Axis("j", t, REDUCTION)),
              (s, Access(v, F32, (heads, t, d), (hh, j, e)), total), product,
              Access(y, F32, (heads, n, d), (hh, i, e)), "add", epilogue=expr("div", (acc(F32), read(2, F32)), F32)))
    kernel = Kernel("k", stages, ((h, 1), (row, block)),
                    (Local("s", TensorType(F32, (block, t))), Local("total", TensorType(F32, (block,)))))
    maker.rounds = True
    return _case(maker, kernel)


def convolution(rng: random.Random) -> Case:
    """A guarded window over an image times weights: strides, padding, groups by chance."""
    dtype = rng.choice((F32, F32, F64, BF16))
    channels = (1, 3, 5, 8, *[32, 64] * (dtype is BF16))        # so many are multiplied in blocks
    c, o, size, window = (rng.choice(n) for n in (channels, (1, 4, 16, 17), (5, 7, 9, 14), (1, 2, 3)))
    stride, pad = rng.choice((1, 1, 2)), rng.choice((0, 1, 2))
    out = (size + 2 * pad - window) // stride + 1
    maker = Maker(rng)
    axes = (Axis("o", o), Axis("i", out), Axis("j", out), Axis("c", c, REDUCTION), Axis("p", window, REDUCTION),
            Axis("q", window, REDUCTION))
    f = {a.name: Affine.axis(a.name) for a in axes}
    spot = (f["c"], f["i"] * stride + f["p"] - pad, f["j"] * stride + f["q"] - pad)
    guards = tuple(Guard(g, size) for g in spot[1:]) if pad else ()
    image, weights = maker.buffer(dtype, (c, size, size)), maker.buffer(dtype, (o, c, window, window))
    bias, y = maker.buffer(dtype, (o,)), maker.buffer(dtype, (o, out, out), "y")
    reads = (Access(image, dtype, (c, size, size), spot, guards),
             Access(weights, dtype, (o, c, window, window), tuple(f[a] for a in "ocpq")),
             Access(bias, dtype, (o,), (f["o"],)))
    body = expr("mul", (read(0, dtype), read(1, dtype)), dtype)
    epilogue = expr("max", (expr("add", (acc(dtype), read(2, dtype)), dtype), const(0, dtype)), dtype)
    write, more = Access(y, dtype, (o, out, out), (f["o"], f["i"], f["j"])), []
    if maker.chance(0.3):
        plain = replace(write, buffer=maker.buffer(dtype, (o, out, out), "y"))
        more.append(Result(plain, expr("sub", (acc(dtype), read(2, dtype)), dtype)))
    return _case(maker, Kernel("k", (Stage("s", axes, reads, body, write, "add", epilogue, more=tuple(more)),)))


KINDS = (single_stage,) * 10 + (scatter, scan, rows, rows, columns, attention, convolution, convolution)


def random_case(rng: random.Random) -> Case:
    return rng.choice(KINDS)(rng)


def _case(maker: Maker, kernel: Kernel) -> Case:
    used = {b for b in kernel.operands}
    buffers = {n: t for n, t in maker.buffers.items() if n in used}
    program = Program("fuzz", list(kernel.read), list(kernel.written), buffers, [kernel])
    casts = any(e.fn == "cast" and e.args[0].dtype.is_float and not e.dtype.is_float
                for s in kernel.stages for root in (s.body, *s.tails) for e in walk(root))
    return Case(program, maker.indices, nan=not casts and maker.chance(0.1))
