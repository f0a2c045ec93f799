"""The op table: one row per scalar function and one per meta-op.

The dialect's op classes and verifier (`dialect.py`), the reference interpreter (`reference.py`), the front end's
functions, the documentation of the ops and the op tests are generated from these rows.  docs/extending.md says what
else a new function or op needs.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL, I32, I64, DType
from jtc.dialects.graph import DYNAMIC, TensorType


class OpError(ValueError):
    """Arguments that an op cannot take.  The message is one clear line; it may end in a second line `hint: ...`."""


# ------------------------------------------------------------------------------------------------ scalar functions
@dataclass(frozen=True, slots=True)
class ScalarFunction:
    """A function of scalars, applied elementwise to tensors of one shape.

    kinds      kinds of element type that it takes ("bool", "int", "uint", "float")
    result     "same" as the (last) argument, "bool", or "i32"
    numpy      reference on NumPy arrays
    facts      subset of FACTS
    cost       rough cost in vector instructions, for fusion and the schedule's cost rule
    arguments  "same" (all of one dtype), "where" (bool, T, T), "philox" (i64, i64)
    """

    name: str
    arity: int
    kinds: frozenset[str]
    numpy: Callable[..., Any]
    doc: str
    result: str = "same"
    facts: frozenset[str] = frozenset()
    cost: float = 1
    arguments: str = "same"


FACTS = {
    "commutative": "f(a, b) = f(b, a)",
    "associative": "f(a, f(b, c)) = f(f(a, b), c), up to rounding",
    "idempotent": "f(a, a) = a",
    "zero_preserving": "f(0) = 0",
    "comparison": "the result is a bool",
}
_FLOAT, _NUMBER = frozenset({"float"}), frozenset({"int", "uint", "float"})
_LOGIC, _INTEGER = frozenset({"bool", "int", "uint"}), frozenset({"int", "uint"})
_ANY = _NUMBER | {"bool"}


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(x).astype(np.asarray(x).dtype)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))                             # never overflows
    return np.where(x < 0, e, 1) / (1 + e)


def philox_4x32(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Word `counter % 4` of Philox-4x32-10 block `counter // 4` under the 64-bit `key`, as int32.

    Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    counter, key = np.broadcast_arrays(np.asarray(counter, np.int64), np.asarray(key, np.int64))
    block, low32 = counter.astype(np.uint64) >> np.uint64(2), np.uint64(0xFFFFFFFF)
    c = [block & low32, block >> np.uint64(32), np.zeros_like(block), np.zeros_like(block)]
    k0, k1 = key.astype(np.uint64) & low32, key.astype(np.uint64) >> np.uint64(32)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k0, p1 & low32, (p0 >> np.uint64(32)) ^ c[3] ^ k1, p0 & low32]
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low32, (k1 + np.uint64(0xBB67AE85)) & low32
    word = np.choose((counter & 3).astype(np.int64), c)
    return word.astype(np.uint32).view(np.int32)


def _rows() -> list[ScalarFunction]:
    f = ScalarFunction
    fs = frozenset
    ring = fs({"commutative", "associative"})
    lattice = ring | {"idempotent"}
    compare = fs({"comparison"})
    zero = fs({"zero_preserving"})
    return [
        f("add", 2, _NUMBER, np.add, "a + b", facts=ring),
        f("sub", 2, _NUMBER, np.subtract, "a - b"),
        f("mul", 2, _NUMBER, np.multiply, "a * b", facts=ring),
        f("div", 2, _FLOAT, np.divide, "a / b", cost=5),
        f("floordiv", 2, _NUMBER, np.floor_divide, "the largest integer <= a / b", cost=12),
        f("mod", 2, _NUMBER, np.mod, "a - b * floor(a / b), with the sign of b", cost=14),
        f("pow", 2, _FLOAT, np.power, "a to the power b", cost=40),
        f("max", 2, _ANY, np.maximum, "the larger; NaN where either is NaN", facts=lattice, cost=2),
        f("min", 2, _ANY, np.minimum, "the smaller; NaN where either is NaN", facts=lattice, cost=2),
        f("atan2", 2, _FLOAT, np.arctan2, "angle of the point (b, a), in radians", cost=40),
        f("eq", 2, _ANY, np.equal, "a == b", "bool", compare | {"commutative"}),
        f("ne", 2, _ANY, np.not_equal, "a != b", "bool", compare | {"commutative"}),
        f("lt", 2, _ANY, np.less, "a < b", "bool", compare),
        f("le", 2, _ANY, np.less_equal, "a <= b", "bool", compare),
        f("gt", 2, _ANY, np.greater, "a > b", "bool", compare),
        f("ge", 2, _ANY, np.greater_equal, "a >= b", "bool", compare),
        f("and", 2, _LOGIC, np.bitwise_and, "a and b, bit by bit", facts=lattice),
        f("or", 2, _LOGIC, np.bitwise_or, "a or b, bit by bit", facts=lattice),
        f("xor", 2, _LOGIC, np.bitwise_xor, "a exclusive-or b, bit by bit", facts=ring),
        f("shl", 2, _INTEGER, np.left_shift, "a shifted left by b bits"),
        f("shr", 2, _INTEGER, np.right_shift, "a shifted right by b bits, keeping the sign"),
        f("neg", 1, _NUMBER, np.negative, "-a", facts=zero),
        f("abs", 1, _NUMBER, np.abs, "|a|", facts=zero),
        f("sign", 1, _NUMBER, np.sign, "-1, 0 or 1; NaN stays NaN", facts=zero, cost=3),
        f("not", 1, _LOGIC, np.bitwise_not, "not a, bit by bit"),
        f("exp", 1, _FLOAT, np.exp, "e to the power a", cost=16),
        f("exp2", 1, _FLOAT, np.exp2, "2 to the power a", cost=16),
        f("expm1", 1, _FLOAT, np.expm1, "exp(a) - 1, accurate near 0", facts=zero, cost=24),
        f("log", 1, _FLOAT, np.log, "natural logarithm", cost=20),
        f("log2", 1, _FLOAT, np.log2, "logarithm to base 2", cost=20),
        f("log10", 1, _FLOAT, np.log10, "logarithm to base 10", cost=20),
        f("log1p", 1, _FLOAT, np.log1p, "log(1 + a), accurate near 0", facts=zero, cost=24),
        f("sqrt", 1, _FLOAT, np.sqrt, "square root", facts=zero, cost=6),
        f("rsqrt", 1, _FLOAT, lambda a: 1 / np.sqrt(a), "1 / sqrt(a)", cost=10),
        f("sin", 1, _FLOAT, np.sin, "sine of a in radians", facts=zero, cost=24),
        f("cos", 1, _FLOAT, np.cos, "cosine of a in radians", cost=24),
        f("tan", 1, _FLOAT, np.tan, "tangent of a in radians", facts=zero, cost=34),
        f("asin", 1, _FLOAT, np.arcsin, "inverse sine, in radians", facts=zero, cost=24),
        f("acos", 1, _FLOAT, np.arccos, "inverse cosine, in radians", cost=24),
        f("atan", 1, _FLOAT, np.arctan, "inverse tangent, in radians", facts=zero, cost=24),
        f("sinh", 1, _FLOAT, np.sinh, "hyperbolic sine", facts=zero, cost=34),
        f("cosh", 1, _FLOAT, np.cosh, "hyperbolic cosine", cost=34),
        f("tanh", 1, _FLOAT, np.tanh, "hyperbolic tangent", facts=zero, cost=18),
        f("sigmoid", 1, _FLOAT, _sigmoid, "1 / (1 + exp(-a))", cost=24),
        f("asinh", 1, _FLOAT, np.arcsinh, "inverse hyperbolic sine", facts=zero, cost=34),
        f("acosh", 1, _FLOAT, np.arccosh, "inverse hyperbolic cosine", cost=34),
        f("atanh", 1, _FLOAT, np.arctanh, "inverse hyperbolic tangent", facts=zero, cost=34),
        f("erf", 1, _FLOAT, _erf, "error function", facts=zero, cost=20),
        f("floor", 1, _FLOAT, np.floor, "the largest integer <= a", facts=zero),
        f("ceil", 1, _FLOAT, np.ceil, "the smallest integer >= a", facts=zero),
        f("trunc", 1, _FLOAT, np.trunc, "a rounded towards 0", facts=zero),
        f("round", 1, _FLOAT, np.round, "a rounded to the nearest integer, halves to even", facts=zero),
        f("isnan", 1, _FLOAT, np.isnan, "whether a is NaN", "bool", compare),
        f("isinf", 1, _FLOAT, np.isinf, "whether a is an infinity", "bool", compare),
        f("where", 3, _ANY, np.where, "b where a holds, else c", arguments="where"),
        f("philox", 2, frozenset({"int"}), philox_4x32, (philox_4x32.__doc__ or "").split("\n")[0], "i32",
          cost=90, arguments="philox"),
    ]


SCALAR_FUNCTIONS: dict[str, ScalarFunction] = {row.name: row for row in _rows()}


@dataclass(frozen=True, slots=True)
class Reduction:
    """A commutative, associative way to combine values: `fn` is its scalar function, `identity` its neutral element."""

    fn: str
    kinds: frozenset[str]
    identity: Callable[[DType], bool | int | float]
    numpy: np.ufunc


def _lowest(d: DType) -> float:
    if d.is_float:
        return -math.inf
    return False if d.kind == "bool" else int(np.iinfo(d.numpy).min)


def _highest(d: DType) -> float:
    if d.is_float:
        return math.inf
    return True if d.kind == "bool" else int(np.iinfo(d.numpy).max)


REDUCTIONS: dict[str, Reduction] = {
    "add": Reduction("add", _NUMBER, lambda d: 0, np.add),
    "mul": Reduction("mul", _NUMBER, lambda d: 1, np.multiply),
    "max": Reduction("max", _ANY, _lowest, np.maximum),
    "min": Reduction("min", _ANY, _highest, np.minimum),
    "and": Reduction("and", _LOGIC, lambda d: True if d.kind == "bool" else -1, np.bitwise_and),
    "or": Reduction("or", _LOGIC, lambda d: False if d.kind == "bool" else 0, np.bitwise_or),
}


def scalar_result(fn: str, args: Sequence[DType]) -> DType:
    """Result dtype of a scalar function; raises OpError where it does not take these."""
    row = SCALAR_FUNCTIONS[fn]
    if len(args) != row.arity:
        raise OpError(f"{fn} takes {row.arity} argument{'s' * (row.arity != 1)}, got {len(args)}")
    if row.arguments == "philox":
        if list(args) != [I64, I64]:
            raise OpError(f"philox takes an int64 counter and an int64 key, got {', '.join(a.public for a in args)}")
        return I32
    values = args
    if row.arguments == "where":
        if args[0] is not BOOL:
            raise OpError(f"where needs a bool condition, got {args[0].public}")
        values = args[1:]
    if any(a is not values[0] for a in values):
        raise OpError(f"{fn} needs arguments of one dtype, got {' and '.join(a.public for a in values)}"
                      "\nhint: convert one of them with astype")
    if values[0].kind not in row.kinds:
        raise OpError(f"{fn} does not take {values[0].public}; it takes {', '.join(sorted(row.kinds))} types")
    return BOOL if row.result == "bool" else values[-1]


# ------------------------------------------------------------------------------------------------ meta-ops
Types: TypeAlias = Sequence[TensorType]
Attrs: TypeAlias = Mapping[str, Any]
Infer: TypeAlias = Callable[[Types, Attrs, TensorType | None], TensorType]


@dataclass(frozen=True, slots=True)
class MetaOp:
    """An op on whole tensors.

    arity   number of tensor arguments; -n: n, and any number of others, of one type, after them
    attrs   attribute name -> kind: "ints", "int", "map" (affine map), "fn" (a reduction's name), "number", "value"
    infer   (argument types, attributes, declared result type or None) -> result type; raises OpError.
            Ops whose shape or dtype is not determined by their arguments take it from the declared type.
    """

    name: str
    arity: int
    attrs: Mapping[str, str]
    infer: Infer
    doc: str


def _declared(t: TensorType | None) -> TensorType:
    if t is None:
        raise OpError("the result type must be given")
    if any(n < 0 and n != DYNAMIC for n in t.shape):
        raise OpError(f"negative dimension in shape {t.shape}")
    return t


def dims_match(a: int, b: int) -> bool:
    """Whether two dimensions may be equal (an unknown one may be anything)."""
    return a == b or DYNAMIC in (a, b)


def _elementwise(name: str) -> Infer:
    def infer(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
        shapes = [a.shape for a in args]
        dtype = scalar_result(name, [a.dtype for a in args])
        if any(len(s) != len(shapes[0]) or not all(map(dims_match, s, shapes[0])) for s in shapes):
            raise OpError(f"{name} needs arguments of one shape, got {' and '.join(map(str, shapes))}")
        return TensorType(dtype, tuple(max(dims) for dims in zip(*shapes)) if shapes[0] else ())
    return infer


def _constant(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    return _declared(declared)


def _iota(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    t = _declared(declared)
    if not 0 <= attrs["axis"] < t.rank:
        raise OpError(f"iota axis {attrs['axis']} is outside the {t.rank} dimensions of {t}")
    return t


def _random(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    t = _declared(declared)
    if args[0] != TensorType(I64, ()):
        raise OpError(f"random needs a key of type tensor<i64>, got {args[0]}")
    if t.dtype is not I32:
        raise OpError(f"random gives int32 bits, not {t.dtype.public}")
    return t


def _cast(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    return TensorType(_declared(declared).dtype, args[0].shape)


def _broadcast(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    t, dims = _declared(declared), attrs["dims"]
    if len(dims) != args[0].rank or len(set(dims)) != len(dims) or any(not 0 <= d < t.rank for d in dims):
        raise OpError(f"broadcast dims {tuple(dims)} must name one dimension of {t} for each of {args[0]}")
    for d, n in zip(dims, args[0].shape):
        if n != 1 and not dims_match(n, t.shape[d]):
            raise OpError(f"cannot broadcast {args[0].shape} to {t.shape}: dimension {n} against {t.shape[d]}")
    return TensorType(args[0].dtype, t.shape)


def _reduce(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    x, axes = args[0], attrs["axes"]
    _check_reduction(attrs["fn"], x.dtype)
    if len(set(axes)) != len(axes) or any(not 0 <= a < x.rank for a in axes):
        raise OpError(f"reduce axes {tuple(axes)} do not fit shape {x.shape}")
    return TensorType(x.dtype, tuple(n for d, n in enumerate(x.shape) if d not in axes))


def _scan(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    _check_reduction(attrs["fn"], args[0].dtype)
    return _check_scan(f"scan {attrs['fn']}", args[0], attrs["axis"])


def _recurrence(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    a, b = args
    if a.dtype is not b.dtype or len(a.shape) != len(b.shape) or not all(map(dims_match, a.shape, b.shape)):
        raise OpError(f"recurrence needs factors and terms of one type, got {a} and {b}")
    _check_reduction("add", a.dtype)
    return _check_scan("recurrence", b, attrs["axis"])


def _check_scan(name: str, x: TensorType, axis: int) -> TensorType:
    if not 0 <= axis < x.rank:
        raise OpError(f"{name} axis {axis} does not fit shape {x.shape}")
    return x


def _arg_reduce(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    x, axis = args[0], attrs["axis"]
    if attrs["fn"] not in ("max", "min"):
        raise OpError(f"arg_reduce knows max and min, not {attrs['fn']!r}")
    if not 0 <= axis < x.rank:
        raise OpError(f"arg{attrs['fn']} axis {axis} does not fit shape {x.shape}")
    if x.shape[axis] == 0:
        raise OpError(f"arg{attrs['fn']} of an empty axis: shape {x.shape}, axis {axis}")
    return TensorType(I64, x.shape[:axis] + x.shape[axis + 1:])


def _reindex(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    t = _declared(declared)
    _check_map("reindex", attrs["map"], args[0].rank, t.rank)
    return TensorType(args[0].dtype, t.shape)


def _reindex_reduce(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    t = _declared(declared)
    _check_reduction(attrs["fn"], args[0].dtype)
    _check_map("reindex_reduce", attrs["map"], t.rank, args[0].rank)
    return TensorType(args[0].dtype, t.shape)


def _reshape(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    t = _declared(declared)
    if DYNAMIC not in args[0].shape + t.shape and args[0].size != t.size:
        raise OpError(f"cannot reshape {args[0].shape} ({args[0].size} elements) to {t.shape} ({t.size})")
    return TensorType(args[0].dtype, t.shape)


def _concat(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    first, axis = args[0], attrs["axis"]
    if not 0 <= axis < first.rank:
        raise OpError(f"concat axis {axis} does not fit shape {first.shape}")
    for t in args[1:]:
        if t != first:
            raise OpError(f"concat joins tensors of one type, got {first} and {t}")
    total = DYNAMIC if first.shape[axis] == DYNAMIC else first.shape[axis] * len(args)
    return TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1:]))


def _transpose(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    perm = attrs["perm"]
    if sorted(perm) != list(range(args[0].rank)):
        raise OpError(f"{tuple(perm)} is not a permutation of the {args[0].rank} dimensions of {args[0].shape}")
    return TensorType(args[0].dtype, tuple(args[0].shape[p] for p in perm))


def _recompute(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    return args[0]


def _check_indices(name: str, table: TensorType, domain: tuple[int, ...], indices: Types, attrs: Attrs) -> None:
    _check_map(name, attrs["map"], table.rank, len(domain))
    if len(attrs["dims"]) != len(indices) or any(not 0 <= d < table.rank for d in attrs["dims"]):
        dims = tuple(attrs["dims"])
        raise OpError(f"{name} dims {dims} must name one dimension of {table.shape} for each index tensor")
    for t in indices:
        if not t.dtype.is_integer or len(t.shape) != len(domain) or not all(map(dims_match, t.shape, domain)):
            raise OpError(f"{name} needs integer index tensors of shape {domain}, got {t}")
        if t.dtype is not indices[0].dtype:
            raise OpError(f"{name} needs index tensors of one dtype, got {indices[0].dtype.public} and {t.dtype.public}"
                          "\nhint: convert one of them with astype")


def _gather(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    t = _declared(declared)
    _check_indices("gather", args[0], t.shape, args[1:], attrs)
    return TensorType(args[0].dtype, t.shape)


def _scatter(args: Types, attrs: Attrs, declared: TensorType | None) -> TensorType:
    init, updates, *indices = args
    if attrs["fn"] != "replace":
        _check_reduction(attrs["fn"], init.dtype)
    if init.dtype is not updates.dtype:
        raise OpError(f"scatter of {updates.dtype.public} into {init.dtype.public}")
    _check_indices("scatter", init, updates.shape, indices, attrs)
    return init


def _check_reduction(fn: str, dtype: DType) -> None:
    row = REDUCTIONS.get(fn)
    if row is None:
        raise OpError(f"unknown reduction {fn!r}\nhint: one of {', '.join(REDUCTIONS)}")
    if dtype.kind not in row.kinds:
        raise OpError(f"cannot reduce {dtype.public} with {fn}; it takes {', '.join(sorted(row.kinds))} types")


def _check_map(name: str, forms: Sequence[Affine], results: int, domain: int) -> None:
    if len(forms) != results:
        raise OpError(f"{name}: the index map gives {len(forms)} indices for {results} dimensions")
    known = {f"d{i}" for i in range(domain)}
    for form in forms:
        if not form.axes <= known:
            raise OpError(f"{name}: index {form} names axes outside the {domain} of its domain")


META_OPS: dict[str, MetaOp] = {
    row.name: row
    for row in (
        MetaOp("constant", 0, {"value": "value"}, _constant, "A number repeated over the shape, or weights."),
        MetaOp("iota", 0, {"axis": "int"}, _iota, "The index along one axis: y[..., i, ...] = i."),
        MetaOp("random", 1, {"stream": "int"}, _random,
               "Random bits: element i (row-major) is philox(i + (stream << 40), key)."),
        MetaOp("cast", 1, {}, _cast, "Elements converted to the result's dtype (floats to integers towards 0)."),
        MetaOp("broadcast", 1, {"dims": "ints"}, _broadcast,
               "y[i...] = x[i[dims[0]], i[dims[1]], ...]; dimensions of size 1 are repeated."),
        MetaOp("reduce", 1, {"fn": "fn", "axes": "ints"}, _reduce, "Combine over axes, which disappear."),
        MetaOp("arg_reduce", 1, {"fn": "fn", "axis": "int"}, _arg_reduce,
               "Index of the first largest (max) or smallest (min) element along an axis; a NaN counts as both."),
        MetaOp("scan", 1, {"fn": "fn", "axis": "int"}, _scan,
               "Running reduction along an axis: y[t] = fn(y[t - 1], x[t]), starting from fn's identity."),
        MetaOp("recurrence", 2, {"axis": "int"}, _recurrence,
               "Linear recurrence along an axis: y[t] = a[t] * y[t - 1] + b[t], starting from 0."),
        MetaOp("reindex", 1, {"map": "map", "fill": "number"}, _reindex,
               "y[i...] = x[map(i)...]; `fill` where the map leaves x."),
        MetaOp("reindex_reduce", 1, {"fn": "fn", "map": "map"}, _reindex_reduce,
               "y[map(i)...] = fn(y[map(i)...], x[i...]), starting from fn's identity; writes outside y are dropped."),
        MetaOp("reshape", 1, {}, _reshape, "The same elements in row-major order under another shape."),
        MetaOp("transpose", 1, {"perm": "ints"}, _transpose, "Dimension k of the result is dimension perm[k] of x."),
        MetaOp("recompute", 1, {}, _recompute,
               "x itself; what is computed from it is not shared with what is computed from x."),
        MetaOp("concat", -1, {"axis": "int"}, _concat,
               "Tensors of one type one after the other along an axis, each written to its place: for many of them."),
        MetaOp("gather", -1, {"map": "map", "dims": "ints", "fill": "number"}, _gather,
               "y[i...] = x[j...] with j = map(i), to whose entries dims[k] the value of index tensor k at i is added; "
               "`fill` where j leaves x."),
        MetaOp("scatter", -2, {"fn": "fn", "map": "map", "dims": "ints"}, _scatter,
               "Start from the first argument; for every i in row-major order y[j...] = fn(y[j...], updates[i...]), "
               "j as in gather; writes outside are dropped.  fn may also be `replace`."),
    )
}


def infer(op: str, args: Sequence[TensorType], attrs: Mapping[str, Any],
          declared: TensorType | None = None) -> TensorType:
    """Result type of a graph op (meta-op or elementwise scalar function); raises OpError for wrong arguments."""
    if op in SCALAR_FUNCTIONS:
        return _elementwise(op)(args, attrs, declared)
    row = META_OPS.get(op)
    if row is None:
        raise OpError(f"unknown op {op!r}")
    if len(args) < abs(row.arity) or len(args) > row.arity >= 0:
        more = " or more" * (row.arity < 0)
        raise OpError(f"{op} takes {abs(row.arity)}{more} argument{'s' * (row.arity != 1)}, got {len(args)}")
    if set(attrs) != set(row.attrs):
        raise OpError(f"{op} has attributes {sorted(row.attrs)}, got {sorted(attrs)}")
    return row.infer(args, attrs, declared)
