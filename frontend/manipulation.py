"""Functions that move elements: reshape, transpose, join, split, pad, repeat.  All of them are reindexings."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import I64
from jtc.dialects.gradients import JOINED
from jtc.dialects.graph import Node, TensorType
from jtc.dialects.pieces import MANY
from jtc.frontend.meta import reindex_node
from jtc.frontend.operands import (
    broadcast_shapes,
    convert,
    expand,
    need_integer,
    normalize_axes,
    normalize_axis,
    normalize_shape,
    to_node,
)
from jtc.frontend.promotion import promote
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, record, shown, splat


def axes_of(rank: int) -> list[Affine]:
    """The forms d0, d1, ..."""
    return [Affine.axis(f"d{d}") for d in range(rank)]


def reshape_node(node: Node, shape: tuple[int, ...]) -> Node:
    return node if node.shape == shape else record("reshape", [node], {}, TensorType(node.dtype, shape))


def reshape(x: Any, /, shape: Any, *, copy: bool | None = None) -> Tensor:
    """The same elements in row-major order under another shape; one size may be -1 and is then computed.

    Raises InputError where the number of elements differs.
    """
    node = to_node(x)
    sizes = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    unknown = [d for d, n in enumerate(sizes) if isinstance(n, (int, np.integer)) and n == -1]
    if len(unknown) > 1:
        raise input_error(f"only one size may be -1, got {tuple(sizes)}")
    if unknown:
        sizes[unknown[0]] = 1
        rest = int(np.prod(normalize_shape(sizes), dtype=np.int64))
        if rest == 0 or node.type.size % rest:
            raise input_error(f"cannot reshape {node.shape} ({node.type.size} elements) to {tuple(shape)}")
        sizes[unknown[0]] = node.type.size // rest
    return Tensor.of(reshape_node(node, normalize_shape(sizes)))


def permute_dims(x: Any, /, axes: Sequence[int]) -> Tensor:
    """Dimension k of the result is dimension axes[k] of x.  Raises InputError unless axes is a permutation."""
    node = to_node(x)
    if not isinstance(axes, (tuple, list, range)):
        raise input_error(f"axes is a permutation of the dimensions, got {shown(axes)}", "for example (1, 0)")
    perm = normalize_axes(tuple(axes), len(node.shape))
    if len(perm) != len(node.shape):
        raise input_error(f"{tuple(axes)} is not a permutation of the {len(node.shape)} dimensions of {node.shape}")
    return Tensor.of(transpose_node(node, perm))


def transpose_node(node: Node, perm: tuple[int, ...]) -> Node:
    return node if perm == tuple(range(len(perm))) else record("transpose", [node], {"perm": perm})


def transpose(x: Any, /, axes: Sequence[int] | None = None) -> Tensor:
    """`permute_dims`; all dimensions in reverse where `axes` is not given."""
    return permute_dims(x, tuple(range(to_node(x).type.rank))[::-1] if axes is None else axes)


def matrix_transpose(x: Any, /) -> Tensor:
    """The last two dimensions exchanged: [..., m, n] -> [..., n, m]."""
    rank = to_node(x).type.rank
    if rank < 2:
        raise input_error(f"matrix_transpose needs at least two dimensions, got shape {to_node(x).shape}")
    return permute_dims(x, (*range(rank - 2), rank - 1, rank - 2))


def swapaxes(x: Any, /, axis1: int, axis2: int) -> Tensor:
    """x with two dimensions exchanged.  Raises InputError for a dimension that x does not have."""
    rank = to_node(x).type.rank
    order = list(range(rank))
    a, b = normalize_axis(axis1, rank), normalize_axis(axis2, rank)
    order[a], order[b] = order[b], order[a]
    return permute_dims(x, order)


def moveaxis(x: Any, source: Any, destination: Any, /) -> Tensor:
    """Dimensions `source` moved to the places `destination` (integers or tuples); the others keep their order.

    Raises InputError where there are not as many places as dimensions.
    """
    rank = to_node(x).type.rank
    sources, places = normalize_axes(source, rank), normalize_axes(destination, rank)
    if len(sources) != len(places):
        raise input_error(f"moveaxis of {len(sources)} axes to {len(places)} places")
    order = [d for d in range(rank) if d not in sources]
    for place, axis in sorted(zip(places, sources)):
        order.insert(place, axis)
    return permute_dims(x, order)


def broadcast_to(x: Any, /, shape: Any) -> Tensor:
    """x repeated to `shape` under NumPy's rules.  Raises InputError where it does not fit."""
    node, to = to_node(x), normalize_shape(shape)
    if broadcast_shapes(node.shape, to) != to:
        raise input_error(f"cannot broadcast shape {node.shape} to {to}")
    return Tensor.of(expand(node, to))


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """The arguments, each in its dtype, repeated to their common shape.  Raises InputError where there is none."""
    nodes = [to_node(a) for a in arrays]
    shape = broadcast_shapes(*(n.shape for n in nodes))
    return [Tensor.of(expand(n, shape)) for n in nodes]


def expand_dims(x: Any, /, axis: Any) -> Tensor:
    """A dimension of size 1 inserted at place `axis` (or at several places) of the result."""
    node = to_node(x)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    places = normalize_axes(axis, len(node.shape) + count)
    rest = iter(node.shape)
    return Tensor.of(reshape_node(node,
                                  tuple(1 if d in places else next(rest) for d in range(len(node.shape) + count))))


def squeeze(x: Any, /, axis: Any = None) -> Tensor:
    """Dimensions of size 1 removed: those of `axis`, or all.  Raises InputError for one of another size."""
    node = to_node(x)
    axes = normalize_axes(axis, len(node.shape)) if axis is not None else \
        tuple(d for d, n in enumerate(node.shape) if n == 1)
    for a in axes:
        if node.shape[a] != 1:
            raise input_error(f"cannot squeeze dimension {a} of shape {node.shape}: its size is {node.shape[a]}, not 1")
    return Tensor.of(reshape_node(node, tuple(n for d, n in enumerate(node.shape) if d not in axes)))


def flatten(x: Any, /, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim to end_dim (included) merged into one."""
    node = to_node(x)
    if not node.shape:
        return reshape(x, (1,))
    first, last = normalize_axis(start_dim, node.type.rank), normalize_axis(end_dim, node.type.rank)
    if last < first:
        raise input_error(f"flatten from dimension {first} to {last}")
    merged = int(np.prod(node.shape[first:last + 1], dtype=np.int64))
    return Tensor.of(reshape_node(node, node.shape[:first] + (merged,) + node.shape[last + 1:]))


def flip(x: Any, /, *, axis: Any = None) -> Tensor:
    """The order of the elements reversed along `axis` (one, several or all)."""
    node = to_node(x)
    forms = axes_of(len(node.shape))
    for a in normalize_axes(axis, len(node.shape)):
        forms[a] = node.shape[a] - 1 - forms[a]
    return Tensor.of(reindex_node(node, node.shape, forms))


def roll(x: Any, /, shift: Any, *, axis: Any = None) -> Tensor:
    """Elements moved by `shift` places along `axis`, those past the end coming in at the front."""
    node = to_node(x)
    if axis is None:
        return reshape(roll(reshape(x, -1), shift, axis=0), node.shape)
    axes = normalize_axes(axis, len(node.shape))
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise input_error(f"roll by {len(shifts)} shifts along {len(axes)} axes")
    for a, s in zip(axes, shifts):
        size, s = node.shape[a], need_integer(s, "shift")
        if size and s % size:
            cut = size - s % size
            node = join([part(node, a, cut, size), part(node, a, 0, cut)], a)
    return Tensor.of(node)


def part(node: Node, axis: int, start: int, stop: int) -> Node:
    """Elements start .. stop along one axis."""
    forms = axes_of(len(node.shape))
    forms[axis] = forms[axis] + start
    return reindex_node(node, node.shape[:axis] + (stop - start,) + node.shape[axis + 1:], forms)


def parts(node: Node, axis: int, bounds: Sequence[int]) -> list[Node]:
    """Elements bounds[k] .. bounds[k + 1] along one axis, for all k."""
    return [part(node, axis, low, high) for low, high in zip(bounds, bounds[1:])]


def join(nodes: Sequence[Node], axis: int) -> Node:
    """Nodes of one dtype one after the other.

    Of a few, each is read with an offset, and the place chooses among them.  Many of one type are written one by one;
    others are joined in groups, then the groups.
    """
    if len(nodes) == 1:
        return nodes[0]
    nodes = [n for n in nodes if n.shape[axis]] or list(nodes[:1])
    if len(nodes) > MANY:
        if all(n.type == nodes[0].type for n in nodes):
            return record("concat", nodes, {"axis": axis})
        groups = [nodes[k:k + MANY] for k in range(0, len(nodes), MANY)]
        return join([join(group, axis) for group in groups], axis)
    shape = list(nodes[0].shape)
    shape[axis] = sum(n.shape[axis] for n in nodes)
    out = tuple(shape)
    place = record("iota", [], {"axis": axis}, TensorType(I64, out))
    end, result = out[axis], None
    for node in reversed(nodes):
        end -= node.shape[axis]
        forms = axes_of(len(out))
        forms[axis] = forms[axis] - end
        moved = reindex_node(node, out, forms)
        if result is None:
            result = moved
        else:
            here = record("lt", [place, splat(end + node.shape[axis], I64, out)])
            result = record("where", [here, moved, result])
            result.data = JOINED
    return result                                                    # type: ignore[return-value]


def _same_dtype(values: Sequence[Any], name: str) -> list[Node]:
    if not isinstance(values, (tuple, list)) or not values:
        raise input_error(f"{name} needs a list of one or more tensors, got {shown(values)}")
    nodes = [to_node(v) for v in values]
    dtype = promote([n.dtype for n in nodes])
    return [convert(n, dtype) for n in nodes]


def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> Tensor:
    """Tensors joined along an existing axis, in their common dtype; axis None joins them flattened.

    Raises InputError where other sizes differ, and for tensors without dimensions.
    """
    nodes = _same_dtype(arrays, "concat")
    if axis is None:
        nodes, axis = [reshape_node(n, (n.type.size,)) for n in nodes], 0
    if not nodes[0].shape:
        raise input_error("cannot concat tensors without dimensions", "use stack")
    a = normalize_axis(axis, len(nodes[0].shape))
    for n in nodes[1:]:
        rest, wanted = n.shape[:a] + n.shape[a + 1:], nodes[0].shape[:a] + nodes[0].shape[a + 1:]
        if rest != wanted or len(n.shape) != len(nodes[0].shape):
            raise input_error(f"cannot concat shapes {nodes[0].shape} and {n.shape} along axis {a}")
    return Tensor.of(join(nodes, a))


def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis, in their common dtype.  Raises InputError where shapes differ."""
    nodes = _same_dtype(arrays, "stack")
    for n in nodes[1:]:
        if n.shape != nodes[0].shape:
            raise input_error(f"cannot stack shapes {nodes[0].shape} and {n.shape}")
    a = normalize_axis(axis, len(nodes[0].shape) + 1)
    shape = nodes[0].shape[:a] + (1,) + nodes[0].shape[a:]
    return Tensor.of(join([reshape_node(n, shape) for n in nodes], a))


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along `axis`, without that axis: as many tensors as its size."""
    node = to_node(x)
    a = normalize_axis(axis, len(node.shape))
    shape = node.shape[:a] + node.shape[a + 1:]
    return tuple(Tensor.of(reshape_node(p, shape)) for p in parts(node, a, range(node.shape[a] + 1)))


def split(x: Any, sections: int | Sequence[int], /, *, axis: int = 0) -> list[Tensor]:
    """x cut along `axis`: into `sections` equal parts, or before each of the given places, as in NumPy.

    Raises InputError where equal parts are not possible.
    """
    node = to_node(x)
    a = normalize_axis(axis, len(node.shape))
    size = node.shape[a]
    if isinstance(sections, (int, np.integer)):
        if sections < 1 or size % sections:
            raise input_error(f"cannot split {size} elements into {sections} equal parts", "give the places to cut at")
        cuts = [size // sections * i for i in range(1, sections)]
    else:
        places = [need_integer(c, "a place to cut at") for c in sections]
        cuts = [min(max(c + (size if c < 0 else 0), 0), size) for c in places]
    return [Tensor.of(part(node, a, low, max(low, high))) for low, high in zip([0, *cuts], [*cuts, size])]


def pad(x: Any, pad_width: Any, /, *, constant_values: Any = 0) -> Tensor:
    """x with `constant_values` (one number) around it.

    pad_width: an integer, (before, after), or one such pair for each dimension, as in NumPy.  Raises InputError for
    negative widths, and for pairs that are not one for each dimension.
    """
    node = to_node(x)
    rank = len(node.shape)
    try:
        given = np.asarray(pad_width)
        widths = np.broadcast_to(given, (rank, 2)).tolist()
    except ValueError:
        raise input_error(f"pad_width {shown(pad_width)} does not fit {rank} dimensions",
                          "give one (before, after) for each") from None
    if given.dtype.kind not in "iu" or (given < 0).any():
        raise input_error(f"pad_width holds integers that are not negative, got {shown(pad_width)}")
    forms = [form - before for form, (before, _) in zip(axes_of(rank), widths)]
    shape = tuple(n + before + after for n, (before, after) in zip(node.shape, widths))
    return Tensor.of(reindex_node(node, shape, forms, constant_values))


def tile(x: Any, repetitions: Any, /) -> Tensor:
    """x repeated `repetitions` times along each dimension: an integer, or one for each of the last dimensions."""
    node = to_node(x)
    counts = normalize_shape(repetitions)
    rank = max(len(counts), len(node.shape))
    counts = (1,) * (rank - len(counts)) + counts
    shape = (1,) * (rank - len(node.shape)) + node.shape
    wide = tuple(n for pair in zip(counts, shape) for n in pair)
    repeated = record("broadcast", [reshape_node(node, shape)], {"dims": tuple(range(1, 2 * rank, 2))},
                      TensorType(node.dtype, wide))
    return Tensor.of(reshape_node(repeated, tuple(c * n for c, n in zip(counts, shape))))


def repeat(x: Any, repeats: int, /, *, axis: int | None = None) -> Tensor:
    """Every element repeated `repeats` times in a row along `axis` (None: of the flattened tensor)."""
    node = to_node(x)
    if not isinstance(repeats, (int, np.integer)) or repeats < 0:
        raise input_error(f"repeats is one integer that is not negative, got {shown(repeats)}")
    if axis is None:
        node, axis = reshape_node(node, (node.type.size,)), 0
    a = normalize_axis(axis, len(node.shape))
    wide = node.shape[:a + 1] + (int(repeats),) + node.shape[a + 1:]
    dims = tuple(d for d in range(len(wide)) if d != a + 1)
    repeated = record("broadcast", [node], {"dims": dims}, TensorType(node.dtype, wide))
    return Tensor.of(reshape_node(repeated, node.shape[:a] + (node.shape[a] * int(repeats),) + node.shape[a + 1:]))


PUBLIC = ("reshape", "permute_dims", "transpose", "matrix_transpose", "swapaxes", "moveaxis", "broadcast_to",
          "broadcast_arrays", "expand_dims", "squeeze", "flatten", "flip", "roll", "concat", "stack", "unstack",
          "split", "pad", "tile", "repeat")
