"""`checkpoint`: the backward pass computes a function's inner values again, instead of keeping them."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jtc.dialects.build import make
from jtc.dialects.graph import Node, next_number
from jtc.frontend.autodiff import Block, origin, reverse
from jtc.frontend.operands import to_node
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, shown, transforming
from jtc.frontend.transforms import watched_alias
from jtc.frontend.tree import flatten


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """f with another gradient pass: it starts from f's arguments and runs f again, with the same random numbers.

    Memory for the values inside of f is needed twice for a short time instead of once for a long one.  f may close over
    parameters, which get their gradients; what f assigns to is assigned once.  Source: Griewank and Walther, 2000;
    Chen et al., "Training deep nets with sublinear memory cost", 2016.
    """
    if not callable(f):
        raise input_error(f"checkpoint needs a function, got {shown(f)}")

    @functools.wraps(f)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        given: list[Any] = []
        form = flatten((args, kwargs), given)
        new = [watched_alias(to_node(a)) if isinstance(a, (Tensor, np.ndarray)) else a for a in given]
        start = next_number()
        new_args, new_kwargs = form.build(iter(new))
        with transforming():
            result = f(*new_args, **new_kwargs)
        leaves: list[Any] = []
        out_form = flatten(result, leaves)
        floats = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.dtype.is_float]
        inside, edge = _between([leaf.node() for leaf in floats], start)
        block = Block([n for n in edge if n.dtype.is_float], _again([leaf.node() for leaf in floats], inside, edge))
        twins = {id(leaf): watched_alias(leaf.node(), block) for leaf in floats}
        block.outputs = [twins[id(leaf)].node() for leaf in floats]
        return out_form.build(iter([twins.get(id(leaf), leaf) for leaf in leaves]))

    return transformed


def _between(outputs: Sequence[Node], start: int) -> tuple[list[Node], list[Node]]:
    """The nodes that were recorded since the number `start`, arguments first, and the older values that they read."""
    inside: dict[int, Node] = {}
    edge: dict[int, Node] = {}
    stack = list(outputs)
    while stack:
        node = stack.pop()
        if id(node) not in inside and id(node) not in edge and node.op not in ("constant", "iota"):
            made = origin(node)
            (inside if node.number > start and made.args else edge)[id(node)] = node
            stack += made.args if id(node) in inside else ()
    return sorted(inside.values(), key=lambda n: n.number), list(edge.values())


def _again(outputs: Sequence[Node], inside: Sequence[Node],
           edge: Sequence[Node]) -> Callable[[Sequence[Node | None]], list[Node | None]]:
    """The gradient pass: records the inner nodes once more, on marked copies of what they start from."""
    def backward(gs: Sequence[Node | None]) -> list[Node | None]:
        twins = {id(n): make("recompute", [n]) for n in edge}
        blocks: dict[int, Block] = {}
        for node in inside:
            made = origin(node)
            data = made.data
            if isinstance(data, Block):
                data = blocks.setdefault(id(data), Block([twins.get(id(n), n) for n in data.inputs], data.backward))
            args = [twins.get(id(a), a) for a in made.args]            # numbers stay
            twin = twins[id(node)] = Node(made.op, args, made.attrs, made.type, made.loc, data)
            if isinstance(data, Block):
                data.outputs.append(twin)
        return reverse([twins[id(n)] for n in outputs], gs, [twins[id(n)] for n in edge if n.dtype.is_float])

    return backward
