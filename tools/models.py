"""Opening the files that commands take: saved graphs, IR text, compiled modules."""
from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from jtc.dialects.errors import InputError, UsageError
from jtc.dialects.graph import Graph

HINT = "a saved graph is what jtc.export writes, a module what `jtc compile` writes"


@dataclass
class Source:
    """A program at some phase; tree: how its results are put together (saved graphs only)."""

    phase: str
    value: Any
    tree: str | None = None

    @property
    def graph(self) -> Graph:
        if not isinstance(self.value, Graph):
            raise InputError(f"this needs a graph, the file is of phase {self.phase}")
        return self.value


def open_source(path: str, phase: str | None = None) -> Source:
    """A saved graph (.jtc) or IR of any phase (.mlir, .ll).  Raises InputError."""
    from jtc.compiler import phases
    file = Path(path)
    if not file.exists():
        raise InputError(f"{path}: no such file")
    if file.is_dir():
        raise InputError(f"{path} is a directory", hint=HINT)
    if phase not in (None, "graph", "kernel", "schedule", "loops", "llvm"):
        if phase in phases.PHASES:
            raise UsageError(f"cannot start from {phase}", hint="one of graph, kernel, schedule, loops, llvm")
        phases.phase(str(phase))
    if file.suffix in (".mlir", ".ll"):
        return Source(*phases.read_file(file, phase))
    starts = "compilation starts from .jtc, .mlir (graph, kernel, schedule, loops) and .ll"
    if file.suffix in (".s", ".o", ".ptx"):
        raise InputError(f"{path}: nothing is compiled from {file.suffix} files", hint=starts)
    if is_module(path):
        raise InputError(f"{path} is compiled already", hint=f"run it with `jtc run`; {starts}")
    if phase not in (None, "graph"):
        raise UsageError(f"{path} is a saved graph, not a file of phase {phase}", hint="leave --from out")
    from jtc.frontend.model_file import read_model
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read_model, path)
        import_module("jtc.dialects.reader")            # MLIR, which takes as long
        model = reading.result()
    tree = model.tree if isinstance(model.tree, str) or model.tree is None else json.dumps(model.tree)
    return Source("graph", model.graph(path), tree)


def compile_model(path: str, target: str = "cpu", output: Path | None = None, *, start: str | None = None,
                  embed: bool = True, progress: Any = None, timings: Any = None) -> Path:
    """The compiled module of a file that `open_source` takes; see `driver.compile_file`.

    Raises UsageError where a module cannot be made from the file's phase.
    """
    from jtc.compiler.driver import compile_file
    return compile_file(path, reader(path, start), target, output, phase=start, embed=embed, progress=progress,
                        timings=timings)


def reader(path: str, start: str | None = None) -> Callable[[], tuple[str, Any, str | None]]:
    """What reads a file from which modules can be made: gives its phase, program and tree."""
    def read() -> tuple[str, Any, str | None]:
        source = open_source(path, start)
        if source.phase not in ("graph", "kernel", "schedule"):
            raise UsageError(f"a module cannot be made from {source.phase}: buffers and launches are not in the file",
                             hint="use --emit obj or asm")
        return source.phase, source.value, source.tree
    return read


def is_module(path: str) -> bool:
    """Whether the file is an ELF object, which only a compiled module can be here.  Raises InputError."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF" or path.endswith(".so")
    except OSError as error:
        raise InputError(f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else error.strerror}",
                         hint=HINT if isinstance(error, IsADirectoryError) else None) from None
