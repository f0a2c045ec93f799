"""`graph-expand`: ops that have a definition in terms of others become that."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from jtc.dialects.dtypes import F32
from jtc.dialects.graph import Graph, Node, TensorType
from jtc.dialects.kernel import Program
from jtc.passes.base import Pass, need_graph
from jtc.passes.graph.fusion.inverse import is_gatherable
from jtc.passes.graph.rewriting import make, rebuild, splat


@dataclass(frozen=True)
class GraphExpand(Pass):
    """Replace composite ops by their definition: arg_reduce -> reduce, compare, iota, where, reduce min.

    Guarantees a graph of the ops that graph-fuse knows.  A scatter into 16-bit floats combines in float32.
    """

    name: ClassVar[str] = "graph-expand"

    def run(self, module: Graph | Program) -> Graph:
        return rebuild(need_graph(module, self.name), lambda node: DEFINITIONS.get(node.op, _accumulated)(node))


def _arg_reduce(node: Node) -> Node:
    """The smallest index at which x equals its maximum (or minimum); a NaN counts as both, as in NumPy."""
    x, axis, loc = node.args[0], node.attrs["axis"], node.loc
    rest = tuple(d for d in range(x.type.rank) if d != axis)
    best = make("reduce", [x], {"fn": node.attrs["fn"], "axes": (axis,)}, loc=loc)
    hit = make("eq", [x, make("broadcast", [best], {"dims": rest}, x.type, loc)], loc=loc)
    if x.dtype.is_float:
        hit = make("or", [hit, make("isnan", [x], loc=loc)], loc=loc)
    index = TensorType(node.dtype, x.shape)
    place = make("iota", [], {"axis": axis}, index, loc)
    place = make("where", [hit, place, splat(x.shape[axis], node.dtype, x.shape, loc)], loc=loc)
    return make("reduce", [place], {"fn": "min", "axes": (axis,)}, loc=loc)


def _accumulated(node: Node) -> Node:
    """The node; a scatter into 16-bit floats as one into float32, rounded at the end."""
    scatters = node.op == "scatter" or node.op == "reindex_reduce" and not is_gatherable(node)
    if not node.dtype.is_half or not scatters or node.attrs["fn"] == "replace":
        return node
    values = 2 if node.op == "scatter" else 1
    wide = [make("cast", [a], {}, TensorType(F32, a.shape), node.loc) for a in node.args[:values]]
    result = make(node.op, [*wide, *node.args[values:]], node.attrs, TensorType(F32, node.shape), node.loc)
    return make("cast", [result], {}, node.type, node.loc)


DEFINITIONS: dict[str, Callable[[Node], Node]] = {"arg_reduce": _arg_reduce}
