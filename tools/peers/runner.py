"""Compare peers: a process for each, outputs checked, rounds in rotating order.

For every number of threads, the peers build a batch of workloads one after the other, and compare their outputs with a
float64 reference; whoever is right is timed.  A round gives each of them a slice of time for each workload, so that
what disturbs the machine disturbs all, and ratios are taken within rounds.
"""
from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jtc.dialects.errors import InputError
from jtc.tools.measure.machine import Priority
from jtc.tools.measure.rounds import HOLD, Ratio, locked, rotating
from jtc.tools.peers.reference import reference
from jtc.tools.peers.table import Peer
from jtc.tools.peers.workload import Workload

# Every library's own setting of threads.
THREADS = ("BENCH_THREADS", "JTC_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
# What a machine may preset to the harm of one peer.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
START = 120.0               # seconds in which a process must answer first
UNSUPPORTED = "not supported"


@dataclass
class Options:
    """rounds, seconds: how many slices of which length each peer gets;  slow: seconds of a call beyond which one round
    must do;  timeout: seconds to build a workload;  lock: a file to lock while timing, for `hold` seconds at a time;
    references: a directory that keeps references between runs"""

    threads: Sequence[int] = (1,)
    rounds: int = 7
    seconds: float = 0.3
    slow: float = 8.0
    hold: float = HOLD
    timeout: float = 300.0
    lock: str | None = None
    references: str | None = None
    tiny: bool = False


@dataclass
class Record:
    """One workload by one peer.

    why        why there are no times; "" where there are
    error      of the outputs, as a share of the largest value
    build_s    seconds until the first result
    medians, least  of each round, in seconds
    """

    why: str = ""
    error: float = 0.0
    build_s: float = 0.0
    medians: list[float] = field(default_factory=list)
    least: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median over rounds; infinite where there are none."""
        return float(np.median(self.medians)) if self.medians else float("inf")


@dataclass
class Results:
    """records: threads -> workload -> peer -> Record; versions: what the peers are"""

    versions: dict[str, str] = field(default_factory=dict)
    records: dict[int, dict[str, dict[str, Record]]] = field(default_factory=dict)

    def best(self, threads: int, workload: str) -> str | None:
        """The fastest peer besides jtc, whatever its precision."""
        found = {name: r.seconds for name, r in self.records[threads][workload].items()
                 if r.medians and not name.startswith("jtc")}
        return min(found, key=lambda name: found[name]) if found else None

    def ratio(self, threads: int, workload: str, peer: str) -> Ratio | None:
        """How many times longer a peer takes than jtc, over the rounds."""
        row = self.records[threads][workload]
        if peer not in row or "jtc" not in row or not row[peer].medians or not row["jtc"].medians:
            return None
        return Ratio.of(row[peer].medians, row["jtc"].medians)

    def with_those_of(self, other: Results, order: Iterable[str]) -> Results:
        """These, replaced by the other's where it has the same workload with as many threads; workloads in `order`."""
        merged: dict[int, dict[str, dict[str, Record]]] = {}
        for threads in sorted({*self.records, *other.records}):
            rows = self.records.get(threads, {}) | other.records.get(threads, {})
            merged[threads] = {name: rows[name] for name in order if name in rows}
        return Results(self.versions | other.versions, merged)

    def to_json(self) -> dict[str, Any]:
        return {"versions": self.versions, "records": {
            str(threads): {name: {peer: asdict(r) for peer, r in row.items()} for name, row in rows.items()}
            for threads, rows in self.records.items()}}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Results:
        return Results(data["versions"], {
            int(threads): {name: {peer: Record(**r) for peer, r in row.items()} for name, row in rows.items()}
            for threads, rows in data["records"].items()})

    @staticmethod
    def read(file: Path) -> Results:
        """Those that an earlier comparison wrote.  Raises InputError for a file that has none."""
        try:
            return Results.from_json(json.loads(file.read_text())["results"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file}: these are no results of a comparison: {type(error).__name__} {error}",
                             hint="leave out --add, or name another output") from None


class Worker:
    """The process of a peer; see worker.py.  `log`: where goes what it prints."""

    def __init__(self, peer: Peer, threads: int, log: Any):
        env = {name: value for name, value in os.environ.items() if name not in UNSET}
        env |= dict.fromkeys(THREADS, str(threads)) | dict(peer.settings)
        self.process = subprocess.Popen([sys.executable, "-m", "jtc.tools.peers.worker", peer.name, str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env,
                                        start_new_session=True)

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        """{"ok": True, ...}, or {"ok": False, "why": ...}: also where the process dies, or is too slow and is ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write((json.dumps(request) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"ok": False, "why": "its process died"}
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        line = self.process.stdout.readline() if ready else b""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.close()
        return {"ok": False, "why": f"its process died ({self.process.returncode})" if ready else
                f"no answer in {timeout:g} s"}

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and to what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait()


class Comparison:
    """See the module's text.  say: called with a line of progress; log: a file for what the peers print."""

    def __init__(self, peers: Sequence[Peer], workloads: Sequence[Workload], options: Options, log: Any,
                 say: Callable[[str], None] = lambda line: None):
        self.peers, self.workloads, self.options, self.log, self.say = peers, workloads, options, log, say
        self.results = Results()
        self.workers: dict[str, Worker] = {}

    def run(self, keep: Callable[[Results], None] = lambda results: None) -> Results:
        """keep: called with all results so far, again and again.  Ctrl-C leaves no process behind."""
        with tempfile.TemporaryDirectory(prefix="jtc-references-") as folder:
            place = Path(self.options.references or folder)
            place.mkdir(parents=True, exist_ok=True)
            self.priority = Priority()
            try:
                for threads in self.options.threads:
                    for batch in batches(self.workloads):
                        rows = self._compare(batch, threads, place)
                        self.results.records.setdefault(threads, {}).update(rows)
                        keep(self.results)
                    self._close()
            finally:
                self._close()
                self.priority.restore()
        return self.results

    def _close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()

    def _worker(self, peer: Peer, threads: int) -> Worker | str:
        """The live process of a peer, or why there is none."""
        if peer.name in self.workers and self.workers[peer.name].alive:
            return self.workers[peer.name]
        with self.priority.timing():            # which it takes as that of the start
            worker = self.workers[peer.name] = Worker(peer, threads, self.log)
        answer = worker.ask(START, do="hello")
        if not answer["ok"]:
            return str(answer["why"])
        self.results.versions[peer.name] = answer["version"]
        return worker

    def _compare(self, batch: Sequence[Workload], threads: int, place: Path) -> dict[str, dict[str, Record]]:
        """Build all workloads of a batch, then time them."""
        rows: dict[str, dict[str, Record]] = {w.name: {} for w in batch}
        timed: dict[str, list[str]] = {}
        for w in batch:
            self.say(f"{w.name}, {threads} thread{'s' * (threads != 1)}")
            file = _reference(w, place, self.options.tiny)
            for peer in self.peers:
                record = rows[w.name][peer.name] = self._build(w, peer, threads, file)
                if not record.why:
                    timed.setdefault(w.name, []).append(peer.name)
                elif record.why != UNSUPPORTED:
                    self.say(f"  {peer.name}: {record.why}")
        self._rounds(rows, timed)
        for w in batch:
            for name, r in rows[w.name].items():
                if r.medians:
                    self.say(f"  {w.name} {name:14} {r.seconds * 1e3:10.3f} ms, error {r.error:.0e}, first result "
                             f"after {r.build_s:.1f} s")
        for name, worker in list(self.workers.items()):
            if all(w.group == "kernels" for w in batch):
                worker.ask(START, do="drop")
            else:                               # whole networks leave memory and threads behind
                worker.close()
                del self.workers[name]
        return rows

    def _build(self, w: Workload, peer: Peer, threads: int, file: Path) -> Record:
        worker = self._worker(peer, threads)
        if isinstance(worker, str):
            return Record(worker)
        answer = worker.ask(self.options.timeout, do="build", name=w.name, tiny=self.options.tiny, reference=str(file))
        if answer.get("unsupported"):
            return Record(UNSUPPORTED)
        return Record(answer.get("why", ""), answer.get("error", 0.0), answer.get("build_s", 0.0))

    def _rounds(self, rows: dict[str, dict[str, Record]], timed: dict[str, list[str]]) -> None:
        """All rounds of all workloads."""
        turns = {name: list(rotating(peers, self.options.rounds)) for name, peers in timed.items()}
        todo = [(name, turns[name][number]) for number in range(self.options.rounds) for name in turns]
        for name, order in locked(todo, self.options.lock, self.options.hold):
            for peer in order:
                with self._alone(peer):
                    self._round(name, rows[name][peer], self.workers[peer])

    @contextmanager
    def _alone(self, peer: str) -> Iterator[None]:
        """The other peers' processes are stopped: threads that have just worked spin for a while, on the processors
        that the next one wants."""
        others = [worker for name, worker in self.workers.items() if name != peer]
        for worker in others:
            worker.send(signal.SIGSTOP)
        try:
            yield
        finally:
            for worker in others:
                worker.send(signal.SIGCONT)

    def _round(self, name: str, record: Record, worker: Worker) -> None:
        if record.why or record.medians and record.medians[0] > self.options.slow:
            return
        answer = worker.ask(START + self.options.seconds, do="time", name=name, seconds=self.options.seconds)
        if not answer["ok"]:
            record.why, record.medians, record.least = answer["why"], [], []
            return
        record.medians.append(answer["median"])
        record.least.append(answer["least"])


def batches(workloads: Sequence[Workload]) -> list[list[Workload]]:
    """All small workloads together, networks one by one."""
    small = [w for w in workloads if w.group == "kernels"]
    return [*([small] if small else []), *([w] for w in workloads if w.group != "kernels")]


def _reference(w: Workload, folder: Path, tiny: bool) -> Path:
    """The file that holds the reference of a workload, made where it is not there."""
    path = folder / f"{'tiny-' * tiny}{w.name}.npz"
    if not path.exists():
        new = path.with_name(f"{os.getpid()}-{path.name}")
        np.savez(new, *reference(w))
        new.replace(path)
    return path
