"""torch.compile (inductor) in its default mode; weights are arguments."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from jtc.tools.peers.adapters.torch_ import VERSION, F, inference, to_numpy, trainer
from jtc.tools.peers.workload import Workload

__all__ = ["VERSION", "F", "build", "to_numpy"]


def build(w: Workload) -> Callable[[], Any]:
    torch._dynamo.reset()
    return trainer(w, torch.compile) if w.training else inference(w, torch.compile)
