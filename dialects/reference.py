"""What programs mean: interpreters in NumPy for graphs (here) and kernels (`reference_kernel.py`).

They are the oracle of the tests, so they say the meaning as plainly as they can, in bounded memory but without regard
to speed.  With `precise=True` all floating point is computed and returned in float64 (constants are still rounded to
their dtypes): the exact answer, up to float64's rounding, that compiled code is measured against.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jtc.dialects.affine import Affine
from jtc.dialects.errors import InputError
from jtc.dialects.graph import DYNAMIC, Graph, Node, Weights
from jtc.dialects.optable import REDUCTIONS, SCALAR_FUNCTIONS, philox_4x32
from jtc.dialects.reference_kernel import run_kernel, run_program
from jtc.dialects.reference_values import (
    computed,
    convert,
    coordinates,
    literal,
    locate,
    reduce_axes,
    scalar,
    slabs,
    take,
    update,
    wide,
)

__all__ = ["run_graph", "run_kernel", "run_node", "run_program"]


def run_graph(graph: Graph, inputs: Sequence[np.ndarray], precise: bool = False) -> list[np.ndarray]:
    """The outputs of a graph.  inputs: arrays of the shapes and dtypes of the graph's inputs, in order.

    Raises InputError where the inputs do not fit or weights have no array.
    """
    if len(inputs) != len(graph.inputs):
        raise InputError(f"{graph.name} takes {len(graph.inputs)} inputs, got {len(inputs)}")
    values: dict[int, np.ndarray] = {}
    for i, (node, array) in enumerate(zip(graph.inputs, inputs, strict=True)):
        array = np.asarray(array)
        if array.dtype != node.dtype.numpy or len(array.shape) != node.type.rank \
                or any(n not in (DYNAMIC, m) for n, m in zip(node.shape, array.shape)):
            raise InputError(f"input {i} of {graph.name} must be {node.type}, got {array.dtype}{list(array.shape)}")
        values[id(node)] = array.astype(computed(node.dtype, precise), copy=False)
    for node in graph.nodes():
        if id(node) not in values:
            values[id(node)] = run_node(node, [values[id(a)] for a in node.args], precise)
    return [np.array(values[id(n)], order="C") for n in graph.outputs]


def run_node(node: Node, args: Sequence[np.ndarray], precise: bool = False) -> np.ndarray:
    """The value of one node, given the values of its arguments."""
    with np.errstate(all="ignore"):
        if node.op in SCALAR_FUNCTIONS:
            return scalar(node.op, args, node.dtype, precise)
        run = _META_OPS.get(node.op)
        if run is None:
            raise InputError(f"{node.op} has no meaning on its own", node.loc)
        result = run(node, *args, precise=precise)
    return np.asarray(result, computed(node.dtype, precise))


def _points(domain: Sequence[int]) -> Iterator[tuple[tuple[slice, ...], dict[str, np.ndarray]]]:
    """Slabs of an op's domain: (where, coordinates of d0, d1...)."""
    for box in slabs(domain):
        where = tuple(slice(r.start, r.stop) for r in box)
        yield where, {f"d{i}": c for i, c in enumerate(coordinates(box))}


def _mapped(forms: Sequence[Affine], dims: Sequence[int], points: Mapping[str, np.ndarray],
            indices: Sequence[np.ndarray]) -> list[Any]:
    """The map's index at some points, with the values of index tensors added to the entries `dims`."""
    index = [np.asarray(form.evaluate(points)) for form in forms]
    for d, values in zip(dims, indices, strict=True):
        index[d] = index[d] + values.astype(np.int64)
    return index


# ------------------------------------------------------------------------------------------------ meta-ops
def _constant(node: Node, *, precise: bool) -> np.ndarray:
    value = node.attrs["value"]
    if not isinstance(value, Weights):
        return np.full(node.shape, literal(value, node.dtype, precise))
    if node.data is None:
        raise InputError(f"the weights {value.name!r} have no values", node.loc, "load them together with the graph")
    return np.asarray(node.data).reshape(node.shape)


def _iota(node: Node, *, precise: bool) -> np.ndarray:
    axis = node.attrs["axis"]
    along = np.arange(node.shape[axis]).reshape([-1 if d == axis else 1 for d in range(node.type.rank)])
    return np.broadcast_to(along.astype(computed(node.dtype, precise)), node.shape)


def _random(node: Node, key: np.ndarray, *, precise: bool) -> np.ndarray:
    counter = np.arange(node.type.size, dtype=np.int64) + (node.attrs["stream"] << 40)
    return philox_4x32(counter, key).reshape(node.shape)


def _cast(node: Node, x: np.ndarray, *, precise: bool) -> np.ndarray:
    return convert(x, node.dtype, precise)


def _broadcast(node: Node, x: np.ndarray, *, precise: bool) -> np.ndarray:
    dims = node.attrs["dims"]
    order = sorted(range(len(dims)), key=lambda k: dims[k])
    sizes = {dims[k]: x.shape[k] for k in order}
    return np.broadcast_to(x.transpose(order).reshape([sizes.get(d, 1) for d in range(node.type.rank)]), node.shape)


def _reduce(node: Node, x: np.ndarray, *, precise: bool) -> np.ndarray:
    return reduce_axes(node.attrs["fn"], x, tuple(node.attrs["axes"]), node.dtype, precise)


def _scan(node: Node, x: np.ndarray, *, precise: bool) -> np.ndarray:
    operand = wide(x)
    return REDUCTIONS[node.attrs["fn"]].numpy.accumulate(operand, axis=node.attrs["axis"], dtype=operand.dtype)


def _recurrence(node: Node, a: np.ndarray, b: np.ndarray, *, precise: bool) -> np.ndarray:
    axis = node.attrs["axis"]
    factors, terms = (np.moveaxis(wide(v), axis, 0) for v in (a, b))
    result = np.empty_like(terms)
    value = np.zeros(terms.shape[1:], terms.dtype)
    for step in range(len(terms)):
        value = result[step] = factors[step] * value + terms[step]
    return np.moveaxis(result, 0, axis)


def _arg_reduce(node: Node, x: np.ndarray, *, precise: bool) -> np.ndarray:
    find = np.argmax if node.attrs["fn"] == "max" else np.argmin
    return np.asarray(find(wide(x), axis=node.attrs["axis"]))


def _gather(node: Node, x: np.ndarray, *indices: np.ndarray, precise: bool) -> np.ndarray:
    fill = literal(node.attrs["fill"], node.dtype, precise)
    result = np.empty(node.shape, x.dtype)
    for where, points in _points(node.shape):
        index = _mapped(node.attrs["map"], node.attrs.get("dims", ()), points, [i[where] for i in indices])
        result[where] = take(x.reshape(-1), *locate(index, x.shape), fill)
    return result


def _scatter(node: Node, init: np.ndarray, updates: np.ndarray, *indices: np.ndarray, precise: bool) -> np.ndarray:
    target = wide(init).flatten()
    for where, points in _points(updates.shape):
        index = _mapped(node.attrs["map"], node.attrs.get("dims", ()), points, [i[where] for i in indices])
        part = updates[where]
        offset, inside = (np.broadcast_to(v, part.shape)[...] for v in locate(index, init.shape))
        update(node.attrs["fn"], target, offset[inside], part[inside].astype(target.dtype))
    return target.reshape(init.shape)


def _reindex_reduce(node: Node, x: np.ndarray, *, precise: bool) -> np.ndarray:
    fn, used = node.attrs["fn"], {axis for form in node.attrs["map"] for axis in form.axes}
    identity = REDUCTIONS[fn].identity(node.dtype)
    # Points that differ only in axes outside the map go to one place: combine them first.
    loose = tuple(d for d in range(x.ndim) if f"d{d}" not in used)
    x = reduce_axes(fn, x, loose, node.dtype, precise).reshape([1 if d in loose else n for d, n in enumerate(x.shape)])
    return _scatter(node, np.full(node.shape, literal(identity, node.dtype, precise)), x, precise=precise)


def _reshape(node: Node, x: np.ndarray, *, precise: bool) -> np.ndarray:
    return x.reshape(node.shape)


def _concat(node: Node, *arrays: np.ndarray, precise: bool) -> np.ndarray:
    return np.concatenate(arrays, axis=node.attrs["axis"])


def _transpose(node: Node, x: np.ndarray, *, precise: bool) -> np.ndarray:
    return x.transpose(node.attrs["perm"])


def _recompute(node: Node, x: np.ndarray, *, precise: bool) -> np.ndarray:
    return x


_META_OPS: dict[str, Callable[..., np.ndarray]] = {
    "constant": _constant, "iota": _iota, "random": _random, "cast": _cast, "broadcast": _broadcast, "reduce": _reduce,
    "arg_reduce": _arg_reduce, "scan": _scan, "recurrence": _recurrence, "reindex": _gather,
    "reindex_reduce": _reindex_reduce, "reshape": _reshape, "transpose": _transpose, "concat": _concat,
    "recompute": _recompute, "gather": _gather, "scatter": _scatter,
}
