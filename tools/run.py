"""jtc run: a compiled module, or a saved graph that is compiled first, on input files."""
from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jtc.dialects.errors import InputError, UsageError
from jtc.runtime import knobs, processor


def configure(parser: argparse.ArgumentParser) -> None:
    from jtc.tools.arrays import DEVIATION, LAYOUTS, MEAN, TOP, numbers
    mean, deviation = (",".join(f"{v:g}" for v in values) for values in (MEAN, DEVIATION))
    parser.epilog = """An image is scaled and cut to the middle to fit its input, made three channels or grey,
and its pixels, from 0 to 1, are normalised: (pixel - mean) / std for each channel.

examples:
  jtc run model.so --input x.npy                          print shape, range and best classes of what comes out
  jtc run model.so --input a=a.npy --input b=b.npy --output y.npz
  jtc run resnet50.so --input photo.jpg --labels imagenet.txt
  jtc run net.so --input digit.png --image-mean 0 --image-std 1
  jtc run small.so --weights model.jtc --input x.npy      a module compiled with --no-weights
  jtc run model.jtc --input x.npz --repeat 20             compile (or find it in the cache), run and time"""
    parser.add_argument("model", help="compiled module (.so) or saved graph (.jtc)")
    parser.add_argument("--input", action="append", default=[], metavar="[NAME=]FILE",
                        help=".npy, .npz or an image; once for each input, in order or by name")
    parser.add_argument("--output", metavar="FILE", help="write the outputs there (.npz, or .npy for a single one)")
    parser.add_argument("--image-mean", type=numbers, metavar="M[,M,M]",
                        help=f"subtracted from an image's pixels (default: {mean} for three channels, 0 for one)")
    parser.add_argument("--image-std", type=numbers, metavar="S[,S,S]",
                        help=f"divides an image's pixels (default: {deviation} for three channels, 1 for one)")
    parser.add_argument("--image-layout", choices=LAYOUTS, default=LAYOUTS[0],
                        help="order of an image's dimensions in the input (default: auto, as its shape says)")
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, one a line, for printing the best")
    parser.add_argument("--top", type=int, default=TOP, metavar="K", help=f"print the K best classes (default: {TOP})")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run N times and print the times")
    add_module_options(parser)


def add_module_options(parser: argparse.ArgumentParser) -> None:
    """Options that `open_module` serves, and the number of threads."""
    parser.add_argument("--weights", metavar="FILE", help="weights of a module compiled with --no-weights: the saved "
                                                          "graph (.jtc), a .safetensors or an .npz with their names")
    parser.add_argument("--threads", metavar="N", help="threads to run with (default: all)")
    parser.add_argument("--target", default="cpu", help="for a saved graph: as for `jtc compile`")


def run(arguments: argparse.Namespace) -> int:
    import numpy as np

    from jtc.tools.arrays import ImageOptions, check_output, read_inputs, read_labels, save_outputs, summary
    from jtc.tools.progress import progress
    for option in ("repeat", "top"):
        if getattr(arguments, option) < 1:
            raise UsageError(f"--{option} {getattr(arguments, option)}: at least 1")
    images = ImageOptions(arguments.image_mean, arguments.image_std, arguments.image_layout)
    labels = read_labels(arguments.labels) if arguments.labels else None
    if arguments.output:
        check_output(Path(arguments.output), arguments.model)
    with knobs.use(**({"threads": arguments.threads} if arguments.threads else {})):
        start = time.perf_counter()
        module = open_module(arguments.model, arguments.target, arguments.weights)
        opened = time.perf_counter()
        if arguments.output:
            check_output(Path(arguments.output), arguments.model, len(module.outputs))
        inputs = read_inputs(arguments.input, module.inputs, images)
        read = time.perf_counter()
        with progress(f"running {module.name}") if arguments.repeat > 1 else nullcontext() as report:
            times, results = measure(module, inputs, arguments.repeat, report)
        outputs = {info.name: value for info, value in zip(module.outputs, results, strict=True)}
        for name, value in outputs.items():
            print(summary(name, np.asarray(value), labels, arguments.top))
        print(f"load {opened - start:.3f} s, read inputs {read - opened:.3f} s, first run {times[0] * 1e3:.3f} ms")
        if times[1:]:
            best, median = min(times[1:]) * 1e3, statistics.median(times[1:]) * 1e3
            print(f"then {len(times) - 1} runs: best {best:.3f} ms, median {median:.3f} ms")
        if arguments.output:
            start = time.perf_counter()
            save_outputs(Path(arguments.output), outputs)
            print(f"wrote {arguments.output} in {time.perf_counter() - start:.3f} s")
    return 0


def open_module(path: str, target: str = "cpu", weights: str | None = None) -> Any:
    """The Module of a file, with its weights bound; a saved graph is compiled into the cache.  Raises InputError."""
    from jtc.runtime.module import load_module
    from jtc.tools.arrays import read_weights
    from jtc.tools.models import compile_model, is_module
    if is_module(path):
        module = load_module(path)
    else:
        from jtc.compiler.driver import resolve_target
        from jtc.tools.progress import progress
        wanted, here = resolve_target(target).family, processor.family()
        if wanted != here:
            raise UsageError(f"--target {target}: this machine is {here}, it runs no code for {wanted}",
                             hint=f"`jtc compile {path} --target {target}` makes a module to run elsewhere")
        with progress(f"compiling {Path(path).name}") as report:
            module = load_module(compile_model(path, target, progress=report))
    if module.constants:
        if weights is None:
            raise InputError(f"{path} was compiled without its weights",
                             hint="give --weights FILE: the .jtc it was compiled from, a .safetensors or an .npz")
        module.bind(read_weights(weights))
    elif weights is not None:
        raise InputError(f"{path} has its weights in it", hint="leave --weights out")
    return module


def measure(module: Any, inputs: list, repeat: int,
            report: Callable[[str, int, int], None] | None = None) -> tuple[list[float], list]:
    """(seconds of every run, NumPy outputs of the last); results are complete when the clock stops."""
    from jtc.runtime.module import to_buffer
    times, results = [], []
    buffers = [to_buffer(value, copy=False) for value in inputs]
    for _ in range(repeat):
        start = time.perf_counter()
        results = [b.numpy() for b in module.run(buffers)]
        times.append(time.perf_counter() - start)
        if report is not None:
            report("run", len(times), repeat)
    return times, results
