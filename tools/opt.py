"""jtc opt, also installed as jtc-opt: run passes on a file of jtc's IR and print the result, as mlir-opt does.

Passes run in the order given.  Those of jtc work on graphs and kernels; any other `--name` is upstream MLIR's.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from jtc.dialects.errors import InputError, InternalError, UsageError, near
from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Program
from jtc.passes.base import parse_pass, parse_pipeline, registry
from jtc.tools.errors import guarded

USAGE = """\
usage: jtc opt [options] [--PASS[="OPTION=VALUE ..."]]... [FILE]

Read a graph or kernels (.mlir, .jtc; `-` or nothing: standard input), run passes in the order given, verify, and print
the result.

  --PASS                  run a pass of jtc (see --list-passes) or of upstream MLIR: --canonicalize --cse
  --PASS="a=1 b=x,y"      with options
  --pass-pipeline="P,Q{a=1}"  several passes
  -o FILE                 write there instead of standard output
  --emit PHASE            go on to this phase afterwards (graph, kernel, schedule, loops, llvm, asm)
  --target NAME           processor that schedules and code are made for (default: cpu)
  --locations             print the user's lines
  --no-verify             do not verify
  --split-input-file      the input holds several modules, separated by lines `// -----`
  --run-reproducer FILE   do what the head of a reproducer file says
  --list-passes           print jtc's passes and their options
  -h, --help              this text

examples:
  jtc opt net.graph.mlir --graph-expand --graph-canonicalize --graph-fuse
  jtc opt k.mlir --kernel-split="axis=i0 step=8" --kernel-vectorize="axis=i0 lanes=8"
  jtc opt net.jtc --emit loops

passes of jtc:
"""
OPTIONS = ("-o", "--emit", "--target", "--run-reproducer", "--list-passes", "--locations", "--no-verify",
           "--split-input-file", "--pass-pipeline", "--help")


@dataclass
class Options:
    """What the command line says.  steps: ("jtc" | "mlir", text of a pass) in order."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    file: str = "-"
    output: str = "-"
    emit: str | None = None
    target: str = "cpu"
    locations: bool = False
    verify: bool = True
    split: bool = False
    reproducer: str | None = None
    list_passes: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    if "-h" in arguments or "--help" in arguments:
        print(USAGE + list_passes())
        return 0
    return guarded(lambda: run(parse(arguments)))


def parse(arguments: Sequence[str]) -> Options:
    """Raises UsageError."""
    options, files = Options(), []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name == "--pass-pipeline":
            inner = value.strip()
            if inner.startswith("builtin.module(") and inner.endswith(")"):
                inner = inner[len("builtin.module("):-1]
            options.steps += [_step(p) for p in _split(inner)]
        elif name in ("-o", "--emit", "--target", "--run-reproducer"):
            if not equals:
                value = next(words, "")
            if not value:
                raise UsageError(f"{name} needs a value", hint="see `jtc opt --help`")
            setattr(options, {"-o": "output", "--run-reproducer": "reproducer"}.get(name, name[2:]), value)
        elif word == "--list-passes":
            options.list_passes = True
        elif word == "--locations":
            options.locations = True
        elif word == "--no-verify":
            options.verify = False
        elif word == "--split-input-file":
            options.split = True
        elif name.startswith("--") and len(name) > 2:
            options.steps.append(_step(name[2:] + (f"{{{value}}}" if equals else "")))
        elif name.startswith("-") and name != "-":
            raise UsageError(f"unknown option {word!r}", hint=_hint(name))
        else:
            files.append(word)
    if len(files) > 1:
        for kind, step in options.steps:                 # `--emti asm`: a mistyped option, not an upstream pass
            if kind == "mlir" and "did you mean" in near("--" + step, OPTIONS):
                raise UsageError(f"unknown option '--{step}'", hint=near("--" + step, OPTIONS))
        raise UsageError(f"one input file, not {len(files)}: {' '.join(files)}")
    options.file = files[0] if files else "-"
    return options


def _hint(name: str) -> str:
    """What an unknown option may have been meant to be."""
    found = near(name, [*OPTIONS, *(f"--{known}" for known in registry())])
    return found if "did you mean" in found else "`jtc opt --help` lists options and passes"


def _split(pipeline: str) -> list[str]:
    """Parts between commas that are outside of braces and parentheses.  Raises UsageError where one is left open."""
    parts, depth, start = [], 0, 0
    for i, ch in enumerate(pipeline + ","):
        depth += (ch in "{(") - (ch in "})")
        if ch == "," and depth == 0:
            parts.append(pipeline[start:i].strip())
            start = i + 1
    if depth:
        raise UsageError(f"--pass-pipeline={pipeline}: a bracket is left open or closed twice")
    return [p for p in parts if p]


def _step(text: str) -> tuple[str, str]:
    name = text.partition("{")[0].strip()
    if name in registry():
        return "jtc", text
    if name.startswith(("graph-", "kernel-", "gpu-")):
        raise UsageError(f"unknown pass {name!r}", hint=near(name, sorted(registry())))
    return "mlir", text


def run(options: Options) -> int:
    if options.list_passes:
        print(list_passes())
        return 0
    if options.reproducer is not None:
        return _replay(options)
    text, name = _read(options.file)
    parts = text.split("\n// -----\n") if options.split else [text]
    results = []
    for number, part in enumerate(parts):
        before = sum(p.count("\n") + 2 for p in parts[:number])       # so that errors count lines as the file does
        results.append(transform("\n" * before + part, name, options))
    _write("// -----\n".join(results), options.output)
    return 0


def transform(text: str, name: str, options: Options) -> str:
    """The text after all passes, and at the phase asked for.  name: what errors call the input."""
    from jtc.compiler import phases, pipeline
    from jtc.compiler.driver import settings_for
    if options.emit is not None:
        phases.phase(options.emit)
    settings = replace(settings_for(options.target), verify=options.verify)
    value: Any = _parse(text, name)
    for kind, step in options.steps:
        if kind == "mlir":
            value = _upstream(_text(value, True), step, name)
            continue
        if isinstance(value, str):
            value = _jtc(value, name)
        made = parse_pass(step)
        if any(f.name == "target" for f in fields(made)):
            made = replace(made, target=settings.target)        # type: ignore[call-arg]
        value = pipeline.run(value, [made], settings)
    if options.emit is None:
        return _text(value, options.locations)
    if options.emit in ("obj", "so"):
        raise UsageError(f"--emit {options.emit} is not text", hint="use `jtc compile`")
    start, value = (_phase_of(value), value) if not isinstance(value, str) else phases.parse(value, name)
    return phases.text_of(phases.advance(value, start, options.emit, settings), options.emit)


def _phase_of(value: Graph | Program) -> str:
    if isinstance(value, Graph):
        return "graph"
    return "schedule" if value.kernels and all(s.schedule for k in value.kernels for s in k.stages) else "kernel"


def _parse(text: str, name: str) -> Graph | Program | str:
    """A graph or kernels in memory; text of other dialects stays text, and is verified."""
    return _jtc(text, name) if "jtc." in text else _upstream(text, "", name)


def _jtc(text: str, name: str) -> Graph | Program:
    from jtc.dialects.reader import read_text
    return read_text(text, name)


def _text(value: Graph | Program | str, locations: bool) -> str:
    from jtc.dialects.text import graph_text, program_text
    if isinstance(value, str):
        return value
    if isinstance(value, Graph):
        return graph_text(value, locations=locations)
    return program_text(value, locations=locations)


def _upstream(text: str, step: str, name: str) -> str | Graph | Program:
    """Parse and verify the text, and run a pass of upstream MLIR on it ("" for none).  Raises ReadError."""
    from jtc.dialects import mlir
    from jtc.dialects.mlir import ir, passmanager
    from jtc.dialects.reader import ReadError
    with mlir.lock, mlir.context() as context:
        try:
            module = ir.Module.parse(text)
        except ir.MLIRError as error:
            raise ReadError(mlir.diagnostics(error, name), text, name) from None
        try:
            manager = passmanager.PassManager.parse(f"builtin.module({step})", context)
        except ValueError as error:
            name, detail = step.partition("{")[0], str(error).splitlines()[0].rpartition("error: ")[2]
            if "does not refer" in detail:
                raise UsageError(f"unknown pass {name!r}", hint=_hint("--" + name)) from None
            raise UsageError(f"pass {step!r}: {detail}") from None
        try:
            manager.run(module.operation)
        except ir.MLIRError as error:
            raise ReadError(mlir.diagnostics(error, name), text, name) from None
        changed = module.operation.get_asm(enable_debug_info=True)
        plain = str(module)
    return _jtc(changed, name) if "jtc." in changed else plain + ("" if plain.endswith("\n") else "\n")


def _replay(options: Options) -> int:
    """Do again what failed.  Fails as it did then, or says that it does not any more."""
    from jtc.compiler import phases, pipeline, reproducer
    from jtc.compiler.driver import settings_for
    assert options.reproducer is not None
    path = options.reproducer
    found = reproducer.read(path)
    base = settings_for(_target_of(found))
    settings = replace(base, optimize=int(found.settings.get("optimize", 1)), strict=bool(found.settings.get("strict")))
    start, value = phases.parse(found.text, path)
    try:
        if found.pipeline:
            passes = [replace(p, target=settings.target) if any(f.name == "target" for f in fields(p)) else p   # type: ignore
                      for p in parse_pipeline(found.pipeline)]
            pipeline.run(value, passes, settings)
        if found.emit:
            phases.advance(value, start, found.emit, settings)
    except InternalError as error:
        raise InternalError(error.message) from error       # without writing where the new reproducer is
    print(f"{path}: does not fail any more", file=sys.stderr)
    return 0


def _target_of(found: Any) -> Any:
    """The target that a reproducer names: a known one, or this machine's with the features written there."""
    from jtc.compiler.cpu import machine
    candidates = [machine.host(), *(machine.named(n) for n in machine.NAMES)]
    exact = [t for t in candidates if (t.name, t.features) == (found.target, found.features)]
    if exact:
        return exact[0]
    near = next((t for t in candidates[1:] if t.name == found.target), machine.host())
    return replace(near, features=found.features)


def list_passes() -> str:
    lines = []
    for name, cls in sorted(registry().items()):
        lines.append(f"  --{name:28} {cls.summary()}")
        options = [f"{f.name}={f.default}" for f in fields(cls) if f.default is not MISSING]
        if options:
            lines.append(f"    {'':28} options: {', '.join(options)}")
    return "\n".join(lines)


def _read(file: str) -> tuple[str, str]:
    if file == "-":
        return sys.stdin.read(), "<stdin>"
    if file.endswith(".jtc"):
        from jtc.frontend.model_file import read_model
        return read_model(file).text, file
    try:
        return Path(file).read_text(), file
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {getattr(error, 'strerror', None) or 'not a text file'}") from None


def _write(text: str, output: str) -> None:
    if output == "-":
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        return
    from jtc.tools.errors import replacing_text
    replacing_text(Path(output), text)


if __name__ == "__main__":
    sys.exit(main())
