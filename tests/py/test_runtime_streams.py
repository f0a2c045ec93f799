"""Threads, streams and events: what runs at the same time, what waits for what, errors, fork."""
from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from jtc.runtime import engine, knobs
from jtc.runtime.engine import Buffer, Stream
from jtc.runtime.module import Module, load_module

from native import buffer, launch, needs_compiler, plan, shared_object

pytestmark = needs_compiler

LONG = 10_000_000_000        # operations: a launch worth several threads and a stream

SOURCE = """
#include <sys/syscall.h>
#include <unistd.h>
// Waits until the flag in operand 0 is set; writes whether it was.
KERNEL(gate) { F(1)[0] = wait_for((int32_t*)o[0], 1); }
// Both must be running at the same time: each raises its own flag and waits for the other's.
KERNEL(left) { volatile int32_t* f = (int32_t*)o[0]; f[0] = 1; F(1)[0] = wait_for(f + 1, 1); }
KERNEL(right) { volatile int32_t* f = (int32_t*)o[0]; f[1] = 1; F(1)[0] = wait_for(f, 1); }
// Every unit raises the flag and waits for all of them.
KERNEL(meet) { __atomic_fetch_add((int32_t*)o[0], (int32_t)(end - begin), __ATOMIC_SEQ_CST);
               for (int64_t i = begin; i < end; i++) F(1)[i] = wait_for((int32_t*)o[0], 2); }
// Writes which thread it runs on.
KERNEL(who) { ((int32_t*)o[1])[0] = (int32_t)syscall(SYS_gettid); }
KERNEL(add) { for (int64_t i = begin; i < end; i++) F(1)[i] = F(0)[i] + 1; }
KERNEL(square) { float* w = (float*)workspace;
                 for (int64_t i = begin; i < end; i++) { w[0] = F(0)[i]; w[99] = w[0] * w[0]; F(1)[i] = w[99]; } }
"""


def flags(count: int) -> Buffer:
    result = Buffer.empty("i32", [count])
    result.fill(0)
    return result


def raise_flag(buffer: Buffer) -> None:
    ctypes.c_int32.from_address(buffer.ptr).value = 1


@pytest.fixture(scope="module")
def make(tmp_path_factory) -> Callable[..., Module]:
    def build(name, buffers, launches, **sizes):
        path = tmp_path_factory.mktemp(name) / f"{name}.so"
        return load_module(shared_object(path, SOURCE, plan(name, buffers, launches, **sizes)))
    return build


@pytest.fixture(scope="module")
def gate(make) -> Module:
    return make("gate", [buffer("f", [1], "input", 0, "i32"), buffer("ok", [1], "output")],
                [launch("gate", [0, 1], flops=LONG)])


@pytest.fixture(scope="module")
def add(make) -> Module:
    return make("add", [buffer("x", [1], "input"), buffer("y", [1], "output")], [launch("add", [0, 1])])


def test_independent_kernels_of_a_wave_overlap(make):
    buffers = [buffer("f", [2], "input", 0, "i32"), buffer("a", [1], "output", 0), buffer("b", [1], "output", 1)]
    module = make("both", buffers, [launch("left", [0, 1], flops=LONG), launch("right", [0, 2], flops=LONG)])
    with knobs.use(threads=2):
        assert [b.numpy()[0] for b in module.run([flags(2)])] == [1, 1]


def test_units_of_a_kernel_run_on_two_threads(make):
    module = make("meet", [buffer("f", [1], "input", 0, "i32"), buffer("y", [2], "output")],
                  [launch("meet", [0, 1], 2, flops=LONG)])
    with knobs.use(threads=2):
        assert module.run([flags(1)])[0].numpy().tolist() == [1, 1]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="one processor: programs run when they are called")
def test_a_large_program_runs_beside_python(gate, add):
    flag = flags(1)
    with knobs.use(async_="auto"):
        first, = gate.run([flag])
        second, = add.run([first])            # small, but its input is not there yet: it queues up as well
        assert not first.is_ready() and not second.is_ready() and "pending" in repr(first)
        done, = add.run([Buffer.from_numpy(np.ones(1, np.float32))])
        assert done.is_ready()                # small and independent: runs at once
        raise_flag(flag)
        assert second.numpy()[0] == 2 and first.is_ready() and first.numpy()[0] == 1


def test_async_off_and_on(gate, add):
    flag = flags(1)
    raise_flag(flag)
    with knobs.use(async_=0):
        assert gate.run([flag])[0].is_ready()
    with knobs.use(async_=1):                 # more than the queue holds
        results = [add.run([Buffer.from_numpy(np.full(1, i, np.float32))])[0] for i in range(300)]
        assert [r.numpy()[0] for r in results] == list(range(1, 301))


def test_a_thread_that_waits_does_the_work_in_order(add):
    """It takes what is queued and not begun, never what another thread is at, nor a Python function."""
    go, order = threading.Event(), []
    with knobs.use(async_=1), Stream.make() as stream:
        stream.submit(lambda: (go.wait(10), order.append("function")))
        results = [add.run([Buffer.from_numpy(np.full(1, i, np.float32))])[0] for i in range(5)]
        waiting = threading.Thread(target=lambda: (results[2].wait(), order.append("waited")))
        waiting.start()
        assert not any(r.is_ready() for r in results)
        go.set()
        waiting.join()
        assert order == ["function", "waited"] and [r.numpy()[0] for r in results] == [1, 2, 3, 4, 5]


def test_a_program_is_left_to_the_thread_that_waits(make):
    """Were it begun by the stream's thread, this one would wait for it on a processor that its helpers need."""
    module = make("who", [buffer("x", [1], "input"), buffer("y", [1], "output", 0, "i32")], [launch("who", [0, 1])])
    given, here, end = Buffer.from_numpy(np.ones(1, np.float32)), 0, time.monotonic() + 10
    with knobs.use(async_=1):
        for _ in range(50):
            alone, = module.run([given])        # nobody waits: the stream's thread does it, and looks out for more
            while not alone.is_ready() and time.monotonic() < end:
                pass
            assert alone.is_ready() and alone.numpy()[0] != threading.get_native_id()
            here += module.run([given])[0].numpy()[0] == threading.get_native_id()
        assert here > 40                        # one may come late, where processors are short


def test_many_threads_wait_for_many_programs(add):
    """Each thread's chain of programs runs in order, whoever runs them."""
    found: dict[int, float] = {}

    def chain(number: int) -> None:
        value = Buffer.from_numpy(np.full(1, number, np.float32))
        for step in range(200):
            value, = add.run([value])
            if step % 3 == number % 3:
                value.wait()
        found[number] = value.numpy()[0]

    with knobs.use(async_=1):
        threads = [threading.Thread(target=chain, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {i: i + 200 for i in range(8)}


def test_borrowed_memory_is_read_before_the_call_returns(gate, add):
    array = np.zeros(1, np.float32)
    with knobs.use(async_=1):
        out, = add.run([Buffer.from_numpy(array, copy=False)])
        array[0] = 5
        assert out.is_ready() and out.numpy()[0] == 1


def test_streams_run_beside_each_other(gate, add):
    flag, other = flags(1), Stream.make("other")
    first, = gate.run([flag])
    with knobs.use(async_=1), other:
        assert engine.current_stream().name == "other"
        second, = add.run([Buffer.from_numpy(np.zeros(1, np.float32))])
        assert second.numpy()[0] == 1 and not first.is_ready()
        third, = add.run([first])              # waits for the event of the other stream
    assert engine.current_stream().name == "default" and not third.is_ready()
    raise_flag(flag)
    engine.synchronize()
    assert third.is_ready() and third.numpy()[0] == 2


def test_work_may_drop_the_last_reference_to_its_stream():
    """The stream's thread cannot wait for its own end; what is queued behind is still done."""
    go, order = threading.Event(), []
    stream = Stream.make()
    event = stream.submit(lambda kept=stream: order.append(kept.name if go.wait(10) else None))
    last = stream.submit(lambda: order.append("last"))
    del stream
    go.set()
    event.wait()
    last.wait()
    assert order == ["stream", "last"]


def test_buffers_live_until_the_work_is_done(gate, add):
    flag = flags(1)
    first, = gate.run([flag])
    second, = add.run([first])
    before = engine.memory_statistics()["live"]
    place = flag.ptr
    del first, flag
    assert engine.memory_statistics()["live"] == before
    ctypes.c_int32.from_address(place).value = 1
    assert second.numpy()[0] == 2


def test_errors_surface_where_somebody_waits():
    stream, order = Stream.make(), []

    def fail() -> None:
        raise KeyError("lost")

    failed, fine = stream.submit(fail, "the lookup"), stream.submit(lambda: order.append(1))
    fine.wait()
    with pytest.raises(KeyError) as error:
        failed.wait()
    assert error.value.__notes__ == ["while running the lookup"] and order == [1]
    stream.synchronize()                       # it has been seen
    stream.submit(fail, "again")
    with pytest.raises(KeyError):
        stream.synchronize()
    stream.synchronize()


def test_out_of_memory_on_a_stream_names_the_program_and_poisons_what_depends_on_it(make, add):
    module = make("greedy", [buffer("x", [1], "input"), buffer("y", [1], "output")],
                  [launch("add", [0, 1], flops=LONG)], arena_bytes=1 << 55)
    one = Buffer.from_numpy(np.ones(1, np.float32))
    with knobs.use(async_=1):
        bad, = module.run([one])
        worse = None
        try:
            worse, = add.run([bad])
        except MemoryError as error:           # the failure may be known already
            assert "greedy" in str(error)
        for result in filter(None, (bad, worse)):
            with pytest.raises(MemoryError, match="greedy: cannot allocate"):
                result.numpy()
        with pytest.raises(MemoryError, match="greedy"):
            add.run([bad])
        assert "failed" in repr(bad)
        assert add.run([one])[0].numpy()[0] == 2
    with knobs.use(async_=0), pytest.raises(MemoryError, match="cannot allocate"):
        module.run([one])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_callers_many_threads(make, threads):
    """Every caller gets its own results, whoever has the helpers and however the units are cut."""
    units = 1000
    module = make(f"square{threads}", [buffer("x", [units], "input"), buffer("y", [units], "output")],
                  [launch("square", [0, 1], units, workspace=400, flops=LONG)])
    wrong = []

    def call(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal(units, dtype=np.float32)
        for _ in range(60):
            if not (module(x) == x * x).all():
                wrong.append(seed)

    with knobs.use(threads=threads):
        callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert not wrong


def test_changing_the_number_of_threads(add):
    for count in (4, 1, 3, 2, 1):
        with knobs.use(threads=count):
            assert engine._native.threads() == count and add(np.zeros(1, np.float32))[0] == 1


def test_a_fork_starts_afresh(make):
    units = 64
    module = make("forked", [buffer("x", [units], "input"), buffer("y", [units], "output")],
                  [launch("add", [0, 1], units, flops=LONG)])
    x = Buffer.from_numpy(np.zeros(units, np.float32))
    with knobs.use(threads=2, async_=1):
        pending, = module.run([x])
        ok = False
        child = os.fork()
        if child == 0:                         # the queue was finished before the fork; new work makes new threads
            try:
                ok = pending.is_ready() and bool((module.run([pending])[0].numpy() == 2).all())
            finally:
                os._exit(0 if ok else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (module.run([pending])[0].numpy() == 2).all()


def test_forks_while_other_threads_submit(make):
    module = make("busy", [buffer("x", [64], "input"), buffer("y", [64], "output")],
                  [launch("add", [0, 1], 64, flops=LONG)])
    x = Buffer.from_numpy(np.zeros(64, np.float32))
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            module.run([x])

    with knobs.use(threads=2, async_=1):
        workers = [threading.Thread(target=work) for _ in range(2)]
        for worker in workers:
            worker.start()
        codes = []
        for _ in range(10):
            child = os.fork()
            if child == 0:
                engine.synchronize()
                os._exit(0 if module.run([x])[0].numpy()[0] == 1 else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop.set()
        for worker in workers:
            worker.join()
        engine.synchronize()
    assert codes == [0] * 10


def test_exit_with_work_under_way(gate):
    script = (f"from jtc.runtime.module import load_module\nfrom jtc.runtime import engine, knobs\n"
              f"m = load_module({str(gate.path)!r})\nf = engine.Buffer.empty('i32', [1]); f.fill(1)\n"
              "with knobs.use(async_=1):\n    kept = m.run([f]); m.run([f])\n"
              "engine.Stream.make('never used').submit(lambda: None)\n")
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
