"""What passes that rewrite graphs share: making nodes, hash-consing, rebuilding a graph from its arguments up."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from jtc.dialects.dtypes import DType
from jtc.dialects.graph import Graph, Location, Node, TensorType, Weights
from jtc.dialects.kernel import Program
from jtc.dialects.optable import infer
from jtc.passes.base import PassError


def make(op: str, args: Sequence[Node], attrs: dict[str, Any] | None = None, type: TensorType | None = None,
         loc: Location | None = None) -> Node:
    """A node whose type the op table infers; type: the declared one, for ops that need it."""
    return Node(op, args, attrs or {}, infer(op, [a.type for a in args], attrs or {}, type), loc)


def splat(value: Any, dtype: DType, shape: Sequence[int] = (), loc: Location | None = None) -> Node:
    """A number repeated over a shape."""
    python = {"bool": bool, "float": float}.get(dtype.kind, int)
    return Node("constant", (), {"value": python(value)}, TensorType(dtype, tuple(shape)), loc)


def is_weights(node: Node) -> bool:
    return node.op == "constant" and isinstance(node.attrs["value"], Weights)


def is_splat(node: Node) -> bool:
    return node.op == "constant" and not is_weights(node)


def number_of(node: Node) -> Any:
    """The number of a splat, None for any other node."""
    return node.attrs["value"] if is_splat(node) else None


def with_args(node: Node, args: Sequence[Node]) -> Node:
    """The node on other arguments of the same types; itself where they are its own."""
    if all(a is b for a, b in zip(args, node.args, strict=True)):
        return node
    return Node(node.op, args, node.attrs, node.type, node.loc, node.data)


class Interned:
    """Hash-consing: two nodes of one op, attributes, type and arguments become one node."""

    def __init__(self) -> None:
        self.found: dict[tuple, Node] = {}

    def __call__(self, node: Node) -> Node:
        attrs = tuple((name, repr(value)) for name, value in sorted(node.attrs.items()))
        array = id(node.data) if is_weights(node) else None
        own = id(node) if node.op == "input" else None
        return self.found.setdefault((node.op, tuple(map(id, node.args)), attrs, node.type, array, own), node)


def rebuild(graph: Graph, rule: Callable[[Node], Node]) -> Graph:
    """The graph with `rule` applied to every node, arguments first; what is no longer reached is gone."""
    new: dict[int, Node] = {}
    for node in graph.nodes():
        new[id(node)] = rule(with_args(node, [new[id(a)] for a in node.args])) if node.op != "input" else node
    return replace(graph, outputs=[new[id(n)] for n in graph.outputs])


def need_graph(module: Graph | Program, name: str) -> Graph:
    if not isinstance(module, Graph):
        raise PassError(f"{name} works on graphs, not on kernels")
    return module
