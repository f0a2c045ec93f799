"""Convolution and pooling: windows are reindexings, the rest is multiply and reduce."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jtc.dialects.affine import Affine
from jtc.dialects.graph import Node, TensorType
from jtc.dialects.optable import REDUCTIONS
from jtc.frontend.autocast import narrowed
from jtc.frontend.manipulation import reshape_node
from jtc.frontend.meta import reindex_node
from jtc.frontend.operands import convert, pair, to_node
from jtc.frontend.promotion import promote
from jtc.frontend.reductions import reduce_node
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, record, splat


def _axis(number: int) -> Affine:
    return Affine.axis(f"d{number}")


def _batched(x: Node, rank: int, name: str) -> tuple[Node, bool]:
    """x with a batch dimension, and whether it had none."""
    if len(x.shape) == rank + 1:
        return reshape_node(x, (1, *x.shape)), True
    if len(x.shape) != rank + 2:
        raise input_error(f"{name} needs {rank + 1} or {rank + 2} dimensions, got shape {x.shape}",
                          f"they are [batch,] channels, {rank} of space")
    return x, False


def _channel_bias(y: Node, bias: Any, name: str) -> Node:
    """y + bias[channel], channels in dimension 1."""
    if bias is None:
        return y
    b = convert(to_node(bias), y.dtype)
    if b.shape != (y.shape[1],):
        raise input_error(f"{name} bias has shape {b.shape}, expected {(y.shape[1],)}")
    return record("add", [y, record("broadcast", [b], {"dims": (1,)}, TensorType(y.dtype, y.shape))])


def _operands(x: Any, w: Any, rank: int, name: str) -> tuple[Node, Node, bool]:
    a, b = narrowed([to_node(x), to_node(w)])
    dtype = promote([a.dtype, b.dtype])
    a, single = _batched(convert(a, dtype), rank, name)
    if len(b.shape) != rank + 2:
        raise input_error(f"{name} weight needs {rank + 2} dimensions, got shape {b.shape}")
    return a, convert(b, dtype), single


def _finish(y: Node, bias: Any, single: bool, name: str) -> Tensor:
    y = _channel_bias(y, bias, name)
    return Tensor.of(reshape_node(y, y.shape[1:]) if single else y)


def _conv(rank: int, x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Tensor:
    """Cross-correlation over the last `rank` dimensions."""
    name = f"conv{rank}d"
    a, b, single = _operands(x, w, rank, name)
    steps, gaps = pair(stride, rank, "stride"), pair(dilation, rank, "dilation")
    out_channels, per_group, *kernel = b.shape
    before, total = _padding(padding, kernel, gaps, steps, name)
    _check_positive(name, stride=steps, dilation=gaps)
    if groups < 1 or a.shape[1] != per_group * groups or out_channels % groups:
        raise input_error(f"{name} of {a.shape[1]} channels in {groups} groups "
                          f"does not fit a weight of shape {b.shape}")
    space = []
    for n, k, s, g, p in zip(a.shape[2:], kernel, steps, gaps, total):
        extent = n + p - g * (k - 1) - 1
        if extent < 0:
            raise input_error(f"{name} kernel {tuple(kernel)} with dilation {gaps} "
                              f"is larger than the padded input {a.shape[2:]}")
        space.append(extent // s + 1)
    # Axes: batch, group (if any), output channel within it, space | channel within the group, kernel.
    grouped = groups > 1
    channels = (groups, out_channels // groups) if grouped else (out_channels,)
    shape = (a.shape[0], *channels, *space, per_group, *kernel)
    first = 1 + len(channels)                                 # number of the first axis of space
    c = first + rank
    where = [_axis(first + d) * steps[d] + _axis(c + 1 + d) * gaps[d] - before[d] for d in range(rank)]
    channel = _axis(1) * per_group + _axis(c) if grouped else _axis(c)
    windows = reindex_node(a, shape, [_axis(0), channel, *where])
    out = _axis(1) * (out_channels // groups) + _axis(2) if grouped else _axis(1)
    weights = reindex_node(b, shape, [out, *(_axis(c + d) for d in range(rank + 1))])
    y = reduce_node("add", record("mul", [windows, weights]), tuple(range(c, len(shape))))
    return _finish(reshape_node(y, (a.shape[0], out_channels, *space)), bias, single, name)


def _padding(padding: Any, kernel: Sequence[int], gaps: Sequence[int], steps: Sequence[int],
             name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before, and before plus after, for each dimension; also "same" and "valid"."""
    if padding == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    if padding == "same":
        if any(s != 1 for s in steps):
            raise input_error(f'{name} padding="same" needs stride 1, got {tuple(steps)}')
        total = tuple(g * (k - 1) for k, g in zip(kernel, gaps))
        return tuple(t // 2 for t in total), total
    amount = pair(padding, len(kernel), "padding")
    if min(amount) < 0:
        raise input_error(f"{name} with negative padding {amount}")
    return amount, tuple(2 * p for p in amount)


def _check_positive(name: str, **values: tuple[int, ...]) -> None:
    for what, numbers in values.items():
        if min(numbers) < 1:
            raise input_error(f"{name} with {what} {numbers}", f"{what} is at least 1")


def conv1d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
           groups: int = 1) -> Tensor:
    """Cross-correlation of x [n, c, l] with weight [o, c/groups, k] -> [n, o, l']; arguments as in PyTorch."""
    return _conv(1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
           groups: int = 1) -> Tensor:
    """Cross-correlation of x [n, c, h, w] with weight [o, c/groups, kh, kw] -> [n, o, h', w']; arguments as in PyTorch.

    stride, padding and dilation are an integer or one for each dimension; padding may be "same" or "valid"; bias [o];
    the batch may be left out.  Of the common dtype of x and weight.  Raises InputError for channels that do not fit
    the groups, and for a kernel larger than the padded input.
    """
    return _conv(2, x, weight, bias, stride, padding, dilation, groups)


def conv3d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
           groups: int = 1) -> Tensor:
    """Cross-correlation of x [n, c, d, h, w] with weight [o, c/groups, kd, kh, kw]; arguments as in PyTorch."""
    return _conv(3, x, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                     groups: int = 1, dilation: Any = 1) -> Tensor:
    """The transpose of conv2d: x [n, c, h, w], weight [c, o/groups, kh, kw]; arguments as in PyTorch.

    Every product of an input and a weight is added at input place * stride + kernel place * dilation - padding.
    """
    return _conv_transpose(2, x, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose1d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                     groups: int = 1, dilation: Any = 1) -> Tensor:
    """The transpose of conv1d: x [n, c, l], weight [c, o/groups, k]; arguments as in PyTorch."""
    return _conv_transpose(1, x, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                     groups: int = 1, dilation: Any = 1) -> Tensor:
    """The transpose of conv3d: x [n, c, d, h, w], weight [c, o/groups, kd, kh, kw]; arguments as in PyTorch."""
    return _conv_transpose(3, x, weight, bias, stride, padding, output_padding, groups, dilation)


def _conv_transpose(rank: int, x: Any, w: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: int,
                    dilation: Any) -> Tensor:
    name = f"conv_transpose{rank}d"
    a, b, single = _operands(x, w, rank, name)
    steps, pads = pair(stride, rank, "stride"), pair(padding, rank, "padding")
    extra, gaps = pair(output_padding, rank, "output_padding"), pair(dilation, rank, "dilation")
    channels, out_per_group, *kernel = b.shape
    _check_positive(name, stride=steps, dilation=gaps)
    if groups < 1 or a.shape[1] != channels or channels % groups:
        raise input_error(f"{name} of {a.shape[1]} channels in {groups} groups "
                          f"does not fit a weight of shape {b.shape}")
    per_group = channels // groups
    space = [(n - 1) * s - 2 * p + g * (k - 1) + e + 1
             for n, s, p, g, k, e in zip(a.shape[2:], steps, pads, gaps, kernel, extra)]
    if min(space) < 1:
        raise input_error(f"{name} gives an empty result of size {tuple(space)}")
    # Axes of the products: batch, group, input channel, input space | output channel, kernel: every product is added
    # where it belongs, input place * stride + kernel place * dilation - padding.
    shape = (a.shape[0], groups, per_group, *a.shape[2:], out_per_group, *kernel)
    o = 3 + rank
    values = reindex_node(a, shape, [_axis(0), _axis(1) * per_group + _axis(2), *(_axis(3 + d) for d in range(rank))])
    weights = reindex_node(b, shape, [_axis(1) * per_group + _axis(2), *(_axis(o + d) for d in range(rank + 1))])
    where = [_axis(3 + d) * steps[d] + _axis(o + 1 + d) * gaps[d] - pads[d] for d in range(rank)]
    out = (a.shape[0], groups * out_per_group, *space)
    target = (_axis(0), _axis(1) * out_per_group + _axis(o), *where)
    y = record("reindex_reduce", [record("mul", [values, weights])], {"fn": "add", "map": target},
               TensorType(a.dtype, out))
    return _finish(y, bias, single, name)


class _Pooled(NamedTuple):
    """A reduction of windows.

    result   [n, c, *space]
    x        the input [n, c, *sizes]; single: it had no n
    shape    of the windows, [n, c, *space, *kernel]; where: the indices into x at one of their points
    axes     the windows' dimensions that are reduced
    """

    result: Node
    x: Node
    single: bool
    shape: tuple[int, ...]
    where: list[Affine]
    axes: tuple[int, ...]
    kernel: tuple[int, ...]
    padding: tuple[int, ...]


def _pool(fn: str, rank: int, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool,
          name: str) -> _Pooled:
    """The windows of x reduced with fn."""
    node, single = _batched(to_node(x), rank, name)
    sizes = pair(kernel, rank, "kernel_size")
    steps = sizes if stride is None else pair(stride, rank, "stride")
    pads, gaps = pair(padding, rank, "padding"), pair(dilation, rank, "dilation")
    _check_positive(name, kernel_size=sizes, stride=steps, dilation=gaps)
    if any(p < 0 or 2 * p > k for p, k in zip(pads, sizes)):
        raise input_error(f"{name} padding {pads} is more than half of the kernel {sizes}")
    space = []
    for n, k, s, g, p in zip(node.shape[2:], sizes, steps, gaps, pads):
        extent = n + 2 * p - g * (k - 1) - 1
        count = (-(-extent // s) if ceil else extent // s) + 1
        if ceil and (count - 1) * s >= n + p:            # the last window starts inside the input or before it
            count -= 1
        if extent < 0 or count < 1:
            raise input_error(f"{name} kernel {sizes} is larger than the padded input {node.shape[2:]}")
        space.append(count)
    shape = (*node.shape[:2], *space, *sizes)
    where = [_axis(2 + d) * steps[d] + _axis(2 + rank + d) * gaps[d] - pads[d] for d in range(rank)]
    axes = tuple(range(2 + rank, 2 + 2 * rank))
    windows = reindex_node(node, shape, [_axis(0), _axis(1), *where], REDUCTIONS[fn].identity(node.dtype))
    return _Pooled(reduce_node(fn, windows, axes), node, single, shape, where, axes, sizes, pads)


def _unbatch(y: Node, single: bool) -> Tensor:
    return Tensor.of(reshape_node(y, y.shape[1:]) if single else y)


def _max_pool(rank: int, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> Tensor:
    pooled = _pool("max", rank, x, kernel, stride, padding, dilation, ceil, f"max_pool{rank}d")
    return _unbatch(pooled.result, pooled.single)


def max_pool1d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False) -> Tensor:
    """The maximum of windows of x [n, c, l] -> [n, c, l']; arguments as for `max_pool2d`."""
    return _max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False) -> Tensor:
    """The maximum of windows of x [n, c, h, w] -> [n, c, h', w'], in the dtype of x; the batch may be left out.

    kernel_size, stride (default: the kernel), padding and dilation are an integer or one for each dimension; padding
    never wins.  ceil_mode: also windows that are partly outside at the end.  Raises InputError for a kernel larger
    than the padded input, and for padding larger than half of the kernel.
    """
    return _max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False) -> Tensor:
    """The maximum of windows of x [n, c, d, h, w] -> [n, c, d', h', w']; arguments as for `max_pool2d`."""
    return _max_pool(3, x, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Tensor:
    """The mean of windows of x [n, c, h, w] -> [n, c, h', w']; arguments and errors as for `max_pool2d`.

    Padding counts as zeros unless count_include_pad is False.  Raises InputError for integers and bools.
    """
    return _avg_pool(2, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool1d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Tensor:
    """The mean of windows of x [n, c, l] -> [n, c, l']; arguments as for `avg_pool2d`."""
    return _avg_pool(1, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool3d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Tensor:
    """The mean of windows of x [n, c, d, h, w] -> [n, c, d', h', w']; arguments as for `avg_pool2d`."""
    return _avg_pool(3, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def _avg_pool(rank: int, x: Any, kernel: Any, stride: Any, padding: Any, ceil: bool, include: bool) -> Tensor:
    name = f"avg_pool{rank}d"
    total, node, single, shape, where, axes, sizes, pads = _pool("add", rank, x, kernel, stride, padding, 1, ceil, name)
    if not node.dtype.is_float:
        raise input_error(f"{name} needs a float input, got {node.dtype.public}")
    if not ceil and (include or not any(pads)):
        return _unbatch(record("mul", [total, splat(1 / math.prod(sizes), total.dtype, total.shape)]), single)
    # The number of elements in each window: ones, where they lie inside the input (and its padding, if that counts).
    border = pads if include else (0,) * rank
    ones = splat(1, node.dtype, tuple(n + 2 * p for n, p in zip(node.shape[2:], border)))
    reach = [form.substitute({f"d{d}": _axis(d - 2) for d in range(2, len(shape))}) + p
             for form, p in zip(where, border)]
    inside = reindex_node(ones, shape[2:], reach)
    count = reduce_node("add", inside, tuple(a - 2 for a in axes))
    spread = record("broadcast", [count], {"dims": tuple(range(2, 2 + rank))}, TensorType(node.dtype, total.shape))
    return _unbatch(record("div", [total, spread]), single)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Tensor:
    """The means of a grid of output_size windows of x [n, c, h, w], which may overlap by one row or column."""
    return _adaptive_avg_pool(2, x, output_size)


def adaptive_avg_pool1d(x: Any, output_size: Any) -> Tensor:
    """The means of output_size windows of x [n, c, l], which may overlap by one."""
    return _adaptive_avg_pool(1, x, output_size)


def _adaptive_avg_pool(rank: int, x: Any, output_size: Any) -> Tensor:
    name = f"adaptive_avg_pool{rank}d"
    node, single = _batched(to_node(x), rank, name)
    sizes = tuple(n if o is None else o for n, o in zip(node.shape[2:], output_size)) \
        if isinstance(output_size, (tuple, list)) else pair(output_size, rank, "output_size")
    if len(sizes) != rank or min(sizes) < 1:
        raise input_error(f"{name} to {output_size!r}")
    if not node.dtype.is_float:
        raise input_error(f"{name} needs a float input, got {node.dtype.public}")
    for d, out in enumerate(sizes, 2):
        node = _adaptive_mean(node, d, out)
    return _unbatch(node, single)


def _adaptive_mean(node: Node, axis: int, out: int) -> Node:
    """Means of `out` windows along one axis, from floor(i * n / out) to ceil((i + 1) * n / out)."""
    n = node.shape[axis]
    if n % out == 0:                                                        # equal windows without overlap
        k = n // out
        cut = reshape_node(node, node.shape[:axis] + (out, k) + node.shape[axis + 1:])
        total = reduce_node("add", cut, (axis + 1,))
        return record("mul", [total, splat(1 / k, total.dtype, total.shape)])
    from jtc.frontend.manipulation import join, part
    means = []
    for i in range(out):
        low, high = i * n // out, -(-(i + 1) * n // out)
        total = reduce_node("add", part(node, axis, low, high), (axis,))
        mean = record("mul", [total, splat(1 / (high - low), total.dtype, total.shape)])
        means.append(reshape_node(mean, node.shape[:axis] + (1,) + node.shape[axis + 1:]))
    return join(means, axis)
