"""jtc bench: time a model, its kernels against the machine, its optimisations one by one, or jtc against its peers."""
from __future__ import annotations

import argparse
import math
import shlex
import sys
from pathlib import Path
from typing import Any

from jtc.dialects.errors import UsageError
from jtc.runtime import knobs

SLICE = 0.3                 # seconds of calls of one program in one round


def configure(parser: argparse.ArgumentParser) -> None:
    from jtc.tools.run import add_module_options
    parser.epilog = """Inputs are standard normal floats, and zeros for integers and bools.
MODEL may also name a workload of --peers, such as resnet50_infer_b1 or lsgan_train_b16.

examples:
  jtc bench model.so
  jtc bench model.jtc --threads 1 --seconds 10
  jtc bench model.so --kernels
  jtc bench model.jtc --roofline -o roof          roof.md, roof.json, roof.png: each kernel against this machine
  jtc bench gpt_block_fwd --ablate -o ablation    what fusion, packing, threads... are worth
  jtc bench matmul_512 --ablate --only threads    two threads against one, in turns
  jtc bench --peers torch,jax,onnxruntime,openvino --threads 1,2 -o peers
  jtc bench --peers numpy --tiny --rounds 1       try the benchmark out in a minute"""
    parser.add_argument("model", nargs="?", help="compiled module (.so), saved graph (.jtc), or name of a workload")
    parser.add_argument("--seconds", type=float, metavar="S",
                        help="how long to measure (default: 2); with --ablate and --peers in each round (default: "
                             f"{SLICE:g})")
    parser.add_argument("--kernels", action="store_true", help="also show how long each kernel takes")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--roofline", action="store_true",
                       help="measure what this machine can do at most, and show each kernel against it")
    kinds.add_argument("--ablate", action="store_true", help="switch the optimisations off in turn, interleaved")
    kinds.add_argument("--peers", metavar="NAMES", help="compare with these, separated by commas: torch, torch_keep, "
                       "torch_compile, torch_freeze, jax, onnxruntime, openvino, numpy")
    parser.add_argument("--workloads", metavar="WORDS", help="with --peers: only workloads with one of these words, "
                                                             "separated by commas, in their name (default: all)")
    parser.add_argument("--only", metavar="WORDS", help="with --ablate: only optimisations with one of these words, "
                                                        "separated by commas, in their name (default: all)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="with --ablate and --peers (default: 7)")
    parser.add_argument("-o", "--output", metavar="PREFIX", help="write PREFIX.md and PREFIX.json, and PREFIX.png for "
                                                                 "what is plotted")
    parser.add_argument("--no-plot", action="store_true", help="write no PREFIX.png, which needs matplotlib")
    parser.add_argument("--add", action="store_true", help="with --peers: keep what PREFIX.json has of other workloads")
    parser.add_argument("--tiny", action="store_true", help="small workloads, to try the benchmark itself")
    parser.add_argument("--references", metavar="DIR", help="with --peers: keep the float64 references there (2 GB)")
    parser.add_argument("--lock", metavar="FILE", help="lock this file while the clock runs, so that benchmarks that "
                                                       "share a machine take turns")
    parser.add_argument("--hold", type=float, metavar="S", help="let the lock go between rounds after so long "
                                                                "(default: 45 seconds)")
    add_module_options(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.seconds is not None and not 0 < arguments.seconds < math.inf:
        raise UsageError(f"--seconds {arguments.seconds:g}: more than 0")
    if arguments.hold is not None and not 0 < arguments.hold < math.inf:
        raise UsageError(f"--hold {arguments.hold:g}: more than 0")
    if arguments.rounds < 1:
        raise UsageError(f"--rounds {arguments.rounds}: at least 1")
    if arguments.peers is not None:
        return _peers(arguments)
    if arguments.model is None:
        raise UsageError("which model? a file, or the name of a workload", hint="see `jtc bench --help`")
    with knobs.use(threads=arguments.threads or knobs.get("threads")):
        from jtc.tools.measure.subject import open_subject
        subject = open_subject(arguments.model, arguments.target, arguments.weights, arguments.tiny, arguments.ablate)
        if arguments.roofline:
            _roofline(arguments, subject)
        elif arguments.ablate:
            _ablate(arguments, subject)
        else:
            from jtc.tools.measure.timing import show_kernels, show_time
            running = subject.start()
            show_time(running, arguments.seconds or 2.0)
            if arguments.kernels:
                show_kernels(running, arguments.seconds or 2.0)
    return 0


def _prefix(arguments: argparse.Namespace, plots: bool) -> Path | None:
    """What files are named after; what cannot be written or drawn is told before anything is measured."""
    from jtc.tools.measure.tables import check_output, pyplot
    if arguments.output is None:
        return None
    if plots and not arguments.no_plot:
        pyplot()
    return check_output(arguments.output)


def _finish(prefix: Path | None, text: str, data: Any) -> None:
    from jtc.tools.measure.tables import write_json, write_text
    print(text, end="")
    if prefix is not None:
        write_text(prefix.with_name(f"{prefix.name}.md"), text)
        write_json(prefix.with_name(f"{prefix.name}.json"), data)


def _roofline(arguments: argparse.Namespace, subject: Any) -> None:
    from jtc.tools.measure import ceilings, roofline
    from jtc.tools.measure.machine import Priority, alone, this_machine
    prefix, machine, threads = _prefix(arguments, True), this_machine(), knobs.get("threads")
    counts = sorted({*(1 << i for i in range(threads.bit_length()) if 1 << i <= threads), threads})
    priority = Priority()
    try:
        running = subject.start()
        with alone(arguments.lock), priority.timing():
            tops = ceilings.measure(machine, counts)
            seconds = roofline.profile(running.module, running.inputs, arguments.seconds or 2.0)
    finally:
        priority.restore()
    found = roofline.points(running.module, seconds, tops[-1], machine)
    _finish(prefix, roofline.text(subject.name, found, tops, machine),
            roofline.report(subject.name, found, tops, machine, threads))
    if prefix is not None and not arguments.no_plot:
        roofline.plot(subject.name, found, tops[-1], prefix.with_name(f"{prefix.name}.png"))


def _ablate(arguments: argparse.Namespace, subject: Any) -> None:
    from jtc.tools.measure import ablation
    from jtc.tools.measure.machine import this_machine
    from jtc.tools.measure.rounds import HOLD
    from jtc.tools.progress import progress
    prefix, machine, seconds = _prefix(arguments, False), this_machine(), arguments.seconds or SLICE
    words = [word.strip() for word in (arguments.only or "").split(",") if word.strip()]
    with progress(subject.name) as report:
        rows = ablation.ablate(subject, arguments.rounds, seconds, arguments.lock, arguments.hold or HOLD, report,
                               words)
    _finish(prefix, ablation.text(subject.name, rows, machine, arguments.rounds, seconds),
            ablation.report(subject.name, rows, machine))


def _peers(arguments: argparse.Namespace) -> int:
    from jtc.tools.measure.machine import this_machine
    from jtc.tools.measure.rounds import HOLD
    from jtc.tools.peers import report
    from jtc.tools.peers.runner import Comparison, Options, Results
    from jtc.tools.peers.table import chosen
    from jtc.tools.peers.workload import select, suite
    if arguments.model is not None:
        raise UsageError(f"--peers runs workloads of its own, not {arguments.model}", hint="choose with --workloads")
    prefix, machine, known = _prefix(arguments, True), this_machine(), suite(arguments.tiny)
    options = Options(_threads(arguments.threads), arguments.rounds, arguments.seconds or SLICE, lock=arguments.lock,
                      hold=arguments.hold or HOLD, references=arguments.references, tiny=arguments.tiny)
    workloads = select(arguments.workloads, known) if arguments.workloads else list(known.values())
    peers = []
    for peer in chosen(arguments.peers):
        absent = peer.missing()
        if absent:
            print(f"{peer.name} is left out: {absent} is not installed; pip install jtc[bench]", file=sys.stderr)
        else:
            peers.append(peer)
    command = shlex.join(["jtc", "bench", *sys.argv[2:]])
    file = prefix.with_name(f"{prefix.name}.json") if prefix else None
    kept = Results.read(file) if arguments.add and file and file.exists() else Results()
    log = open(prefix.with_name(f"{prefix.name}.log"), "w") if prefix else open("/dev/null", "w")    # noqa: SIM115

    def finish(found: Results) -> tuple[Results, str]:
        both = kept.with_those_of(found, known)
        return both, report.text(both, known, machine, options, command)

    def keep(found: Results) -> None:
        from jtc.tools.measure.tables import write_json, write_text
        if prefix is not None and file is not None:
            both, text = finish(found)
            write_json(file, {"command": command, "machine": machine.to_json(), "results": both.to_json()})
            write_text(prefix.with_name(f"{prefix.name}.md"), text)

    with log:
        comparison = Comparison(peers, workloads, options, log, lambda line: print(line, file=sys.stderr, flush=True))
        both, text = finish(comparison.run(keep))
    print(text, end="")
    if prefix is not None and not arguments.no_plot:
        report.plot(both, prefix.with_name(f"{prefix.name}.png"))
    return 0


def _threads(text: str | None) -> list[int]:
    """Counts separated by commas, for --peers; 1 by default.  Raises UsageError."""
    try:
        counts = [int(part) for part in (text or "1").split(",")]
    except ValueError:
        counts = [0]
    most = knobs.default_threads()
    if not all(1 <= count <= most for count in counts):
        raise UsageError(f"--threads {text}: numbers from 1 to {most}, separated by commas")
    return list(dict.fromkeys(counts))
