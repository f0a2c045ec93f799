"""`graph-push-gather`: what is gathered is computed where it is needed only."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL
from jtc.dialects.graph import Graph, Node, TensorType, users
from jtc.dialects.kernel import Program
from jtc.dialects.optable import SCALAR_FUNCTIONS
from jtc.passes.base import Pass, need_graph
from jtc.passes.graph.fusion.movement import affine_map
from jtc.passes.graph.fusion.plan import weight_only
from jtc.passes.graph.maps import leaves
from jtc.passes.graph.rewriting import is_splat, make, number_of, rebuild_knowing, splat

FEWER = 8           # a value that others read too is computed again for a gather of an eighth of it
MAX_OPS = 32        # ops that one gather is pushed through


@dataclass(frozen=True)
class GraphPushGather(Pass):
    """Gather arguments instead of results of elementwise ops, casts and repetitions.

    gather(x - broadcast(m), i)  ->  where(i inside, gather(x, i) - m, fill)

    Only the tensors that remain need buffers: the loss of a class takes one logit of each row, and no row of
    log_softmax is written.  Done where the gather reads fewer elements than are computed, and nothing else reads them
    or it reads FEWER times fewer; not for what depends on weights only, which is computed once.  Gathered dimensions
    must be indexed by data alone, the others must stay inside.  Keeps every value.
    """

    name: ClassVar[str] = "graph-push-gather"

    def run(self, module: Graph | Program) -> Graph:
        graph = need_graph(module, self.name)
        nodes = graph.nodes()
        readers = users(nodes)
        outputs = {id(n) for n in graph.outputs}
        fixed = weight_only(nodes)

        def rule(old: Node, node: Node) -> Node:
            worthwhile = old.op == "gather" and _is_worthwhile(old, len(readers[id(old.args[0])]), outputs, fixed)
            return _Push(node).run() if worthwhile else node

        return rebuild_knowing(graph, rule)


def _is_worthwhile(node: Node, readers: int, outputs: set[int], fixed: set[int]) -> bool:
    x, dims = node.args[0], node.attrs["dims"]
    if not _is_computed(x) or id(x) in outputs | fixed or 0 in x.shape:
        return False
    if any(d not in dims for d in leaves(node.attrs["map"], x.shape, node.shape)) \
            or any(node.attrs["map"][d] != Affine() for d in dims):
        return False
    return node.type.size * (1 if readers == 1 else FEWER) <= x.type.size


def _is_computed(node: Node) -> bool:
    return node.op in SCALAR_FUNCTIONS or node.op in ("cast", "broadcast")


@dataclass
class _Push:
    """One gather on its way up.  Where an index leaves its dimension, what is made on the way has any value."""

    node: Node
    made: dict[tuple, Node] = field(default_factory=dict)

    def run(self) -> Node:
        node, fill = self.node, self.node.attrs["fill"]
        value = self.at(node.args[0], node.attrs["map"], node.attrs["dims"], node.args[1:])
        return make("where", [self.inside(), value, splat(fill, node.dtype, node.shape, node.loc)], loc=node.loc)

    def inside(self) -> Node:
        """Whether every index is inside of its dimension."""
        x, found = self.node.args[0], None
        for d, i in zip(self.node.attrs["dims"], self.node.args[1:]):
            for fn, bound in (("ge", 0), ("lt", x.shape[d])):
                holds = make(fn, [i, splat(bound, i.dtype, i.shape, i.loc)], loc=i.loc)
                found = holds if found is None else make("and", [found, holds], loc=i.loc)
        return found if found is not None else splat(True, BOOL, self.node.shape)

    def at(self, x: Node, forms: Sequence[Affine], dims: Sequence[int], indices: Sequence[Node]) -> Node:
        """x[forms], to whose entries `dims` the indices are added."""
        key = id(x), tuple(forms), tuple(dims)
        if key not in self.made:
            self.made[key] = self.new(x, forms, dims, indices)
        return self.made[key]

    def new(self, x: Node, forms: Sequence[Affine], dims: Sequence[int], indices: Sequence[Node]) -> Node:
        shape, loc = self.node.shape, self.node.loc
        if is_splat(x):
            return splat(number_of(x), x.dtype, shape, x.loc)
        if x.op == "broadcast" and len(self.made) < MAX_OPS:
            place = {f"d{d}": form for d, form in enumerate(forms)}
            inner = affine_map(x)
            kept = [(k, i) for d, i in zip(dims, indices)
                    for k, form in enumerate(inner) if form == Affine.axis(f"d{d}")]
            return self.at(x.args[0], [form.substitute(place) for form in inner],
                           [k for k, _ in kept], [i for _, i in kept])
        if _is_computed(x) and len(self.made) < MAX_OPS:
            args = [self.at(a, forms, dims, indices) for a in x.args]
            return make(x.op, args, x.attrs, TensorType(x.dtype, shape), x.loc)
        if dims:
            attrs = {"map": tuple(forms), "dims": tuple(dims), "fill": _zero(x)}
            return make("gather", [x, *indices], attrs, TensorType(x.dtype, shape), loc)
        return make("reindex", [x], {"map": tuple(forms), "fill": _zero(x)}, TensorType(x.dtype, shape), loc)


def _zero(x: Node) -> bool | int | float:
    return {"bool": False, "float": 0.0}.get(x.dtype.kind, 0)
