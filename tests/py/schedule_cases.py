"""Programs of every class of stage, and the processors that their schedules are checked for."""
from __future__ import annotations

from dataclasses import replace

from jtc.dialects import expr
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BF16, F32, F64, I64, DType
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import PARALLEL, REDUCTION, Access, Axis, Guard, Kernel, Local, Program, Stage
from jtc.dialects.target import CpuTarget

A = Affine.axis
AVX512, AVX2, SSE = CpuTarget(), CpuTarget("x86-64-v3", "", 256, 16, False), CpuTarget("x86-64", "", 128, 16, False)


def access(buffer: str, shape, *index, dtype: DType = F32, **more) -> Access:
    return Access(buffer, dtype, tuple(shape), tuple(map(Affine.of, index)), **more)


def axes(text: str) -> tuple[Axis, ...]:
    """"i:4 k:8r" -> a parallel axis i and a reduction axis k."""
    return tuple(Axis(n, int(s.rstrip("r")), REDUCTION if s.endswith("r") else PARALLEL)
                 for n, s in (word.split(":") for word in text.split()))


def read(number: int, dtype: DType = F32):
    return expr.read(number, dtype)


def fn(name: str, *args):
    return expr.expr(name, args, args[-1].dtype)


PRODUCT = fn("mul", read(0), read(1))


def program(*stages: Stage, constants=(), shared=(), locals=()) -> Program:
    """One kernel "k" of these stages; what it reads and does not write is an input."""
    kernel = Kernel("k", stages, shared, locals)
    local = {b.name for b in locals}
    buffers = {a.buffer: TensorType(a.dtype, a.shape) for s in stages for a in s.accesses if a.buffer not in local}
    inputs = [b for b in buffers if b not in kernel.written and b not in constants]
    return Program("f", inputs, list(kernel.written), buffers, [kernel], {c: None for c in constants})


def matmul(m=6, n=40, k=24, constants=()) -> Program:
    return program(Stage("s", axes(f"m:{m} n:{n} k:{k}r"),
                         (access("a", (m, k), A("m"), A("k")), access("b", (k, n), A("k"), A("n"))),
                         PRODUCT, access("c", (m, n), A("m"), A("n")), "add"), constants=constants)


def conv(channels=3, filters=5, size=7, window=3, stride=1, pad=1, batch=1, constants=()) -> Program:
    out = (size + 2 * pad - window) // stride + 1
    h, w = A("h") * stride + A("p") - pad, A("w") * stride + A("q") - pad
    guards = (Guard(h, size), Guard(w, size)) if pad else ()
    reads = (access("x", (batch, channels, size, size), A("n"), A("c"), h, w, guards=guards),
             access("f", (filters, channels, window, window), A("o"), A("c"), A("p"), A("q")))
    domain = axes(f"n:{batch} o:{filters} h:{out} w:{out} c:{channels}r p:{window}r q:{window}r")
    write = access("y", (batch, filters, out, out), A("n"), A("o"), A("h"), A("w"))
    return program(Stage("s", domain, reads, PRODUCT, write, "add"), constants=constants)


def depthwise(channels=3, size=9, window=3) -> Program:
    h, w = A("h") + A("p") - 1, A("w") + A("q") - 1
    reads = (access("x", (channels, size, size), A("c"), h, w, guards=(Guard(h, size), Guard(w, size))),
             access("f", (channels, window, window), A("c"), A("p"), A("q")))
    return program(Stage("s", axes(f"c:{channels} h:{size} w:{size} p:{window}r q:{window}r"), reads, PRODUCT,
                         access("y", (channels, size, size), A("c"), A("h"), A("w")), "add"))


def elementwise(*shape: int, dtype: DType = F32) -> Program:
    names = [f"d{i}" for i in range(len(shape))]
    index = [A(n) for n in names]
    body = fn("add", fn("mul", read(0, dtype), read(1, dtype)), expr.const(1, dtype))
    return program(Stage("s", tuple(map(Axis, names, shape)),
                         (access("x", shape, *index, dtype=dtype), access("y", shape[-1:], *index[-1:], dtype=dtype)),
                         body, access("z", shape, *index, dtype=dtype)))


def transpose(m: int, n: int) -> Program:
    return program(Stage("s", axes(f"i:{n} j:{m}"), (access("x", (m, n), A("j"), A("i")),), read(0),
                         access("y", (n, m), A("i"), A("j"))))


def turned_sum(m: int, n: int) -> Program:
    """y[i, j] = x[i, j] + t[j, i]"""
    reads = (access("x", (m, n), A("i"), A("j")), access("t", (n, m), A("j"), A("i")))
    return program(Stage("s", axes(f"i:{m} j:{n}"), reads, fn("add", read(0), read(1)),
                         access("y", (m, n), A("i"), A("j"))))


def reduction(m: int, n: int, over: str, reduce: str = "add") -> Program:
    kept = [a for a in "ij" if a not in over]
    sizes = {"i": m, "j": n}
    return program(Stage("s", tuple(Axis(a, sizes[a], REDUCTION if a in over else PARALLEL) for a in "ij"),
                         (access("x", (m, n), A("i"), A("j")),), read(0),
                         access("y", [sizes[a] for a in kept], *map(A, kept)), reduce))


def scatter(n: int, width: int, reduce: str | None = "add") -> Program:
    row = (0, expr.read(1, I64))
    return program(Stage("s", axes(f"i:{n} j:{width}"),
                         (access("x", (n, width), A("i"), A("j")), access("at", (n,), A("i"), dtype=I64)), read(0),
                         access("y", (5, width), 0, A("j"), gather=(row,)), reduce, accumulate=True))


def scan(m: int, n: int, along: str) -> Program:
    place = (A("i"), A("j"))
    domain = tuple(Axis(a, s, REDUCTION if a == along else PARALLEL) for a, s in (("i", m), ("j", n)))
    return program(Stage("s", domain, (access("x", (m, n), *place),), fn("max", expr.acc(F32), read(0)),
                         access("y", (m, n), *place), "max", fn("add", expr.acc(F32), read(0)), scan=True))


def recurrence(m: int, n: int) -> Program:
    place = (A("i"), A("j"))
    return program(Stage("s", axes(f"i:{m} j:{n}r"), (access("a", (m, n), *place), access("b", (m, n), *place)),
                         fn("add", fn("mul", read(0), expr.acc(F32)), read(1)), access("y", (m, n), *place), "add",
                         scan=True))


def gather(n: int, width: int) -> Program:
    row = (0, expr.read(1, I64))
    return program(Stage("s", axes(f"i:{n} j:{width}"),
                         (access("x", (5, width), 0, A("j"), gather=(row,)), access("at", (n,), A("i"), dtype=I64)),
                         read(0), access("y", (n, width), A("i"), A("j"))))


def softmax(m: int, n: int, block: int = 1) -> Program:
    x, place = access("x", (m, n), A("i"), A("j")), [A("i")] if block > 1 else []
    top, total = (access(name, [block] * len(place), *place) for name in ("top", "total"))
    row = access("row", ([block] if place else []) + [n], *place, A("j"))
    stages = (Stage("max", axes(f"i:{m} j:{n}r"), (x,), read(0), top, "max"),
              Stage("sum", axes(f"i:{m} j:{n}r"), (x, top), fn("exp", fn("sub", read(0), read(1))), total, "add",
                    keep=row),
              Stage("div", axes(f"i:{m} j:{n}"), (row, total), fn("div", read(0), read(1)), replace(x, buffer="y")))
    scalar = TensorType(F32, tuple([block] * len(place)))
    return program(*stages, shared=((Axis("i", m), block),),
                   locals=(Local("top", scalar), Local("total", scalar), Local("row", TensorType(F32, row.shape))))


def pair_panels(rows: int, pairs: int) -> Program:
    """Rows of pairs, which lie below one another afterwards."""
    return program(Stage("s", axes(f"k:{pairs} j:{rows} p:2"),
                         (access("x", (rows, 2 * pairs), A("j"), A("k") * 2 + A("p"), dtype=BF16),), read(0, BF16),
                         access("y", (pairs, rows, 2), A("k"), A("j"), A("p"), dtype=BF16)))


def panels(rows: int, width: int, count: int) -> Program:
    """Rows of x, each cut into `count` pieces, piece by piece."""
    return program(Stage("s", axes(f"t:{count} r:{rows} p:{width}"),
                         (access("x", (rows, width * count), A("r"), A("t") * width + A("p")),), read(0),
                         access("y", (count, rows, width), A("t"), A("r"), A("p"))))


SIZES = [(1, 1), (1, 17), (3, 7), (17, 3), (33, 33), (7, 129), (64, 1)]
CASES = {
    **{f"panels of {r}x{n * w}": panels(r, w, n) for r, w, n in ((33, 48, 3), (7, 17, 5), (100, 8, 4))},
    **{f"pairs of {r}x{p}": pair_panels(r, p) for r, p in ((16, 33), (32, 48), (5, 7))},
    **{f"matmul {m}x{n}": matmul(m, n, k) for (m, n), k in zip(SIZES, (1, 3, 7, 17, 33, 129, 5))},
    **{f"conv {c}->{f}@{s}/{t}": conv(c, f, s, w, t, p, b, constants) for c, f, s, w, t, p, b, constants in (
        (3, 5, 7, 3, 1, 1, 1, ()), (17, 33, 7, 3, 1, 1, 2, ("f",)), (64, 64, 14, 3, 1, 1, 1, ("f",)),
        (3, 64, 33, 7, 2, 3, 1, ("f",)), (40, 17, 9, 1, 1, 0, 1, ()), (1, 1, 3, 3, 1, 1, 1, ()))},
    **{f"elementwise {s}": elementwise(*s) for s in (*SIZES, (3, 5, 7), (1,), (1000,), (2, 3, 1, 5))},
    **{f"transpose {m}x{n}": transpose(m, n) for m, n in SIZES},
    **{f"turned sum {m}x{n}": turned_sum(m, n) for m, n in (*SIZES, (40, 300))},
    **{f"{r} over {o} of {m}x{n}": reduction(m, n, o, r) for m, n in SIZES for o in ("i", "j", "ij")
       for r in ("add", "max")},
    **{f"depthwise {c}@{s}": depthwise(c, s) for c, s in ((1, 3), (3, 9), (17, 33))},
    **{f"softmax {m}x{n} by {b}": softmax(m, n, b) for m, n in SIZES for b in (1, 4) if m % b == 0},
    **{f"scatter {m}x{n}": scatter(m, n) for m, n in SIZES}, "ordered scatter": scatter(6, 33, None),
    **{f"scan along {a} of {m}x{n}": scan(m, n, a) for m, n in SIZES for a in "ij"},
    **{f"recurrence {m}x{n}": recurrence(m, n) for m, n in SIZES},
    **{f"gather {m}x{n}": gather(m, n) for m, n in SIZES},
    "f64": elementwise(5, 33, dtype=F64), "scalar": elementwise(1),
}
