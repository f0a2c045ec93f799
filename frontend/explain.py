"""`explain`: which operations of a function went into which kernel, and why not more."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jtc.frontend.jit import Jit, trace
from jtc.frontend.trace import input_error, shown

if TYPE_CHECKING:
    from jtc.compiler.explain import Report


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Report:
    """The report on `function`, jitted or not, for these arguments; nothing is compiled or run.

    `print` shows the kernels with the user's lines, schedules, bytes and FLOPs; `kernels` is a list.  Raises
    TraceError and InputError as `jit` does.
    """
    from jtc.compiler.explain import explain_graph
    if not callable(function):
        raise input_error(f"explain needs a function and its arguments, got {shown(function)}",
                          "for lazy code put it into a function: jtc.explain(lambda x: x + 1, x)")
    if isinstance(function, Jit):
        return explain_graph(function.graph(*args, **kwargs), **function.options)
    return explain_graph(trace(function, args, kwargs).graph)
