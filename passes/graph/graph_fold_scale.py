"""`graph-fold-scale`: scales and shifts by constants move into weights."""
from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.affine import Affine
from jtc.dialects.graph import Graph, Node, TensorType, users
from jtc.dialects.kernel import Program
from jtc.passes.base import Pass, need_graph
from jtc.passes.graph.fusion.costs import REDUCTION_OPS
from jtc.passes.graph.fusion.movement import MAPPED, MOVEMENT, affine_map
from jtc.passes.graph.fusion.plan import weight_only
from jtc.passes.graph.maps import leaves
from jtc.passes.graph.rewriting import is_splat, make, number_of, rebuild_knowing, splat, with_args
from jtc.passes.index_maps import NotAffine, apply, domain_sizes, identity, through_reshape


@dataclass(frozen=True)
class GraphFoldScale(Pass):
    """Fold constant scales into the constant factor of a contraction, constant shifts into one.

    ((x . w) - m) * r * g + b  ->  x . (w * s) + t   with s = r * g and t = b - m * s, where m, r, g, b and w depend on
    weights only and s varies only along axes that w gives to the result: a folded batch_norm.  The products of weights
    are computed once, when weights are bound.  Division by a power of two or by a repeated value (softmax) becomes
    multiplication by its reciprocal.  Changes rounding, so it is left out where arithmetic is kept as written (strict).
    Assumes canonical form.
    """

    name: ClassVar[str] = "graph-fold-scale"

    def run(self, module: Graph | Program) -> Graph:
        graph = need_graph(module, self.name)
        nodes = graph.nodes()
        readers = users(nodes)
        outputs = {id(n) for n in graph.outputs}
        folder = _Folder()
        fixed = weight_only(nodes)
        return rebuild_knowing(graph, lambda old, node: folder.rewrite(
            node, id(old) in fixed, len(readers[id(old)]) == 1 and id(old) not in outputs))


@dataclass(frozen=True)
class Coefficient:
    """A constant of a tensor's shape: `small` repeated, its dimension k being dimension dims[k]; or a number."""

    small: Node
    dims: tuple[int, ...] | None = None         # None: a number

    def over(self, like: Node) -> Node:
        """As a tensor of the shape of `like`."""
        if self.dims is None:
            return splat(number_of(self.small), like.dtype, like.shape, like.loc)
        if self.small.shape == like.shape and self.dims == tuple(range(like.type.rank)):
            return self.small
        return make("broadcast", [self.small], {"dims": self.dims}, like.type, like.loc)


@dataclass(frozen=True)
class Parts:
    """value = base * scale + shift, written with `ops` ops in the graph; None stands for 1 and 0."""

    base: Node
    scale: Coefficient | None = None
    shift: Coefficient | None = None
    ops: int = 0

    @property
    def needed(self) -> int:
        return (self.scale is not None) + (self.shift is not None)


class _Folder:
    """Rewrites nodes one after the other, arguments first."""

    def __init__(self) -> None:
        self.fixed: dict[int, Node] = {}        # id -> node, of new nodes that depend on weights only
        self.alone: dict[int, Node] = {}        # id -> node, of new nodes with one reader
        self.parts: dict[int, Parts] = {}

    def rewrite(self, node: Node, fixed: bool, alone: bool) -> Node:
        """The node to use instead of `node`.  fixed: it depends on weights only; alone: one op reads it."""
        if node.dtype.is_float and not fixed:
            node = self.affine(self.reciprocal(node))
        if fixed:
            self.fixed[id(node)] = node
        if alone:
            self.alone[id(node)] = node
        return node

    def reciprocal(self, node: Node) -> Node:
        """x / 8 -> x * 0.125 (powers of two), x / broadcast(s) -> x * broadcast(1 / s)."""
        if node.op != "div":
            return node
        x, y = node.args
        if is_splat(y):
            number = number_of(y)
            if abs(math.frexp(number)[0]) != 0.5 or abs(number) > 2.0 ** 100 or abs(number) < 2.0 ** -100:
                return node
            return make("mul", [x, splat(1 / number, y.dtype, y.shape, node.loc)], loc=node.loc)
        if y.op == "broadcast" and not is_splat(x) and y.type.size > y.args[0].type.size:
            small = y.args[0]
            one = make("div", [splat(1, y.dtype, small.shape, node.loc), small], loc=node.loc)
            if id(small) in self.fixed:
                self.fixed[id(one)] = one
            spread = make("broadcast", [one], y.attrs, y.type, node.loc)
            if id(y) in self.fixed:
                self.fixed[id(spread)] = spread
            return make("mul", [x, spread], loc=node.loc)
        return node

    # -------------------------------------------------------------------------------------------- base * scale + shift
    def affine(self, node: Node) -> Node:
        parts = self.split(node)
        if parts is None:
            return node
        if parts.scale is not None:
            folded = self.into_weights(parts.base, parts.scale)
            if folded is not None:
                parts = Parts(folded, None, parts.shift, parts.ops + 1)
        if parts.needed < parts.ops:
            parts = replace(parts, ops=parts.needed)
            node = self.emit(parts, node)
        self.parts[id(node)] = parts
        return node

    def emit(self, parts: Parts, like: Node) -> Node:
        node = parts.base
        for fn, coefficient in (("mul", parts.scale), ("add", parts.shift)):
            if coefficient is not None:
                node = make(fn, [node, coefficient.over(like)], loc=like.loc)
        return node

    def split(self, node: Node) -> Parts | None:
        """The node as base * scale + shift; None where it is not one by constants."""
        if node.op == "neg":
            minus = Coefficient(splat(-1, node.dtype))
            return self.scaled(self.parts_of(node.args[0]), minus)
        if node.op not in ("add", "sub", "mul"):
            return None
        first, second = map(self.coefficient, node.args)
        if (first is None) == (second is None):
            return None
        value = node.args[0] if first is None else node.args[1]
        constant = second if first is None else first
        assert constant is not None
        for parts in dict.fromkeys((self.parts_of(value), Parts(value))):
            found: Parts | None
            if node.op == "mul":
                found = self.scaled(parts, constant)
            elif node.op == "add":
                found = self.shifted(parts, constant, "add")
            elif first is None:
                found = self.shifted(parts, constant, "sub")
            else:
                negative = self.scaled(parts, Coefficient(splat(-1, node.dtype)))
                found = self.shifted(negative, constant, "add") if negative is not None else None
            if found is not None:
                return replace(found, ops=parts.ops + 1)
        return None

    def parts_of(self, node: Node) -> Parts:
        return self.parts.get(id(node), Parts(node)) if id(node) in self.alone else Parts(node)

    def coefficient(self, node: Node) -> Coefficient | None:
        if is_splat(node):
            return Coefficient(node)
        if id(node) not in self.fixed:
            return None
        if node.op == "broadcast":
            self.fixed.setdefault(id(node.args[0]), node.args[0])
            return Coefficient(node.args[0], tuple(node.attrs["dims"]))
        return Coefficient(node, tuple(range(node.type.rank)))

    def scaled(self, parts: Parts, by: Coefficient) -> Parts | None:
        scale = by if parts.scale is None else self.combine("mul", parts.scale, by)
        shift = None if parts.shift is None else self.combine("mul", parts.shift, by)
        if scale is None or parts.shift is not None and shift is None:
            return None
        return Parts(parts.base, scale, shift, parts.ops + 1)

    def shifted(self, parts: Parts, by: Coefficient, fn: str) -> Parts | None:
        if parts.shift is not None:
            shift = self.combine(fn, parts.shift, by)
        elif fn == "sub":
            shift = self.combine("mul", by, Coefficient(splat(-1, by.small.dtype)))
        else:
            shift = by
        return None if shift is None else Parts(parts.base, parts.scale, shift, parts.ops + 1)

    def combine(self, fn: str, one: Coefficient, two: Coefficient) -> Coefficient | None:
        """fn of two constants that vary along the same dimensions (or along none); None for others."""
        dtype = one.small.dtype
        if one.dims is None and two.dims is None:
            compute = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}[fn]
            return Coefficient(splat(compute(number_of(one.small), number_of(two.small)), dtype))
        like = one if one.dims is not None else two
        if one.dims is not None and two.dims is not None and (one.dims, one.small.shape) != (two.dims, two.small.shape):
            return None
        shape = like.small.shape
        args = [c.small if c.dims is not None else splat(number_of(c.small), dtype, shape) for c in (one, two)]
        small = make(fn, args, loc=like.small.loc)
        self.fixed[id(small)] = small
        return Coefficient(small, like.dims)

    # -------------------------------------------------------------------------------------------- into weights
    def into_weights(self, value: Node, scale: Coefficient) -> Node | None:
        """value * scale as the same contraction with scaled weights; None where value is not such a contraction."""
        path: list[Node] = []
        node = value
        while node.op in ("reshape", "transpose") and id(node) in self.alone:
            path.append(node)
            node = node.args[0]
        if node.op not in REDUCTION_OPS or node.attrs["fn"] != "add" or id(node) not in self.alone:
            return None
        product = node.args[0]
        if product.op != "mul" or id(product) not in self.alone or 0 in product.shape:
            return None
        place = _place(path, node, scale)
        if place is None:
            return None
        for slot, factor in enumerate(product.args):
            weights = self.scale_factor(factor, place, scale)
            if weights is not None:
                args = [weights if i == slot else a for i, a in enumerate(product.args)]
                result = with_args(product, args)
                for step in (node, *reversed(path)):
                    self.alone[id(result)] = result
                    result = with_args(step, [result])
                self.alone[id(result)] = result
                return result
        return None

    def scale_factor(self, factor: Node, place: Sequence[Affine], scale: Coefficient) -> Node | None:
        """A factor of a product, scaled below its movement ops; place: where it reads scale.small, over the product's
        axes."""
        sizes = domain_sizes(factor.shape)
        path: list[Node] = []
        forms = identity(factor.type.rank)
        node = factor
        while node.op in MOVEMENT:
            x = node.args[0]
            if node.op in MAPPED:
                if node.op == "reindex" and node.attrs["fill"] != 0 and leaves(node.attrs["map"], x.shape, node.shape):
                    return None         # the fill is not scaled
                forms = apply(affine_map(node), forms)
            else:
                try:
                    forms = through_reshape(forms, node.shape, x.shape, sizes)
                except NotAffine:
                    return None
            path.append(node)
            node = x
        if id(node) not in self.fixed:
            return None
        dims: list[int] = []
        shape = scale.small.shape if scale.dims is not None else ()
        for form, n in zip(place, shape):
            matches = [d for d, f in enumerate(forms) if f == form and node.shape[d] == n and d not in dims]
            if n != 1 and not matches:
                return None
            if n != 1:
                dims.append(matches[0])
        if scale.dims is None:
            spread = splat(number_of(scale.small), node.dtype, node.shape, node.loc)
        else:
            small = scale.small
            wide = tuple(n for n in shape if n != 1)
            if wide != shape:
                small = make("reshape", [small], {}, TensorType(small.dtype, wide), small.loc)
            spread = make("broadcast", [small], {"dims": tuple(dims)}, node.type, node.loc)
        result = make("mul", [node, spread], loc=node.loc)
        self.fixed[id(result)] = result
        for step in reversed(path):
            result = with_args(step, [result])
            self.fixed[id(result)] = result
        return result


def _place(path: Sequence[Node], reduction: Node, scale: Coefficient) -> list[Affine] | None:
    """Where a scale of the path's result is read, over the axes of the reduction's argument; None where not affine."""
    forms = identity(reduction.type.rank)           # index into the reduction, then into what is made of it
    sizes = domain_sizes(reduction.shape)
    for node in reversed(path):
        if node.op == "transpose":
            forms = tuple(forms[p] for p in node.attrs["perm"])
        else:
            try:
                forms = through_reshape(forms, node.args[0].shape, node.shape, sizes)
            except NotAffine:
                return None
    if reduction.op == "reduce":
        rest = [d for d in range(reduction.args[0].type.rank) if d not in reduction.attrs["axes"]]
        inner: Sequence[Affine] = [Affine.axis(f"d{d}") for d in rest]
    else:
        inner = reduction.attrs["map"]
    forms = apply(forms, inner)
    return [forms[d] for d in scale.dims] if scale.dims is not None else []
