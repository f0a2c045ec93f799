"""Compiling behind a running program: one process of low priority, which does one request after another.

A process of its own leaves the program its interpreter, may be given less of the processors, and can be ended at any
time.  It runs while there are requests, and ends with this process, however that ends.
"""
from __future__ import annotations

import atexit
import os
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jtc.compiler import workers
from jtc.compiler.driver import compile_graph
from jtc.dialects.errors import InternalError
from jtc.dialects.graph import Graph
from jtc.dialects.text import graph_text
from jtc.runtime import knobs
from jtc.runtime.engine import PROCESS_KNOBS

# Where both want a processor, the program gets three times as much of it; less than that, and the better code comes too
# late to be worth its time (docs/performance.md).
NICE = 5
# Knobs that are not the compiler's, besides those of the runtime; a program that is dumped is not compiled here.
_FOREIGN = ("backend", "tiered", "dump_dir")

Done = Callable[[Path | Exception], None]


@dataclass(frozen=True)
class _Request:
    graph: Graph
    options: dict[str, Any]
    done: Done


class _Background:
    """The requests of this process; a thread of it waits for the answers while there are any."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests: list[_Request] = []
        self.thread: threading.Thread | None = None
        self.worker: workers.Worker | None = None
        self.folder: tempfile.TemporaryDirectory[str] | None = None      # modules that the cache does not keep
        self.closed = False

    def submit(self, request: _Request) -> None:
        with self.lock:
            if self.closed:
                return
            self.requests.append(request)
            if self.thread is None:
                # A daemon, because the end of the interpreter waits for others before it asks anybody to stop.
                self.thread = threading.Thread(target=self._serve, name="jtc-background", daemon=True)
                self.thread.start()

    def _serve(self) -> None:
        while True:
            with self.lock:
                if self.closed or not self.requests:
                    worker, folder = self.worker, self.folder
                    self.worker = self.folder = self.thread = None
                    break
                request = self.requests.pop(0)
                if self.worker is None:
                    self.folder = self.folder or tempfile.TemporaryDirectory(prefix="jtc-", ignore_cleanup_errors=True)
                    self.worker = workers.Worker("jtc.compiler.background", self.folder.name)
                worker = self.worker
            answer = self._answer(worker, request)
            if not self.closed:
                request.done(answer)
        if worker is not None:
            worker.stop()
        if folder is not None:
            folder.cleanup()

    def _answer(self, worker: workers.Worker, request: _Request) -> Path | Exception:
        try:
            graph = request.graph
            orders = [node.order for node in graph.nodes()]
            ok, answer = worker.call((graph_text(graph), orders, graph.name, request.options))
            return Path(answer) if ok else answer
        except (EOFError, OSError):
            with self.lock:
                self.worker = None
            worker.stop()
            return InternalError(f"the compiling process ended with code {worker.process.returncode}")
        except Exception as error:                      # whatever it is, somebody waits for an answer
            return error

    def stop(self) -> None:
        """End the process, and wait for the thread: it may be loading what was compiled last."""
        with self.lock:
            self.closed, thread = True, self.thread
            if self.worker is not None:
                self.worker.process.kill()
        if thread is not None and thread is not threading.current_thread():
            thread.join()


_background = _Background()


def submit(graph: Graph, done: Done) -> None:
    """Compile a graph with the knobs that hold here; `done(module or error)` is called once, from another thread.

    Not at all, where this process ends before.
    """
    options = {name: knobs.get(name) for name in knobs.KNOBS if name not in (*PROCESS_KNOBS, *_FOREIGN)}
    _background.submit(_Request(graph, options, done))


def _stop() -> None:
    _background.stop()


def _forget() -> None:
    """In the child of a fork: requests are answered in the parent."""
    global _background
    _background = _Background()


atexit.register(_stop)
os.register_at_fork(after_in_child=_forget)


# ---------------------------------------------------------------------------------------------------- the other process
def serve() -> None:
    """Answer requests (text of a graph, order of its nodes, name, knobs): (True, path of the module) or (False, error).
    """
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    incoming, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                       # what a library prints to stdout must not get between the replies
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                requests.put(workers.receive(incoming))
        except (EOFError, OSError):
            os._exit(0)                 # whoever asked is gone: so are the workers, whose pipes end here

    threading.Thread(target=read, daemon=True).start()
    while True:
        workers.send(replies, _compiled(*requests.get()))


def _compiled(text: str, orders: Sequence[int], name: str, options: dict[str, Any]) -> tuple[bool, Any]:
    from jtc.dialects.reader import read_text
    try:
        graph = read_text(text, name)
        assert isinstance(graph, Graph)
        nodes = sorted(graph.nodes(), key=lambda node: node.number)     # as they stand in the text
        for node, place in zip(sorted(zip(nodes, orders), key=lambda pair: pair[1]), [n.number for n in nodes]):
            node[0].order = place
        return True, str(compile_graph(graph, **options))
    except Exception as error:
        return False, error
