"""Outside of `jit`: operations are recorded, and compiled and run together when a value is needed.

Asking for the value of a tensor takes its pending nodes as one graph.  The values in memory that they start from
become the inputs; results that somebody still holds become outputs as well, so that nothing is computed twice.  A
graph of the same form is compiled once per process.
"""
from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from jtc.dialects.gradients import STOP
from jtc.dialects.graph import Graph, Node, is_splat, topological
from jtc.frontend import execute, values
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import trace_error, untraced

PENDING_LIMIT = 4000        # nodes; a longer program is cut here, which bounds memory and compile time
TRACKED_LIMIT = 40_000      # where gradients may be taken, which would compute again what was cut off


class _State(threading.local):
    """Per thread: tensors without a value by number of their node; those of them that were assigned to, whose history
    ends when they get their value; the nodes that these stood for before, by the new ones; about how many nodes are
    pending, and how many before that is looked into."""

    def __init__(self) -> None:
        self.tensors: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()
        self.assigned: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()     # by id
        self.replaced: weakref.WeakKeyDictionary[Node, weakref.ref[Node]] = weakref.WeakKeyDictionary()
        self.recorded, self.limit = 0, PENDING_LIMIT


_state = _State()
_lock = threading.RLock()                # nodes change in place, and threads may share them


def pending(tensor: Tensor) -> None:
    """Note a tensor whose node has just been recorded; runs it where too much has piled up behind it."""
    _state.tensors[tensor._node.number] = tensor               # type: ignore[union-attr]
    _state.recorded += 1
    if _state.recorded > _state.limit:
        order = topological([tensor._node])                    # type: ignore[list-item]
        limit = TRACKED_LIMIT if id(tensor._node) in _tracked(order) else PENDING_LIMIT // 2
        if len(order) > limit and not _symbolic(order):
            evaluate([tensor])
        else:
            _state.recorded, _state.limit = len(order), len(order) + PENDING_LIMIT


def assigned(tensor: Tensor, old: Node) -> None:
    """Note a tensor that got another node: it is state, and starts anew from its value once that is computed."""
    pending(tensor)
    _state.assigned[id(tensor)] = tensor
    if tensor._node is not old:
        _state.replaced[tensor._node] = weakref.ref(old)       # type: ignore[index]


def end_history(tensor: Tensor) -> None:
    """Forget what a tensor was computed from as soon as it has its value."""
    if tensor._buffer is not None and tensor._node is not None:
        tensor._node.history = None
    else:
        _state.assigned[id(tensor)] = tensor


def evaluate(tensors: Iterable[Tensor]) -> None:
    """Compute the values of tensors, in one graph, with the pending tensors that share work with them."""
    with _lock:
        waiting = [t for t in tensors if t._buffer is None]
        nodes = [t._node for t in waiting if t._node is not None]
        for node in nodes:
            if is_splat(node):
                _settle(node, values.splat(node.type, node.attrs["value"]))
        _need_values(nodes)
        results = _with_relatives([n for n in nodes if n.op != "input"])
        if results:
            graph, leaves = lazy_graph(results)
            _need_values(leaves)
            with untraced():
                buffers = execute.compiled(graph).run([leaf.data for leaf in leaves])
            tracked = _tracked(graph.nodes())
            for node, buffer in zip(results, buffers, strict=True):
                _settle(node, buffer, id(node) in tracked)
            _state.recorded, _state.limit = 0, PENDING_LIMIT
        for tensor in waiting:
            tensor._buffer = tensor._node.data                 # type: ignore[union-attr]


def evaluate_state(tensors: Iterable[Tensor]) -> None:
    """Compute tensors, and all that was assigned to: after a step of a loop, nothing of its state is pending."""
    evaluate([*tensors, *(t for t in list(_state.assigned.values()) if t._buffer is None)])


def _need_values(nodes: Iterable[Node]) -> None:
    if _symbolic(nodes):
        raise trace_error("the value of a tensor that stands for one example of vmap is not known",
                          "compute with jtc functions, or ask for it outside of the mapped function")


def _symbolic(nodes: Iterable[Node]) -> bool:
    """Whether one of the nodes stands for one example of vmap, and so has no value."""
    return any([n.op == "input" and n.data is None for n in nodes])


def _tracked(order: Iterable[Node]) -> set[int]:
    """Ids of the nodes (arguments first) that depend on what gradients are taken by, and let them through."""
    found: set[int] = set()
    for node in order:
        if node.history is not None or any([id(a) in found for a in node.args]) and node.data is not STOP:
            found.add(id(node))
    return found


def _settle(node: Node, buffer: values.Buffer, tracked: bool = False) -> None:
    """Give a pending node its value, and the tensors that stand for it.

    It becomes an input in place: pending users of it start from the value, and what led to it is freed, unless
    gradients may want it.
    """
    tensor = _state.tensors.pop(node.number, None)
    if tensor is not None and _state.assigned.pop(id(tensor), None) is not None:
        node.history = True if tensor.requires_grad else None
    elif tracked:
        node.history = Node(node.op, node.args, node.attrs, node.type, node.loc, node.data)
    node.op, node.args, node.attrs, node.data = "input", (), {}, buffer
    if tensor is not None and tensor._node is node:
        tensor._buffer = buffer


def _with_relatives(wanted: Sequence[Node]) -> list[Node]:
    """`wanted`, the nodes of held tensors among what they need, and of held tensors that need something of it too."""
    related = {id(n) for n in topological(wanted) if n.args}
    if not related:
        return sorted(wanted, key=lambda n: n.number)
    held = [t._node for t in list(_state.tensors.values()) if t._node is not None and t._buffer is None]
    symbolic: set[int] = set()
    for node in topological(held):
        if any([id(a) in related for a in node.args]):
            related.add(id(node))
        if node.op == "input" and node.data is None or any([id(a) in symbolic for a in node.args]):
            symbolic.add(id(node))
    results = {id(n): n for n in wanted} | {id(n): n for n in held if id(n) in related - symbolic}
    return sorted(results.values(), key=lambda n: n.number)


def lazy_graph(outputs: Sequence[Node]) -> tuple[Graph, list[Node]]:
    """The graph that computes pending nodes, and the leaves (nodes with a value in `data`) that are its inputs.

    The leaves are inputs in the order of their first use, so two computations of one form give equal graphs.
    """
    leaves = [n for n in topological(outputs) if n.op == "input"]
    number = {id(n): i for i, n in enumerate(leaves)}
    updates: dict[int, int] = {}
    for i, node in enumerate(outputs):
        old = _first_value(node)
        if id(old) in number and number[id(old)] not in updates.values():
            updates[i] = number[id(old)]
    return Graph("lazy", leaves, list(outputs), updates=updates), leaves


def _first_value(node: Node) -> Node | None:
    """The value in memory of the tensor that now stands for a pending node; None where it never stood for another."""
    old: Node | None = node
    while old is not None and (old is node or old.op != "input"):
        earlier = _state.replaced.get(old)
        old = earlier() if earlier is not None else None
    return old


def sync(*trees: Any) -> None:
    """Wait until the values of all tensors in `trees` are computed; without arguments, of all pending tensors."""
    found = _tensors(trees) if trees else list(_state.tensors.values())
    waiting = [tensor for tensor in found if tensor._buffer is None]
    for tensor in waiting:
        if tensor._tracer is not None:
            tensor.value("sync()")                             # raises: it has no value yet
    if waiting:
        evaluate(waiting)
    for tensor in found:
        tensor._buffer.wait()                                  # type: ignore[union-attr]


def _tensors(trees: Sequence[Any]) -> list[Tensor]:
    """The tensors in `trees`; a loop of small steps ends with this, so lists of tensors are not searched further."""
    found: list[Tensor] = []
    for tree in trees:
        if type(tree) is Tensor:
            found.append(tree)
        elif type(tree) in (list, tuple) and all([type(item) is Tensor for item in tree]):
            found += tree
        else:
            from jtc.frontend.tree import tensors_in
            found += tensors_in(tree)
    return found
