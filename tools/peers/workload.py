"""What a workload is: inputs, what to compute from them, and how exact the result must be.

What a workload computes is written once, over a namespace `F` of primitives that every adapter provides for its own
framework (reference.py has all of them in NumPy).  It is one of two kinds:

* forward: `fwd(F, tensors)` gives a list of outputs
* training: `phases` are pairs of an objective, `objective(F, tensors) -> (loss, tensors for later phases)`, and the
  names of what it trains.  A step runs the phases in order; each takes the gradient of its loss, and one step of
  gradient descent with momentum.  The outputs are the losses of the phases.
"""
from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jtc.dialects.errors import UsageError, near

Arrays = dict[str, np.ndarray]
Objective = Callable[[Any, Mapping[str, Any]], tuple[Any, dict[str, Any]]]
STEPS = 3                   # of training, whose losses are checked

# Group -> largest error of an output, as a share of its largest value, and why.
TOLERANCES: dict[str, tuple[float, str]] = {
    "kernels": (1e-5, "float32 rounds by 6e-8; sums of up to 16 million terms in an order of the peer's own"),
    "models": (1e-4, "errors of some fifty layers add up"),
    "training": (1e-3, "losses after updates, which depend on gradients of all layers"),
    "models in bf16": (2e-2, "bfloat16 rounds by up to 4e-3, what enters and leaves every product; errors add up"),
    "training in bf16": (2e-2, "the same, forward and backward"),
}


@dataclass(frozen=True)
class Workload:
    """See the module's text.

    group     row of TOLERANCES;  section: heading in the report
    make      generator of random numbers -> inputs by name
    precision f32, or bf16: products and what feeds them in bfloat16, as the peer's mixed precision has it
    constant  beginnings of the names of weights: those may be compiled in, everything else is an argument of each call
    """

    name: str
    group: str
    section: str
    make: Callable[[np.random.Generator], Arrays]
    fwd: Callable[[Any, Mapping[str, Any]], list[Any]] | None = None
    phases: Sequence[tuple[Objective, Sequence[str]]] = ()
    constant: tuple[str, ...] = ()
    lr: float = 0.0
    momentum: float = 0.0
    precision: str = "f32"

    def in_bf16(self) -> Workload:
        """The same in mixed precision."""
        return replace(self, name=f"{self.name}_bf16", group=f"{self.group} in bf16", section="bfloat16",
                       precision="bf16")

    @property
    def training(self) -> bool:
        return bool(self.phases)

    @property
    def tolerance(self) -> float:
        return TOLERANCES[self.group][0]

    def inputs(self) -> Arrays:
        """The same arrays on every call and in every process."""
        return self.make(np.random.default_rng(zlib.crc32(self.name.encode())))

    def const(self, arrays: Arrays) -> list[str]:
        """Names of the inputs that may be compiled in, in their order: programs of two processes are the same."""
        return [name for name in arrays if self.constant and name.startswith(self.constant)]

    def error(self, outputs: Sequence[Any], wanted: Sequence[np.ndarray]) -> float:
        """The largest error, as a share of the largest value of its output.  Raises ValueError beyond the tolerance."""
        if len(outputs) != len(wanted):
            raise ValueError(f"{len(outputs)} outputs, not {len(wanted)}")
        worst = 0.0
        for got, want in zip(outputs, wanted):
            array = np.asarray(got, np.float64)
            if array.size != want.size or array.size > 1 and array.shape != want.shape:
                raise ValueError(f"an output of shape {array.shape}, not {want.shape}")
            difference = float(np.abs(array.reshape(want.shape) - want).max())
            worst = max(worst, difference / max(float(np.abs(want).max()), 1e-30))
            if not np.isfinite(difference):
                raise ValueError("an output is not finite")
        if worst > self.tolerance:
            raise ValueError(f"an error of {worst:.1e}, more than {self.tolerance:.0e}")
        return worst


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)


def suite(tiny: bool = False) -> dict[str, Workload]:
    """Every workload by name, in the order of the report; tiny: small sizes, which take milliseconds."""
    from jtc.tools.peers import kernels, models
    return {w.name: w for w in (*kernels.workloads(tiny), *models.workloads(tiny))}


def select(patterns: str, known: Mapping[str, Workload]) -> list[Workload]:
    """Those whose name, or section, contains one of the comma-separated words.  Raises UsageError for a word that no
    workload has."""
    words = [word.strip() for word in patterns.split(",") if word.strip()]
    for word in words:
        if not any(word in w.name or word == w.section for w in known.values()):
            raise UsageError(f"no workload {word!r}", hint=near(word, known))
    return [w for w in known.values() if any(word in w.name or word == w.section for word in words)]
