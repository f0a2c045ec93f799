"""What computing and moving a value costs, and what a sum of products multiplies: the facts behind the plan."""
from __future__ import annotations

from collections.abc import Iterable

from jtc.dialects.affine import Affine
from jtc.dialects.graph import Node, is_splat
from jtc.dialects.optable import SCALAR_FUNCTIONS
from jtc.passes.graph.fusion.inverse import reduces
from jtc.passes.graph.fusion.movement import MOVEMENT, affine_map
from jtc.passes.index_maps import (
    NotAffine,
    apply,
    domain_sizes,
    identity,
    is_injective,
    leaves_range,
    through_reshape,
)

REDUCTION_OPS = frozenset({"reduce", "reindex_reduce"})
SCANS = frozenset({"scan", "recurrence"})       # as open as reductions: their stages write what they pass
NEAR = 1 << 20          # bytes that stay in a second-level cache; graph passes do not know the processor


def op_cost(node: Node) -> float:
    """Vector instructions for one element, from its arguments' elements."""
    if node.op in SCALAR_FUNCTIONS:
        return SCALAR_FUNCTIONS[node.op].cost
    if node.op in REDUCTION_OPS and reduces(node):
        return 2.0 * node.args[0].type.size / max(1, node.type.size)
    costs = {"cast": 1.0, "iota": 1.0, "random": SCALAR_FUNCTIONS["philox"].cost, "gather": 4.0, "reindex_reduce": 1.0,
             **dict.fromkeys(SCANS, 2.0)}
    return costs.get(node.op, 0.0)


def affine_places(order: Iterable[Node]) -> set[int]:
    """Ids of the integers that are affine in the place: they cost what one of their iotas does (index_arithmetic.py).

    order: arguments first
    """
    found: set[int] = set()
    for node in order:
        moved = node.op in MOVEMENT and one_to_one(node) or node.op in ("add", "sub", "neg", "cast") \
            or node.op == "mul" and any(map(is_splat, node.args))
        if node.op == "iota" or moved and node.dtype.is_integer and any(id(a) in found for a in node.args) \
                and all(id(a) in found or is_splat(a) for a in node.args):
            found.add(id(node))
    return found


def repetitions(node: Node) -> float:
    """How often a movement op reads an element of its argument, on average; 1 where none is read twice."""
    if node.op in ("reshape", "transpose"):
        return 1
    times = node.type.size / max(1, node.args[0].type.size)
    if node.op == "reindex" and times <= 1:
        return 1 if is_injective(node.attrs["map"], domain_sizes(node.shape)) else 2
    if node.op == "reindex" and is_injective(node.attrs["map"], domain_sizes(node.shape)):
        return 1                # a pad
    return times


def trailing(node: Node) -> int:
    """How often a broadcast repeats a value along the last dimensions, where it is computed once for all of them."""
    times = 1
    if node.op == "broadcast":
        varying = {d for d, n in zip(node.attrs["dims"], node.args[0].shape) if n != 1}
        for d in reversed(range(node.type.rank)):
            if d in varying:
                break
            times *= node.shape[d]
    return max(times, 1)


def one_to_one(node: Node) -> bool:
    """Whether a movement op reads only inside of its argument."""
    return node.op != "reindex" or not any(
        leaves_range(form, n, domain_sizes(node.shape)) for form, n in zip(node.attrs["map"], node.args[0].shape))


def contraction_bases(node: Node) -> tuple[Node, ...] | None:
    """The values that a sum of products multiplies, below movement, where each lacks a parallel axis of another."""
    product = node.args[0]
    if node.attrs["fn"] != "add" or product.op != "mul":
        return None
    sizes = domain_sizes(product.shape)
    if node.op == "reduce":
        wide = {f"d{d}" for d in range(len(product.shape)) if d not in node.attrs["axes"]}
    else:
        wide = set().union(*(form.axes for form in node.attrs["map"]))
    wide = {a for a in wide if sizes[a] > 1}
    found = [_followed(arg, sizes) for arg in product.args]
    (first, one), (second, two) = found
    if first is second and one == two or not (one & wide) - two or not (two & wide) - one:
        return None
    return first, second


def _followed(node: Node, sizes: dict[str, int]) -> tuple[Node, set[str]]:
    """The value below movement ops, and the axes of `sizes` that it is read along."""
    place: tuple[Affine, ...] = identity(node.type.rank)
    while node.op in MOVEMENT:
        x = node.args[0]
        if node.op == "reshape":
            try:
                place = through_reshape(place, node.shape, x.shape, sizes)
            except NotAffine:
                break
        else:
            place = apply(affine_map(node), place)
        node = x
    while node.op in MOVEMENT:                  # below a reshape that mixes axes
        node = node.args[0]
    return node, {a for form in place for a in form.axes if sizes[a] > 1}
