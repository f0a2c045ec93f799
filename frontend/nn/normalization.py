"""Normalisation layers."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from jtc.frontend.nn import functional as F
from jtc.frontend.nn import init
from jtc.frontend.nn.linear import check_sizes, uninitialised
from jtc.frontend.nn.module import Module
from jtc.frontend.operands import normalize_shape
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error


class _BatchNorm(Module):
    """Normalise every channel of x [n, num_features, ...].

    While training with the statistics of the batch, which the running ones follow:
    running = (1 - momentum) * running + momentum * batch; momentum None is the mean over all batches.  In evaluation
    with the running statistics.

    weight, bias                [num_features], or None unless affine
    running_mean, running_var   [num_features], None unless track_running_stats
    num_batches_tracked         int64, how many batches the running statistics have seen
    """

    dimensions: ClassVar[tuple[int, ...]]
    optional_keys = frozenset({"num_batches_tracked"})          # PyTorch did not write it before version 0.4.1

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, dtype: Any = None):
        super().__init__()
        check_sizes(self, num_features=num_features)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = init.ones_(uninitialised(num_features, dtype=dtype)) if affine else None
        self.bias = uninitialised(num_features, dtype=dtype) if affine else None
        kind = uninitialised(0, dtype=dtype).dtype.numpy
        start = (np.zeros(num_features, kind), np.ones(num_features, kind), np.array(0, np.int64))
        for name, array in zip(("running_mean", "running_var", "num_batches_tracked"), start):
            self.register_buffer(name, array if track_running_stats else None)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in self.dimensions or x.shape[1] != self.num_features:
            raise input_error(f"{type(self).__name__}({self.num_features}) does not fit shape {x.shape}")
        batch = self.training or self.running_mean is None
        momentum: Any = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.assign(self.num_batches_tracked + 1)
            if momentum is None:
                momentum = 1 / self.num_batches_tracked.astype(x.dtype)
        update = self.training and self.running_mean is not None
        mean, var = (self.running_mean, self.running_var) if update or not batch else (None, None)
        return F.batch_norm(x, mean, var, self.weight, self.bias, batch, 0.0 if momentum is None else momentum,
                            self.eps)

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}")


class BatchNorm1d(_BatchNorm):
    __doc__ = (_BatchNorm.__doc__ or "").replace("[n, num_features, ...]", "[n, num_features] or [n, num_features, l]")
    dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = (_BatchNorm.__doc__ or "").replace("[n, num_features, ...]", "[n, num_features, h, w]")
    dimensions = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = (_BatchNorm.__doc__ or "").replace("[n, num_features, ...]", "[n, num_features, d, h, w]")
    dimensions = (5,)


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimensions, whose sizes are `normalized_shape`.

    weight  [*normalized_shape], ones; None unless elementwise_affine
    bias    [*normalized_shape], zeros; None unless elementwise_affine and bias
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
                 bias: bool = True, dtype: Any = None):
        super().__init__()
        self.normalized_shape, self.eps = normalize_shape(normalized_shape), eps
        self.elementwise_affine = elementwise_affine
        self.weight = init.ones_(uninitialised(*self.normalized_shape, dtype=dtype)) if elementwise_affine else None
        self.bias = uninitialised(*self.normalized_shape, dtype=dtype) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(Module):
    """x / sqrt(mean(x**2) + eps) * weight over the last dimensions, whose sizes are `normalized_shape`.

    weight  [*normalized_shape], ones; None unless elementwise_affine
    eps     None is that of the dtype
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float | None = None,
                 elementwise_affine: bool = True, dtype: Any = None):
        super().__init__()
        self.normalized_shape, self.eps = normalize_shape(normalized_shape), eps
        self.elementwise_affine = elementwise_affine
        self.weight = init.ones_(uninitialised(*self.normalized_shape, dtype=dtype)) if elementwise_affine else None

    def forward(self, x: Any) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over each group of channels of x [n, num_channels, ...].

    weight, bias  [num_channels], ones and zeros; None unless affine
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, dtype: Any = None):
        super().__init__()
        check_sizes(self, 1, num_groups=num_groups, num_channels=num_channels)
        if num_channels % num_groups:
            raise input_error(f"GroupNorm of {num_channels} channels in {num_groups} groups")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = init.ones_(uninitialised(num_channels, dtype=dtype)) if affine else None
        self.bias = uninitialised(num_channels, dtype=dtype) if affine else None

    def forward(self, x: Any) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"
