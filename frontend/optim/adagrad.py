"""Adagrad."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jtc.frontend.elementwise import sqrt
from jtc.frontend.nn.parameter import Parameter
from jtc.frontend.optim.group import ParamGroup, check_number
from jtc.frontend.optim.optimizer import Optimizer
from jtc.frontend.tensor import Tensor


class Adagrad(Optimizer):
    """p = p - lr / (1 + (step - 1) * lr_decay) * g / (sqrt(s) + eps), s the sum of all g**2.

    Source: Duchi, Hazan, Singer, "Adaptive subgradient methods", 2011; PyTorch's documentation.
    """

    saves_step = True

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, lr_decay: float = 0.0, weight_decay: float = 0.0,
                 initial_accumulator_value: float = 0.0, eps: float = 1e-10, *, maximize: bool = False):
        super().__init__(params, {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
                                  "initial_accumulator_value": initial_accumulator_value, "eps": eps,
                                  "maximize": maximize})

    def check_options(self, group: ParamGroup) -> None:
        for name in ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"):
            check_number(name, group[name])

    def slots(self, group: ParamGroup) -> Mapping[str, float]:
        return {"sum": float(group["initial_accumulator_value"])}

    def update_parameter(self, parameter: Parameter, gradient: Tensor, state: Mapping[str, Tensor],
                         group: ParamGroup, step: Tensor) -> None:
        kind = parameter.dtype
        if group["weight_decay"]:
            gradient = gradient + parameter * group.scalar("weight_decay").astype(kind)
        rate = (group.scalar("lr") / (1 + (step - 1) * group.scalar("lr_decay"))).astype(kind)
        total = state["sum"]
        total.assign(total + gradient * gradient)
        parameter.assign(parameter - gradient * rate / (sqrt(total) + group.scalar("eps").astype(kind)))
