"""The native call path under `jit`, with a module made from C in place of the compiler's."""
from __future__ import annotations

import numpy as np
import pytest
from frontend_checks import normal, same

import jtc
from jtc.frontend import execute, jit
from jtc.runtime.module import load_module

from native import buffer, launch, needs_compiler, plan, shared_object

pytestmark = needs_compiler
SOURCE = "KERNEL(add) { for (int64_t i = begin; i < end; i++) F(2)[i] = F(0)[i] + F(1)[i]; }"


@pytest.fixture
def slow_calls(tmp_path, monkeypatch):
    """Every program is the sum of two vectors of 8; returns a list that grows with every call through Python."""
    buffers = [buffer("x", [8], "input", 0), buffer("y", [8], "input", 1), buffer("out", [8], "output", 0)]
    path = shared_object(tmp_path / "add.so", SOURCE, plan("add", buffers, [launch("add", [0, 1, 2], units=8)]))
    monkeypatch.setattr(execute, "build", lambda graph: load_module(path))
    calls: list[int] = []
    original = jit.Jit._run
    monkeypatch.setattr(jit.Jit, "_run", lambda self, *args: calls.append(1) or original(self, *args))
    return calls


def test_a_known_signature_does_not_enter_python(slow_calls):
    f = jtc.jit(lambda x, y: x + y)
    x, y = normal(8), normal(8, seed=1)
    for _ in range(3):
        same(f(x, y), x + y)
        same(f(jtc.array(x), y), x + y)
    assert len(slow_calls) == 1 and f.compiles == 1 and len(f) == 1


def test_results_are_put_together(slow_calls):
    f = jtc.jit(lambda x, y: {"sum": [x + y], "n": 3})
    x, y = normal(8), normal(8, seed=1)
    for _ in range(2):
        out = f(x, y)
        same(out["sum"][0], x + y)
        assert out["n"] == 3
    assert len(slow_calls) == 1


def test_other_signatures_and_static_values(slow_calls):
    f = jtc.jit(lambda x, y, n=1: x + y)
    x, y = normal(8), normal(8, seed=1)
    for n in (1, 2, 1, 2):
        same(f(x, y, n), x + y)
    assert f.compiles == 2 and len(slow_calls) == 2


def test_a_named_captured_tensor_is_looked_up_in_every_call(slow_calls):
    w = jtc.array(normal(8, seed=1))
    f = jtc.jit(lambda x: x + w)
    x = normal(8)
    same(f(x), x + normal(8, seed=1))
    w = jtc.zeros((8,)).numpy()
    w = jtc.array(w)
    same(f(x), x)
    assert f.compiles == 1


def test_state_is_found_and_stored_without_python(slow_calls):
    """In closures, globals, attributes and items; a module that changes is seen; so is another tensor in a place."""
    class Model(jtc.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [{"w": jtc.array(normal(8))}]

        def forward(self, x):
            w = self.layers[0]["w"]
            w.assign(w + x)

    model, x = Model(), normal(8, seed=1)
    step = jtc.jit(lambda x: model(x))
    for n in range(1, 4):
        assert step(x) is None
        same(model.layers[0]["w"], normal(8) + np.float32(n) * x, rtol=1e-6)
    assert len(slow_calls) == 1 and len(step) == 1
    model.layers[0]["w"] = jtc.zeros(8)
    jtc.sync(model.layers[0]["w"])
    step(x)
    same(model.layers[0]["w"], x)
    assert len(slow_calls) == 1
    model.eval()                                       # `training` may have been read: traced again
    step(x)
    model.train()
    step(x)                                            # the first program fits again, and is guarded anew
    before = len(slow_calls)
    step(x)
    same(model.layers[0]["w"], 4 * x)
    assert len(slow_calls) == before == 3 and step.compiles == 2
    del model.layers[0]["w"]
    with pytest.raises(KeyError):
        step(x)


def test_inside_another_trace_the_function_is_traced(slow_calls):
    f = jtc.jit(lambda x, y: x + y)
    x, y = normal(8), normal(8, seed=1)
    f(x, y)
    g = jtc.jit(lambda x, y: f(x, y))
    assert [n.op for n in g.graph(x, y).nodes()] == ["input", "input", "add"]


def test_a_change_of_knobs_is_seen(slow_calls):
    f = jtc.jit(lambda x, y: x + y)
    x, y = normal(8), normal(8, seed=1)
    f(x, y)
    with jtc.knobs.use(optimize=0):
        f(x, y)
        assert f.compiles == 2
    before = len(slow_calls)
    f(x, y)
    assert f.compiles == 2 and len(slow_calls) == before


def test_pending_and_strided_arguments(slow_calls):
    f = jtc.jit(lambda x, y: x + y)
    x, y = normal(8), normal(8, seed=1)
    same(f(x, y), x + y)
    same(f(np.repeat(x, 2)[::2], y), x + y)
    same(f(jtc.array(x) + jtc.array(y), y), x + y + y)
    assert f.compiles == 1
