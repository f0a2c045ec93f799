"""One form of kernels that do the same: it is scheduled once and compiled once.

The blocks of a network do the same to other buffers.  The steps of a recorded loop do the same to other parts of one
buffer: to step t of all inputs, into step t of all results.  Seen from the start of its part, each of them is the same
kernel; the launch says where the part starts.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Access, Kernel
from jtc.passes.stages import map_accesses


@dataclass(frozen=True)
class Part:
    """Elements of a buffer from `offset` (bytes) on, and their type."""

    offset: int
    type: TensorType


def on_parts(kernel: Kernel) -> tuple[Kernel, dict[str, Part]]:
    """The kernel on the parts of its buffers that it touches, and these parts; buffers touched whole are not named.

    A part is cut along the first dimension of the view that all accesses to the buffer have in common.
    """
    ranges: dict[str, tuple[tuple[int, ...], int, int]] = {}        # view, first and last index along its dimension 0
    whole = {b.name for b in kernel.locals}
    for stage in kernel.stages:
        for access in stage.accesses:
            shape, low, high = ranges.get(access.buffer, (access.shape, access.size, -1))
            found = _range(access, stage.sizes)
            if found is None or access.shape != shape:
                whole.add(access.buffer)
            else:
                ranges[access.buffer] = shape, min(low, found[0]), max(high, found[1])
    cut = {b: r for b, r in ranges.items() if b not in whole and (r[1], r[2]) != (0, r[0][0] - 1)}
    if not cut:
        return kernel, {}

    def moved(access: Access) -> Access:
        if access.buffer not in cut:
            return access
        shape, low, high = cut[access.buffer]
        return replace(access, shape=(high - low + 1, *shape[1:]), index=(access.index[0] - low, *access.index[1:]))

    parts = {}
    for stage in kernel.stages:
        for access in stage.accesses:
            if access.buffer in cut:
                row = TensorType(access.dtype, access.shape[1:]).bytes
                parts[access.buffer] = Part(cut[access.buffer][1] * row, TensorType(access.dtype, moved(access).shape))
    return replace(kernel, stages=tuple(map_accesses(s, moved) for s in kernel.stages)), parts


def canonical(kernel: Kernel) -> tuple[Kernel, dict[str, str]]:
    """The kernel with names by position and without what code does not depend on; and its global buffers' new names."""
    local = {b.name: f"l{i}" for i, b in enumerate(kernel.locals)}
    names = {name: f"b{i}" for i, name in enumerate(kernel.operands)}
    every = {**names, **local}

    def access(a: Access) -> Access:
        return replace(a, buffer=every[a.buffer])

    stages = tuple(replace(map_accesses(s, access), name=f"s{i}", locs=(), ops=())
                   for i, s in enumerate(kernel.stages))
    locals_ = tuple(replace(b, name=local[b.name]) for b in kernel.locals)
    in_place = tuple((names[new], names[old]) for new, old in kernel.in_place)
    return Kernel("kernel", stages, kernel.shared, locals_, in_place=in_place, needed=kernel.needed), names


def _range(access: Access, sizes: Mapping[str, int]) -> tuple[int, int] | None:
    """The first and the last index along dimension 0; None where that depends on data, or guards have to bound it."""
    if not access.shape or access.gather or not all(sizes.values()):
        return None
    low, high = access.index[0].range(sizes)
    return (low, high) if 0 <= low and high < access.shape[0] else None
