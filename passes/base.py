"""What a pass is, and the registry of all passes.

A pass is a frozen dataclass: its options are its fields, its name is its module's name with hyphens, its docstring says
what the IR looks like before and after.  It takes a Graph or a Program and returns a new one; it never edits its input.
"""
from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, ClassVar

from jtc.dialects.errors import InputError, UsageError, near
from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Kernel, Program, Stage

# (a function of a module, arguments of each call) -> its results, in the same order, as they come: several processes
# make the calls.
Each = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[Any]]


class PassError(InputError):
    """A pass refused its input: what it was asked to do is not legal there.  Nothing was changed."""


def need_graph(module: Graph | Program, name: str) -> Graph:
    """The module, for a pass that works on graphs.  Raises PassError."""
    if not isinstance(module, Graph):
        raise PassError(f"{name} works on graphs, not on kernels")
    return module


def need_program(module: Graph | Program, name: str) -> Program:
    """The module, for a pass that works on kernels.  Raises PassError."""
    if not isinstance(module, Program):
        raise PassError(f"{name} works on kernels, not on a graph", hint="run graph-fuse first")
    return module


@dataclass(frozen=True)
class Pass(ABC):
    """Base class.  Subclasses set `name` ("level-verb") and implement `run`."""

    name: ClassVar[str]

    @abstractmethod
    def run(self, module: Graph | Program) -> Graph | Program:
        """The new module.  Raises PassError where the pass is not legal there."""

    @classmethod
    def summary(cls) -> str:
        return (cls.__doc__ or "").strip().splitlines()[0]


@dataclass(frozen=True)
class StagePass(Pass):
    """A pass that edits single stages.  kernel, stage: names to restrict it to ("" means all)."""

    kernel: str = ""
    stage: str = ""

    @abstractmethod
    def run_stage(self, stage: Stage, kernel: Kernel, program: Program) -> Stage:
        """The new stage.  Raises PassError."""

    def run(self, module: Graph | Program) -> Program:
        program, kernels = need_program(module, self.name), []
        for kernel in program.kernels:
            if self.kernel in ("", kernel.name):
                kernel = replace(kernel, stages=tuple(
                    self.run_stage(s, kernel, program) if self.stage in ("", s.name) else s for s in kernel.stages))
            kernels.append(kernel)
        return replace(program, kernels=kernels)


def registry() -> dict[str, type[Pass]]:
    """Every pass by name: the classes found in the modules of passes/graph and passes/kernel."""
    found: dict[str, type[Pass]] = {}
    for level in ("graph", "kernel"):
        package = importlib.import_module(f"jtc.passes.{level}")
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            for value in vars(module).values():
                if isinstance(value, type) and issubclass(value, Pass) and value.__module__ == module.__name__ \
                        and hasattr(value, "name"):
                    found[value.name] = value
    return found


def parse_pass(text: str) -> Pass:
    """A pass from `name` or `name{option=value option=value}` (options named as the fields, `-` for `_` allowed).

    Values are converted to the type of the field's default; tuples are written `a,b,c`.  Raises UsageError.
    """
    name, brace, rest = text.strip().partition("{")
    known = registry()
    if name not in known:
        raise UsageError(f"unknown pass {name!r}", hint=near(name, sorted(known)))
    options = {}
    declared = {f.name: f for f in fields(known[name]) if f.default is not MISSING}      # others have no text
    for item in rest.rstrip("}").split() if brace else ():
        key, equals, value = item.partition("=")
        field = declared.get(key.replace("-", "_"))
        if not equals or field is None:
            raise UsageError(f"{name} has no option {item!r}", hint=near(key, declared) if declared else None)
        options[field.name] = _convert(value, field.default, name, key)
    return known[name](**options)


def _convert(value: str, default: object, name: str, key: str) -> Any:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(default, int):
            return int(value)
        if isinstance(default, tuple):
            return tuple(v for v in value.split(",") if v)
        return value
    except (ValueError, KeyError):
        kind = {"bool": "true or false", "int": "an integer"}[type(default).__name__]
        raise UsageError(f"{name}: {key}={value!r} is not {kind}") from None


def parse_pipeline(text: str) -> list[Pass]:
    """Passes from `a,b{x=1 y=p,q},c`: commas outside braces separate."""
    parts, depth, start = [], 0, 0
    for i, ch in enumerate(text):
        depth += (ch == "{") - (ch == "}")
        if ch == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return [parse_pass(p) for p in parts if p.strip()]
