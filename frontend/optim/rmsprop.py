"""RMSprop."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jtc.frontend.elementwise import sqrt
from jtc.frontend.nn.parameter import Parameter
from jtc.frontend.optim.group import ParamGroup, check_number
from jtc.frontend.optim.optimizer import Optimizer
from jtc.frontend.tensor import Tensor


class RMSprop(Optimizer):
    """p = p - lr * g / (sqrt(v) + eps), v the running mean of g**2 (minus the square of that of g, if centered).

    With momentum the quotients are gathered: b = momentum * b + g / ..., p = p - lr * b.
    Source: Hinton, lecture 6e of "Neural networks for machine learning", 2012; PyTorch's documentation.
    """

    saves_step = True

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False, *, maximize: bool = False):
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay,
                                  "momentum": momentum, "centered": centered, "maximize": maximize})

    def check_options(self, group: ParamGroup) -> None:
        for name in ("lr", "alpha", "eps", "weight_decay", "momentum"):
            check_number(name, group[name])

    def slots(self, group: ParamGroup) -> Mapping[str, float]:
        names = ["square_avg", *(["momentum_buffer"] if group["momentum"] else []),
                 *(["grad_avg"] if group["centered"] else [])]
        return dict.fromkeys(names, 0.0)

    def update_parameter(self, parameter: Parameter, gradient: Tensor, state: Mapping[str, Tensor],
                         group: ParamGroup, step: Tensor) -> None:
        kind, alpha = parameter.dtype, group.scalar("alpha")
        if group["weight_decay"]:
            gradient = gradient + parameter * group.scalar("weight_decay").astype(kind)
        rest, square = (1 - alpha).astype(kind), state["square_avg"]
        square.assign(square * alpha.astype(kind) + gradient * gradient * rest)
        spread: Tensor = square
        if group["centered"]:
            mean = state["grad_avg"]
            mean.assign(mean + (gradient - mean) * rest)
            spread = square - mean * mean
        scaled = gradient / (sqrt(spread) + group.scalar("eps").astype(kind))
        if group["momentum"]:
            buffer = state["momentum_buffer"]
            buffer.assign(buffer * group.scalar("momentum").astype(kind) + scaled)
            scaled = buffer
        parameter.assign(parameter - scaled * group.scalar("lr").astype(kind))
