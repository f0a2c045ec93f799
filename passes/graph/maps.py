"""Composing the index maps of movement ops, with their fills."""
from __future__ import annotations

from collections.abc import Sequence

from jtc.dialects.affine import Affine
from jtc.dialects.expr import same_number
from jtc.dialects.graph import Node, TensorType
from jtc.passes.graph.fusion.movement import MAPPED, affine_map
from jtc.passes.index_maps import apply, domain_sizes, leaves_range


def leaves(forms: Sequence[Affine], shape: Sequence[int], domain: Sequence[int]) -> list[int]:
    """Dimensions of `shape` in which the map can leave it."""
    sizes = domain_sizes(domain)
    return [d for d, (form, n) in enumerate(zip(forms, shape)) if leaves_range(form, n, sizes)]


def compose(outer: Node) -> Node | None:
    """One reindex for a movement op on a movement op (both in MAPPED); None where their fills do not go together.

    What the outer map reads outside of its argument must be the fill of the whole: either it never does so, or every
    such place lies outside of the inner argument too, and both fill with one number.
    """
    inner = outer.args[0]
    if outer.op not in MAPPED or inner.op not in MAPPED or 0 in inner.args[0].shape + outer.shape:
        return None
    x = inner.args[0]
    first, second = affine_map(outer), affine_map(inner)
    outside = leaves(first, inner.shape, outer.shape)
    filled = bool(leaves(second, x.shape, inner.shape))
    fill = outer.attrs["fill"] if outside else inner.attrs["fill"] if filled else 0
    if outside and filled and not same_number(fill, inner.attrs["fill"]):
        return None
    if not all(_stays_outside(d, inner.shape[d], second, x.shape) for d in outside):
        return None
    kind = {"bool": bool, "float": float}.get(x.dtype.kind, int)
    attrs = {"map": apply(second, first), "fill": kind(fill)}
    return Node("reindex", [x], attrs, TensorType(x.dtype, outer.shape), outer.loc)


def _stays_outside(d: int, size: int, forms: Sequence[Affine], shape: Sequence[int]) -> bool:
    """Whether leaving dimension d (of `size`) always means leaving the argument: some index is d + c and covers it."""
    for form, n in zip(forms, shape):
        if form.terms == {f"d{d}": 1} and form.const <= 0 and size + form.const >= n:
            return True
    return False


def projection(node: Node) -> tuple[int, ...] | None:
    """Dimension of the result for each of the argument's, where a reindex only repeats and reorders; None otherwise."""
    x, places = node.args[0], []
    for form, n in zip(node.attrs["map"], x.shape):
        axis = form.as_axis()
        if axis is None or node.shape[int(axis[1:])] != n:
            return None
        places.append(int(axis[1:]))
    return tuple(places) if len(set(places)) == len(places) else None
