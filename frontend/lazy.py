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

from jtc.dialects.graph import Graph, Node, topological
from jtc.frontend import execute, values
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import is_splat, untraced

PENDING_LIMIT = 4000        # nodes; a longer program is cut here, which bounds memory and compile time


class _State(threading.local):
    """Per thread: tensors without a value by number of their node, and about how many nodes are pending."""

    def __init__(self) -> None:
        self.tensors: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()
        self.recorded = 0


_state = _State()


def pending(tensor: Tensor) -> None:
    """Note a tensor whose node has just been recorded; runs it where too much has piled up behind it."""
    _state.tensors[tensor._node.number] = tensor               # type: ignore[union-attr]
    _state.recorded += 1
    if _state.recorded > PENDING_LIMIT:
        _state.recorded = len(topological([tensor._node]))     # type: ignore[list-item]
        if _state.recorded > PENDING_LIMIT // 2:
            evaluate([tensor])


def evaluate(tensors: Iterable[Tensor]) -> None:
    """Compute the values of tensors, in one graph, with the pending tensors that share work with them."""
    wanted = []
    for tensor in tensors:
        if tensor._buffer is None and tensor._node.op == "input":          # type: ignore[union-attr]
            # It was computed through another tensor of that node.
            tensor._buffer = tensor._node.data                             # type: ignore[union-attr]
        if tensor._buffer is None:
            wanted.append(tensor)
    if not wanted:
        return
    for tensor in [t for t in wanted if is_splat(t._node)]:               # type: ignore[arg-type]
        _settle(tensor, values.splat(tensor._node.type, tensor._node.attrs["value"]))        # type: ignore[union-attr]
        wanted.remove(tensor)
    if not wanted:
        return
    results = _with_relatives(wanted)
    graph, leaves = lazy_graph([t._node for t in results])     # type: ignore[misc]
    with untraced():
        buffers = execute.compiled(graph).run([leaf.data for leaf in leaves])
    for tensor, buffer in zip(results, buffers, strict=True):
        _settle(tensor, buffer)
    _state.recorded = 0


def _settle(tensor: Tensor, buffer: values.Buffer) -> None:
    """Give a pending tensor its value.

    Its node becomes an input in place: pending users of it start from the value, and what led to it is freed.
    """
    node = tensor._node
    node.op, node.args, node.attrs, node.data = "input", (), {}, buffer              # type: ignore[union-attr]
    tensor._buffer = buffer
    _state.tensors.pop(node.number, None)                                            # type: ignore[union-attr]


def _with_relatives(wanted: Sequence[Tensor]) -> list[Tensor]:
    """`wanted`, the pending tensors among what they need, and those that need something of it too."""
    shared = {id(n) for n in topological([t._node for t in wanted]) if n.args}       # type: ignore[misc]
    results = {id(t._node): t for t in wanted}
    for tensor in list(_state.tensors.values()):
        node = tensor._node
        if node is None or tensor._buffer is not None or id(node) in results:
            continue
        if id(node) in shared or any(id(n) in shared for n in topological([node])):
            results[id(node)] = tensor
    return sorted(results.values(), key=lambda t: t._node.number)                    # type: ignore[union-attr]


def lazy_graph(outputs: Sequence[Node]) -> tuple[Graph, list[Node]]:
    """The graph that computes pending nodes, and the leaves (nodes with a value in `data`) that are its inputs.

    The leaves are inputs in the order of their first use, so two computations of one form give equal graphs.
    """
    leaves = [n for n in topological(outputs) if n.op == "input"]
    return Graph("lazy", leaves, list(outputs)), leaves


def sync(*trees: Any) -> None:
    """Wait until the values of all tensors in `trees` are computed; without arguments, of all pending tensors."""
    from jtc.frontend.tree import tensors_in
    found = [t for tree in trees for t in tensors_in(tree)] if trees else list(_state.tensors.values())
    evaluate(found)
    for tensor in found:
        tensor.value().wait()

