"""Building small kernels by hand, and checking their code against the reference interpreter."""

from __future__ import annotations

import numpy as np

from jtc.compiler.cpu import machine
from jtc.compiler.cpu.emit import emit
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL, DTYPES, F32, F64, I32, I64
from jtc.dialects.expr import expr, read
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Access, Axis, Guard, Kernel, Pack, Schedule, Stage
from jtc.dialects.reference import run_kernel
from jtc.tools.kernel_runs import Run, Start, execute

COMPILED = (F32, F64, I32, I64, BOOL, *(DTYPES[n] for n in ("i8", "ui16", "f16", "bf16")))
TARGETS = [t for t in ("x86-64-v4", "x86-64-v3", "x86-64") if machine.runs_here(machine.named(t))]
rng = np.random.default_rng(7)


def forms(text: str) -> tuple[Affine, ...]:
    """ "i, 2*j + k" as index forms."""
    return tuple(Affine.parse(t.strip()) for t in text.split(",")) if text else ()


def access(buffer, dtype, shape, index_text, guards=(), fill=0, gather=()):
    return Access(
        buffer, dtype, shape, forms(index_text), tuple(Guard(Affine.parse(g), n) for g, n in guards), fill, gather
    )


def axes(text: str) -> tuple[Axis, ...]:
    """ "i:4 k:7r" as axes."""
    found = []
    for item in text.split():
        name, size = item.split(":")
        found.append(Axis(name, int(size.rstrip("r")), "reduction" if size.endswith("r") else "parallel"))
    return tuple(found)


def fn(name, *args, dtype=None):
    return expr(name, args, dtype or args[-1].dtype)


def data(type: TensorType) -> np.ndarray:
    if type.dtype is BOOL:
        return rng.integers(0, 2, type.shape).astype(bool)
    low = -3 if type.dtype.kind != "uint" else 0
    return rng.integers(low, 4, type.shape).astype(type.dtype.numpy)


def types_of(kernel: Kernel) -> dict[str, TensorType]:
    local = {b.name for b in kernel.locals}
    return {
        a.buffer: TensorType(a.dtype, a.shape)
        for s in kernel.stages
        for a in (*s.reads, s.write, s.keep)
        if a is not None and a.buffer not in local
    }


def check(kernel: Kernel, inputs=None, target="native", tolerance=0.0, ranges=None):
    """Run the kernel and the reference on the same inputs, compare everything it writes; returns (emitted, outputs)."""
    if not isinstance(kernel, Kernel):
        kernel = Kernel("k", (kernel,))
    types, cpu = types_of(kernel), machine.named(target)
    emitted = emit(kernel, types, cpu)
    inputs = dict(inputs or {})
    for name in kernel.operands:
        if name not in inputs and name not in kernel.written:
            inputs[name] = data(types[name])
    starts, exact = {}, {}
    for name in emitted.operands:
        type = types[name]
        start = inputs.get(name)
        if start is None:
            start = np.full(type.shape, np.nan if type.dtype.is_float else 0, type.dtype.numpy)
        starts[name] = Start(start.reshape(-1).astype(type.dtype.numpy, copy=False), type.dtype)
        exact[name] = start.astype(np.float64) if type.dtype.is_float else start.copy()
    run_kernel(kernel, exact, precise=True)
    found = execute([Run(emitted, 1, ranges or [(0, emitted.units)])], starts, cpu)
    outputs = {}
    for name in kernel.written:
        np.testing.assert_allclose(found[name], exact[name].reshape(-1), rtol=tolerance, atol=tolerance, err_msg=name)
        outputs[name] = found[name].reshape(types[name].shape)
    return emitted, outputs


def matmul(n, m, k, schedule, dtype=F32, epilogue=None, out=None):
    reads = (access("a", dtype, (n, k), "i, k"), access("b", dtype, (k, m), "k, j"), access("c", dtype, (m,), "j"))
    return Stage(
        "s",
        axes(f"i:{n} j:{m} k:{k}r"),
        reads,
        fn("mul", read(0, dtype), read(1, dtype)),
        access("y", out or dtype, (n, m), "i, j"),
        "add",
        epilogue,
        schedule=schedule,
    )


MATMULS = {
    "plain": Schedule("j", 16, (("i", 4), ("j", 32)), ("k",), (("k", 4),), threads=2),
    "packed": Schedule(
        "j",
        16,
        (("j", 48), ("k", 8), ("i", 8)),
        ("k",),
        (("k", 4),),
        (Pack(1, ("k", 8), ("j//", "k", "j%")), Pack(0, ("k", 8), ("i", "k"), 16)),
    ),
    "panels": Schedule(
        "j",
        16,
        (("j", 64), ("i", 12), ("j", 32), ("i", 3)),
        ("k",),
        (),
        (Pack(1, ("j", 64), ("j//", "k", "j%")), Pack(0, ("i", 12), ("i//", "k", "i%"))),
    ),
    "blocked": Schedule("j", 16, (("k", 6), ("i", 5), ("j", 16)), ("k",), (("k", 2),)),
    "rows": Schedule("i", 8, (("j", 3), ("i", 8)), ("k",)),
    "dots": Schedule("k", 16, (("i", 2), ("j", 2)), ("k",)),
}


def elementwise(n, dtype, schedule):
    return Stage(
        "s",
        axes(f"i:{n}"),
        (access("x", dtype, (n,), "i"), access("y", dtype, (n,), "i")),
        fn("max", read(0, dtype), read(1, dtype)),
        access("z", dtype, (n,), "i"),
        schedule=schedule,
    )
