"""`jtc.scan`: loops against Python's, inside and outside of jit, with gradients and vmap; joins of many tensors."""
from __future__ import annotations

import numpy as np
import pytest
from derivatives import check
from frontend_checks import normal, same

import jtc

pytestmark = pytest.mark.usefixtures("backend")


def walk(carry, x):
    """A carry of two tensors, a result in containers."""
    total, low = carry["total"] * 0.5 + x["a"], jtc.minimum(carry["low"], x["a"])
    return {"total": total, "low": low}, (total * x["b"][0], [low])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("count", [1, 5, 9, 70])
def test_steps(count, reverse):
    a, b = normal(count, 3), normal(count, 2, seed=1)
    total, low = np.zeros(3, np.float32), np.full(3, 9, np.float32)
    expected: list[tuple[np.ndarray, np.ndarray]] = [None] * count
    for t in reversed(range(count)) if reverse else range(count):
        total, low = total * np.float32(0.5) + a[t], np.minimum(low, a[t])
        expected[t] = total * b[t, 0], low

    def run(a, b):
        return jtc.scan(walk, {"total": jtc.zeros(3), "low": jtc.full(3, 9.0)}, {"a": a, "b": b}, reverse=reverse)

    for function in (run, jtc.jit(run)):
        carry, (totals, (lows,)) = function(jtc.array(a), jtc.array(b))
        same(carry["total"], total)
        same(carry["low"], low)
        same(totals, np.stack([e[0] for e in expected]))
        same(lows, np.stack([e[1] for e in expected]))


def test_without_inputs_and_without_steps():
    last, ys = jtc.scan(lambda c, _: (c * 2, None), jtc.array(1.0), length=5)
    assert last.item() == 32 and ys is None
    last, ys = jtc.scan(lambda c, x: (c + x, {"y": jtc.stack([x, c])}), jtc.array(1.5), jtc.zeros((0,)))
    assert last.item() == 1.5 and ys["y"].shape == (0, 2)


@pytest.mark.parametrize("call, message", [
    (lambda: jtc.scan(lambda c, x: c, 1.0, np.ones(3)), r"the function returns \(carry, y\), got a tensor"),
    (lambda: jtc.scan(lambda c, x: ((c, c), x), 1.0, np.ones(3)), "another container than its carry"),
    (lambda: jtc.scan(lambda c, x: (c + x[None], x), 1.0, np.ones(3)),
     r"the carry, a tensor float32\[\], comes back as a tensor float64\[1\]"),
    (lambda: jtc.scan(lambda c, x: (c, x), 1.0), "scan needs xs, or the number of steps"),
    (lambda: jtc.scan(lambda c, x: (c, x), 1.0, (np.ones(3), np.ones(4))), "differ: 3, 4"),
    (lambda: jtc.scan(lambda c, x: (c, x), 1.0, np.ones(3), length=2), "differ: 2, 3"),
    (lambda: jtc.scan(lambda c, x: (c, x), 1.0, 2.0), "some of xs have no dimensions"),
    (lambda: jtc.scan(lambda c, x: (c, None), 1.0, length=-1), "scan of -1 steps"),
])
def test_errors(call, message):
    with pytest.raises(jtc.InputError, match=message):
        call()


@pytest.mark.parametrize("count", [3, 20])
def test_gradients(count):
    def function(a, start):
        last, ys = jtc.scan(lambda c, x: (jtc.tanh(c + x) * x, c * x), start, a)
        return jtc.concat([ys, last[None]])
    check(function, normal(count, 2, dtype=np.float64) / 2, normal(2, dtype=np.float64, seed=1), second=count < 10)


def test_under_vmap():
    def cumulative(x):
        return jtc.scan(lambda c, v: (c + v, c + v), jtc.array(0.0), x)[1]
    x = normal(3, 11)
    same(jtc.vmap(cumulative)(jtc.array(x)), np.cumsum(x, axis=1))
    same(jtc.vmap(jtc.grad(lambda x: jtc.sum(cumulative(x))))(jtc.array(x)),
         np.broadcast_to(np.arange(11, 0, -1, dtype=np.float32), (3, 11)))


def test_joins_of_many():
    """More tensors than one kernel chooses among: values, and gradients that meet in no chain."""
    pieces = [normal(2, n, seed=k) for k, n in enumerate([1, 3, 0, 2] * 20)]
    same(jtc.concat(pieces, axis=1), np.concatenate(pieces, axis=1))
    x = normal(100, 2, dtype=np.float64)
    check(lambda x: jtc.stack([p * k for k, p in enumerate(jtc.unstack(x))]) ** 2, x[:19], second=False)
    graph = jtc.jit(jtc.grad(lambda x: jtc.sum(jtc.sin(jtc.stack(jtc.unstack(x)))))).graph(x)
    assert len(graph.nodes()) < 20 * 100, "nodes grow with the number of tensors, not with its square"


def test_steps_share_packed_weights():
    """What all steps read is packed once, before the first of them."""
    def f(h, w):
        return jtc.scan(lambda h, _: (jtc.tanh(h @ w.mT), None), h, length=6)[0]

    h, w = normal(16, 256) / 4, normal(256, 256, seed=1) / 16
    report = jtc.explain(f, h, w)
    assert sum("w_packed" in text for k in report.kernels for text in k.reads) == 6
    assert str(report).count(" to w_packed:") == 1
    want = h
    for _ in range(6):
        want = np.tanh(want @ w.T)
    with jtc.knobs.use(backend="compiled"):
        np.testing.assert_allclose(jtc.jit(f)(h, w).numpy(), want, rtol=1e-4, atol=1e-5)
