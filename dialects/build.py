"""Making nodes of a graph where no user's call is recorded: in gradient rules, batching rules and passes."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jtc.dialects.dtypes import DType
from jtc.dialects.graph import Location, Node, TensorType
from jtc.dialects.optable import infer

_location: ContextVar[Location | None] = ContextVar("jtc_location", default=None)


@contextmanager
def located(loc: Location | None) -> Iterator[None]:
    """Nodes made inside the `with` block without a location of their own stand at `loc`."""
    token = _location.set(loc)
    try:
        yield
    finally:
        _location.reset(token)


def make(op: str, args: Sequence[Node], attrs: dict[str, Any] | None = None, type: TensorType | None = None,
         loc: Location | None = None) -> Node:
    """A node whose type the op table infers; type: the declared one, for ops that need it."""
    return Node(op, args, attrs or {}, infer(op, [a.type for a in args], attrs or {}, type), loc or _location.get())


def splat(value: Any, dtype: DType, shape: Sequence[int] = (), loc: Location | None = None) -> Node:
    """A number repeated over a shape."""
    python = {"bool": bool, "float": float}.get(dtype.kind, int)
    return Node("constant", (), {"value": python(value)}, TensorType(dtype, tuple(shape)), loc or _location.get())


def zeros(type: TensorType) -> Node:
    """A tensor of zeros."""
    return splat(0, type.dtype, type.shape)


def convert(node: Node, dtype: DType) -> Node:
    """The node with elements of `dtype`; itself where they are."""
    return node if node.dtype is dtype else make("cast", [node], {}, TensorType(dtype, node.shape))


def reshaped(node: Node, shape: tuple[int, ...]) -> Node:
    """The node in another shape; itself where it has it."""
    return node if node.shape == shape else make("reshape", [node], {}, TensorType(node.dtype, shape))


def transposed(node: Node, perm: tuple[int, ...]) -> Node:
    """Dimension k of the result is dimension perm[k] of the node; the node itself where none moves."""
    return node if perm == tuple(range(len(perm))) else make("transpose", [node], {"perm": perm})
