"""`graph-factor-sums`: what a sum's terms share is multiplied once, after the sum."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jtc.dialects.graph import Graph, Node, TensorType
from jtc.dialects.kernel import Program
from jtc.passes.base import Pass, need_graph
from jtc.passes.graph.fusion.plan import weight_only
from jtc.passes.graph.rewriting import is_splat, make, number_of, rebuild_knowing, splat


@dataclass(frozen=True)
class GraphFactorSums(Pass):
    """Take factors that are the same for all terms out of a sum.

    sum_j x[i, j] * c[i]  ->  (sum_j x[i, j]) * c[i];  sum(-x) -> -sum(x)

    The sums in the gradients of a norm then differ in such factors only, and equal ones become one.  What depends on
    weights only is not taken apart: it is computed once.  Changes rounding, so it is left out where arithmetic is kept
    as written (strict).
    """

    name: ClassVar[str] = "graph-factor-sums"

    def run(self, module: Graph | Program) -> Graph:
        graph = need_graph(module, self.name)
        fixed = weight_only(graph.nodes())
        kept: set[int] = set()          # ids of new nodes that depend on weights only

        def rule(old: Node, node: Node) -> Node:
            if id(old) in fixed:
                kept.add(id(node))
            elif node.op == "reduce" and node.attrs["fn"] == "add" and node.dtype.is_float and node.type.size:
                return factored(node, kept)
            return node

        return rebuild_knowing(graph, rule)


def factored(node: Node, fixed: set[int]) -> Node:
    """The sum with its common factors outside; itself where there are none.  fixed: ids of what is not taken apart."""
    axes = node.attrs["axes"]
    inner: list[Node] = []
    outer: list[Node] = []
    number = 1.0
    pending = [node.args[0]]
    while pending:
        x = pending.pop()
        common = _common(x, axes, node.type)
        if is_splat(x):
            number *= number_of(x)
        elif common is not None:
            outer.append(common)
        elif x.op == "mul" and id(x) not in fixed:
            pending += reversed(x.args)
        elif x.op == "neg" and id(x) not in fixed:
            number = -number
            pending += x.args
        else:
            inner.append(x)
    if not inner or not outer and number == 1.0:
        return node
    inner.sort(key=lambda n: n.number)
    result = make("reduce", [_product(inner)], dict(node.attrs), loc=node.loc)
    for factor in outer:
        result = make("mul", [result, factor], loc=node.loc)
    if number != 1.0:
        result = make("mul", [result, splat(number, node.dtype, node.shape, node.loc)], loc=node.loc)
    return result


def _product(factors: Sequence[Node]) -> Node:
    result = factors[0]
    for factor in factors[1:]:
        result = make("mul", [result, factor], loc=factor.loc)
    return result


def _common(x: Node, axes: Sequence[int], result: TensorType) -> Node | None:
    """The factor over the result's dimensions, where x does not vary along the summed axes; None where it does."""
    if x.op != "broadcast":
        return None
    rest = [d for d in range(x.type.rank) if d not in axes]
    small, dims = x.args[0], x.attrs["dims"]
    if any(d in axes and n != 1 for d, n in zip(dims, small.shape)):
        return None
    if any(d in axes for d in dims):            # of size 1
        keep = [k for k, d in enumerate(dims) if d not in axes]
        small = make("reshape", [small], {}, TensorType(small.dtype, tuple(small.shape[k] for k in keep)), x.loc)
        dims = tuple(dims[k] for k in keep)
    return make("broadcast", [small], {"dims": tuple(rest.index(d) for d in dims)},
                TensorType(x.dtype, result.shape), x.loc)
