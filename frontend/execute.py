"""From a graph to something that runs: through the compiler and its cache, or through the reference interpreter.

`knobs.use(backend="reference")` runs every program in NumPy, node by node: slow, and the oracle to compare with.
"""
from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from jtc.dialects.graph import Graph, Node, Weights
from jtc.frontend import values
from jtc.runtime import knobs


class Runnable(Protocol):
    def run(self, inputs: Sequence[values.Buffer]) -> list[values.Buffer]: ...


class ReferenceModule:
    """A graph run by the NumPy reference interpreter."""

    def __init__(self, graph: Graph):
        self.graph = graph

    def run(self, inputs: Sequence[values.Buffer]) -> list[values.Buffer]:
        from jtc.dialects.reference import run_graph
        outputs = run_graph(self.graph, [b.numpy() for b in inputs])
        return [values.from_numpy(out) for out in outputs]


class Statistics:
    """compiled: programs compiled in this process, or read from the disk cache; reused: found in its memory."""

    def __init__(self) -> None:
        self.compiled = self.reused = 0


statistics = Statistics()
_modules: dict[tuple, Runnable] = {}
_lock = threading.Lock()


def structure(graph: Graph) -> tuple:
    """A hashable key: equal for graphs that compute the same.  Weights are compared by identity."""
    place: dict[int, int] = {}
    rows = []
    for number, node in enumerate(graph.nodes()):
        place[id(node)] = number
        if node.op == "constant":
            value = node.attrs["value"]
            attrs: object = (value.name, id(node.data)) if isinstance(value, Weights) else repr(value)
        else:
            attrs = _attrs(node)
        rows.append((node.op, tuple(place[id(a)] for a in node.args), attrs, node.type))
    return tuple(rows), len(graph.inputs), tuple(place[id(n)] for n in graph.outputs), tuple(graph.updates.items())


def _attrs(node: Node) -> object:
    if "fill" in node.attrs:                       # by its text: -0.0, nan and True are not 0.0, nan and 1 to a hash
        return tuple(repr(v) if k == "fill" else v for k, v in node.attrs.items())
    return tuple(node.attrs.values())


def copied(graph: Graph) -> Graph:
    """The same graph in new nodes, without the values of its inputs: pending nodes change once they are computed."""
    twins: dict[int, Node] = {}
    for node in graph.nodes():
        data = None if node.op == "input" else node.data
        twin = Node(node.op, [twins[id(a)] for a in node.args], dict(node.attrs), node.type, node.loc, data)
        twin.order, twins[id(node)] = node.order, twin
    return Graph(graph.name, [twins[id(n)] for n in graph.inputs], [twins[id(n)] for n in graph.outputs],
                 list(graph.input_names), list(graph.output_names), dict(graph.updates))


def compiled(graph: Graph) -> Runnable:
    """A runnable for a graph without weights, made once for each structure, backend and set of knobs."""
    key = (structure(graph), knobs.get("backend"), tuple(knobs.key().items()))
    found = _modules.get(key)
    if found is None:
        with _lock:
            found = _modules.get(key)
            if found is None:
                found = _modules[key] = build(copied(graph))
                return found
    statistics.reused += 1
    return found


def build(graph: Graph) -> Runnable:
    """A runnable for any graph; weights are bound to it."""
    statistics.compiled += 1
    if knobs.get("backend") == "reference":
        return ReferenceModule(graph)
    from jtc.frontend import tiers
    if tiers.wanted():
        return tiers.build(graph)
    from jtc.compiler.driver import compile_graph
    return tiers.loaded(graph, compile_graph(graph))
