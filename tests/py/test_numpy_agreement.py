"""Every function that bears a NumPy name against NumPy, on all element types and odd shapes: values, dtypes, errors.

Elementwise functions are found in the table of the front end, so a new one is compared without a line here.  Where
NumPy refuses its arguments jtc must, too.  Results differ from NumPy's in dtype only where the Array API leaves it open
or says otherwise (see `promotion.py`): integers and bools become float32, not float64, in float functions, and an
integer beside a float takes the float's dtype.
"""
from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from frontend_checks import same

import jtc
from jtc.dialects.optable import SCALAR_FUNCTIONS
from jtc.frontend import creation, elementwise, indexing, linalg, manipulation, reductions

pytestmark = pytest.mark.usefixtures("backend")
DTYPES = [np.dtype(t) for t in (np.float32, np.float64, np.int32, np.int64, np.bool_)]
SHAPES = [(), (0,), (1,), (5,), (3, 0, 2), (2, 3)]
SPECIAL = [-0.0, 1.5, -2.5, math.inf, math.nan, 0.5, -1.0, 3.0, -math.inf, 0.0]
REFUSAL = (ValueError, TypeError, IndexError)            # InputError is a ValueError, np.exceptions.AxisError both


def array(dtype: np.dtype, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Small values with special ones among them, the same for equal arguments."""
    size = math.prod(shape)
    numbers: Any = np.roll(SPECIAL, seed) if dtype.kind == "f" else np.roll([3, -2, 0, 1, -1, 2, 7], seed)
    return np.resize(np.asarray(numbers), size).astype(dtype).reshape(shape)


def arrays(dtype: np.dtype, seed: int = 0) -> list[np.ndarray]:
    """One array of every shape, and one that is neither contiguous nor in order."""
    return [array(dtype, shape, seed) for shape in SHAPES] + [array(dtype, (4, 6), seed)[::2, ::-2]]


def numpy_says(call: Callable[[], Any]) -> Any:
    """NumPy's result, or the exception."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except REFUSAL as error:
            return error


def compare(cases: list[tuple[Callable[[Any], Any], tuple[np.ndarray, ...]]], what: str) -> None:
    """call(module) gives the same for both modules; `cases` also hold the arrays that went in, for the dtype."""
    pending = []
    for call, inputs in cases:
        expected = numpy_says(lambda call=call: call(np))
        if isinstance(expected, Exception):
            with pytest.raises((jtc.InputError, TypeError, IndexError)):
                result = call(jtc)
                raise AssertionError(f"{what} of {[(x.dtype, x.shape) for x in inputs]} gives {result.shape}, "
                                     f"NumPy says {expected}")
            continue
        try:
            results = call(jtc)
        except jtc.InputError as error:
            if "for 0 dimensions" in str(error) and not inputs[0].ndim:
                continue                 # NumPy reads axes 0 and -1 where there are none, the Array API does not
            raise
        rows = list(zip(results, expected, strict=True)) if isinstance(results, (tuple, list)) else \
            [(results, expected)]
        wide = any(x.dtype == np.float64 for x in inputs)
        for result, value in rows:
            value = np.asarray(value)
            pending.append((result, value if wide or value.dtype != np.float64 else value.astype(np.float32), inputs))
    jtc.sync([result for result, _, _ in pending])
    for result, expected, inputs in pending:
        try:
            same(result, expected)
        except AssertionError as error:
            shown = ", ".join(f"{x.dtype}{list(x.shape)}" for x in inputs)
            raise AssertionError(f"{what}({shown}): {error}") from None


# ----------------------------------------------------------------------------------------------------- elementwise
REFERENCES: dict[str, Callable[..., Any]] = {
    "rsqrt": lambda x: 1 / np.sqrt(x), "reciprocal": lambda x: 1 / x, "erf": np.vectorize(math.erf, otypes="d"),
    "positive": lambda x: x, "sigmoid": lambda x: 1 / (1 + np.exp(-np.asarray(x, np.float64)))}
# Not in the table of scalar functions: the rule by which operands are converted, and the kinds that are taken.
COMPOSED = {"pow": ("promote", "f"), "square": ("promote", "if"), "reciprocal": ("float", "bif"),
            "positive": ("promote", "bif"), "isfinite": ("test", "bif"), "logaddexp": ("float", "bif"),
            "hypot": ("float", "bif")}
BINARY = {"pow", "logaddexp", "hypot"}


def row(name: str) -> tuple[str, str, bool]:
    """(rule, NumPy kinds that the function takes, whether it has two operands)."""
    if name in COMPOSED:
        return *COMPOSED[name], name in BINARY
    fn, rule = elementwise.FUNCTIONS[name]
    kinds = "".join({"bool": "b", "int": "i", "float": "f"}.get(kind, "") for kind in SCALAR_FUNCTIONS[fn].kinds)
    if rule != "promote":
        kinds = "bif"                                    # operands are converted, or returned as they are
    return rule, kinds, SCALAR_FUNCTIONS[fn].arity == 2


def meeting(dtypes: list[np.dtype], rule: str) -> np.dtype:
    """The dtype in which operands meet: of the highest kind, and the widest of that."""
    high = max(dtypes, key=lambda d: "bif".index(d.kind)).kind
    common = np.result_type(*(d for d in dtypes if d.kind == high))
    return np.dtype(np.float32) if rule == "float" and high != "f" else common


ELEMENTWISE = sorted({*elementwise.FUNCTIONS, *COMPOSED})


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name):
    rule, kinds, binary = row(name)
    reference = REFERENCES.get(name) or getattr(np, name)
    operands = [(x,) for dtype in DTYPES for x in arrays(dtype)]
    if binary:
        operands = [(x, y) for dtype in DTYPES for x, y in zip(arrays(dtype), arrays(dtype, 1))]
        operands += [(array(a, (2, 3)), array(b, (3,), 2)) for a in DTYPES for b in DTYPES]
    pending = []
    for values in operands:
        common = meeting([x.dtype for x in values], rule)
        if common.kind not in kinds:
            with pytest.raises(jtc.InputError):
                getattr(jtc, name)(*values)
            continue
        expected = numpy_says(lambda values=values, common=common: reference(*(x.astype(common) for x in values)))
        assert not isinstance(expected, Exception), (name, values, expected)
        expected = np.asarray(expected)
        pending.append((getattr(jtc, name)(*values),
                        expected if expected.dtype.kind in "bi" else expected.astype(common), values))
    jtc.sync([p[0] for p in pending])
    for result, expected, values in pending:
        try:
            same(result, expected)
        except AssertionError as error:
            raise AssertionError(f"{name}{[(x.dtype, x.tolist()) for x in values]}: {error}") from None


@pytest.mark.parametrize("scalar", [2, True, 0.5], ids=str)
@pytest.mark.parametrize("name", ["add", "multiply", "divide", "maximum", "less", "equal", "remainder", "hypot"])
def test_weak_scalars_on_either_side(name, scalar):
    rule, kinds, _ = row(name)
    for dtype in DTYPES:
        x = array(dtype, (5,))
        kind = {bool: "b", int: "i", float: "f"}[type(scalar)]
        higher = {"b": np.bool_, "i": np.int64, "f": np.float32}[kind]
        common = meeting([dtype if "bif".index(kind) <= "bif".index(dtype.kind) else np.dtype(higher)], rule)
        for left in (False, True):
            values = (scalar, x) if left else (x, scalar)
            if common.kind not in kinds:
                with pytest.raises(jtc.InputError):
                    getattr(jtc, name)(*values)
                continue
            with np.errstate(all="ignore"):
                expected = np.asarray(getattr(np, name)(*(np.asarray(v, common) for v in values)))
            same(getattr(jtc, name)(*values), expected)


# --------------------------------------------------------------------------------------------------- everything else
def index(x: np.ndarray) -> np.ndarray:
    """Valid indices into the last axis of x, some negative."""
    return np.resize([0, -1, x.shape[-1] - 1], (*x.shape[:-1], 2)) if x.ndim else np.zeros((), np.int64)


CALLS: dict[str, list[Callable[[Any, np.ndarray], Any]]] = {
    **{name: [lambda m, x, f=name: getattr(m, f)(x), lambda m, x, f=name: getattr(m, f)(x, axis=0),
              lambda m, x, f=name: getattr(m, f)(x, axis=-1, keepdims=True),
              lambda m, x, f=name: getattr(m, f)(x, axis=7),
              lambda m, x, f=name: getattr(m, f)(x, axis=(0, -1))]
       for name in ("sum", "prod", "max", "min", "all", "any", "mean", "var", "std", "count_nonzero")},
    **{name: [lambda m, x, f=name: getattr(m, f)(x), lambda m, x, f=name: getattr(m, f)(x, axis=0),
              lambda m, x, f=name: getattr(m, f)(x, axis=-1, keepdims=True)] for name in ("argmax", "argmin")},
    "reshape": [lambda m, x: m.reshape(x, (-1,)), lambda m, x: m.reshape(x, (1, *x.shape)),
                lambda m, x: m.reshape(x, (2, -1)), lambda m, x: m.reshape(x, (7,)),
                lambda m, x: m.reshape(x, (-1, -1))],
    "permute_dims": [lambda m, x: m.permute_dims(x, tuple(range(x.ndim))[::-1]),
                     lambda m, x: m.permute_dims(x, (0, 0)), lambda m, x: m.permute_dims(x, (1, 0))],
    "transpose": [lambda m, x: m.transpose(x)],
    "matrix_transpose": [lambda m, x: m.matrix_transpose(x)],
    "swapaxes": [lambda m, x: m.swapaxes(x, 0, -1), lambda m, x: m.swapaxes(x, 0, 2)],
    "moveaxis": [lambda m, x: m.moveaxis(x, 0, -1), lambda m, x: m.moveaxis(x, (0, 1), (-1, 0))],
    "broadcast_to": [lambda m, x: m.broadcast_to(x, (2, *x.shape)), lambda m, x: m.broadcast_to(x, (4,)),
                     lambda m, x: m.broadcast_to(x, ())],
    "broadcast_arrays": [lambda m, x: m.broadcast_arrays(x, x[None])],
    "expand_dims": [lambda m, x: m.expand_dims(x, axis=0), lambda m, x: m.expand_dims(x, axis=-1),
                    lambda m, x: m.expand_dims(x, axis=5)],
    "squeeze": [lambda m, x: m.squeeze(x, axis=0), lambda m, x: m.squeeze(x[None, ..., None], axis=(0, -1))],
    "flip": [lambda m, x: m.flip(x), lambda m, x: m.flip(x, axis=-1)],
    "roll": [lambda m, x: m.roll(x, 1), lambda m, x: m.roll(x, -4, axis=-1),
             lambda m, x: m.roll(x, (1, 2), axis=(0, 1))],
    "concat": [lambda m, x: m.concat([x, x]), lambda m, x: m.concat([x, x], axis=-1),
               lambda m, x: m.concat([x, x[None]], axis=None), lambda m, x: m.concat([x, x[None]])],
    "stack": [lambda m, x: m.stack([x, x]), lambda m, x: m.stack([x, x, x], axis=-1),
              lambda m, x: m.stack([x, x[None]])],
    "unstack": [lambda m, x: m.unstack(x), lambda m, x: m.unstack(x, axis=-1)],
    "split": [lambda m, x: m.split(x, 1), lambda m, x: m.split(x, [1, 2], axis=-1), lambda m, x: m.split(x, 5)],
    "pad": [lambda m, x: m.pad(x, 1), lambda m, x: m.pad(x, [(0, 2)], constant_values=1),
            lambda m, x: m.pad(x, ((1, 0), (0, 1))), lambda m, x: m.pad(x, -1)],
    "tile": [lambda m, x: m.tile(x, 2), lambda m, x: m.tile(x, (2, 1, 1, 3)), lambda m, x: m.tile(x, 0)],
    "repeat": [lambda m, x: m.repeat(x, 2), lambda m, x: m.repeat(x, 3, axis=-1)],
    "tril": [lambda m, x: m.tril(x[..., None, :] if x.ndim else x, k=1)],
    "triu": [lambda m, x: m.triu(x[..., None, :] if x.ndim else x, k=1)],
    "where": [lambda m, x: m.where(x > 0, x, -1 if x.dtype.kind != "b" else False),
              lambda m, x: m.where(x, x, x[None]), lambda m, x: m.where(x > 0, x, np.zeros((7, 7), x.dtype))],
    "clip": [lambda m, x: m.clip(x, 0, 1), lambda m, x: m.clip(x, max=2), lambda m, x: m.clip(x, 1, 0)],
    "astype": [lambda m, x, to=to: m.astype(x, to) for to in (np.float32, np.bool_)],
    "asarray": [lambda m, x: m.asarray(x), lambda m, x: m.asarray(x, dtype=np.bool_)],
    "array": [lambda m, x: m.array(x)],
    "from_dlpack": [lambda m, x: m.from_dlpack(x)],
    "zeros_like": [lambda m, x: m.zeros_like(x), lambda m, x: m.zeros_like(x, dtype=np.int64)],
    "ones_like": [lambda m, x: m.ones_like(x)],
    "full_like": [lambda m, x: m.full_like(x, 1)],
    "take": [lambda m, x: m.take(x, index(x), axis=-1), lambda m, x: m.take(x, np.array(0), axis=0)],
    "take_along_axis": [lambda m, x: m.take_along_axis(x, index(x), axis=-1)],
    "matmul": [lambda m, x: m.matmul(x, x), lambda m, x: m.matmul(x, x.T),
               lambda m, x: m.matmul(x, x[..., :1])],
    "vecdot": [lambda m, x: m.vecdot(x, x)],
    "outer": [lambda m, x: m.outer(x, x)],
    "tensordot": [lambda m, x: m.tensordot(x, x, axes=x.ndim), lambda m, x: m.tensordot(x, x, axes=0)],
    "einsum": [lambda m, x: m.einsum("...i,...i->...", x, x), lambda m, x: m.einsum("ij->ji", x),
               lambda m, x: m.einsum("i->", x)],
    "getitem": [lambda m, x, k=key: m.asarray(x)[k]
                for key in (0, -1, 9, slice(1, None, 2), slice(None, None, -1), None, ..., (..., 0), (0, 0),
                            (0, 0, 0, 0), (..., None, slice(0)))],
}
# No function of an array, without a meaning in NumPy, or tested where their own rules are.
ELSEWHERE = {"empty", "empty_like", "zeros", "ones", "full", "arange", "linspace", "eye", "iota", "flatten", "gather",
             "scatter", "logsumexp", "result_type"}
# What NumPy does and jtc refuses: sums of products of bools, which the Array API leaves out.
NUMBERS_ONLY = {"matmul", "vecdot", "outer", "tensordot", "einsum"}
# Here NaN depends on the order of the arithmetic.
FINITE = {"var", "std", "matmul", "outer", "tensordot", "vecdot", "einsum", "argmax", "argmin"}


@pytest.mark.parametrize("name", CALLS)
def test_functions(name):
    cases = []
    for dtype in DTYPES:
        for x in arrays(dtype):
            if name in ("take", "take_along_axis") and not x.size:
                continue                                     # NumPy refuses an index into nothing, jtc reads 0
            if name in FINITE and dtype.kind == "f":
                x = np.asarray(np.nan_to_num(x, posinf=4, neginf=-5))
            if name in NUMBERS_ONLY and dtype.kind == "b":
                with pytest.raises(jtc.InputError):
                    CALLS[name][0](jtc, x)
                continue
            cases += [(lambda m, call=call, x=x: call(m, x), (x,)) for call in CALLS[name]]
    compare(cases, name)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_creation(shape):
    for dtype in DTYPES:
        for name in ("zeros", "ones"):
            same(getattr(jtc, name)(shape, dtype=dtype), getattr(np, name)(shape, dtype))
        same(jtc.full(shape, 1, dtype=dtype), np.full(shape, 1, dtype))
        assert jtc.empty(shape, dtype=dtype).shape == shape


def test_every_function_is_compared():
    homes = (creation, elementwise, indexing, linalg, manipulation, reductions)
    public = {name for home in homes for name in home.PUBLIC}
    compared = {*ELEMENTWISE, *CALLS} - {"getitem"}
    assert public - ELSEWHERE == compared, "compare a new function with NumPy in CALLS, or name it in ELSEWHERE"
