"""Several threads: jitted functions, lazy evaluation and compilation at the same time."""
from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from frontend_checks import normal, same
from kernels import chain, matmul, scale

import jtc
from jtc.compiler import workers
from jtc.compiler.driver import compile_graph, settings_for
from jtc.compiler.phases import Code
from jtc.dialects.errors import InternalError
from jtc.runtime.module import load_module

THREADS = 8


def together(function, count: int = THREADS) -> list:
    """`function(number)` in `count` threads that begin at the same time; their results."""
    barrier = threading.Barrier(count)

    def one(number: int):
        barrier.wait()
        return function(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JTC_CACHE_DIR", str(tmp_path))      # knobs.use would hold in one thread only
    return tmp_path


@pytest.fixture
def reference(monkeypatch):
    monkeypatch.setenv("JTC_BACKEND", "reference")


def test_a_signature_is_traced_once(reference):
    traces = []

    @jtc.jit
    def f(x, n):
        traces.append(n)
        time.sleep(0.002)                   # time for the others to come in
        return x * n

    x = normal(50)
    for first in range(0, 12, 2):
        for number, result in enumerate(together(lambda number, first=first: f(x, first + number % 2))):
            same(result, x * (first + number % 2))
    assert f.compiles == len(traces) == 12


def test_a_function_that_rebinds_is_traced_by_one_thread_at_a_time(reference):
    """While it is traced, stand-ins are in its places: other threads must not take them for values."""
    state = {"n": jtc.zeros((), dtype=jtc.int64)}

    @jtc.jit
    def step(x):
        state["n"] = state["n"] + 1
        slow = x
        for _ in range(200):
            slow = slow + 1
        return slow + state["n"] * 0

    @jtc.jit
    def look(x):
        return x + state["n"] * 0

    x = np.zeros(3, np.int64)
    for _ in range(5):
        step._programs.clear()

        def call(number: int):
            return step(x) if number % 2 else look(x)

        for number, result in enumerate(together(call)):
            same(result, x + (200 if number % 2 else 0))
    assert int(state["n"]) > 0


def test_compiled_functions_from_many_threads():
    @jtc.jit
    def f(x, y):
        return jtc.exp(x) + y

    x, y = normal(64), normal(64, seed=1)

    def call(number: int):
        arrays = [jtc.array(x), y] if number % 2 else [x, jtc.array(y)]
        return [f(*arrays) for _ in range(200)][-1]

    for result in together(call):
        same(result, np.exp(x) + y)
    assert f.compiles == 1


def test_one_lazy_tensor_asked_for_by_many_threads(reference):
    x = normal(40)
    for _ in range(8):
        pending = jtc.exp(jtc.array(x)) * 2
        shared = pending + 1
        asked = pending, shared
        for number, value in enumerate(together(lambda number, asked=asked: asked[number % 2].numpy())):
            np.testing.assert_allclose(value, np.exp(x) * 2 + number % 2, rtol=1e-5)


@pytest.mark.parametrize("jobs", [0, 2])
def test_programs_are_compiled_by_many_threads(jobs):
    x = normal(12)

    def build(number: int):
        graph = chain(12 + number // 2, f"chain{number}") if number % 4 else matmul(4 + number, name=f"mm{number}")
        return load_module(compile_graph(graph, jobs=jobs))

    modules = together(build, 6)
    np.testing.assert_allclose(modules[1](x), np.exp(x) * 2 + x, rtol=1e-5)
    a, b = normal(8, 12), normal(12, 24)
    np.testing.assert_allclose(modules[4](a, b), a @ b, rtol=1e-4, atol=1e-5)


def test_an_error_in_one_thread_leaves_the_workers_of_another_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("JTC_REPRODUCER_DIR", str(tmp_path))
    settings = settings_for()
    good = [scale(n) for n in range(2, 22)]
    bad = [Code("broken", 2, "func.func @broken() {"), *(scale(n) for n in range(50, 53))]

    def compile_all(number: int):
        try:
            with workers.Objects(settings, 2) as objects:
                for code in (good, bad)[number]:
                    objects.submit(code)
                return objects.results()
        except InternalError as error:
            return error

    made, error = together(compile_all, 2)
    assert isinstance(error, InternalError) and "does not parse" in str(error)
    assert set(made) == {code.symbol for code in good} and all(data[:4] == b"\x7fELF" for data in made.values())


def test_ctrl_c_in_one_thread_ends_its_own_workers_only():
    """What is left by KeyboardInterrupt is dropped; another compilation goes on and finishes."""
    settings = settings_for()

    def interrupted():
        with workers.Objects(settings, 2) as objects:
            for n in range(30, 42):
                objects.submit(scale(n))
            raise KeyboardInterrupt

    def compile_all(number: int):
        if number:
            with pytest.raises(KeyboardInterrupt):
                interrupted()
            return None
        with workers.Objects(settings, 2) as objects:
            for n in range(2, 14):
                objects.submit(scale(n))
            return objects.results()

    made, _ = together(compile_all, 2)
    assert len(made) == 12
