"""Every scalar function of the op table, compiled for vectors and scalars of each processor, against NumPy.

Functions with an entry in the ULP table are compared with extended precision; all others must give NumPy's bits.
"""
from __future__ import annotations

import ctypes
import math
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from jtc.compiler.cpu import lower, machine, vector_math, vector_math_accuracy
from jtc.compiler.cpu.builder import Builder
from jtc.compiler.cpu.vector_math_value import Value
from jtc.compiler.link import find_linker
from jtc.dialects.dtypes import BF16, BOOL, DTYPES, F16, F32, F64, I32, I64
from jtc.dialects.optable import SCALAR_FUNCTIONS, OpError, philox_4x32
from jtc.dialects.reference_values import convert, scalar
from jtc.runtime import processor
from jtc.tools import emulated

N = 1 << 14
ALL = list(DTYPES.values())
# (target, whether values are vectors)
CONFIGURATIONS = [("x86-64", True), ("x86-64", False), ("x86-64-v3", True), ("x86-64-v4", True), ("native", False),
                  ("aarch64", True), ("aarch64", False)]


def memory(dtype):
    return "i8" if dtype is BOOL else vector_math.type_of(dtype, None)


class Kernel:
    """A loop over N elements that loads `sources` (dtypes) and stores what `body` returns: (SSA name, dtype) pairs."""

    def __init__(self, symbol, target, lanes, sources, body):
        b = Builder(target)
        self.symbol, self.sources = symbol, sources
        with b.block(f"scf.for %i = %begin to %end step {b.index(lanes or 1)} {{"):
            loaded = [self.load(b, f"%in{k}", d, lanes) for k, d in enumerate(sources)]
            results = body(b, loaded)
            self.results = [d for _, d in results]
            for k, (value, d) in enumerate(results):
                self.store(b, value, f"%out{k}", d, lanes)
        arguments = [f"%in{k}: memref<{N}x{memory(d)}>" for k, d in enumerate(sources)]
        arguments += [f"%out{k}: memref<{N}x{memory(d)}>" for k, d in enumerate(self.results)]
        arguments += ["%workspace: memref<1xi8>", "%begin: index", "%end: index"]
        self.text = f"func.func @{symbol}({', '.join(arguments)}) {{\n{b.text()}\n  return\n}}\n"

    @staticmethod
    def load(b, name, dtype, lanes):
        of = f"memref<{N}x{memory(dtype)}>"
        kind = memory(dtype) if lanes is None else f"vector<{lanes}x{memory(dtype)}>"
        x = b.op(f"memref.load {name}[%i] : {of}" if lanes is None else f"vector.load {name}[%i] : {of}, {kind}")
        return b.op(f"arith.trunci {x} : {kind} to {vector_math.type_of(dtype, lanes)}") if dtype is BOOL else x

    @staticmethod
    def store(b, value, name, dtype, lanes):
        kind = memory(dtype) if lanes is None else f"vector<{lanes}x{memory(dtype)}>"
        if dtype is BOOL:
            value = b.op(f"arith.extui {value} : {vector_math.type_of(dtype, lanes)} to {kind}")
        of = f"memref<{N}x{memory(dtype)}>"
        b.line(f"memref.store {value}, {name}[%i] : {of}" if lanes is None else
               f"vector.store {value}, {name}[%i] : {of}, {kind}")

    def __call__(self, run, *inputs):
        inputs = [np.ascontiguousarray(x, d.numpy) for x, d in zip(inputs, self.sources, strict=True)]
        outputs = [np.full(N, 1, np.int8) if d is BOOL else np.full(N, 77, d.numpy) for d in self.results]
        outputs = run(self.symbol, inputs, outputs)
        return [x.astype(bool) if d is BOOL else x for x, d in zip(outputs, self.results)]


class Here:
    """Calls functions of a shared object in this process: (symbol, inputs, outputs) -> outputs, written."""

    def __init__(self, path, target):
        self.library = ctypes.CDLL(str(path))

    def __call__(self, symbol, inputs, outputs):
        operands = [x.ctypes.data for x in [*inputs, *outputs]]
        self.library[symbol]((ctypes.c_void_p * len(operands))(*operands), None, ctypes.c_int64(0), ctypes.c_int64(N))
        return outputs


class Emulated:
    """The same for a processor that this machine is not."""

    def __init__(self, path, target):
        self.path, self.target = path, target

    def __call__(self, symbol, inputs, outputs):
        arrays = [*inputs, *outputs]
        call = emulated.Call(symbol, [(number, 0) for number in range(len(arrays))], 0, [(0, N)])
        return emulated.run(self.path, self.target, [(array, 64) for array in arrays], [call])[len(inputs):]


def functions_on(dtype):
    """All functions; of 16-bit floats, which go through float32, some of each kind."""
    rows = [row for row in SCALAR_FUNCTIONS.values() if dtype.kind in row.kinds and row.arguments == "same"]
    return [row for row in rows if row.name in ("add", "div", "max", "lt", "neg", "sqrt", "isnan")] if dtype.is_half \
        else rows


def functions_kernel(target, dtype, lanes):
    """Inputs a bool c, x for unary functions, a and b for binary ones; results: the functions in order, those of -|x|
    that know its sign, then where."""
    def body(b, loaded):
        condition, x, left, right = loaded
        results = []
        for row in functions_on(dtype):
            value = vector_math.apply(b, row.name, [x] if row.arity == 1 else [left, right], dtype, lanes)
            results.append((value, BOOL if row.result == "bool" else dtype))
        if dtype in (F32, F64):
            below = (-Value(b, x, dtype.name, lanes).abs()).name
            results += [(vector_math.apply(b, fn, [below], dtype, lanes, True), dtype)
                        for fn in vector_math.NONPOSITIVE]
        return [*results, (vector_math.apply(b, "where", [condition, left, right], dtype, lanes), dtype)]
    return Kernel(f"functions_{dtype}", target, lanes, [BOOL, dtype, dtype, dtype], body)


LIMITS = (0.0, 1.5, -np.inf, np.nan)


def limits_kernel(target, dtype, lanes):
    """max and min of x and each of LIMITS, which is a constant of the code, on either side."""
    def body(b, loaded):
        x = Value(b, loaded[0], dtype.name, lanes)
        limits = [x.const(limit).name for limit in LIMITS]
        return [(vector_math.apply(b, fn, args, dtype, lanes), dtype)
                for fn in ("max", "min") for c in limits for args in ([x.name, c], [c, x.name])]
    return Kernel(f"limits_{dtype}", target, lanes, [dtype], body)


def conversions_kernel(target, lanes):
    def body(b, loaded):
        return [(vector_math.convert(b, x, source, to, lanes), to)
                for x, source in zip(loaded, ALL) for to in ALL]
    return Kernel("conversions", target, lanes, ALL, body)


def philox_kernel(target, lanes):
    def body(b, loaded):
        return [(vector_math.apply(b, "philox", loaded, I64, lanes), I32)]
    return Kernel("philox", target, lanes, [I64, I64], body)


@pytest.fixture(scope="module", params=CONFIGURATIONS, ids=lambda c: f"{c[0]}-{'vector' if c[1] else 'scalar'}")
def compiled(request, tmp_path_factory):
    """(kernels by symbol, what runs them): for one target in one shared object, which must link without a library."""
    name, vector = request.param
    target = machine.named(name)
    if target.family == processor.family() and not machine.runs_here(target):
        pytest.skip(f"this machine does not run {name}")
    if target.family != processor.family() and emulated.missing(target):
        pytest.skip(f"cannot run {name}: this machine lacks {emulated.missing(target)}")
    folder = tmp_path_factory.mktemp("kernels")

    def lanes(dtype):
        return target.lanes(dtype) if vector else None

    kernels = [functions_kernel(target, d, lanes(d)) for d in ALL]
    kernels += [limits_kernel(target, d, lanes(d)) for d in (F32, F64)]
    kernels += [conversions_kernel(target, lanes(F64)), philox_kernel(target, lanes(I64))]
    objects = []
    for kernel in kernels:
        llvm_ir = lower.to_llvm(kernel.text, kernel.symbol, len(kernel.sources) + len(kernel.results))
        objects.append(folder / f"{kernel.symbol}.o")
        objects[-1].write_bytes(lower.to_object(llvm_ir, target))
    library = folder / "kernels.so"
    linker = find_linker(target.family)
    subprocess.run([linker, "-shared", "-z", "text", "--no-undefined", "-o", library, *objects], check=True)
    run = (Here if target.family == processor.family() else Emulated)(library, target)
    return {k.symbol: k for k in kernels}, run


# ------------------------------------------------------------------------------------------------ samples
def float_samples(dtype):
    """x for functions of one argument; (a, b), which start with all pairs of special values."""
    rng, info = np.random.default_rng(0), np.finfo(dtype.numpy)
    denormal = info.smallest_subnormal
    special = [0.0, 1.0, 0.5, 2.0, 3.0, 1e-20, math.inf, info.max, info.tiny, denormal, 3 * denormal, 2.5, 1e10,
               math.pi]
    special = np.array([s for v in special for s in (v, -v)] + [math.nan], dtype.numpy)
    edges = [88.72, 88.73, 89.5, -87.4, -103.9, -104, 127.99, 128, -149, -150, -151, 709.7, 709.8, 710.5, -708.5, -745,
             -746, 1023.9, 1024, -1074, -1075, -1076, 5e4, -1e5, 2e5, 1e9, 2e9, 1e15, 1e22, 1e30, 0.99999, -0.99999]
    part = N // 4
    x = np.concatenate([special, edges, rng.standard_normal(part) * 3, rng.uniform(-2, 2, part),
                        rng.uniform(-1, 1, part) * np.exp(rng.uniform(-30, 7, part)),
                        rng.choice([-1, 1], part) * np.exp(rng.uniform(-80, 80, part))])
    left, right = (v.ravel() for v in np.meshgrid(special, special))
    count = N - left.size
    a = np.concatenate([rng.choice([-1, 1], count // 2) * np.exp(rng.uniform(-5, 5, count // 2)),
                        rng.uniform(-4, 4, count)])
    b = np.concatenate([np.round(rng.uniform(-9, 9, count // 4)), rng.uniform(-20, 20, count)])
    with np.errstate(over="ignore"):
        x, a, b = (v[:N].astype(dtype.numpy) for v in (x, np.concatenate([left, a]), np.concatenate([right, b])))
    return x, a, b


def integer_samples(dtype):
    rng, info = np.random.default_rng(1), np.iinfo(dtype.numpy)
    special = [0, 1, -1, 2, -2, 3, -3, 7, 31, 32, 63, 64, 1000, info.max, info.min, info.min + 1]
    special = np.array([v % (int(info.max) + 1) if info.min == 0 else v for v in map(int, special)
                        if abs(v) <= info.max + 1], dtype.numpy)
    left, right = (v.ravel() for v in np.meshgrid(special, special))
    count = N - left.size
    wide = rng.integers(info.min, info.max, count, dtype.numpy, endpoint=True)
    small = rng.integers(-70 if info.min else 0, 70, count, dtype.numpy)
    return (np.resize(np.concatenate([special, wide]), N), np.concatenate([left, wide]),
            np.concatenate([right, np.where(rng.random(count) < 0.5, small, wide[::-1])]).astype(dtype.numpy))


_EXACT = {}


def exact(row, dtype, arguments):
    """The function in extended precision (erf: in f64 by libm)."""
    key = (row.name, dtype.name, *(a.tobytes() for a in arguments))
    if key not in _EXACT:
        with np.errstate(all="ignore"):
            if row.name == "erf":
                _EXACT[key] = np.array([math.erf(v) for v in arguments[0].astype(float)]).astype(np.longdouble)
            else:
                _EXACT[key] = row.numpy(*(v.astype(np.longdouble) for v in arguments))
    return _EXACT[key]


def ulp_error(got, want, dtype):
    """|got - want| in units in the last place of `want` rounded to dtype; 0 where both are the same infinity or NaN."""
    with np.errstate(all="ignore"):
        rounded = want.astype(dtype.numpy)
        unit = np.abs(np.spacing(np.where(np.isfinite(rounded), rounded, np.finfo(dtype.numpy).max)))
        error = np.abs(got.astype(np.longdouble) - want) / unit
    same = (np.isnan(got) & np.isnan(rounded)) | (np.isinf(rounded) & (got == rounded))
    return np.where(same, 0, np.where(np.isnan(error), np.inf, error)).astype(float)


def assert_same(got, want, inputs, label, zeros=True):
    with np.errstate(invalid="ignore"):
        same = (got == want) | ((got != got) & (want != want))
    if zeros and got.dtype.kind == "f":
        same &= np.isnan(got) | (np.signbit(got) == np.signbit(want))
    where = np.flatnonzero(~same)[:4]
    wrong = [tuple(v[i] for v in inputs) for i in where]
    assert not wrong, f"{label}{wrong}: got {got[where]}, want {want[where]}"


# ------------------------------------------------------------------------------------------------ tests
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_float_functions(compiled, dtype):
    kernels, run = compiled
    x, a, b = float_samples(dtype)
    condition = np.random.default_rng(2).random(N) < 0.5
    kernel = kernels[f"functions_{dtype}"]
    *results, where = kernel(run, condition, x, a, b)
    failures = []
    cases = [(row, (x,) if row.arity == 1 else (a, b)) for row in functions_on(dtype)]
    cases += [(SCALAR_FUNCTIONS[fn], (-abs(x),)) for fn in vector_math.NONPOSITIVE]
    for (row, inputs), got in zip(cases, results, strict=True):
        bound = vector_math_accuracy.ULP.get(row.name)
        if bound is None:
            with np.errstate(all="ignore"):
                reference = row.numpy(*inputs)
            assert_same(got, reference, inputs, row.name, zeros=row.name not in ("sign", "max", "min"))
            continue
        want = exact(row, dtype, inputs)
        error = ulp_error(got, want, dtype)
        worst = int(np.argmax(error))
        if not error[worst] <= getattr(bound, dtype.name):
            failures.append(f"{row.name}{tuple(v[worst] for v in inputs)} = {got[worst]!r}, "
                            f"{error[worst]:.3g} ulp from {want[worst]}")
        zero = np.flatnonzero((got == 0) & (want == 0) & (np.signbit(got) != np.signbit(want)))
        if zero.size:
            failures.append(f"{row.name}{tuple(v[zero[0]] for v in inputs)} is the wrong zero")
    assert not failures, "\n".join(failures)
    assert_same(where, np.where(condition, a, b), (condition, a, b), "where")


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_limits_that_are_constants(compiled, dtype):
    kernels, run = compiled
    kernel = kernels[f"limits_{dtype}"]
    x = float_samples(dtype)[0]
    cases = [(fn, limit) for fn in (np.maximum, np.minimum) for limit in LIMITS for _ in "ab"]
    for (fn, limit), got in zip(cases, kernel(run, x), strict=True):
        assert_same(got, fn(x, dtype.numpy.type(limit)), (x,), f"{fn.__name__} and {limit}", zeros=False)
    plain = sum(not np.isnan(limit) for limit in LIMITS) * 4
    assert kernel.text.count(" uno,") == len(cases) - plain, "only what may be NaN is asked"


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_half_functions(compiled, dtype):
    """Computed in float32, then rounded once."""
    kernels, run = compiled
    with np.errstate(over="ignore"):
        x, a, b = (v.astype(dtype.numpy) for v in float_samples(F32))
    condition = np.random.default_rng(2).random(N) < 0.5
    *results, where = kernels[f"functions_{dtype}"](run, condition, x, a, b)
    for row, got in zip(functions_on(dtype), results, strict=True):
        inputs = (x,) if row.arity == 1 else (a, b)
        with np.errstate(all="ignore"):
            want = scalar(row.name, inputs, BOOL if row.result == "bool" else dtype, False)
        assert_same(got, want, inputs, row.name, zeros=row.name != "max")
    assert_same(where, np.where(condition, a, b), (condition, a, b), "where")


@pytest.mark.parametrize("dtype", [d for d in ALL if not d.is_float], ids=str)
def test_integer_functions(compiled, dtype):
    kernels, run = compiled
    if dtype is BOOL:
        a, b = np.arange(N) % 2 == 1, np.arange(N) // 2 % 2 == 1
        x = a
    else:
        x, a, b = integer_samples(dtype)
    condition = np.random.default_rng(2).random(N) < 0.5
    *results, where = kernels[f"functions_{dtype}"](run, condition, x, a, b)
    for row, got in zip(functions_on(dtype), results, strict=True):
        inputs = (x,) if row.arity == 1 else (a, b)
        with np.errstate(all="ignore"):
            assert_same(got, row.numpy(*inputs), inputs, row.name)
    assert_same(where, np.where(condition, a, b), (condition, a, b), "where")


def test_conversions(compiled):
    kernels, run = compiled
    limits = np.array([0.0, -0.0, 0.5, -0.5, 1.9, -1.9, 127, 128, -129, 255, 256, 65504, 65519, 65520, 65536, 1e5,
                       2.0 ** 31, -2.0 ** 31, 2.0 ** 31 - 1, -2.0 ** 31 - 1, -2.0 ** 31 - 0.5, 2.0 ** 31 - 0.5,
                       2.0 ** 32, 2.0 ** 63, -2.0 ** 63, 2.0 ** 63 + 4096, 2.0 ** 64, 2.0 ** 53 + 2, 1e30, -1e30,
                       1 + 2.0 ** -11, 1 + 3 * 2.0 ** -11, 1 + 2.0 ** -8, 2.0 ** -24, 2.0 ** -25, 2.0 ** -25 * 1.01,
                       math.inf, -math.inf, math.nan])
    sources = []
    for dtype in ALL:
        with np.errstate(all="ignore"):
            if dtype is BOOL:
                sources.append(np.arange(N) % 2 == 1)
            elif dtype.is_integer:
                sources.append(integer_samples(dtype)[0])
            elif dtype.is_half:     # a quarter of all bit patterns, of every exponent
                sources.append((np.arange(N) * 4 + np.arange(N) % 4).astype(np.uint16).view(dtype.numpy))
            else:
                sources.append(np.concatenate([limits, float_samples(dtype)[0]])[:N].astype(dtype.numpy))
    results = iter(kernels["conversions"](run, *sources))
    for x, source in zip(sources, ALL):
        for to in ALL:
            with np.errstate(all="ignore"):
                want = convert(x, to, False)
            assert_same(next(results), want, (x,), f"{source} to {to}")


def test_philox(compiled):
    kernels, run = compiled
    counter, key, _ = integer_samples(I64)
    got, = kernels["philox"](run, counter, key)
    np.testing.assert_array_equal(got, philox_4x32(counter, key))


# Arithmetic on single floats: x86's ...ss and ...sd, Arm's on registers s, d and h.
_SINGLE = re.compile(r"^\s+(v?(?:add|sub|mul|div|sqrt|max|min|fn?m(?:add|sub)\d+)s[sd]\s.*|"
                     r"f(?:add|sub|mul|div|n?m(?:add|sub)|sqrt|max|min)\s+[sdh]\d.*)$", re.MULTILINE)


@pytest.mark.parametrize("name", ["x86-64", "x86-64-v3", "aarch64"])
def test_vectors_stay_vectors(name):
    """No function of float vectors takes its lanes apart."""
    target = machine.named(name)

    def singles(lanes):
        kernel = functions_kernel(target, F32, lanes)
        llvm_ir = lower.to_llvm(kernel.text, kernel.symbol, len(kernel.sources) + len(kernel.results))
        return _SINGLE.findall(lower.to_assembly(llvm_ir, target))
    assert singles(target.lanes(F32)) == [] != singles(None)


def test_every_function_has_code():
    assert set(vector_math.FUNCTIONS) == set(SCALAR_FUNCTIONS)


def test_bad_use():
    with pytest.raises(OpError, match="unknown scalar function 'gamma'"):
        vector_math.apply(Builder(), "gamma", ["%x"], F32, 4)
    with pytest.raises(OpError, match="no code for exp on int32"):
        vector_math.apply(Builder(), "exp", ["%x"], I32, 4)


def test_document_shows_the_table():
    path = Path(__file__).parents[2] / "docs" / "vector-math.md"
    assert path.read_text() == vector_math_accuracy.document(), \
        "run python -m jtc.compiler.cpu.vector_math_accuracy > docs/vector-math.md"
