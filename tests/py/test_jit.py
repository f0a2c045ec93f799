"""`jit`: signatures, containers, what a function closes over, and what it may not do."""
from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from frontend_checks import normal, same

import jtc

pytestmark = pytest.mark.usefixtures("backend")
counter = jtc.zeros((), dtype=jtc.int64)


def test_attention_as_in_the_readme():
    @jtc.jit
    def attention(q, k, v):
        s = jtc.softmax(q @ k.mT / np.sqrt(q.shape[-1]), axis=-1)
        return s @ v

    q, k, v = (normal(2, 6, 4, seed=i) for i in range(3))
    s = np.exp(q @ k.swapaxes(1, 2) / 2)
    same(attention(q, k, v), s / s.sum(-1, keepdims=True) @ v)


def test_compiles_once_for_each_signature():
    @jtc.jit
    def f(x, n):
        return x * n

    x = normal(3)
    for _ in range(3):
        same(f(x, 2), x * 2)
        same(f(jtc.array(x), 2), x * 2)
    assert f.compiles == 1
    same(f(x, 3), x * 3)
    same(f(x, 3.0), x * 3)
    same(f(x.astype(np.float64), 3), x.astype(np.float64) * 3)
    same(f(normal(4), 3), normal(4) * 3)
    same(f(n=2, x=x), x * 2)
    same(f(x=x, n=2), x * 2)
    assert f.compiles == 6


def test_order_of_keyword_arguments_counts_only_where_it_is_seen():
    @jtc.jit
    def f(**tensors):
        return jtc.concat(list(tensors.values()))

    a, b = normal(2), normal(3)
    same(f(a=a, b=b), np.concatenate([a, b]))
    same(f(b=b, a=a), np.concatenate([b, a]))
    assert f.compiles == 2


class Pair(NamedTuple):
    a: object
    b: object


@dataclass
class Record:
    weight: object
    scale: int


def test_containers_of_arguments_and_results():
    @jtc.jit
    def f(pair, record, table, *rest):
        total = pair.a + pair.b * record.scale + record.weight
        return {"total": total, "rest": [r + 1 for r in rest], "pair": Pair(total, table["k"][0]), "n": record.scale,
                "none": None}

    x = normal(3)
    out = f(Pair(x, x), Record(x, 2), {"k": (x, x)}, x, x)
    same(out["total"], x + x * 2 + x)
    same(out["rest"][1], x + 1)
    same(out["pair"].b, x)
    assert out["n"] == 2 and out["none"] is None and isinstance(out["pair"], Pair)


def test_a_captured_tensor_is_an_input_and_an_array_is_a_constant():
    w, c = jtc.array(normal(3)), normal(3, seed=1)

    @jtc.jit
    def f(x):
        return x * w + c

    x = normal(3, seed=2)
    same(f(x), x * w.numpy() + c)
    graph = f.graph(x)
    assert [n.op for n in graph.inputs] == ["input", "input"] and len(graph.constants()) == 1
    w.assign(w * 2)
    same(f(x), x * w.numpy() + c)
    w = jtc.array(np.ones(3, np.float32))
    same(f(x), x + c)
    assert f.compiles == 1
    w = jtc.array(np.ones((2, 3), np.float32))
    assert f(x).shape == (2, 3) and f.compiles == 2


def test_assigned_tensors_are_written_back():
    state = jtc.zeros((3,))

    @jtc.jit
    def step(x):
        state.assign(state + x)
        counter.assign(counter + 1)
        return state * 2

    x, before = normal(3), counter.item()
    for i in range(1, 4):
        same(step(x), i * x * 2)
    same(state, 3 * x)
    assert counter.item() == before + 3 and step.compiles == 1


total = None


def test_rebound_names_attributes_and_items_are_written_back():
    global total
    total = jtc.zeros((2,))
    local = jtc.zeros((2,))

    class Model:
        pass

    model, table = Model(), {"v": jtc.zeros((2,))}
    model.weight, model.layers = jtc.ones((2,)), [jtc.zeros((2,))]

    @jtc.jit
    def step(x):
        global total
        nonlocal local
        total = total + x
        local = local + 2 * x
        model.weight = model.weight + x
        model.layers[0] = model.layers[0] + x
        table["v"] = x + table["v"]
        model.seen = x
        return total

    x = normal(2)
    for _ in range(3):
        out = step(x)
    assert step.compiles <= 2          # the second trace knows `model.seen`
    for value, expected in ((out, 3 * x), (total, 3 * x), (local, 6 * x), (model.weight, 1 + 3 * x),
                            (model.layers[0], 3 * x), (table["v"], 3 * x), (model.seen, x)):
        same(value, expected)


def test_objects_as_arguments():
    class Model:
        def __init__(self):
            self.w, self.steps = jtc.array(normal(3)), jtc.zeros(())

        def __call__(self, x):
            self.steps = self.steps + 1
            return x * self.w

    @jtc.jit
    def f(model, x):
        return model(x)

    x = normal(3, seed=1)
    for model in (Model(), Model()):
        same(f(model, x), x * normal(3))
        same(f(model, x), x * normal(3))
        assert model.steps.item() == 2
    assert f.compiles == 2


def test_methods():
    class Model:
        def __init__(self):
            self.w = jtc.array(normal(3))

        @jtc.jit
        def forward(self, x):
            return x * self.w

    x = normal(3, seed=1)
    model = Model()
    same(model.forward(x), x * normal(3))
    model.w = jtc.zeros((3,))
    same(model.forward(x), np.zeros(3, np.float32))


def test_nested_jit_is_inlined():
    @jtc.jit
    def inner(x):
        return x * 2

    @jtc.jit
    def outer(x):
        return inner(x) + inner(x)

    same(outer(normal(3)), normal(3) * 4)
    assert inner.compiles == 0 and len(outer.graph(normal(3)).inputs) == 1


def test_results_that_need_no_computation():
    @jtc.jit
    def f(x):
        return x, jtc.zeros((2,)), 3

    x = normal(2)
    a, b, c = f(x)
    x[:] = 0
    same(a, normal(2))
    same(b, np.zeros(2, np.float32))
    assert c == 3


def test_shapes_are_python_numbers():
    @jtc.jit
    def f(x):
        return x.reshape(x.shape[0] // 2, -1) if x.ndim > 1 and len(x) % 2 == 0 else x

    assert f(normal(4, 3)).shape == (2, 6)
    assert f(normal(3, 3)).shape == (3, 3)


@pytest.mark.parametrize("body,words", [
    (lambda x: x if x.sum() > 0 else -x, "bool()"), (lambda x: x * int(x[0]), "int()"),
                                        (lambda x: x * float(x[0]), "float()"),
    (lambda x: [1, 2][x[0].astype(jtc.int64)], "__index__()"), (lambda x: x.numpy(), "numpy()"),
    (lambda x: np.sqrt(np.asarray(x)), "conversion to a NumPy array"), (lambda x: x[0].item(), "item()")],
    ids=["bool", "int", "float", "index", "numpy", "array", "item"])
def test_the_value_of_a_traced_tensor_is_refused(body, words):
    with pytest.raises(jtc.TraceError) as caught:
        jtc.jit(body)(normal(3))
    text = str(caught.value)
    assert words in text and f"at {__file__}:" in text and "hint: " in text


def test_a_traced_tensor_that_escapes_is_refused():
    kept = []

    @jtc.jit
    def add(x):
        kept.append(x * 2)
        kept.append(x * 3)
        return x

    with pytest.raises(jtc.TraceError, match="adds a tensor to the list at kept"):
        add(normal(3))
    assert kept == []
    hidden = set()
    jtc.jit(lambda x: hidden.add(x * 2) or x)(normal(3))
    escaped, = hidden
    assert "traced" in repr(escaped)
    with pytest.raises(jtc.TraceError, match="is used outside of it"):
        escaped + 1


def test_item_assignment_and_changed_arguments_are_refused():
    def assign(x):
        x[0] = 1
        return x

    with pytest.raises(jtc.TraceError, match="item assignment"):
        jtc.jit(assign)(normal(3))

    def change(table):
        table["x"] = table["x"] * 2
        return 1

    with pytest.raises(jtc.TraceError, match="changes a container"):
        jtc.jit(change)({"x": normal(3)})


def test_a_failed_trace_leaves_everything_as_it_was():
    class Model:
        w = None

    model = Model()
    model.w = jtc.array(normal(3))

    @jtc.jit
    def f(x):
        model.w = model.w * 2
        raise KeyError("stop")

    with pytest.raises(KeyError):
        f(normal(3))
    same(model.w, normal(3))


@jtc.jit
def doubled(x):
    return x * 2


def test_it_is_copied_and_pickled_by_name():
    assert copy.deepcopy(doubled) is doubled and pickle.loads(pickle.dumps(doubled)) is doubled
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(jtc.jit(lambda x: x))


def test_many_compilations_are_warned_of(caplog):
    f = jtc.jit(lambda x, n: x + n)
    for n in range(33):
        f(normal(3), n)
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert told == [f"<lambda> is compiled again ({n} times so far): argument n is {n - 1}, before it was {n - 2}"
                    for n in (16, 32)]


def test_options_and_errors():
    x = normal(3)
    same(jtc.jit(threads=1, name="twice")(lambda x: x * 2)(x), x * 2)
    with pytest.raises(jtc.UsageError):
        jtc.jit(lambda x: x, colour="red")
    with pytest.raises(jtc.InputError, match="neither a tensor nor a static value"):
        jtc.jit(lambda x, y: x)(x, {1, 2})
    with pytest.raises(jtc.InputError, match="jit needs a function"):
        jtc.jit(3)
