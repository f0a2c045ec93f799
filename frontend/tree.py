"""Nested containers of tensors: lists, tuples, named tuples, dicts, dataclasses, and objects with attributes.

`flatten` takes a value apart into leaves and a `Form`; `Form.build` puts leaves back.  Forms compare by value, so
they are part of a signature.  Lists, tuples, dicts and dataclasses are rebuilt; any other object (a module) is a leaf
here.
"""
from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

from jtc.frontend.tensor import Tensor

LEAF = "leaf"


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """kind: "leaf", "list", "tuple", "dict", or the class of a named tuple or dataclass; names: keys or field names."""

    kind: Any
    names: tuple = ()
    children: tuple[Form, ...] = ()

    def build(self, leaves: Iterator[Any]) -> Any:
        """The container with the leaves in its places."""
        if self.kind is LEAF:
            return next(leaves)
        items = [child.build(leaves) for child in self.children]
        if self.kind == "list":
            return items
        if self.kind == "tuple":
            return tuple(items)
        if self.kind == "dict":
            return dict(zip(self.names, items))
        if dataclasses.is_dataclass(self.kind):
            made = object.__new__(self.kind)        # type: ignore[arg-type]
            for name, item in zip(self.names, items):
                object.__setattr__(made, name, item)
            return made
        return self.kind(*items)

    def paths(self, prefix: str = "") -> list[str]:
        """A readable name for each leaf: "0", "loss", "params.weight"."""
        if self.kind is LEAF:
            return [prefix]
        names = self.names or range(len(self.children))
        found: list[str] = []
        for name, child in zip(names, self.children):
            found += child.paths(f"{prefix}.{name}" if prefix else str(name))
        return found

    def to_json(self) -> Any:
        """Data for a file; classes become the plain container that they are like."""
        if self.kind is LEAF:
            return None
        kind = self.kind if isinstance(self.kind, str) else ("dict" if dataclasses.is_dataclass(self.kind) else "tuple")
        names = [n if isinstance(n, (str, int)) else str(n) for n in self.names] if kind == "dict" else []
        return {"kind": kind, "names": names, "children": [c.to_json() for c in self.children]}

    @staticmethod
    def from_json(data: Any) -> Form:
        """The inverse of `to_json`.  Raises ValueError for anything else."""
        if data is None:
            return Form(LEAF)
        if not isinstance(data, dict) or data.get("kind") not in ("list", "tuple", "dict"):
            raise ValueError(f"not a form: {json.dumps(data)[:60]}")
        return Form(data["kind"], tuple(data["names"]), tuple(map(Form.from_json, data["children"])))


_LEAF_FORM = Form(LEAF)


def flatten(value: Any, leaves: list[Any]) -> Form:
    """Append the leaves of `value` and return its form."""
    kind = type(value)
    if kind is Tensor:
        leaves.append(value)
        return _LEAF_FORM
    if kind is tuple or kind is list:
        return Form(kind.__name__, (), tuple([flatten(v, leaves) for v in value]))
    if isinstance(value, dict):
        return Form("dict", tuple(value), tuple([flatten(v, leaves) for v in value.values()]))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return Form(kind, value._fields, tuple([flatten(v, leaves) for v in value]))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = tuple(f.name for f in dataclasses.fields(value))
        return Form(kind, names, tuple([flatten(getattr(value, n), leaves) for n in names]))
    leaves.append(value)
    return _LEAF_FORM


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """The container with `function` applied to every leaf."""
    leaves: list[Any] = []
    form = flatten(value, leaves)
    return form.build(iter([function(leaf) for leaf in leaves]))


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in a container, also those that its objects hold, each once."""
    found: dict[int, Tensor] = {}
    for _, tensor in walk(value):
        found.setdefault(id(tensor), tensor)
    return list(found.values())


Path = tuple[tuple[str, Any], ...]        # steps from a root: ("item", key) or ("attr", name)


def walk(value: Any, path: Path = (), seen: set[int] | None = None) -> Iterator[tuple[Path, Tensor]]:
    """Every place under `value` that holds a tensor: containers' items and objects' attributes, each object once."""
    if isinstance(value, Tensor):
        yield path, value
        return
    if not is_container(value):
        return
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    for step, child in children(value):
        yield from walk(child, (*path, step), seen)


# Their objects hold no tensors of ours, and some of them hold very much else.
_LIBRARIES = frozenset({
    "builtins", "types", "functools", "threading", "contextvars", "logging", "_io", "io", "re", "pathlib", "weakref",
    "_weakref", "collections", "numpy", "ml_dtypes", "torch", "jax", "pandas", "matplotlib"})


def is_container(value: Any) -> bool:
    """Whether tensors may be found inside: containers and plain objects, not classes, modules and library types."""
    if isinstance(value, (list, tuple, dict)):
        return True
    kind = type(value)
    if isinstance(value, type) or (kind.__module__ or "").partition(".")[0] in _LIBRARIES:
        return False
    return hasattr(value, "__dict__") or hasattr(kind, "__slots__")


def children(value: Any) -> list[tuple[tuple[str, Any], Any]]:
    """(step, child) pairs of a container."""
    if isinstance(value, dict):
        return [(("item", key), child) for key, child in list(value.items())]
    if isinstance(value, (list, tuple)):
        return [(("item", i), child) for i, child in enumerate(value)]
    found = [(("attr", name), child) for name, child in list(getattr(value, "__dict__", {}).items())]
    for cls in type(value).__mro__:
        for name in ([slots] if isinstance(slots := cls.__dict__.get("__slots__", ()), str) else slots):
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found.append((("attr", name), getattr(value, name)))
    return found
