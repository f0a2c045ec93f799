"""Ctrl-C, kill, a full disk and a second process while `jtc compile` is at work.  Real processes and signals."""
from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import jtc
from jtc.compiler.cache import Cache

COMMAND = [sys.executable, "-m", "jtc.tools.cli"]
INPUTS = [np.zeros((8 + i, 24), np.float32) for i in range(8)]


def network(*xs):
    return [jtc.softmax(x @ x.mT, axis=-1) for x in xs]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A saved graph of many distinct kernels: some seconds of compilation, with workers."""
    path = tmp_path_factory.mktemp("model") / "many.jtc"
    jtc.export(network, INPUTS, path, name="many")
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A saved graph of two kernels: compiled without workers."""
    path = tmp_path_factory.mktemp("model") / "small.jtc"
    jtc.export(network, INPUTS[:1], path, name="small")
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty directory, with a cache of its own and an output from before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JTC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JTC_JOBS", "2")
    (tmp_path / "m.so").write_text("old")
    return tmp_path


def begin(model: Path, output: str = "m.so", args: Sequence[str] = (),
          prepare: Callable[[], None] = lambda: None) -> subprocess.Popen[str]:
    """The command at work; prepare: called in its process, before it starts."""
    def start() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)        # a shell's background jobs ignore Ctrl-C
        prepare()
    return subprocess.Popen([*COMMAND, "compile", str(model), "-o", output, *args], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=start)


def finished(process: subprocess.Popen[str]) -> str:
    """What it wrote to stderr; it has succeeded."""
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return err


def children(process: subprocess.Popen[str]) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{process.pid}/task").glob("*/children"):
        try:
            found.update(map(int, task.read_text().split()))
        except OSError:
            continue                        # a thread that has ended
    return found


def at_work(process: subprocess.Popen[str], cache: Path) -> set[int]:
    """Wait until objects are being made; the workers' process ids."""
    deadline = time.monotonic() + 100
    while not list(cache.glob("objects/*/*.o")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    found = children(process)
    assert found
    return found


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def all_gone(pids: set[int]) -> bool:
    deadline = time.monotonic() + 30
    while not all(map(gone, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def nothing_half_written(place: Path) -> None:
    assert (place / "m.so").read_text() == "old"
    assert sorted(p.name for p in place.iterdir()) == ["cache", "m.so"]
    assert Cache(place / "cache").verify()[1] == []


@pytest.mark.parametrize("whom", ["process", "group"])
def test_ctrl_c(model, place, whom):
    process = begin(model)
    workers = at_work(process, place / "cache")
    if whom == "group":                     # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    assert all_gone(workers)
    assert not list(place.rglob(".tmp-*"))
    nothing_half_written(place)
    if whom == "group":
        begun = len(list(place.glob("cache/objects/*/*.o")))
        err = finished(begin(model, "m.so", args=["--timings"]))
        assert f"{begun} from the cache)" in err        # what was made before is used
        outputs = jtc.load_module(place / "m.so")(*INPUTS)
        np.testing.assert_allclose(outputs[3].numpy(), 1 / 11, rtol=1e-6)


def test_workers_end_with_their_process(model, place):
    process = begin(model)
    workers = at_work(process, place / "cache")
    process.kill()
    _, err = process.communicate(timeout=60)
    assert all_gone(workers) and err == ""
    nothing_half_written(place)


def test_a_full_disk(small, place):
    """No file may get larger than 2 kB: nothing can be kept, linked or written."""
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    process = begin(small, prepare=limit)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (1, ""), err
    *warnings, error, hint = err.splitlines()
    assert "error: cannot write the compiled module" in error and "File too large" in error and "TMPDIR" in hint
    assert len(warnings) == 1 and "compiled code is not kept" in warnings[0]
    assert not list(place.rglob(".tmp-*"))
    nothing_half_written(place)


def test_two_processes_compile_the_same_file(small, place):
    for process in [begin(small, f"{i}.so") for i in range(2)]:
        finished(process)
    assert (place / "0.so").read_bytes() == (place / "1.so").read_bytes()
    checked, damaged = Cache(place / "cache").verify()
    assert checked == Cache(place / "cache").stats()["objects"][0] + 2 and damaged == []
    assert not list(place.rglob(".tmp-*"))


def test_a_cache_that_cannot_be_written(small, place):
    """Permissions do not stop root, so the cache's place is a file here."""
    (place / "cache").write_text("")
    assert finished(begin(small)).count("cannot be written") == 1
    assert jtc.load_module(place / "m.so").name == "small"
    assert sorted(p.name for p in place.iterdir()) == ["cache", "m.so"]
