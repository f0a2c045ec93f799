"""Derivatives compared with finite differences in f64: both orders, forward mode, many examples at once."""
from __future__ import annotations

import numpy as np

import jtc

STEP = 1e-5                                    # central differences: errors of about 1e-10 of second derivatives
RTOL, ATOL = 2e-5, 2e-6


def differences(function, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Central differences of a function of arrays that gives one number."""
    found = []
    for array in arrays:
        flat, slope = array.reshape(-1), np.empty(array.size)
        for i in range(array.size):
            kept = flat[i]
            flat[i] = kept + STEP
            high = float(function(*arrays))
            flat[i] = kept - STEP
            slope[i] = (high - float(function(*arrays))) / (2 * STEP)
            flat[i] = kept
        found.append(slope.reshape(array.shape))
    return found


def close(got, expected, what: str) -> None:
    for one, other in zip(got, expected, strict=True):
        scale = max(1.0, float(np.abs(other).max(initial=0)))
        np.testing.assert_allclose(np.asarray(one), other, rtol=RTOL, atol=ATOL * scale, err_msg=what)


def check(function, *arrays, second: bool = True, examples: bool = True) -> None:
    """Gradients of `function` (arrays in float64 -> one tensor) of both orders, its jvp and its vmap.

    second: whether the second order is compared; examples: whether vmap is.
    """
    given = [np.array(a, np.float64) for a in arrays]
    rng, every = np.random.default_rng(len(given)), tuple(range(len(given)))
    weights = rng.standard_normal(function(*map(jtc.array, given)).shape)
    directions = [rng.standard_normal(a.shape) for a in given]

    def total(*xs):
        return jtc.sum(function(*xs) * weights)

    first = jtc.jit(jtc.grad(total, every))
    close(first(*given), differences(jtc.jit(total), given), "first order")

    def along(*xs):
        return sum(jtc.sum(g * d) for g, d in zip(jtc.grad(total, every)(*xs), directions))

    if second:
        close(jtc.jit(jtc.grad(along, every))(*given), differences(jtc.jit(along), given), "second order")
    value, slope = jtc.jit(lambda *xs: jtc.jvp(total, xs, directions))(*given)
    close([value, slope], [jtc.jit(total)(*given).numpy(), jtc.jit(along)(*given).numpy()], "forward mode")
    if examples:
        pairs = [np.stack([a, b]) for a, b in zip(given, [a[::-1] if a.ndim else a for a in given])]
        several = jtc.jit(jtc.vmap(jtc.grad(total, every)))(*pairs)
        for n in range(2):
            close([s.numpy()[n] for s in several], [g.numpy() for g in first(*(p[n].copy() for p in pairs))], "vmap")
