"""Parameters that are replaced, shared, converted, updated in place or changed by another thread between calls."""
from __future__ import annotations

import threading

import numpy as np
import pytest
from frontend_checks import normal, same

import jtc
from jtc import nn, optim
from jtc.frontend import jit
from jtc.runtime import knobs

X = normal(2, 4)


@pytest.fixture
def through_python(monkeypatch):
    """A list that grows with every call of a jitted function that takes the Python path."""
    calls: list[int] = []
    original = jit.Jit._run
    monkeypatch.setattr(jit.Jit, "_run", lambda self, *args: calls.append(1) or original(self, *args))
    return calls


def layers(count=3):
    jtc.random.seed(0)
    return nn.Sequential(*[nn.Linear(4, 4) for _ in range(count)])


def by_hand(net, x=X):
    for layer in net:
        x = x @ layer.weight.numpy().T + layer.bias.numpy()
    return x


def replace_weight(net):
    net[1].weight = nn.Parameter(normal(4, 4, seed=7))


def replace_bias(net):
    net[2].bias = nn.Parameter(normal(4, seed=8))


def past_the_module(net):
    net[0].__dict__["bias"] = nn.Parameter(normal(4, seed=9))


def assign(net):
    net[1].weight.assign(normal(4, 4, seed=10))


def load(net):
    net.load_state_dict({key: value * 2 for key, value in net.state_dict().items()})


CHANGES = [replace_weight, replace_bias, past_the_module, assign, load]


@pytest.mark.parametrize("change", CHANGES, ids=[c.__name__ for c in CHANGES])
def test_new_values_and_new_parameters_of_the_same_type_are_used(change, through_python):
    net = layers()
    f = jtc.jit(lambda x: net(x))
    for _ in range(3):
        same(f(X), by_hand(net), rtol=1e-5)
    change(net)
    for _ in range(3):
        same(f(X), by_hand(net), rtol=1e-5)
    assert f.compiles == 1
    before = len(through_python)
    same(f(X), by_hand(net), rtol=1e-5)
    assert len(through_python) == before


def test_another_dtype_or_shape_is_another_program():
    net = layers()
    f = jtc.jit(lambda x: net(x))
    same(f(X), by_hand(net), rtol=1e-5)
    net[0].bias = nn.Parameter(normal(1, 4))
    same(f(X), by_hand(net), rtol=1e-5)
    assert f.compiles == 2
    net.double()
    assert f(X).dtype is jtc.float64
    same(f(X), by_hand(net), rtol=1e-5)
    assert f.compiles == 3
    net[1].weight = nn.Parameter(normal(5, 3))
    for _ in range(2):
        with pytest.raises(jtc.InputError):
            f(X)


def test_other_layers_and_no_layer():
    net = layers()
    f = jtc.jit(lambda x: net(x))
    f(X)
    net[1] = nn.Linear(4, 4)
    same(f(X), by_hand(net), rtol=1e-5)
    net[1], net[2] = net[2], net[1]
    same(f(X), by_hand(net), rtol=1e-5)
    del net[0].bias
    with pytest.raises(AttributeError, match="bias"):
        f(X)


def test_two_modules_share_a_parameter(through_python):
    net = layers(2)
    net[1].weight = net[0].weight
    x = jtc.array(X)
    f = jtc.jit(lambda x: net(x))

    @jtc.jit
    def step():
        net[0].weight.assign(net[0].weight * 0.5)

    for _ in range(4):
        half = net[0].weight.numpy() * 0.5
        step()
        same(net[1].weight, half)
        same(f(x), by_hand(net), rtol=1e-5)


def test_a_shared_parameter_becomes_two_and_one_again(through_python):
    net = layers(2)
    net[1].weight = net[0].weight
    x = jtc.array(X)
    sgd = optim.SGD([net[0].weight], lr=0.1)
    f = jtc.jit(lambda x: net(x))

    @jtc.jit
    def step(x):
        sgd.step(jtc.sum(net(x) ** 2))

    def stepped():
        """The weights after a step, by the gradient of the product x w w' + b w' + b'."""
        (w0, b0), (w1, b1) = [(layer.weight.numpy().copy(), layer.bias.numpy()) for layer in net]
        hidden = X @ w0.T + b0
        error = 2 * (hidden @ w1.T + b1)
        first, second = (error @ w1).T @ X, error.T @ hidden
        step(x)
        if net[0].weight is net[1].weight:
            return (w0 - 0.1 * (first + second),) * 2
        return w0 - 0.1 * first, w1

    def check(times=4):
        for _ in range(times):
            same(f(x), by_hand(net), rtol=1e-5)
            for layer, weight in zip(net, stepped(), strict=True):
                same(layer.weight, weight, rtol=1e-5)

    shared = net[1].weight
    check()
    net[1].weight = nn.Parameter(normal(4, 4, seed=5) * np.float32(0.1))
    check()
    assert f.compiles == step.compiles == 2
    before = len(through_python)
    check()
    net[1].weight = shared
    check()
    net[1].weight = nn.Parameter(normal(4, 4, seed=6) * np.float32(0.1))
    check()
    assert f.compiles == step.compiles == 2 and len(through_python) == before


def test_two_tensors_become_one(caplog):
    state = {"a": jtc.array(normal(8)), "b": jtc.array(normal(8, seed=1))}

    @jtc.jit
    def step():
        state["a"].assign(state["a"] * 2.0)
        state["b"].assign(state["b"] + 1.0)

    for _ in range(2):
        step()
    same(state["a"], normal(8) * 4)
    state["b"] = state["a"]
    for _ in range(2):
        before = state["a"].numpy().copy()
        with caplog.at_level("WARNING", logger="jtc"):
            step()
        same(state["a"], before * 2 + 1)
    assert "state.b is the same tensor as state.a, before it was another one" in caplog.text
    assert step.compiles == 2


@pytest.mark.parametrize("async_", ["0", "1"])
def test_a_step_between_calls(async_, through_python):
    """A step writes over parameters; the calls before it keep their results, those after it see the new values."""
    with knobs.use(async_=async_):
        net = layers()
        sgd = optim.SGD(net.parameters(), lr=0.1)
        f = jtc.jit(lambda x: net(x))

        @jtc.jit
        def step(x):
            sgd.step(jtc.sum(net(x) ** 2))

        x = jtc.array(X)
        f(x)
        step(x)
        before = len(through_python)
        outs, expected = [], []
        for _ in range(4):
            outs.append(f(x))
            expected.append(by_hand(net))
            step(x)
        assert len(through_python) == before
        for out, value in zip(outs, expected, strict=True):
            same(out, value, rtol=1e-4)
        assert np.abs(expected[0] - expected[-1]).max() > 1e-3


@pytest.mark.parametrize("async_", ["0", "1"])
def test_some_of_many_updates_are_held(async_, through_python):
    """Held values stay as they are; the others are written over; what is returned is not written over later."""
    with knobs.use(async_=async_):
        ws = [nn.Parameter(normal(8, seed=k)) for k in range(20)]

        @jtc.jit
        def step():
            for w in ws:
                w.assign(w * 2.0)
            return ws[3] * 1.0, ws[5]

        step()
        step()
        before = len(through_python)
        results = []
        for count in range(3, 6):
            old = [w.numpy().copy() for w in ws]
            held = {k: ws[k].value() for k in range(0, 20, 3)}
            places = [w.value().ptr for w in ws]
            copied, returned = step()
            results += [(copied, old[3] * 2), (returned, old[5] * 2)]
            for k, w in enumerate(ws):
                same(w, old[k] * 2)
                assert (w.value().ptr == places[k]) == (k not in held and (k != 5 or count == 3)), k
            for k, buffer in held.items():
                np.testing.assert_array_equal(buffer.numpy(), old[k])
        for result, value in results:
            same(result, value)
        assert len(through_python) == before


def test_parameters_are_replaced_by_another_thread():
    """Every result is of whole parameters, old or new ones."""
    net = layers(1)
    f = jtc.jit(lambda x: net(x))
    values = [np.full((4, 4), k, np.float32) for k in range(3)]
    net[0].bias.assign(np.zeros(4, np.float32))
    net[0].weight.assign(values[0])
    x, stop = jtc.ones((1, 4)), threading.Event()
    f(x)

    def change():
        k = 0
        while not stop.is_set():
            k = (k + 1) % 3
            if k:
                net[0].weight = nn.Parameter(values[k])
            else:
                net[0].weight.set_buffer(jtc.array(values[0]).value())

    thread = threading.Thread(target=change)
    thread.start()
    try:
        found = {tuple(f(x).numpy().ravel()) for _ in range(3000)}
    finally:
        stop.set()
        thread.join()
    assert found <= {(4.0 * k,) * 4 for k in range(3)}
