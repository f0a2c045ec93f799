"""Quick code first, better code behind it (the knob `tiered`): results before and after, and what may go wrong."""
from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from frontend_checks import normal, same
from test_in_place import training
from test_interrupt import all_gone, children

import jtc
from jtc.compiler import background, driver
from jtc.dialects.errors import InternalError
from jtc.frontend import execute, jit

LAYERS = 4


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty cache; the smallest programs are compiled in tiers, without workers."""
    monkeypatch.setenv("JTC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JTC_TIERED", "1")
    monkeypatch.setenv("JTC_JOBS", "0")
    monkeypatch.setattr(driver, "SMALL", 0)
    return tmp_path


@pytest.fixture
def held(monkeypatch):
    """Better code is compiled when the test says so: a list of requests, each a function that answers it."""
    requests: list = []

    def submit(graph, done):
        requests.append(lambda: done(driver.compile_graph(graph, tiered=False)))
    monkeypatch.setattr(background, "submit", submit)
    return requests


def network(x, *weights):
    for w in weights:
        x = jtc.softmax(x @ w, axis=-1)
    return x


def reference(x, *weights):
    for w in weights:
        e = np.exp(x @ w - (x @ w).max(-1, keepdims=True))
        x = e / e.sum(-1, keepdims=True)
    return x


def test_better_code_takes_the_place_of_quick_code(monkeypatch):
    """The real thing: another process compiles; native calls change over; weights are bound again."""
    weights = [normal(24, 24, seed=i) for i in range(LAYERS)]
    x, f = normal(33, 24), jtc.jit(lambda x: network(x, *weights))          # constants of the program
    same(f(x), reference(x, *weights))
    quick, = f.runnables
    assert f.tiers == ["quick"] and len(f) == 1
    assert f.wait(120) and f.tiers == ["final"]
    final, = f.runnables
    assert final is not quick and final.path != quick.path
    monkeypatch.setattr(jit.Jit, "_run", None)             # calls do not enter Python
    same(f(x), reference(x, *weights))


def test_what_is_in_the_cache_is_used(held):
    weights = [normal(24, 24, seed=i) for i in range(LAYERS)]
    x, f = normal(5, 24), jtc.jit(network)
    f(x, *weights)
    again = jtc.jit(network)
    same(again(x, *weights), reference(x, *weights))
    assert [m.path for m in f.runnables] == [m.path for m in again.runnables] and again.tiers == ["quick"]
    held[0]()
    third = jtc.jit(network)
    same(third(x, *weights), reference(x, *weights))
    assert f.tiers == third.tiers == ["final"] and again.tiers == ["quick"] and len(held) == 2
    assert [m.path for m in f.runnables] == [m.path for m in third.runnables]
    untiered = jtc.jit(network, tiered=False)
    untiered(x, *weights)
    assert [m.path for m in f.runnables] == [m.path for m in untiered.runnables]


def test_small_programs_are_compiled_once(monkeypatch, held):
    monkeypatch.setattr(driver, "SMALL", 6)
    f = jtc.jit(network)
    same(f(normal(5, 24), normal(24, 24)), reference(normal(5, 24), normal(24, 24)))
    assert f.tiers == ["final"] and not held and f.wait(0)


def test_a_training_step_keeps_its_state(held):
    """New weights are written over the old ones by both programs, and calls go from one to the other."""
    x, t = normal(50, 24), normal(50, 8, seed=1)
    (net, step), (expected, other) = training(tiered=True), training(tiered=False)
    for number in range(9):
        if number in (3, 4):                        # again: nothing is left to replace
            held[0]()
        np.testing.assert_allclose(step(x, t).item(), other(x, t).item(), rtol=1e-5)
        assert step.tiers == ["quick" if number < 3 else "final"] and len(step) == 1
    for p, q in zip(net.parameters(), expected.parameters(), strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-4, atol=1e-6)


def test_threads_call_while_it_changes(held):
    weights = [normal(24, 24, seed=i) for i in range(LAYERS)]
    x, f = normal(64, 24), jtc.jit(network)
    right, stop, wrong = f(x, *weights).numpy(), threading.Event(), []

    def calls():
        while not stop.is_set():
            if not np.allclose(f(x, *weights).numpy(), right, rtol=1e-5):
                wrong.append(1)
    threads = [threading.Thread(target=calls) for _ in range(3)]
    for thread in threads:
        thread.start()
    held[0]()
    time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert f.tiers == ["final"] and not wrong


def test_lazy_evaluation(held):
    x, w = jtc.array(normal(16, 24)), jtc.array(normal(24, 24))
    same(network(x, w, w), reference(normal(16, 24), normal(24, 24), normal(24, 24)))
    tiered = list(execute._modules.values())[-1]
    quick = tiered.module
    held[0]()
    assert tiered.tier == "final" and tiered.module is not quick
    same(network(x, w, w), reference(normal(16, 24), normal(24, 24), normal(24, 24)))


@pytest.mark.parametrize("options", [{"strict": True}, {"tune": True, "tune_budget": 0.1}, {"tiered": False}])
def test_where_there_are_no_tiers(options, held):
    """Under `strict`, results of a function do not change from one call to the next."""
    f = jtc.jit(network, **options)
    same(f(normal(5, 24), normal(24, 24)), reference(normal(5, 24), normal(24, 24)))
    assert f.tiers == ["final"] and not held


def test_options_of_jit_do_not_keep_calls_from_the_native_path(held, monkeypatch):
    f = jtc.jit(network, packing=False, tiered=True)
    args = normal(5, 24), normal(24, 24)
    same(f(*args), reference(*args))
    held[0]()
    monkeypatch.setattr(jit.Jit, "_run", None)             # calls do not enter Python
    same(f(*args), reference(*args))


def test_an_error_behind_leaves_the_quick_code(monkeypatch, caplog):
    answers = []
    monkeypatch.setattr(background, "submit", lambda graph, done: answers.append(done))
    f = jtc.jit(network)
    args = normal(5, 24), normal(24, 24)
    with caplog.at_level(logging.WARNING, "jtc"):
        same(f(*args), reference(*args))
        assert not f.wait(0)
        answers[0](InternalError("a pass failed"))
        same(f(*args), reference(*args))
    assert f.tiers == ["quick only"] and f.wait(0)
    record, = caplog.records
    assert record.getMessage() == "network keeps its quick code: compiling better code failed: a pass failed"


def test_the_other_process_crashes(caplog):
    f = jtc.jit(network)
    args = normal(5, 24), normal(24, 24)
    with caplog.at_level(logging.WARNING, "jtc"):
        f(*args)
        while background._background.worker is None:
            time.sleep(0.001)
        background._background.worker.process.kill()
        assert f.wait(100) and f.tiers == ["quick only"]
    assert "the compiling process ended with code -9" in caplog.text
    g = jtc.jit(lambda *args: network(*args) + 1)                            # the next request gets a new process
    same(g(*args), reference(*args) + 1)
    assert g.wait(100) and g.tiers == ["final"]


PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)            # which a shell ignores for jobs in the background
import numpy as np, jtc
from jtc.compiler import background
def network(*xs):
    return [jtc.softmax(x @ x.mT, axis=-1) for x in xs]
f = jtc.jit(network, tiered=True)
out = f(*[np.zeros((8 + i, 24), np.float32) for i in range(8)])
assert f.tiers == ["quick"] and out[0].numpy()[0, 0] == 0.125
while background._background.worker is None:
    time.sleep(0.001)
print(background._background.worker.process.pid, flush=True)
"""


@pytest.mark.parametrize("end", ["returns", "interrupted", "killed"])
def test_the_program_ends_while_better_code_is_compiled(place, end):
    rest = "" if end == "returns" else "time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM + rest], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    assert process.stdout is not None
    pids = {int(process.stdout.readline())}
    started = time.monotonic()
    if end != "returns":
        pids |= children(process)
        process.send_signal(signal.SIGINT if end == "interrupted" else signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == {"returns": 0, "interrupted": -signal.SIGINT, "killed": -signal.SIGKILL}[end], err
    assert time.monotonic() - started < 30 and all_gone(pids)
    assert ("KeyboardInterrupt" in err) == (end == "interrupted") and "jtc" not in err.replace("jtc-", "")


def test_the_child_of_a_fork_keeps_what_it_has(held):
    import os
    f = jtc.jit(network)
    args = normal(5, 24), normal(24, 24)
    f(*args)
    pid = os.fork()
    if pid == 0:
        right = np.allclose(f(*args).numpy(), reference(*args), rtol=1e-5) and f.tiers == ["quick"]
        os._exit(0 if right else 1)
    assert os.waitpid(pid, 0)[1] == 0
    held[0]()
    assert f.tiers == ["final"]


def test_nothing_is_left_behind(place, monkeypatch):
    """Without a cache, too: the module is loaded from a temporary directory that is gone afterwards."""
    monkeypatch.setenv("JTC_CACHE", "off")
    monkeypatch.setenv("TMPDIR", str(place))
    f = jtc.jit(network)
    args = normal(5, 24), normal(24, 24)
    f(*args)
    assert f.wait(100) and f.tiers == ["final"]
    same(f(*args), reference(*args))
    module, = f.runnables
    deadline = time.monotonic() + 30
    while Path(module.path).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(module.path).exists()
