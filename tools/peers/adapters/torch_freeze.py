"""torch.compile with the weights as frozen constants, which it packs ahead; inference with weights only."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch._inductor.config

from jtc.tools.peers.adapters.torch_ import VERSION, F, precision, tensors, to_numpy
from jtc.tools.peers.workload import Workload

__all__ = ["VERSION", "F", "build", "to_numpy"]
torch._inductor.config.freezing = True


class _Frozen(torch.nn.Module):
    """A workload with its weights as parameters."""

    def __init__(self, w: Workload, weights: dict[str, torch.Tensor]):
        super().__init__()
        self.workload, self.place = w, {name: f"weight{i}" for i, name in enumerate(sorted(weights))}
        for name, place in self.place.items():
            self.register_parameter(place, torch.nn.Parameter(weights[name], requires_grad=False))

    def forward(self, given: dict[str, torch.Tensor]) -> Any:
        weights = {name: getattr(self, place) for name, place in self.place.items()}
        return self.workload.fwd(F, given | weights)                   # type: ignore[misc]


def build(w: Workload) -> Callable[[], Any] | None:
    known = tensors(w)
    constant = w.const(w.inputs())
    if w.training or not constant:
        return None
    torch._dynamo.reset()
    module = torch.compile(_Frozen(w, {name: known[name] for name in constant}).eval())
    given = {name: x for name, x in known.items() if name not in constant}

    def run() -> Any:
        with torch.no_grad(), precision(w):           # freezing does nothing under inference_mode
            return module(given)
    return run
