"""What the reference interpreters of graphs and kernels share: scalar functions on arrays, boxes of index spaces."""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jtc.dialects.dtypes import DTYPES, DType
from jtc.dialects.optable import REDUCTIONS, SCALAR_FUNCTIONS

POINTS = 1 << 20        # points of an index space that are worked on at a time


# ------------------------------------------------------------------------------------------------ scalars
def computed(dtype: DType, precise: bool) -> np.dtype:
    """The NumPy type that holds values of `dtype`."""
    return np.dtype(np.float64) if precise and dtype.is_float else dtype.numpy


def literal(value: Any, dtype: DType, precise: bool) -> np.ndarray:
    """A number, rounded to its dtype."""
    with np.errstate(over="ignore"):
        return np.asarray(value).astype(dtype.numpy).astype(computed(dtype, precise))


def scalar(fn: str, args: Sequence[np.ndarray], dtype: DType, precise: bool) -> np.ndarray:
    """A scalar function on arrays that broadcast.  dtype: of the result.  16-bit floats are computed in 32 bits."""
    return np.asarray(SCALAR_FUNCTIONS[fn].numpy(*map(wide, args))).astype(computed(dtype, precise), copy=False)


def convert(x: np.ndarray, dtype: DType, precise: bool) -> np.ndarray:
    """What a cast gives.

    Floats become integers towards 0: int32 and int64 are the smallest integer where they cannot hold the value (NaN
    too); narrower ones are the low bits of that int32, uint32 of that int64, and uint64 counts from 2^63 on from there.
    Integers keep their low bits.  16-bit floats come from float32, to which other types are converted first, and are
    rounded where `precise` too.
    A number becomes True unless it is 0; NaN is True.
    """
    x = wide(x)
    if dtype.is_integer and x.dtype.kind == "f":
        return _whole(x, dtype)
    if dtype.is_half:
        x = x.astype(np.float32).astype(dtype.numpy)
    return x.astype(computed(dtype, precise))


def _whole(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Floats as integers, see `convert`."""
    x = np.trunc(x.astype(np.float64))
    if dtype.name == "ui64":
        high = x >= 2.0 ** 63
        low = _whole(np.where(high, x - 2.0 ** 63, x), DTYPES["i64"]).astype(np.uint64)
        return np.where(high, low ^ np.uint64(1 << 63), low)
    bits = 64 if dtype.bits == 64 or dtype.name == "ui32" else 32
    limit = 2.0 ** (bits - 1)
    fits = (x >= -limit) & (x < limit)
    return np.where(fits, x, -limit).astype(f"int{bits}").astype(dtype.numpy)


def wide(x: np.ndarray) -> np.ndarray:
    """16-bit floats as 32-bit ones, in which they are computed; everything else as it is."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind not in "iub" else x


def combine(fn: str, a: np.ndarray, b: np.ndarray, dtype: DType, precise: bool) -> np.ndarray:
    """The reduction's function on two arrays."""
    return np.asarray(REDUCTIONS[fn].numpy(wide(a), wide(b))).astype(computed(dtype, precise), copy=False)


def reduce_axes(fn: str, x: np.ndarray, axes: tuple[int, ...], dtype: DType, precise: bool) -> np.ndarray:
    """`x` combined over axes, which disappear; the reduction's identity where they are empty."""
    if not axes:
        return x
    operand = wide(x)
    start = literal(REDUCTIONS[fn].identity(dtype), dtype, precise).astype(operand.dtype)
    # The dtype is given because NumPy would widen the sum of small integers.
    return np.asarray(REDUCTIONS[fn].numpy.reduce(operand, axis=axes, dtype=operand.dtype, initial=start)).astype(
        computed(dtype, precise), copy=False)


def update(fn: str, target: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
    """target[places[i]] = fn(target[places[i]], values[i]) for every i in order; target, places and values are flat."""
    if fn == "replace":
        target[places] = values             # NumPy keeps the last of several values for one place
    else:
        REDUCTIONS[fn].numpy.at(target, places, values)


# ------------------------------------------------------------------------------------------------ iteration spaces
def slabs(shape: Sequence[int]) -> Iterator[tuple[range, ...]]:
    """The index space `shape` cut into boxes of at most POINTS points, in row-major order; none where it is empty."""
    if math.prod(shape) <= POINTS:
        if math.prod(shape):
            yield tuple(range(n) for n in shape)
        return
    rest = math.prod(shape[1:])
    step = max(1, POINTS // rest)
    for begin in range(0, shape[0], step):
        head = range(begin, min(begin + step, shape[0]))
        if rest <= POINTS:
            yield (head, *(range(n) for n in shape[1:]))
        else:
            yield from ((head, *tail) for tail in slabs(shape[1:]))


def coordinates(box: Sequence[range]) -> list[np.ndarray]:
    """For each dimension of a box its coordinates, as an array that broadcasts over the others."""
    rank = len(box)
    return [np.arange(r.start, r.stop).reshape([-1 if d == k else 1 for k in range(rank)]) for d, r in enumerate(box)]


def locate(index: Sequence[Any], shape: Sequence[int]) -> tuple[Any, Any]:
    """(row-major offset, whether it is inside) of an index into `shape`.  The entries are arrays that broadcast."""
    offset: Any = np.int64(0)
    inside: Any = np.True_
    for i, n in zip(index, shape, strict=True):
        offset = offset * n + i
        inside = inside & (i >= 0) & (i < n)
    return offset, inside


def take(x: np.ndarray, offset: Any, inside: Any, fill: Any) -> np.ndarray:
    """Elements of flat `x`; `fill` where not inside."""
    if not np.any(inside):
        return np.full(np.broadcast_shapes(np.shape(offset), np.shape(inside)), fill, x.dtype)
    if np.all(inside):
        return x[offset]
    return np.where(inside, x[np.where(inside, offset, 0)], np.asarray(fill, x.dtype))
