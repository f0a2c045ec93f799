"""Running sums, products, maxima and minima, and linear recurrences: against NumPy, over shapes, axes and dtypes."""
from __future__ import annotations

import itertools

import numpy as np
import pytest
from derivatives import check
from frontend_checks import normal, same

import jtc
from jtc.runtime import knobs

SHAPES = ((1,), (7,), (0,), (3, 1), (5, 33), (2, 0, 3), (3, 4, 18))
RUNNING = {"cumulative_sum": np.add, "cumulative_prod": np.multiply, "cumulative_max": np.maximum,
           "cumulative_min": np.minimum}


def recurrence(a, b, axis, initial=None, reverse=False):
    """h[t] = a[t] h[t - 1] + b[t], step by step."""
    a, b = (np.moveaxis(np.flip(v, axis) if reverse else v, axis, 0) for v in np.broadcast_arrays(a, b))
    h, found = np.zeros(b.shape[1:], b.dtype) if initial is None else initial, np.empty_like(b)
    for t in range(len(b)):
        h = found[t] = a[t] * h + b[t]
    found = np.moveaxis(found, 0, axis)
    return np.flip(found, axis) if reverse else found


@pytest.fixture(params=["reference", "compiled"])
def both(request):
    with knobs.use(backend=request.param):
        yield request.param


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", RUNNING)
def test_shapes_and_dtypes(name):
    function, ufunc = getattr(jtc, name), RUNNING[name]
    for shape, dtype in itertools.product(SHAPES, ("float32", "float64", "int32", "int64", "uint8", "bool")):
        if dtype == "bool" and ufunc in (np.maximum, np.minimum):
            continue
        x = (normal(*shape) * 3).astype(dtype)
        for axis in range(-1, len(shape) - 1):
            kind = x.dtype.kind
            summed = ufunc in (np.add, np.multiply)
            wide = {"b": np.int64, "i": np.int64, "u": np.uint64}.get(kind, x.dtype) if summed else x.dtype
            same(function(jtc.array(x), axis=axis), ufunc.accumulate(x.astype(wide), axis=axis))


@pytest.mark.usefixtures("backend")
def test_array_api():
    x = jtc.array([1, 2, 3, 4], dtype=jtc.int32)
    same(jtc.cumulative_sum(x), np.array([1, 3, 6, 10]))
    same(jtc.cumulative_sum(x, include_initial=True, dtype=jtc.float32), np.float32([0, 1, 3, 6, 10]))
    same(jtc.cumulative_prod(x, include_initial=True), np.array([1, 1, 2, 6, 24]))
    y = normal(3, 4)
    wanted = np.concatenate([np.zeros((3, 1), np.float32), np.cumsum(y, 1)], 1)
    same(jtc.cumulative_sum(y, axis=-1, include_initial=True), wanted)
    same(jtc.cumulative_max(jtc.array([2.0, np.nan, 5.0])), np.float32([2, np.nan, np.nan]))
    ones = jtc.ones((5000,), dtype=jtc.bfloat16)
    assert jtc.cumulative_sum(ones)[-1].item() == 4992         # carried in float32, rounded at the end


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("call, message", [
    (lambda: jtc.cumulative_sum(np.ones((2, 3))), r"cumulative_sum of shape \(2, 3\) needs an axis"),
    (lambda: jtc.cumulative_prod(np.ones(3), axis=1), "axis 1 is out of range for 1 dimension"),
    (lambda: jtc.cumulative_sum(1.0), r"cumulative_sum of shape \(\) needs an axis"),
    (lambda: jtc.linear_recurrence(np.ones(3), np.ones(4)), r"shapes \(3,\) and \(4,\) do not broadcast"),
    (lambda: jtc.linear_recurrence(np.ones((3, 2)), 1.0, initial=1.0),
     r"linear_recurrence starts from shape \(\), its steps have shape \(2,\)"),
    (lambda: jtc.linear_recurrence(np.ones(3, bool), np.ones(3, bool)), "cannot reduce bool with add"),
])
def test_errors(call, message):
    with pytest.raises(jtc.InputError, match=message):
        call()


@pytest.mark.usefixtures("backend")
def test_linear_recurrence():
    for shape, reverse in itertools.product(((6,), (1, 3), (4, 5, 3)), (False, True)):
        a, b = normal(*shape), normal(*shape, seed=1)
        for axis in range(len(shape)):
            start = normal(*shape[:axis], *shape[axis + 1:], seed=2)
            same(jtc.linear_recurrence(a, b, axis=axis, reverse=reverse), recurrence(a, b, axis, None, reverse))
            same(jtc.linear_recurrence(a, b, axis=axis, reverse=reverse, initial=start),
                 recurrence(a, b, axis, start, reverse))
    same(jtc.linear_recurrence(0.5, normal(4, 2), axis=0), recurrence(np.float32(0.5), normal(4, 2), 0))


# ------------------------------------------------------------------------------------------------ kernels
@pytest.mark.parametrize("shape", [(37,), (5, 33), (19, 70), (3, 6, 130)])
def test_kernels(shape, both):
    """Every direction, axis and function, with work before and after in the same kernel."""
    x, a = normal(*shape), normal(*shape, seed=1) / 2
    for axis in range(len(shape)):
        def function(x, a, axis=axis):
            back = jtc.flip(jtc.cumulative_sum(jtc.flip(x, axis=axis), axis=axis), axis=axis)
            return (jtc.cumulative_sum(x * x, axis=axis) + a, back - x, jtc.cumulative_max(x, axis=axis),
                    jtc.linear_recurrence(a, jtc.exp(x), axis=axis, reverse=True) * 2)
        sums, back, top, carried = jtc.jit(function)(x, a)
        same(sums, np.cumsum(x * x, axis=axis) + a, 1e-5)
        same(back, np.flip(np.cumsum(np.flip(x, axis), axis=axis), axis) - x, 1e-5)
        same(top, np.maximum.accumulate(x, axis=axis))
        same(carried, recurrence(a, np.exp(x), axis, reverse=True) * 2, 1e-5)
        kernels = jtc.explain(function, x, a).kernels
        assert len(kernels) == 4, "what is computed before and after a scan belongs to its kernel"


def test_integers(both):
    x = np.arange(40, dtype=np.int32).reshape(8, 5) * 7 % 11
    same(jtc.jit(lambda x: jtc.cumulative_sum(x, axis=0))(x), np.cumsum(x, axis=0, dtype=np.int64))
    same(jtc.jit(lambda x: jtc.cumulative_min(x, axis=1))(x), np.minimum.accumulate(x, axis=1))
    same(jtc.jit(lambda x: jtc.linear_recurrence(x, x, axis=1))(x), recurrence(x, x, 1))


@pytest.mark.usefixtures("backend")
def test_what_does_not_fit_one_stage():
    """A scan of a scan, of a reduction, of a part of a scan; a scan that is sliced, repeated, scattered into."""
    x = normal(4, 6)
    total = np.cumsum(x, axis=1)
    same(jtc.cumulative_sum(jtc.cumulative_sum(x, axis=1), axis=0), np.cumsum(total, axis=0))
    same(jtc.cumulative_sum(jtc.sum(x, axis=0)), np.cumsum(x.sum(0)))
    same(jtc.cumulative_sum(jtc.cumulative_sum(x, axis=1)[:, 1:4], axis=1), np.cumsum(total[:, 1:4], axis=1))
    same(jtc.cumulative_sum(x, axis=1)[:, -1] * 2, total[:, -1] * 2)
    same(jtc.sum(jtc.cumulative_sum(x, axis=1) * x, axis=1), (total * x).sum(1))
    same(jtc.cumulative_sum(x, axis=1).reshape(24) + 1, total.reshape(24) + 1)
    same(jtc.cumulative_sum(x, axis=1).T * 2, total.T * 2)
    same(jtc.cumulative_sum(x.reshape(24)).reshape(4, 6), np.cumsum(x.reshape(24)).reshape(4, 6))
    index = np.array([[0], [1], [2], [0]])
    wanted = total.copy()
    wanted[np.arange(4), index[:, 0]] += 1
    same(jtc.scatter(jtc.cumulative_sum(x, axis=1), index, np.ones((4, 1), np.float32), axis=1, reduce="add"), wanted)


# ------------------------------------------------------------------------------------------------ gradients
GRADIENTS = {
    "sum": lambda x: jtc.cumulative_sum(x * x, axis=1), "first axis": lambda x: jtc.cumulative_sum(x * x, axis=0),
    "initial": lambda x: jtc.cumulative_sum(x * x, axis=1, include_initial=True) ** 2,
    "prod": lambda x: jtc.cumulative_prod(x, axis=1), "max": lambda x: jtc.cumulative_max(x * x, axis=1) ** 2,
    "min": lambda x: jtc.cumulative_min(jtc.sin(x), axis=0) ** 2,
}


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name):
    check(GRADIENTS[name], normal(3, 5, dtype=np.float64))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_recurrences(reverse):
    a, b, start = (normal(*shape, dtype=np.float64, seed=s) for s, shape in enumerate([(3, 5), (3, 5), (3,)]))
    check(lambda a, b, start: jtc.linear_recurrence(a, b, axis=1, initial=start, reverse=reverse), a, b, start)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("zeros", [(0,), (1, 3), (0, 1, 2, 3)])
def test_products_with_zeros(zeros):
    """Exact to second order."""
    x = normal(2, 4, dtype=np.float64) + 2
    x[0, list(zeros)] = 0
    check(lambda x: jtc.cumulative_prod(x, axis=1), x, examples=False)


@pytest.mark.usefixtures("backend")
def test_ties_are_shared():
    def slope(x):
        return jtc.grad(lambda x: jtc.sum(jtc.cumulative_max(x)))(jtc.array(x))
    same(slope([1.0, 1.0, 0.5]), np.float32([2, 1, 0]))        # 1 + 1/2 + 1/2 and 1/2 + 1/2
    same(slope([-np.inf, 1.0]), np.float32([1, 1]))


def test_kernels_of_gradients():
    """Forward and backward are one scan each, with all that is around them."""
    for function in (lambda x: jtc.cumulative_prod(x, axis=1) ** 2, lambda x: jtc.cumulative_sum(x * x, axis=0) ** 2,
                     lambda x: jtc.linear_recurrence(x, x * 2, axis=1) ** 2):
        gradient = jtc.grad(lambda x, f=function: jtc.sum(f(x)))
        assert len(jtc.explain(gradient, normal(8, 40)).kernels) == 2
