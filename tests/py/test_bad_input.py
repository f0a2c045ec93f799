"""Wrong input to the Python interface gives one clear error that names the user's line, outside and inside of `jit`.

Commands are in test_bad_commands.py, damaged files also in test_io.py and test_runtime_module.py, an interrupted
compile in test_interrupt.py.
"""
from __future__ import annotations

import functools
import math
import pickle
import threading

import numpy as np
import pytest
from frontend_checks import normal

import jtc
from jtc.nn import functional as F

pytestmark = pytest.mark.usefixtures("backend")
X = normal(3, 4)

CASES = {
    "shapes do not broadcast": (lambda x: x + np.zeros(3, np.float32), "(3, 4) and (3,) do not broadcast"),
    "matmul sizes": (lambda x: x @ x, "inner sizes 4 and 3 differ"),
    "matmul of a scalar": (lambda x: x @ jtc.array(2.0), "needs operands with dimensions"),
    "no common dtype": (lambda x: jtc.zeros((2,), dtype=jtc.uint64) + jtc.zeros((2,), dtype=jtc.int8),
                        "no common dtype of uint64 and int8"),
    "bool arithmetic": (lambda x: (x > 0) - (x > 1), "sub does not take bool"),
    "float bit operation": (lambda x: x & 1, "and does not take float32"),
    "integer too large": (lambda x: jtc.zeros((2,), dtype=jtc.int32) + 2**40, "does not fit into int32"),
    "unknown dtype": (lambda x: x.astype("complex64"), "is not a jtc element type"),
    "unknown device": (lambda x: jtc.zeros((2,), device="tpu"), "unknown device 'tpu'"),
    "string": (lambda x: x + "a", None),
    "object array": (lambda x: jtc.array(np.array([None])), "is not a jtc element type"),
    "ragged list": (lambda x: jtc.array([[1, 2], [3]]), "must be rectangular"),
    "reshape": (lambda x: x.reshape(5, -1), "cannot reshape (3, 4) (12 elements)"),
    "reshape size": (lambda x: x.reshape(5, 2), "cannot reshape"),
    "negative shape": (lambda x: jtc.zeros((2, -3)), "negative dimension -3"),
    "float shape": (lambda x: jtc.zeros((2.0,)), "a shape holds integers"),
    "axis": (lambda x: jtc.sum(x, axis=2), "axis 2 is out of range"),
    "axis twice": (lambda x: jtc.sum(x, axis=(0, -2)), "names an axis twice"),
    "permutation": (lambda x: jtc.permute_dims(x, (0,)), "is not a permutation"),
    "empty maximum": (lambda x: jtc.max(x[:0], axis=0), "max of an empty axis"),
    "squeeze": (lambda x: jtc.squeeze(x, axis=0), "cannot squeeze dimension 0"),
    "concat": (lambda x: jtc.concat([x, x.T]), "cannot concat shapes"),
    "concat nothing": (lambda x: jtc.concat([]), "one or more tensors"),
    "index out of range": (lambda x: x[3], "index 3 is out of range for dimension 0"),
    "too many indices": (lambda x: x[0, 0, 0], "3 indices for 2 dimensions"),
    "bool mask": (lambda x: x[x > 0], "bool mask"),
    "bool index": (lambda x: x[True], "cannot index with the bool True"),
    "float index": (lambda x: x[0.5], "cannot index with float"),
    "two ellipses": (lambda x: x[..., ...], "only one '...'"),
    "reindex arity": (lambda x: jtc.reindex(x, (2, 2), lambda i: (i, i)), "takes 1 indices, but there are 2 axes"),
    "reindex product": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i * j, j)), "is not affine"),
    "reindex division": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i // 2, j)), "(d0) // 2 is not affine"),
    "reindex modulo": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i % 2, j)), "(d0) % 2 is not affine"),
    "reindex float": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i + 0.5, j)), "float is not an integer"),
    "reindex comparison": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i if i < 1 else j, j)), "cannot be compared"),
    "reindex tensor": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i + jtc.array(1), j)), None),
    "reindex results": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i,)), "gives 1 indices for 2 dimensions"),
    "reindex shape": (lambda x: jtc.reindex(x, (2, -2), lambda i, j: (i, j)), "negative dimension -2"),
    "reindex failure": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: {}[0]), "the index function failed: KeyError"),
    "reindex_reduce name": (lambda x: jtc.reindex_reduce(x, "mean", (3,), lambda i, j: i), "unknown reduction 'mean'"),
    "einsum operands": (lambda x: jtc.einsum("ij,jk->ik", x), "names 2 operands, got 1"),
    "einsum sizes": (lambda x: jtc.einsum("ij,ij->i", x, x.T), "index 'i' has sizes 3 and 4"),
    "einsum rank": (lambda x: jtc.einsum("ijk->i", x), "does not fit an operand of 2 dimensions"),
    "einsum result": (lambda x: jtc.einsum("ij->k", x), "is in no operand"),
    "conv channels": (lambda x: F.conv2d(x[None, None], jtc.zeros((1, 2, 3, 3))), "does not fit a weight of shape"),
    "conv kernel": (lambda x: F.conv2d(x[None, None], jtc.zeros((1, 1, 9, 9))), "larger than the padded input"),
    "conv rank": (lambda x: F.conv2d(x, jtc.zeros((1, 1, 3, 3))), "needs 3 or 4 dimensions"),
    "conv bias": (lambda x: F.conv2d(x[None, None], jtc.zeros((1, 1, 3, 3)), jtc.zeros((2,))), "bias has shape (2,)"),
    "layer norm": (lambda x: F.layer_norm(x, (5,)), "does not fit shape (3, 4)"),
    "cross entropy": (lambda x: F.cross_entropy(x, np.zeros(4, np.int64)), "needs targets of shape (3,)"),
    "linear": (lambda x: F.linear(x, jtc.zeros((3,))), "linear needs a weight [out, in]"),
    "gelu": (lambda x: F.gelu(x, "fast"), "approximate='fast'"),
    "list of strings": (lambda x: jtc.array(["a", "b"]), "a list of numbers is needed, got ['a', 'b']"),
    "list with None": (lambda x: jtc.array([1, None]), "a list of numbers is needed, got [1, None]"),
    "array of strings": (lambda x: x + np.array(["a", "b", "c", "d"]), "dtype('<U1') is not a jtc element type"),
    "complex array": (lambda x: x * np.ones(4, np.complex64), "dtype('complex64') is not a jtc element type"),
    "structured array": (lambda x: jtc.array(np.zeros(3, [("a", "f4")])), "is not a jtc element type"),
    "long double": (lambda x: jtc.asarray(np.longdouble(2)), "dtype('float128') is not a jtc element type"),
    "masked array": (lambda x: jtc.array(np.ma.array([1.0, 2.0], mask=[0, 1])), "its mask would be lost"),
    "dict": (lambda x: jtc.array({"a": 1}), "cannot make a tensor of dict"),
    "generator": (lambda x: jtc.stack(x[i] for i in range(3)), "needs a list of one or more tensors"),
    "integer beyond int64": (lambda x: jtc.array(2**70), "does not fit into int64"),
    "list beyond the dtype": (lambda x: jtc.asarray([1, 300], dtype=jtc.int8), "300 does not fit into int8"),
    "NaN as integer": (lambda x: jtc.asarray([float("nan")], dtype=jtc.int32), "nan does not fit into int32"),
    "integer beyond float": (lambda x: x * 10**400, "does not fit into float32"),
    "too many elements": (lambda x: jtc.zeros((2**40, 2**40)), "takes more than 2^63 bytes"),
    "too large by broadcasting": (lambda x: jtc.broadcast_to(x[0, 0], (2**33, 2**33)), "takes more than 2^63 bytes"),
    "too large by indexing": (lambda x: jtc.reindex(x, (2**33, 2**33), lambda i, j: (i, j)), "more than 2^63 bytes"),
    "shape as array": (lambda x: jtc.zeros(np.array([2, 3])), "got array([2, 3])"),
    "shape as tensor": (lambda x: jtc.zeros(x), "got a tensor float32[3, 4]"),
    "dtype as list": (lambda x: jtc.zeros((2,), dtype=[]), "[] is not a jtc element type"),
    "full of an array": (lambda x: jtc.full((2,), X), "full needs a number to fill with, got array([["),
    "endless range": (lambda x: jtc.arange(float("inf")), "arange needs finite numbers, got 0, inf, 1"),
    "range without step": (lambda x: jtc.arange(3, 5, 0), "arange with step 0"),
    "points of a line": (lambda x: jtc.linspace(0, 1, 5.0), "num is an integer, got 5.0"),
    "diagonal": (lambda x: jtc.tril(x, k=1.5), "k is an integer, got 1.5"),
    "roll": (lambda x: jtc.roll(x, 1.5), "shift is an integer, got 1.5"),
    "places to split": (lambda x: jtc.split(x, [1.5]), "a place to cut at is an integer, got 1.5"),
    "padding": (lambda x: jtc.pad(x, -1), "pad_width holds integers that are not negative, got -1"),
    "norm of a vector": (lambda x: F.instance_norm(x[0]), "needs at least two dimensions, got shape (4,)"),
    "loss without classes": (lambda x: F.nll_loss(x[0, 0], 0), "nll_loss needs at least one dimension"),
    "axes as number": (lambda x: jtc.permute_dims(x, 1), "axes is a permutation of the dimensions, got 1"),
    "integer power": (lambda x: jtc.array([2]) ** jtc.array([2]), "exponent a tensor int64[1] is not an integer"),
    "reindex fill": (lambda x: jtc.reindex(jtc.arange(4), (6,), lambda i: i - 1, fill=float("nan")),
                     "fill nan does not fit into int64"),
    "reindex large fill": (lambda x: jtc.reindex(jtc.zeros((4,), dtype=jtc.int32), (6,), lambda i: i, fill=2**40),
                           "1099511627776 does not fit into int32"),
    "reindex shift": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i << 1, j)), "is not affine"),
    "reindex abs": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (abs(i), j)), "index abs(d0) is not affine"),
    "reindex inverse": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (2 // i, j)), "index 2 divided by (d0)"),
    "reindex None": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: None), "the index function returns None"),
    "reindex overflow": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i * 2**62, j)), "64-bit integers"),
    "digits": (lambda x: round(x, 1), "round to 1 digits: a tensor is rounded to whole numbers"),
    "random range": (lambda x: jtc.random.randint(5, 2), "randint from 5 to 2"),
    "random limit": (lambda x: jtc.random.randint((2,), 5), "low is an integer, got (2,)"),
    "DLPack": (lambda x: jtc.from_dlpack("a"), "str does not offer DLPack: 'a'"),
    "masking": (lambda x: x[x > 0], "cannot index with a bool mask of shape (3, 4)"),
    "index": (lambda x: x[7], "index 7 is out of range for dimension 0 of shape (3, 4)"),
    "index of a string": (lambda x: x["a"], "cannot index with str: 'a'"),
    "deletion": (lambda x: x.__delitem__(0), "elements of a tensor cannot be deleted"),
    "assignment in place": (lambda x: x.__setitem__(0, 1), "tensors have no item assignment"),
    "write into an array": (lambda x: np.add(X, x, out=X.copy()), "np.add cannot write into an array"),
    "ufunc that jtc lacks": (lambda x: np.gcd(x, x), "np.gcd does not take tensors"),
    "outer form of a ufunc": (lambda x: np.add.outer(x, x), "np.add.outer does not take tensors"),
    "float as index": (lambda x: [1, 2][x[0, 0]], "a tensor of float32 cannot be a Python index"),
}


def check(error, function, words):
    """One line, lower case, that names what is wrong; then the user's line and perhaps a hint."""
    message, place, *hint = str(error).splitlines()
    assert words in message, message
    file, _, line = place.removeprefix("  at ").rpartition(":")
    first = getattr(function, "__wrapped__", function).__code__.co_firstlineno
    assert file == __file__ and first <= int(line) <= first + 2, place
    assert len(message) < 200 and not message[0].isupper() and len(hint) <= 1
    assert not hint or hint[0].startswith("  hint: ")


@pytest.mark.parametrize("inside", [False, True], ids=["lazy", "jit"])
@pytest.mark.parametrize("name", CASES)
def test_clear_errors(name, inside):
    function, words = CASES[name]
    with pytest.raises(jtc.JtcError if words else (jtc.JtcError, TypeError)) as caught:
        jtc.jit(function)(X) if inside else function(jtc.array(X))
    if words:
        assert isinstance(caught.value, (ValueError, TypeError))
        check(caught.value, function, words)


# What only `jit` refuses: Python that needs a value while there is none.  The remedy is named.
TRACED = {
    "if": (lambda x: x if x.sum() > 0 else -x, "bool() needs the value of a tensor bool[]", "jtc.where"),
    "and": (lambda x: (x > 0).all() and x, "bool() needs the value", "jtc.where"),
    "in": (lambda x: 3 in x, "bool() needs the value", "outside of the jitted function"),
    "while": (lambda x: [x for _ in iter(lambda: bool(x[0, 0] > 0), False)], "bool() needs the value", "jtc.where"),
    "range": (lambda x: list(range(jtc.argmax(x))), "needs the value of a tensor int64[]", "known while tracing"),
    "float": (lambda x: float(x[0, 0]), "float() needs the value", "astype(jtc.float32)"),
    "int": (lambda x: int(x[0, 0]), "int() needs the value", "astype(jtc.int64)"),
    "item": (lambda x: x[0, 0].item(), "item() needs the value", "outside of the jitted function"),
    "format": (lambda x: f"{x[0, 0]:.3f}", "item() needs the value", "outside of the jitted function"),
    "math": (lambda x: math.exp(x[0, 0]), "float() needs the value", "astype"),
    "array": (lambda x: np.asarray(x), "conversion to a NumPy array needs the value", "use jtc functions"),
    "NumPy": (lambda x: np.dot(x, x), "np.dot needs the value of a traced tensor", "functions of jtc"),
    "NumPy's options": (lambda x: np.sum(x, initial=3), "np.sum does not take tensors with these", "use jtc.sum"),
    "sync": (lambda x: jtc.sync(x + 1), "sync() needs the value", "outside of the jitted function"),
    "a generator": (lambda x: (x + i for i in range(3)), "returns a generator", "return a list"),
    "a map": (lambda x: map(jtc.exp, x), "returns a map", "return a list"),
}


@pytest.mark.parametrize("name", TRACED)
def test_python_that_needs_values(name):
    function, words, remedy = TRACED[name]
    with pytest.raises(jtc.TraceError) as caught:
        jtc.jit(function)(X)
    if name not in ("a generator", "a map"):                  # their place is the call: the body has ended
        check(caught.value, function, words)
    assert words in caught.value.message and remedy in caught.value.hint


def yields(x):
    yield x + 1


async def waits(x):
    return x + 1


@pytest.mark.parametrize("call,words", [
    (lambda: jtc.jit(3), "jit needs a function, got 3"),
    (lambda: jtc.jit(yields), "it is a generator or a coroutine"),
    (lambda: jtc.jit(waits), "it is a generator or a coroutine"),
    (lambda: jtc.jit(lambda x, n: x)(X, {1, 2}), "an argument of type set is neither a tensor nor a static value"),
    (lambda: jtc.jit(lambda x: x)(np.array(["a"])), "dtype('<U1') is not a jtc element type"),
    (lambda: jtc.jit(lambda x: x)(np.array([1j])), "dtype('complex128') is not a jtc element type"),
    (lambda: jtc.jit(lambda x, rows: (rows.append(x), x)[1])(X, []), "changes a container that it got"),
    (lambda: jtc.explain(3, X), "explain needs a function and its arguments, got 3"),
    (lambda: jtc.explain(jtc.array(X)), "explain needs a function and its arguments, got a tensor float32[3, 4]"),
    (lambda: jtc.export("f", (X,), "f.jtc"), "export needs a function, got 'f'"),
    (lambda: jtc.load_module("absent.so"), "absent.so"),
    (lambda: jtc.load("absent.safetensors"), "absent.safetensors: no such file"),
])
def test_wrong_calls_of_tools(call, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(jtc.JtcError) as caught:
        call()
    assert words in caught.value.message and "\n" not in caught.value.message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call,words", [
    (lambda: jtc.jit(lambda x: x, nonsense=3), "unknown knob 'nonsense'"),
    (lambda: jtc.jit(lambda x: x, thread=3), "did you mean threads?"),
    (lambda: jtc.jit(lambda x: x, threads=0), "threads=0 is not valid"),
])
def test_wrong_options(call, words):
    with pytest.raises(jtc.UsageError) as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize("call,words", [
    (lambda f: f(X), "missing 1 required positional argument: 'y'"),
    (lambda f: f(X, X, X), "takes 2 positional arguments but 3 were given"),
    (lambda f: f(X, z=X), "unexpected keyword argument 'z'"),
])
def test_wrong_arguments_of_a_jitted_function(call, words):
    def total(x, y):
        return x + y

    f = jtc.jit(total)
    f(X, X)
    with pytest.raises(TypeError, match=f"does not fit the jitted function total: .*{words}") as caught:
        call(f)
    assert isinstance(caught.value, jtc.TraceError) and "hint: its parameters are x, y" in str(caught.value)
    assert "test_bad_input.py" in str(caught.value)
    assert f(X, X).shape == X.shape


def test_wrong_arguments_inside_of_a_jitted_function_are_pythons_own():
    def inner(x):
        return x

    for f in (lambda x: inner(x, x), functools.wraps(inner)(lambda x, y: inner(x, y))):
        with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given") as caught:
            jtc.jit(f)(*([X] if f.__name__ == "<lambda>" else [X, X]))
        assert not isinstance(caught.value, jtc.JtcError)


ODD = {
    "byte-swapped": X.astype(">f4"), "negative strides": X[::-1, ::-2], "transposed": X.T, "Fortran order":
    np.asfortranarray(X), "repeated": np.broadcast_to(np.float32(1), (2, 3)), "no dimensions": np.array(3, np.float32),
    "no elements": np.zeros((0, 3), np.float32), "not aligned": np.frombuffer(bytes(13), np.uint8)[1:].view(np.float32),
    "a subclass": X.view(np.matrix), "64 bits": X.astype(">i8"),
}


@pytest.mark.parametrize("inside", [False, True], ids=["lazy", "jit"])
@pytest.mark.parametrize("name", ODD)
def test_odd_arrays_are_taken(name, inside):
    array = ODD[name].copy() if name == "repeated" else ODD[name]
    array.flags.writeable = False
    f = jtc.jit(lambda x: x + 1)
    for _ in range(2):                                        # the second call takes the short way
        result = f(array) if inside else jtc.array(array) + 1
        np.testing.assert_array_equal(result.numpy(), np.asarray(array) + 1)


def test_numpy_functions_on_tensors():
    x = jtc.array(X)
    for result in (np.exp(x), X + x, np.float32(2) * x, np.matmul(X.T, x)):
        assert isinstance(result, jtc.Tensor)
    angle = jtc.jit(lambda x: np.arctan2(np.exp(x), X))(X)
    np.testing.assert_allclose(angle.numpy(), np.arctan2(np.exp(X), X), rtol=1e-5)
    calls = {"sum": lambda x: np.sum(x, axis=0), "mean": lambda x: np.mean(x, 1), "transpose": np.transpose,
             "concat": lambda x: np.concatenate([x, X], 1), "stack": lambda x: np.stack([x, x], -1),
             "where": lambda x: np.where(x > 2, x, 0), "reshape": lambda x: np.reshape(x, (4, 3)),
             "argmax": lambda x: np.argmax(x, 1), "roll": lambda x: np.roll(x, 1, 0),
             "clip": lambda x: np.clip(x, 1, 5), "einsum": lambda x: np.einsum("ij->j", x)}
    for name, call in calls.items():
        for result in (call(x), jtc.jit(call)(X)):
            assert isinstance(result, jtc.Tensor), name
            np.testing.assert_allclose(result.numpy(), call(X), rtol=1e-5, err_msg=name)
    grad = jtc.grad(lambda x: np.sum(np.exp(x)) * np.mean(x))(X)
    np.testing.assert_allclose(grad.numpy(), np.exp(X) * X.mean() + np.exp(X).sum() / 12, rtol=1e-4)
    assert jtc.jit(lambda x: x * np.ndim(x) * np.shape(x)[0])(X).numpy()[2, 3] == X[2, 3] * 6
    assert isinstance(np.dot(x, x.T), np.ndarray) and (X[0, 0] in x) and 99.0 not in x
    y = X.copy()
    with pytest.raises(jtc.TraceError, match="write y = y"):
        y += x


def test_an_exception_of_the_function_passes_and_the_next_call_works():
    calls = []

    @jtc.jit
    def f(x):
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("boom")
        return x + 1
    with pytest.raises(KeyError, match="boom"):
        f(X)
    np.testing.assert_array_equal(f(X).numpy(), X + 1)


def test_threads_that_trace_and_fail_at_once():
    f, failures = jtc.jit(lambda x, n: x @ x if n == 2 else x + n), []

    def work(n):
        try:
            result = f(X, n % 3)
            assert (result.numpy() == X + n % 3).all()
        except Exception as error:
            failures.append((n % 3, type(error)))
    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [(2, jtc.InputError)] * 4


def test_errors_cross_processes():
    from jtc.dialects.errors import InternalError, JtcError
    from jtc.dialects.reader import ReadError, read_text
    errors: list[JtcError] = [InternalError("failed", "r.mlir", "jtc opt --run-reproducer r.mlir")]
    for call in (lambda: jtc.array(X) @ X, lambda: jtc.jit(bool)(X[:1, :1]),
                 lambda: read_text("func.func @", "x.mlir")):
        with pytest.raises(JtcError) as caught:
            call()
        errors.append(caught.value)
    for error in errors:
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is type(error) and str(back) == str(error) and back.__dict__.keys() == error.__dict__.keys()
    assert isinstance(back, ReadError) and back.excerpt and back.diagnostics[0].line == 1


def test_errors_in_the_middle_of_a_trace_do_not_poison_it():
    f = jtc.jit(lambda x: x @ x)
    with pytest.raises(jtc.InputError):
        f(X)
    assert f(X[:, :3]).shape == (3, 3)
    assert (jtc.array(X) + 1).shape == (3, 4)
