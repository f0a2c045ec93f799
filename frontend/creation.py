"""Tensors from data, and from nothing but a shape."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from jtc.dialects.dtypes import BOOL, F32, F64, I64, DType
from jtc.dialects.graph import Node, TensorType
from jtc.frontend.operands import array_node, convert, need_integer, normalize_axis, normalize_shape, to_node
from jtc.frontend.promotion import check_range, is_scalar, scalar_dtype
from jtc.frontend.tensor import Tensor, is_tensor_like, leaf
from jtc.frontend.trace import array_type, current_tracer, input_error, public_dtype, record, shown, splat


def _check_device(device: Any) -> None:
    if device not in (None, "cpu"):
        raise input_error(f"unknown device {device!r}", "the devices are: cpu")


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor of an array, a nested list, a number, a tensor or anything with DLPack.

    Arrays keep their dtype; Python floats become float32, Python integers int64.  A tensor is returned as it is,
    unless the dtype differs or copy is True.  An array is always copied: it may change, a tensor does not.
    Raises InputError for ragged lists and for element types that jtc does not have.
    """
    _check_device(device)
    to = None if dtype is None else public_dtype(dtype)
    if isinstance(obj, Tensor):
        if to is not None and to is not obj.dtype:
            from jtc.frontend.elementwise import astype
            return astype(obj, to)
        return obj.__copy__() if copy else obj
    if is_scalar(obj):
        strong = isinstance(obj, np.generic) and not isinstance(obj, float)
        return Tensor.of(_number(obj, to or (public_dtype(obj.dtype) if strong else scalar_dtype(obj))))
    if _holds_tensor(obj):
        from jtc.frontend.manipulation import stack
        stacked = stack([asarray(item) for item in obj])
        return stacked if to is None else asarray(stacked, dtype=to)
    array = _to_numpy(obj)
    array_type(array)                                # refuses what no tensor can hold
    if to is not None and array.dtype != to.numpy:
        if isinstance(obj, (list, tuple)):
            _check_fits(array, to)
        array = array.astype(to.numpy)
    if current_tracer() is None:
        return leaf(array)
    return Tensor.of(array_node(array))


def array(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = True) -> Tensor:
    """A tensor with a copy of `obj`; see `asarray`."""
    return asarray(obj, dtype=dtype, device=device, copy=copy)


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor with a copy of any object that offers DLPack."""
    if not hasattr(x, "__dlpack__"):
        raise input_error(f"{type(x).__name__} does not offer DLPack: {shown(x)}", "use jtc.asarray")
    return asarray(np.from_dlpack(x), device=device)


def _holds_tensor(obj: Any) -> bool:
    return isinstance(obj, (list, tuple)) and any(isinstance(o, Tensor) or _holds_tensor(o) for o in obj)


def _to_numpy(obj: Any) -> np.ndarray:
    if isinstance(obj, np.ndarray):
        return obj
    if isinstance(obj, (list, tuple)):
        try:
            array = np.array(obj)
        except ValueError:
            raise input_error(f"a nested list must be rectangular, got {shown(obj)}") from None
        if array.dtype.kind not in "biuf" and not _holds_array(obj):
            raise input_error(f"a list of numbers is needed, got {shown(obj)}",
                              "integers lie between -2^63 and 2^64" if array.dtype.kind == "O" else None)
        if array.dtype == np.float64 and not _holds_array(obj):
            array = array.astype(np.float32)         # a list of Python floats
        return array
    if is_tensor_like(obj):
        return np.asarray(obj) if hasattr(obj, "__array__") else np.from_dlpack(obj)
    raise input_error(f"cannot make a tensor of {type(obj).__name__}: {shown(obj)}",
                      "pass an array, a number, or nested lists of numbers")


def _holds_array(obj: Any) -> bool:
    return any(isinstance(o, np.ndarray) or isinstance(o, (list, tuple)) and _holds_array(o) for o in obj)


def _check_fits(array: np.ndarray, to: DType) -> None:
    """Raise InputError where Python numbers that became `array` do not fit into an integer dtype."""
    if to.is_integer and array.size:
        info = np.iinfo(to.numpy)
        wrong = ~((array >= info.min) & (array <= info.max))                  # also NaN
        if wrong.any():
            raise input_error(f"{array[wrong][0]} does not fit into {to.public} ({info.min} to {info.max})")


def _number(value: Any, dtype: DType, shape: tuple[int, ...] = ()) -> Node:
    """A splat, after checking that an integer fits."""
    if dtype.is_integer:
        if isinstance(value, (float, np.floating)) and not math.isfinite(value):
            raise input_error(f"{value} does not fit into {dtype.public}")
        check_range(int(value), dtype)
    return splat(value, dtype, shape)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of `shape` (an integer or a tuple) filled with one number.

    dtype: that of the number (Python's are int64, float32 and bool) unless it is given.  Raises InputError for a
    negative size, and for a number that does not fit the dtype.
    """
    _check_device(device)
    if isinstance(fill_value, Tensor):
        from jtc.frontend.manipulation import broadcast_to
        return broadcast_to(asarray(fill_value, dtype=dtype), normalize_shape(shape))
    if not is_scalar(fill_value):
        raise input_error(f"full needs a number to fill with, got {shown(fill_value)}")
    to = scalar_dtype(fill_value) if dtype is None else public_dtype(dtype)
    return Tensor.of(_number(fill_value, to, normalize_shape(shape)))


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros; float32 unless dtype is given."""
    return full(shape, 0, dtype=F32 if dtype is None else dtype, device=device)


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones; float32 unless dtype is given."""
    return full(shape, 1, dtype=F32 if dtype is None else dtype, device=device)


def empty(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor whose contents should not be relied on (they are zeros)."""
    return zeros(shape, dtype=dtype, device=device)


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of the shape of x, filled with one number; of the dtype of x unless dtype is given."""
    node = to_node(x)
    return full(node.shape, fill_value, dtype=node.dtype if dtype is None else dtype, device=device)


def zeros_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of the shape of x, of zeros; of the dtype of x unless dtype is given."""
    return full_like(x, 0, dtype=dtype, device=device)


def ones_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of the shape of x, of ones; of the dtype of x unless dtype is given."""
    return full_like(x, 1, dtype=dtype, device=device)


def empty_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of the shape of x, whose contents should not be relied on; of the dtype of x unless dtype is given."""
    return zeros_like(x, dtype=dtype, device=device)


def iota(shape: Any, axis: int = 0, *, dtype: Any = None) -> Tensor:
    """The index along one axis: y[..., i, ...] = i; int64 unless dtype is given."""
    dims = normalize_shape(shape)
    to = I64 if dtype is None else public_dtype(dtype)
    if to is BOOL:
        raise input_error("iota counts; it has no bool form")
    return Tensor.of(record("iota", [], {"axis": normalize_axis(axis, len(dims))}, TensorType(to, dims)))


def arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Tensor:
    """start, start + step, ... below stop, of shape [count]; int64, or float32 where an argument is a float.

    arange(stop) starts at 0.  Computed in float64 or int64 and then converted.  Raises InputError for step 0, and for
    numbers that are not finite.
    """
    _check_device(device)
    if stop is None:
        start, stop = 0, start
    if not all(is_scalar(v) for v in (start, stop, step)):
        raise input_error(f"arange needs numbers, got {shown(start, 30)}, {shown(stop, 30)}, {shown(step, 30)}")
    if not all(map(math.isfinite, (start, stop, step))):
        raise input_error(f"arange needs finite numbers, got {start}, {stop}, {step}")
    if step == 0:
        raise input_error("arange with step 0")
    is_float = any(isinstance(v, (float, np.floating)) for v in (start, stop, step))
    to = public_dtype(dtype) if dtype is not None else (F32 if is_float else I64)
    count = max(0, math.ceil((stop - start) / step) if is_float else -((start - stop) // step))
    if not is_float:
        for number in (start, step):
            check_range(number, I64)
    return _line(start, step, count, to, is_float)


def linspace(start: Any, stop: Any, /, num: int, *, dtype: Any = None, device: Any = None,
             endpoint: bool = True) -> Tensor:
    """`num` equally spaced numbers from start to stop (included unless endpoint is False); float32 by default."""
    _check_device(device)
    to = F32 if dtype is None else public_dtype(dtype)
    if not all(is_scalar(v) and math.isfinite(v) for v in (start, stop)):
        raise input_error(f"linspace needs finite numbers, got {shown(start, 30)}, {shown(stop, 30)}")
    if need_integer(num, "num") < 0:
        raise input_error(f"linspace with num {num}")
    step = (stop - start) / max(1, num - 1 if endpoint else num)
    return _line(start, step, num, to, True)


def _line(start: Any, step: Any, count: int, to: DType, is_float: bool) -> Tensor:
    """start + i * step, computed in float64 or int64 and then converted."""
    wide = F64 if is_float else I64
    i = record("iota", [], {"axis": 0}, TensorType(wide, (count,)))
    if step != 1:
        i = record("mul", [i, splat(step, wide, (count,))])
    if start != 0:
        i = record("add", [i, splat(start, wide, (count,))])
    return Tensor.of(convert(i, to))


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere: [n_rows, n_cols]; float32 unless dtype is given."""
    _check_device(device)
    shape = normalize_shape((n_rows, n_rows if n_cols is None else n_cols))
    on = record("eq", [_difference(shape, need_integer(k, "k")), splat(0, I64, shape)])
    return Tensor.of(convert(on, F32 if dtype is None else public_dtype(dtype)))


def _difference(shape: tuple[int, ...], k: int) -> Node:
    """column - row - k over the last two axes."""
    rows, columns = (record("iota", [], {"axis": len(shape) + d}, TensorType(I64, shape)) for d in (-2, -1))
    difference = record("sub", [columns, rows])
    return record("sub", [difference, splat(k, I64, shape)]) if k else difference


def tril(x: Any, /, *, k: int = 0) -> Tensor:
    """The part of x [..., m, n] on and below the k-th diagonal; zeros above it."""
    return _triangle(x, "le", k)


def triu(x: Any, /, *, k: int = 0) -> Tensor:
    """The part of x [..., m, n] on and above the k-th diagonal; zeros below it."""
    return _triangle(x, "ge", k)


def _triangle(x: Any, compare: str, k: int) -> Tensor:
    node = to_node(x)
    if len(node.shape) < 2:
        raise input_error(f"a triangle needs at least two dimensions, got shape {node.shape}")
    keep = record(compare, [_difference(node.shape, need_integer(k, "k")), splat(0, I64, node.shape)])
    return Tensor.of(record("where", [keep, node, splat(0, node.dtype, node.shape)]))


PUBLIC = ("asarray", "array", "from_dlpack", "full", "zeros", "ones", "empty", "full_like", "zeros_like", "ones_like",
          "empty_like", "iota", "arange", "linspace", "eye", "tril", "triu")
