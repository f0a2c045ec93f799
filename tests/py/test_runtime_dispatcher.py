"""The native call path of jitted functions: which calls take it, and what they give."""
from __future__ import annotations

import gc
import weakref
from contextvars import ContextVar

import numpy as np
import pytest
from dispatching import Jit, Tensor, load_executables

from jtc.dialects.errors import InputError
from jtc.runtime.engine import Dispatcher

from native import needs_compiler

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def executables(tmp_path_factory):
    return load_executables(tmp_path_factory.mktemp("dispatch"))


def test_a_known_signature_takes_the_fast_path(executables):
    jit = Jit()
    assert jit(Tensor([1, 2]), Tensor([3, 4])) == "slow" and len(jit) == 0
    jit.add([("tensor",), ("tensor",)], executables[2])
    result = jit(Tensor([1, 2]), Tensor([3, 4]))
    assert type(result) is Tensor and result.values == [4, 6]
    assert jit(Tensor([1, 2]), np.array([3, 4], np.float32)).values == [4, 6]
    assert len(jit.calls) == 1 and len(jit) == 1


def test_places_writes_and_guards(executables):
    """Captured tensors are looked up where they are, get outputs as their values, and a guard closes the path."""
    jit, here, now = Jit(), [object()], [None]
    now[0] = here[0]
    state = {"w": [Tensor([1, 1])]}
    jit.add([("tensor",)], executables[2], captured=[("global", state, "w", (("item", 0),))], writes=[(0, 0)],
            guard=(here, now), results=0)
    for expected in ([2, 3], [3, 5]):
        assert jit(Tensor([1, 2])) == () and state["w"][0].values == expected
    state["w"][0] = Tensor([0, 0])
    assert jit(Tensor([1, 2])) == () and state["w"][0].values == [1, 2]
    state["w"][0] = "no tensor"
    assert jit(Tensor([1, 2])) == "slow"
    state["w"].clear()
    assert jit(Tensor([1, 2])) == "slow"
    state["w"].append(Tensor([0, 0]))
    here[0] = object()
    assert jit(Tensor([1, 2])) == "slow" and state["w"][0].values == [0, 0]
    w = Tensor([5, 5])
    cell = (lambda: w).__closure__[0]
    jit.add([("tensor",)], executables[2], captured=[("cell", cell, None, (("attr", "me"),))])
    assert jit(Tensor([1, 2])) == "slow"
    w.me = w
    assert jit(Tensor([1, 2])).values == [6, 7]
    for wrong in ({"writes": [(1, 0)]}, {"writes": [(0, 1)]}, {"guard": ([], [])}, {"results": 2},
                  {"captured": [("list", state, "w", ())]}):
        with pytest.raises((ValueError, TypeError)):
            jit.add([("tensor",)], executables[2], **{"captured": [w], **wrong})


def test_everything_else_takes_the_slow_path(executables):
    jit = Jit()
    jit.add([("tensor",), ("tensor",)], executables[2])
    pair, lazy = Tensor([1, 2]), Tensor(None)
    f32 = np.zeros(2, np.float32)
    calls = [(pair,), (pair, pair, pair), (pair, Tensor([1, 2, 3])), (pair, lazy), (pair, [1, 2]), (pair, 1.0),
             (pair, None), (pair, f32.astype(np.float64)), (pair, f32.reshape(1, 2)),
             (pair, np.zeros(4, np.float32)[::2]), (pair, np.array(["a", "b"]))]
    for args in calls:
        assert jit(*args) == "slow"
    assert jit(pair, b=pair) == "slow" and jit.calls[-1] == ((pair,), {"b": pair})
    assert [args for args, _ in jit.calls[:-1]] == calls
    assert jit(pair, pair).values == [2, 4]


def test_several_signatures(executables):
    jit = Jit()
    for n in (2, 3):
        jit.add([("tensor",), ("tensor",)], executables[n])
    for _ in range(3):
        assert jit(Tensor([1, 2]), Tensor([3, 4])).values == [4, 6]
        assert jit(Tensor([1, 2, 3]), Tensor([3, 4, 5])).values == [4, 6, 8]
    jit.clear()
    assert jit(Tensor([1, 2]), Tensor([3, 4])) == "slow"


def test_an_executable_takes_the_place_of_another(executables):
    """Signatures keep what they are otherwise: here the tensor that they capture, and what is stored into it."""
    jit, state = Jit(), {"w": Tensor([1, 1])}
    jit.add([("tensor",), ("tensor",)], executables[2])
    jit.add([("tensor",)], executables[2], captured=[("global", state, "w", ())], writes=[(0, 0)], results=0)
    x = Tensor([3, 5])
    assert jit(x) == () and state["w"].values == [4, 6]
    jit.replace(executables[2], executables["subtract"])
    assert jit(x) == () and state["w"].values == [-1, -1]
    assert jit(x, x).values == [0, 0]
    jit.replace(executables[2], executables["subtract"])          # is not there any more
    with pytest.raises(InputError, match="add3 takes or gives other types than subtract2"):
        jit.replace(executables["subtract"], executables[3])
    assert jit(x, x).values == [0, 0] and not jit.calls


def test_values_and_identities_are_part_of_the_signature(executables):
    jit, owner = Jit(), object()
    pair = Tensor([1, 2])
    jit.add([("tensor",), ("value", 2), ("tensor",), ("identity", owner)], executables[2])
    assert jit(pair, 2, pair, owner).values == [2, 4]
    for value, other in ((3, owner), (2.0, owner), (True, owner), ("2", owner), (2, object())):
        assert jit(pair, value, pair, other) == "slow"
    for value, unlike in ((0.0, -0.0), (1, True), ("a", "b"), (None, 0), (False, 0)):
        jit = Jit()
        jit.add([("tensor",), ("tensor",), ("value", value)], executables[2])
        assert jit(pair, pair, value).values == [2, 4] and jit(pair, pair, unlike) == "slow"
    nan = Jit()
    nan.add([("tensor",), ("tensor",), ("value", float("nan"))], executables[2])
    assert nan(pair, pair, float("nan")).values == [2, 4]


def test_captured_tensors_are_read_in_every_call(executables):
    jit, state = Jit(), Tensor([10, 20])
    jit.add([("tensor",)], executables[2], [state])
    assert jit(Tensor([1, 2])).values == [11, 22]
    state._buffer = Tensor([5, 5])._buffer
    assert jit(Tensor([1, 2])).values == [6, 7]
    state._buffer = Tensor([5, 5, 5])._buffer
    assert jit(Tensor([1, 2])) == "slow"
    state._buffer = None
    assert jit(Tensor([1, 2])) == "slow"


def test_wrap_and_several_results(executables):
    jit = Jit()
    jit.add([("tensor",)], executables["both"])
    assert [t.values for t in jit(Tensor([1, 2]))] == [[2, 3], [0, 1]]
    jit.add([("tensor",)], executables["both"], wrap=lambda tensors: {"up": tensors[0].values})
    assert jit(Tensor([1, 2])) == {"up": [2, 3]}

    def broken(tensors):
        raise LookupError("no place")

    jit.add([("tensor",)], executables["both"], wrap=broken)
    with pytest.raises(LookupError, match="no place"):
        jit(Tensor([1, 2]))


def test_a_set_context_variable_bypasses(executables):
    tracing: ContextVar = ContextVar("tracing", default=None)
    jit, pair = Jit([tracing]), Tensor([1, 2])
    jit.add([("tensor",), ("tensor",)], executables[2])
    token = tracing.set("a trace")
    assert jit(pair, pair) == "slow"
    tracing.reset(token)
    assert jit(pair, pair).values == [2, 4]
    with pytest.raises(TypeError):
        Jit(["not a variable"])


def test_the_class_of_tensors_has_slots(executables):
    class Loose:
        def __init__(self):
            self._buffer = self._node = None

    with pytest.raises(TypeError, match="no slots _buffer and _node"):
        Dispatcher(lambda args, kwargs: None, Loose)


def test_it_binds_like_a_function(executables):
    class Model:
        forward = Jit()

        def __init__(self):
            self.x = Tensor([1, 2])

    model, pair = Model(), Tensor([1, 2])
    Model.forward.add([("identity", model), ("tensor",), ("tensor",)], executables[2])
    assert model.forward(pair, pair).values == [2, 4]
    assert Model().forward(pair, pair) == "slow"


def test_errors_of_the_slow_path_pass_through():
    def slow(args, kwargs):
        raise ZeroDivisionError("in the slow path")

    with pytest.raises(ZeroDivisionError, match="in the slow path"):
        Dispatcher(slow, Tensor)(1)


def test_wrong_registrations(executables):
    jit = Jit()
    with pytest.raises(InputError, match="add2 takes 2 inputs, the signature has 1"):
        jit.add([("tensor",)], executables[2])
    with pytest.raises(InputError, match="the signature has 3"):
        jit.add([("tensor",), ("tensor",)], executables[2], [Tensor([1, 2])])
    with pytest.raises(ValueError, match="unknown kind"):
        jit.add([("keyword", 1)], executables[2])
    assert len(jit) == 0


def test_cycles_are_collected(executables):
    jit = Jit()
    jit.add([("tensor",)], executables[2], [Tensor([1, 2])], wrap=lambda buffers, self=jit: self)
    gone = weakref.ref(jit)
    del jit
    gc.collect()
    assert gone() is None


def test_calls_leave_nothing_behind(executables):
    import sys
    jit, a, b = Jit(), Tensor([1, 2]), Tensor([3, 4])
    jit.add([("tensor",), ("tensor",)], executables[2])
    array = np.ones(2, np.float32)
    objects = (jit, a, b, array, a._buffer)
    before = [sys.getrefcount(o) for o in objects]
    for _ in range(100):
        jit(a, b)
        jit(a, array)
        jit(a, 1)
    jit.calls.clear()
    assert [sys.getrefcount(o) for o in objects] == before
