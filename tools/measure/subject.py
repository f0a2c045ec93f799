"""What is measured: the model of a file, or a workload of the benchmark, compiled under the knobs that hold."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jtc.compiler.tuning.measure import random_inputs
from jtc.dialects.errors import InputError, UsageError
from jtc.dialects.graph import Graph
from jtc.runtime.engine import Buffer
from jtc.runtime.module import Module


@dataclass
class Running:
    """A compiled program, with inputs.

    module, inputs  for Module.profile
    run             one call, complete when it returns;  steps: how many training steps that is
    outputs         of the first call, or the losses of the first training steps
    """

    module: Module
    inputs: list[Buffer]
    run: Callable[[], Any]
    outputs: list[np.ndarray]
    steps: int = 1


class Subject(Protocol):
    """name; training: whether a call is a training step, which can be unrolled"""

    name: str
    training: bool

    def start(self, unroll: int | None = None) -> Running:
        """Compile under the knobs that hold here, and call once."""


def open_subject(text: str, target: str = "cpu", weights: str | None = None, tiny: bool = False,
                 again: bool = False) -> Subject:
    """A compiled module (.so), a saved graph (.jtc), or the name of a workload of `jtc bench --peers`.

    tiny: of the small workloads;  again: it is compiled under other knobs each time it is started.
    Raises InputError where it is none of these, UsageError for a module that would have to be compiled again.
    """
    from jtc.tools.models import is_module
    from jtc.tools.peers.workload import suite
    known = suite(tiny)
    if text in known:
        return WorkloadSubject(known[text])
    if not Path(text).exists() and not Path(text).suffix:
        raise InputError(f"{text}: no such file, and no workload of that name",
                         hint=f"a workload is one of {', '.join(known)}")
    if not again:
        return ModuleSubject(text, target, weights)
    if is_module(text):
        raise UsageError(f"{text} is compiled already", hint="give the saved graph (.jtc)")
    return GraphSubject(text, target)


class ModuleSubject:
    """A compiled module, or a saved graph that is compiled once."""

    training = False

    def __init__(self, path: str, target: str, weights: str | None):
        from jtc.tools.run import open_module
        self.module: Module = open_module(path, target, weights)
        self.name = self.module.name

    def start(self, unroll: int | None = None) -> Running:
        return _running(self.module)


class GraphSubject:
    """A saved graph, compiled anew at each start."""

    training = False

    def __init__(self, path: str, target: str):
        from jtc.tools.models import open_source
        self.graph: Graph = open_source(path).graph
        self.name, self.target = self.graph.name, target

    def start(self, unroll: int | None = None) -> Running:
        from jtc.compiler.driver import compile_graph
        from jtc.runtime.module import load_module
        module = load_module(compile_graph(self.graph, self.target))
        if module.constants:
            module.bind({node.attrs["value"].name: node.data for node in self.graph.constants()})
        return _running(module)


def _running(module: Module) -> Running:
    inputs = random_inputs(module)

    def run() -> list[np.ndarray]:
        return [b.numpy() for b in module.run(inputs)]
    return Running(module, inputs, run, [np.array(a) for a in run()])


class WorkloadSubject:
    """A workload of the benchmark, as a user of jtc writes it: state of training goes from call to call."""

    def __init__(self, workload: Any):
        self.workload = workload
        self.name, self.training = workload.name, workload.training

    def start(self, unroll: int | None = None) -> Running:
        import jtc
        from jtc.tools.peers.adapters.jtc_ import compiled
        from jtc.tools.peers.workload import STEPS
        function, tensors = compiled(self.workload, unroll)

        def run() -> Any:
            result = function(*tensors)
            jtc.sync(result)
            return result
        if self.training:
            count = unroll or 1
            rows = [np.stack([np.asarray(x) for x in run()], -1).reshape(count, -1) for _ in range(-(-STEPS // count))]
            outputs = [np.concatenate(rows)[:STEPS]]
        else:
            outputs = [np.array(x) for x in run()]
        module = next(m for m in function.runnables if isinstance(m, Module))
        return Running(module, random_inputs(module), run, outputs, unroll or 1)
