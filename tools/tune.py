"""jtc tune: measure schedules of a model's kernels on this machine, and keep those that are faster than the default."""
from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jtc.dialects.errors import InputError, UsageError
from jtc.runtime import knobs

if TYPE_CHECKING:
    from jtc.compiler.tuning.tune import Tuning

INTERRUPTED = 130


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """Whatever is compiled from then on takes the schedules that were found, where it has the same
kernels; JTC_SCHEDULES=default ignores them.  They count for this processor, this number of
threads and this version of jtc.  Ctrl-C ends the search and keeps what it has found.  With
--strict only schedules are tried that leave every result as it is, bit for bit.

examples:
  jtc tune model.jtc                          try schedules for a minute
  jtc tune model.jtc --threads 1 --budget 600
  jtc explain model.jtc                       schedules that were tuned say so
  jtc tune --export tuned.json                for another machine with this processor
  jtc tune --import tuned.json"""
    parser.add_argument("model", nargs="?", help="saved graph (.jtc), or IR of the phases graph or kernel (.mlir)")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="how long to search (default: 60)")
    parser.add_argument("--threads", metavar="N", help="threads to run with (default: all)")
    parser.add_argument("--target", default="cpu", help="as for `jtc compile`")
    parser.add_argument("--strict", action="store_true", help="for compilation with --strict: never change a result")
    parser.add_argument("--again", action="store_true", help="also kernels that were tuned before")
    parser.add_argument("--export", metavar="FILE", help="write all schedules that were found to a file")
    parser.add_argument("--import", dest="take", metavar="FILE", help="read schedules that were exported")


def run(arguments: argparse.Namespace) -> int:
    if sum(bool(what) for what in (arguments.model, arguments.export, arguments.take)) != 1:
        raise UsageError("jtc tune takes one of MODEL, --export FILE, --import FILE", hint="jtc tune model.jtc")
    if arguments.budget is not None and not 0 < arguments.budget < math.inf:
        raise UsageError(f"--budget {arguments.budget:g}: more than 0")
    chosen: dict[str, Any] = {"threads": arguments.threads} if arguments.threads else {}
    with knobs.use(**chosen, **({"strict": True} if arguments.strict else {})):
        if arguments.export or arguments.take:
            return _move(arguments)
        return _tune(arguments)


def _move(arguments: argparse.Namespace) -> int:
    from jtc.compiler.driver import resolve_target
    from jtc.compiler.tuning import store
    from jtc.tools.progress import count_text
    if arguments.export:
        print(f"{arguments.export}: {count_text(store.export(Path(arguments.export)), 'kernel')}")
    else:
        count, here = store.take_in(Path(arguments.take), resolve_target(arguments.target))
        print(f"took in {count_text(count, 'kernel')}, {here} of them for this machine, {knobs.get('threads')} "
              "threads and this version of jtc")
    return 0


def _tune(arguments: argparse.Namespace) -> int:
    from jtc.compiler.driver import resolve_target, settings_for
    from jtc.compiler.tuning.tune import tune
    from jtc.tools.models import open_source
    from jtc.tools.progress import progress
    settings = settings_for(resolve_target(arguments.target))
    source = open_source(arguments.model)
    if source.phase not in ("graph", "kernel"):
        raise InputError(f"{arguments.model}: a file of phase {source.phase} has its schedules already",
                         hint="tune the graph or the kernels it was made from")
    budget = arguments.budget or knobs.get("tune_budget")
    with progress(f"tuning {Path(arguments.model).name}") as report:
        done = tune(source.value, source.phase, settings, budget, report, again=arguments.again)
    print(_text(done))
    return INTERRUPTED if done.interrupted else 0


def _text(done: Tuning) -> str:
    from jtc.tools.progress import count_text
    faster = [row for row in done.rows if row.gain > 1]
    saved = sum(row.seconds * (row.gain - 1) for row in faster)
    lines = [f"{count_text(len(faster), 'kernel')} of {len(done.rows)} faster than by default; "
             f"one run took {done.seconds * 1e3:.3f} ms, some {saved * 1e3:.3f} ms less now"]
    if done.rows:
        lines.append("\n      ms  share  schedules  result")
    for row in done.rows:
        result = f"x{row.gain:.2f} of the default" if row.gain > 1 else "the default"
        lines.append(f"{row.seconds * 1e3:8.3f} {row.share:6.1%} {row.tried:10}  {row.name}: {result}"
                     f"{', as found before' if row.known else ''}")
    if done.interrupted:
        lines.append("interrupted: what had been found is kept")
    return "\n".join(lines)
