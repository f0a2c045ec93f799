"""What a kernel computes and moves, counted from its form; and a rough time for it."""
from __future__ import annotations

from collections.abc import Mapping
from math import prod

from jtc.dialects.expr import Expr, walk
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Kernel
from jtc.dialects.needed import share

_FREE = {"read", "const", "acc", "index", "inbounds", "cast"}
# One slow core: enough to tell what is worth a second thread, not meant to predict.
FLOPS_PER_NS = 16
BYTES_PER_NS = 8


def kernel_cost(kernel: Kernel, buffers: Mapping[str, TensorType]) -> tuple[int, int]:
    """(floating-point and integer operations, bytes moved) of one launch.

    Every scalar function counts as one operation, a reduction step as one more.  Blocks that are left out do not count.
    """
    operations, part = 0, share(kernel.shared, kernel.needed)
    named = set().union(*(g.index.axes for g in kernel.needed))
    for stage in kernel.stages:
        points = prod(axis.size for axis in stage.axes)
        results = prod(axis.size for axis in stage.axes if axis.kind == "parallel")
        work = points * (_count(stage.body) + (stage.reduce is not None)) + results * _count(*stage.tails)
        operations += round(work * part) if named <= stage.sizes.keys() else work
    return operations, sum(bytes_moved(kernel, buffers).values())


def bytes_moved(kernel: Kernel, buffers: Mapping[str, TensorType]) -> dict[str, int]:
    """Global buffer -> its bytes that one launch moves: once, and only as much as the accesses can touch."""
    part = share(kernel.shared, kernel.needed)
    named = set().union(*(g.index.axes for g in kernel.needed))
    local = {b.name for b in kernel.locals}
    touched: dict[str, int] = {}
    for stage in kernel.stages:
        points = prod(axis.size for axis in stage.axes)
        for access in stage.accesses:
            if access.buffer not in local:
                axes = access.axes
                reach = points if access.gather else prod(a.size for a in stage.axes if a.name in axes)
                if named and named <= axes:
                    reach = round(reach * part)
                touched[access.buffer] = touched.get(access.buffer, 0) + reach * access.dtype.bytes
    return {name: min(size, buffers[name].bytes) for name, size in touched.items()}


def estimate_ns(flops: int, moved: int) -> int:
    """Rough time on one thread in nanoseconds."""
    return max(flops // FLOPS_PER_NS, moved // BYTES_PER_NS)


def _count(*roots: Expr) -> int:
    return sum(e.fn not in _FREE for e in dict.fromkeys(e for root in roots for e in walk(root)))
