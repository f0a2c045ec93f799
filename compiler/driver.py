"""From a graph to a compiled module on disk: key, cache, passes, code, link.

    graph -> key -> in the cache? -> passes -> loops per distinct kernel -> objects (cached, parallel) -> shared object

A file that was compiled before is recognised by its bytes: its key is known without reading the graph, which would need
MLIR.  A module appears under its name at once or not at all, also when the process is interrupted.
"""
from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jtc.compiler import cache as cache_module
from jtc.compiler import log
from jtc.compiler.keys import Key, arrays_hash, file_hash, text_hash, versions
from jtc.compiler.phases import PHASES, Settings
from jtc.compiler.sealed import SEAL, Damaged, replacing
from jtc.compiler.tuning import store
from jtc.dialects.errors import InputError, UsageError
from jtc.dialects.graph import Graph, Node, Weights
from jtc.dialects.kernel import Program
from jtc.dialects.target import CpuTarget
from jtc.runtime import knobs

if TYPE_CHECKING:
    from jtc.compiler.codegen import Function

logger = logging.getLogger("jtc")
DEVICES = ("cpu", "cuda")
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
    names = ("optimize", "strict", "verify", "fusion", "winograd", "packing", "reduction", "reuse")
    chosen = {name: knobs.get(name) for name in names}
    made = Settings(cpu, **chosen, tuned=store.used(cpu))
    return made if watch is None else replace(made, watch=watch)


def program_key(program: Graph | Program, target: CpuTarget, embed: bool, tree: str | None = None) -> Key:
    """What the compiled module depends on.  With `embed`, also the contents of the weights."""
    return _key(contents(program, embed, tree), target)


def contents(program: Graph | Program, embed: bool, tree: str | None = None) -> dict[str, str]:
    """The parts of a key that come from the program."""
    from jtc.dialects.text import graph_text, program_text
    if isinstance(program, Graph):
        text, types = graph_text(program, locations=False), [n.type for n in program.inputs]
    else:
        text, types = program_text(program, locations=False), [program.buffers[n] for n in program.inputs]
    return {
        "graph": text_hash(text),
        "name": program.name,
        "inputs": ", ".join(map(str, types)) if len(types) < 8 else f"{len(types)} tensors",
        "interface": text_hash(repr((program.input_names, program.output_names, tree))),
        "weights": arrays_hash(weight_arrays(program)) if embed else "outside",
    }


def _key(parts: Mapping[str, str], target: CpuTarget) -> Key:
    """The key of a program with these `contents`, with the knobs that hold here."""
    options = knobs.key()
    options.pop("target", None)                      # it chose `target`, which is a part of its own
    return Key({**parts, "target": repr(target), "knobs": repr(sorted(options.items())),
                "schedules": store.stamp(target), **versions()})


def weight_arrays(program: Graph | Program) -> dict[str, Any]:
    """Name -> array of the weights.  Raises InputError where one has no value."""
    if isinstance(program, Graph):
        found = {n.attrs["value"].name: n.data for n in program.constants()}
    else:
        found = {n: v for n, v in program.constants.items() if not isinstance(v, (bool, int, float))}
    for name, value in found.items():
        if value is None:
            raise InputError(f"{program.name}: the weights {name!r} have no values",
                             hint="text holds their names only: compile the .jtc, or with --no-weights "
                                  "(embed=False) and bind")
    return found


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
        found = None if parts is None or knobs.get("dump_dir") else request.cache.program(_key(parts, request.target))
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
    return _key(parts, resolve_target(target))


class FileNote:
    """What the cache knows of a file, by the bytes that it has when this is made."""

    def __init__(self, path: Path, phase: str | None, embed: bool):
        self.path, self.digest = path, ""
        self.cache = cache_module.current()
        if self.cache.mode == "off":
            return
        try:
            self._state = _state(path)
            parts = {"file": file_hash(path), "kind": path.suffix, "phase": phase or "", "embed": str(embed)}
            self.digest = Key({**parts, **versions()}).digest
        except (OSError, Damaged):
            pass                            # whoever reads the file says what is wrong with it

    def contents(self) -> dict[str, str] | None:
        """The parts of keys that come from the program in the file; None where they are not known."""
        found = self.cache.contents(self.digest) if self.digest else None
        if found is None:
            logger.info("cache: the contents of %s are not known yet", self.path)
        return found

    def publish(self, contents: Mapping[str, str]) -> None:
        """Note them, unless the file has changed meanwhile."""
        try:
            if self.digest and self._state == _state(self.path):
                self.cache.publish_contents(self.digest, contents)
        except OSError:
            pass


def _state(path: Path) -> tuple[int, ...]:
    info = path.stat()
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


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

    def step(self, name: str, start: float) -> None:
        self.timings.steps.append((name, time.perf_counter() - start))

    def finish(self, module: Path) -> Path:
        """The module, where it was asked for."""
        if self.output is None:
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
    """Copy a finished module; `output` is replaced at once or not at all."""
    try:
        with replacing(output) as new, open(module, "rb") as source, open(new, "wb") as target:
            rest = os.fstat(source.fileno()).st_size - SEAL             # the seal is the cache's own
            while rest > 0 and (sent := os.sendfile(target.fileno(), source.fileno(), None, rest)):
                rest -= sent
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from None
    return output


class _Run:
    """One compilation."""

    def __init__(self, program: Graph | Program, phase: str, tree: str | None, request: _Request):
        self.program, self.phase, self.tree, self.request = program, phase, tree, request
        self.embed, self.timings, self.progress = request.embed, request.timings, request.progress
        self.dump = Dump(knobs.get("dump_dir"))
        self.settings = settings_for(request.target, self._watch)
        self.names: dict[str, str] = {}                  # symbol -> the first kernel that has it
        self.cache = request.cache
        self.contents: dict[str, str] = {}

    def compile(self) -> Path:
        start = time.perf_counter()
        self.contents = contents(self.program, self.embed, self.tree)
        key = _key(self.contents, self.settings.target)
        # A dump wants to see every phase, which a hit would skip.
        found = None if self.dump.folder else self.cache.program(key)
        self.request.step("key and cache", start)
        if found is not None:
            self.timings.cached = True
            return found
        if knobs.get("tune") and self.phase != "schedule":
            key = self._tune()
        jobs = 0 if self.dump.folder else knobs.get("jobs")      # workers have nothing to dump to
        if isinstance(self.program, Graph) and len(self.program.nodes()) > LARGE:
            from jtc.compiler import workers
            workers.start(jobs)
        program = self._passes()
        functions, objects = self._code(program, jobs)
        start = time.perf_counter()
        self.progress("link", 0, 0)
        path = self.cache.publish_program(key, program.name,
                                          lambda new: self._write(new, program, functions, objects))
        self.request.step("plan and link", start)
        return path

    def _tune(self) -> Key:
        """Measure schedules of the program; returns the key of what is compiled with those that were kept."""
        from jtc.compiler.tuning.tune import tune
        start = time.perf_counter()
        done = tune(self.program, self.phase, self.settings, knobs.get("tune_budget"), self.progress)
        if done.interrupted:
            raise KeyboardInterrupt
        self.settings = settings_for(self.settings.target, self._watch)
        self.request.step("tune", start)
        return _key(self.contents, self.settings.target)

    def _passes(self) -> Program:
        from jtc.compiler.phases import advance
        start = self.program
        if isinstance(start, Graph) and not self.embed:
            start = without_values(start)
        self.dump.value(self.phase, start)
        return advance(start, self.phase, "schedule", self.settings)

    def _code(self, program: Program, jobs: int, emitted: dict[tuple, Any] | None = None
              ) -> tuple[dict, dict[str, bytes]]:
        """Functions by kernel name, and objects by symbol: from the cache, or compiled."""
        from jtc.compiler import codegen
        from jtc.compiler.workers import Objects
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
        return functions, {symbol: made.get(symbol) or fresh[symbol] for symbol in digests}

    def _object_digest(self, function: Function) -> str:
        target, known = self.settings.target, versions()
        cpu = f"{target.family} {target.cpu or target.name} {target.features} {target.vector_bits}"
        return Key({"loops": text_hash(function.text), "cpu": cpu, "optimize": str(self.settings.optimize),
                    "once": str(function.once), **known}).digest

    def _write(self, path: Path, program: Program, functions: dict, objects: dict[str, bytes]) -> None:
        """The module of a scheduled program: code, plan, and the weights where they go into it."""
        from jtc.compiler.explain import report_of
        from jtc.compiler.link import link
        from jtc.runtime.plan import weights
        from jtc.runtime.planner import build_plan
        plan = build_plan(program, functions, self.settings.target, tree=self.tree, reuse=self.settings.reuse)
        plan.report = report_of(program, functions, plan).to_json()
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
