"""jtc compile: from a saved graph, or a file of any phase, to a compiled module or any later phase."""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jtc.compiler import phases
from jtc.compiler.phases import PHASES
from jtc.dialects.errors import InputError, UsageError
from jtc.dialects.family import Family
from jtc.runtime import knobs


def configure(parser: argparse.ArgumentParser) -> None:
    rows = "\n".join(f"  {p.name:9} {p.suffix:15} {p.doc}" for p in PHASES.values())
    parser.epilog = f"""phases, their files and what they hold:
{rows}

examples:
  jtc compile model.jtc -o model.so                 a module for this machine
  jtc compile model.jtc --target x86-64-v3          for any processor with AVX2
  jtc compile model.jtc --target aarch64            for any 64-bit Arm
  jtc compile model.jtc --emit schedule -o -        print the kernels with their schedules
  jtc compile model.schedule.mlir --emit asm        go on from a phase's file, here to model.s
  jtc compile model.jtc --dump-dir dump --timings   look at every pass, and at where the time went"""
    parser.add_argument("model", help="saved graph (.jtc), or a file of one of the phases (.mlir, .ll)")
    parser.add_argument("-o", "--output", help="file to write (default: the model's name with the phase's suffix)")
    parser.add_argument("--target", default="cpu",
                        help="cpu (this one), cpu:NAME (native, x86-64, x86-64-v3, aarch64, ...), or cuda")
    parser.add_argument("--emit", metavar="PHASE", default="so", help="stop at this phase (default: so)")
    parser.add_argument("--from", dest="start", metavar="PHASE", help="phase of the input (default: recognised)")
    parser.add_argument("--no-weights", action="store_true", help="leave the weights out; they are bound after loading")
    parser.add_argument("--dump-dir", metavar="DIR", help="write the program after every pass, and every kernel, there")
    parser.add_argument("--timings", action="store_true", help="say where the time went")
    parser.add_argument("--threads", metavar="N", help="processes that compile kernels")
    parser.add_argument("--optimize", metavar="0-3", help="effort of LLVM")
    parser.add_argument("--strict", action="store_true",
                        help="keep the arithmetic as written: fold no scales into weights")
    parser.add_argument("--no-verify", action="store_true", help="do not verify the IR between phases")
    parser.add_argument("--no-cache", action="store_true", help="neither read nor write the disk cache")


def run(arguments: argparse.Namespace) -> int:
    from jtc.compiler import driver
    device = "cuda" if arguments.target == "cuda" else "cpu"
    end = phases.phase(arguments.emit, device)
    with knobs.use(**_knobs(arguments)):
        target = driver.resolve_target(arguments.target)
        output = Path(arguments.output or _stem(arguments.model) + end.suffix)
        if str(output) != "-":
            driver.check_writable(output)
        _refuse_same(arguments.model, output)
        if end.name == "so":
            return _module(arguments, output)
        from jtc.tools.models import open_source
        source = open_source(arguments.model, arguments.start)
        from jtc.tools.progress import progress, size_text, timings_text
        with progress(f"compiling {Path(arguments.model).name}") as report:
            value, timings = _advance(source, end.name, target, report)
        _write(value, end.name, output, target.family)
        if str(output) != "-":
            print(f"{output}: {size_text(output.stat().st_size)}, {end.doc}", file=sys.stderr)
        if arguments.timings:
            print(timings_text(timings), file=sys.stderr)
    return 0


def _advance(source: Any, end: str, target: Any, report: Callable[[str, int, int], None]) -> tuple[Any, Any]:
    """(program at phase `end`, Timings), dumped on the way where the knob says so."""
    from jtc.compiler import driver
    timings, dump, start = driver.Timings(), driver.Dump(knobs.get("dump_dir")), time.perf_counter()

    def watch(kind: str, name: str, seconds: float, made: Any) -> None:
        report(name, 0, 0)
        if kind == "pass":
            timings.steps.append((name, seconds))
            dump.value(name, made)
        else:
            timings.kernels.append((name, seconds))
            dump.code("loops" if name.startswith("emit ") else name.partition(" ")[0], made.symbol, made.data)
    if source.phase in ("graph", "kernel", "schedule"):
        dump.value(source.phase, source.value)
    value = phases.advance(source.value, source.phase, end, driver.settings_for(target, watch))
    if timings.kernels:
        timings.steps.append(("kernels", time.perf_counter() - start - timings.total))
        timings.distinct = timings.compiled = len(value)
    return value, timings


def _refuse_same(model: str, output: Path) -> None:
    if output.exists() and Path(model).exists() and output.samefile(model):
        raise InputError(f"cannot write {output}: it is the model", hint="give another name with -o")


def _stem(model: str) -> str:
    """The name of a model without its suffix, also without that of a phase: "net" of "a/net.graph.mlir"."""
    name = Path(model).name
    suffix = next((p.suffix for p in PHASES.values() if name.endswith(p.suffix)), Path(name).suffix)
    return name.removesuffix(suffix)


def _knobs(arguments: argparse.Namespace) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    if arguments.dump_dir:
        chosen["dump_dir"] = arguments.dump_dir
    if arguments.threads:
        chosen["jobs"] = arguments.threads
    if arguments.optimize:
        chosen["optimize"] = arguments.optimize
    if arguments.strict:
        chosen["strict"] = True
    if arguments.no_verify:
        chosen["verify"] = False
    if arguments.no_cache:
        chosen["cache"] = "off"
    return chosen


def _module(arguments: argparse.Namespace, output: Path) -> int:
    from jtc.compiler.driver import Timings
    from jtc.tools.models import compile_model
    from jtc.tools.progress import count_text, progress, size_text, timings_text
    timings = Timings()
    with progress(f"compiling {Path(arguments.model).name}") as report:
        compile_model(arguments.model, arguments.target, output, start=arguments.start,
                      embed=not arguments.no_weights, progress=report, timings=timings)
    size = output.stat().st_size
    how = "from the cache" if timings.cached else count_text(timings.distinct, "distinct kernel")
    print(f"{output}: {size_text(size)}, {how}, {timings.total:.2f} s", file=sys.stderr)
    if arguments.timings:
        print(timings_text(timings), file=sys.stderr)
    return 0


def _write(value: Any, phase: str, output: Path, family: Family) -> None:
    """The file of a phase, for a family of processors; `-` is standard output."""
    from jtc.tools.errors import replacing_text
    if phase == "obj":
        from jtc.compiler.link import link_relocatable
        from jtc.compiler.sealed import replacing
        if str(output) == "-":
            raise UsageError("an object does not go to a terminal", hint="give -o FILE")
        try:
            with replacing(output) as new:
                link_relocatable(new, [code.data for code in value], family)
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror}") from None
        return
    text = phases.text_of(value, phase)
    if str(output) == "-":
        sys.stdout.write(text)
    else:
        replacing_text(output, text)
