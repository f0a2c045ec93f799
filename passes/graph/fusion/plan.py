"""Which values of a graph get a buffer, and why.

Everything else is recomputed where it is read, inside the kernels of its readers.  The rules, applied forward in the
order of computation, then backward over the readers, until nothing changes:

* outputs, and what a kernel cannot hold (see values.Cut), get one
* a value that is reduced but not finished (an open reduction) stays open through elementwise ops and one-to-one
  movement, so that these become the reduction's epilogue; before it is repeated, padded or reduced again it gets a
  buffer
* where two open reductions meet, the smaller one gets a buffer, with all that was computed on it so far
* a value read in several ways (by several kernels, or at several places of one) gets a buffer where a reduction is
  open, or where computing it again costs more than COST_REPEATED or reads more than LEAVES_REPEATED tensors; the first
  kind loses it again where what it is computed from gets one, too
* a value that is repeated (broadcast, windows) gets one where that costs more than COST_EXPANDED a repetition; where it
  depends on its place only and reads nothing, more than COST_PLACED: a causal mask is computed where it is used
* a value that depends on its place (iota) gets one where more than MANY pieces of it are read: with the place as a
  constant in each, no two readers would be the same kernel
* the factors of a contraction get one unless they are mere movement
* what is converted to a wider type gets it before that: readers convert
* what only a transpose reads gets its buffer above that, in the order of its readers, where rows stay rows
* what depends on weights only gets one where it meets values that do not: it is then computed once, when weights are
  bound
* with `apart`, every result of an operation gets one, except where data only moves, and products that are larger than
  what they multiply and are summed at once

Costs are those of the op table, in vector instructions; each tensor read beyond the first counts READ_COST.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from jtc.dialects.graph import Graph, Node, is_splat, is_weights, topological, users
from jtc.dialects.optable import SCALAR_FUNCTIONS
from jtc.dialects.pieces import MANY
from jtc.passes.graph.fusion.costs import (
    REDUCTION_OPS,
    SCANS,
    affine_places,
    contraction_bases,
    one_to_one,
    op_cost,
    repetitions,
    trailing,
)
from jtc.passes.graph.fusion.inverse import is_gatherable, reduces
from jtc.passes.graph.fusion.movement import MOVEMENT

COST_REPEATED = 8.0         # half of an exp; a division is recomputed, an exp is not
LEAVES_REPEATED = 3         # reading a row of more tensors twice costs more than writing the result
COST_EXPANDED = 2.0         # one or two instructions hide behind the load they follow
COST_PLACED = 6.0           # what would be stored is read again, and tested; and it takes memory
COST_REPEATS = 8.0          # a value read 1.2 times on average may cost 40
READ_COST = 0.5
MAX_DEPTH = 48              # ops from a kernel's root to its reads
MAX_SIZE = 192              # ops in one kernel's stage
MAX_LEAVES = 24             # tensors that one kernel reads
MAX_PATHS = 6               # readers are told apart up to this number
WEIGHTS_ONLY = "it depends on weights only: computed once"
APART = "every operation is a kernel of its own"


@dataclass
class Facts:
    """What is known of a value that has no buffer.

    open    the reduction that is not finished in it, None where there is none
    leaves  ids of the tensors that computing it reads
    depth   ops between it and its leaves
    size    ops to compute it, each counted once
    """

    open: Node | None = None
    leaves: frozenset[int] = frozenset()
    depth: int = 0
    size: int = 0


@dataclass
class Plan:
    """order: all nodes, arguments first; reasons: id of each node that gets a buffer -> why, without inputs and
    weights."""

    graph: Graph
    order: list[Node]
    reasons: dict[int, str] = field(default_factory=dict)

    def roots(self) -> list[Node]:
        return [n for n in self.order if id(n) in self.reasons]

    def has_buffer(self, node: Node) -> bool:
        return id(node) in self.reasons or is_source(node)

    def kept(self) -> set[int]:
        """Ids of all values with a buffer."""
        return {id(n) for n in self.order if self.has_buffer(n)}


def is_source(node: Node) -> bool:
    """Inputs and weights: what has a buffer from the start."""
    return node.op == "input" or is_weights(node)


def widens(node: Node) -> bool:
    """Whether a node converts to a type that takes more memory."""
    return node.op == "cast" and node.dtype.bytes > node.args[0].dtype.bytes


def is_outer_product(node: Node) -> bool:
    """Whether a node multiplies values that are repeated for it: it is larger than both."""
    if node.op != "mul":
        return False
    factors = list(node.args)
    while any(f.op in MOVEMENT for f in factors):
        factors = [f.args[0] if f.op in MOVEMENT else f for f in factors]
    return node.type.size > max(f.type.size for f in factors)


def weight_only(order: Iterable[Node]) -> set[int]:
    """Ids of the values that depend on weights, and on nothing that changes from run to run."""
    fixed: dict[int, bool] = {}        # id -> whether weights are among what it depends on
    for node in order:
        if node.op != "input" and all(id(a) in fixed for a in node.args):
            fixed[id(node)] = is_source(node) or any(fixed[id(a)] for a in node.args)
    return {key for key, weighty in fixed.items() if weighty}


def make_plan(graph: Graph, outputs: Iterable[Node], forced: dict[int, str], apart: bool = False) -> Plan:
    """The plan for a graph.

    outputs   the nodes to write, none of them a source
    forced    id of a node -> why it is cut
    apart     whether every operation gets a buffer, as far as that is possible
    """
    roots = list(outputs)
    plan = Plan(graph, topological(roots, graph.inputs))
    plan.reasons = {id(n): "it is an output" for n in roots} | forced
    planner = _Planner(plan, apart)
    first = dict(plan.reasons)
    planner.forward()                   # a first guess, for the rules on readers
    planner.guess, plan.reasons = set(plan.reasons), first
    planner.backward()
    planner.guess = set()
    while True:
        before = set(plan.reasons)
        planner.forward()
        if planner.release():
            planner.forward()
        planner.backward()
        if plan.reasons.keys() == before:
            return plan


class _Planner:
    def __init__(self, plan: Plan, apart: bool):
        self.plan, self.apart = plan, apart
        self.users = users(plan.order)
        self.weighty = weight_only(plan.order)
        self.facts: dict[int, Facts] = {}
        self.opened: set[int] = set()       # ids of values in which a reduction is open, or would be without a buffer
        self.guess: set[int] = set()        # ids of values that probably get a buffer
        self.unfinished: set[int] = set()   # ids of values that got one because a reduction was open in them
        self.sizes = {id(n): n.type.size for n in plan.order}
        self.reducing = {id(n) for n in plan.order if n.op in REDUCTION_OPS and reduces(n) or n.op in SCANS}
        self.factors = {id(n): contraction_bases(n) for n in plan.order if n.op in REDUCTION_OPS}
        self.affine = affine_places(plan.order)
        self.placed: set[int] = set()       # ids of values in which the place is known, without a buffer in between
        self.summed = {id(n.args[0]) for n in plan.order if n.op in REDUCTION_OPS and is_outer_product(n.args[0])}

    def cut(self, node: Node, reason: str) -> None:
        """Give a value a buffer; under movement, the value that is moved."""
        node = self.base(node)
        if not is_splat(node) and not self.plan.has_buffer(node):
            node = self.to_store(node)
            self.plan.reasons[id(node)] = WEIGHTS_ONLY if id(node) in self.weighty else reason
            self.facts[id(node)] = Facts(leaves=frozenset([id(node)]))
            self.refresh(node)

    def refresh(self, node: Node) -> None:
        """Renew the facts of what was computed from a value before it was cut."""
        pending = {node.number: node}
        while pending:
            for user in self.users[id(pending.pop(min(pending)))]:
                known = self.facts.get(id(user))
                if known is not None and not self.plan.has_buffer(user):
                    fresh = self.join(user)
                    if fresh != known:
                        self.facts[id(user)] = fresh
                        (self.opened.discard if fresh.open is None else self.opened.add)(id(user))
                        pending[user.number] = user

    def base(self, node: Node) -> Node:
        """The value below movement ops, and below conversions to a wider type, which readers do themselves."""
        while (node.op in MOVEMENT or widens(node)) and not self.plan.has_buffer(node):
            node = node.args[0]
        return node

    def as_read(self, node: Node) -> Node:
        """What a transpose makes of `node`, where only that reads it: stored, its readers find it in their order.

        Rows have to stay rows, but for contractions: these write any order.
        """
        while len(self.users[id(node)]) == 1 and not self.plan.has_buffer(node):
            reader, = self.users[id(node)]
            opened = self.join(node).open
            product = opened is not None and self.factors.get(id(opened)) is not None
            if reader.op != "transpose" or not product and reader.attrs["perm"][-1] != node.type.rank - 1:
                break
            node = reader
        return node

    def to_store(self, node: Node) -> Node:
        """The value that gets a buffer in place of `node`, which has none."""
        moved = self.as_read(node)
        return node if self.plan.has_buffer(moved) else moved

    # -------------------------------------------------------------------------------------------- forward
    def forward(self) -> None:
        self.facts, self.opened, self.placed = {}, set(), set()
        for node in self.plan.order:
            if node.op == "iota" or any(id(a) in self.placed for a in node.args):
                self.placed.add(id(node))
            if is_source(node) or is_splat(node):
                facts = self.join(node)
            else:
                facts = self.rules(node)
                if self.apart and node.op not in MOVEMENT and not widens(node) and id(node) not in self.summed:
                    self.plan.reasons.setdefault(id(node), WEIGHTS_ONLY if id(node) in self.weighty else APART)
            if facts.open is not None:
                self.opened.add(id(node))
            if self.plan.has_buffer(node):
                facts = Facts(leaves=frozenset([id(node)]))
                self.placed.discard(id(node))
            self.facts[id(node)] = facts

    def join(self, node: Node) -> Facts:
        parts = [self.facts[id(a)] for a in node.args]
        opened = node if id(node) in self.reducing else next((p.open for p in parts if p.open is not None), None)
        size = sum(p.size for p in parts)
        if size >= MAX_SIZE:            # perhaps some are counted twice
            size = sum(not self.plan.has_buffer(n) for n in self.below(*node.args))
        return Facts(opened, frozenset().union(*(p.leaves for p in parts)),
                     1 + max((p.depth for p in parts), default=0), 1 + size)

    def rules(self, node: Node) -> Facts:
        """What is known of a node when it, or what it is computed from, has got the buffers that it needs."""
        if node.op in MOVEMENT:
            self.movement(node)
        elif node.op == "concat":
            self.plan.reasons.setdefault(id(node), f"{len(node.args)} tensors are written into it")
            return self.join(node)
        elif node.op in SCANS:
            for arg in node.args:
                self.finish(arg, "it is reduced and then scanned")
        elif id(node) in self.reducing:
            self.reduction(node)
        elif node.op in ("gather", "scatter"):
            self.indexed(node)
        elif node.op == "random":
            self.finish(node.args[0], "every random number needs it")
            if self.cost(node.args[0]) > COST_EXPANDED:
                self.cut(node.args[0], "every random number needs it")
        else:
            self.meet(node)
        self.weights(node)
        return self.limits(node)

    def finish(self, node: Node, reason: str) -> None:
        """Cut where a reduction is open."""
        if self.facts[id(node)].open is not None:
            self.cut(node, reason)

    def movement(self, node: Node) -> None:
        x, facts = node.args[0], self.facts[id(node.args[0])]
        times = repetitions(node)
        if node.op == "reindex" and id(x) in self.placed and len(self.users[id(x)]) > MANY:
            self.cut(x, f"it depends on its place, and {len(self.users[id(x)])} pieces of it are read")
        elif facts.open is not None and (times > 1 or not one_to_one(node)):
            self.cut(x, "it is reduced and then " + ("repeated" if times > 1 else "read outside of its range"))
        elif times > 1 and not is_splat(x) and x.op not in MOVEMENT:
            cost = self.cost(x) / trailing(node)
            if cost > (COST_EXPANDED if facts.leaves else COST_PLACED) and cost * (times - 1) > COST_REPEATS:
                self.cut(x, f"each element is read {times:.3g} times and costs {cost:.3g} instructions")

    def reduction(self, node: Node) -> None:
        if node.op == "reindex_reduce" and not is_gatherable(node):
            self.plan.reasons.setdefault(id(node), "its index map has no inverse, so it is written as a scatter")
        self.finish(node.args[0], "it is reduced and then reduced again")
        if self.plan.has_buffer(node.args[0]):
            return
        for factor in self.factors[id(node)] or ():
            if self.plan.has_buffer(self.as_read(factor)):
                continue
            if self.facts[id(factor)].open is not None or self.cost(factor) > 0:
                self.cut(factor, "it is a factor of a contraction, which reads each element many times")

    def indexed(self, node: Node) -> None:
        x, *rest = node.args
        if node.op == "gather":
            while x.op == "reshape" and not self.plan.has_buffer(x):
                x = x.args[0]
            if not self.plan.has_buffer(x):
                self.plan.reasons[id(x)] = "it is gathered from at places that depend on data"
                self.facts[id(x)] = Facts(leaves=frozenset([id(x)]))
        else:
            self.plan.reasons.setdefault(id(node), "a scatter writes its result in place")
        for index in rest:
            self.finish(index, "it is reduced and then used as an index" if node.op == "gather" else
                        "it is reduced and then scattered")

    def meet(self, node: Node) -> None:
        """At most one open reduction goes into an elementwise op: the largest, and of equal ones the last."""
        found = {id(f.open): f.open for f in (self.facts[id(a)] for a in node.args) if f.open is not None}
        if len(found) > 1:
            kept = max(found.values(), key=lambda r: (r.args[0].type.size, r.number))
            for arg in node.args:
                opened = self.facts[id(arg)].open
                if opened is not None and opened is not kept:
                    self.cut(arg, "its reader holds another reduction")

    def weights(self, node: Node) -> None:
        if id(node) in self.weighty:
            return
        for arg in node.args:
            base = self.base(arg)
            if id(base) in self.weighty and (self.facts[id(base)].open is not None or self.cost(base) > 0):
                self.cut(base, WEIGHTS_ONLY)

    def limits(self, node: Node) -> Facts:
        """Kernels of bounded size: the deepest, largest and widest arguments get buffers.  What is known then."""
        facts = self.join(node)
        while facts.depth > MAX_DEPTH:
            self.part(max(node.args, key=lambda a: self.facts[id(a)].depth), f"its kernel is {MAX_DEPTH} ops deep")
            facts = self.join(node)
        while facts.size > MAX_SIZE:
            self.part(max(node.args, key=lambda a: self.facts[id(a)].size), f"its kernel has {MAX_SIZE} ops")
            facts = self.join(node)
        while len(facts.leaves) > MAX_LEAVES:
            widest = max(node.args, key=lambda a: len(self.facts[id(a)].leaves))
            if len(self.facts[id(widest)].leaves) <= 1:
                break
            self.cut(widest, f"its kernel reads {MAX_LEAVES} tensors")
            facts = self.join(node)
        return facts

    def part(self, node: Node, reason: str) -> None:
        """Cut, or where only movement is left above a tensor, give the moved value itself a buffer."""
        if self.plan.has_buffer(self.base(node)) or is_splat(self.base(node)):
            self.plan.reasons[id(node)] = reason
            self.facts[id(node)] = Facts(leaves=frozenset([id(node)]))
            self.refresh(node)
        else:
            self.cut(node, reason)

    def below(self, *nodes: Node) -> Iterator[Node]:
        """The nodes and what they are computed from, down to what has a buffer or will probably have one; each once."""
        seen: set[int] = set()
        stack = list(nodes)
        while stack:
            value = stack.pop()
            if id(value) not in seen:
                seen.add(id(value))
                yield value
                if not self.plan.has_buffer(value) and (value in nodes or id(value) not in self.guess):
                    stack += value.args

    def cost(self, node: Node) -> float:
        """Instructions to compute one element again, without what has a buffer; 0 for mere movement."""
        leaves = total = 0.0
        for value in self.below(node):
            if self.plan.has_buffer(value) or value is not node and id(value) in self.guess:
                leaves += 1
            elif id(value) not in self.affine or value.op == "iota":
                total += op_cost(value)
        return total + READ_COST * max(0.0, leaves - 1)

    # -------------------------------------------------------------------------------------------- backward
    def backward(self) -> None:
        """Give a buffer to what is read in several ways and is dear.

        A way (path) is the kernel that reads, and the ops that move or reduce on the way there: two readers of one path
        read the same element at the same time and share its computation.
        """
        numbers: dict[tuple[int, ...], int] = {}
        paths: dict[int, set[int]] = {}

        def number(*key: int) -> int:
            return numbers.setdefault(key, len(numbers))

        for node in reversed(self.plan.order):
            own: set[int] = set()
            if id(node) in self.plan.reasons:
                own.add(number(id(node)))
            else:
                for user in self.users[id(node)]:
                    for slot, arg in enumerate(user.args):
                        if arg is node:
                            moved = user.op not in SCALAR_FUNCTIONS and user.op != "cast"
                            own |= {number(p, id(user), slot) for p in paths[id(user)]} if moved else paths[id(user)]
            if len(own) > 1 and id(node) not in self.plan.reasons and self.is_dear(node, len(own)):
                own = {number(id(node))}
            paths[id(node)] = set(sorted(own)[:MAX_PATHS])

    def release(self) -> bool:
        """Take buffers back from values in which no reduction is open by now: what they are computed from has got one.

        Each is then decided upon once more, by its cost.  True where there were any.
        """
        released = [n for n in self.plan.order if id(n) in self.unfinished and self.join(n).open is None]
        for node in released:
            del self.plan.reasons[id(node)]
        self.unfinished.clear()
        return bool(released)

    def is_dear(self, node: Node, count: int) -> bool:
        """Decide on a value that is read in `count` ways; True where it got a buffer."""
        if is_source(node) or is_splat(node) or node.op in MOVEMENT or widens(node):
            return False
        stored = self.to_store(node)
        if id(node) in self.opened:
            reason = f"it is reduced and then read in {count} ways"
            self.unfinished.add(id(stored))
        else:
            cost = self.cost(node)
            full = [leaf for leaf in self.facts[id(node)].leaves if self.sizes[leaf] * 2 >= node.type.size]
            if cost > COST_REPEATED or count >= MAX_PATHS and cost > COST_EXPANDED:
                reason = f"it is read in {count} ways and costs {cost:.3g} instructions"
            elif len(full) > LEAVES_REPEATED:
                reason = f"it is read in {count} ways and reads {len(full)} tensors"
            else:
                return False
        self.plan.reasons[id(stored)] = reason
        return True
