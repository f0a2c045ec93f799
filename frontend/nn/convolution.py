"""Convolution and pooling layers; x is [n, channels, ...] or without the batch [channels, ...]."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from jtc.frontend.nn import functional as F
from jtc.frontend.nn import init
from jtc.frontend.nn.linear import check_sizes, draw_uniform, uninitialised
from jtc.frontend.nn.module import Module
from jtc.frontend.operands import pair
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error


class _Conv(Module):
    """weight [out, in / groups, *kernel], where transposed [in, out / groups, *kernel]; bias [out] or None."""

    rank: ClassVar[int]
    transposed: ClassVar[bool] = False

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
                 groups: int, bias: bool, padding_mode: str, dtype: Any):
        super().__init__()
        name = type(self).__name__
        check_sizes(self, 1, in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise input_error(f"{name} of {in_channels} to {out_channels} channels in {groups} groups",
                              "groups divides both numbers of channels")
        if padding_mode != "zeros":
            raise input_error(f"{name} with padding_mode {padding_mode!r}", "pad first, with nn.functional.pad")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, self.rank, "kernel_size")
        self.stride, self.dilation = pair(stride, self.rank, "stride"), pair(dilation, self.rank, "dilation")
        for option in ("kernel_size", "stride", "dilation"):
            if min(getattr(self, option)) < 1:
                raise input_error(f"{name} with {option} {getattr(self, option)}", f"{option} is at least 1")
        self.padding = padding if isinstance(padding, str) else pair(padding, self.rank, "padding")
        channels = (in_channels, out_channels // groups) if self.transposed else (out_channels, in_channels // groups)
        self.weight = uninitialised(*channels, *self.kernel_size, dtype=dtype)
        self.bias = uninitialised(out_channels, dtype=dtype) if bias else None
        draw_uniform(init.fans(self.weight)[0], self.weight, self.bias)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, usual in (("padding", (0,) * self.rank), ("dilation", (1,) * self.rank), ("groups", 1)):
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)!r}"
        return text + ("" if self.bias is not None else ", bias=False")


class _Forward(_Conv):
    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", dtype: Any = None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
                         dtype)

    def forward(self, x: Any) -> Tensor:
        return type(self).function(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv1d(_Forward):
    """Cross-correlation of [n, in, l] -> [n, out, l']; options as in nn.functional.conv1d.

    weight  [out_channels, in_channels / groups, k]
    bias    [out_channels], or None; both uniform within 1 / sqrt(fan_in)
    """

    rank, function = 1, staticmethod(F.conv1d)


class Conv2d(_Forward):
    """Cross-correlation of [n, in, h, w] -> [n, out, h', w']; options as in nn.functional.conv2d.

    weight  [out_channels, in_channels / groups, kh, kw]
    bias    [out_channels], or None; both uniform within 1 / sqrt(fan_in)
    """

    rank, function = 2, staticmethod(F.conv2d)


class Conv3d(_Forward):
    """Cross-correlation of [n, in, d, h, w] -> [n, out, d', h', w']; options as in nn.functional.conv3d.

    weight  [out_channels, in_channels / groups, kd, kh, kw]
    bias    [out_channels], or None; both uniform within 1 / sqrt(fan_in)
    """

    rank, function = 3, staticmethod(F.conv3d)


class _Transposed(_Conv):
    transposed = True
    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1,
                 padding_mode: str = "zeros", dtype: Any = None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
                         dtype)
        self.output_padding = pair(output_padding, self.rank, "output_padding")

    def forward(self, x: Any) -> Tensor:
        return type(self).function(x, self.weight, self.bias, self.stride, self.padding, self.output_padding,
                                   self.groups, self.dilation)


class ConvTranspose1d(_Transposed):
    """The transpose of Conv1d: [n, in, l] -> [n, out, l']; options as in nn.functional.conv_transpose1d.

    weight  [in_channels, out_channels / groups, k]
    bias    [out_channels], or None; both uniform within 1 / sqrt(fan_in)
    """

    rank, function = 1, staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_Transposed):
    """The transpose of Conv2d: [n, in, h, w] -> [n, out, h', w']; options as in nn.functional.conv_transpose2d.

    weight  [in_channels, out_channels / groups, kh, kw]
    bias    [out_channels], or None; both uniform within 1 / sqrt(fan_in)
    """

    rank, function = 2, staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_Transposed):
    """The transpose of Conv3d: [n, in, d, h, w] -> [n, out, d', h', w']; options as in nn.functional.conv_transpose3d.

    weight  [in_channels, out_channels / groups, kd, kh, kw]
    bias    [out_channels], or None; both uniform within 1 / sqrt(fan_in)
    """

    rank, function = 3, staticmethod(F.conv_transpose3d)


class _MaxPool(Module):
    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                 return_indices: bool = False, ceil_mode: bool = False):
        super().__init__()
        if return_indices:
            raise input_error(f"{type(self).__name__} does not return indices")
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def forward(self, x: Any) -> Tensor:
        return type(self).function(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
                f"dilation={self.dilation}, ceil_mode={self.ceil_mode}")


class MaxPool1d(_MaxPool):
    """The maximum of windows of [n, c, l] -> [n, c, l']; see nn.functional.max_pool1d."""

    function = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool):
    """The maximum of windows of [n, c, h, w] -> [n, c, h', w']; see nn.functional.max_pool2d."""

    function = staticmethod(F.max_pool2d)


class MaxPool3d(_MaxPool):
    """The maximum of windows of [n, c, d, h, w] -> [n, c, d', h', w']; see nn.functional.max_pool3d."""

    function = staticmethod(F.max_pool3d)


class _AvgPool(Module):
    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad

    def forward(self, x: Any) -> Tensor:
        return type(self).function(x, self.kernel_size, self.stride, self.padding, self.ceil_mode,
                                   self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of windows of [n, c, l] -> [n, c, l']; see nn.functional.avg_pool1d."""

    function = staticmethod(F.avg_pool1d)


class AvgPool2d(_AvgPool):
    """The mean of windows of [n, c, h, w] -> [n, c, h', w']; see nn.functional.avg_pool2d."""

    function = staticmethod(F.avg_pool2d)


class AvgPool3d(_AvgPool):
    """The mean of windows of [n, c, d, h, w] -> [n, c, d', h', w']; see nn.functional.avg_pool3d."""

    function = staticmethod(F.avg_pool3d)


class _AdaptiveAvgPool(Module):
    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, output_size: Any):
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Any) -> Tensor:
        return type(self).function(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of output_size windows of [n, c, l]."""

    function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of a grid of output_size windows of [n, c, h, w]."""

    function = staticmethod(F.adaptive_avg_pool2d)
