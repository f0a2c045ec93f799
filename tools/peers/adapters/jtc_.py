"""jtc: weights of inference are compiled in; a training step is one jitted function that assigns to its parameters."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jtc
from jtc import Tensor
from jtc.tools.bench_adapter import VERSION, F, to_numpy
from jtc.tools.peers.workload import Workload

__all__ = ["VERSION", "F", "build", "compiled", "to_numpy"]


def compiled(w: Workload, unroll: int | None = None) -> tuple[Any, list[Tensor]]:
    """A jitted function, and the tensors to call it with.

    unroll: so many training steps as one program; the losses are then stacked
    """
    return (_step(w, unroll), []) if w.training else _forward(w)


def build(w: Workload) -> Callable[[], Any]:
    function, inputs = compiled(w)

    def run() -> Any:
        result = function(*inputs)
        jtc.sync(result)
        return result
    return run


def _step(w: Workload, unroll: int | None) -> Any:
    trained = {name for _, names in w.phases for name in names}
    known = {name: jtc.nn.Parameter(a) if name in trained else jtc.array(a) for name, a in w.inputs().items()}
    optimizers = [jtc.optim.SGD([known[n] for n in names], lr=w.lr, momentum=w.momentum) for _, names in w.phases]

    def step() -> list[Tensor]:
        state, losses = dict(known), []
        for (objective, _), optimizer in zip(w.phases, optimizers):
            loss, later = objective(F, state)
            optimizer.step(loss)
            state |= {name: jtc.stop_gradient(x) for name, x in later.items()}
            losses.append(loss)
        return losses
    return jtc.jit(step, name=w.name, unroll=unroll)


def _forward(w: Workload) -> tuple[Any, list[Tensor]]:
    assert w.fwd is not None
    arrays, forward = w.inputs(), w.fwd
    constant = w.const(arrays)
    names = [name for name in arrays if name not in constant]

    def function(*inputs: Tensor) -> list[Tensor]:
        weights = {name: jtc.asarray(arrays[name]) for name in constant}
        return forward(F, weights | dict(zip(names, inputs)))
    return jtc.jit(function, name=w.name), [jtc.array(arrays[name]) for name in names]
