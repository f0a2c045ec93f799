"""jtc run: a compiled module, or a saved graph that is compiled first, on input files."""
from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from jtc.dialects.errors import UsageError
from jtc.runtime import knobs


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="compiled module (.so) or saved graph (.jtc)")
    parser.add_argument("--input", action="append", default=[], metavar="[NAME=]FILE",
                        help=".npy, .npz or an image; once for each input, in order or by name")
    parser.add_argument("--output", metavar="FILE", help="write the outputs there (.npz, or .npy for a single one)")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run N times and print the times")
    parser.add_argument("--threads", metavar="N", help="threads to run with (default: all)")
    parser.add_argument("--target", default="cpu", help="for a saved graph: as for `jtc compile`")


def run(arguments: argparse.Namespace) -> int:
    import numpy as np

    from jtc.compiler.driver import check_writable
    from jtc.tools.arrays import read_inputs, save_outputs, summary
    if arguments.repeat < 1:
        raise UsageError(f"--repeat {arguments.repeat}: at least 1")
    if arguments.output:
        check_writable(Path(arguments.output))
    with knobs.use(**({"threads": arguments.threads} if arguments.threads else {})):
        start = time.perf_counter()
        module = open_module(arguments.model, arguments.target)
        opened = time.perf_counter()
        inputs = read_inputs(arguments.input, module.inputs)
        read = time.perf_counter()
        times, results = measure(module, inputs, arguments.repeat)
        outputs = {info.name: value for info, value in zip(module.outputs, results, strict=True)}
        for name, value in outputs.items():
            print(summary(name, np.asarray(value)))
        print(f"load {opened - start:.3f} s, read inputs {read - opened:.3f} s, first run {times[0] * 1e3:.3f} ms")
        if times[1:]:
            best, median = min(times[1:]) * 1e3, statistics.median(times[1:]) * 1e3
            print(f"then {len(times) - 1} runs: best {best:.3f} ms, median {median:.3f} ms")
        if arguments.output:
            start = time.perf_counter()
            save_outputs(Path(arguments.output), outputs)
            print(f"wrote {arguments.output} in {time.perf_counter() - start:.3f} s")
    return 0


def open_module(path: str, target: str = "cpu") -> Any:
    """The Module of a file; a saved graph is compiled into the cache.  Raises InputError."""
    from jtc.runtime.module import load_module
    from jtc.tools.models import compile_model, is_module
    if is_module(path):
        module = load_module(path)
    else:
        from jtc.tools.progress import progress
        with progress(f"compiling {Path(path).name}") as report:
            module = load_module(compile_model(path, target, progress=report))
    return module


def measure(module: Any, inputs: list, repeat: int) -> tuple[list[float], list]:
    """(seconds of every run, NumPy outputs of the last); results are complete when the clock stops."""
    from jtc.runtime.module import to_buffer
    times, results = [], []
    buffers = [to_buffer(value, copy=False) for value in inputs]
    for _ in range(repeat):
        start = time.perf_counter()
        results = [b.numpy() for b in module.run(buffers)]
        times.append(time.perf_counter() - start)
    return times, results
