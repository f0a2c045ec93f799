"""Pieces of tensors along one axis: cut out, and put together where gradients of many of them meet."""
from __future__ import annotations

from collections.abc import Sequence

from jtc.dialects.affine import Affine
from jtc.dialects.build import make, splat
from jtc.dialects.graph import Node, TensorType

MANY = 8        # up to so many tensors, every element of a result chooses among them; more are joined by `concat`


def piece(node: Node, axis: int, start: int, stop: int) -> Node:
    """Elements start .. stop along one axis."""
    forms = tuple(Affine.axis(f"d{d}") + (start if d == axis else 0) for d in range(len(node.shape)))
    shape = (*node.shape[:axis], stop - start, *node.shape[axis + 1:])
    return make("reindex", [node], {"map": forms, "fill": 0}, TensorType(node.dtype, shape))


def total(parts: Sequence[Node]) -> Node | None:
    """The sum of nodes of one type; None of none.

    More than MANY that are 0 outside of pieces of their own, all of one size, are put side by side instead of added.
    """
    parts = _joined(parts)
    result: Node | None = None
    for part in parts:
        result = part if result is None else make("add", [result, part])
    return result


def _joined(parts: Sequence[Node]) -> Sequence[Node]:
    if len(parts) <= MANY:
        return parts
    places = [_place(part) for part in parts]
    for axis in dict.fromkeys(place[0] for place in places if place is not None):
        own = [(place[1], part) for place, part in zip(places, parts) if place is not None and place[0] == axis]
        own.sort(key=lambda pair: pair[0])
        size, whole = own[0][1].args[0].shape[axis], own[0][1].shape[axis]
        at = dict(own)
        if len(own) > MANY and len(at) == len(own) and size and whole % size == 0 and \
                all(start % size == 0 and part.args[0].shape[axis] == size for start, part in own):
            zero = splat(0, own[0][1].dtype, own[0][1].args[0].shape)
            pieces = [at[k].args[0] if k in at else zero for k in range(0, whole, size)]
            gone = {id(part) for _, part in own}
            return [*(p for p in parts if id(p) not in gone), make("concat", pieces, {"axis": axis})]
    return parts


def _place(part: Node) -> tuple[int, int] | None:
    """(axis, start) of a node that is its argument at `start` along one axis, and 0 elsewhere; None for another."""
    if part.op != "reindex_reduce" or part.attrs["fn"] != "add":
        return None
    inner = part.args[0].shape
    if len(inner) != len(part.shape):
        return None
    found: tuple[int, int] | None = None
    for d, (form, size) in enumerate(zip(part.attrs["map"], part.shape)):
        start = form - Affine.axis(f"d{d}")
        if not start.is_constant or start.const < 0 or start.const + inner[d] > size:
            return None
        if inner[d] != size:
            if found is not None:
                return None
            found = d, start.const
    return found

