"""Processes that do the work of a compilation several pieces at a time: kernels' loops to objects, above all.

Python's own process pools import the user's program into every worker and start from a copy of this process, neither
of which is wanted: a worker is a fresh interpreter that imports MLIR and LLVM once and then answers requests on its
pipes, calls of functions that it can import.  A crash inside LLVM ends a worker, not the user's process.
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from typing import IO, Any

from jtc.compiler import codegen, reproducer
from jtc.compiler.phases import Code, Settings
from jtc.dialects.target import CpuTarget
from jtc.runtime import knobs

FEW = 2                     # up to this many kernels are compiled in this process: starting workers takes longer
Request = tuple[Callable[..., Any], tuple[Any, ...]]       # a function and its arguments
_LENGTH = struct.Struct("<Q")


def compile_object(code: Code, settings: Settings) -> bytes:
    """Loops -> object, in this process."""
    return codegen.to_object(codegen.to_llvm(code, settings), settings).data     # type: ignore[return-value]


def _timed(code: Code, settings: Settings) -> tuple[bytes, float]:
    start = time.perf_counter()
    return compile_object(code, settings), time.perf_counter() - start


class Lost(Exception):
    """The worker ended before it answered; the message says how."""


def each(jobs: int, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """`function` of a module, called by `jobs` workers, the first arguments first: its results, in the same order.

    The workers begin at once, and go on while the caller deals with the first results.  What a worker does not survive
    is done here.  Raises what the function raises.
    """
    owner = object()
    return _results(function, arguments, _submit([(0, function, given) for given in arguments], jobs, owner), owner)


def _results(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], futures: Sequence[Future[Any]],
             owner: object) -> Iterator[Any]:
    try:
        for future, given in zip(futures, arguments):
            try:
                result = future.result()
            except Lost:
                result = function(*given)
            yield result
    except BaseException as error:
        _drop(futures, error, owner)
        raise


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
        self._futures: dict[Future[tuple[bytes, float]], Code] = {}

    def __enter__(self) -> Objects:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is not None:
            _drop(self._futures, error, self)

    def submit(self, code: Code) -> None:
        self._waiting.append(code)
        if self.jobs > 1 and len(self._waiting) + len(self._futures) > FEW:
            directory = str(reproducer.directory())
            calls = [(len(c.data), _object, (c, self.settings.target, self.settings.optimize, directory))
                     for c in self._waiting]
            self._futures.update(zip(_submit(calls, self.jobs, self), self._waiting))
            self._waiting.clear()

    def results(self, done: Callable[[str, bytes], None] = lambda symbol, data: None) -> dict[str, bytes]:
        """Symbol -> object.  `done(symbol, object)` is called as each is ready."""
        made = {}
        for code in self._waiting:
            made[code.symbol], self.seconds[code.symbol] = _timed(code, self.settings)
            done(code.symbol, made[code.symbol])
        for future in as_completed(self._futures):
            code = self._futures[future]
            try:
                made[code.symbol], self.seconds[code.symbol] = future.result()
            except Lost as error:
                raise reproducer.report(str(code.data), [], self.settings, error,
                                        f"compiling kernel {code.symbol} failed", emit="obj") from error
            done(code.symbol, made[code.symbol])
        return made


# ---------------------------------------------------------------------------------------------------------- our side
class Worker:
    """A process that answers requests; owner: for whom it is working.

    module: the name of the one whose `serve` it runs;  folder: where it puts temporary files
    """

    def __init__(self, module: str = "jtc.compiler.workers", folder: str | None = None) -> None:
        self.owner: object | None = None
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

    Of what waits the largest comes first: a large kernel that is begun last would keep one worker busy alone.
    """

    def __init__(self, size: int):
        self.size, self.owner, self.closed = size, os.getpid(), False
        self.requests: list[tuple[int, int, Future[Any], Request, object]] = []      # a heap
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

    def submit(self, size: int, request: Request, owner: object) -> Future[Any]:
        future: Future[Any] = Future()
        with self.lock:
            heapq.heappush(self.requests, (-size, next(self.count), future, request, owner))
        self.threads.submit(self._next)
        return future

    def _next(self) -> None:
        with self.lock:
            if not self.requests:
                return                      # dropped by `stop`
            _, _, future, request, owner = heapq.heappop(self.requests)
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(self.run(request, owner))
            except BaseException as error:
                future.set_exception(error)

    def run(self, request: Request, owner: object) -> Any:
        worker = self._take(owner)
        try:
            ok, answer = worker.call(request)
        except (EOFError, OSError) as error:
            with self.lock:
                self.all.remove(worker)
            worker.stop()
            if self.closed or worker.owner is None:
                raise CancelledError from None
            raise Lost(f"the compiler process ended with code {worker.process.returncode}") from error
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

    def _take(self, owner: object) -> Worker:
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

    def abandon(self, owner: object) -> None:
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
            for _, _, future, _, _ in self.requests:
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


def _submit(calls: Sequence[tuple[int, Callable[..., Any], tuple[Any, ...]]], jobs: int, owner: object
            ) -> list[Future[Any]]:
    """Let the workers make calls: (size, function, arguments)."""
    with _pool_lock:
        pool = _sized(jobs)
        return [pool.submit(size, (function, arguments), owner) for size, function, arguments in calls]


def _sized(jobs: int) -> _Pool:
    """The pool of this process, with that many workers.  Call under the lock."""
    global _pool
    if _pool is None or _pool.owner != os.getpid() or _pool.size != jobs:
        if _pool is not None and _pool.owner == os.getpid():
            _pool.threads.shutdown(wait=True)
            _pool.stop()
        _pool = _Pool(jobs)
    return _pool


def _drop(futures: Iterable[Future[Any]], error: BaseException, owner: object) -> None:
    """Begin no more of the calls; where `error` is an interrupt, also end the workers that are at them."""
    for future in futures:
        future.cancel()
    if not isinstance(error, (Exception, GeneratorExit)):
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
    """Answer requests (function, arguments): (True, its result) or (False, exception)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                       # what a library prints to stdout must not get between the replies
    from jtc.compiler.cpu import lower  # imports are done before the first request arrives
    lower.warm_up()
    while True:
        try:
            send(replies, _answer(*receive(requests)))
        except (EOFError, BrokenPipeError):
            return                      # whoever asked is gone


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, function(*arguments)
    except Exception as error:
        return False, error


def _object(code: Code, target: CpuTarget, optimize: int, directory: str) -> tuple[bytes, float]:
    """The object, and how long it took; directory: for reproducers, as the knobs say where it was asked for."""
    with knobs.use(reproducer_dir=directory):
        return _timed(code, Settings(target, optimize))


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

