"""Programs in two tiers: quick code, which runs at once, and better code, which takes its place when it is compiled.

    compile quick code, run it    |  a process of low priority compiles better code (compiler/background.py)
    every call runs `module`      |  a thread loads it, binds the weights, and puts it into the place of `module`

Calls under way, and programs that are queued, keep the module that they began with.  Both modules take the same inputs
and give the same outputs, up to rounding: they add up in other orders.
"""
from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jtc.dialects.graph import Graph
from jtc.frontend import values
from jtc.runtime import knobs
from jtc.runtime.engine import Dispatcher, Executable
from jtc.runtime.module import Module, load_module

logger = logging.getLogger("jtc")
_lock = threading.RLock()           # held while what runs is replaced, and while a signature is registered with it


def wanted() -> bool:
    """Whether programs are compiled in tiers here.

    Not under `strict`, where results may not change from one call to the next; not with `tune`, which measures, and
    wants the processor for itself; nor where every phase is dumped.
    """
    return knobs.get("tiered") and not knobs.get("strict") and not knobs.get("tune") and not knobs.get("dump_dir")


class Tiered:
    """A program that runs quick code until better code is there.

    module     what runs now;  tier: "quick", "final", or "quick only", where the better code could not be compiled
    followers  who has signatures with what runs now (see `executable_for`)
    """

    def __init__(self, graph: Graph, module: Module):
        self.graph, self.module, self.tier = graph, module, "quick"
        self._settled = threading.Event()
        self.followers: weakref.WeakSet[Dispatcher] = weakref.WeakSet()

    def run(self, inputs: Sequence[values.Buffer]) -> list[values.Buffer]:
        return self.module.run(inputs)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no better code is being compiled any more, at most `timeout` seconds; whether that is so."""
        return self._settled.wait(timeout)

    def compile_better(self) -> None:
        """Ask for the better code."""
        from jtc.compiler import background
        started, me = time.perf_counter(), weakref.ref(self)

        def done(answer: Path | Exception) -> None:
            tiered = me()
            if tiered is not None:                      # else nobody can call it any more
                tiered._take(answer, time.perf_counter() - started)

        background.submit(self.graph, done)

    def _take(self, answer: Path | Exception, seconds: float) -> None:
        try:
            if isinstance(answer, Exception):
                raise answer
            self._replace(loaded(self.graph, answer))
            logger.info("%s runs its final code, compiled behind it in %.1f s", self.graph.name, seconds)
        except Exception as error:
            self.tier = "quick only"
            logger.warning("%s keeps its quick code: compiling better code failed: %s", self.graph.name, error)
        finally:
            self._settled.set()

    def _replace(self, module: Module) -> None:
        with _lock:
            old, self.module, self.tier = self.module, module, "final"
            for dispatcher in self.followers:
                dispatcher.replace(old.executable, module.executable)
            self.followers.clear()


@contextmanager
def executable_for(dispatcher: Dispatcher, runnable: Module | Tiered) -> Iterator[Executable]:
    """What the dispatcher may add signatures with inside of the `with` block; better code takes its place there."""
    if isinstance(runnable, Module):
        yield runnable.executable
        return
    with _lock:
        yield runnable.module.executable
        if runnable.tier == "quick":
            runnable.followers.add(dispatcher)


def build(graph: Graph) -> Module | Tiered:
    """What runs a graph as soon as possible."""
    from jtc.compiler.driver import compile_quick
    start = time.perf_counter()
    path, final = compile_quick(graph)
    module = loaded(graph, path)
    if final:
        return module
    logger.info("%s runs quick code, compiled in %.1f s", graph.name, time.perf_counter() - start)
    tiered = Tiered(graph, module)
    tiered.compile_better()
    return tiered


def loaded(graph: Graph, path: Path) -> Module:
    """The module of a graph, with its weights."""
    module = load_module(path)
    if module.constants:
        module.bind({node.attrs["value"].name: node.data for node in graph.constants()})
    return module


def _renew_lock() -> None:
    """In the child of a fork, which has none of the threads that may have held it."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)
