"""Where a function finds tensors that are not its arguments: closure cells, globals, and what can be reached from them.

A `Place` is a root and the steps from it to a tensor.  Places are read anew in every call of a jitted function, so a
tensor that was replaced since is used, and written after it where the function rebound them.
"""
from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from jtc.frontend.tensor import Tensor
from jtc.frontend.tree import Path, walk

MISSING = object()


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """kind: "cell" (of a closure, for the variable `key`), "global" (name `key` in the dict `holder`), "object"
    (`holder` itself), "argument" (leaf number `key` of the call); then the steps of `path`."""

    kind: str
    holder: Any
    key: Any
    path: Path

    @property
    def identity(self) -> tuple:
        """Equal for two places that are the same."""
        return self.kind, id(self.holder), self.key, self.path

    def _root(self, arguments: Sequence[Any]) -> Any:
        if self.kind == "cell":
            return self.holder.cell_contents
        if self.kind == "global":
            return self.holder[self.key]
        return self.holder if self.kind == "object" else arguments[self.key]

    def read(self, arguments: Sequence[Any]) -> Any:
        """What is there now; MISSING where the way to it no longer exists."""
        try:
            value = self._root(arguments)
            for step, key in self.path:
                value = value[key] if step == "item" else getattr(value, key)
            return value
        except (LookupError, AttributeError, TypeError, ValueError):
            return MISSING

    def write(self, value: Any, arguments: Sequence[Any]) -> None:
        """Put `value` there; MISSING removes the entry."""
        if not self.path:
            if self.kind == "cell":
                self.holder.cell_contents = value
            else:
                _set("item", self.holder, self.key, value)
            return
        step, key = self.path[-1]
        _set(step, self.parent(arguments), key, value)

    def parent(self, arguments: Sequence[Any]) -> Any:
        """The container or object that the last step of the path enters."""
        value = self._root(arguments)
        for step, key in self.path[:-1]:
            value = value[key] if step == "item" else getattr(value, key)
        return value

    def __str__(self) -> str:
        """The name of the tensor in the user's program: "net.conv1.weight", "w.conv1.weight" for w["conv1.weight"]."""
        root = self.key if isinstance(self.key, str) else ("argument" if self.kind == "argument" else "self")
        return ".".join([root, *(str(key) for _, key in self.path)])


def _set(step: str, parent: Any, key: Any, value: Any) -> None:
    if step == "attr":
        object.__delattr__(parent, key) if value is MISSING else object.__setattr__(parent, key, value)
    elif value is MISSING:
        del parent[key]
    else:
        parent[key] = value


def places(function: Any, arguments: Sequence[Any] = ()) -> Iterator[tuple[Place, Tensor]]:
    """Every place with a tensor that `function` can reach by name, and those in arguments that are objects."""
    seen: set[int] = set()
    for kind, holder, key, value in _roots(function, seen):
        for path, tensor in walk(value, (), seen):
            yield Place(kind, holder, key, path), tensor
    for number, value in enumerate(arguments):
        if not isinstance(value, Tensor):
            for path, tensor in walk(value, (), seen):
                yield Place("argument", None, number, path), tensor


def _roots(function: Any, seen: set[int]) -> Iterator[tuple[str, Any, Any, Any]]:
    """(kind, holder, key, value) of what a function refers to, following the functions among them."""
    if id(function) in seen:
        return
    seen.add(id(function))
    if isinstance(function, MethodType):
        yield "object", function.__self__, None, function.__self__
        yield from _class_roots(function.__self__, seen)
        function = function.__func__
    if isinstance(function, functools.partial):
        for value in (*function.args, *function.keywords.values()):
            yield from _value_roots("object", value, None, value, seen)
        function = function.func
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None:
        yield from _roots(wrapped, seen)
    if not isinstance(function, FunctionType):
        if not isinstance(function, (type, BuiltinFunctionType)) and wrapped is None:      # an object with __call__
            seen.discard(id(function))             # what it holds is yet to be walked
            yield "object", function, None, function
            yield from _class_roots(function, seen)
        return
    if (function.__module__ or "").partition(".")[0] == "jtc":
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            value = cell.cell_contents
        except ValueError:                     # not bound yet
            continue
        yield from _value_roots("cell", cell, name, value, seen)
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield from _value_roots("global", function.__globals__, name, function.__globals__[name], seen)


def _value_roots(kind: str, holder: Any, key: Any, value: Any, seen: set[int]) -> Iterator[tuple[str, Any, Any, Any]]:
    if isinstance(value, (type, ModuleType)):
        return
    if callable(value) and not isinstance(value, Tensor):
        if isinstance(value, (FunctionType, MethodType, functools.partial)) or hasattr(value, "__wrapped__"):
            yield from _roots(value, seen)
            return
        yield from _class_roots(value, seen)
    yield kind, holder, key, value


def _class_roots(value: Any, seen: set[int]) -> Iterator[tuple[str, Any, Any, Any]]:
    """What the methods of an object's class refer to."""
    for cls in type(value).__mro__:
        if cls.__module__ in ("builtins", "typing"):
            continue
        for member in list(vars(cls).values()):
            if isinstance(member, FunctionType):
                yield from _roots(member, seen)


def _names(code: CodeType) -> Iterator[str]:
    """Names that the code and the functions defined in it look up."""
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _names(const)
