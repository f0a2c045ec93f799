"""Array functions against NumPy: values, dtypes and shapes, also of tensors without dimensions and without elements."""
from __future__ import annotations

import numpy as np
import pytest
from frontend_checks import normal, same

import jtc

SHAPES = [(), (1,), (5,), (0,), (3, 4), (2, 0, 3), (2, 1, 7)]
UNARY = {"exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "sin": np.sin, "cos": np.cos, "tan": np.tan,
         "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "floor": np.floor,
         "ceil": np.ceil, "trunc": np.trunc, "round": np.round, "abs": np.abs, "sign": np.sign, "negative": np.negative,
         "square": np.square, "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite, "positive": np.positive,
         "sigmoid": lambda x: 1 / (1 + np.exp(-x))}
POSITIVE = {"log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p, "sqrt": np.sqrt,
            "reciprocal": np.reciprocal, "rsqrt": lambda x: 1 / np.sqrt(x)}
BOUNDED = {"asin": np.arcsin, "acos": np.arccos, "atanh": np.arctanh}
BINARY = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "maximum": np.maximum,
          "minimum": np.minimum, "atan2": np.arctan2, "equal": np.equal, "not_equal": np.not_equal, "less": np.less,
          "less_equal": np.less_equal, "greater": np.greater, "greater_equal": np.greater_equal,
          "logaddexp": np.logaddexp,
          "hypot": np.hypot, "floor_divide": np.floor_divide, "remainder": np.remainder, "pow": np.power,
          "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}
pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_unary_functions(shape, dtype):
    for table, x in ((UNARY, normal(*shape, dtype=dtype)), (POSITIVE, np.abs(normal(*shape, dtype=dtype)) + dtype(0.1)),
                     (BOUNDED, np.tanh(normal(*shape, dtype=dtype)))):
        x = np.asarray(x)                    # NumPy makes scalars of arrays without dimensions, and scalars are weak
        results = {name: getattr(jtc, name)(x) for name in table}
        jtc.sync(results)
        for name, function in table.items():
            same(results[name], np.asarray(function(x), dtype if name[:2] != 'is' else bool))


@pytest.mark.parametrize("shapes", [((), ()), ((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 5)), ((2, 3, 1), (4,)),
                                    ((0, 3), (3,))], ids=str)
def test_binary_functions_broadcast(shapes):
    a, b = (np.asarray(np.abs(normal(*s, seed=i)) + np.float32(0.5)) for i, s in enumerate(shapes))
    results = {name: getattr(jtc, name)(a, b) for name in BINARY}
    jtc.sync(results)
    for name, function in BINARY.items():
        same(results[name], np.asarray(function(a, b)), 1e-4 if name in ("remainder", "pow") else None)


def test_integer_functions():
    a, b = np.arange(-6, 6, dtype=np.int32), np.array([3, -2, 5] * 4, np.int32)
    for name in ("add", "subtract", "multiply", "floor_divide", "remainder", "maximum", "bitwise_and", "bitwise_or",
                 "bitwise_xor"):
        same(getattr(jtc, name)(a, b), getattr(np, name)(a, b))
    same(jtc.array(a) << 2, a << 2)
    same(jtc.array(a) >> 1, a >> 1)
    same(~jtc.array(a), ~a)
    same(-jtc.array(a), -a)
    same(jtc.array(a) ** 3, a ** 3)
    same(jtc.array(a) / b, (a / b).astype(np.float32))
    same(jtc.floor(jtc.array(a)), a)
    same(jtc.isnan(a), np.zeros(12, bool))


def test_bool_functions():
    a, b = np.array([True, False, True, False]), np.array([True, True, False, False])
    same(jtc.array(a) & b, a & b)
    same(jtc.array(a) | b, a | b)
    same(jtc.array(a) ^ b, a ^ b)
    same(~jtc.array(a), ~a)
    same(jtc.logical_not(np.array([0, 2, 0])), np.array([True, False, True]))


@pytest.mark.parametrize("left,right,expected", [
    (np.float32, 2, np.float32), (np.float32, 2.5, np.float32), (np.float32, np.float64(2.5), np.float32),
    (np.float64, 2.5, np.float64), (np.int32, 2, np.int32), (np.int32, 2.5, np.float32), (np.bool_, 2, np.int64),
    (np.int64, True, np.int64), (np.float32, np.int64(3), np.float32)])
def test_scalars_are_weak(left, right, expected):
    x = jtc.ones((2,), dtype=left)
    assert (x * right).dtype.numpy == (right * x).dtype.numpy == np.dtype(expected)


@pytest.mark.parametrize("a,b,expected", [
    ("int8", "int32", "int32"), ("uint8", "int8", "int16"), ("uint32", "int32", "int64"),
                                          ("int64", "float32", "float32"),
    ("float32", "float64", "float64"), ("bool", "int8", "int8"), ("float16", "bfloat16", "float32"),
                                          ("uint8", "uint16", "uint16")])
def test_promotion(a, b, expected):
    assert jtc.result_type(getattr(jtc, a), getattr(jtc, b)) is jtc.result_type(getattr(jtc, b), getattr(jtc, a))
    assert jtc.result_type(getattr(jtc, a), getattr(jtc, b)).public == expected


def test_powers():
    x = normal(7)
    for n in (0, 1, 2, 3, 5, -1, -2, 16):
        same(jtc.array(x) ** n, x ** n, 1e-4)
    same(2.0 ** jtc.array(x), 2 ** x)
    same(jtc.array(np.abs(x)) ** 0.5, np.abs(x) ** np.float32(0.5))


def test_where_and_clip():
    x, y = normal(3, 4), normal(4, seed=1)
    same(jtc.where(jtc.array(x) > 0, x, y), np.where(x > 0, x, y))
    same(jtc.where(np.array([[1], [0], [2]]), x, 0), np.where([[True], [False], [True]], x, np.float32(0)))
    same(jtc.clip(x, -0.5, 0.5), np.clip(x, -0.5, 0.5))
    same(jtc.clip(x, min=y), np.maximum(x, y))


@pytest.mark.parametrize("to", [np.float32, np.float64, np.int32, np.int64, np.bool_])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.bool_])
def test_astype(dtype, to):
    x = np.array([-2.7, -0.5, 0, 0.5, 3.9]).astype(dtype)
    same(jtc.array(x).astype(to), x.astype(to))


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (1,), ()], ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(axis, keepdims):
    x = normal(3, 4, 5)
    for name in ("sum", "prod", "max", "min", "mean", "var", "std"):
        same(getattr(jtc, name)(x, axis=axis, keepdims=keepdims), getattr(np, name)(x, axis=axis, keepdims=keepdims))
    high = x.max(axis=axis, keepdims=True)
    expected = np.log(np.exp(x - high).sum(axis=axis, keepdims=True)) + high
    same(jtc.logsumexp(x, axis=axis, keepdims=True), expected)
    flags = x > 1
    same(jtc.all(flags, axis=axis, keepdims=keepdims), np.asarray(flags.all(axis=axis, keepdims=keepdims)))
    same(jtc.any(flags, axis=axis, keepdims=keepdims), np.asarray(flags.any(axis=axis, keepdims=keepdims)))


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_arguments_of_extremes(axis):
    x = np.array([[1, 5, 5, 2], [7, 0, 7, 0], [3, 3, 3, 3]], np.float32)
    same(jtc.argmax(x, axis=axis), np.asarray(x.argmax(axis=axis)))
    same(jtc.argmin(x, axis=axis), np.asarray(x.argmin(axis=axis)))
    if axis is not None:
        same(jtc.argmax(x, axis=axis, keepdims=True), x.argmax(axis=axis, keepdims=True))


def test_reductions_of_integers_and_of_nothing():
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    same(jtc.sum(x, axis=0), x.sum(axis=0, dtype=np.int64))
    same(jtc.max(x), x.max())
    same(jtc.mean(x), np.float32(x.mean()))
    same(jtc.sum(x > 2), np.int64(3))
    same(jtc.count_nonzero(x), np.int64(5))
    empty = np.zeros((0, 3), np.float32)
    same(jtc.sum(empty, axis=0), empty.sum(axis=0))
    same(jtc.prod(empty), np.float32(1))
    assert np.isnan(jtc.mean(empty).item())
    same(jtc.max(empty, axis=1), np.zeros((0,), np.float32))


@pytest.mark.parametrize("a,b", [((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((2, 3, 4), (4, 5)),
                                 ((2, 1, 3, 4), (6, 4, 5)), ((1, 4), (4, 1)), ((0, 4), (4, 3)), ((3, 0), (0, 2)),
                                 ((2, 3, 4), (4,))], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_matmul(a, b, dtype):
    x, y = (normal(*a) * 5).astype(dtype), (normal(*b, seed=1) * 5).astype(dtype)
    same(jtc.matmul(x, y), x @ y)
    same(jtc.array(x) @ y, x @ y)
    same(x @ jtc.array(y), x @ y)


@pytest.mark.parametrize("subscripts,shapes", [
    ("ij,jk->ik", [(2, 3), (3, 4)]), ("ij,jk", [(2, 3), (3, 4)]), ("bij,bkj->bik", [(2, 3, 4), (2, 5, 4)]),
                                               ("ii->i", [(3, 3)]),
    ("ii", [(3, 3)]), ("ij->ji", [(2, 3)]), ("ij->", [(2, 3)]), ("i,j->ij", [(2,), (3,)]),
                                               ("...ij,...jk->...ik", [(2, 3, 4), (4, 5)]),
    ("i,ij,j->", [(2,), (2, 3), (3,)]), ("bhqd,bhkd->bhqk", [(1, 2, 3, 4), (1, 2, 5, 4)]), ("ijk->kj", [(2, 3, 4)])],
                         ids=str)
def test_einsum(subscripts, shapes):
    operands = [normal(*s, seed=i) for i, s in enumerate(shapes)]
    same(jtc.einsum(subscripts, *operands), np.asarray(np.einsum(subscripts, *operands)))


def test_other_products():
    x, y = normal(3, 4), normal(3, 4, seed=1)
    same(jtc.vecdot(x, y), np.vecdot(x, y))
    same(jtc.vecdot(x, y, axis=0), np.vecdot(x.T, y.T))
    same(jtc.outer(x[0], y[0]), np.outer(x[0], y[0]))
    same(jtc.tensordot(x, y.T, axes=1), np.tensordot(x, y.T, 1))
    same(jtc.tensordot(x, y, axes=((1, 0), (1, 0))), np.tensordot(x, y, ((1, 0), (1, 0))))


def test_creation():
    same(jtc.zeros((2, 3)), np.zeros((2, 3), np.float32))
    same(jtc.ones(3, dtype=jtc.int64), np.ones(3, np.int64))
    same(jtc.full((2,), 7), np.full(2, 7))
    same(jtc.full((2,), True), np.full(2, True))
    same(jtc.arange(5), np.arange(5))
    same(jtc.arange(2, 11, 3), np.arange(2, 11, 3))
    same(jtc.arange(5, 0, -2), np.arange(5, 0, -2))
    same(jtc.arange(0, 1, 0.25), np.arange(0, 1, 0.25, np.float32))
    same(jtc.linspace(-1, 1, 5), np.linspace(-1, 1, 5, dtype=np.float32))
    same(jtc.linspace(0, 1, 4, endpoint=False), np.linspace(0, 1, 4, False, dtype=np.float32))
    for args, k in (((3,), 0), ((3, 4), 1), ((4, 2), -1)):
        same(jtc.eye(*args, k=k), np.eye(*args, k=k, dtype=np.float32))
    x = normal(2, 3, 4)
    for k in (-1, 0, 2):
        same(jtc.tril(x, k=k), np.tril(x, k))
        same(jtc.triu(x, k=k), np.triu(x, k))
    same(jtc.zeros_like(x), np.zeros_like(x))
    same(jtc.full_like(x, 2), np.full_like(x, 2))
    same(jtc.iota((2, 3), 1), np.broadcast_to(np.arange(3), (2, 3)))


@pytest.mark.parametrize("value,dtype", [
    ([1.5, 2], "float32"), ([1, 2], "int64"), (True, "bool"), (3, "int64"), (2.5, "float32"),
                                         (np.float64(2.5), "float32"),
    (np.zeros(2), "float64"), (np.zeros(2, np.float16), "float16"), (np.uint8(3), "uint8"), ([[True, False]], "bool"),
    ([np.zeros(2), np.ones(2)], "float64")], ids=str)
def test_dtype_of_created_tensors(value, dtype):
    x = jtc.asarray(value)
    assert x.dtype.public == dtype
    np.testing.assert_array_equal(x.numpy(), np.asarray(value))


def test_lists_of_tensors_and_copies():
    rows = [jtc.array([1.0, 2.0]), jtc.array([3.0, 4.0])]
    same(jtc.array(rows), np.array([[1, 2], [3, 4]], np.float32))
    source = np.zeros(3, np.float32)
    x = jtc.asarray(source)
    y = x + source
    source[:] = 1
    same(x, np.zeros(3, np.float32))
    same(y, np.zeros(3, np.float32))


def test_manipulation():
    x = normal(2, 3, 4)
    same(jtc.reshape(x, (4, -1)), x.reshape(4, -1))
    same(jtc.permute_dims(x, (2, 0, 1)), x.transpose(2, 0, 1))
    same(jtc.transpose(x), x.T)
    same(jtc.matrix_transpose(x), x.swapaxes(1, 2))
    same(jtc.swapaxes(x, 0, -1), x.swapaxes(0, -1))
    same(jtc.moveaxis(x, 0, -1), np.moveaxis(x, 0, -1))
    same(jtc.moveaxis(x, (0, 1), (2, 0)), np.moveaxis(x, (0, 1), (2, 0)))
    same(jtc.broadcast_to(x[:, :1], (2, 3, 4)), np.broadcast_to(x[:, :1], (2, 3, 4)))
    same(jtc.expand_dims(x, 1), np.expand_dims(x, 1))
    same(jtc.expand_dims(x, (0, -1)), np.expand_dims(x, (0, -1)))
    same(jtc.squeeze(x[:1]), x[0])
    same(jtc.squeeze(x[:1, :1], axis=0), x[0, :1])
    same(jtc.flatten(x), x.ravel())
    same(jtc.flatten(x, 1), x.reshape(2, 12))
    same(jtc.flip(x, axis=1), np.flip(x, 1))
    same(jtc.flip(x), np.flip(x))
    same(jtc.roll(x, 1, axis=2), np.roll(x, 1, 2))
    same(jtc.roll(x, (5, -1), axis=(0, 1)), np.roll(x, (5, -1), (0, 1)))
    same(jtc.roll(x, 5), np.roll(x, 5))
    same(jtc.concat([x, x[:, :1]], axis=1), np.concatenate([x, x[:, :1]], 1))
    same(jtc.concat([x, x[:0], x[:1]]), np.concatenate([x, x[:0], x[:1]]))
    same(jtc.concat([x, x[0]], axis=None), np.concatenate([x, x[0]], axis=None))
    same(jtc.stack([x[0], x[1], x[0]], axis=-1), np.stack([x[0], x[1], x[0]], -1))
    for part, expected in zip(jtc.unstack(x, axis=1), np.moveaxis(x, 1, 0), strict=True):
        same(part, expected)
    for part, expected in zip(jtc.split(x, 2, axis=2), np.split(x, 2, 2), strict=True):
        same(part, expected)
    for part, expected in zip(jtc.split(x, [1, 3, 9], axis=2), np.split(x, [1, 3, 9], 2), strict=True):
        same(part, expected)
    same(jtc.pad(x, ((0, 1), (2, 0), (1, 1)), constant_values=3),
         np.pad(x, ((0, 1), (2, 0), (1, 1)), constant_values=3))
    same(jtc.pad(x, 1), np.pad(x, 1))
    same(jtc.tile(x, (2, 1, 3)), np.tile(x, (2, 1, 3)))
    same(jtc.tile(x, 2), np.tile(x, 2))
    same(jtc.tile(x, (2, 1, 1, 1)), np.tile(x, (2, 1, 1, 1)))
    same(jtc.repeat(x, 3, axis=1), np.repeat(x, 3, 1))
    same(jtc.repeat(x, 2), np.repeat(x, 2))


def test_methods_and_operators():
    x, y = normal(3, 4), normal(3, 4, seed=1)
    t = jtc.array(x)
    same(1 - t, 1 - x)
    same(y - t, y - x)
    same(1 / t, 1 / x)
    same(t.T, x.T)
    same(t.mT, x.T)
    same(abs(t), abs(x))
    same(t.sum(0), x.sum(0))
    same(t.mean(-1, keepdims=True), x.mean(-1, keepdims=True))
    same(t.reshape(2, 6), x.reshape(2, 6))
    same(t.reshape((6, -1)), x.reshape(6, -1))
    same(t.transpose(1, 0), x.T)
    same(t > y, x > y)
    same(t.argmax(1), x.argmax(1))
    assert t.ndim == 2 and t.size == 12 and len(t) == 3 and t.nbytes == 48
    for row, expected in zip(t, x, strict=True):
        same(row, expected)
    assert float(t[0, 0]) == x[0, 0] and int(jtc.array(3)) == 3 and bool(t[0, 0] == x[0, 0])
    assert [10, 20][jtc.array(1)] == 20
