"""Tensors that jitted functions capture: how they are found in later calls, and what is remembered of the way."""
from __future__ import annotations

import gc
import weakref

import pytest
from dispatching import Jit, Tensor, load_executables

from native import needs_compiler

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def executables(tmp_path_factory):
    return load_executables(tmp_path_factory.mktemp("dispatch"))


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
