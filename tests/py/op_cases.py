"""Small examples of every op of the op table, for the tests of the table, the dialect and the reference interpreter."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import DTYPES, F32, I32, I64, DType, dtype_of
from jtc.dialects.graph import Graph, Location, Node, TensorType, Weights
from jtc.dialects.optable import META_OPS, REDUCTIONS, SCALAR_FUNCTIONS, ScalarFunction

SHAPES = ((), (1,), (0,), (7,), (1, 1), (2, 0, 3), (5, 3), (2, 3, 4))
D = [Affine.axis(f"d{i}") for i in range(4)]


def array(type: TensorType, seed: int = 0, low: int = -3, high: int = 4) -> np.ndarray:
    """Small random values of a type."""
    rng = np.random.default_rng(seed)
    if type.dtype.is_float:
        return np.asarray(rng.uniform(low, high, type.shape)).astype(type.dtype.numpy)
    if type.dtype.kind != "int":
        low = 0
    return np.asarray(rng.integers(low, high, type.shape)).astype(type.dtype.numpy)


def argument_types(row: ScalarFunction, dtype: DType, shape: tuple[int, ...]) -> list[TensorType]:
    if row.arguments == "philox":
        return [TensorType(I64, shape)] * 2
    values = [TensorType(dtype, shape)] * row.arity
    return [TensorType(dtype_of(bool), shape), *values[1:]] if row.arguments == "where" else values


def reductions_of(dtype: DType) -> list[str]:
    return [fn for fn, row in REDUCTIONS.items() if dtype.kind in row.kinds]


def meta_op_cases(dtype: DType) -> Iterator[tuple[str, list[TensorType], dict[str, Any], TensorType]]:
    """(op, argument types, attributes, result type) of every meta-op on elements of `dtype`."""
    def t(*shape: int) -> TensorType:
        return TensorType(dtype, shape)
    one: Any = {"bool": True, "float": 1.5}.get(dtype.kind, 3)
    for shape in SHAPES:
        yield "constant", [], {"value": one}, t(*shape)
        for to in DTYPES.values():
            yield "cast", [t(*shape)], {}, TensorType(to, shape)
        for axis in range(len(shape)):
            if dtype.kind != "bool":
                yield "iota", [], {"axis": axis}, t(*shape)
            if shape[axis]:
                for fn in ("max", "min"):
                    yield "arg_reduce", [t(*shape)], {"fn": fn, "axis": axis}, \
                        TensorType(I64, shape[:axis] + shape[axis + 1:])
            for fn in reductions_of(dtype):
                yield "scan", [t(*shape)], {"fn": fn, "axis": axis}, t(*shape)
            if dtype.kind != "bool":
                yield "recurrence", [t(*shape), t(*shape)], {"axis": axis}, t(*shape)
        for fn in reductions_of(dtype):
            for axes in {(), tuple(range(len(shape))), tuple(range(len(shape)))[:1], tuple(range(len(shape)))[1:]}:
                yield "reduce", [t(*shape)], {"fn": fn, "axes": axes}, \
                    t(*(n for d, n in enumerate(shape) if d not in axes))
        yield "reshape", [t(*shape)], {}, t(*shape[::-1], 1)
        yield "recompute", [t(*shape)], {}, t(*shape)
        yield "transpose", [t(*shape)], {"perm": tuple(reversed(range(len(shape))))}, t(*shape[::-1])
        yield "broadcast", [t(*shape)], {"dims": tuple(range(1, len(shape) + 1))}, t(2, *shape)
    yield "broadcast", [t(3, 1)], {"dims": (2, 0)}, t(4, 5, 3)
    yield "concat", [t(3, 2)], {"axis": 0}, t(3, 2)
    yield "concat", [t(3, 2)] * 4, {"axis": 1}, t(3, 8)
    yield "concat", [t(5)] * 12, {"axis": 0}, t(60)
    yield "concat", [t(0, 2)] * 2, {"axis": 1}, t(0, 4)
    yield "random", [TensorType(I64, ())], {"stream": 5}, TensorType(I32, (3, 5))
    yield "reindex", [t(5)], {"map": (D[0] * 2 + D[1] - 2,), "fill": one}, t(4, 3)
    yield "reindex", [t(5, 4)], {"map": (D[1], Affine((), 1)), "fill": 0}, t(2, 6)
    yield "reindex", [t(0)], {"map": (D[0],), "fill": one}, t(3)
    yield "reindex", [t()], {"map": (), "fill": 0}, t(2, 2)
    yield "gather", [t(5, 2), TensorType(I32, (3, 2))], {"map": (Affine(), D[1]), "dims": (0,), "fill": one}, t(3, 2)
    yield "gather", [t(4, 4), *[TensorType(I64, (6,))] * 2], \
        {"map": (D[0], Affine((), 1)), "dims": (1, 0), "fill": 0}, t(6)
    for fn in reductions_of(dtype):
        yield "reindex_reduce", [t(4, 3)], {"fn": fn, "map": (D[0] + D[1] - 1,)}, t(5)
        yield "reindex_reduce", [t(4, 3)], {"fn": fn, "map": (D[1],)}, t(3)
        yield "reindex_reduce", [t(0, 3)], {"fn": fn, "map": (D[1],)}, t(3)
    for fn in (*reductions_of(dtype), "replace"):
        yield "scatter", [t(5, 2), t(4, 2), TensorType(I64, (4, 2))], \
            {"fn": fn, "map": (Affine(), D[1]), "dims": (0,)}, t(5, 2)


def scalar_function_cases(dtype: DType) -> Iterator[tuple[str, list[TensorType], dict[str, Any], None]]:
    for row in SCALAR_FUNCTIONS.values():
        if dtype.kind in row.kinds and (row.arguments != "philox" or dtype is I64):
            for shape in SHAPES:
                yield row.name, argument_types(row, dtype, shape), {}, None


def graph_of(op: str, args: list[TensorType], attrs: dict[str, Any], type: TensorType) -> Graph:
    """A graph of one op."""
    inputs = [Node("input", (), {}, t, Location("model.py", i + 1)) for i, t in enumerate(args)]
    node = Node(op, inputs, attrs, type, Location("model.py", 9, "layer"))
    return Graph("f", inputs, [node], [f"x{i}" for i in range(len(args))], ["y"])


def mlp() -> Graph:
    """A graph with weights, splats and several outputs: relu(x @ w + 0.1), and its row sums."""
    x = Node("input", (), {}, TensorType(F32, (4, 8)), Location("model.py", 1))
    w = Node("constant", (), {"value": Weights("w")}, TensorType(F32, (8, 3)), data=array(TensorType(F32, (8, 3)), 1))
    wide = TensorType(F32, (4, 3, 8))
    a = Node("reindex", [x], {"map": (D[0], D[2]), "fill": 0}, wide, Location("model.py", 2, "linear"))
    b = Node("reindex", [w], {"map": (D[2], D[1]), "fill": 0}, wide, Location("model.py", 2, "linear"))
    product = Node("mul", [a, b], {}, wide, Location("model.py", 3))
    y = Node("reduce", [product], {"fn": "add", "axes": (2,)}, TensorType(F32, (4, 3)), Location("model.py", 3))
    bias = Node("constant", (), {"value": 0.1}, y.type)
    zero = Node("constant", (), {"value": -0.0}, y.type)
    out = Node("max", [Node("add", [y, bias], {}, y.type), zero], {}, y.type, Location("model.py", 4))
    rows = Node("reduce", [out], {"fn": "add", "axes": (1,)}, TensorType(F32, (4,)))
    return Graph("mlp", [x], [out, rows, x], ["x"], ["out", "rows", "same"])


assert set(META_OPS) == {case[0] for case in meta_op_cases(I32)}, "meta_op_cases has to give cases of every meta-op"
