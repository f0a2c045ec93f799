"""The native call path of jitted functions: which calls take it, and what they give."""
from __future__ import annotations

import gc
import weakref
from contextvars import ContextVar

import numpy as np
import pytest

from jtc.dialects.errors import InputError
from jtc.runtime.engine import Buffer, Dispatcher
from jtc.runtime.module import load_module

from native import buffer, launch, needs_compiler, plan, shared_object

pytestmark = needs_compiler

SOURCE = """
KERNEL(add) { for (int64_t i = begin; i < end; i++) F(2)[i] = F(0)[i] + F(1)[i]; }
KERNEL(subtract) { for (int64_t i = begin; i < end; i++) F(2)[i] = F(0)[i] - F(1)[i]; }
KERNEL(both) { for (int64_t i = begin; i < end; i++) { F(1)[i] = F(0)[i] + 1; F(2)[i] = F(0)[i] - 1; } }
"""


class Tensor:
    __slots__ = ("_buffer", "_node", "me")

    def __init__(self, values):
        self._buffer = Buffer.from_numpy(np.asarray(values, np.float32)) if values is not None else None

    @property
    def values(self):
        return self._buffer.numpy().tolist()


class Jit(Dispatcher):
    """Notes the calls that take the slow path."""

    def __init__(self, bypass=()):
        super().__init__(self.slow, Tensor, list(bypass))
        self.calls = []

    def slow(self, args, kwargs):
        self.calls.append((args, kwargs))
        return "slow"


@pytest.fixture(scope="module")
def executables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dispatch")

    def load(name, buffers, launches):
        return load_module(shared_object(folder / f"{name}.so", SOURCE, plan(name, buffers, launches))).executable

    def add(n, kernel="add"):
        return load(f"{kernel}{n}", [buffer("a", [n], "input"), buffer("b", [n], "input", 1),
                                     buffer("c", [n], "output")], [launch(kernel, [0, 1, 2], n)])

    outputs = [buffer("a", [2], "input"), buffer("b", [2], "output"), buffer("c", [2], "output", 1)]
    return {2: add(2), 3: add(3), "subtract": add(2, "subtract"),
            "both": load("both", outputs, [launch("both", [0, 1, 2], 2)])}


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


def test_places_that_begin_alike_are_looked_up_anew(executables):
    class Layer:
        def __init__(self, w, b):
            self.w, self.b = Tensor(w), Tensor(b)

    class Hidden(Layer):
        w = property(lambda self: Tensor([7, 7]), lambda self, value: None)      # past the object's own dict

    class Plain:
        __slots__ = ("w", "b")

    jit, net = Jit(), {"layer": Layer([1, 2], [10, 20])}
    places = [("object", net, None, (("item", "layer"), ("attr", name))) for name in ("w", "b")]
    jit.add([], executables[2], places)
    assert jit().values == [11, 22]
    net["layer"].w = Tensor([3, 4])
    assert jit().values == [13, 24]
    net["layer"] = Layer([5, 6], [0, 0])
    assert jit().values == [5, 6]
    net["layer"] = Hidden([0, 0], [1, 1])
    net["layer"].__dict__["w"] = Tensor([0, 0])
    assert jit().values == [8, 8]
    net["layer"] = Plain()
    net["layer"].w, net["layer"].b = Tensor([1, 1]), Tensor([2, 2])
    assert jit().values == [3, 3]
    del net["layer"].b
    assert jit() == "slow"
    net.clear()
    assert jit() == "slow"


class Node:
    """An object with attributes."""


def changes():
    """What may change on the way from `root.layer.items[1]["w"]` to its tensor: name -> function of root, tensor."""
    def layer(tensor):
        made = Node()
        made.items = [None, {"w": tensor}]
        return made

    def own_dict(root, tensor):
        root.__dict__ = {"layer": layer(tensor)}

    def deeper_dict(root, tensor):
        root.layer.__dict__ = layer(tensor).__dict__

    def insert(root, tensor):
        root.layer.items.insert(1, {"w": tensor})

    def cut(root, tensor):
        del root.layer.items[0]
        root.layer.items.append({"w": tensor})

    return {
        "attribute": lambda root, tensor: setattr(root, "layer", layer(tensor)),
        "attribute of the last": lambda root, tensor: setattr(root.layer, "items", layer(tensor).items),
        "list": lambda root, tensor: root.layer.items.__setitem__(1, {"w": tensor}),
        "dict": lambda root, tensor: root.layer.items[1].__setitem__("w", tensor),
        "past the object": lambda root, tensor: root.__dict__.update(layer=layer(tensor)),
        "dict of the object": own_dict, "dict of the next": deeper_dict, "inserted": insert, "moved": cut}, layer


@pytest.mark.parametrize("name", changes()[0])
def test_what_is_remembered_is_dropped_when_the_way_changes(executables, name):
    change, layer = changes()[0][name], changes()[1]
    jit, root = Jit(), Node()
    root.layer = layer(Tensor([1, 2]))
    way = (("attr", "layer"), ("attr", "items"), ("item", 1), ("item", "w"))
    jit.add([("tensor",)], executables[2], [("object", root, None, way)])
    for number in range(1, 4):
        for _ in range(3):
            assert jit(Tensor([0, 0])).values == [number, number + 1]
        change(root, Tensor([number + 1, number + 2]))
    root.layer.items.clear()
    assert jit(Tensor([0, 0])) == "slow"


def test_paths_through_one_object_see_each_of_its_attributes(executables):
    """Also where paths through other objects come between them, and lists of the same tensors."""
    def layer(number):
        made = Node()
        made.w, made.b = Tensor([number, 0]), Tensor([0, number])
        return made

    root = Node()
    root.layers, root.first = [layer(1), layer(2)], Tensor([0, 0])
    ways = [(("attr", "layers"), ("item", 0), ("attr", "w")), (("attr", "layers"), ("item", 1), ("attr", "b"))]
    again = [(("attr", "layers"), ("item", 0), ("attr", "b")), (("attr", "first"),)]
    pairs = {"there": ways, "back": again}
    jits = {}
    for name, pair in pairs.items():
        jits[name] = Jit()
        jits[name].add([], executables[2], [("object", root, None, way) for way in pair])

    def found():
        return [jits[name]().values for name in pairs for _ in range(2)][::2]

    assert found() == [[1, 2], [0, 1]]
    root.layers[0].b = Tensor([5, 5])
    assert found() == [[1, 2], [5, 5]]
    root.layers[0].w = Tensor([7, 7])
    assert found() == [[7, 9], [5, 5]]
    root.layers[1].b = Tensor([3, 3])
    root.first = Tensor([1, 1])
    assert found() == [[10, 10], [6, 6]]
    root.layers.reverse()
    assert found() == [[7, 5], [4, 4]]
    root.__dict__ = {"layers": [layer(4), layer(5)], "first": Tensor([0, 0])}
    assert found() == [[4, 5], [0, 4]]


def test_tensors_that_are_in_two_places_or_should_not_be(executables):
    """Where they no longer fit, signatures added before are asked, and then the slow path."""
    def at(name):
        return "global", state, name, ()

    jit, state = Jit(), {"a": Tensor([1, 2]), "b": Tensor([10, 20])}
    jit.add([], executables[2], [at("a"), at("b")], writes=[(0, 0)], results=0)
    assert jit() == () and state["a"].values == [11, 22]
    state["c"] = state["b"]
    jit.add([("tensor",)], executables[2], [at("b")], aliases=[(0, at("c"))])
    for _ in range(2):
        assert jit(Tensor([1, 1])).values == [11, 21]
    jit.add([("tensor",)], executables["subtract"], [at("b")], aliases=[(0, at("a"))])
    assert jit(Tensor([1, 1])).values == [11, 21]
    state["a"], state["c"] = state["b"], Tensor([10, 20])
    assert jit(Tensor([1, 1])).values == [-9, -19]
    assert jit() == "slow"
    state["a"] = Tensor([10, 20])
    assert jit(Tensor([1, 1])) == "slow"
    assert jit() == ()
    del state["c"]
    assert jit(Tensor([1, 1])) == "slow"
    with pytest.raises(ValueError, match="not there"):
        jit.add([("tensor",)], executables[2], [at("b")], aliases=[(1, at("a"))])


def test_code_that_runs_while_tensors_are_looked_up(executables):
    """The values of arguments are those at the call."""
    class Asked:
        @property
        def w(self):
            given._buffer = Tensor([50, 50])._buffer
            gc.collect()
            return Tensor([7, 7])

    jit, given = Jit(), Tensor([1, 2])
    jit.add([("tensor",)], executables[2], [("object", Asked(), None, (("attr", "w"),))])
    assert jit(given).values == [8, 9]
    assert given.values == [50, 50]


def test_cells_and_globals_are_read_in_every_call(executables):
    def closure():
        w = Tensor([1, 2])

        def assign(value):
            nonlocal w
            w = value
        return assign, assign.__closure__[0]

    assign, cell = closure()
    names = {"w": Tensor([10, 20])}
    jit = Jit()
    jit.add([], executables[2], [("cell", cell, "w", ()), ("global", names, "w", ())])
    for number in (1, 2, 3):
        assert jit().values == jit().values == [number * 11, number * 22]
        assign(Tensor([number + 1, 2 * number + 2]))
        names["w"] = Tensor([10 * number + 10, 20 * number + 20])
    del names["w"]
    assert jit() == "slow"


def test_what_is_remembered_keeps_nothing_alive(executables):
    jit, root = Jit(), Node()
    root.w = Tensor([1, 2])
    jit.add([("tensor",)], executables[2], [("object", root, None, (("attr", "w"),))])
    assert jit(Tensor([0, 0])).values == jit(Tensor([0, 0])).values == [1, 2]
    gone = weakref.ref(root.w._buffer)
    del root.w
    gc.collect()
    assert gone() is None
    assert jit(Tensor([0, 0])) == "slow"


def test_a_property_that_hides_an_attribute_is_asked(executables):
    class Hidden:
        w = property(lambda self: Tensor([7, 7]))

    jit, net = Jit(), Hidden()
    net.__dict__["w"] = Tensor([0, 0])
    jit.add([("tensor",)], executables[2], [("object", net, None, (("attr", "w"),))])
    assert jit(Tensor([1, 2])).values == [8, 9]


def test_a_class_that_finds_attributes_itself_is_asked(executables):
    class Renaming:
        def __getattribute__(self, name):
            return object.__getattribute__(self, "other" if name == "w" else name)

    jit, net = Jit(), Renaming()
    net.w, net.other = Tensor([0, 0]), Tensor([7, 7])
    jit.add([("tensor",)], executables[2], [("object", net, None, (("attr", "w"),))])
    assert jit(Tensor([1, 2])).values == [8, 9]


def test_dicts_of_other_classes(executables):
    """Items are looked up as the class does, and seen to change."""
    class Plain(dict):
        def __setitem__(self, key, value):
            dict.__setitem__(self, key, value)

    class Doubled(dict):
        def __getitem__(self, key):
            return Tensor([2 * v for v in dict.__getitem__(self, key).values])

    class Counting(dict):
        def __missing__(self, key):
            asked.append(key)
            return Tensor([len(asked)] * 2)

    for kind, first, second in ((Plain, [1, 2], [3, 4]), (Doubled, [2, 4], [6, 8])):
        jit, state = Jit(), kind(w=Tensor([1, 2]))
        jit.add([("tensor",)], executables[2], [("object", state, None, (("item", "w"),))])
        for _ in range(3):
            assert jit(Tensor([0, 0])).values == first
        state["w"] = Tensor([3, 4])
        for _ in range(3):
            assert jit(Tensor([0, 0])).values == second
    del state["w"]
    assert jit(Tensor([0, 0])) == "slow"
    jit, state, asked = Jit(), Counting(), []
    jit.add([("tensor",)], executables[2], [("object", state, None, (("item", "w"),))])
    asked.clear()
    assert [jit(Tensor([0, 0])).values for _ in range(3)] == [[1, 1], [2, 2], [3, 3]]
    state["w"] = Tensor([7, 7])
    assert jit(Tensor([0, 0])).values == jit(Tensor([0, 0])).values == [7, 7]
    del state["w"]
    assert jit(Tensor([0, 0])).values == [4, 4]


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
