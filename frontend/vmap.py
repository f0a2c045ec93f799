"""`vmap`: a function of one example as a function of many.

The function is recorded once, on tensors that stand for one example each; every node that depends on one of them is
then made anew with a batch axis in front, by the rules of `dialects/batching.py`.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jtc.dialects.batching import batched, repeat
from jtc.dialects.build import located, make, transposed
from jtc.dialects.graph import Node, TensorType
from jtc.frontend.autodiff import Block
from jtc.frontend.operands import normalize_axis, to_node
from jtc.frontend.random import Examples, mapped
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, shown, transforming
from jtc.frontend.tree import Form, flatten

RANDOMNESS = ("error", "same", "different")


class Batcher:
    """Nodes of one example -> nodes of all of them, with the batch axis in front.

    known  id of a node -> its batched node, None where all examples share it
    """

    def __init__(self, start: Mapping[Node, Node], size: int):
        self.known: dict[int, Node | None] = {id(one): many for one, many in start.items()}
        self.alive = list(start)                          # ids stay theirs
        self.blocks: dict[int, Block] = {}
        self.size = size

    def __call__(self, root: Node) -> Node | None:
        """The batched node, None where the node is the same for all examples."""
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) in self.known:
                stack.pop()
                continue
            missing = [a for a in node.args if id(a) not in self.known]
            if missing:
                stack += missing
                continue
            stack.pop()
            self.known[id(node)] = self.step(node)
            self.alive.append(node)
        return self.known[id(root)]

    def full(self, node: Node) -> Node:
        """The batched node, repeated where all examples share it."""
        many = self(node)
        return repeat(node, self.size) if many is None else many

    def step(self, node: Node) -> Node | None:
        args = [self.known[id(a)] for a in node.args]
        if all(a is None for a in args):
            return None
        with located(node.loc):
            made = batched(node, [a if many is None else many for a, many in zip(node.args, args)],
                           [many is not None for many in args], self.size)
        if isinstance(node.data, Block):
            made.data = self.block(node.data)
            made.data.outputs.append(made)
        return made

    def block(self, block: Block) -> Block:
        """The block for all examples: its backward pass is recorded for one and batched."""
        found = self.blocks.get(id(block))
        if found is None:
            inputs = [self(n) for n in block.inputs]
            order = block.outputs

            def backward(gs: Sequence[Node | None]) -> list[Node | None]:
                symbols = [Node("input", (), {}, n.type) for n in order]
                arrived = dict(zip(map(id, found.outputs), gs))                  # type: ignore[union-attr]
                for symbol, one in zip(symbols, order):
                    many = self.known.get(id(one))
                    g = None if many is None else arrived.get(id(many))
                    self.known[id(symbol)] = g
                    self.alive.append(symbol)
                some = [s if self.known[id(s)] is not None else None for s in symbols]
                parts = block.backward(some)
                return [None if part is None else self.full(part) if many is not None else self._summed(part)
                        for part, many in zip(parts, inputs)]

            found = self.blocks[id(block)] = Block(
                [one if many is None else many for one, many in zip(block.inputs, inputs)], backward)
            self.alive += block.inputs
        return found

    def _summed(self, part: Node) -> Node:
        """The gradient by what all examples share: the sum of theirs."""
        return make("reduce", [self.full(part)], {"fn": "add", "axes": (0,)})


def batch(nodes: Sequence[Node | None], start: Mapping[Node, Node], size: int) -> list[Node | None]:
    """The nodes for `size` examples, where the keys of `start` become its values; None stays None."""
    batcher = Batcher(start, size)
    return [None if n is None else batcher.full(n) for n in nodes]


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0, randomness: str = "error") -> Callable[..., Any]:
    """f for many examples at once: a function whose tensor arguments have one more axis, and whose results do.

    in_axes   for each positional argument the axis that runs over the examples, None for one that all share; one entry
              holds for all tensors of an argument, a container gives one for each.  Keyword arguments: axis 0
    out_axes  where the axis stands in the results: one place, or a container of places

    randomness  what random numbers drawn inside of f are: "error" refuses them, "same" draws once for all examples,
                "different" for each (as in torch.vmap)

    What f asks for (item(), branches) may not depend on an example: TraceError.  Raises InputError where sizes differ.
    """
    if not callable(f):
        raise input_error(f"vmap needs a function, got {shown(f)}")
    if randomness not in RANDOMNESS:
        raise input_error(f"vmap: unknown randomness {shown(randomness)}", " or ".join(map(repr, RANDOMNESS)))

    @functools.wraps(f)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        leaves: list[Any] = []
        form = flatten((args, kwargs), leaves)
        axes = _axes(in_axes, form.children[0], len(args)) + [0] * (len(leaves) - len(form.children[0].paths()))
        start: dict[Node, Node] = {}
        given, sizes = [], {}
        for leaf, axis, path in zip(leaves, axes, form.paths()):
            if axis is not None and isinstance(leaf, (Tensor, np.ndarray)):
                many = to_node(leaf)
                if not many.shape:
                    raise input_error(f"vmap over argument {path}, which has no dimensions", "give it in_axes None")
                many = _moved(many, normalize_axis(axis, len(many.shape), "in_axes"), 0)
                sizes[path] = many.shape[0]
                one = Node("input", (), {}, TensorType(many.dtype, many.shape[1:]))
                start[one] = many
                given.append(Tensor.of(one))
            else:
                given.append(leaf)
        if not start:
            raise input_error("vmap has no tensor to map over", "give an axis in in_axes")
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{path.partition('.')[2]}: {n}" for path, n in sizes.items())
            raise input_error(f"vmap over axes of different sizes ({told})")
        new_args, new_kwargs = form.build(iter(given))
        examples = Examples(randomness, next(iter(sizes.values())))
        with transforming(), mapped(examples):
            result = f(*new_args, **new_kwargs)
        outputs: list[Any] = []
        out_form = flatten(result, outputs)
        batcher = Batcher(start | examples.keys, examples.size)
        made = []
        for leaf, axis in zip(outputs, _places(out_axes, out_form)):
            if isinstance(leaf, (Tensor, np.ndarray)):
                many = batcher.full(to_node(leaf))
                leaf = Tensor.of(_moved(many, 0, normalize_axis(axis, len(many.shape), "out_axes")))
            made.append(leaf)
        return out_form.build(iter(made))

    return transformed


def _axes(in_axes: Any, form: Form, count: int) -> list[int | None]:
    """The mapped axis of every leaf of the positional arguments."""
    if in_axes is None or isinstance(in_axes, int):
        in_axes = (in_axes,) * count
    if not isinstance(in_axes, (tuple, list)) or len(in_axes) != count:
        raise input_error(f"vmap: in_axes {shown(in_axes)} for {count} arguments", "an axis, or one for each argument")
    return [axis for entry, child in zip(in_axes, form.children) for axis in _prefix(entry, child, "in_axes")]


def _prefix(entry: Any, form: Form, name: str) -> list[Any]:
    """An entry for every leaf of a form, from one for all or a container of the same form."""
    if entry is None or isinstance(entry, int):
        return [entry] * len(form.paths())
    leaves: list[Any] = []
    if flatten(entry, leaves) != form:
        raise input_error(f"vmap: {name} {shown(entry)} has another form than what it belongs to")
    return leaves


def _places(out_axes: Any, form: Form) -> list[int]:
    places = _prefix(out_axes, form, "out_axes")
    if any(p is None for p in places):
        raise input_error("vmap: out_axes must be integers", "take one example of a result that all share")
    return places


def _moved(node: Node, source: int, target: int) -> Node:
    """Dimension `source` moved to the place `target`."""
    order = [d for d in range(len(node.shape)) if d != source]
    order.insert(target, source)
    return transposed(node, tuple(order))
