"""jtc doctor: versions, processor, tools, cache, and a small program compiled and run."""
from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jtc.dialects.family import FAMILIES
from jtc.runtime import knobs, processor


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Ends with 1 where something that jtc needs is missing or does not work."
    parser.add_argument("--knobs", action="store_true", help="also list every setting and its value")


@dataclass(frozen=True)
class Check:
    """One line.  ok: None where it is information only."""

    what: str
    found: str
    ok: bool | None = None


def run(arguments: argparse.Namespace) -> int:
    failed = 0
    for check in (*facts(), *checks()):
        mark = {True: "ok  ", False: "FAIL", None: "    "}[check.ok]
        failed += check.ok is False
        print(f"{mark} {check.what:16} {check.found}")
    if arguments.knobs:
        for env, name, value, doc in knobs.describe():
            print(f"     {env:20} {name}={value}: {doc}")
    print("all is well" if not failed else f"{failed} check{'s' * (failed != 1)} failed")
    return 1 if failed else 0


def facts() -> Iterator[Check]:
    """What there is: versions, processor."""
    from importlib.metadata import PackageNotFoundError, version

    import jtc
    from jtc.compiler.cpu import machine
    yield Check("jtc", f"{jtc.__version__} in {Path(__file__).parent.parent}")
    yield Check("python", f"{platform.python_version()} ({sys.executable}), {platform.platform()}")
    for package in ("numpy", "torch-mlir", "llvmlite", "ml_dtypes", "safetensors", "rich"):
        try:
            yield Check(package, version(package))
        except PackageNotFoundError:
            yield Check(package, "not installed", False)
    host = machine.host()
    yield Check("cpu", f"{host.name}, {host.vector_bits}-bit vectors, L1 {host.l1 >> 10} KiB, L2 {host.l2 >> 10} KiB")
    yield Check("cpu features", host.features.replace("+", "").replace(",", " "))
    yield Check("threads", f"{knobs.get('threads')} ({host.threads} processors)")
    yield Check("gpu", "present; not used by this version" if Path("/proc/driver/nvidia/version").exists() else "none")


def checks() -> Iterator[Check]:
    """What must work."""
    from jtc.compiler.link import find_linker
    linker = find_linker(processor.family())
    yield Check("linker", linker or "none found; install binutils (apt install binutils)", linker is not None)
    for family in FAMILIES:
        if family != processor.family():        # not needed here
            yield Check(f"linker {family}", find_linker(family) or f"none found (apt install {family.binutils[1]})")
    yield _try("cache", _cache)
    yield _try("mlir", _mlir)
    yield _try("compile and run", _compile_and_run)


def _try(what: str, action: Callable[[], str]) -> Check:
    start = time.perf_counter()
    try:
        found = action()
    except OSError as error:
        return Check(what, f"{error.filename or 'failed'}: {error.strerror or error}", False)
    except Exception as error:
        return Check(what, (str(error).splitlines() or [type(error).__name__])[0], False)
    return Check(what, f"{found} ({time.perf_counter() - start:.2f} s)", True)


def _cache() -> str:
    root = Path(knobs.get("cache_dir"))
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=root):
        return f"{root} can be written, mode {knobs.get('cache')}"


def _mlir() -> str:
    from jtc.dialects import mlir
    with mlir.lock, mlir.context():
        return f"bindings from {mlir.ir.__name__.partition('.')[0]}, jtc dialect loaded"


def _compile_and_run() -> str:
    """x + x, compiled without the cache."""
    import numpy as np

    from jtc.compiler.driver import compile_graph
    from jtc.dialects.dtypes import F32
    from jtc.dialects.graph import Graph, Node, TensorType
    from jtc.runtime.module import load_module, to_buffer
    kind = TensorType(F32, (1000,))
    x = Node("input", [], {}, kind)
    graph = Graph("doctor", [x], [Node("add", [x, x], {}, kind)], ["x"], ["y"])
    module = load_module(compile_graph(graph, cache="off"))
    value = np.arange(1000, dtype=np.float32)
    result = module.run([to_buffer(value, copy=False)])[0].numpy()
    if not np.array_equal(result, value + value):
        raise AssertionError("x + x gave a wrong result")
    return "x + x is right"
