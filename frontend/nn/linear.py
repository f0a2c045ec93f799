"""Layers without windows: linear maps, embeddings, dropout, reshaping."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jtc.frontend.nn import functional as F
from jtc.frontend.nn import init
from jtc.frontend.nn.module import Module
from jtc.frontend.nn.parameter import Parameter
from jtc.frontend.operands import need_integer
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, public_dtype


def uninitialised(*shape: int, dtype: Any = None) -> Parameter:
    """A parameter of zeros, whose values are set afterwards."""
    return Parameter(np.zeros(shape, public_dtype(dtype or "float32").numpy))


def draw_uniform(fan_in: int, *parameters: Parameter | None) -> None:
    """PyTorch's initial values: uniform within 1 / sqrt(fan_in), which is kaiming_uniform_ with a = sqrt(5)."""
    bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
    for parameter in parameters:
        if parameter is not None:
            init.uniform_(parameter, -bound, bound)


def check_sizes(module: Module, least: int = 0, **sizes: Any) -> None:
    """Raise InputError unless all sizes of a layer are integers of at least `least`."""
    for name, value in sizes.items():
        need_integer(value, f"{name} of {type(module).__name__}", least)


class Linear(Module):
    """y = x @ weight.T + bias: [..., in_features] -> [..., out_features].

    weight  [out_features, in_features]
    bias    [out_features], or None
    both uniform within 1 / sqrt(in_features)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = None):
        super().__init__()
        check_sizes(self, in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = uninitialised(out_features, in_features, dtype=dtype)
        self.bias = uninitialised(out_features, dtype=dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values anew."""
        draw_uniform(self.in_features, self.weight, self.bias)

    def forward(self, x: Any) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """Rows of a table: integers [...] -> [..., embedding_dim].  weight [num_embeddings, embedding_dim], normal.

    padding_idx  a row that begins as zeros
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, dtype: Any = None):
        super().__init__()
        check_sizes(self, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise input_error(f"padding_idx {padding_idx} is no row of {num_embeddings}")
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = uninitialised(num_embeddings, embedding_dim, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            array = self.weight.numpy().copy()
            array[self.padding_idx] = 0
            self.weight.assign(array)

    def forward(self, x: Any) -> Tensor:
        return F.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Bilinear(Module):
    """y[..., o] = sum of x1[..., i] * weight[o, i, j] * x2[..., j] + bias[o]."""

    def __init__(self, in1_features: int, in2_features: int, out_features: int, bias: bool = True, dtype: Any = None):
        super().__init__()
        check_sizes(self, in1_features=in1_features, in2_features=in2_features, out_features=out_features)
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = uninitialised(out_features, in1_features, in2_features, dtype=dtype)
        self.bias = uninitialised(out_features, dtype=dtype) if bias else None
        draw_uniform(in1_features, self.weight, self.bias)

    def forward(self, x1: Any, x2: Any) -> Tensor:
        return F.bilinear(x1, x2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
                f"out_features={self.out_features}, bias={self.bias is not None}")


class Identity(Module):
    """Returns its argument; takes and ignores any options."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class Dropout(Module):
    """While training: zeros with probability p, the rest scaled by 1 / (1 - p).  Otherwise x itself."""

    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise input_error(f"dropout probability {p} is not between 0 and 1")
        self.p = p

    def forward(self, x: Any) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout2d(Dropout):
    """Dropout of whole channels of x [n, c, ...]."""

    def forward(self, x: Any) -> Tensor:
        return F.dropout2d(x, self.p, self.training)


class Flatten(Module):
    """Dimensions start_dim to end_dim as one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Dimension `dim` as several of the sizes `unflattened_size`."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]):
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        dim = self.dim % x.ndim
        return x.reshape((*x.shape[:dim], *self.unflattened_size, *x.shape[dim + 1:]))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
