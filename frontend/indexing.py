"""Indexing with integers, slices, None, `...` and integer tensors; gather and scatter.

Integers, slices and None are one reindex.  Integer tensors follow as one gather: they are broadcast together, and their
dimensions stand in the result where NumPy puts them.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL, I64
from jtc.dialects.graph import Node, TensorType
from jtc.dialects.optable import REDUCTIONS
from jtc.frontend.manipulation import axes_of, reshape_node
from jtc.frontend.meta import reindex_node
from jtc.frontend.operands import broadcast_shapes, convert, expand, normalize_axis, to_node
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, record, shown, splat


def getitem(x: Tensor, key: Any) -> Tensor:
    """x[key]."""
    node = x.node()
    entries = _entries(key, len(node.shape))
    forms: list[Affine] = []                  # one for each dimension of x
    shape: list[int] = []                     # of the basic result
    advanced: list[tuple[int, Node]] = []     # dimension of the basic result, index tensor
    places: list[int] = []                    # numbers of the entries that are index tensors
    dim = 0
    for number, entry in enumerate(entries):
        if entry is None:
            shape.append(1)
            continue
        size, axis = node.shape[dim], Affine.axis(f"d{len(shape)}")
        if isinstance(entry, slice):
            start, step, count = _slice(entry, size)
            forms.append(axis * step + start)
            shape.append(count)
        elif isinstance(entry, (int, np.integer)):
            forms.append(Affine((), _integer(int(entry), size, dim, node.shape)))
            if any(not isinstance(e, (int, np.integer, slice, type(None))) for e in entries):
                places.append(number)         # beside tensors an integer counts as one
        else:
            forms.append(axis)
            advanced.append((len(shape), entry))
            places.append(number)
            shape.append(size)
        dim += 1
    out = tuple(shape)
    if out != node.shape or any(f != a for f, a in zip(forms, axes_of(len(out)))):
        only_ones = [n for n in out if n != 1] == [n for n in node.shape if n != 1] and all(
            len(f.terms) <= 1 and f.const == 0 and all(c == 1 for c in f.terms.values()) for f in forms)
        node = reshape_node(node, out) if only_ones else reindex_node(node, out, forms)
    if not advanced:
        return Tensor.of(node)
    adjacent = places == list(range(places[0], places[-1] + 1))
    first = sum(1 for e in entries[:places[0]] if e is None or isinstance(e, slice)) if adjacent else 0
    return Tensor.of(_take(node, advanced, first))


def _entries(key: Any, rank: int) -> list[Any]:
    """The key as one entry for each dimension, and None for new ones.  Index tensors are nodes."""
    items = list(key) if isinstance(key, tuple) else [key]
    entries: list[Any] = []
    for item in items:
        if item is None or item is Ellipsis or isinstance(item, slice):
            entries.append(item)
        elif isinstance(item, (bool, np.bool_)):
            raise input_error(f"cannot index with the bool {item}", "choose with jtc.where")
        elif isinstance(item, (int, np.integer)):
            entries.append(int(item))
        elif isinstance(item, (Tensor, np.ndarray, list)):
            index = to_node(item)
            if index.dtype is BOOL:
                raise input_error(f"cannot index with a bool mask of shape {index.shape}: "
                                  "the size of the result would depend on data",
                                  "choose with jtc.where, or mask and reduce")
            if not index.dtype.is_integer:
                raise input_error(f"an index tensor holds integers, got {index.dtype.public}")
            entries.append(index)
        else:
            raise input_error(f"cannot index with {type(item).__name__}: {shown(item, 40)}",
                              "use integers, slices, None, ... or integer tensors")
    used = sum(1 for e in entries if e is not None and e is not Ellipsis)
    dots = sum(1 for e in entries if e is Ellipsis)
    if dots > 1:
        raise input_error("an index may hold only one '...'")
    if used > rank:
        raise input_error(f"{used} indices for {rank} dimension{'s' * (rank != 1)}")
    at = next((i for i, e in enumerate(entries) if e is Ellipsis), len(entries))
    return entries[:at] + [slice(None)] * (rank - used) + entries[at + 1:]


def _slice(entry: slice, size: int) -> tuple[int, int, int]:
    """start, step and number of elements."""
    try:
        start, stop, step = entry.indices(size)
    except (TypeError, ValueError) as error:
        raise input_error(f"bad slice {entry}: {error}") from None
    return start, step, len(range(start, stop, step))


def _integer(index: int, size: int, dim: int, shape: tuple[int, ...]) -> int:
    if not -size <= index < size:
        raise input_error(f"index {index} is out of range for dimension {dim} of shape {shape}")
    return index % size


def wrap(index: Node, size: int) -> Node:
    """Index tensor as int64 with negative entries counted from the end."""
    index = convert(index, I64)
    negative = record("lt", [index, splat(0, I64, index.shape)])
    return record("where", [negative, record("add", [index, splat(size, I64, index.shape)]), index])


def _take(node: Node, advanced: Sequence[tuple[int, Node]], first: int) -> Node:
    """x at the index tensors' values in their dimensions; their common dimensions stand at `first` in the result."""
    common = broadcast_shapes(*(n.shape for _, n in advanced))
    dims = [d for d, _ in advanced]
    rest = [d for d in range(len(node.shape)) if d not in dims]
    before, after = rest[:first], rest[first:]
    out = tuple(node.shape[d] for d in before) + common + tuple(node.shape[d] for d in after)
    forms = [Affine()] * len(node.shape)
    for position, d in enumerate(before):
        forms[d] = Affine.axis(f"d{position}")
    for position, d in enumerate(after, len(before) + len(common)):
        forms[d] = Affine.axis(f"d{position}")
    where = tuple(range(len(before), len(before) + len(common)))
    indices = []
    for d, index in advanced:
        index = expand(wrap(index, node.shape[d]), common)
        if index.shape != out:
            index = record("broadcast", [index], {"dims": where}, TensorType(I64, out))
        indices.append(index)
    return gather_node(node, out, forms, dims, indices)


def gather_node(node: Node, shape: tuple[int, ...], forms: Sequence[Affine], dims: Sequence[int],
                indices: Sequence[Node], fill: Any = 0) -> Node:
    """The "gather" node; an index that leaves the dimension reads `fill`."""
    fill = {"bool": bool, "float": float}.get(node.dtype.kind, int)(fill)
    attrs = {"map": tuple(forms), "dims": tuple(dims), "fill": fill}
    return record("gather", [node, *indices], attrs, TensorType(node.dtype, shape))


def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Tensor:
    """x at integer `indices` [...] along `axis`: that dimension is replaced by those of the indices.

    axis may be left out for one dimension.  Negative indices count from the end; one outside of x reads 0.  Raises
    InputError for indices that are no integers.
    """
    node = to_node(x)
    if axis is None:
        if len(node.shape) != 1:
            raise input_error(f"take needs an axis for shape {node.shape}")
        axis = 0
    a = normalize_axis(axis, len(node.shape))
    return Tensor.of(_take(node, [(a, _index_node(indices))], a))


def _index_node(indices: Any) -> Node:
    index = to_node(indices)
    if not index.dtype.is_integer:
        raise input_error(f"indices are integers, got {index.dtype.public}")
    return index


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Tensor:
    """y[..., i, ...] = x[..., indices[..., i, ...], ...]; the other dimensions are broadcast.

    Negative indices count from the end; one outside of x reads 0.  Raises InputError for indices that are no integers
    or have not as many dimensions as x.
    """
    node, index = to_node(x), _index_node(indices)
    a = normalize_axis(axis, len(node.shape))
    if len(index.shape) != len(node.shape):
        raise input_error(f"take_along_axis needs indices of {len(node.shape)} dimensions, got shape {index.shape}")
    rest = broadcast_shapes(node.shape[:a] + (1,) + node.shape[a + 1:], index.shape[:a] + (1,) + index.shape[a + 1:])
    node = expand(node, rest[:a] + (node.shape[a],) + rest[a + 1:])
    index = expand(index, rest[:a] + (index.shape[a],) + rest[a + 1:])
    forms = axes_of(len(node.shape))
    forms[a] = Affine()
    return Tensor.of(gather_node(node, index.shape, forms, [a], [wrap(index, node.shape[a])]))


def gather(x: Any, indices: Any, /, *, axis: int = -1) -> Tensor:
    """`take_along_axis` under PyTorch's name."""
    return take_along_axis(x, indices, axis=axis)


def scatter(x: Any, indices: Any, updates: Any, /, *, axis: int = -1, reduce: str = "replace") -> Tensor:
    """A copy of x with x[..., indices[..., i, ...], ...] combined with updates[..., i, ...], in row-major order.

    reduce: "replace", "add", "mul", "max", "min", "and" or "or".  `indices` and `updates` have one shape, which
    agrees with x in all dimensions but `axis`.  Indices outside of x are dropped.
    """
    node, index, values = to_node(x), _index_node(indices), to_node(updates)
    a = normalize_axis(axis, len(node.shape))
    if reduce != "replace" and reduce not in REDUCTIONS:
        raise input_error(f"unknown reduction {shown(reduce)}", f"one of replace, {', '.join(REDUCTIONS)}")
    others = [(m, n) for d, (m, n) in enumerate(zip(index.shape, node.shape)) if d != a]
    if len(index.shape) != len(node.shape) or any(m != n for m, n in others):
        raise input_error(f"scatter indices of shape {index.shape} do not fit {node.shape} along axis {a}")
    values = expand(convert(values, node.dtype), index.shape)
    forms = axes_of(len(node.shape))
    forms[a] = Affine()
    attrs = {"fn": reduce, "map": tuple(forms), "dims": (a,)}
    return Tensor.of(record("scatter", [node, values, wrap(index, node.shape[a])], attrs))


PUBLIC = ("take", "take_along_axis", "gather", "scatter")
