"""`jtc.autocast`: sums of products in a 16-bit float, what adds up or grows in float32.

The rules are PyTorch's: a function takes its operands in

    the 16-bit type    matmul, einsum, tensordot, linear, convolutions, attention's products
    float32            softmax, exp, log, pow and their kin, norms, losses, sum, prod, mean, var
    the widest given   everything else; batch_norm gives the type of its input

float64 is left alone.  Parameters stay float32: they are converted where they are used, and their gradients back.
Under `jit` the rules in force belong to the signature.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from typing import Any

from jtc.dialects.dtypes import F32, DType
from jtc.dialects.graph import Node
from jtc.frontend.operands import convert, to_node
from jtc.frontend.promotion import as_float
from jtc.frontend.trace import input_error, public_dtype

# Also a reason for the native dispatcher to ask Python, which it does where this is not None.
active: ContextVar[DType | None] = ContextVar("jtc_autocast", default=None)

# Scalar functions of the op table that take float32: their results leave the range, or the precision, of 16 bits.
FULL = frozenset("exp exp2 expm1 log log2 log10 log1p pow rsqrt sinh cosh tan asin acos".split())


class autocast:
    """Context manager and decorator: `with jtc.autocast("bf16"):` or `@jtc.autocast("f16")`.

    dtype    "bf16" or "f16" (also jtc.bfloat16, "float16"...)
    enabled  False: as outside of any autocast
    Raises InputError for another dtype.
    """

    def __init__(self, dtype: Any = "bf16", enabled: bool = True):
        found = public_dtype(dtype)
        if not found.is_half:
            raise input_error(f"autocast to {found.public}", 'it is "bf16" or "f16"')
        self.dtype, self.enabled = found, enabled
        self._tokens: list[Token[DType | None]] = []

    def __enter__(self) -> autocast:
        self._tokens.append(active.set(self.dtype if self.enabled else None))
        return self

    def __exit__(self, *error: object) -> None:
        active.reset(self._tokens.pop())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with autocast(self.dtype, self.enabled):        # one of its own for each call: calls may overlap
                return function(*args, **kwargs)
        return run


def narrowed(nodes: Sequence[Node]) -> list[Node]:
    """Operands of a sum of products: in the 16-bit type, unless one of them is neither that nor float32."""
    dtype = active.get()
    if dtype is None or not all(n.dtype is F32 or n.dtype.is_half for n in nodes):
        return list(nodes)
    return [convert(n, dtype) for n in nodes]


def full(node: Node) -> Node:
    """An operand of a function that takes float32."""
    return convert(node, F32) if active.get() is not None and node.dtype.is_half else node


def working(x: Any) -> tuple[Node, DType]:
    """The operand of a function that adds up many elements, and the dtype of the result.

    Integers and bools become float32.  16-bit floats are computed in float32; the result is rounded to their type
    unless autocast asks for float32.
    """
    node = to_node(x)
    node = convert(node, as_float(node.dtype))
    if not node.dtype.is_half:
        return node, node.dtype
    return convert(node, F32), F32 if active.get() is not None else node.dtype
