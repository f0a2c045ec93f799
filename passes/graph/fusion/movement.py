"""Movement ops (broadcast, transpose, reindex, reshape) as affine index maps."""
from __future__ import annotations

from jtc.dialects.affine import Affine
from jtc.dialects.graph import Node

MAPPED = frozenset({"broadcast", "transpose", "reindex"})     # ops that are one affine map
MOVEMENT = MAPPED | {"reshape"}


def affine_map(node: Node) -> tuple[Affine, ...]:
    """The index into the argument, over the axes d0, d1... of the result, of an op in MAPPED."""
    if node.op == "reindex":
        return node.attrs["map"]
    if node.op == "broadcast":
        dims, shape = node.attrs["dims"], node.args[0].shape
        return tuple(Affine() if n == 1 else Affine.axis(f"d{d}") for d, n in zip(dims, shape))
    perm = node.attrs["perm"]
    return tuple(Affine.axis(f"d{perm.index(k)}") for k in range(len(perm)))
