"""`scan`: a Python function stepped along the leading axis of its inputs."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtc.dialects.graph import Node
from jtc.frontend.creation import zeros
from jtc.frontend.manipulation import parts, reshape_node, stack
from jtc.frontend.operands import need_integer, to_node
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error, shown
from jtc.frontend.tree import Form, flatten


def scan(f: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, length: int | None = None,
         reverse: bool = False) -> tuple[Any, Any]:
    """Run `carry, y = f(carry, x)` for every x along the leading axis of xs; (the last carry, all y stacked).

    init, xs and y are tensors or containers of tensors; leaves of xs have one leading size, which `length` names where
    xs is None.  f keeps the containers, shapes and dtypes of its carry.  reverse starts from the end; y of a step
    stands where its x stood.

    Steps are recorded one by one: the program grows with their number, but equal steps share their kernels.  For sums
    and linear recurrences `cumulative_sum` and `linear_recurrence` are single kernels.
    Raises InputError where sizes differ, and where f changes the form of its carry.
    """
    carry, form = _leaves(init)
    given, given_form = _leaves(xs) if xs is not None else ([], None)
    count = _length(given, length)
    slices = [_slices(x, count) for x in given]
    if count == 0:
        empty = [zeros(x.shape[1:], dtype=x.dtype) for x in given]
        _, y_form, ys = _step(f, form, carry, given_form, empty)
        columns = [zeros((0, *y.shape), dtype=y.dtype) for y in ys]
    else:
        steps: list[list[Tensor]] = []
        y_form = None
        for t in reversed(range(count)) if reverse else range(count):
            carry, new_form, ys = _step(f, form, carry, given_form, [x[t] for x in slices])
            if steps and new_form != y_form:
                raise input_error("scan: the function returns another container of results than in the step before")
            y_form = new_form
            steps.append(ys)
        columns = [stack(column) for column in zip(*(reversed(steps) if reverse else steps))]
    return form.build(iter(carry)), None if y_form is None else y_form.build(iter(columns))


def _leaves(value: Any) -> tuple[list[Tensor], Form]:
    found: list[Any] = []
    form = flatten(value, found)
    return [leaf if isinstance(leaf, Tensor) else Tensor.of(to_node(leaf)) for leaf in found], form


def _length(given: list[Tensor], length: int | None) -> int:
    if length is not None and need_integer(length, "length") < 0:
        raise input_error(f"scan of {length} steps")
    if any(not x.shape for x in given):
        raise input_error("scan steps along the leading axis, but some of xs have no dimensions")
    sizes = {x.shape[0] for x in given} | ({length} if length is not None else set())
    if not sizes:
        raise input_error("scan needs xs, or the number of steps: length=")
    if len(sizes) > 1:
        raise input_error(f"scan: the leading sizes of xs, or length, differ: {', '.join(map(str, sorted(sizes)))}")
    return sizes.pop()


def _slices(x: Tensor, count: int) -> list[Tensor]:
    node: Node = x.node()
    return [Tensor.of(reshape_node(p, node.shape[1:])) for p in parts(node, 0, range(count + 1))]


def _step(f: Callable[[Any, Any], tuple[Any, Any]], form: Form, carry: list[Tensor], x_form: Form | None,
          x: list[Tensor]) -> tuple[list[Tensor], Form | None, list[Tensor]]:
    """The carry after a step, and the form (None where it is None) and leaves of its y."""
    result = f(form.build(iter(carry)), x_form.build(iter(x)) if x_form is not None else None)
    if not isinstance(result, tuple) or len(result) != 2:
        raise input_error(f"scan: the function returns (carry, y), got {shown(result)}")
    after, after_form = _leaves(result[0])
    if after_form != form:
        raise input_error("scan: the function returns another container than its carry")
    for name, old, new in zip(form.paths(), carry, after):
        if old.type != new.type:
            raise input_error(f"scan: the carry{f' {name}' if name else ''}, {shown(old)}, comes back as {shown(new)}",
                              "convert it before the first step, or with astype in each")
    if result[1] is None:
        return after, None, []
    ys, y_form = _leaves(result[1])
    return after, y_form, ys
