"""Modules that hold other modules in order or by name."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from jtc.frontend.nn.module import Module
from jtc.frontend.nn.parameter import Parameter
from jtc.frontend.trace import changed, input_error


class _Numbered(Module):
    """Modules under the names "0", "1", ..."""

    def _items(self) -> list[Module]:
        return [value for name, value in self.__dict__.items() if isinstance(value, Module)]

    def _replace(self, modules: Iterable[Module]) -> None:
        self._check_structure("0")
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module):
                del self.__dict__[name]
        for module in modules:
            self.append(module)
        changed()

    def append(self, module: Module) -> Any:
        """Add a module at the end."""
        self.register_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Put a module before number `index`."""
        items = self._items()
        items.insert(index, module)
        self._replace(items)

    def pop(self, index: int = -1) -> Module:
        """Remove a module, and return it."""
        items = self._items()
        found = items.pop(index)
        self._replace(items)
        return found

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items())

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Any: ...
    def __getitem__(self, index: int | slice) -> Any:
        items = self._items()
        if isinstance(index, slice):
            part = type(self)()
            part.extend(items[index])
            return part
        if not -len(items) <= index < len(items):
            raise IndexError(f"module {index} of {len(items)}")
        return items[index]

    def __setitem__(self, index: int, module: Module) -> None:
        items = self._items()
        items[index] = module
        self._replace(items)

    def __delitem__(self, index: int | slice) -> None:
        items = self._items()
        del items[index]
        self._replace(items)


class Sequential(_Numbered):
    """Calls its modules one after the other: `Sequential(a, b)`, or with names `Sequential({"a": a, "b": b})`."""

    def __init__(self, *modules: Module | Mapping[str, Module]):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.register_module(name, module)
        else:
            self.extend(modules)                                    # type: ignore[arg-type]

    def forward(self, x: Any) -> Any:
        for module in self._items():
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list of modules.  It is not callable itself."""

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self.extend(modules)


class ModuleDict(Module):
    """Modules by name.  It is not callable itself."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()):
        super().__init__()
        self.update(modules)

    def _entries(self) -> dict[str, Module]:
        return {name: value for name, value in self.__dict__.items() if isinstance(value, Module)}

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules."""
        for name, module in modules.items() if isinstance(modules, Mapping) else modules:
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        return self._entries()[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.register_module(name, module)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries()

    def __len__(self) -> int:
        return len(self._entries())

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def keys(self) -> Iterable[str]:
        return self._entries().keys()

    def values(self) -> Iterable[Module]:
        return self._entries().values()

    def items(self) -> Iterable[tuple[str, Module]]:
        return self._entries().items()

    def pop(self, name: str) -> Module:
        """Remove a module, and return it."""
        found = self[name]
        del self[name]
        return found


class ParameterList(Module):
    """Parameters under the names "0", "1", ..."""

    def __init__(self, parameters: Iterable[Parameter] = ()):
        super().__init__()
        for parameter in parameters:
            self.append(parameter)

    def _items(self) -> list[Parameter]:
        return [value for value in self.__dict__.values() if isinstance(value, Parameter)]

    def append(self, parameter: Parameter) -> ParameterList:
        """Add a parameter at the end."""
        if not isinstance(parameter, Parameter):
            raise input_error(f"ParameterList takes parameters, got {type(parameter).__name__}",
                              "wrap it with nn.Parameter")
        self.register_parameter(str(len(self)), parameter)
        return self

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._items())

    def __getitem__(self, index: int) -> Parameter:
        return self._items()[index]
