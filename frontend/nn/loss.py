"""Losses as modules, called with a prediction and a target.  reduction: "mean", "sum" or "none".

Shapes, dtypes and errors are those of the functions of nn.functional that they name.
"""
from __future__ import annotations

from typing import Any

from jtc.frontend.creation import asarray
from jtc.frontend.nn import functional as F
from jtc.frontend.nn.module import Module
from jtc.frontend.tensor import Tensor


class _Loss(Module):
    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class _Weighted(_Loss):
    weight: Tensor | None

    def __init__(self, weight: Any, reduction: str):
        super().__init__(reduction)
        self.register_buffer("weight", None if weight is None else asarray(weight))


class CrossEntropyLoss(_Weighted):
    """-log(softmax(logits)) at the target class; see nn.functional.cross_entropy."""

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0):
        super().__init__(weight, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, logits: Any, target: Any) -> Tensor:
        return F.cross_entropy(logits, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class NLLLoss(_Weighted):
    """Minus the log probability of the target class; see nn.functional.nll_loss."""

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index

    def forward(self, log_probabilities: Any, target: Any) -> Tensor:
        return F.nll_loss(log_probabilities, target, self.weight, self.ignore_index, self.reduction)


class BCEWithLogitsLoss(_Weighted):
    """Binary cross entropy of logits; see nn.functional.binary_cross_entropy_with_logits."""

    pos_weight: Tensor | None

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None):
        super().__init__(weight, reduction)
        self.register_buffer("pos_weight", None if pos_weight is None else asarray(pos_weight))

    def forward(self, x: Any, target: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(x, target, self.weight, self.reduction, self.pos_weight)


class BCELoss(_Loss):
    """Binary cross entropy of probabilities; see nn.functional.binary_cross_entropy."""

    def forward(self, x: Any, target: Any) -> Tensor:
        return F.binary_cross_entropy(x, target, self.reduction)


class MSELoss(_Loss):
    """The mean of (x - target)**2; see nn.functional.mse_loss."""

    def forward(self, x: Any, target: Any) -> Tensor:
        return F.mse_loss(x, target, self.reduction)


class L1Loss(_Loss):
    """The mean of |x - target|; see nn.functional.l1_loss."""

    def forward(self, x: Any, target: Any) -> Tensor:
        return F.l1_loss(x, target, self.reduction)


class SmoothL1Loss(_Loss):
    """Quadratic below beta, linear above; see nn.functional.smooth_l1_loss."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        self.beta = beta

    def forward(self, x: Any, target: Any) -> Tensor:
        return F.smooth_l1_loss(x, target, self.reduction, self.beta)


class HuberLoss(_Loss):
    """Quadratic below delta, linear above; see nn.functional.huber_loss."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = delta

    def forward(self, x: Any, target: Any) -> Tensor:
        return F.huber_loss(x, target, self.reduction, self.delta)


class KLDivLoss(_Loss):
    """target * (log(target) - x); see nn.functional.kl_div."""

    def __init__(self, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, x: Any, target: Any) -> Tensor:
        return F.kl_div(x, target, self.reduction, self.log_target)
