"""What an expression says of the sign of its value: some functions take less code where they know it."""
from __future__ import annotations

from jtc.dialects.expr import Expr

_NONNEGATIVE = frozenset(("abs", "sqrt", "exp", "exp2"))


def nonpositive(e: Expr) -> bool:
    """Whether the value is known not to be above 0; it may be NaN."""
    if e.fn == "min":
        return any(a.fn == "const" and a.attr <= 0 for a in e.args)
    if e.fn == "neg":
        return _nonnegative(e.args[0])
    return e.fn == "mul" and any(a.fn == "const" and a.attr <= 0 and _nonnegative(b)
                                 for a, b in (e.args, reversed(e.args)))


def _nonnegative(e: Expr) -> bool:
    return e.fn in _NONNEGATIVE or e.fn == "mul" and e.args[0] is e.args[1]
