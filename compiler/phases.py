"""The phases of compilation, in one table.

A phase is a form of the program that can be written to a file, looked at, verified, and compiled on from.  The table
drives `--emit`, `--from`, `--dump-dir`, timings and `--help`:

    graph -> kernel -> schedule -> loops -> llvm -> obj -> so
                                                |-> asm
                                                `-> ptx (GPU)

Down to `schedule` a program is one value (Graph or Program); from `loops` to `obj` it is one `Code` per distinct
kernel. Importing this module imports no MLIR; the functions of the table do, when they run.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jtc.dialects.errors import InputError, UsageError, near
from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Program
from jtc.dialects.rules import Sound
from jtc.dialects.target import CpuTarget

if TYPE_CHECKING:
    from jtc.passes.base import Each
    from jtc.passes.kernel.choice import Choice


@dataclass(frozen=True, slots=True)
class Code:
    """One kernel below the kernel level: MLIR loops, LLVM IR or assembly (str), or an object file (bytes).

    operands: number of buffers its function takes.
    once: whether it only runs when weights are bound, where LLVM's time counts more than its own.
    """

    symbol: str
    operands: int
    data: str | bytes
    once: bool = False


@dataclass(frozen=True)
class Settings:
    """What compilation depends on besides the program.

    optimize  LLVM's effort, 0 to 3; strict: keep the arithmetic as written; verify: check the IR between phases
    fusion, chains, carry, winograd, slices, packing, layout, reuse  the knobs of these names: what is merged, which
              products with others, computed in transformed tiles, run slice by slice, copied into panels, stored in
              which order, and kept in shared memory
    reduction  the kind that reductions take where they can, or auto
    quick     whether code that is soon there counts more than fast code
    tuned     identity of a kernel -> schedules that were measured to be better than the default ones
    watch     called as watch(kind, name, seconds, value) after every pass ("pass") and every kernel's step ("kernel")
    each      how passes call a function for many arguments; None: in turn
    sound     kernels that have been verified
    """

    target: CpuTarget
    optimize: int = 1
    strict: bool = False
    verify: bool = True
    fusion: str = "full"
    chains: str = "online"
    carry: bool = False
    winograd: str = "auto"
    slices: str = "auto"
    packing: bool = True
    layout: str = "auto"
    reduction: str = "auto"
    reuse: bool = True
    quick: bool = False
    tuned: Mapping[str, Choice] = field(default_factory=dict)
    watch: Callable[[str, str, float, Any], None] = field(default=lambda kind, name, seconds, value: None)
    each: Each | None = field(default=None, compare=False, repr=False)
    sound: Sound = field(default_factory=Sound, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Phase:
    """One row of the table.

    suffix  of its files; source: the phase it is made from
    make    (value of the source phase, settings) -> value of this phase
    verify  (value, settings) -> None; raises InputError
    device  "any", "cpu" or "cuda"
    """

    name: str
    doc: str
    suffix: str
    source: str | None = None
    make: Callable[[Any, Settings], Any] | None = None
    verify: Callable[[Any, Settings], None] = lambda value, settings: None
    device: str = "any"


def _kernels(graph: Graph, settings: Settings) -> Program:
    from jtc.compiler import pipeline
    return pipeline.run(graph, pipeline.graph_passes(settings), settings)       # type: ignore[return-value]


def _schedules(program: Program, settings: Settings) -> Program:
    from jtc.compiler import pipeline
    return pipeline.run(program, pipeline.kernel_passes(settings), settings)    # type: ignore[return-value]


def _loops(program: Program, settings: Settings) -> list[Code]:
    from jtc.compiler import codegen
    return codegen.distinct(codegen.emit_kernels(program, settings))


def _llvm(codes: list[Code], settings: Settings) -> list[Code]:
    from jtc.compiler import codegen
    return [codegen.to_llvm(code, settings) for code in codes]


def _asm(codes: list[Code], settings: Settings) -> list[Code]:
    from jtc.compiler import codegen
    return [codegen.to_assembly(code, settings) for code in codes]


def _objects(codes: list[Code], settings: Settings) -> list[Code]:
    from jtc.compiler import codegen
    return [codegen.to_object(code, settings) for code in codes]


def _verify_graph(graph: Graph, settings: Settings) -> None:
    from jtc.compiler.verify import verify_graph
    verify_graph(graph, settings.sound)


def _verify_kernels(program: Program, settings: Settings) -> None:
    from jtc.compiler.verify import verify_program
    verify_program(program, settings.sound)


def _verify_schedules(program: Program, settings: Settings) -> None:
    from jtc.compiler.verify import verify_schedules
    verify_schedules(program, settings.target, settings.sound)


PHASES: dict[str, Phase] = {
    row.name: row
    for row in (
        Phase("graph", "meta-ops on whole tensors (jtc dialect)", ".graph.mlir", verify=_verify_graph),
        Phase("kernel", "fused kernels: stages, accesses, bodies (jtc dialect)", ".kernel.mlir", "graph", _kernels,
              _verify_kernels),
        Phase("schedule", "kernels with schedules (jtc dialect)", ".schedule.mlir", "kernel", _schedules,
              _verify_schedules),
        # From here on verifiers are MLIR's and LLVM's own, run where the text is parsed.
        Phase("loops", "one scf + vector + memref function per distinct kernel", ".loops.mlir", "schedule", _loops,
              device="cpu"),
        Phase("llvm", "LLVM IR", ".ll", "loops", _llvm, device="cpu"),
        Phase("asm", "assembly", ".s", "llvm", _asm, device="cpu"),
        Phase("obj", "one relocatable object", ".o", "llvm", _objects, device="cpu"),
        Phase("ptx", "NVIDIA's virtual assembly (GPU targets only)", ".ptx", "llvm", device="cuda"),
        Phase("so", "the compiled module: code, plan and weights in one shared object", ".so", "obj", device="any"),
    )
}
SEPARATORS = {"loops": "// -----\n", "llvm": "; -----\n", "asm": "# -----\n"}


def phase(name: str, device: str = "cpu") -> Phase:
    """The row of a phase; UsageError where there is none or the device does not have it."""
    if name not in PHASES:
        raise UsageError(f"unknown phase {name!r}", hint=near(name, PHASES))
    row = PHASES[name]
    if row.device not in ("any", device):
        raise UsageError(f"target {device} has no phase {name}",
                         hint=f"one of {', '.join(p.name for p in PHASES.values() if p.device in ('any', device))}")
    return row


def path_between(start: str, end: str) -> list[Phase]:
    """The phases to make, in order, to come from `start` to `end`; empty where they are the same.

    Raises UsageError where no way leads from one to the other.
    """
    rows: list[Phase] = []
    name: str | None = end
    while name is not None and name != start:
        rows.append(PHASES[name])
        name = PHASES[name].source
    if name is None:
        raise UsageError(f"cannot make {end} from {start}: {start} comes later")
    return rows[::-1]


def advance(value: Any, start: str, end: str, settings: Settings) -> Any:
    """`value` of phase `start` brought to phase `end` (at most `obj`), verified at every step."""
    if settings.verify:
        PHASES[start].verify(value, settings)
    for row in path_between(start, end):
        if row.make is None:
            raise UsageError(f"cannot make {row.name} here", hint="`jtc compile` links modules")
        value = row.make(value, settings)
        if settings.verify:
            row.verify(value, settings)
    return value


def text_of(value: Any, name: str) -> str:
    """The file's text of a value of any phase above `obj`."""
    if isinstance(value, Graph):
        from jtc.dialects.text import graph_text
        return graph_text(value)
    if isinstance(value, Program):
        from jtc.dialects.text import program_text
        return program_text(value)
    return SEPARATORS[name].join(str(code.data).rstrip("\n") + "\n" for code in value)


_FUNCTION = re.compile(r"func\.func\s+(?:\w+\s+)?@([\w$.]+)\(([^)]*)\)")
_ENTRY = re.compile(r"define [^@\n]*@\"?([\w$.]+)\"?\(ptr[^,\n]*, ptr[^,\n]*, i64[^,\n]*, i64[^,\n)]*\)")


def read_file(path: str | Path, name: str | None = None) -> tuple[str, Any]:
    """(phase, value) of a file of jtc's own text: graph, kernel, schedule, loops (.mlir) or llvm (.ll).

    name: the phase it must be, else it is recognised.  Raises InputError where it is none of these.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise InputError(f"cannot read {path}: {reason}") from None
    return parse(text, str(path), name)


def parse(text: str, source: str, name: str | None = None) -> tuple[str, Any]:
    """See `read_file`."""
    found: str
    value: Any
    if name == "llvm" or name is None and source.endswith(".ll"):
        found, value = "llvm", [_llvm_code(part, source) for part in text.split(SEPARATORS["llvm"])]
    elif name == "loops" or name is None and "jtc." not in text and "func.func" in text:
        found, value = "loops", [_loops_code(part, source) for part in text.split(SEPARATORS["loops"])]
    else:
        from jtc.dialects.reader import read_text
        value = read_text(text, source)
        found = "graph" if isinstance(value, Graph) else "kernel"
        if isinstance(value, Program) and value.kernels and all(s.schedule for k in value.kernels for s in k.stages):
            found = "schedule"
    if (name, found) == ("kernel", "schedule"):
        return "kernel", value                  # to be scheduled where a stage has no schedule yet
    if name not in (None, found):
        raise InputError(f"{source}: this is a file of phase {found}, not {name}")
    return found, value


def _loops_code(text: str, source: str) -> Code:
    match = _FUNCTION.search(text)
    if match is None:
        raise InputError(f"{source}: there is no func.func in it")
    operands = match.group(2).count("%") - 3           # besides the buffers: workspace, begin, end
    if operands < 0:
        raise InputError(f"{source}: @{match.group(1)} is not a kernel function",
                         hint="its last arguments are workspace, begin and end; a graph is read with --from graph")
    return Code(match.group(1), operands, text)


def _llvm_code(text: str, source: str) -> Code:
    match = _ENTRY.search(text)
    if match is None:
        raise InputError(f"{source}: there is no kernel entry (ptr, ptr, i64, i64) in it")
    return Code(match.group(1), 0, text)
