"""jtc in float32 on the workloads in bfloat16: what mixed precision is worth."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jtc.tools import bench_adapter
from jtc.tools.bench_adapter import VERSION, F, to_numpy
from jtc.tools.peers.workload import Workload

__all__ = ["VERSION", "F", "build", "to_numpy"]


def build(w: Workload) -> Callable[[], Any] | None:
    return None if w.precision == "f32" else bench_adapter.build(replace(w, precision="f32"))
