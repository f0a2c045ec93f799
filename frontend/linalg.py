"""Sums of products: matmul, einsum and their relatives.

Each is two broadcasts, a product and a sum, which fusion makes one kernel.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jtc.dialects.dtypes import BOOL, DType
from jtc.dialects.graph import Node, TensorType
from jtc.frontend.autocast import narrowed
from jtc.frontend.manipulation import reshape_node, transpose_node
from jtc.frontend.operands import broadcast_shapes, convert, expand, normalize_axes, normalize_axis, to_node
from jtc.frontend.promotion import promote
from jtc.frontend.reductions import reduce_node
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, record, shown


def _product_dtype(name: str, nodes: Sequence[Node]) -> DType:
    dtype = promote([n.dtype for n in nodes])
    if dtype is BOOL:
        raise input_error(f"{name} takes numbers, not bool", "convert with astype")
    return dtype


def spread(node: Node, dims: tuple[int, ...], shape: tuple[int, ...]) -> Node:
    """Dimension k of the node placed at dims[k] of `shape`, the rest repeated; dims may come in any order."""
    order = tuple(sorted(range(len(dims)), key=lambda k: dims[k]))
    node = transpose_node(node, order)
    dims = tuple(dims[k] for k in order)
    return node if node.shape == shape else record("broadcast", [node], {"dims": dims}, TensorType(node.dtype, shape))


def contract(nodes: Sequence[Node], labels: Sequence[Sequence[Any]], out: Sequence[Any], sizes: dict[Any, int]) -> Node:
    """The sum, over all labels that are not in `out`, of the product of nodes whose dimensions bear `labels`.

    A node's dimension may have size 1 where its label has another size: it is repeated.
    """
    summed = [label for label in dict.fromkeys(label for row in labels for label in row) if label not in out]
    space = [*out, *summed]
    shape = tuple(sizes[label] for label in space)
    product: Node | None = None
    for node, row in zip(nodes, labels, strict=True):
        term = spread(node, tuple(space.index(label) for label in row), shape)
        product = term if product is None else record("mul", [product, term])
    return reduce_node("add", product, tuple(range(len(out), len(space))))        # type: ignore[arg-type]


def matmul(x1: Any, x2: Any, /) -> Tensor:
    """The matrix product [..., m, k] @ [..., k, n] -> [..., m, n] with NumPy's rules for one-dimensional operands.

    Leading dimensions are broadcast.  Raises InputError where the inner sizes differ or an operand has no dimensions.
    """
    a, b = narrowed([to_node(x1), to_node(x2)])
    if not a.shape or not b.shape:
        raise input_error(f"matmul needs operands with dimensions, got shapes {a.shape} and {b.shape}",
                          "multiply with *")
    dtype = _product_dtype("matmul", [a, b])
    a, b = convert(a, dtype), convert(b, dtype)
    inner = b.shape[-2] if len(b.shape) > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise input_error(f"matmul of shapes {a.shape} and {b.shape}: inner sizes {a.shape[-1]} and {inner} differ",
                          "did you mean to transpose one of them (x.mT)?")
    rows = ["m"] if len(a.shape) > 1 else []
    columns = ["n"] if len(b.shape) > 1 else []
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    names = [f"b{d}" for d in range(len(batch))]
    sizes = dict(zip(names, batch)) | {"m": a.shape[-2] if rows else 1, "k": inner, "n": b.shape[-1]}
    of_a = names[len(batch) - len(a.shape[:-2]):] + rows + ["k"]
    of_b = names[len(batch) - len(b.shape[:-2]):] + ["k"] + columns
    return Tensor.of(contract([a, b], [of_a, of_b], names + rows + columns, sizes))


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """The sum of products along `axis` of two operands, broadcast against each other: [..., n], [..., n] -> [...].

    Of their common dtype.  Raises InputError for shapes that do not fit, and for bools.
    """
    a, b = to_node(x1), to_node(x2)
    dtype = _product_dtype("vecdot", [a, b])
    shape = broadcast_shapes(a.shape, b.shape)
    d = normalize_axis(axis, min(len(a.shape), len(b.shape))) - min(len(a.shape), len(b.shape)) + len(shape)
    product = record("mul", [expand(convert(a, dtype), shape), expand(convert(b, dtype), shape)])
    return Tensor.of(reduce_node("add", product, (d,)))


def outer(x1: Any, x2: Any, /) -> Tensor:
    """y[i, j] = x1[i] * x2[j] of the flattened operands: [m], [n] -> [m, n].  Raises InputError for bools."""
    a, b = to_node(x1), to_node(x2)
    dtype = _product_dtype("outer", [a, b])
    a, b = (convert(reshape_node(n, (n.type.size,)), dtype) for n in (a, b))
    sizes = {"i": a.shape[0], "j": b.shape[0]}
    return Tensor.of(contract([a, b], ["i", "j"], "ij", sizes))


def tensordot(x1: Any, x2: Any, /, *, axes: Any = 2) -> Tensor:
    """The sum over pairs of dimensions: the last `axes` of x1 with the first of x2, or two lists of them.

    The result has the other dimensions of x1, then those of x2.  Raises InputError where sizes of a pair differ, and
    for bools.
    """
    a, b = narrowed([to_node(x1), to_node(x2)])
    dtype = _product_dtype("tensordot", [a, b])
    if isinstance(axes, int):
        if not 0 <= axes <= min(len(a.shape), len(b.shape)):
            raise input_error(f"tensordot over {axes} axes of shapes {a.shape} and {b.shape}")
        left, right = tuple(range(len(a.shape) - axes, len(a.shape))), tuple(range(axes))
    else:
        left, right = normalize_axes(axes[0], len(a.shape)), normalize_axes(axes[1], len(b.shape))
    if [a.shape[d] for d in left] != [b.shape[d] for d in right]:
        raise input_error(f"tensordot of shapes {a.shape} and {b.shape}: the sizes of axes {left} and {right} differ")
    of_a: list[Any] = [("a", d) for d in range(len(a.shape))]
    of_b: list[Any] = [("b", d) for d in range(len(b.shape))]
    for i, j in zip(left, right):
        of_b[j] = of_a[i]
    sizes = dict(zip(of_a, a.shape)) | dict(zip(of_b, b.shape))
    out = [n for n in of_a if n[1] not in left] + [n for n in of_b if n[0] == "b"]
    return Tensor.of(contract([convert(a, dtype), convert(b, dtype)], [of_a, of_b], out, sizes))


def einsum(subscripts: str, /, *operands: Any) -> Tensor:
    """Sums of products in Einstein's notation: "bij,bjk->bik".  `...` stands for broadcast dimensions.

    Without "->" the letters that occur once, in alphabetical order, are the result's.  A letter twice in one operand
    takes the diagonal.  Raises InputError for subscripts that do not fit the operands.
    """
    nodes = narrowed([to_node(x) for x in operands])
    if not nodes or not isinstance(subscripts, str):
        raise input_error(f"einsum needs subscripts and operands, got {shown(subscripts, 40)} and "
                          f"{len(nodes)} operands")
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(nodes):
        raise input_error(f"einsum {subscripts!r} names {len(terms)} operands, got {len(nodes)}")
    rows = [_letters(term, subscripts, len(node.shape)) for term, node in zip(terms, nodes)]
    dots = max((sum(not label.isalpha() for label in row) for row in rows), default=0)
    if arrow:
        out = _letters(right, subscripts, len(right.replace("...", "")) + (dots if "..." in right else 0))
    else:
        every = [label for row in rows for label in row]
        once = sorted(s for s in set(every) if s.isalpha() and every.count(s) == 1)
        out = [str(-d) for d in range(dots, 0, -1)] + once
    sizes: dict[str, int] = {}
    for row, node in zip(rows, nodes):
        for label, n in zip(row, node.shape):
            if sizes.get(label, 1) == 1 and (label not in sizes or not label.isalpha() or n == 1):
                sizes[label] = n
            elif n != sizes[label] and (label.isalpha() or n != 1):
                raise input_error(f"einsum {subscripts!r}: index {label!r} has sizes {sizes[label]} and {n}")
    for label in out:
        if label not in sizes or out.count(label) > 1:
            raise input_error(f"einsum {subscripts!r}: index {label!r} of the result "
                              f"{'occurs twice' if label in sizes else 'is in no operand'}")
    dtype = _product_dtype("einsum", nodes)
    prepared = [_diagonal(convert(node, dtype), row) for node, row in zip(nodes, rows)]
    return Tensor.of(contract([n for n, _ in prepared], [r for _, r in prepared], out, sizes))


def _letters(term: str, subscripts: str, rank: int) -> list[str]:
    """One label for each dimension; those of `...` are "-1", "-2", ... counted from the right."""
    before, dots, after = term.partition("...")
    if not (before + after).isalpha() and before + after:
        raise input_error(f"einsum {subscripts!r}: {term!r} may hold letters and one '...'")
    extra = rank - len(before) - len(after)
    if extra < 0 or extra and not dots:
        raise input_error(f"einsum {subscripts!r}: {term!r} does not fit an operand of {rank} dimensions")
    return [*before, *(str(-d) for d in range(extra, 0, -1)), *after]


def _diagonal(node: Node, labels: list[str]) -> tuple[Node, list[str]]:
    """Repeated labels of one operand merged into one dimension."""
    unique = list(dict.fromkeys(labels))
    if len(unique) == len(labels):
        return node, labels
    from jtc.dialects.affine import Affine
    from jtc.frontend.meta import reindex_node
    shape = tuple(node.shape[labels.index(label)] for label in unique)
    for label, n in zip(labels, node.shape):
        if n != shape[unique.index(label)]:
            raise input_error(f"einsum: a diagonal needs equal sizes, got shape {node.shape}")
    return reindex_node(node, shape, [Affine.axis(f"d{unique.index(label)}") for label in labels]), unique


PUBLIC = ("matmul", "vecdot", "outer", "tensordot", "einsum")
