"""Loss scaling: gradients that would vanish in float16 are computed of a loss times a large number."""
from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np

from jtc.frontend import values
from jtc.frontend.elementwise import isfinite, logical_and, logical_not, where
from jtc.frontend.optim.clip import clipped
from jtc.frontend.optim.group import check_number
from jtc.frontend.optim.optimizer import Optimizer
from jtc.frontend.reductions import all as every
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error


class GradScaler:
    """`scaler.step(opt, loss)` in place of `opt.step(loss)`: the gradients of loss * scale, divided by the scale.

    A step in which a gradient is not finite changes neither parameters nor the optimiser's state, and multiplies the
    scale by `backoff_factor`; `growth_interval` steps without one multiply it by `growth_factor`.  All of it belongs
    to the graph of the step: nothing is asked on the way.
    Source: Micikevicius et al., "Mixed precision training", 2018; the defaults are PyTorch's.
    """

    def __init__(self, init_scale: float = 2.0 ** 16, growth_factor: float = 2.0, backoff_factor: float = 0.5,
                 growth_interval: int = 2000, enabled: bool = True):
        check_number("growth_factor", growth_factor, 1.0)
        check_number("backoff_factor", backoff_factor, 0.0, 1.0)
        check_number("growth_interval", growth_interval, 1)
        if not 0 < init_scale < float("inf"):
            raise input_error(f"init_scale {init_scale!r}", "init_scale is a positive number")
        self.growth_factor, self.backoff_factor, self.growth_interval = growth_factor, backoff_factor, growth_interval
        self.enabled = enabled
        self._scale = Tensor.from_buffer(values.from_numpy(np.array(init_scale, np.float32)))
        self._growth_tracker = Tensor.from_buffer(values.from_numpy(np.array(0, np.int32)))

    def get_scale(self) -> float:
        """The number that the next loss is multiplied by."""
        return float(self._scale.item()) if self.enabled else 1.0

    def scale(self, loss: Tensor) -> Tensor:
        """The loss times the scale."""
        return loss * self._scale.astype(loss.dtype) if self.enabled else loss

    def step(self, optimizer: Optimizer, loss: Tensor, *, max_norm: float | None = None,
             max_value: float | None = None) -> None:
        """Update the optimiser's parameters by the gradients of a scalar loss; limits as for `Optimizer.step`."""
        if not self.enabled:
            optimizer.step(loss, max_norm=max_norm, max_value=max_value)
            return
        optimizer.start(self._record(optimizer, loss, max_norm, max_value), loss)

    def _record(self, optimizer: Optimizer, loss: Tensor, max_norm: float | None,
                max_value: float | None) -> list[Tensor]:
        """Assign what a step does; the tensors of the optimiser that were assigned to."""
        scale = Tensor.of(self._scale.node())               # the state moves on below
        found = optimizer.gradients(self.scale(loss))
        if not found:
            return []                                       # all parameters are frozen: nothing to change, or to judge
        found = [g / scale.astype(g.dtype) for g in found]
        finite = reduce(logical_and, [every(isfinite(g)) for g in found])
        self._advance(finite, scale)
        return optimizer.record(clipped(found, max_norm, max_value), when=finite)

    def _advance(self, finite: Tensor, scale: Tensor) -> None:
        """The scale of the next step."""
        good = self._growth_tracker + 1
        grown = good >= self.growth_interval
        larger = scale * self.growth_factor
        larger = where(isfinite(larger), larger, scale)
        self._scale.assign(where(finite, where(grown, larger, scale), scale * self.backoff_factor))
        self._growth_tracker.assign(where(logical_and(finite, logical_not(grown)), good, 0))

    def state_dict(self) -> dict[str, Any]:
        """The scale and the options, as PyTorch's."""
        if not self.enabled:
            return {}
        return {"scale": self.get_scale(), "growth_factor": self.growth_factor, "backoff_factor": self.backoff_factor,
                "growth_interval": self.growth_interval, "_growth_tracker": int(self._growth_tracker.item())}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave, here or in PyTorch."""
        if not self.enabled:
            return
        missing = [name for name in self.state_dict() if name not in state_dict]
        if missing:
            raise input_error(f"this is not the state dict of a GradScaler: it has no {missing[0]!r}")
        self.growth_factor, self.backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self.growth_interval = state_dict["growth_interval"]
        self._scale.set_buffer(values.from_numpy(np.array(state_dict["scale"], np.float32)))
        self._growth_tracker.set_buffer(values.from_numpy(np.array(state_dict["_growth_tracker"], np.int32)))

    def __repr__(self) -> str:
        return f"GradScaler(scale={self.get_scale():g}, growth_interval={self.growth_interval})"
