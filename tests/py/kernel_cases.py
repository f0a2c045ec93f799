"""Small programs at the kernel level, each with what it computes in NumPy; together they use all fields of a kernel."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jtc.dialects import expr
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL, F32, I32, I64
from jtc.dialects.expr import acc, const, read
from jtc.dialects.graph import Location, TensorType
from jtc.dialects.kernel import REDUCTION, Access, Axis, Guard, Kernel, Local, Pack, Program, Schedule, Stage

A = Affine.axis


@dataclass
class Case:
    program: Program
    expected: Callable[..., list[np.ndarray]]


def access(buffer, dtype, shape, *index, **more) -> Access:
    return Access(buffer, dtype, shape, tuple(Affine.of(i) for i in index), **more)


def f32(*shape: int) -> TensorType:
    return TensorType(F32, shape)


def red(name: str, size: int) -> Axis:
    return Axis(name, size, REDUCTION)


def fn(name, *args):
    dtype = BOOL if name in ("lt", "eq") else args[-1].dtype
    return expr.expr(name, args, dtype)


def matmul() -> Case:
    """relu(x @ w + b), with a schedule that has every field."""
    i, j, k = A("i"), A("j"), A("k")
    schedule = Schedule("j", 4, (("j", 8), ("i", 2), ("j", 4)), ("k",), (("k", 2),),
                        (Pack(1, ("j", 8), ("j//", "k", "j%"), 16),), ("i",), 1, True)
    stage = Stage("s0", (Axis("i", 6), Axis("j", 8), red("k", 5)),
                  (access("x", F32, (6, 5), i, k), access("w", F32, (5, 8), k, j), access("b", F32, (8,), j)),
                  fn("mul", read(0, F32), read(1, F32)), access("y", F32, (6, 8), i, j), "add",
                  fn("max", fn("add", acc(F32), read(2, F32)), const(0, F32)), schedule=schedule,
                  locs=(Location("net.py", 3), Location("net.py", 4, "relu")), ops=("mul", "reduce", "add", "max"))
    kernel = Kernel("matmul_relu", (stage,), reasons=(("y", 'it is an "output"'),))
    program = Program("f", ["x"], ["y"], {"x": f32(6, 5), "w": f32(5, 8), "b": f32(8), "y": f32(6, 8)}, [kernel],
                      {"w": None, "b": 0.1}, ["input"], ["output"])
    return Case(program, lambda x, w: [np.maximum(x @ w + np.float32(0.1), 0)])


def convolution() -> Case:
    """One-dimensional, padded: guards and a fill; and a maximum of it with -inf outside."""
    i, o, p = A("i"), A("o"), A("p")
    reads = (access("x", F32, (9,), i + p - 1, guards=(Guard(i + p - 1, 9),)), access("w", F32, (2, 3), o, p))
    conv = Stage("conv", (Axis("o", 2), Axis("i", 9), red("p", 3)), reads, fn("mul", read(0, F32), read(1, F32)),
                 access("c", F32, (2, 9), o, i), "add")
    padded = access("c", F32, (2, 9), o, i * 2 + p - 1, guards=(Guard(i * 2 + p - 1, 9),), fill=-math.inf)
    pool = Stage("pool", (Axis("o", 2), Axis("i", 5), red("p", 3)), (padded,), read(0, F32),
                 access("y", F32, (2, 5), o, i), "max")
    program = Program("f", ["x", "w"], ["c", "y"], {"x": f32(9), "w": f32(2, 3), "c": f32(2, 9), "y": f32(2, 5)},
                      [Kernel("conv", (conv,)), Kernel("pool", (pool,))])

    def expected(x, w):
        c = np.stack([np.convolve(np.pad(x, 1), row[::-1], "valid") for row in w])
        wide = np.pad(c, ((0, 0), (1, 1)), constant_values=-math.inf)
        return [c, np.stack([wide[:, 2 * k:2 * k + 3].max(1) for k in range(5)], 1)]
    return Case(program, expected)


def softmax(block: int) -> Case:
    """Four stages that share the rows, `block` of them at a time; max and sum are locals."""
    i, k = A("i"), A("k")
    rows, columns = Axis("i", 5), red("k", 7)
    x = access("x", F32, (5, 7), i, k)
    local = (block,) if block > 1 else ()
    at = (i,) if block > 1 else ()
    top, total = (access(name, F32, local, *at) for name in ("top", "total"))
    e = access("e", F32, (*local, 7), *at, k)
    stages = (
        Stage("top", (rows, columns), (x,), read(0, F32), top, "max"),
        Stage("total", (rows, columns), (x, top), fn("exp", fn("sub", read(0, F32), read(1, F32))), total, "add",
              keep=e),
        Stage("y", (rows, Axis("k", 7)), (e, total), fn("div", read(0, F32), read(1, F32)),
              access("y", F32, (5, 7), i, k)))
    kernel = Kernel("softmax", stages, ((rows, block),),
                    (Local("top", f32(*local)), Local("total", f32(*local)), Local("e", f32(*local, 7))))
    program = Program("softmax", ["x"], ["y"], {"x": f32(5, 7), "y": f32(5, 7)}, [kernel])

    def expected(x):
        e = np.exp(x - x.max(1, keepdims=True))
        return [e / e.sum(1, keepdims=True)]
    return Case(program, expected)


def blocked_reduction(order: str) -> Case:
    """A shared axis that the last stage reduces over: y[j] = 1 + sum_k square(x[k]) * w[k, j], in blocks of 3."""
    j, k = A("j"), A("k")
    square = Stage("square", (Axis("k", 8),), (access("x", F32, (8,), k),), fn("mul", read(0, F32), read(0, F32)),
                   access("s", F32, (3,), k))
    total = Stage("total", (Axis("j", 4), red("k", 8)), (access("s", F32, (3,), k), access("w", F32, (8, 4), k, j)),
                  fn("mul", read(0, F32), read(1, F32)), access("y", F32, (4,), j), "add",
                  fn("add", acc(F32), const(1, F32)))
    shared = {"k": (Axis("k", 8), 3), "j": (Axis("j", 4), 3)}
    kernel = Kernel("k0", (square, total), tuple(shared[a] for a in order), (Local("s", f32(3)),))
    program = Program("f", ["x", "w"], ["y"], {"x": f32(8), "w": f32(8, 4), "y": f32(4)}, [kernel])
    return Case(program, lambda x, w: [1 + (x * x) @ w])


def embedding() -> Case:
    """Gathered reads, and ordered scatters with add and with replace, into buffers that kernels before have written."""
    i, j = A("i"), A("j")
    ids = access("ids", I64, (6,), i)
    rows = access("table", F32, (4, 3), 0, j, fill=-1.0, gather=((0, read(0, I64)),))
    take = Stage("take", (Axis("i", 6), Axis("j", 3)), (ids, rows), read(1, F32), access("y", F32, (6, 3), i, j))
    kernels = [Kernel("take", (take,))]
    for name, reduce in (("sums", "add"), ("last", "replace")):
        clear = Stage("clear", (Axis("i", 4), Axis("j", 3)), (), const(0.5, F32), access(name, F32, (4, 3), i, j))
        put = Stage("put", (Axis("i", 6), Axis("j", 3)), (ids, access("y", F32, (6, 3), i, j)), read(1, F32),
                    access(name, F32, (4, 3), 0, j, gather=((0, read(0, I64)),)), reduce, accumulate=True)
        kernels += [Kernel(f"clear_{name}", (clear,)), Kernel(f"put_{name}", (put,))]
    program = Program("f", ["table", "ids"], ["y", "sums", "last"],
                      {"table": f32(4, 3), "ids": TensorType(I64, (6,)), "y": f32(6, 3), "sums": f32(4, 3),
                       "last": f32(4, 3)}, kernels)

    def expected(table, ids):
        y = np.stack([table[n] if 0 <= n < 4 else np.full(3, -1, np.float32) for n in ids])
        sums, last = np.full((2, 4, 3), 0.5, np.float32)
        for n, row in zip(ids, y):
            if 0 <= n < 4:
                sums[n] += row
                last[n] = row
        return [y, sums, last]
    return Case(program, expected)


def indices() -> Case:
    """Index and inbounds expressions, casts, digits of a packed index, integer and bool buffers and fills."""
    i = A("i")
    odd = fn("eq", expr.cast(fn("mod", expr.index(i + 1, I64), const(2, I64)), I32), const(0, I32))
    inside = expr.expr("inbounds", (), BOOL, (Guard(i - 2, 4), Guard(i, 5)))
    reads = (access("x", I32, (2, 4), A("i//4"), A("i%4")),
             access("m", BOOL, (8,), i - 1, guards=(Guard(i - 1, 8),), fill=True))
    stage = Stage("s", (Axis("i", 8),), reads,
                  fn("where", fn("and", read(1, BOOL), fn("or", odd, inside)), read(0, I32), const(-7, I32)),
                  access("y", I32, (8,), i * -1 + 7))
    program = Program("f", ["x", "m"], ["y"], {"x": TensorType(I32, (8,)), "m": TensorType(BOOL, (8,)),
                                              "y": TensorType(I32, (8,))}, [Kernel("k", (stage,))])

    def expected(x, m):
        at = np.arange(8)
        use = np.concatenate([[True], m[:-1]]) & (((at + 1) % 2 == 0) | ((at >= 2) & (at < 5)))
        return [np.where(use, x, np.int32(-7))[::-1]]
    return Case(program, expected)


def recurrence() -> Case:
    """A scan from the end, with an epilogue that moves with the scanned axis: x + running(a h + b)."""
    i, t = A("i"), A("t")
    reads = tuple(access(name, F32, (3, 6), i, t * -1 + 5) for name in ("a", "b", "x"))
    stage = Stage("s", (Axis("i", 3), red("t", 6)), reads,
                  fn("add", fn("mul", read(0, F32), acc(F32)), read(1, F32)),
                  access("y", F32, (3, 6), i, t * -1 + 5), "add", fn("add", acc(F32), read(2, F32)), scan=True)
    program = Program("f", ["a", "b", "x"], ["y"], {name: f32(3, 6) for name in "abxy"}, [Kernel("k", (stage,))])

    def expected(a, b, x):
        h, y = np.zeros(3, np.float32), np.empty_like(x)
        for step in range(5, -1, -1):
            h = a[:, step] * h + b[:, step]
            y[:, step] = h + x[:, step]
        return [y]
    return Case(program, expected)


def empty() -> Case:
    """A reduction over nothing gives the identity, an empty space writes nothing."""
    i, k = A("i"), A("k")
    total = Stage("s", (Axis("i", 2), red("k", 0)), (access("x", F32, (2, 0), i, k),), read(0, F32),
                  access("y", F32, (2,), i), "mul")
    nothing = Stage("t", (Axis("i", 0),), (access("y", F32, (2,), i),), read(0, F32), access("z", F32, (0,), i))
    program = Program("f", ["x"], ["y", "z"], {"x": f32(2, 0), "y": f32(2), "z": f32(0)},
                      [Kernel("k0", (total,)), Kernel("k1", (nothing,))])
    return Case(program, lambda x: [np.ones(2), np.ones(0)])


CASES: dict[str, Callable[[], Case]] = {
    "matmul": matmul, "convolution": convolution, "softmax": lambda: softmax(1), "softmax_blocks": lambda: softmax(2),
    "blocked_reduction_k": lambda: blocked_reduction("k"), "blocked_reduction_kj": lambda: blocked_reduction("kj"),
    "blocked_reduction_jk": lambda: blocked_reduction("jk"), "embedding": embedding, "indices": indices, "empty": empty,
    "recurrence": recurrence,
}
