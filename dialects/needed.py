"""Blocks of the innermost shared axis that a kernel needs: those in which `Kernel.needed` can hold.

A guard is an affine form of the innermost shared axis j and of others, 0 <= c * j + rest < size.  For one block of the
others, `rest` lies between two numbers; so each guard can hold from one j to another one only, and all of them from one
block of j to another one.  Blocks outside of these may be left out.  One block always runs, so that what the reduction
leaves is written: where nothing is needed, that of an empty reduction.
"""
from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from jtc.dialects.kernel import Axis, Guard

Shared = Sequence[tuple[Axis, int]]


def points(guard: Guard, axis: str, least: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last value of the axis at which the guard can hold, where the rest of its form lies between
    `least` and `most`; the first is larger than the last where there is none."""
    step = guard.index[axis]
    if step > 0:        # 0 <= step * j + most  and  step * j + least < size
        return -(most // step), (guard.size - 1 - least) // step
    return -((guard.size - 1 - least) // -step), most // -step


def share(shared: Shared, needed: Sequence[Guard]) -> float:
    """The part of all iterations of the shared blocks that is needed: 1 without guards."""
    if not needed or not prod(axis.size for axis, _ in shared):
        return 1.0
    *outer, (inner, block) = shared
    used = set().union(*(g.index.axes for g in needed))
    counts = [-(-axis.size // size) if axis.name in used else 1 for axis, size in outer]
    places = np.indices(counts, np.int64, sparse=True)
    last_block = -(-inner.size // block) - 1
    first, last = np.zeros(counts, np.int64), np.full(counts, last_block)
    for guard in needed:
        least = most = np.asarray(guard.index.const)
        for (axis, size), place in zip(outer, places):
            step = guard.index[axis.name]
            ends = step * place * size, step * (np.minimum((place + 1) * size, axis.size) - 1)
            least, most = least + np.minimum(*ends), most + np.maximum(*ends)
        low, high = points(guard, inner.name, least, most)
        first, last = np.maximum(first, low // block), np.minimum(last, high // block)
    first = np.minimum(first, last_block)
    return float(np.mean(np.maximum(last - first, 0) + 1)) / (last_block + 1)
