"""What became of a program: its kernels, the user's lines in each, schedules, work, and why neighbours were not fused.

A report is made from a scheduled program, kept in the plan of a compiled module, and read back from there.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Kernel, Program, Schedule, Stage, Storage
from jtc.dialects.needed import share
from jtc.passes.canonical import canonical, on_parts
from jtc.runtime.cost import bytes_moved, kernel_cost
from jtc.runtime.plan import Plan
from jtc.runtime.planner import SMALL_UNITS, Function, build_plan


@dataclass
class StageReport:
    """ops: names of the user's operations in it; lines: "file:line" of the user's program; schedule: in words."""

    name: str
    ops: list[str]
    axes: str
    lines: list[str]
    schedule: str


@dataclass
class KernelReport:
    """flops, bytes: computed and moved by one launch; units: what threads share; symbol: "" where it was not compiled.

    least: of the bytes, those of the program's inputs, weights and outputs, which some kernel has to move.
    writes: also over what a value is written, where it replaces that.
    stored: (value, how it lies in memory and why) pairs, for those it writes that do not lie row by row.
    reasons: (value or op, why the kernel ends there) pairs.  copies: launches that the schedule put before this one, to
    bring an operand into the order or padding that it reads; they hold none of the user's operations.
    shared: "axis:size by block" of the axes around all stages.  blocks: which of their blocks run, where not all do.
    slices: how many launches do the same to other parts; all but the first of them are left out.  sliced: why.
    """

    name: str
    stages: list[StageReport]
    flops: int
    bytes: int
    reads: list[str]
    writes: list[str]
    reasons: list[tuple[str, str]]
    symbol: str = ""
    units: int = 0
    workspace_bytes: int = 0
    copies: list[KernelReport] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    stored: list[tuple[str, str]] = field(default_factory=list)
    least: int = 0
    blocks: str = ""
    slices: int = 1
    sliced: str = ""

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> KernelReport:
        return KernelReport(**{**data, "stages": [StageReport(**s) for s in data["stages"]],
                               "reasons": [(a, b) for a, b in data["reasons"]],
                               "stored": [(a, b) for a, b in data.get("stored", ())],
                               "copies": [KernelReport.from_json(c) for c in data["copies"]]})

    @property
    def ops(self) -> list[str]:
        return [op for stage in self.stages for op in stage.ops]

    @property
    def lines(self) -> list[str]:
        return list(dict.fromkeys(line for stage in self.stages for line in stage.lines))


@dataclass
class Report:
    """See the module's text.  `print(report)` shows it.

    distinct: kernels that are compiled, where those that do the same count once (0: not known)
    least: bytes of inputs, weights and outputs: what has to be moved, however the program is cut into kernels
    memory: bytes planned for values between kernels, which share memory where they are not needed at the same time;
    inputs, outputs and weights are not among them
    """

    name: str
    kernels: list[KernelReport] = field(default_factory=list)
    memory: int = 0
    distinct: int = 0
    least: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Report:
        """The report of a plan; empty where the plan has none."""
        return Report(data.get("name", ""), [KernelReport.from_json(k) for k in data.get("kernels", ())],
                      data.get("memory", 0), data.get("distinct", 0), data.get("least", 0))

    def __str__(self) -> str:
        plural = "s" * (len(self.kernels) != 1)
        launches = [launch for k in self.kernels for launch in (*k.copies, k)]
        flops, moved = (sum(k.slices * getattr(k, what) for k in launches) for what in ("flops", "bytes"))
        count = sum(k.slices for k in launches)
        total = f"{self.name}: {len(self.kernels)} kernel{plural}, {_count(flops)} operations, {_size(moved)} moved"
        if self.least:
            total += f" (at least {_size(self.least)}: inputs, weights and outputs)"
        if 0 < self.distinct < count:
            total += f", {self.distinct} of {count} launches distinct"
        if copied := sum(c.slices * c.bytes for k in self.kernels for c in k.copies):
            total += f", {_size(copied)} of that in copies"
        if self.memory:
            total += f", {_size(self.memory)} of memory between kernels"
        return "\n".join([total, *(_show(number, k) for number, k in enumerate(self.kernels))])


def report_of(program: Program, functions: Mapping[str, Function] | None = None, plan: Plan | None = None) -> Report:
    """The report of a program; with the functions that its kernels were compiled to, and their plan, also of those."""
    reports: list[KernelReport] = []
    ends, least = {*program.inputs, *program.constants, *program.outputs}, dict[str, int]()
    copies: dict[str, list[KernelReport]] = {}      # buffer -> the copies that lead to it
    for kernel in program.kernels:
        made = _kernel(kernel, program, (functions or {}).get(kernel.name))
        ours = {n: size for n, size in bytes_moved(kernel, program.buffers).items() if n in ends}
        made.least = sum(ours.values())
        least |= {n: max(min(size * made.slices, program.buffers[n].bytes), least.get(n, 0))
                  for n, size in ours.items()}
        if kernel.slice is not None and kernel.slice.number:
            continue
        made.copies = [copy for name in kernel.read for copy in copies.pop(name, ())]
        if made.ops or any(name in program.outputs for name in kernel.written):
            reports.append(made)
        else:
            copies[kernel.written[0]] = [*made.copies, made]
            made.copies = []
    forms = {canonical(on_parts(kernel)[0])[0] for kernel in program.kernels}
    memory = planned_memory(program) if plan is None else plan.memory
    return Report(program.name, reports, memory, len(forms), sum(least.values()))


@dataclass
class _NotCompiled:
    """A kernel without code, as the plan takes it."""

    operands: list[str]
    symbol: str = ""
    units: int = SMALL_UNITS
    workspace_bytes: int = 0
    offsets: list[int] = field(default_factory=list)


def planned_memory(program: Program) -> int:
    """Bytes that the plan of a program without code keeps for values between kernels, at most at one time."""
    return build_plan(program, {k.name: _NotCompiled(k.operands) for k in program.kernels}).memory


def explain_graph(graph: Graph, target: str = "cpu", **options: Any) -> Report:
    """Run the passes on a graph and report; nothing is compiled.  options: knobs.  Raises as `compile_graph`."""
    from jtc.compiler.driver import settings_for
    from jtc.compiler.phases import advance
    from jtc.runtime import knobs
    with knobs.use(**options):
        return report_of(advance(graph, "graph", "schedule", settings_for(target)))


def explain_plan(plan: Plan) -> Report:
    """The report of a compiled module."""
    return Report.from_json(plan.report)


def schedule_text(schedule: Schedule | None) -> str:
    """A schedule in words: loops outer to inner, vector, reduction, copies."""
    if schedule is None:
        return "none"
    parts = [f"tuned, x{schedule.gain:.2f} of the default"] if schedule.gain else []
    if schedule.loops:
        parts.append("loops " + " ".join(f"{axis}/{step}" for axis, step in schedule.loops))
    parts.append(f"vector {schedule.vector} x{schedule.lanes}" if schedule.vector else "scalar")
    if schedule.reduction:
        unroll = dict(schedule.unroll)
        parts.append("reduce " + " ".join(
            f"{a} (unrolled {unroll[a]})" if a in unroll else a for a in schedule.reduction))
    parts += [f"blocks of {steps} {axis} meet in pairs" for axis, steps in schedule.tree]
    if schedule.dot:
        unit = "blocks of a matrix unit" if schedule.matrix else "one instruction"
        parts.append(f"pairs of {schedule.dot} in {unit}")
    parts += [f"copy of read {p.read} inside {p.inside[0]}/{p.inside[1]} as {' '.join(p.order)}"
              for p in schedule.packs]
    if schedule.split:
        parts.append("guards split on " + " ".join(schedule.split))
    if schedule.threads:
        parts.append(f"threads over {schedule.threads} loop{'s' * (schedule.threads != 1)}")
    parts += [f"fetches access {f.access} of stage {f.stage}" + " of the next block" * bool(f.blocks)
              for f in schedule.fetches]
    if schedule.stream:
        parts.append("stores past the caches")
    return ", ".join(parts)


def _kernel(kernel: Kernel, program: Program, function: Function | None) -> KernelReport:
    flops, moved = kernel_cost(kernel, program.buffers)
    over = dict(kernel.in_place)
    made = KernelReport(kernel.name, [_stage(s) for s in kernel.stages], flops, moved,
                        [_buffer(n, program) for n in kernel.read],
                        [_buffer(n, program) + (f" over {over[n]}" if n in over else "") for n in kernel.written],
                        list(kernel.reasons), stored=[(n, _stored(program.storage[n])) for n in kernel.written
                                                      if n in program.storage],
                        shared=[f"{axis} by {block}" for axis, block in kernel.shared],
                        slices=kernel.slice.count if kernel.slice is not None else 1,
                        sliced=kernel.slice.why if kernel.slice is not None else "")
    if kernel.needed:
        made.blocks = f"{share(kernel.shared, kernel.needed):.0%} of them, where {', '.join(map(str, kernel.needed))}"
    if function is not None:
        made.symbol, made.units, made.workspace_bytes = function.symbol, function.units, function.workspace_bytes
    return made


def _stage(stage: Stage) -> StageReport:
    return StageReport(stage.name, list(stage.ops), " ".join(map(str, stage.axes)),
                       list(dict.fromkeys(map(str, stage.locs))), schedule_text(stage.schedule))


def _buffer(name: str, program: Program) -> str:
    return f"{name}: {program.buffers[name]}"


def _stored(storage: Storage) -> str:
    rows = f"rows {storage.pad} longer, " if storage.pad else ""
    return f"dimensions {' '.join(map(str, storage.order))}, {rows}{storage.why}"


def _show(number: int, k: KernelReport) -> str:
    head = f"\n[{number}] {k.name}: {_count(k.flops)} operations, {_size(k.bytes)} moved"
    if k.least < k.bytes:
        head += f" ({_size(k.bytes - k.least)} of it between kernels)"
    if k.symbol:
        head += f", {k.units} unit{'s' * (k.units != 1)} ({k.symbol})"
    lines = [head]
    for copy in k.copies:
        lines.append(f"    copies   {', '.join(copy.reads)} to {', '.join(copy.writes)}, {_size(copy.bytes)} moved")
        lines += [f"        schedule: {s.schedule}" for s in copy.stages]
    lines += [f"    reads    {text}" for text in k.reads] + [f"    writes   {text}" for text in k.writes]
    if k.slices > 1:
        lines.append(f"    slices   {k.slices}, of which this is the first: {k.sliced}")
    if k.shared:
        lines.append(f"    shares   {', '.join(k.shared)}")
    if k.blocks:
        lines.append(f"    blocks   {k.blocks}")
    for s in k.stages:
        lines.append(f"    stage {s.name} [{s.axes}]: {_runs(s.ops)}")
        lines.append(f"        schedule: {s.schedule}")
        if s.lines:
            lines.append(f"        from {', '.join(s.lines)}")
    lines += [f"    stores {value}: {how}" for value, how in k.stored]
    lines += [f"    ends at {value}: {why}" for value, why in k.reasons]
    return "\n".join(lines)


def _runs(ops: list[str]) -> str:
    """"mul add add" -> "mul add x2"."""
    words: list[str] = []
    counts: list[int] = []
    for op in ops:
        if words and words[-1] == op:
            counts[-1] += 1
        else:
            words.append(op)
            counts.append(1)
    return " ".join(w if n == 1 else f"{w} x{n}" for w, n in zip(words, counts, strict=True)) or "-"


def _count(n: float) -> str:
    for unit in ("", "k", "M", "G"):
        if n < 1000:
            return f"{n:.3g}{unit}" if unit else f"{n:.0f}"
        n /= 1000
    return f"{n:.3g}T"


def _size(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:.3g} GiB"
