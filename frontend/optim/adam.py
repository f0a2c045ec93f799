"""Adam and AdamW."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jtc.frontend.elementwise import maximum, sqrt
from jtc.frontend.nn.parameter import Parameter
from jtc.frontend.optim.group import ParamGroup, check_number
from jtc.frontend.optim.optimizer import Optimizer
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error


class Adam(Optimizer):
    """p = p - lr * m / (sqrt(v) + eps), m and v the running means of g and g**2, corrected for their start at 0.

    g is the gradient; weight_decay is added to the gradient.  amsgrad: v is the largest so far.
    Source: Kingma and Ba, "Adam", 2015; Reddi et al., "On the convergence of Adam and beyond", 2018.
    """

    saves_step = True
    decoupled = False             # whether weight decay acts on the parameter instead of the gradient

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.0, amsgrad: bool = False, *, maximize: bool = False):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                                  "amsgrad": amsgrad, "maximize": maximize})

    def check_options(self, group: ParamGroup) -> None:
        for name in ("lr", "eps", "weight_decay"):
            check_number(name, group[name])
        if not isinstance(group["betas"], (tuple, list)) or len(group["betas"]) != 2:
            raise input_error(f"betas are two numbers, got {group['betas']!r:.40}")
        for beta in group["betas"]:
            check_number("beta", beta, 0.0, 1.0)

    def slots(self, group: ParamGroup) -> Mapping[str, float]:
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")
        return dict.fromkeys(names, 0.0)

    def update_parameter(self, parameter: Parameter, gradient: Tensor, state: Mapping[str, Tensor],
                         group: ParamGroup, step: Tensor) -> None:
        kind, lr, decay = parameter.dtype, group.scalar("lr"), group.scalar("weight_decay")
        beta1, beta2 = group.scalar("beta1"), group.scalar("beta2")
        value: Tensor = parameter
        if group["weight_decay"]:
            if self.decoupled:
                value = value * (1 - lr * decay).astype(kind)
            else:
                gradient = gradient + value * decay.astype(kind)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.assign(mean + (gradient - mean) * (1 - beta1).astype(kind))
        square.assign(square * beta2.astype(kind) + gradient * gradient * (1 - beta2).astype(kind))
        if group["amsgrad"]:
            state["max_exp_avg_sq"].assign(maximum(state["max_exp_avg_sq"], square))
            square = state["max_exp_avg_sq"]
        # The corrections are computed in float64: 1 - beta**step would lose most digits in float32.
        size = (lr / (1 - beta1 ** step)).astype(kind)
        correction = sqrt(1 - beta2 ** step).astype(kind)
        parameter.assign(value - mean * size / (sqrt(square) / correction + group.scalar("eps").astype(kind)))


class AdamW(Adam):
    """Adam whose weight decay acts on the parameter: p = p * (1 - lr * weight_decay) before the update.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """

    decoupled = True

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
