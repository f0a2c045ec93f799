"""What a convolution costs directly and by Winograd's algorithm, in cycles of one core.

The constants are measured on one AVX-512 core at 2.5 GHz, over 3 x 3 convolutions of 64 channels at 56 x 56 to 512 at
7 x 7, one image and eight.
"""
from __future__ import annotations

from collections.abc import Sequence

from jtc.dialects.dtypes import F32
from jtc.dialects.kernel import PAIR
from jtc.dialects.target import CpuTarget
from jtc.passes.graph.winograd.match import Convolution
from jtc.passes.graph.winograd.matrices import TAPS

BLOCKS = 7.0                # times as many multiply-adds where a matrix unit multiplies blocks of them (family.Matrix)
NARROW = 16                 # channels and filters below which CpuTarget.per_cycle is not reached
IMAGE, RESULT = 2.3, 1.8    # cycles to make one transformed element of the image; to take one of the products back
FAR_IMAGE, FAR_RESULT = 3.5, 3.7        # the same where all of them together leave the caches
NEAR = 16 << 20             # bytes of transformed elements that stay in a shared cache
TRANSFORM = 3.0             # cycles for one transformed tap, where taps are not constant
BYTE = 0.2                  # cycles to get one byte of constant taps from memory
GAIN = 0.9                  # of the direct cost: the model is no better than that
CLOSE = 1.15                # how much slower the more exact of two may be


def choose(conv: Convolution, fixed: bool, tiles: Sequence[int], target: CpuTarget, apart: bool = False) -> int | None:
    """The tile of `tiles` to use; None to leave the convolution as it is.

    fixed: its taps are known beforehand;  apart: its images may go through the transforms one by one (kernel-slice)
    """
    if min(conv.count(conv.channels), conv.count(conv.filters)) < NARROW:
        return None
    images = conv.count(conv.batch)
    costs = {m: cycles(conv, m, fixed, target, images if apart and target.shares(images) else 1) for m in tiles}
    best = min(costs, key=lambda m: costs[m])
    if costs[best] > GAIN * direct(conv, target):
        return None
    return min(m for m in tiles if costs[m] <= CLOSE * costs[best])


def rate(conv: Convolution, target: CpuTarget) -> float:
    """How many times as many multiply-adds of its 16-bit elements the processor does as of float32; 0 where these are
    what it does."""
    unit = target.matrix(conv.node.dtype)
    if unit is not None:
        return BLOCKS if conv.count(conv.channels) % (unit.pairs * PAIR) == 0 else 0.0
    return PAIR if target.multiplies_pairs(conv.node.dtype) else 0.0


def direct(conv: Convolution, target: CpuTarget) -> float:
    """Cycles of the convolution as one contraction."""
    taps = TAPS * TAPS * _taps(conv)
    places = conv.windows[0].size * conv.windows[1].size * conv.count(conv.batch)
    times = rate(conv, target)
    if times:
        return max(taps * places / (target.per_cycle * times), taps * conv.node.dtype.bytes * BYTE)
    return max(taps * places / target.per_cycle, taps * _bytes(conv) * BYTE)


def cycles(conv: Convolution, tile: int, fixed: bool, target: CpuTarget, slices: int) -> float:
    """Cycles of Winograd's algorithm with tiles of `tile` x `tile`, the batch in so many slices."""
    frequencies = (tile + TAPS - 1) ** 2
    tiles = conv.count(conv.batch)
    for window in conv.windows:
        tiles *= -(-window.size // tile)
    size = _bytes(conv)
    taps = frequencies * _taps(conv)
    image = frequencies * tiles * conv.count((*conv.groups, *conv.channels))
    result = frequencies * tiles * conv.count((*conv.groups, *conv.filters))
    far = (image + result) * size > NEAR * slices
    total = max(taps * tiles / target.per_cycle, taps * size * BYTE)
    total += image * (FAR_IMAGE if far else IMAGE) + result * (FAR_RESULT if far else RESULT)
    return total + (0.0 if fixed else taps * TRANSFORM)


def _bytes(conv: Convolution) -> int:
    """Of an element, in the type that the convolution is computed in: 16-bit floats are widened."""
    return max(conv.node.dtype.bytes, F32.bytes)


def _taps(conv: Convolution) -> int:
    """Pairs of channel and filter."""
    return conv.count((*conv.groups, *conv.channels, *conv.filters))
