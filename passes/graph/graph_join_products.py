"""`graph-join-products`: a sum of many products of one form is one product of what they multiply, side by side."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from jtc.dialects.batching import batched
from jtc.dialects.build import make, reshaped
from jtc.dialects.graph import Graph, Node, users
from jtc.dialects.kernel import Program
from jtc.dialects.pieces import MANY, piece
from jtc.passes.base import Pass, need_graph
from jtc.passes.graph.rewriting import standing_for, with_args

_MOVED = frozenset({"reshape", "transpose"})
_FOLLOWED = _MOVED | {"broadcast"}


@dataclass(frozen=True)
class GraphJoinProducts(Pass):
    """Sum over the terms of a long sum at once, where all are reductions of one form.

    sum_n a0[n, i] * b0[n, j]  +  sum_n a1[n, i] * b1[n, j]  +  ...   ->   sum_tn A[t, n, i] * B[t, n, j]

    A and B are the operands side by side: part of a `concat` that there is, or a new one where that moves less than
    the partial sums.  The gradient of a weight that every step of a loop multiplies is such a sum: one long product
    instead of one for each step that reads and writes the whole gradient.  Takes more than eight terms.  Changes
    rounding, so it is left out where arithmetic is kept as written (strict).
    """

    name: ClassVar[str] = "graph-join-products"

    def run(self, module: Graph | Program) -> Graph:
        graph = need_graph(module, self.name)
        return _Joiner(graph).run()


@dataclass(frozen=True)
class _Term:
    """A term of a sum: a reduction, perhaps transposed or reshaped.

    moves   the ops that do so, the last one first
    bases   what is reduced or multiplied, below movement
    key     equal for terms of one form
    """

    node: Node
    reduction: Node
    moves: tuple[Node, ...]
    bases: tuple[Node, ...]
    key: tuple


class _Joiner:
    """places: id of a value -> the concats along axis 0 that it is a part of, and where."""

    def __init__(self, graph: Graph):
        self.graph, self.nodes = graph, graph.nodes()
        self.users = users(self.nodes)
        self.kept = {id(n) for n in graph.outputs}
        self.new: dict[int, Node] = {}                 # id of a sum -> what is computed instead
        self.places: dict[int, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            if node.op == "concat" and node.attrs["axis"] == 0 and len({a.type for a in node.args}) == 1:
                self._note(node)

    def run(self) -> Graph:
        for node in self.nodes:
            if node.op == "add" and not self._is_inside(node):
                self._join(node)
        return self._rebuilt() if self.new else self.graph

    def _note(self, concat: Node) -> None:
        for number, arg in enumerate(concat.args):
            for part in (arg, arg.args[0]) if arg.op == "reshape" else (arg,):
                self.places.setdefault(id(part), []).append((concat, number))

    def _is_inside(self, node: Node) -> bool:
        """Whether a sum is only a part of another one."""
        found = self.users[id(node)]
        return id(node) not in self.kept and len(found) == 1 and found[0].op == "add"

    def _join(self, root: Node) -> None:
        leaves = self._leaves(root)
        if len(leaves) <= MANY:
            return
        groups: dict[tuple, list[_Term]] = {}
        for leaf in leaves:
            if (term := _term(leaf)) is not None:
                groups.setdefault(term.key, []).append(term)
        gone: set[int] = set()
        sums: list[Node] = []
        for group in groups.values():
            if len(group) > MANY and (joined := self._joined(root, group)) is not None:
                gone |= {id(t.node) for t in group}
                sums.append(joined)
        if not sums:
            return
        result, *rest = [leaf for leaf in leaves if id(leaf) not in gone] + sums
        for other in rest:
            result = make("add", [result, other], loc=root.loc)
        self.new[id(root)] = standing_for(root, result)

    def _leaves(self, root: Node) -> list[Node]:
        """The terms of a sum, in order."""
        found, pending = [], [root]
        while pending:
            node = pending.pop()
            if node.op == "add" and (node is root or self._is_inside(node)):
                pending += reversed(node.args)
            else:
                found.append(node)
        return found

    def _joined(self, root: Node, group: list[_Term]) -> Node | None:
        """The sum of a group of terms; None where operands would have to be moved that are larger than its terms."""
        columns = [[t.bases[k] for t in group] for k in range(len(group[0].bases))]
        whole = [self._whole(root, column) for column in columns]
        order = next((numbers for _, numbers in filter(None, whole)), list(range(len(group))))
        group = [group[k] for k in order]
        moved, tensors, made = 0, [], []
        for found, column in zip(whole, columns):
            if all(base is column[0] for base in column):
                return None                             # a common factor of the sum
            if found is not None and found[1] == order:
                tensors.append(found[0])
            else:
                moved += column[0].type.bytes
                wide = (1, *column[0].shape)
                made.append(make("concat", [reshaped(column[k], wide) for k in order], {"axis": 0}))
                tensors.append(made[-1])
        if moved > group[0].node.type.bytes:
            return None
        for concat in made:
            self._note(concat)                          # another sum may have the same operands
        return _sum(group[0], tensors, len(group))

    def _whole(self, root: Node, column: Sequence[Node]) -> tuple[Node, list[int]] | None:
        """Values side by side, [count, ...], as they lie in a concat that does not depend on `root`, and their numbers
        in that order; None where there is none, or others lie between them."""
        for concat, _ in self.places.get(id(column[0]), ()):
            at = [next((n for c, n in self.places.get(id(v), ()) if c is concat), -1) for v in column]
            order = sorted(range(len(column)), key=lambda k: at[k])
            first = at[order[0]]
            if [at[k] for k in order] == list(range(first, first + len(column))) and first >= 0 \
                    and not self._depends(concat, root):
                size = concat.args[0].shape[0]
                part = piece(concat, 0, first * size, (first + len(column)) * size)
                return reshaped(part, (len(column), *column[0].shape)), order
        return None

    def _depends(self, node: Node, root: Node) -> bool:
        """Whether a node is computed from `root`, with what has been joined so far."""
        seen: set[int] = set()
        pending = [node]
        while pending:
            node = pending.pop()
            if node is root:
                return True
            if id(node) not in seen:
                seen.add(id(node))
                pending += self.new.get(id(node), node).args
        return False

    def _rebuilt(self) -> Graph:
        done: dict[int, Node] = {id(n): n for n in self.graph.inputs}
        stack = list(self.graph.outputs)
        while stack:
            old = stack[-1]
            node = self.new.get(id(old), old)
            missing = [a for a in node.args if id(a) not in done]
            if id(old) in done or not missing:
                stack.pop()
                done.setdefault(id(old), with_args(node, [done[id(a)] for a in node.args]))
            else:
                stack += missing
        return replace(self.graph, outputs=[done[id(n)] for n in self.graph.outputs])


def _term(node: Node) -> _Term | None:
    """A reduction of a value, or of a product of two, each moved by ops that are the same for any batch of values."""
    inner = node
    moves: list[Node] = []
    key: list[object] = []
    while inner.op in _MOVED:
        moves.append(inner)
        inner = inner.args[0]
    if inner.op != "reduce" or inner.attrs["fn"] != "add" or not inner.args[0].type.size:
        return None
    bases: list[Node] = []
    for factor in _factors(inner):
        path, base = _followed(factor)
        key += [*map(_form, path), base.type, "factor"]
        bases.append(base)
    return _Term(node, inner, tuple(moves), tuple(bases), (*map(_form, moves), _form(inner), *key))


def _form(node: Node) -> tuple:
    return node.op, repr(node.attrs), node.type


def _factors(reduction: Node) -> tuple[Node, ...]:
    inner = reduction.args[0]
    return inner.args if inner.op == "mul" else (inner,)


def _followed(node: Node) -> tuple[list[Node], Node]:
    """The movement ops above a value, the last one first, and the value."""
    path = []
    while node.op in _FOLLOWED:
        path.append(node)
        node = node.args[0]
    return path, node


def _sum(term: _Term, tensors: Sequence[Node], count: int) -> Node:
    """The sum of `count` terms like this one, whose bases are `tensors`, [count, ...]."""
    factors = []
    for factor, tensor in zip(_factors(term.reduction), tensors):
        for step in reversed(_followed(factor)[0]):
            tensor = batched(step, [tensor], [True], count)
        factors.append(tensor)
    inner = term.reduction.args[0]
    product = make("mul", factors, loc=inner.loc) if inner.op == "mul" else factors[0]
    axes = (0, *(a + 1 for a in term.reduction.attrs["axes"]))
    result = make("reduce", [product], {"fn": "add", "axes": axes}, loc=term.reduction.loc)
    for step in reversed(term.moves):
        result = make(step.op, [result], step.attrs, step.type, step.loc)
    return result
