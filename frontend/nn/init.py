"""Initial values of parameters, under PyTorch's names.  Every function changes its tensor in place and returns it.

Numbers come from `jtc.random`'s generator, drawn on the host: `jtc.random.seed` makes them the same again.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jtc.frontend import random, values
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error


def _fill(tensor: Tensor, draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]) -> Tensor:
    return _set(tensor, draw(random.default.host(), tensor.shape))


def _set(tensor: Tensor, array: np.ndarray) -> Tensor:
    tensor.set_buffer(values.from_numpy(array.astype(tensor.dtype.numpy, copy=False)))
    return tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform numbers in [a, b)."""
    return _fill(tensor, lambda rng, shape: rng.random(shape, np.float32) * np.float32(b - a) + np.float32(a))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normally distributed numbers."""
    return _fill(tensor, lambda rng, shape: rng.standard_normal(shape, np.float32) * np.float32(std) + np.float32(mean))


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Normally distributed numbers, drawn again while they lie outside of [a, b]."""
    if not a < b:
        raise input_error(f"trunc_normal_ needs a < b, got {a} and {b}")

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        found = rng.normal(mean, std, shape)
        for _ in range(1000):
            outside = (found < a) | (found > b)
            if not outside.any():
                return found
            found[outside] = rng.normal(mean, std, int(outside.sum()))
        raise input_error(f"trunc_normal_: hardly any number of mean {mean} and std {std} lies in [{a}, {b}]")

    return _fill(tensor, draw)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """`val` everywhere."""
    return _set(tensor, np.full(tensor.shape, val, tensor.dtype.numpy))


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant_(tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal of a matrix."""
    if tensor.ndim != 2:
        raise input_error(f"eye_ needs a matrix, got shape {tensor.shape}")
    return _set(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def fans(tensor: Tensor) -> tuple[int, int]:
    """Inputs and outputs of a unit: of a weight [out, in, *window], in * window and out * window."""
    if tensor.ndim < 2:
        raise input_error(f"fan in and fan out need at least two dimensions, got shape {tensor.shape}")
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """The factor that keeps the variance through a function: linear, conv1d..3d, sigmoid, tanh, relu, leaky_relu, selu.

    Source: He et al., "Delving deep into rectifiers", 2015; for the others PyTorch's documentation.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity.startswith("conv"):
        return 1.0
    if nonlinearity not in _GAINS:
        raise input_error(f"unknown nonlinearity {nonlinearity!r}", f"one of leaky_relu, {', '.join(_GAINS)}")
    return _GAINS[nonlinearity]


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward networks", 2010."""
    bound = gain * math.sqrt(6 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """As `xavier_uniform_`, normally distributed."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor))))


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise input_error(f"mode {mode!r}", 'it is "fan_in" or "fan_out"')
    return fans(tensor)[mode == "fan_out"]


def kaiming_uniform_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in",
                     nonlinearity: str = "leaky_relu") -> Tensor:
    """Source: He et al., "Delving deep into rectifiers", 2015."""
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3 / _fan(tensor, mode))
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """As `kaiming_uniform_`, normally distributed."""
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)))


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Rows (or columns, where they are fewer) that are orthogonal and of length `gain`."""
    if tensor.ndim < 2:
        raise input_error(f"orthogonal_ needs at least two dimensions, got shape {tensor.shape}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.where(np.diag(r) < 0, -1, 1)                 # without the signs q is not uniformly distributed
        return (q if rows >= columns else q.T).reshape(shape) * gain

    return _fill(tensor, draw)
