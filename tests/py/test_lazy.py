"""Outside of `jit`: what is pending, what is computed together, what is compiled once."""
from __future__ import annotations

import gc

import numpy as np
import pytest
from frontend_checks import normal, same

import jtc
from jtc.frontend import lazy
from jtc.frontend.execute import statistics

pytestmark = pytest.mark.usefixtures("backend")


def test_nothing_is_computed_until_a_value_is_needed():
    before = statistics.compiled + statistics.reused
    y = jtc.exp(jtc.array(normal(3, 4))) @ jtc.ones((4, 2)) + 1
    assert not y.is_ready() and statistics.compiled + statistics.reused == before
    assert y.shape == (3, 2)
    y.numpy()
    assert y.is_ready() and statistics.compiled + statistics.reused == before + 1
    y.numpy()
    assert statistics.compiled + statistics.reused == before + 1


def test_programs_of_one_form_are_compiled_once():
    w, first = jtc.array(normal(4, seed=1)), None
    for i in range(5):
        w = w * 0.5 + jtc.array(normal(4, seed=i)) * 2.25
        w.numpy()
        first = first or statistics.compiled
    assert statistics.compiled == first


def test_constants_of_other_values_are_other_programs():
    x = jtc.array(normal(4))
    same(x + 0.125, normal(4) + np.float32(0.125))
    same(x + 0.25, normal(4) + np.float32(0.25))
    assert np.signbit((jtc.zeros((2,)) * -0.0).numpy()).all() and not np.signbit((jtc.zeros((2,)) * 0.0).numpy()).any()


def test_results_that_share_work_are_computed_together():
    x = jtc.array(normal(4))
    hidden = jtc.exp(x)
    a, b, other = hidden * 2, hidden * 3, jtc.sin(x)
    a.numpy()
    assert hidden.is_ready() and b.is_ready() and not other.is_ready()
    same(b, np.exp(normal(4)) * 3)
    same(other, np.sin(normal(4)))


def test_dropped_results_are_not_computed():
    hidden = jtc.exp(jtc.array(normal(4)))
    jtc.log(hidden)
    gc.collect()
    graph, _ = lazy.lazy_graph([(hidden * 2)._node])
    assert "log" not in [n.op for n in graph.nodes()]


def test_long_programs_are_cut():
    x = jtc.zeros((2,))
    for _ in range(lazy.PENDING_LIMIT + 10):
        x = x + 1
    # Where it is cut depends on what was recorded before.
    assert len(lazy.lazy_graph([x._node])[0].nodes()) < lazy.PENDING_LIMIT
    same(x, np.full(2, lazy.PENDING_LIMIT + 10, np.float32))


def test_assign():
    x = jtc.array(normal(3))
    y = x + 1
    x.assign(x * 2)
    same(y, normal(3) + 1)
    same(x, normal(3) * 2)
    x.assign(5)
    same(x, np.full(3, 5, np.float32))
    with pytest.raises(jtc.InputError, match="cannot assign shape"):
        x.assign(jtc.zeros((2,)))


def test_tensors_that_share_a_node():
    import copy
    x = jtc.array(normal(3))
    y = x * 2
    z = copy.copy(y)
    w = jtc.zeros((3,))
    w.assign(y)
    jtc.sync(x, y, z, w)
    for t in (y, z, w):
        same(t, normal(3) * 2)


def test_threads_share_pending_work():
    from concurrent.futures import ThreadPoolExecutor
    hidden = jtc.exp(jtc.array(normal(50)))

    def work(i):
        with jtc.knobs.use(backend="reference"):
            return (hidden * i + 1).numpy()

    with ThreadPoolExecutor(4) as pool:
        for i, result in enumerate(pool.map(work, range(20))):
            np.testing.assert_allclose(result, np.exp(normal(50)) * i + 1, rtol=1e-5)


def test_sync_inside_of_jit_is_refused():
    def f(x):
        y = x * 2
        jtc.sync(y)
        return y

    with pytest.raises(jtc.TraceError, match="sync"):
        jtc.jit(f)(normal(3))


def test_sync_and_copies():
    x = jtc.array(normal(3))
    parts = {"a": x * 2, "b": [x * 3]}
    jtc.sync(parts)
    assert parts["a"].is_ready() and parts["b"][0].is_ready()
    import copy
    import pickle
    twin = copy.copy(x)
    twin.assign(0)
    same(x, normal(3))
    same(pickle.loads(pickle.dumps(x)), normal(3))
    same(jtc.from_dlpack(x), normal(3))
    np.testing.assert_array_equal(np.from_dlpack(x), normal(3))


def test_reading_a_value():
    x = jtc.array([[1.5, 2.0]])
    assert repr(x) == "Tensor([[1.5, 2. ]], dtype=float32)"
    assert np.asarray(x, np.float64).dtype == np.float64
    assert not x.numpy().flags.writeable
    assert jtc.array(2.5).item() == 2.5 and f"{jtc.array(2.5):.2f}" == "2.50"
    with pytest.raises(jtc.InputError, match="one element"):
        x.item()
    with pytest.raises(jtc.InputError, match="one element"):
        bool(x)
