"""What passes that rewrite graphs share: making nodes, hash-consing, rebuilding a graph from its arguments up."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from jtc.dialects.build import make, splat
from jtc.dialects.graph import Graph, Node, is_splat, is_weights

__all__ = ["Interned", "is_splat", "is_weights", "make", "number_of", "rebuild", "rebuild_knowing", "splat",
           "standing_for", "with_args"]


def number_of(node: Node) -> Any:
    """The number of a splat, None for any other node."""
    return node.attrs["value"] if is_splat(node) else None


def with_args(node: Node, args: Sequence[Node]) -> Node:
    """The node on other arguments of the same types; itself where they are its own."""
    if all(a is b for a, b in zip(args, node.args, strict=True)):
        return node
    return standing_for(node, Node(node.op, args, node.attrs, node.type, node.loc, node.data))


def standing_for(old: Node, new: Node) -> Node:
    """`new`, to be computed when `old` was recorded."""
    new.order = min(new.order, old.order)
    return new


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
    return rebuild_knowing(graph, lambda _, node: rule(node))


def rebuild_knowing(graph: Graph, rule: Callable[[Node, Node], Node]) -> Graph:
    """As `rebuild`, for a rule on (node of the given graph, the same on new arguments): what is known of the former."""
    new: dict[int, Node] = {}
    for node in graph.nodes():
        made = rule(node, with_args(node, [new[id(a)] for a in node.args])) if node.op != "input" else node
        new[id(node)] = standing_for(node, made)
    return replace(graph, outputs=[new[id(n)] for n in graph.outputs])
