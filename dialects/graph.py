"""The graph level in memory: a program as meta-ops on whole tensors.

`Node` is one operation with one result; a `Graph` lists the nodes that lead to its outputs.  The same graph as text is
the `jtc` dialect (see `text.py` for writing it, `reader.py` for reading it back); `optable.py` says what each op means.

A node's affine maps are tuples of `Affine` over the axes "d0", "d1", ... of the op's iteration domain.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from jtc.dialects.dtypes import DType

DYNAMIC = -1          # a dimension printed as `?`
MAX_BYTES = (1 << 63) - 1       # of a tensor: its elements are addressed with signed 64-bit numbers


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and shape (row-major).  A dimension of -1 is unknown (`?`)."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * self.dtype.bytes

    def __str__(self) -> str:
        dims = "".join(("?" if n == DYNAMIC else str(n)) + "x" for n in self.shape)
        return f"tensor<{dims}{self.dtype.name}>"


@dataclass(frozen=True, slots=True)
class Location:
    """A place in the user's program."""

    file: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


_numbers = itertools.count()


class Node:
    """One operation: name from the op table, arguments, attributes, result type, and the user's line.

    Compared by identity.  `number` grows with creation, so arguments always have smaller numbers than their users.
    `order` is the number of the recorded node that it stands for: passes that make a node for another keep it, and
    values are computed in this order where nothing speaks against it.
    `data` carries what is not part of the graph: the weights of a large constant, the value of an input that the front
    end attached, or what a node means to gradients.  `history`: for a node that became an input when its value was
    computed, the node that it was, where gradients may need it; True for one that gradients are taken by.
    """

    __slots__ = ("op", "args", "attrs", "type", "loc", "number", "order", "data", "history", "__weakref__")

    def __init__(self, op: str, args: Sequence[Node], attrs: dict[str, Any], type: TensorType,
                 loc: Location | None = None, data: Any = None):
        self.op, self.args, self.attrs, self.type, self.loc = op, tuple(args), attrs, type, loc
        self.data = data
        self.number = self.order = next(_numbers)
        self.history: Node | bool | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    def __repr__(self) -> str:
        return f"<{self.op} #{self.number} {self.type}>"


def is_weights(node: Node) -> bool:
    """Whether a node is an array that the graph owns."""
    return node.op == "constant" and isinstance(node.attrs["value"], Weights)


def is_splat(node: Node) -> bool:
    """Whether a node is one number everywhere, which its attributes hold."""
    return node.op == "constant" and not is_weights(node)


def next_number() -> int:
    """A number that is larger than those of all nodes made so far, and smaller than those of nodes made later."""
    return next(_numbers)


@dataclass
class Graph:
    """A function on tensors.  `inputs` are "input" nodes in argument order; the others are reached from `outputs`.

    updates: number of an output -> number of the input whose next value it is, for state that the caller replaces
    """

    name: str
    inputs: list[Node]
    outputs: list[Node]
    input_names: list[str] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)
    updates: dict[int, int] = field(default_factory=dict)

    def nodes(self) -> list[Node]:
        """All nodes, arguments before users; the inputs come first, also those without a user."""
        return topological(self.outputs, self.inputs)

    def constants(self) -> list[Node]:
        """Constants that hold an array (weights), in order of first use; splats and scalars are not among them."""
        return [n for n in self.nodes() if is_weights(n)]


@dataclass(frozen=True, slots=True)
class Weights:
    """The value of a constant too large for the text: a name in the weight table.  The array is `Node.data`."""

    name: str


def topological(outputs: Sequence[Node], first: Sequence[Node] = ()) -> list[Node]:
    """Nodes reached from `outputs`, arguments before users.

    They are walked from the outputs in the order in which those were recorded, not in which they are listed: a
    computation gives the same kernels whichever of its results comes first.
    """
    order: dict[int, Node] = {id(n): n for n in first}
    stack: list[tuple[Node, Iterator[Node]]] = []
    entered: set[int] = set(order)
    for root in sorted(outputs, key=lambda n: n.order):
        if id(root) in entered:
            continue
        entered.add(id(root))
        stack.append((root, iter(root.args)))
        while stack:
            node, rest = stack[-1]
            for arg in rest:
                if id(arg) not in entered:
                    entered.add(id(arg))
                    stack.append((arg, iter(arg.args)))
                    break
            else:
                stack.pop()
                order[id(node)] = node
    return list(order.values())


def users(nodes: Sequence[Node]) -> dict[int, list[Node]]:
    """id of a node -> the nodes that take it as an argument (once per use)."""
    result: dict[int, list[Node]] = {id(n): [] for n in nodes}
    for node in nodes:
        for arg in node.args:
            result[id(arg)].append(node)
    return result
