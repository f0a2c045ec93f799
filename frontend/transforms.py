"""Derivatives of functions: grad, vjp, jvp; and what a function says of its own gradient.

A transformed function runs the given one on other tensors of the same values, and works on the nodes that this records.
So transformations can be put into each other in any order, inside and outside of `jit`.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jtc.dialects.build import convert, zeros
from jtc.dialects.gradients import STOP
from jtc.dialects.graph import Node, TensorType, topological
from jtc.frontend.autodiff import BLOCKING, Block, alias, blocked_by, check_loss, reverse, seed
from jtc.frontend.operands import to_node
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import current_tracer, input_error, shown, trace_error, transforming
from jtc.frontend.tree import Form, flatten, map_leaves

if TYPE_CHECKING:
    from jtc.frontend.nn.module import Module
    from jtc.frontend.nn.parameter import Parameter


@dataclass
class Watched:
    """The arguments by which a function is differentiated.

    nodes   those of their tensors, in order
    forms   of the arguments `numbers`; for each leaf in them how many nodes it has, or a module's names of them
    """

    numbers: tuple[int, ...]
    forms: list[Form]
    leaves: list[int | tuple[str, ...]]
    nodes: list[Node]

    def build(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Values for the nodes in the form of the arguments: None for a leaf without nodes, a dict for a module."""
        rest = iter(values)
        items = iter([dict(zip(leaf, rest)) if isinstance(leaf, tuple) else next(rest) if leaf else None
                      for leaf in self.leaves])
        return tuple(form.build(items) for form in self.forms)


def _numbers(argnums: int | Sequence[int], count: int, name: str) -> tuple[int, ...]:
    given = argnums if isinstance(argnums, (tuple, list)) else (argnums,)
    for n in given:
        if isinstance(n, bool) or not isinstance(n, int) or not -count <= n < count:
            raise input_error(f"{name} by argument {shown(n, 40)} of {count}",
                              "argnums counts positional arguments from 0")
    return tuple(n % count for n in given)


def watch(args: Sequence[Any], argnums: int | Sequence[int], name: str) -> tuple[list[Any], Watched]:
    """The arguments with other tensors of the same values, and those to differentiate by."""
    watched = Watched(_numbers(argnums, len(args), name), [], [], [])
    new = list(args)
    for number in watched.numbers:
        leaves: list[Any] = []
        form = flatten(args[number], leaves)
        watched.forms.append(form)
        paths = form.paths()
        new[number] = form.build(iter([_watch_leaf(leaf, f"argument {number}" + f".{path}" * bool(path), watched, name)
                                       for leaf, path in zip(leaves, paths)]))
    return new, watched


def _watch_leaf(leaf: Any, place: str, watched: Watched, name: str) -> Any:
    from jtc.frontend.nn.module import Module
    if isinstance(leaf, Module):
        named = _trainable(leaf)
        watched.leaves.append(tuple(n for n, _ in named))
        watched.nodes += [p.node() for _, p in named]
        return leaf
    if leaf is None or isinstance(leaf, (str, bool)):
        watched.leaves.append(0)
        return leaf
    if not isinstance(leaf, (Tensor, np.ndarray, float, np.floating)):
        raise input_error(f"{name} by {place}, which is {type(leaf).__name__}: {shown(leaf, 40)}",
                          "differentiate by floats, float tensors, modules, or containers of them")
    node = to_node(leaf)
    if not node.dtype.is_float:
        raise input_error(f"{name} by {place}, which is {node.dtype.public}: gradients exist of floats only",
                          "convert it with astype(jtc.float32)")
    tensor = watched_alias(node)
    watched.leaves.append(1)
    watched.nodes.append(tensor.node())
    return tensor


def watched_alias(node: Node, data: object = None) -> Tensor:
    """Another tensor of the node's value, which stays known to gradients when its value is computed."""
    twin = alias(node, data)
    twin.history = True
    return Tensor.of(twin)


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0,
                   has_aux: bool = False) -> Callable[..., Any]:
    """A function like f that returns (f(...), gradients), for an f that returns one float.

    argnums  the positional arguments to differentiate by, one or several; gradients have their form.  An argument may
             be a float, a tensor, a container of tensors, or a module: its gradients are a dict by parameter name
    has_aux  f returns (value, anything else), and the first result is that pair

    Raises InputError for a result that is not one float, and for an argument that is not of floats.
    """
    def transformed(*args: Any, **kwargs: Any) -> Any:
        with transforming():
            new, watched = watch(args, argnums, "gradient")
            result = f(*new, **kwargs)
            value = _value(result, has_aux, f)
            node = check_loss(value, f"the result of {_name(f)}")
            found = reverse([node], [seed(node.type)], watched.nodes)
            for target, g in zip(watched.nodes, found):
                blocker = blocked_by(node, target) if g is None else None
                if blocker == BLOCKING["arg_reduce"]:
                    raise input_error(f"gradient through {blocker}: the result of {_name(f)} depends on its argument "
                                      "only through an index",
                                      "an index has no gradient: use softmax for a soft choice")
            made = watched.build([_tensor(g, n.type) for g, n in zip(found, watched.nodes)])
        return result, made if isinstance(argnums, (tuple, list)) else made[0]

    return wrapped(transformed, f, "value_and_grad")


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function like f that returns its gradients, or (gradients, the rest of f's result) if has_aux.

    Arguments and errors are those of `value_and_grad`.
    """
    both = value_and_grad(f, argnums, has_aux)

    def transformed(*args: Any, **kwargs: Any) -> Any:
        result, gradients = both(*args, **kwargs)
        return (gradients, result[1]) if has_aux else gradients

    return wrapped(transformed, f, "grad")


def _value(result: Any, has_aux: bool, f: Callable[..., Any]) -> Any:
    if has_aux and (not isinstance(result, tuple) or len(result) != 2):
        raise input_error(f"with has_aux {_name(f)} returns a pair (value, rest), got {type(result).__name__}")
    return result[0] if has_aux else result


def _name(f: Any) -> str:
    return str(getattr(f, "__name__", type(f).__name__))


def wrapped(transformed: Callable[..., Any], f: Callable[..., Any], what: str) -> Callable[..., Any]:
    """The function, named after f; f is its `__wrapped__`, where `jit` finds the tensors that f closes over."""
    if not callable(f):
        raise input_error(f"{what} needs a function, got {shown(f)}")
    functools.update_wrapper(transformed, f)
    transformed.__name__ = f"{what}({_name(f)})"
    return transformed


def _tensor(node: Node | None, type: TensorType) -> Tensor:
    return Tensor.of(zeros(type) if node is None else node)


# ------------------------------------------------------------------------------------------------ vjp and jvp
@dataclass
class Linear:
    """A recorded function, to be differentiated: the nodes of its arguments and of its tensor results."""

    watched: Watched
    form: Form
    leaves: list[Any]
    place: object                   # the trace in which it was recorded

    @property
    def outputs(self) -> list[Node]:
        return [leaf.node() for leaf in self.leaves if _differentiable(leaf)]

    def check_place(self, what: str) -> None:
        if current_tracer() is not self.place:
            raise trace_error(f"{what} belongs to a traced function and is used outside of it",
                              "use it in the function that made it")

    def fill(self, values: Sequence[Any], rest: Any = None) -> Any:
        """The form of the results with values for the tensors among them."""
        given = iter(values)
        return self.form.build(iter([next(given) if _differentiable(leaf) else rest for leaf in self.leaves]))


def _differentiable(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dtype.is_float


def linearised(f: Callable[..., Any], args: Sequence[Any], argnums: int | Sequence[int], name: str,
               has_aux: bool = False, kwargs: dict[str, Any] | None = None) -> tuple[Any, Linear]:
    """The result of f, and what is needed to differentiate it."""
    new, watched = watch(args, argnums, name)
    with transforming():
        result = f(*new, **(kwargs or {}))
    leaves: list[Any] = []
    form = flatten(_value(result, has_aux, f), leaves)
    if not any(map(_differentiable, leaves)):
        raise input_error(f"{name}: the result of {_name(f)} holds no float tensor",
                          "gradients exist of floats only")
    return result, Linear(watched, form, leaves, current_tracer())


def vjp(f: Callable[..., Any], *args: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """(f(*args), pullback) with pullback(cotangents) -> a tuple with the gradients by every argument.

    cotangents has the form of f's result, with anything for results that are not float tensors.  With has_aux f
    returns (result, rest), and the result is (f's result, pullback, rest).
    """
    result, linear = linearised(f, args, tuple(range(len(args))), "vjp", has_aux)

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        linear.check_place("a pullback of vjp")
        given = _matching(cotangent, linear.form, linear.leaves, "a cotangent")
        found = reverse(linear.outputs, given, linear.watched.nodes)
        return linear.watched.build([_tensor(g, n.type) for g, n in zip(found, linear.watched.nodes)])

    return (result[0], pullback, result[1]) if has_aux else (result, pullback)


def _matching(value: Any, form: Form, leaves: Sequence[Any], what: str) -> list[Node]:
    """Nodes for the differentiable leaves of a container that must have this form."""
    given: list[Any] = []
    if flatten(value, given) != form:
        raise input_error(f"{what} has another form than the value it belongs to", f"its leaves are {form.paths()}")
    nodes = []
    for tangent, leaf in zip(given, leaves):
        if _differentiable(leaf):
            node = to_node(tangent)
            if node.shape != leaf.shape:
                raise input_error(f"{what} of shape {node.shape} for a value of shape {leaf.shape}")
            nodes.append(convert(node, leaf.dtype))
    return nodes


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """(f(*primals), its derivative in the direction `tangents`), both in the form of f's result.

    primals and tangents are sequences of arguments of one form; a module's tangent is a dict by parameter name.
    Results that are no float tensors have the tangent None.
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise input_error("jvp takes sequences of primals and tangents", "write (x,) for a single one")
    if len(primals) != len(tangents):
        raise input_error(f"jvp of {len(primals)} primals with {len(tangents)} tangents")
    result, linear = linearised(f, primals, tuple(range(len(primals))), "jvp")
    directions = [node for primal, tangent in zip(primals, tangents) for node in _directions(primal, tangent)]
    found = pushed(linear, directions)
    return result, linear.fill([_tensor(t, n.type) for t, n in zip(found, linear.outputs)])


def _directions(primal: Any, tangent: Any) -> list[Node]:
    leaves: list[Any] = []
    form = flatten(map_leaves(_tensors, primal), leaves)
    return _matching(tangent, form, leaves, "a tangent")


def _tensors(leaf: Any) -> Any:
    """A number as a tensor, a module as the dict of the parameters that it is differentiated by."""
    from jtc.frontend.nn.module import Module
    if isinstance(leaf, Module):
        return dict(_trainable(leaf))
    return Tensor.of(to_node(leaf)) if isinstance(leaf, (Tensor, np.ndarray, float, np.floating)) else leaf


def _trainable(module: Module) -> list[tuple[str, Parameter]]:
    return [(name, p) for name, p in module.named_parameters() if p.requires_grad]


def pushed(linear: Linear, directions: Sequence[Node | None]) -> list[Node | None]:
    """The derivatives of the outputs in the given directions of the arguments.

    The reverse mode of a function is linear in the cotangents u of its outputs; its own reverse mode, by u, is the
    forward mode of the function.  No node of the result depends on u itself.
    """
    outputs = linear.outputs
    symbols = [Node("input", (), {}, n.type) for n in outputs]
    arrived = reverse(outputs, symbols, linear.watched.nodes)
    pairs = [(g, d) for g, d in zip(arrived, directions, strict=True) if g is not None]
    found = reverse([g for g, _ in pairs], [d for _, d in pairs], symbols)
    if any(n is symbol for n in topological([n for n in found if n is not None]) for symbol in symbols):
        raise input_error("forward mode through a custom gradient whose backward function is not linear",
                          "its results must be sums of products with the cotangents; or use reverse mode")
    return found


# ------------------------------------------------------------------------------------- what a function says itself
def stop_gradient(x: Any) -> Any:
    """x, which counts as a constant in gradients; also containers of tensors."""
    return map_leaves(lambda leaf: Tensor.of(alias(to_node(leaf), STOP)) if isinstance(leaf, (Tensor, np.ndarray))
                      else leaf, x)


def custom_grad(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the gradient that f gives: f(*args) returns (result, backward).

    backward(cotangents), of the form of the result, returns the gradients by the positional arguments: a tuple, or for
    one argument the gradient itself; None is zero.  Tensors that f closes over get no gradient.
    """
    @functools.wraps(f)
    def transformed(*args: Any) -> Any:
        given: list[Any] = []
        form = flatten(tuple(args), given)
        numbers = [k for k, leaf in enumerate(given) if isinstance(leaf, (Tensor, np.ndarray))]
        tensors = {k: watched_alias(to_node(given[k])) for k in numbers}
        pair = f(*form.build(iter([tensors.get(k, leaf) for k, leaf in enumerate(given)])))
        if not isinstance(pair, tuple) or len(pair) != 2 or not callable(pair[1]):
            raise input_error(f"custom_grad: {_name(f)} returns a pair (result, backward function), "
                              f"got {type(pair).__name__}")
        result, backward = pair
        leaves: list[Any] = []
        out_form = flatten(result, leaves)
        floats = [k for k in numbers if tensors[k].dtype.is_float]

        def pull(gs: Sequence[Node | None]) -> list[Node | None]:
            rest = iter(gs)
            cotangent = out_form.build(iter([_tensor(next(rest), leaf.type) if _differentiable(leaf) else None
                                             for leaf in leaves]))
            with transforming():
                found = backward(cotangent)
            return _custom_gradients(found, form, [given[k] if k in floats else None for k in range(len(given))], f)

        block = Block([tensors[k].node() for k in floats], pull)
        outputs = iter([watched_alias(leaf.node(), block) for leaf in leaves if _differentiable(leaf)])
        made = [next(outputs) if _differentiable(leaf) else leaf for leaf in leaves]
        block.outputs = [t.node() for t in made if _differentiable(t)]
        return out_form.build(iter(made))

    return transformed


def _custom_gradients(found: Any, form: Form, arguments: Sequence[Any], f: Callable[..., Any]) -> list[Node | None]:
    """The nodes that a custom backward function gave for the float tensors among the arguments (others are None)."""
    found = (found,) if len(form.children) == 1 and not isinstance(found, tuple) else found
    if not isinstance(found, tuple) or len(found) != len(form.children):
        count = len(found) if isinstance(found, tuple) else 1
        raise input_error(f"the backward function of {_name(f)} gives {count} gradients "
                          f"for {len(form.children)} arguments")
    rest = iter(arguments)
    nodes: list[Node | None] = []
    for gradient, child in zip(found, form.children):
        given: list[Any] = []
        if gradient is not None and flatten(gradient, given) != child:
            raise input_error(f"the backward function of {_name(f)} gives a gradient of another form than its argument")
        for k in range(len(child.paths())):
            argument = next(rest)
            if argument is None:
                continue
            node = None if gradient is None or given[k] is None else to_node(given[k])
            expected = to_node(argument)
            if node is not None and node.shape != expected.shape:
                raise input_error(f"the backward function of {_name(f)} gives a gradient of shape {node.shape} "
                                  f"for an argument of shape {expected.shape}")
            nodes.append(None if node is None else convert(node, expected.dtype))
    return nodes
