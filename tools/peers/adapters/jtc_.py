"""jtc: weights of inference are compiled in; a training step is one jitted function that assigns to its parameters."""
from __future__ import annotations

from jtc.tools.bench_adapter import VERSION, F, build, compiled, to_numpy

__all__ = ["VERSION", "F", "build", "compiled", "to_numpy"]
