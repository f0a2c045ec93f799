"""Writes MLIR text: fresh names, indentation, constants hoisted to the top of the function and shared."""
from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from jtc.dialects.target import CpuTarget

_ANY = CpuTarget()
_DEFINED, _NAME = re.compile(r"^\s*(%\w+) ="), re.compile(r"%\w+")


class Builder:
    """Collects the lines of one function's body.  Values are SSA names ("%12").

    target  the processor, where what is written depends on it
    """

    def __init__(self, target: CpuTarget = _ANY) -> None:
        self.target = target
        self.lines: list[str] = []
        self.constants: dict[tuple[str, str], str] = {}
        self.literals: dict[str, str] = {}          # the same by name
        self.tables: dict[tuple[int, ...], str] = {}
        self._next, self._indent = 0, 1

    def name(self) -> str:
        self._next += 1
        return f"%{self._next}"

    def line(self, text: str) -> None:
        self.lines.append("  " * self._indent + text)

    def op(self, text: str) -> str:
        """Append `%n = text` and return `%n`."""
        name = self.name()
        self.line(f"{name} = {text}")
        return name

    def constant(self, literal: str, type: str) -> str:
        """An `arith.constant`, one for equal ones: constant("dense<1.0>", "vector<16xf32>"), constant("4", "index")."""
        key = (literal, type)
        if key not in self.constants:
            self.constants[key] = f"%c{len(self.constants)}"
            self.literals[self.constants[key]] = literal
        return self.constants[key]

    def index(self, value: int) -> str:
        return self.constant(str(value), "index")

    def table(self, values: tuple[int, ...]) -> str:
        """A constant `memref<{n}xindex>` in the module, one for equal ones."""
        if values not in self.tables:
            self.tables[values] = f"%table{len(self.tables)}"
        return self.tables[values]

    def interleave(self, bodies: Sequence[Callable[[], None]]) -> None:
        """Append the lines of several bodies in turns, one line of each, so that neighbours do not wait for each other.

        A line that uses a value of an earlier body comes after it.  Bodies that open blocks follow each other whole.
        """
        before, parts = self.lines, []
        for body in bodies:
            self.lines = []
            body()
            parts.append(self.lines)
        self.lines = before
        if any(line.endswith("{") for part in parts for line in part):
            for part in parts:
                self.lines += part
            return
        missing = {name for part in parts for line in part for name in _DEFINED.findall(line)}
        queues = [deque(part) for part in parts]
        while any(queues):
            for queue in queues:
                if queue and not missing.intersection(_NAME.findall(_DEFINED.sub("", queue[0]))):
                    line = queue.popleft()
                    missing.difference_update(_DEFINED.findall(line))
                    self.lines.append(line)

    @contextmanager
    def block(self, head: str, tail: str = "}") -> Iterator[None]:
        """Indented lines between `head` (ending in "{") and `tail`."""
        self.line(head)
        self._indent += 1
        yield
        self._indent -= 1
        self.line(tail)

    def text(self) -> str:
        """Constants first, then the lines."""
        head = [f"  {name} = arith.constant {literal} : {type}" if type not in ("i1",) else
                f"  {name} = arith.constant {literal}" for (literal, type), name in self.constants.items()]
        head += [f"  {name} = memref.get_global @{name[1:]} : memref<{len(values)}xindex>"
                 for values, name in self.tables.items()]
        return "\n".join(head + self.lines)

    def globals(self) -> str:
        """The module's constants that the function names: `tables`."""
        return "".join(f'memref.global "private" constant @{name[1:]} : memref<{len(values)}xindex> = '
                       f"dense<[{', '.join(map(str, values))}]>\n" for values, name in self.tables.items())
