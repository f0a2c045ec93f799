"""The one place that imports the MLIR bindings.  Everybody else writes `from jtc.dialects.mlir import ir, passmanager`.

A package called `mlir` is preferred where it is one; the wheel `torch-mlir` carries the same bindings.
"""
from __future__ import annotations

import importlib
import sys
import threading
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from jtc.dialects.errors import InputError


def _find_package() -> str:
    for name in ("mlir", "torch_mlir"):
        try:
            importlib.import_module(f"{name}.ir")       # other packages may be called `mlir` and have no `ir`
        except ImportError:
            continue
        return name
    raise InputError("the MLIR Python bindings are not installed", hint="pip install torch-mlir==20261001")


_package = _find_package()


def _module(name: str) -> Any:
    return importlib.import_module(f"{_package}.{name}")


ir: Any = _module("ir")
passmanager: Any = _module("passmanager")
rewrite: Any = _module("rewrite")
ext: Any = _module("dialects.ext")

# Creating contexts and loading Python dialects from several threads at once crashes: hold this for all work with MLIR.
lock = threading.RLock()


def __getattr__(name: str) -> ModuleType:
    """Upstream dialects by name, imported at their first use: `from jtc.dialects.mlir import scf, vector`."""
    try:
        return _module(f"dialects.{name}")
    except ImportError:
        raise AttributeError(f"MLIR has no dialect module {name!r}") from None


def register(dialect: str) -> None:
    """Say that all classes of a dialect's ops are there: else the bindings look for a module of its name at each op."""
    name = f"{_package}.dialects.{dialect}"
    sys.modules.setdefault(name, ModuleType(name))


def context() -> Any:
    """A new Context with the jtc dialect loaded; use it while holding `lock`.

    It runs on one thread: verifiers are Python functions, which a thread pool could not call while the caller waits.
    """
    from jtc.dialects import dialect
    with lock:
        made = ir.Context()
        made.enable_multithreading(False)
        dialect.load(made)
        return made


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error that MLIR reported.  column is 0 where the place is a line of a user's program, not of MLIR text."""

    message: str
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.file:
            return f"error: {self.message}"
        column = f":{self.column}" if self.column else ""
        return f"{self.file}:{self.line}{column}: error: {self.message}"


def diagnostics(error: Any, name: str = "<string>") -> list[Diagnostic]:
    """The errors of an `ir.MLIRError`, with `name` for the text that was parsed without a file."""
    found = []
    for info in error.error_diagnostics:
        file, line, column = position(info.location)
        found.append(Diagnostic(info.message, name if file == "-" else file, line, column))
    return found or [Diagnostic(str(error).splitlines()[0])]


def position(location: Any) -> tuple[str, int, int]:
    """(file, line, column) of the first file location in `location`; ("", 0, 0) where there is none."""
    pending = [location]
    while pending:
        place = pending.pop(0)
        place = ir.Location.from_attr(place.attr)           # diagnostics hand out the base class
        if isinstance(place, ir.FileLineColLoc):
            return str(place.filename), place.start_line, place.start_col
        if isinstance(place, ir.NameLoc):
            pending.insert(0, place.child_loc)
        elif isinstance(place, ir.FusedLoc):
            pending = [*place.locations, *pending]
        elif isinstance(place, ir.CallSiteLoc):
            pending = [place.callee, place.caller, *pending]
    return "", 0, 0
