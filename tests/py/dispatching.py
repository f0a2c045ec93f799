"""Jitted functions of tests: a class of tensors, calls that are noted, and executables of kernels in C."""
from __future__ import annotations

import numpy as np

from jtc.runtime.engine import Buffer, Dispatcher
from jtc.runtime.module import load_module

from native import buffer, launch, plan, shared_object

SOURCE = """
KERNEL(add) { for (int64_t i = begin; i < end; i++) F(2)[i] = F(0)[i] + F(1)[i]; }
KERNEL(subtract) { for (int64_t i = begin; i < end; i++) F(2)[i] = F(0)[i] - F(1)[i]; }
KERNEL(both) { for (int64_t i = begin; i < end; i++) { F(1)[i] = F(0)[i] + 1; F(2)[i] = F(0)[i] - 1; } }
"""


class Tensor:
    __slots__ = ("_buffer", "_node", "me")

    def __init__(self, values):
        self._buffer = Buffer.from_numpy(np.asarray(values, np.float32)) if values is not None else None

    @property
    def values(self):
        return self._buffer.numpy().tolist()


class Jit(Dispatcher):
    """Notes the calls that take the slow path."""

    def __init__(self, bypass=()):
        super().__init__(self.slow, Tensor, list(bypass))
        self.calls = []

    def slow(self, args, kwargs):
        self.calls.append((args, kwargs))
        return "slow"


def load_executables(folder):
    """{2, 3: the sum of two vectors of so many elements; "subtract": their difference; "both": a + 1 and a - 1}"""

    def load(name, buffers, launches):
        return load_module(shared_object(folder / f"{name}.so", SOURCE, plan(name, buffers, launches))).executable

    def add(n, kernel="add"):
        return load(f"{kernel}{n}", [buffer("a", [n], "input"), buffer("b", [n], "input", 1),
                                     buffer("c", [n], "output")], [launch(kernel, [0, 1, 2], n)])

    outputs = [buffer("a", [2], "input"), buffer("b", [2], "output"), buffer("c", [2], "output", 1)]
    return {2: add(2), 3: add(3), "subtract": add(2, "subtract"),
            "both": load("both", outputs, [launch("both", [0, 1, 2], 2)])}
