"""`export`: a function, traced on example arguments, as a saved graph."""
from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jtc.dialects.graph import Graph, Node, Weights
from jtc.frontend.jit import Jit
from jtc.frontend.model_file import Model, write_model
from jtc.frontend.trace import input_error, shown
from jtc.frontend.traced import Traced, trace


def export(function: Callable[..., Any], example_args: Sequence[Any], path: str | os.PathLike[str], *,
           name: str | None = None) -> None:
    """Write `function` as a saved graph that `jtc compile` takes.

    example_args: a sequence of arguments of the right shapes and dtypes, as for `jit`; their values do not matter.
    Tensors and arrays that the function closes over become weights.  Raises InputError where a result is no tensor,
    or where the function assigns to tensors from outside (a saved graph has no state), or where the file cannot be
    written.
    """
    write_model(exported(function, example_args, name), path)


def exported(function: Callable[..., Any], example_args: Sequence[Any], name: str | None = None) -> Model:
    """What `export` writes."""
    from jtc.dialects.text import graph_text
    if not callable(function):
        raise input_error(f"export needs a function, got {shown(function)}")
    if not isinstance(example_args, (tuple, list)):
        raise input_error(f"example_args is a tuple of arguments, got {type(example_args).__name__}",
                          "write (x,) for a single one")
    inner = function.function if isinstance(function, Jit) else function
    traced = trace(inner, tuple(example_args), name=name)
    graph, weights = standalone(traced)
    tree = None if traced.form.kind == "leaf" else traced.form.to_json()
    return Model(graph_text(graph, locations=True), weights, graph.name, graph.input_names, graph.output_names, tree)


def standalone(traced: Traced) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph of a traced function, with what it captured as weights; and the weights by name."""
    if traced.writes:
        target = traced.writes[0][0]
        what = f"{target}" if not hasattr(target, "shape") else f"a tensor of shape {target.shape}"
        raise input_error(f"cannot export {traced.graph.name!r}: it assigns to {what}", "return the new value instead")
    if not traced.leaves:
        raise input_error(f"cannot export {traced.graph.name!r}: it returns nothing")
    for leaf in traced.leaves:
        if not isinstance(leaf, Node):
            what = f"{type(leaf).__name__} {shown(leaf, 40)}"
            raise input_error(f"cannot export {traced.graph.name!r}: a result is {what}, not a tensor",
                              "wrap it with jtc.asarray")
    count = len(traced.graph.inputs) - len(traced.captured)
    weights: dict[str, np.ndarray] = {}
    for node, (tensor, place) in zip(traced.graph.inputs[count:], traced.captured):
        wanted = re.sub(r"[^\w.]", "_", str(place)).removeprefix("self.") if place else f"captured{len(weights)}"
        _constant(node, tensor.value().numpy(), wanted, weights)
    outputs = list(traced.leaves)
    names = [re.sub(r"^(?=\d)", "out", path or "out") for path in traced.form.paths()]
    graph = Graph(traced.graph.name, traced.graph.inputs[:count], outputs, traced.graph.input_names[:count], names)
    for node in graph.constants():
        if node.data is not None and node.attrs["value"].name not in weights:
            _constant(node, node.data, node.attrs["value"].name, weights)
    return graph, weights


def _constant(node: Node, array: np.ndarray, name: str, weights: dict[str, np.ndarray]) -> None:
    """Make the node a constant with this value, under a name that is not taken."""
    unique, number = name, 1
    while unique in weights:
        unique, number = f"{name}_{number}", number + 1
    weights[unique] = array
    node.op, node.attrs, node.data = "constant", {"value": Weights(unique)}, array
