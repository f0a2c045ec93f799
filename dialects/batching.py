"""The batching rules: what an op is when some of its arguments have one more axis, which comes first.

A rule gets the node, its new arguments (those that are batched with the axis in front), which of them are batched,
and the size of the axis; it gives the node for all examples at once.  An index map A becomes diag(1, A).
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

from jtc.dialects.affine import Affine
from jtc.dialects.build import make, reshaped, splat
from jtc.dialects.dtypes import I64
from jtc.dialects.graph import Node, TensorType
from jtc.dialects.optable import SCALAR_FUNCTIONS

BatchingRule = Callable[[Node, Sequence[Node], Sequence[bool], int], Node]


def batched(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    """The node for `size` examples."""
    result = RULES[node.op](node, args, flags, size)
    result.data = node.data                              # a gradient rule holds for every example
    return result


def repeat(node: Node, size: int) -> Node:
    """The same value for every example."""
    dims = tuple(range(1, len(node.shape) + 1))
    return make("broadcast", [node], {"dims": dims}, TensorType(node.dtype, (size, *node.shape)))


def _all(args: Sequence[Node], flags: Sequence[bool], size: int) -> list[Node]:
    return [arg if flag else repeat(arg, size) for arg, flag in zip(args, flags, strict=True)]


def _wide(node: Node, size: int) -> TensorType:
    return TensorType(node.dtype, (size, *node.shape))


def _moved(forms: Sequence[Affine], domain: int) -> tuple[Affine, ...]:
    """The forms over axes that stand one place further."""
    return tuple(form.substitute({f"d{d}": Affine.axis(f"d{d + 1}") for d in range(domain)}) for form in forms)


def _mapped(forms: Sequence[Affine], domain: int) -> tuple[Affine, ...]:
    return (Affine.axis("d0"), *_moved(forms, domain))


def _scalar(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    return make(node.op, _all(args, flags, size))


def _same(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    return make(node.op, args, node.attrs, _wide(node, size))


def _broadcast(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    return make("broadcast", args, {"dims": (0, *(d + 1 for d in node.attrs["dims"]))}, _wide(node, size))


def _transpose(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    return make("transpose", args, {"perm": (0, *(p + 1 for p in node.attrs["perm"]))})


def _reduce(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    return make("reduce", args, {"fn": node.attrs["fn"], "axes": tuple(a + 1 for a in node.attrs["axes"])})


def _scan(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    return make(node.op, _all(args, flags, size), node.attrs | {"axis": node.attrs["axis"] + 1})


def _arg_reduce(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    return make("arg_reduce", args, {"fn": node.attrs["fn"], "axis": node.attrs["axis"] + 1})


def _reindex(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    attrs = {**node.attrs, "map": _mapped(node.attrs["map"], len(node.shape))}
    return make("reindex", args, attrs, _wide(node, size))


def _reindex_reduce(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    attrs = {**node.attrs, "map": _mapped(node.attrs["map"], len(node.args[0].shape))}
    return make("reindex_reduce", args, attrs, _wide(node, size))


def _gather(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    indices = _all(args[1:], flags[1:], size)
    if flags[0]:
        forms, dims = _mapped(node.attrs["map"], len(node.shape)), tuple(d + 1 for d in node.attrs["dims"])
    else:                                                # all examples read one tensor
        forms, dims = _moved(node.attrs["map"], len(node.shape)), node.attrs["dims"]
    attrs = {"map": forms, "dims": dims, "fill": node.attrs["fill"]}
    return make("gather", [args[0], *indices], attrs, _wide(node, size))


def _scatter(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    attrs = {"fn": node.attrs["fn"], "map": _mapped(node.attrs["map"], len(node.args[1].shape)),
             "dims": tuple(d + 1 for d in node.attrs["dims"])}
    return make("scatter", _all(args, flags, size), attrs)


def _random(node: Node, args: Sequence[Node], flags: Sequence[bool], size: int) -> Node:
    """A key for each example: the function of the op on counters that are the same for all."""
    counters = make("iota", [], {"axis": 0}, TensorType(I64, (node.type.size,)))
    counters = make("add", [counters, splat(node.attrs["stream"] << 40, I64, counters.shape)])
    keys = make("broadcast", args, {"dims": (0,)}, TensorType(I64, (size, *node.shape)))
    return make("philox", [repeat(reshaped(counters, node.shape), size), keys])


RULES: dict[str, BatchingRule] = {
    **dict.fromkeys(SCALAR_FUNCTIONS, _scalar),
    "cast": _same, "reshape": _same, "recompute": _same, "broadcast": _broadcast, "transpose": _transpose,
    "reduce": _reduce, "arg_reduce": _arg_reduce, "scan": _scan, "recurrence": _scan, "concat": _scan,
    "reindex": _reindex, "reindex_reduce": _reindex_reduce, "gather": _gather, "scatter": _scatter, "random": _random,
}
