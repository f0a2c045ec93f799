"""From a graph to a compiled module on disk: key, cache, passes, code, link.

    graph -> key -> in the cache? -> passes -> loops per distinct kernel -> objects (cached, parallel) -> shared object

A file that was compiled before is recognised by its bytes: its key is known without reading the graph, which would need
MLIR.  A module appears under its name at once or not at all, also when the process is interrupted.
"""
from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jtc.compiler import cache as cache_module
from jtc.compiler import log
from jtc.compiler.contents import FileNote, contents, key_of, weight_arrays
from jtc.compiler.keys import Key, text_hash, versions
from jtc.compiler.phases import PHASES, Settings
from jtc.compiler.sealed import SEAL, replacing
from jtc.compiler.tuning import store
from jtc.dialects.errors import InputError, UsageError
from jtc.dialects.graph import Graph, Node, Weights
from jtc.dialects.kernel import Program
from jtc.dialects.target import CpuTarget
from jtc.runtime import knobs

if TYPE_CHECKING:
    from jtc.compiler.codegen import Function
    from jtc.runtime.plan import Plan

DEVICES = ("cpu", "cuda")
SMALL = 6               # kernels of a program for which quick code is not worth compiling better code later
LARGE = 100             # nodes of a graph that will have more than a few kernels: workers are started at once
# The step (a pass, a phase) and, where kernels are counted, how many of how many are done.
Progress = Callable[[str, int, int], None]


@dataclass
class Timings:
    """Where the time went, in seconds, in the order it happened.  kernels: (what, seconds) of single kernels."""

    steps: list[tuple[str, float]] = field(default_factory=list)
    kernels: list[tuple[str, float]] = field(default_factory=list)
    cached: bool = False
    distinct: int = 0
    compiled: int = 0

    @property
    def total(self) -> float:
        return sum(seconds for _, seconds in self.steps)


def resolve_target(text: str) -> CpuTarget:
    """The processor meant by "cpu" (the one the knob `target` names), "cpu:NAME" or "NAME".  Raises UsageError."""
    from jtc.compiler.cpu import machine
    if text == "cuda":
        raise UsageError("target cuda is not built yet", hint="use --target cpu")
    name = knobs.get("target") if text == "cpu" else text.removeprefix("cpu:")
    if name not in machine.NAMES:
        what = f"unknown target {text!r}" if text != "cpu" else f"unknown cpu {name!r} in the knob target"
        raise UsageError(what, hint=f"one of {', '.join(DEVICES)}, cpu:{', cpu:'.join(machine.NAMES)}")
    return machine.named(name)


def settings_for(target: str | CpuTarget = "cpu",
                 watch: Callable[[str, str, float, Any], None] | None = None) -> Settings:
    """Settings from the knobs that hold here."""
    cpu = target if isinstance(target, CpuTarget) else resolve_target(target)
    names = ("optimize", "strict", "verify", "fusion", "chains", "carry", "winograd", "slices", "packing", "layout",
             "reduction", "reuse")
    chosen = {name: knobs.get(name) for name in names}
    made = Settings(cpu, **chosen, tuned=store.used(cpu))
    return made if watch is None else replace(made, watch=watch)


def compile_graph(graph: Graph | Program, target: str = "cpu", output: str | os.PathLike[str] | None = None, *,
                  embed: bool | None = None, tree: str | None = None, progress: Progress | None = None,
                  timings: Timings | None = None, phase: str = "graph", **options: Any) -> Path:
    """Compile a graph to a shared object that `runtime.module.load_module` takes, and return its path.

    phase    "kernel" or "schedule" where `graph` is a Program already
    target   "cpu", or "cpu:NAME" for another processor than this one
    output   where to put the module; None: in the cache, which is where it stays
    embed    whether the weights go into the module; without them they are bound by name after loading.
             None: only into an `output`
    tree     how results are put together for the caller, as JSON; kept in the plan
    options  knobs by name (optimize=3, verify=False, ...)
    Raises UsageError for an unknown target or option, InputError for a graph that cannot be compiled or an output
    that cannot be written, InternalError, with a reproducer, for a bug of jtc.
    """
    with knobs.use(**options):
        request = _Request(target, output, output is not None if embed is None else embed, progress, timings)
        return request.finish(_Run(graph, phase, tree, request).compile())


def compile_quick(graph: Graph) -> tuple[Path, bool]:
    """Code for a graph as soon as may be: the module in the cache, and whether it is what `compile_graph` makes.

    It is where the cache has that already, and where the program has so few kernels that it takes no longer.
    """
    request = _Request("cpu", None, False, None, None)
    run = _Run(graph, "graph", None, request, quick=True)
    return run.compile(), not run.quick


def build_scheduled(program: Program, output: Path, settings: Settings, emitted: dict[tuple, Any]) -> None:
    """Write the module of a scheduled program without its weights, past the cache of modules but not that of kernels.

    For measuring programs that differ in schedules; emitted: see `codegen.emit_kernels`.  Raises as `compile_graph`.
    """
    run = _Run(program, "schedule", None, _Request(settings.target, None, False, None, None))
    run._write(output, program, *run._code(program, knobs.get("jobs"), emitted))


# What reading a file gives: its phase, the program, and how results are put together.
Reader = Callable[[], tuple[str, Graph | Program, str | None]]


def compile_file(path: str | os.PathLike[str], read: Reader, target: str = "cpu",
                 output: str | os.PathLike[str] | None = None, *, phase: str | None = None, embed: bool = True,
                 progress: Progress | None = None, timings: Timings | None = None, **options: Any) -> Path:
    """As `compile_graph`, for the program in the file `path`.

    `read` reads the file; it is not called where the cache knows what the file holds, and has the module.
    phase: what the file is read as, None where that is recognised.
    """
    with knobs.use(**options):
        request = _Request(target, output, embed, progress, timings)
        start = time.perf_counter()
        note = FileNote(Path(path), phase, embed)
        parts = note.contents()
        found = None if parts is None or knobs.get("dump_dir") else request.cache.program(key_of(parts, request.target))
        request.step("file, key and cache", start)
        if found is not None:
            request.timings.cached = True
            return request.finish(found)
        start = time.perf_counter()
        request.progress("read", 0, 0)
        started, program, tree = read()
        request.step("read", start)
        run = _Run(program, started, tree, request)
        made = run.compile()
        note.publish(run.contents)
        return request.finish(made)


def file_key(path: str | os.PathLike[str], read: Reader, target: str, embed: bool = True) -> Key:
    """The key of the module that `compile_file` would make."""
    parts = FileNote(Path(path), None, embed).contents()
    if parts is None:
        _, program, tree = read()
        parts = contents(program, embed, tree)
    return key_of(parts, resolve_target(target))


class _Request:
    """What one call asks for: where to, for which processor, and whom to tell."""

    def __init__(self, target: str | CpuTarget, output: str | os.PathLike[str] | None, embed: bool,
                 progress: Progress | None, timings: Timings | None):
        if knobs.get("log") != "warning":
            log.start()
        self.target, self.embed = target if isinstance(target, CpuTarget) else resolve_target(target), embed
        self.output = None if output is None else Path(output)
        if self.output is not None:
            check_writable(self.output)
        self.progress: Progress = progress or (lambda step, done, total: None)
        self.timings = Timings() if timings is None else timings
        self.cache = cache_module.current()
        # With the cache off nobody will look for the module under a key: it is written where it is wanted, at once.
        self.at_once = self.output if self.cache.mode == "off" else None

    def step(self, name: str, start: float) -> None:
        self.timings.steps.append((name, time.perf_counter() - start))

    def finish(self, module: Path) -> Path:
        """The module, where it was asked for."""
        if self.output is None or module == self.at_once:
            return module
        start = time.perf_counter()
        deliver(module, self.output)
        self.step("write", start)
        return self.output


def check_writable(output: Path) -> None:
    """Raise InputError where `output` cannot be written, before anything is computed for it."""
    if output.is_dir():
        raise InputError(f"cannot write {output}: it is a directory")
    if output.exists() and not output.is_file():
        raise InputError(f"cannot write {output}: it is not a regular file")      # a device or a pipe would be replaced
    if not output.parent.is_dir():
        raise InputError(f"cannot write {output}: there is no directory {output.parent}")
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"cannot write {output}: no permission to write in {output.parent}")


def deliver(module: Path, output: Path) -> Path:
    """Copy a finished module out of the cache."""
    def copy(new: Path) -> None:
        with open(module, "rb") as source, open(new, "wb") as target:
            rest = os.fstat(source.fileno()).st_size - SEAL             # the seal is the cache's own
            while rest > 0 and (sent := os.sendfile(target.fileno(), source.fileno(), None, rest)):
                rest -= sent

    return _replace(output, copy)


def _replace(output: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` make a file that takes the place of `output` when it is whole.  Raises InputError."""
    try:
        with replacing(output) as new:
            write(new)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from None
    return output


class _Run:
    """One compilation.  quick: little code, that is soon there, unless better code takes no longer."""

    def __init__(self, program: Graph | Program, phase: str, tree: str | None, request: _Request, quick: bool = False):
        self.program, self.phase, self.tree, self.request, self.quick = program, phase, tree, request, quick
        self.embed, self.timings, self.progress = request.embed, request.timings, request.progress
        self.dump = Dump(knobs.get("dump_dir"))
        self.settings = settings_for(request.target, self._watch)
        self.names: dict[str, str] = {}                  # symbol -> the first kernel that has it
        self.cache = request.cache
        self.contents: dict[str, str] = {}

    def compile(self) -> Path:
        """The module: in the cache, or, with the cache off, already where it is wanted."""
        at_once = self.request.at_once
        return self._cached() if at_once is None else self._uncached(at_once)

    def _uncached(self, output: Path) -> Path:
        if self.embed:
            weight_arrays(self.program)             # says which have no values
        if self._wants_tuning():
            self._tune()
        jobs = self._start_workers()
        return self._build(self._passes(), jobs, partial(_replace, output))

    def _cached(self) -> Path:
        start = time.perf_counter()
        self.contents = contents(self.program, self.embed, self.tree)
        key = key_of(self.contents, self.settings.target)
        # A dump wants to see every phase, which a hit would skip.
        found = None if self.dump.folder else self.cache.program(key)
        good = key, self.settings
        if found is not None:
            self.quick = False
        elif self.quick:
            key, self.settings = Key({**key.parts, "code": "quick"}), replace(self.settings, quick=True, optimize=0)
            found = self.cache.program(key)
        self.request.step("key and cache", start)
        if found is not None:
            self.timings.cached = True
            return found
        if self._wants_tuning():
            self._tune()
            key = key_of(self.contents, self.settings.target)       # of what is compiled with the schedules kept
        jobs = self._start_workers()
        program = self._passes()
        if self.quick and len(program.kernels) <= SMALL:
            self.quick, (key, self.settings) = False, good
            program = self._passes()
        return self._build(program, jobs, partial(self.cache.publish_program, key, program.name))

    def _build(self, program: Program, jobs: int, publish: Callable[[Callable[[Path], None]], Path]) -> Path:
        """Compile a scheduled program, and let `publish` say where its module is written."""
        plan, objects = self._code(program, jobs)
        start = time.perf_counter()
        self.progress("link", 0, 0)
        path = publish(lambda new: self._write(new, program, plan, objects))
        self.request.step("link", start)
        return path

    def _start_workers(self) -> int:
        """The number of workers that will compile; they are started at once where there will be work for them."""
        jobs = 0 if self.dump.folder else knobs.get("jobs")      # workers have nothing to dump to
        if isinstance(self.program, Graph) and len(self.program.nodes()) > LARGE:
            from jtc.compiler import workers
            workers.start(jobs)
            if jobs > 1:
                self.settings = replace(self.settings, each=partial(workers.each, jobs))
        return jobs

    def _wants_tuning(self) -> bool:
        return knobs.get("tune") and self.phase != "schedule" and not self.quick

    def _tune(self) -> None:
        """Measure schedules of the program, and take those that were kept."""
        from jtc.compiler.tuning.tune import tune
        start = time.perf_counter()
        done = tune(self.program, self.phase, self.settings, knobs.get("tune_budget"), self.progress)
        if done.interrupted:
            raise KeyboardInterrupt
        self.settings = settings_for(self.settings.target, self._watch)
        self.request.step("tune", start)

    def _passes(self) -> Program:
        from jtc.compiler.phases import advance
        start = self.program
        if isinstance(start, Graph) and not self.embed:
            start = without_values(start)
        self.dump.value(self.phase, start)
        return advance(start, self.phase, "schedule", self.settings)

    def _code(self, program: Program, jobs: int, emitted: dict[tuple, Any] | None = None
              ) -> tuple[Plan, dict[str, bytes]]:
        """The plan, and objects by symbol: from the cache, or compiled, some of them while the plan is made."""
        from jtc.compiler import codegen
        from jtc.compiler.explain import report_of
        from jtc.compiler.workers import Objects
        from jtc.runtime.planner import build_plan
        start = time.perf_counter()
        self.progress("emit", 0, len(program.kernels))
        made: dict[str, bytes] = {}
        digests: dict[str, str] = {}
        with Objects(self.settings, jobs) as objects:
            def begin(function: codegen.Function) -> None:
                # Objects are begun while later kernels are still being emitted.
                if function.symbol in digests:
                    return
                self.dump.code("loops", function.symbol, function.text)
                digests[function.symbol] = self._object_digest(function)
                found = None if self.dump.folder else self.cache.object(digests[function.symbol])
                if found is None:
                    objects.submit(function.code())
                else:
                    made[function.symbol] = found

            functions = codegen.emit_kernels(program, self.settings, begin, emitted)
            self.request.step("emit", start)
            start = time.perf_counter()
            plan = build_plan(program, functions, self.settings.target, tree=self.tree, reuse=self.settings.reuse)
            plan.report = report_of(program, functions, plan).to_json()
            self.request.step("plan", start)
            start = time.perf_counter()
            total, done = len(digests) - len(made), 0
            self.progress("objects", 0, total)

            def ready(symbol: str, data: bytes) -> None:
                nonlocal done
                done += 1
                self.dump.code("obj", symbol, data)
                self.cache.publish_object(digests[symbol], data)        # kept even if the rest is interrupted
                self.progress("objects", done, total)

            fresh = objects.results(ready)
        for symbol in fresh:
            self.timings.kernels.append((f"object of {self.names[symbol]}", objects.seconds[symbol]))
        self.timings.distinct, self.timings.compiled = len(digests), len(fresh)
        self.request.step("objects", start)
        return plan, {symbol: made.get(symbol) or fresh[symbol] for symbol in digests}

    def _object_digest(self, function: Function) -> str:
        target, known = self.settings.target, versions()
        cpu = f"{target.family} {target.cpu or target.name} {target.features} {target.vector_bits}"
        return Key({"loops": text_hash(function.text), "cpu": cpu, "optimize": str(self.settings.optimize),
                    "once": str(function.once), **known}).digest

    def _write(self, path: Path, program: Program, plan: Plan, objects: dict[str, bytes]) -> None:
        """The module of a scheduled program: code, plan, and the weights where they go into it."""
        from jtc.compiler.link import link
        from jtc.runtime.plan import weights
        link(path, objects, plan.to_json(), weights(plan, program.constants) if self.embed else None, plan.weight_bytes,
             family=self.settings.target.family)

    def _watch(self, kind: str, name: str, seconds: float, value: Any) -> None:
        if kind == "pass":
            self.timings.steps.append((name, seconds))
            self.progress(name, 0, 0)
            self.dump.value(name, value)
        elif name.startswith("emit "):
            self.timings.kernels.append((name, seconds))
            self.names[value.symbol] = name.removeprefix("emit ")
        else:
            phase, _, symbol = name.partition(" ")
            if phase == "llvm" and self.dump.folder:    # the other phases are dumped where they are made
                from jtc.compiler.codegen import to_assembly
                self.dump.code("llvm", symbol, value.data)
                self.dump.code("asm", symbol, to_assembly(value, self.settings).data)


class Dump:
    """Writes what compilation passes through into a directory: NN-PASS.mlir, and PHASE/SYMBOL.SUFFIX for kernels."""

    def __init__(self, folder: Path | None):
        self.folder, self.count = folder, 0
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot write the dump directory {folder}: {error.strerror}") from None

    def value(self, name: str, value: Graph | Program) -> None:
        if self.folder is not None:
            from jtc.compiler.phases import text_of
            self._write(self.folder / f"{self.count:02}-{name}.mlir", text_of(value, name))
            self.count += 1

    def code(self, phase: str, symbol: str, data: str | bytes) -> None:
        if self.folder is not None:
            self._write(self.folder / phase / (symbol + PHASES[phase].suffix), data)

    def _write(self, path: Path, data: str | bytes) -> None:
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None


def without_values(graph: Graph) -> Graph:
    """The graph with weights as names only, so that no pass can bake their values into the code."""
    if not graph.constants():
        return graph
    made: dict[int, Node] = {}
    for node in graph.nodes():
        data = None if isinstance(node.attrs.get("value"), Weights) else node.data
        made[id(node)] = Node(node.op, [made[id(a)] for a in node.args], node.attrs, node.type, node.loc, data)
    return replace(graph, inputs=[made[id(n)] for n in graph.inputs], outputs=[made[id(n)] for n in graph.outputs])
