"""Scalar expressions: what a stage computes at one point of its iteration space.

Expressions are immutable and interned: two equal expressions are the same object, so sharing is free and `is` compares.

| fn           | args | attr                  | value |
|---|---|---|---|
| "read"       | -    | number of the access  | the element that `stage.reads[attr]` addresses here, or its fill |
| "const"      | -    | Python bool/int/float | the number |
| "acc"        | -    | -                     | the finished reduction (in an epilogue); the value so far (in a scan) |
| "index"      | -    | Affine                | the integer value of the form at this point (dtype i64 or i32) |
| "inbounds"   | -    | tuple of Guard        | true where every guard holds (dtype i1) |
| "cast"       | x    | -                     | x converted to `dtype` |
| scalar fn    | ...  | -                     | a row of `optable.SCALAR_FUNCTIONS` |
"""
from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import DType

_interned: WeakValueDictionary[tuple, Expr] = WeakValueDictionary()


class Expr:
    """See the module's table.  Make one with `expr`, `read`, `const`..., never directly."""

    __slots__ = ("fn", "args", "dtype", "attr", "_below", "__weakref__")
    fn: str
    args: tuple[Expr, ...]
    dtype: DType
    attr: Any
    _below: tuple[Expr, ...] | None         # what `walk` gives before the expression itself, once it was asked for

    def __str__(self) -> str:
        if self.fn == "read":
            return f"%{self.attr}"
        if self.fn == "const":
            return repr(self.attr)
        if self.fn == "acc":
            return "acc"
        if self.fn in ("index", "inbounds"):
            return f"{self.fn}({self.attr})"
        name = f"cast[{self.dtype.name}]" if self.fn == "cast" else self.fn
        return f"{name}({', '.join(map(str, self.args))})"

    __repr__ = __str__

    def __reduce__(self) -> tuple[Callable[..., Expr], tuple[Any, ...]]:
        return expr, (self.fn, self.args, self.dtype, self.attr)


def expr(fn: str, args: tuple[Expr, ...], dtype: DType, attr: Any = None) -> Expr:
    """The interned expression."""
    tag = (type(attr).__name__, struct.pack("<d", attr)) if isinstance(attr, float) else (type(attr).__name__, attr)
    key = (fn, tuple(map(id, args)), dtype.name, tag)
    found = _interned.get(key)
    if found is None:
        found = Expr()
        found.fn, found.args, found.dtype, found.attr, found._below = fn, args, dtype, attr, None
        _interned[key] = found
    return found


def read(number: int, dtype: DType) -> Expr:
    return expr("read", (), dtype, number)


def const(value: Any, dtype: DType) -> Expr:
    """A literal, normalised to the Python type of its kind (bool, int, float) and rounded to its dtype."""
    if dtype.is_float and dtype.bits < 64:
        with np.errstate(over="ignore"):
            value = np.asarray(value).astype(dtype.numpy)
    python = {"bool": bool, "float": float}.get(dtype.kind, int)
    return expr("const", (), dtype, python(value))


def same_number(a: Any, b: Any) -> bool:
    """Equal as bits: NaN is NaN, and -0.0 is not 0.0."""
    if isinstance(a, float) or isinstance(b, float):
        a, b = float(a), float(b)
        return a == b and math.copysign(1, a) == math.copysign(1, b) or a != a and b != b
    return a == b


def acc(dtype: DType) -> Expr:
    return expr("acc", (), dtype)


def index(form: Affine, dtype: DType) -> Expr:
    return expr("index", (), dtype, form)


def cast(x: Expr, dtype: DType) -> Expr:
    return x if x.dtype is dtype else expr("cast", (x,), dtype)


def walk(root: Expr) -> Iterator[Expr]:
    """Every distinct expression below `root` and itself, arguments before users."""
    if root._below is None:
        root._below = tuple(_below(root))
    yield from root._below
    yield root


def _below(root: Expr) -> Iterator[Expr]:
    seen: set[int] = {id(root)}
    stack: list[tuple[Expr, bool]] = [(arg, False) for arg in reversed(root.args)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((arg, False) for arg in reversed(node.args))


def rewrite(root: Expr, leaf: Callable[[Expr], Expr | None]) -> Expr:
    """Replace expressions from the leaves up: `leaf(e)` gives a replacement for `e`, or None to keep it."""
    done: dict[int, Expr] = {}
    for node in walk(root):
        args = tuple(done[id(a)] for a in node.args)
        new = node if args == node.args else expr(node.fn, args, node.dtype, node.attr)
        done[id(node)] = leaf(new) or new
    return done[id(root)]


def reads_of(root: Expr | None) -> list[int]:
    """Numbers of the accesses that the expression reads, in order of first use."""
    return [] if root is None else list(dict.fromkeys(e.attr for e in walk(root) if e.fn == "read"))
