"""Values in memory: the runtime's `Buffer`, which knows its dtype (IR name) and shape, wait() and is_ready()."""
from __future__ import annotations

from typing import Any

import numpy as np

from jtc.dialects.graph import TensorType
from jtc.runtime.engine import Buffer


def from_numpy(array: np.ndarray, copy: bool = True) -> Buffer:
    """A buffer with the array's elements; copy=False uses the array's memory, which nobody may change meanwhile."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return Buffer.from_numpy(np.ascontiguousarray(array) if array.ndim else array, copy)


def splat(type: TensorType, value: Any) -> Buffer:
    """A buffer filled with one number."""
    buffer = Buffer.empty(type.dtype.name, type.shape)
    buffer.fill(value)
    return buffer
