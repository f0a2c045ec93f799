"""Processes that turn kernels' loops into objects, several at a time.

Python's own process pools import the user's program into every worker and start from a copy of this process, neither
of which is wanted: a worker is a fresh interpreter that imports MLIR and LLVM once and then answers requests on its
pipes.  A crash inside LLVM ends a worker, not the user's process.
"""
from __future__ import annotations

import atexit
import heapq
import itertools
import json
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from typing import IO, Any

from jtc.compiler import codegen, reproducer
from jtc.compiler.phases import Code, Settings
from jtc.dialects.target import CpuTarget
from jtc.runtime import knobs

FEW = 2                     # up to this many kernels are compiled in this process: starting workers takes longer
_LENGTH = struct.Struct("<Q")


def compile_object(code: Code, settings: Settings) -> bytes:
    """Loops -> object, in this process."""
    return codegen.to_object(codegen.to_llvm(code, settings), settings).data     # type: ignore[return-value]


def _timed(code: Code, settings: Settings) -> tuple[bytes, float]:
    start = time.perf_counter()
    return compile_object(code, settings), time.perf_counter() - start


class Objects:
    """Objects in the making: `submit` each kernel's code, then `results`.

    The first few wait in this process; when there are more, all go to workers.  Leaving the `with` block by an
    exception drops what has not begun; Ctrl-C also ends the workers that are at it.  Requests of other threads go on.
    seconds: symbol -> how long its object took.
    """

    def __init__(self, settings: Settings, jobs: int):
        self.settings, self.jobs = settings, jobs
        self.seconds: dict[str, float] = {}
        self._waiting: list[Code] = []
        self._futures: dict[str, Future[tuple[bytes, float]]] = {}

    def __enter__(self) -> Objects:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            for future in self._futures.values():
                future.cancel()
            if not issubclass(kind, Exception):
                _abandon(self)

    def submit(self, code: Code) -> None:
        self._waiting.append(code)
        if self.jobs > 1 and len(self._waiting) + len(self._futures) > FEW:
            for waiting in self._waiting:
                self._futures[waiting.symbol] = _submit(waiting, self.settings, self.jobs, self)
            self._waiting.clear()

    def results(self, done: Callable[[str, bytes], None] = lambda symbol, data: None) -> dict[str, bytes]:
        """Symbol -> object.  `done(symbol, object)` is called as each is ready."""
        made = {}
        for code in self._waiting:
            made[code.symbol], self.seconds[code.symbol] = _timed(code, self.settings)
            done(code.symbol, made[code.symbol])
        symbols = {future: symbol for symbol, future in self._futures.items()}
        for future in as_completed(symbols):
            symbol = symbols[future]
            made[symbol], self.seconds[symbol] = future.result()
            done(symbol, made[symbol])
        return made


# ---------------------------------------------------------------------------------------------------------- our side
class Worker:
    """A process that answers requests; owner: the Objects that it is working for.

    module: the name of the one whose `serve` it runs;  folder: where it puts temporary files
    """

    def __init__(self, module: str = "jtc.compiler.workers", folder: str | None = None) -> None:
        self.owner: Objects | None = None
        start = f"import sys, json; sys.path[:] = json.loads(sys.argv[1]); from {module} import serve; serve()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", start, json.dumps(sys.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=None if folder is None else {**os.environ, "TMPDIR": folder},
            process_group=0)            # Ctrl-C reaches this process, which then decides about its workers

    def call(self, request: Any) -> Any:
        """The reply; EOFError, BrokenPipeError where the worker is gone."""
        assert self.process.stdin and self.process.stdout
        send(self.process.stdin, request)
        return receive(self.process.stdout)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            try:
                if stream:
                    stream.close()
            except BrokenPipeError:
                pass


class _Pool:
    """Up to `size` workers, started when needed, each driven by one thread.

    Of what waits the longest text comes first: a large kernel that is begun last would keep one worker busy alone.
    """

    def __init__(self, size: int):
        self.size, self.owner, self.closed = size, os.getpid(), False
        self.requests: list[tuple[int, int, Future[tuple[bytes, float]], tuple[Any, ...]]] = []      # a heap
        self.count = itertools.count()
        self.idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self.all: list[Worker] = []
        self.lock = threading.Lock()
        self.threads = ThreadPoolExecutor(size, "jtc-compile")

    def start(self) -> None:
        """Start all workers, which then wait for requests."""
        with self.lock:
            while len(self.all) < self.size and not self.closed:
                self.all.append(Worker())
                self.idle.put(self.all[-1])

    def submit(self, code: Code, *rest: Any) -> Future[tuple[bytes, float]]:
        future: Future[tuple[bytes, float]] = Future()
        with self.lock:
            heapq.heappush(self.requests, (-len(code.data), next(self.count), future, (code, *rest)))
        self.threads.submit(self._next)
        return future

    def _next(self) -> None:
        with self.lock:
            if not self.requests:
                return                      # dropped by `stop`
            _, _, future, request = heapq.heappop(self.requests)
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(self.run(*request))
            except BaseException as error:
                future.set_exception(error)

    def run(self, code: Code, settings: Settings, directory: str, owner: Objects) -> tuple[bytes, float]:
        worker = self._take(owner)
        try:
            ok, answer = worker.call((code, settings.target, settings.optimize, directory))
        except (EOFError, OSError) as error:
            with self.lock:
                self.all.remove(worker)
            worker.stop()
            if self.closed or worker.owner is None:
                raise CancelledError from None
            crash = RuntimeError(f"the compiler process ended with code {worker.process.returncode}")
            with knobs.use(reproducer_dir=directory):
                raise reproducer.report(str(code.data), [], settings, crash, f"compiling kernel {code.symbol} failed",
                                        emit="obj") from error
        with self.lock:
            kept = worker.owner is owner                # else it was ended after it had answered
            worker.owner = None
            if kept:
                self.idle.put(worker)
            else:
                self.all.remove(worker)
        if not kept:
            worker.stop()
        if not ok:
            raise answer
        return answer

    def _take(self, owner: Objects) -> Worker:
        with self.lock:
            if self.closed:
                raise CancelledError
            worker = self._waiting()
            if worker is None:
                worker = Worker()
                self.all.append(worker)
            worker.owner = owner
            return worker

    def _waiting(self) -> Worker | None:
        """A worker that waits for requests; those that something has ended meanwhile are dropped."""
        while not self.idle.empty():
            worker = self.idle.get_nowait()
            if worker.process.poll() is None:
                return worker
            self.all.remove(worker)
            worker.stop()
        return None

    def abandon(self, owner: Objects) -> None:
        """End the workers that are at requests of `owner`."""
        with self.lock:
            for worker in self.all:
                if worker.owner is owner:
                    worker.owner = None
                    worker.process.kill()

    def stop(self) -> None:
        with self.lock:
            self.closed = True
            workers = list(self.all)
            for _, _, future, _ in self.requests:
                future.cancel()
            self.requests.clear()
        for worker in workers:
            worker.process.kill()
        self.threads.shutdown(wait=False, cancel_futures=True)


_pool: _Pool | None = None
_pool_lock = threading.Lock()


def start(jobs: int) -> None:
    """Start the workers before there is work: importing MLIR and LLVM takes them as long as many kernels."""
    if jobs > 1:
        with _pool_lock:
            _sized(jobs).start()


def _submit(code: Code, settings: Settings, jobs: int, owner: Objects) -> Future[tuple[bytes, float]]:
    # The pool's threads do not see what `knobs.use` says here, so the directory is passed.
    plain = Settings(settings.target, settings.optimize, settings.strict)
    with _pool_lock:
        return _sized(jobs).submit(code, plain, str(reproducer.directory()), owner)


def _sized(jobs: int) -> _Pool:
    """The pool of this process, with that many workers.  Call under the lock."""
    global _pool
    if _pool is None or _pool.owner != os.getpid() or _pool.size != jobs:
        if _pool is not None and _pool.owner == os.getpid():
            _pool.threads.shutdown(wait=True)
            _pool.stop()
        _pool = _Pool(jobs)
    return _pool


def _abandon(owner: Objects) -> None:
    with _pool_lock:
        if _pool is not None and _pool.owner == os.getpid():
            _pool.abandon(owner)


def stop() -> None:
    """End all workers; the next compilation starts new ones."""
    global _pool
    with _pool_lock:
        if _pool is not None and _pool.owner == os.getpid():
            _pool.stop()
        _pool = None


def _forget() -> None:
    """In the child of a fork: the workers, and the lock that another thread may have held, are the parent's."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


atexit.register(stop)
os.register_at_fork(after_in_child=_forget)


# ---------------------------------------------------------------------------------------------------- the worker's side
def serve() -> None:
    """Answer requests (code, target, optimize, reproducer folder): (True, (object, seconds)) or (False, exception)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                       # what a library prints to stdout must not get between the replies
    from jtc.compiler.cpu import lower  # noqa: F401  the imports are done before the first request arrives
    from jtc.dialects import mlir  # noqa: F401
    while True:
        try:
            code, target, optimize, directory = receive(requests)
            send(replies, _answer(code, target, optimize, directory))
        except (EOFError, BrokenPipeError):
            return                      # whoever asked is gone


def _answer(code: Code, target: CpuTarget, optimize: int, directory: str) -> tuple[bool, Any]:
    try:
        with knobs.use(reproducer_dir=directory):
            return True, _timed(code, Settings(target, optimize))
    except Exception as error:
        return False, error


def send(stream: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    size = _LENGTH.unpack(head)[0]
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)

