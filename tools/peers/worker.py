"""One peer in a process of its own: builds, checks and times workloads on request.

    python -m jtc.tools.peers.worker PEER THREADS

Reads one JSON object a line from standard input, answers with one line each; whatever the peer prints goes to standard
error.  See `Worker` in runner.py for the other end.
"""
from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jtc.tools.measure.machine import Priority
from jtc.tools.measure.rounds import calls
from jtc.tools.peers.table import PEERS
from jtc.tools.peers.workload import STEPS, Workload, suite


class Server:
    """The workloads that are built now, and what is asked of them."""

    def __init__(self, peer: str, priority: Priority):
        self.adapter: Any = importlib.import_module(f"jtc.tools.peers.adapters.{PEERS[peer].adapter}")
        self.priority = priority
        self.runs: dict[str, Callable[[], Any]] = {}

    def hello(self) -> dict[str, Any]:
        return {"version": self.adapter.VERSION}

    def build(self, name: str, tiny: bool, reference: str) -> dict[str, Any]:
        """Make the workload, run it and compare with the arrays in the file `reference`."""
        w = suite(tiny)[name]
        start = time.perf_counter()
        run = self.adapter.build(w)
        if run is None:
            return {"unsupported": True}
        with np.load(Path(reference)) as file:
            wanted = [file[key] for key in file.files]
        outputs, first = self._outputs(w, run, start)
        error = w.error(outputs, wanted)
        self.runs[name] = run                   # now that it is right, it may be timed
        return {"build_s": first, "error": error}

    def _outputs(self, w: Workload, run: Callable[[], Any], start: float) -> tuple[list[Any], float]:
        """The outputs, and the seconds from `start` to the first of them."""
        result = run()
        first = time.perf_counter() - start
        arrays = [np.array(a) for a in self.adapter.to_numpy(result)]        # copies: the next call may overwrite them
        if not w.training:
            return arrays, first
        losses = [[float(x) for x in arrays]]
        losses += [[float(x) for x in self.adapter.to_numpy(run())] for _ in range(STEPS - 1)]
        return [losses], first

    def time(self, name: str, seconds: float) -> dict[str, Any]:
        """Median and least seconds of the calls in a slice of time, at least one, after one to warm up."""
        run = self.runs[name]
        with self.priority.timing():
            times = calls(run, seconds)
        return {"median": statistics.median(times), "least": min(times)}

    def drop(self) -> dict[str, Any]:
        self.runs.clear()
        gc.collect()
        return {}


def main(peer: str, threads: int) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-threads:])           # so many threads means so many cores, whatever the peer does
    priority = Priority()
    server: Server | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            server = server or Server(peer, priority)
            answer = {"ok": True, **getattr(server, request.pop("do"))(**request)}
        except Exception as error:
            traceback.print_exc()
            message = " ".join(str(error).split())[:300]
            answer = {"ok": False, "why": f"{type(error).__name__}: {message}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
