"""Tracing a function: its graph, what it captured, where its results come from and what has to be written back."""
from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jtc.dialects.graph import Graph, Node, TensorType, is_splat
from jtc.frontend import values
from jtc.frontend.places import MISSING, Place, places
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import Static, Tracer, array_type, trace_error
from jtc.frontend.tree import Form, flatten

# Held while a function is traced: meanwhile, stand-ins may be in the places of the tensors that it rebinds.
tracing = threading.RLock()


@dataclass(slots=True)
class Source:
    """Where a result comes from: "output" or "input" number `number`, or a `value` known while tracing."""

    kind: str
    number: int = -1
    value: Any = None

    def take(self, inputs: Sequence[values.Buffer], outputs: Sequence[values.Buffer]) -> Any:
        """The result of a run; an input whose memory belongs to the caller is copied."""
        if self.kind == "value":
            return self.value
        if self.kind == "output":
            return Tensor.from_buffer(outputs[self.number])
        buffer = inputs[self.number]
        return Tensor.from_buffer(values.from_numpy(buffer.numpy()) if buffer.borrowed else buffer)


@dataclass(slots=True)
class Traced:
    """A traced function.

    graph     inputs: the tensor arguments, then the captured tensors; outputs: what has to be computed
    captured  each captured tensor, and the place where it was found (None where it has no name)
    aliases   (number of a captured tensor, another place where it was)
    form      of the result, with a leaf (node, or another value) and its source for each place in it
    writes    (place or tensor, source): what to store after a call
    static    modules and optimisers that were used, with the static state that they had
    """

    graph: Graph
    captured: list[tuple[Tensor, Place | None]]
    aliases: list[tuple[int, Place]]
    form: Form
    leaves: list[Node | Any]
    sources: list[Source]
    writes: list[tuple[Place | Tensor, Source]]
    static: list[tuple[Static, Hashable]]


def trace(function: Callable[..., Any], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None,
          name: str | None = None) -> Traced:
    """Trace `function` on arguments of which only the types of tensors and arrays matter.

    Raises TraceError where Python needs the value of a traced tensor, InputError where an op refuses its operands.
    """
    with tracing:
        return _trace(function, args, kwargs, name)


def _trace(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any] | None,
           name: str | None) -> Traced:
    arguments: list[Any] = []
    form = flatten((tuple(args), kwargs or {}), arguments)
    tracer = Tracer(name or str(getattr(function, "__name__", type(function).__name__)))
    before = {place.identity: (place, tensor) for place, tensor in places(function, arguments)}
    with tracer.active():
        given = [Tensor.of(tracer.input(found)) if (found := tensor_type(leaf)) else leaf for leaf in arguments]
        names = form.paths()
        # Containers are rebuilt, so that the caller's stay as they are; a function that changes one is told so below.
        args_form, kwargs_form = form.children
        rest = iter(given)
        call_args, call_kwargs = args_form.build(rest), kwargs_form.build(rest)
        try:
            result = function(*call_args, **call_kwargs)
            _refuse_changes(form, given, (call_args, call_kwargs), tracer)
        except BaseException as error:
            _restore(function, arguments, before, tracer)
            misfit = _misfit(error, function, call_args, call_kwargs, tracer.name)
            if misfit is not None:
                raise misfit from None
            raise
        rebound = _restore(function, arguments, before, tracer)
        leaves: list[Any] = []
        out_form = flatten(result, leaves)
        wanted: list[tuple[Any, Node | None]] = [(leaf, _result_node(leaf)) for leaf in leaves]
        stores: list[tuple[Place | Tensor, Node]] = [(place, tensor.node()) for place, tensor in rebound]
        stores += [(c.tensor, c.value) for c in list(tracer.captured.values()) if c.value is not c.node]
    where = {id(tensor): place for place, tensor in reversed(list(before.values()))}
    captured = [(c.tensor, where.get(id(c.tensor))) for c in tracer.captured.values()]
    number = {id(tensor): k for k, (tensor, _) in enumerate(captured)}
    aliases = [(k, place) for place, tensor in before.values()
               if (k := number.get(id(tensor))) is not None and place is not captured[k][1]]
    inputs = tracer.inputs + [c.node for c in tracer.captured.values()]
    outputs: list[Node] = []
    sources = [Source("value", value=leaf) if node is None else _source(node, inputs, outputs) for leaf, node in wanted]
    writes = [(target, _source(node, inputs, outputs)) for target, node in stores]
    used = [n for n, leaf in zip(names, arguments) if tensor_type(leaf)]
    graph = Graph(tracer.name, inputs, outputs, argument_names(function, used)
                  + [f"captured{i}" for i in range(len(captured))],
                  _output_names(out_form, sources, len(outputs)), _updates(writes, captured, inputs, outputs))
    known = {id(n) for n in inputs}
    if any(n.op == "input" and id(n) not in known for n in graph.nodes()):
        raise trace_error(f"the traced function {tracer.name!r} uses a tensor that stands for one example of vmap "
                          "outside of the mapped function", "return it from the mapped function")
    results = [leaf if node is None else node for leaf, node in wanted]
    return Traced(graph, captured, aliases, out_form, results, sources, writes, list(tracer.static.values()))


def _misfit(error: BaseException, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any],
            name: str) -> Exception | None:
    """The error for a call whose arguments do not fit the function's parameters; None for an error from inside it."""
    if not isinstance(error, TypeError) or error.__traceback__ is None or error.__traceback__.tb_next is not None:
        return None
    if (signature := _signature(function)) is None:
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return trace_error(f"the call does not fit the jitted function {name}: {error}",
                           f"its parameters are {', '.join(signature.parameters)}" if signature.parameters else None)
    return None


def _signature(function: Any) -> inspect.Signature | None:
    """The signature of a function; None where it does not tell, as some functions of libraries do not."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def tensor_type(leaf: Any) -> TensorType | None:
    """The type of an argument that is traced, None for one that is static."""
    if isinstance(leaf, Tensor):
        return leaf.type
    if isinstance(leaf, np.ndarray):
        return array_type(leaf)
    return None


def _result_node(leaf: Any) -> Node | None:
    """The node of a result that is a tensor; None for other values, which are returned as they are."""
    if inspect.isgenerator(leaf) or isinstance(leaf, map):
        raise trace_error(f"the traced function returns a {type(leaf).__name__}, which would run after the trace",
                          "return a list of the results")
    return leaf.node() if isinstance(leaf, Tensor) else None


def _source(node: Node, inputs: list[Node], outputs: list[Node]) -> Source:
    for number, given in enumerate(inputs):
        if given is node:
            return Source("input", number)
    if is_splat(node):
        return Source("value", value=Tensor.from_buffer(values.splat(node.type, node.attrs["value"])))
    for number, output in enumerate(outputs):
        if output is node:
            return Source("output", number)
    outputs.append(node)
    return Source("output", len(outputs) - 1)


def _updates(writes: list[tuple[Place | Tensor, Source]], captured: list[tuple[Tensor, Place | None]],
             inputs: list[Node], outputs: list[Node]) -> dict[int, int]:
    """Number of an output -> of the input whose next value it is: the captured tensor that it is assigned to."""
    first = len(inputs) - len(captured)
    number = {id(tensor): first + k for k, (tensor, _) in enumerate(captured)}
    found: dict[int, int] = {}
    for target, source in writes:
        old = number.get(id(target))
        if old is not None and source.kind == "output" and source.number not in found \
                and outputs[source.number].type == inputs[old].type:
            found[source.number] = old
    return found


def _restore(function: Any, arguments: Sequence[Any], before: dict[tuple, tuple[Place, Tensor]],
             tracer: Tracer) -> list[tuple[Place, Tensor]]:
    """Put back what stood in every place before tracing; returns the places that were rebound, and their tensors."""
    now = list(places(function, arguments))
    rebound = [(place, tensor) for place, tensor in now if before.get(place.identity, (None, None))[1] is not tensor
               and (tensor._tracer is tracer or place.identity in before)]
    grown = [place for place, _ in rebound if place.identity not in before
             and isinstance(place.parent(arguments), list)]
    for place, _ in reversed(rebound):
        place.write(before[place.identity][1] if place.identity in before else MISSING, arguments)
    if grown:
        raise trace_error(f"the traced function {tracer.name!r} adds a tensor to the list at {grown[0]}",
                          "return the tensor, and add it outside of the jitted function")
    return rebound


def _refuse_changes(form: Form, given: list[Any], call: tuple, tracer: Tracer) -> None:
    leaves: list[Any] = []
    changed = flatten(call, leaves) != form or any(a is not b for a, b in zip(leaves, given))
    if changed:
        raise trace_error(f"the traced function {tracer.name!r} changes a container that it got as an argument",
                          "return the new values instead")


def argument_names(function: Any, paths: list[str]) -> list[str]:
    """Names for the inputs: "x", "params.weight", from the paths "0.0", "1.name"."""
    variables = [p.name for p in parameters(function) or () if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = []
    for path in paths:
        group, _, rest = path.partition(".")
        if group == "0":
            number, _, inner = rest.partition(".")
            first = variables[int(number)] if int(number) < len(variables) else f"arg{number}"
            rest = f"{first}.{inner}" if inner else first
        names.append(rest)
    return names


def parameters(function: Any) -> list[inspect.Parameter] | None:
    """The parameters of a function; None where it does not tell."""
    signature = _signature(function)
    return None if signature is None else list(signature.parameters.values())


def _output_names(form: Form, sources: list[Source], count: int) -> list[str]:
    names = [f"out{i}" if count > 1 else "out" for i in range(count)]
    for path, source in zip(form.paths(), sources):
        if source.kind == "output" and path:
            names[source.number] = path if not path[0].isdigit() else f"out{path}"
    return names if len(set(names)) == len(names) else [f"out{i}" for i in range(count)]
