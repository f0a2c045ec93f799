"""jtc bench: time a model on random inputs, after warming up, with the spread."""
from __future__ import annotations

import argparse
import math
import statistics
import time
from typing import TYPE_CHECKING

from jtc.dialects.errors import UsageError
from jtc.runtime import knobs

if TYPE_CHECKING:
    import numpy as np

    from jtc.runtime.module import Module


def configure(parser: argparse.ArgumentParser) -> None:
    from jtc.tools.run import add_module_options
    parser.epilog = """Inputs are standard normal floats, and zeros for integers and bools.

examples:
  jtc bench model.so
  jtc bench model.jtc --threads 1 --seconds 10
  jtc bench model.so --kernels"""
    parser.add_argument("model", help="compiled module (.so) or saved graph (.jtc)")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="how long to measure (default: 2)")
    parser.add_argument("--kernels", action="store_true", help="also show how long each kernel takes")
    add_module_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from jtc.tools.run import measure, open_module
    if not 0 < arguments.seconds < math.inf:
        raise UsageError(f"--seconds {arguments.seconds:g}: more than 0")
    with knobs.use(**({"threads": arguments.threads} if arguments.threads else {})):
        module = open_module(arguments.model, arguments.target, arguments.weights)
        inputs = random_inputs(module)
        measure(module, inputs, 2)
        times: list[float] = []
        end = time.perf_counter() + arguments.seconds
        while not times or time.perf_counter() < end:
            times += measure(module, inputs, 1)[0]
        flops = sum(launch.flops for launch in module.plan.launches)
        moved = sum(launch.bytes for launch in module.plan.launches)
        median = statistics.median(times)
        threads, launches = knobs.get("threads"), len(module.plan.launches)
        best, worst = min(times), max(times)
        print(f"{module.name}: median {median * 1e3:.3f} ms, best {best * 1e3:.3f}, worst {worst * 1e3:.3f}, "
              f"{len(times)} runs, {threads} thread{'s' * (threads != 1)}")
        print(f"{launches} launch{'es' * (launches != 1)}, {flops / median / 1e9:.1f} G operations/s, "
              f"{moved / median / 1e9:.1f} GB/s")
        if arguments.kernels:
            show_kernels(module, inputs, arguments.seconds)
    return 0


def show_kernels(module: Module, inputs: list[np.ndarray], seconds: float) -> None:
    """Print the median time of every launch, the slowest first; launches run one after another, not side by side."""
    runs: list[list[float]] = []
    end = time.perf_counter() + seconds
    while not runs or time.perf_counter() < end:
        runs.append(module.profile(*inputs))
    rows = sorted(((statistics.median(t), launch) for t, launch in zip(zip(*runs), module.plan.launches, strict=True)),
                  key=lambda row: -row[0])
    total = sum(t for t, _ in rows)
    print("\n      ms  share  G operations/s   GB/s  kernel")
    for t, launch in rows:
        rate = 1e-9 / max(t, 1e-9)
        print(f"{t * 1e3:8.3f} {t / total:6.1%} {launch.flops * rate:15.1f} {launch.bytes * rate:6.1f}  "
              f"{launch.kernel}")


def random_inputs(module: Module) -> list[np.ndarray]:
    """Arrays for the inputs of a module: standard normal floats, zeros otherwise (any index is in range of them)."""
    import numpy as np

    from jtc.dialects.dtypes import DTYPES
    rng = np.random.default_rng(0)
    made = []
    for info in module.inputs:
        dtype = DTYPES[info.dtype]
        made.append(rng.standard_normal(info.shape).astype(dtype.numpy) if dtype.is_float
                    else np.zeros(info.shape, dtype.numpy))
    return made
