"""Reverse mode on recorded nodes: from cotangents of some nodes to those of the nodes they depend on.

Gradients are nodes like any others.  Nothing is computed here: what is recorded is compiled together with the forward
pass, inside `jit` and outside.  docs/gradients.md tells the whole; the rules are in `dialects/gradients.py`.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jtc.dialects.build import located, splat, zeros
from jtc.dialects.errors import InputError
from jtc.dialects.gradients import RULES, STOP, Cotangents, cotangents
from jtc.dialects.graph import Node, TensorType
from jtc.dialects.pieces import total
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, shown

BLOCKING = {"arg_reduce": "argmax or argmin", "random": "random numbers"}


@dataclass(eq=False)
class Block:
    """Nodes with a gradient of their own: reverse mode steps from the cotangents of `outputs` to those of `inputs`.

    Both are aliases (see `alias`), so that what happens between them is not seen.
    backward  cotangents of all outputs (None: zero) -> cotangents of all inputs
    """

    inputs: list[Node]
    backward: Callable[[Sequence[Node | None]], Cotangents]
    outputs: list[Node] = field(default_factory=list)


def alias(node: Node, data: object = None) -> Node:
    """Another node with the same value.  `data` says what it means to gradients (a Rule or Block)."""
    return Node("reshape", (node,), {}, node.type, node.loc, data)


def origin(node: Node) -> Node:
    """The node as it was recorded; outside of `jit` a node whose value has been computed is an input since."""
    return node.history if isinstance(node.history, Node) else node


def block_of(node: Node) -> Block | None:
    """The block that a node is a result of, if any."""
    data = origin(node).data
    return data if isinstance(data, Block) else None


def parents(node: Node) -> Sequence[Node]:
    """The nodes that a cotangent of this one is passed on to."""
    made = origin(node)
    if made.data is STOP:
        return ()
    return made.data.inputs if isinstance(made.data, Block) else made.args


def between(outputs: Sequence[Node], wrt: Sequence[Node]) -> list[Node]:
    """The float nodes on the ways from `wrt` to `outputs`, arguments first."""
    wanted = {id(n) for n in wrt}
    reaches: dict[int, bool] = {}
    order: list[Node] = []
    stack = [(n, False) for n in reversed(outputs)]
    while stack:
        node, entered = stack.pop()
        if entered:
            reaches[id(node)] = id(node) in wanted or any(reaches[id(p)] for p in parents(node))
            if reaches[id(node)]:
                order.append(node)
        elif id(node) not in reaches:
            reaches[id(node)] = False                    # not known yet, but entered
            if node.dtype.is_float:
                stack.append((node, True))
                stack += [(p, False) for p in parents(node) if id(p) not in reaches]
    return order


def reverse(outputs: Sequence[Node], given: Sequence[Node | None], wrt: Sequence[Node]) -> list[Node | None]:
    """The cotangents of `wrt`, where those of `outputs` are `given` (None: zero); None where nothing arrives."""
    order = between(outputs, wrt)
    useful = {id(n) for n in order}
    arrived: dict[int, list[Node]] = {id(n): [] for n in order}
    for node, g in zip(outputs, given, strict=True):
        if g is not None and id(node) in useful:
            arrived[id(node)].append(g)
    sums: dict[int, Node | None] = {}
    done: set[int] = set()
    first = _first_outputs(order)
    for node in reversed(order):
        g = sums[id(node)] = total(arrived[id(node)])
        made = origin(node)
        with located(made.loc):
            if isinstance(made.data, Block):
                if first[id(made.data)] is not node or id(made.data) in done:
                    continue                             # all of the block's outputs have their cotangents at its first
                done.add(id(made.data))
                gs = [sums.get(id(n)) for n in made.data.outputs]
                found = made.data.backward(gs) if any(x is not None for x in gs) else ()
            else:
                found = _passed_on(made, g, node) if g is not None and made.data is not STOP and made.args else ()
        for parent, part in zip(parents(node), found):
            if part is not None and id(parent) in useful:
                arrived[id(parent)].append(part)
    return [sums.get(id(n)) for n in wrt]


def _passed_on(made: Node, g: Node, value: Node) -> Cotangents:
    if made.op not in RULES:
        raise input_error(f"{made.op} has no gradient rule", "add one to dialects/gradients.py")
    return cotangents(made, g, value)


def _first_outputs(order: Sequence[Node]) -> dict[int, Node]:
    """id of a block -> the first of its outputs in the order."""
    found: dict[int, Node] = {}
    for node in order:
        block = block_of(node)
        if block is not None:
            found.setdefault(id(block), node)
    return found


def seed(type: TensorType) -> Node:
    """The cotangent of a loss: 1."""
    return splat(1, type.dtype, type.shape)


def check_loss(loss: Tensor, what: str = "the loss") -> Node:
    """The node of a loss.  Raises InputError unless it is one float."""
    if not isinstance(loss, Tensor):
        raise input_error(f"{what} must be a tensor, got {type(loss).__name__}: {shown(loss, 40)}")
    node = loss.node()
    if not node.dtype.is_float:
        raise input_error(f"gradient of an integer: {what} is {node.dtype.public}",
                          "gradients exist of floats only; convert what it is computed from with astype")
    if node.shape != ():
        raise input_error(f"gradient of a non-scalar: {what} has shape {node.shape}",
                          "take its sum or mean, or use jtc.jacobian or jtc.vjp")
    return node


def gradients(loss: Tensor, wrt: Sequence[Tensor], allow_unused: bool = False) -> list[Tensor]:
    """The gradients of a scalar loss by tensors that it was computed from: parameters, or any others.

    allow_unused: zeros for a tensor that the loss does not depend on, which is an InputError otherwise.
    """
    if isinstance(wrt, Tensor):
        raise input_error("gradients takes a list of tensors, got one tensor", "write [x]")
    node, targets = check_loss(loss), list(wrt)
    nodes = [t.node() for t in targets]
    for tensor in targets:
        if not tensor.dtype.is_float:
            raise input_error(f"gradient by an integer: {_name(tensor)} is {tensor.dtype.public}")
    found = reverse([node], [seed(node.type)], nodes)
    for tensor, target, g in zip(targets, nodes, found):
        if g is None and not allow_unused:
            raise _unreached(_name(tensor), node, target)
    return [Tensor.of(zeros(n.type) if g is None else g) for n, g in zip(nodes, found)]


def _name(tensor: Tensor) -> str:
    name = getattr(tensor, "name", None)
    return f"parameter {name}" if name else "a parameter" if type(tensor) is not Tensor else "a tensor"


def _unreached(name: str, output: Node, target: Node) -> InputError:
    """The error where no gradient arrives, with what lies between."""
    blocker, hint = blocked_by(output, target), "freeze it with requires_grad_(False), or leave it out of the optimiser"
    why = ""
    if blocker is not None:
        why = f": only through {blocker}, which has no gradient"
    elif origin(output).op == "input":
        why, hint = ": what its value was computed from is not known any more", \
            "take the gradients before the value of the loss is read, and in the jitted function that computes it"
    return input_error(f"{name} of shape {target.shape} does not reach the loss{why}", hint)


def blocked_by(output: Node, target: Node) -> str | None:
    """What stops the gradient on a way from target to output; None where there is no way."""
    seen: set[int] = set()
    stack: list[tuple[Node, str | None]] = [(output, None)]
    while stack:
        node, blocker = stack.pop()
        if node is target:
            return blocker
        if id(node) in seen:
            continue
        seen.add(id(node))
        made = origin(node)
        if made.data is STOP:
            blocker = "stop_gradient"
        elif made.op in BLOCKING or blocker is None and made.args and not node.dtype.is_float:
            blocker = BLOCKING.get(made.op, made.op)
        stack += [(a, blocker) for a in made.args]
    return None
