"""`graph-canonicalize`: one form for what is written in many ways."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from jtc.dialects.dtypes import BOOL, DType
from jtc.dialects.graph import Graph, Node, TensorType
from jtc.dialects.kernel import Program
from jtc.dialects.optable import REDUCTIONS, SCALAR_FUNCTIONS
from jtc.passes.base import Pass, need_graph
from jtc.passes.graph.fusion.costs import contraction_bases
from jtc.passes.graph.maps import compose, leaves, projection
from jtc.passes.graph.rewriting import Interned, is_splat, make, number_of, rebuild, splat

# f(x, n) = x: beside the identities of reductions, for functions that do not commute.
RIGHT_NEUTRAL = {"sub": 0, "div": 1, "shl": 0, "shr": 0, "pow": 1, "xor": 0}
INVOLUTIONS = frozenset({"neg", "not"})                                            # f(f(x)) = x
PROJECTIONS = frozenset({"abs", "sign", "floor", "ceil", "trunc", "round"})        # f(f(x)) = f(x)


@dataclass(frozen=True)
class GraphCanonicalize(Pass):
    """Share equal nodes, drop unused ones, compute what is the same number everywhere, simplify.

    * x*1, x+0, max(x, -inf)...: neutral elements, from the table of reductions; x+0 may turn -0 into 0
    * f(x, x) for idempotent f, double negation, floor(floor(x)), `where` with a known or useless condition,
      or that only repeats its condition
    * identity movement and casts go; movement on movement is composed where the fills allow it
    * a reindex that only repeats or reorders becomes a broadcast or transpose, a reindex_reduce that only drops axes a
      reduce
    * functions of values repeated alike are computed before they are repeated
    Keeps every value up to the sign of zero.
    """

    name: ClassVar[str] = "graph-canonicalize"

    def run(self, module: Graph | Program) -> Graph:
        return rebuild(need_graph(module, self.name), _Simplifier())


class _Simplifier:
    """Simplifies one node whose arguments are simple; equal nodes come out as one object."""

    def __init__(self) -> None:
        self.interned = Interned()
        self.done: dict[int, Node] = {}

    def __call__(self, node: Node) -> Node:
        node = self.interned(node)
        found = self.done.get(id(node))
        if found is None:
            simple = self.step(node)
            found = self(simple) if simple is not None else node
            self.done[id(node)] = found
            self.done.setdefault(id(found), found)
        return found

    def step(self, node: Node) -> Node | None:
        """A simpler node, its arguments simple too; None where no rule applies."""
        for rule in RULES.get(node.op, ELEMENTWISE if node.op in SCALAR_FUNCTIONS else ()):
            simpler = rule(node)
            if simpler is not None:
                return self.arguments(simpler)
        return None

    def arguments(self, node: Node) -> Node:
        """Nodes that a rule has made below its result are simplified, too."""
        if id(node) in self.done or not node.args:
            return node
        args = [a if id(a) in self.done else self(self.arguments(a)) for a in node.args]
        return Node(node.op, args, node.attrs, node.type, node.loc, node.data)


# ------------------------------------------------------------------------------------------------ elementwise
def _fold(node: Node) -> Node | None:
    """A function of numbers is a number."""
    if not all(map(is_splat, node.args)):
        return None
    args = [np.asarray(number_of(a)).astype(a.dtype.numpy) for a in node.args]
    with np.errstate(all="ignore"):
        value = np.asarray(SCALAR_FUNCTIONS[node.op].numpy(*args)).astype(node.dtype.numpy)
    return splat(value.item(), node.dtype, node.shape, node.loc)


def _numbers_right(node: Node) -> Node | None:
    """1 + x -> x + 1."""
    if "commutative" in SCALAR_FUNCTIONS[node.op].facts and is_splat(node.args[0]) and not is_splat(node.args[1]):
        return Node(node.op, node.args[::-1], node.attrs, node.type, node.loc)
    return None


def _neutral(node: Node) -> Node | None:
    """x * 1 -> x."""
    if len(node.args) != 2:
        return None
    value = number_of(node.args[1])
    neutral = REDUCTIONS[node.op].identity(node.dtype) if node.op in REDUCTIONS else RIGHT_NEUTRAL.get(node.op)
    return node.args[0] if value is not None and neutral is not None and value == neutral else None


def _same_twice(node: Node) -> Node | None:
    """max(x, x) -> x, floor(floor(x)) -> floor(x), -(-x) -> x."""
    x = node.args[0]
    if "idempotent" in SCALAR_FUNCTIONS[node.op].facts and x is node.args[1]:
        return x
    if x.op == node.op and node.op in INVOLUTIONS:
        return x.args[0]
    return x if x.op == node.op and node.op in PROJECTIONS else None


def _where(node: Node) -> Node | None:
    if node.op != "where":
        return None
    condition, yes, no = node.args
    value = number_of(condition)
    if yes is no or value is True:
        return yes
    if node.dtype is BOOL and (number_of(yes), number_of(no)) == (True, False):
        return condition
    return no if value is False else None


def _before_repeating(node: Node) -> Node | None:
    """f(broadcast(a), broadcast(b)) -> broadcast(f(a, b)), numbers counting as repeated."""
    repeated = [a for a in node.args if not is_splat(a)]
    if not repeated or any(a.op != "broadcast" for a in repeated):
        return None
    first, dims = repeated[0].args[0], repeated[0].attrs["dims"]
    if any(a.attrs["dims"] != dims or a.args[0].shape != first.shape for a in repeated):
        return None
    args = [splat(number_of(a), a.dtype, first.shape, a.loc) if is_splat(a) else a.args[0] for a in node.args]
    inner = Node(node.op, args, node.attrs, TensorType(node.dtype, first.shape), node.loc)
    return Node("broadcast", [inner], {"dims": dims}, node.type, node.loc)


def _cast(node: Node) -> Node | None:
    x = node.args[0]
    if x.dtype is node.dtype:
        return x
    value = number_of(x)
    if value is None or node.dtype.is_integer and not np.isfinite(value):
        return None
    with np.errstate(all="ignore"):
        number = np.asarray(value).astype(x.dtype.numpy).astype(node.dtype.numpy).item()
        return splat(number, node.dtype, node.shape, node.loc)


# ------------------------------------------------------------------------------------------------ movement
def _of_number(node: Node) -> Node | None:
    """A number that is moved stays one, unless another number is filled in."""
    value = number_of(node.args[0])
    if value is None or node.op == "reindex" and node.attrs["fill"] != value \
            and leaves(node.attrs["map"], node.args[0].shape, node.shape):
        return None
    return splat(value, node.dtype, node.shape, node.loc)


def _identity(node: Node) -> Node | None:
    x = node.args[0]
    if x.shape != node.shape:
        return None
    order = tuple(range(x.type.rank))
    same = {"reshape": lambda: True, "transpose": lambda: tuple(node.attrs["perm"]) == order,
            "broadcast": lambda: tuple(node.attrs["dims"]) == order, "reindex": lambda: projection(node) == order}
    return x if same[node.op]() else None


def _twice(node: Node) -> Node | None:
    """The same kind of movement twice is one."""
    x = node.args[0]
    if x.op != node.op:
        return None
    inner = x.args[0]
    if node.op == "reshape":
        return Node("reshape", [inner], {}, node.type, node.loc)
    if node.op == "transpose":
        return make("transpose", [inner], {"perm": tuple(x.attrs["perm"][p] for p in node.attrs["perm"])}, loc=node.loc)
    if node.op == "broadcast":
        dims = tuple(node.attrs["dims"][d] for d in x.attrs["dims"])
        return Node("broadcast", [inner], {"dims": dims}, node.type, node.loc)
    return compose(node)


def _composed(node: Node) -> Node | None:
    """A reindex on other movement, or other movement on a reindex, is one reindex."""
    return compose(node) if "reindex" in (node.op, node.args[0].op) else None


def _repeat_reordered(node: Node) -> Node | None:
    """broadcast(transpose(x)) and transpose(broadcast(x)) are broadcasts."""
    x = node.args[0]
    if node.op == "broadcast" and x.op == "transpose":
        dims = dict(zip(x.attrs["perm"], node.attrs["dims"]))
        return Node("broadcast", x.args, {"dims": tuple(dims[d] for d in range(len(dims)))}, node.type, node.loc)
    if node.op == "transpose" and x.op == "broadcast":
        perm = node.attrs["perm"]
        return Node("broadcast", x.args, {"dims": tuple(perm.index(d) for d in x.attrs["dims"])}, node.type, node.loc)
    return None


def _repeat_squeezed(node: Node) -> Node | None:
    """A broadcast of a reshape that only adds or drops dimensions of size 1 names the dimensions that are left."""
    x = node.args[0]
    wide = tuple(n for n in x.shape if n != 1)
    if x.op != "reshape" or wide != tuple(n for n in x.args[0].shape if n != 1) or wide == x.shape:
        return None
    inner = Node("reshape", x.args, {}, TensorType(x.dtype, wide), x.loc)
    dims = tuple(d for d, n in zip(node.attrs["dims"], x.shape) if n != 1)
    return Node("broadcast", [inner], {"dims": dims}, node.type, node.loc)


def _only_repeats(node: Node) -> Node | None:
    """A reindex that only repeats and reorders dimensions is a broadcast or a transpose."""
    dims = projection(node)
    if dims is None:
        return None
    if len(dims) == len(node.shape):
        perm = tuple(dims.index(d) for d in range(len(dims)))
        return Node("transpose", node.args, {"perm": perm}, node.type, node.loc)
    return Node("broadcast", node.args, {"dims": dims}, node.type, node.loc)


# ------------------------------------------------------------------------------------------------ reductions
def _reduced_number(node: Node) -> Node | None:
    x, fn = node.args[0], node.attrs["fn"]
    value, count = number_of(x), x.type.size // max(1, node.type.size)
    if value is None or node.type.size == 0:
        return None
    if count == 0:
        return splat(REDUCTIONS[fn].identity(node.dtype), node.dtype, node.shape, node.loc)
    if "idempotent" in SCALAR_FUNCTIONS[fn].facts:
        return splat(value, node.dtype, node.shape, node.loc)
    if fn == "add" and node.dtype.is_float:
        return splat(_rounded(value * count, node.dtype), node.dtype, node.shape, node.loc)
    return None


def _rounded(value: Any, dtype: DType) -> Any:
    with np.errstate(all="ignore"):
        return np.asarray(value).astype(dtype.numpy).item()


def _reduce_nothing(node: Node) -> Node | None:
    """A reduction over axes of size 1 is a reshape."""
    x = node.args[0]
    if any(x.shape[a] != 1 for a in node.attrs["axes"]):
        return None
    return Node("reshape", [x], {}, node.type, node.loc)


def _reduce_again(node: Node) -> Node | None:
    """Two reductions with one function are one, but a contraction stays: its kernel is the fastest that there is."""
    x = node.args[0]
    if x.op != "reduce" or x.attrs["fn"] != node.attrs["fn"] or contraction_bases(x) is not None:
        return None
    rest = [d for d in range(x.args[0].type.rank) if d not in x.attrs["axes"]]
    axes = tuple(sorted((*x.attrs["axes"], *(rest[a] for a in node.attrs["axes"]))))
    return Node("reduce", x.args, {"fn": node.attrs["fn"], "axes": axes}, node.type, node.loc)


def _only_drops(node: Node) -> Node | None:
    """A reindex_reduce whose map picks axes is a reduce, then a transpose."""
    x = node.args[0]
    kept: list[int] = []
    for form, n in zip(node.attrs["map"], node.shape):
        axis = form.as_axis()
        if axis is not None and x.shape[int(axis[1:])] == n:
            kept.append(int(axis[1:]))
        elif n != 1 or form.terms or form.const:
            return None
    if len(set(kept)) != len(kept):
        return None
    order = sorted(kept)
    axes = tuple(d for d in range(x.type.rank) if d not in kept)
    result = make("reduce", [x], {"fn": node.attrs["fn"], "axes": axes}, loc=node.loc) if axes else x
    if kept != order:
        result = make("transpose", [result], {"perm": tuple(order.index(d) for d in kept)}, loc=node.loc)
    return result if result.shape == node.shape else Node("reshape", [result], {}, node.type, node.loc)


def _gather_nothing(node: Node) -> Node | None:
    if node.attrs["dims"]:
        return None
    return Node("reindex", node.args[:1], {"map": node.attrs["map"], "fill": node.attrs["fill"]}, node.type, node.loc)


Rule = Callable[[Node], Node | None]
ELEMENTWISE: tuple[Rule, ...] = (_fold, _numbers_right, _neutral, _same_twice, _where, _before_repeating)
RULES: dict[str, tuple[Rule, ...]] = {
    "cast": (_cast, _before_repeating),
    "broadcast": (_of_number, _identity, _twice, _composed, _repeat_reordered, _repeat_squeezed),
    "transpose": (_of_number, _identity, _twice, _composed, _repeat_reordered),
    "reshape": (_of_number, _identity, _twice),
    "reindex": (_of_number, _identity, _only_repeats, _twice, _composed),
    "reduce": (_reduced_number, _reduce_nothing, _reduce_again),
    "reindex_reduce": (_only_drops,),
    "gather": (_gather_nothing,),
}
