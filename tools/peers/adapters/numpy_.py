"""NumPy in float32: the reference's formulas, forward only."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jtc.tools.peers.reference import F, values
from jtc.tools.peers.workload import Workload

VERSION = f"numpy {np.__version__}"


def build(w: Workload) -> Callable[[], Any] | None:
    if w.fwd is None or w.precision != "f32":
        return None
    forward, tensors = w.fwd, values(w, np.float32)
    return lambda: forward(F, tensors)


def to_numpy(result: Any) -> list[np.ndarray]:
    return [value.data for value in result]
