"""Jacobians and Hessians of functions: reverse or forward passes for all unit tensors, as one batch."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jtc.dialects.build import convert, make, reshaped, transposed, zeros
from jtc.dialects.dtypes import I64
from jtc.dialects.graph import Node, TensorType
from jtc.frontend.autodiff import reverse
from jtc.frontend.tensor import Tensor
from jtc.frontend.transforms import Linear, linearised, pushed, wrapped
from jtc.frontend.vmap import batch


def jacrev(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function like f that returns its Jacobian, by reverse mode: a pass for each element of the result, as a batch.

    For a result of shape s and an argument of shape t the Jacobian has shape s + t; results and arguments may be
    containers: the form is that of the result, with that of the arguments for each of its tensors.
    """
    def transformed(*args: Any, **kwargs: Any) -> Any:
        _, linear = linearised(f, args, argnums, "jacobian", kwargs=kwargs)
        rows = []
        for output in linear.outputs:
            symbol = Node("input", (), {}, output.type)
            found = reverse([output], [symbol], linear.watched.nodes)
            size = output.type.size
            parts = batch(found, {symbol: _basis(output.type)}, size)
            rows.append(_formed(linear, [
                reshaped(_zeros_batch(part, wrt.type, size), output.shape + wrt.shape)
                for part, wrt in zip(parts, linear.watched.nodes)], argnums))
        return linear.fill(rows)

    return wrapped(transformed, f, "jacrev")


def jacfwd(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """`jacrev` by forward mode: one pass for each element of the arguments, as a batch."""
    def transformed(*args: Any, **kwargs: Any) -> Any:
        _, linear = linearised(f, args, argnums, "jacobian", kwargs=kwargs)
        outputs, columns = linear.outputs, []
        for number, wrt in enumerate(linear.watched.nodes):
            symbol = Node("input", (), {}, wrt.type)
            directions = [symbol if k == number else zeros(n.type) for k, n in enumerate(linear.watched.nodes)]
            size = wrt.type.size
            parts = batch(pushed(linear, directions), {symbol: _basis(wrt.type)}, size)
            columns.append([_columns(_zeros_batch(part, out.type, size), out.shape, wrt.shape)
                            for part, out in zip(parts, outputs)])
        return linear.fill([_formed(linear, [column[k] for column in columns], argnums) for k in range(len(outputs))])

    return wrapped(transformed, f, "jacfwd")


def hessian(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function like f that returns its second derivatives: forward mode over reverse mode."""
    return wrapped(jacfwd(jacrev(f, argnums), argnums), f, "hessian")


def _basis(type: TensorType) -> Node:
    """All unit tensors of a type: [size, *shape]."""
    square = TensorType(I64, (type.size, type.size))
    row, column = (make("iota", [], {"axis": d}, square) for d in (0, 1))
    return reshaped(convert(make("eq", [row, column]), type.dtype), (type.size, *type.shape))


def _zeros_batch(node: Node | None, type: TensorType, size: int) -> Node:
    return zeros(TensorType(type.dtype, (size, *type.shape))) if node is None else node


def _columns(node: Node, out: tuple[int, ...], wrt: tuple[int, ...]) -> Node:
    """[size of wrt, *out] -> [*out, *wrt]."""
    perm = (*range(1, len(out) + 1), 0)
    return reshaped(transposed(node, perm), out + wrt)


def _formed(linear: Linear, nodes: Sequence[Node], argnums: int | Sequence[int]) -> Any:
    made = linear.watched.build([Tensor.of(n) for n in nodes])
    return made if isinstance(argnums, (tuple, list)) else made[0]
