"""Samples -> one batch, and batches of NumPy arrays -> batches of tensors."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jtc.frontend.tensor import Tensor, is_tensor_like, leaf
from jtc.frontend.trace import input_error


def collate(samples: Sequence[Any]) -> Any:
    """Stack samples along a new first axis: arrays [...] to [n, ...], numbers to [n].

    Tuples, lists and dicts are stacked entry by entry; strings and None become lists.  The result holds NumPy arrays.
    Raises InputError where samples differ in shape, length or keys.
    """
    first = samples[0]
    if first is None or isinstance(first, (str, bytes)):
        return list(samples)
    if isinstance(first, Mapping):
        if any(not isinstance(s, Mapping) or s.keys() != first.keys() for s in samples):
            raise input_error(f"the samples of a batch have different keys; the first has {list(first)!r:.60}")
        return {key: collate([s[key] for s in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        lengths = [len(s) if isinstance(s, (tuple, list)) else None for s in samples]
        if lengths != [len(first)] * len(samples):
            raise input_error(f"the samples of a batch have different numbers of entries: {lengths!r:.60}")
        columns = [collate(column) for column in zip(*samples)]
        if isinstance(first, list):
            return columns
        return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)
    arrays = [_array(s) for s in samples]
    shapes = list(dict.fromkeys(a.shape for a in arrays))
    if len(shapes) > 1:
        raise input_error(f"the samples of a batch have different shapes: {', '.join(map(str, shapes[:4]))}",
                          "pad them in the dataset, or pass collate=")
    return np.stack(arrays)


def _array(sample: Any) -> np.ndarray:
    if type(sample) is float:
        return np.asarray(sample, np.float32)                      # as jtc.asarray(1.5) is
    if isinstance(sample, (np.ndarray, np.generic, bool, int)) or is_tensor_like(sample):
        return np.asarray(sample)
    raise input_error(f"a sample holds {type(sample).__name__}, of which no batch can be made: {sample!r:.40}",
                      "pass collate= that makes arrays of samples")


def tensors(batch: Any) -> Any:
    """The batch with a tensor for every array of numbers; all else stays."""
    if isinstance(batch, np.ndarray) and batch.dtype.kind in "biufV":
        return leaf(batch)
    if isinstance(batch, Mapping):
        return {key: tensors(value) for key, value in batch.items()}
    if isinstance(batch, tuple):
        parts = [tensors(value) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    if isinstance(batch, list):
        return [tensors(value) for value in batch]
    return leaf(np.asarray(batch)) if not isinstance(batch, Tensor) and is_tensor_like(batch) else batch
