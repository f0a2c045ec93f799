"""Shared by the tests of the front end: run a function on tensors, and compare with NumPy."""
from __future__ import annotations

import numpy as np

from jtc.dialects.dtypes import BF16, F16
from jtc.frontend.tensor import Tensor

RTOL = {np.dtype(np.float32): 2e-5,
        np.dtype(np.float64): 1e-11,        # long sums and library functions, in another order
        F16.numpy: 2.0 ** -9,
        BF16.numpy: 2.0 ** -6}              # a few units in the last place: rounded where a value is stored


def same(result, expected, rtol: float | None = None) -> None:
    """dtype, shape and values agree; floats within RTOL of the largest value, everything else exactly."""
    assert isinstance(result, Tensor), result
    expected = np.asarray(expected)
    value = result.numpy()
    assert value.shape == result.shape == expected.shape
    assert value.dtype == result.dtype.numpy == expected.dtype, (value.dtype, expected.dtype)
    if expected.dtype not in RTOL:
        np.testing.assert_array_equal(value, expected)
        return
    tolerance = rtol or RTOL[expected.dtype]
    if result.dtype.is_half:
        value, expected = value.astype(np.float32), expected.astype(np.float32)
    finite = np.abs(expected[np.isfinite(expected)])
    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance * (finite.max() if finite.size else 0))


def normal(*shape: int, dtype=np.float32, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng([seed, *shape]).standard_normal(shape), dtype)
