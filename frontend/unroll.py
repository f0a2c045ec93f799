"""`jit(step, unroll=K)`: K calls of a function, one after the other, as one program."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from jtc.frontend.manipulation import stack
from jtc.frontend.operands import need_integer
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error
from jtc.frontend.tree import Form, flatten


def unrolled(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """A function whose tensor arguments have one more axis, of size `count`: call k gets slice k of each.

    Tensors among the results are stacked along a new first axis; other results are those of the last call.  State that
    the function assigns to goes from call to call.  Raises InputError where an argument has another
    first size, and where `count` is not an integer of at least 1.
    """
    count = need_integer(count, "unroll", 1)

    @functools.wraps(function)
    def several(*args: Any, **kwargs: Any) -> Any:
        leaves: list[Any] = []
        form = flatten((args, kwargs), leaves)
        for leaf, path in zip(leaves, form.paths()):
            if _is_tensor(leaf) and (not leaf.shape or leaf.shape[0] != count):
                place = path.partition(".")[2]
                raise input_error(f"argument {place} of shape {leaf.shape} does not hold {count} calls",
                                  f"with unroll={count} the first axis of every tensor has size {count}")
        results: list[list[Any]] = []
        out_form: Form | None = None
        for k in range(count):
            call_args, call_kwargs = form.build(iter([leaf[k] if _is_tensor(leaf) else leaf for leaf in leaves]))
            found: list[Any] = []
            before, out_form = out_form, flatten(function(*call_args, **call_kwargs), found)
            if before is not None and out_form != before:
                raise input_error("the calls of an unrolled function return results of different forms")
            results.append(found)
        assert out_form is not None                      # count is at least 1
        return out_form.build(iter([stack(parts) if _is_tensor(parts[-1]) else parts[-1] for parts in zip(*results)]))

    return several


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, (Tensor, np.ndarray))
