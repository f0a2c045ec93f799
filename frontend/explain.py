"""`explain`: which operations of a function went into which kernel, and why not more."""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jtc.dialects.graph import Graph
from jtc.frontend.jit import Jit
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, shown
from jtc.frontend.traced import Traced, trace

if TYPE_CHECKING:
    from jtc.compiler.explain import Report


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Report:
    """The report on `function`, jitted or not, for these arguments; nothing is compiled or run.

    `print` shows the kernels with the user's lines, schedules, bytes and FLOPs; `kernels` is a list.  State has the
    names that it has in the program, its new value with `_new` behind.  Raises TraceError and InputError as `jit`
    does.
    """
    from jtc.compiler.explain import explain_graph
    if not callable(function):
        raise input_error(f"explain needs a function and its arguments, got {shown(function)}",
                          "for lazy code put it into a function: jtc.explain(lambda x: x + 1, x)")
    if isinstance(function, Jit):
        return explain_graph(_named(trace(function.function, args, kwargs, function.name)), **function.options)
    return explain_graph(_named(trace(function, args, kwargs)))


def _named(traced: Traced) -> Graph:
    """The graph, whose captured inputs and stored outputs are called as in the user's program."""
    graph = traced.graph
    taken = {*graph.input_names, *graph.output_names}
    names: dict[int, str] = {}

    def unique(wanted: str) -> str:
        name, number = wanted, 1
        while name in taken:
            name, number = f"{wanted}_{number}", number + 1
        taken.add(name)
        return name

    first = len(graph.inputs) - len(traced.captured)
    captured = sorted(enumerate(traced.captured, first), key=lambda row: not getattr(row[1][0], "name", None))
    for number, (tensor, place) in captured:                 # named parameters first
        told = getattr(tensor, "name", None) or (str(place) if place else "")
        # An optimiser keeps the state of a parameter under its id.
        told = re.sub(r".*\._states\.(\d+)", lambda found: names.get(int(found[1]), found[0]), told)
        if told:
            graph.input_names[number] = names[id(tensor)] = unique(re.sub(r"[^\w.]", "_", told))
    results = {source.number for source in traced.sources if source.kind == "output"}
    for target, source in traced.writes:
        told = names.get(id(target), "") if isinstance(target, Tensor) else re.sub(r"[^\w.]", "_", str(target))
        if told and source.kind == "output" and source.number not in results:
            graph.output_names[source.number] = unique(f"{told}_new")
    return graph
