"""Learning-rate schedules.  Each gives the rate after a number of steps in closed form; `step()` sets the next one."""
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from jtc.frontend.optim.group import check_number
from jtc.frontend.optim.optimizer import Optimizer
from jtc.frontend.trace import input_error


class LRScheduler(ABC):
    """Base class: a subclass defines `rate_of`.

    last_epoch  steps so far
    base_lrs    the learning rates of the groups at the start
    """

    def __init__(self, optimizer: Optimizer):
        if not isinstance(optimizer, Optimizer):
            raise input_error(f"a schedule takes an optimiser, got {type(optimizer).__name__}")
        self.optimizer, self.last_epoch = optimizer, 0
        self.base_lrs = [float(group["lr"]) for group in optimizer.param_groups]
        self._set()

    @abstractmethod
    def rate_of(self, number: int, base: float, epoch: int) -> float:
        """The learning rate of the group `number` after `epoch` steps, where it was `base` at the start."""

    def step(self) -> None:
        """Set the learning rates of the next epoch (or batch, as the schedule counts)."""
        self.last_epoch += 1
        self._set()

    def _set(self) -> None:
        for number, (group, base) in enumerate(zip(self.optimizer.param_groups, self.base_lrs)):
            group["lr"] = self.rate_of(number, base, self.last_epoch)

    def get_last_lr(self) -> list[float]:
        """The learning rates of the groups now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimiser and functions."""
        return {k: v for k, v in self.__dict__.items() if k != "optimizer" and not callable(v) and k != "lr_lambdas"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` gave, and set the learning rates."""
        self.__dict__.update(state_dict)
        self._set()


class LambdaLR(LRScheduler):
    """base * lr_lambda(epoch); one function, or one for each group."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]):
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise input_error(f"LambdaLR got {len(self.lr_lambdas)} functions for {groups} parameter groups")
        super().__init__(optimizer)

    def rate_of(self, number: int, base: float, epoch: int) -> float:
        return base * self.lr_lambdas[number](epoch)


class _OneForAll(LRScheduler):
    """A schedule whose groups differ in their first rate only."""

    @abstractmethod
    def rate(self, base: float, epoch: int) -> float:
        """The learning rate after `epoch` steps, where it was `base` at the start."""

    def rate_of(self, number: int, base: float, epoch: int) -> float:
        return self.rate(base, epoch)


class StepLR(_OneForAll):
    """base * gamma ** (epoch // step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        check_number("step_size", step_size, 1)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        return base * self.gamma ** (epoch // self.step_size)


class MultiStepLR(_OneForAll):
    """base * gamma ** (number of milestones reached)."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1):
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        return base * self.gamma ** sum(m <= epoch for m in self.milestones)


class ExponentialLR(_OneForAll):
    """base * gamma ** epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float):
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        return base * self.gamma ** epoch


class ConstantLR(_OneForAll):
    """base * factor for total_iters steps, then base."""

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5):
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        return base * (self.factor if epoch < self.total_iters else 1.0)


class LinearLR(_OneForAll):
    """base times a factor that goes in a straight line from start_factor to end_factor in total_iters steps."""

    def __init__(self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0,
                 total_iters: int = 5):
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise input_error(f"LinearLR from {start_factor} to {end_factor}", "factors lie between 0 and 1")
        check_number("total_iters", total_iters, 1)
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        done = min(epoch, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class PolynomialLR(_OneForAll):
    """base * (1 - epoch / total_iters) ** power, 0 after total_iters steps."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0):
        check_number("total_iters", total_iters, 1)
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        return base * (1 - min(epoch, self.total_iters) / self.total_iters) ** self.power


class CosineAnnealingLR(_OneForAll):
    """From base to eta_min along half a cosine of T_max steps, and back.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0):
        check_number("T_max", T_max, 1)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        return _cosine(base, self.eta_min, epoch / self.T_max)


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to max_lr, and down to max_lr / div_factor / final_div_factor, in total_steps steps.

    Momentum (or beta1) goes the other way, unless cycle_momentum is False.  Made for `step()` after every batch.
    Source: Smith and Topin, "Super-convergence", 2018; PyTorch's documentation.
    """

    def __init__(self, optimizer: Optimizer, max_lr: float | Sequence[float], total_steps: int, pct_start: float = 0.3,
                 anneal_strategy: str = "cos", cycle_momentum: bool = True, base_momentum: float = 0.85,
                 max_momentum: float = 0.95, div_factor: float = 25.0, final_div_factor: float = 1e4):
        groups = len(optimizer.param_groups)
        self.max_lrs = [float(max_lr)] * groups if isinstance(max_lr, (int, float)) else [float(x) for x in max_lr]
        if anneal_strategy not in ("cos", "linear"):
            raise input_error(f"anneal_strategy {anneal_strategy!r}", 'it is "cos" or "linear"')
        if total_steps < 1 or not 0 <= pct_start <= 1 or len(self.max_lrs) != groups:
            raise input_error(f"OneCycleLR with total_steps {total_steps}, pct_start {pct_start}, "
                              f"{len(self.max_lrs)} rates for {groups} groups")
        self.total_steps, self.pct_start, self.anneal_strategy = total_steps, pct_start, anneal_strategy
        self.cycle_momentum, self.base_momentum, self.max_momentum = cycle_momentum, base_momentum, max_momentum
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        if cycle_momentum and not ({"momentum", "betas"} & set(optimizer.defaults)):
            raise input_error(f"{type(optimizer).__name__} has no momentum to cycle", "pass cycle_momentum=False")
        super().__init__(optimizer)

    def step(self) -> None:
        if self.last_epoch + 1 >= self.total_steps:
            raise input_error(f"OneCycleLR is over: it was made for {self.total_steps} steps")
        super().step()

    def _between(self, epoch: int, low: float, high: float, last: float) -> float:
        """low at the start, high at the top, last at the end."""
        top = self.pct_start * self.total_steps - 1
        if epoch <= top:
            start, end, done = low, high, epoch / top if top else 1.0
        else:
            start, end, done = high, last, (epoch - top) / (self.total_steps - 1 - top)
        return _cosine(start, end, done) if self.anneal_strategy == "cos" else start + (end - start) * done

    def rate_of(self, number: int, base: float, epoch: int) -> float:
        low = self.max_lrs[number] / self.div_factor
        return self._between(epoch, low, self.max_lrs[number], low / self.final_div_factor)

    def _set(self) -> None:
        super()._set()
        if self.cycle_momentum:
            momentum = self._between(self.last_epoch, self.max_momentum, self.base_momentum, self.max_momentum)
            for group in self.optimizer.param_groups:
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum


class ReduceLROnPlateau:
    """Multiplies the learning rates by `factor` once a measure has not improved for more than `patience` epochs."""

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
                 threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0):
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs") or not 0 < factor < 1:
            raise input_error(f"ReduceLROnPlateau with mode {mode!r}, threshold_mode {threshold_mode!r}, "
                              f"factor {factor}", 'they are "min" or "max", "rel" or "abs", and below 1')
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.min_lr = threshold, threshold_mode, cooldown, min_lr
        self.best, self.bad, self.cooling = math.inf if mode == "min" else -math.inf, 0, 0

    def step(self, metrics: Any) -> None:
        """Note the measure of an epoch, a number or a tensor with one element."""
        value = float(metrics)
        sign = 1 if self.mode == "max" else -1
        relative = self.threshold_mode == "rel" and math.isfinite(self.best)
        if value * sign > self.best * sign + (abs(self.best) if relative else 1) * self.threshold:
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.cooling:
            self.cooling, self.bad = self.cooling - 1, 0
        if self.bad > self.patience:
            self.cooling, self.bad = self.cooldown, 0
            for group in self.optimizer.param_groups:
                group["lr"] = max(group["lr"] * self.factor, self.min_lr)

    def get_last_lr(self) -> list[float]:
        """The learning rates of the groups now."""
        return [group["lr"] for group in self.optimizer.param_groups]
