"""Stochastic gradient descent."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jtc.frontend.elementwise import where
from jtc.frontend.nn.parameter import Parameter
from jtc.frontend.optim.group import ParamGroup, check_number
from jtc.frontend.optim.optimizer import Optimizer
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error


class SGD(Optimizer):
    """v = momentum * v + (1 - dampening) * g (the first time v = g); p = p - lr * v, with g + momentum * v if nesterov.

    g is the gradient plus weight_decay * p.  Source: PyTorch's documentation of torch.optim.SGD.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
                 weight_decay: float = 0.0, nesterov: bool = False, *, maximize: bool = False):
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                                  "nesterov": nesterov, "maximize": maximize})

    def check_options(self, group: ParamGroup) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            check_number(name, group[name])
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise input_error("nesterov needs a momentum and no dampening")

    def slots(self, group: ParamGroup) -> Mapping[str, float]:
        return {"momentum_buffer": 0.0} if group["momentum"] else {}

    def counts(self, group: ParamGroup) -> bool:
        return bool(group["momentum"] and group["dampening"])

    def _steps_done(self, row: Mapping[str, Any]) -> float:
        return float(row.get("momentum_buffer") is not None)

    def update_parameter(self, parameter: Parameter, gradient: Tensor, state: Mapping[str, Tensor],
                         group: ParamGroup, step: Tensor) -> None:
        kind = parameter.dtype
        if group["weight_decay"]:
            gradient = gradient + parameter * group.scalar("weight_decay").astype(kind)
        if group["momentum"]:
            momentum, velocity = group.scalar("momentum").astype(kind), state["momentum_buffer"]
            moved = velocity * momentum
            if group["dampening"]:
                damped = moved + gradient * (1 - group.scalar("dampening")).astype(kind)
                moved = where(step == 1, gradient, damped)
            else:
                moved = moved + gradient
            velocity.assign(moved)
            gradient = gradient + moved * momentum if group["nesterov"] else moved
        parameter.assign(parameter - gradient * group.scalar("lr").astype(kind))
