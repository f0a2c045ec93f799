"""Units: stages that become one kernel, and which units depend on which."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jtc.dialects.kernel import Stage
from jtc.passes.graph.fusion.sharing import Sharing


@dataclass(eq=False)
class Unit:
    """Stages that become one kernel, in order.

    fixed    whether they depend on weights only, and so run once
    apart    whether each is to be a kernel of its own: they write parts of one buffer, one by one
    refused  (buffer, why the stage that reads it could not join)
    sharing   how they share axes
    """

    stages: list[Stage]
    fixed: bool = False
    refused: list[tuple[str, str]] = field(default_factory=list)
    sharing: Sharing = field(default_factory=Sharing)
    apart: bool = False

    @property
    def written(self) -> list[str]:
        return [a.buffer for s in self.stages for a in s.writes]

    @property
    def read(self) -> list[str]:
        return list(dict.fromkeys(a.buffer for s in self.stages for a in s.reads))


class Units:
    """Units by number, swept in order: what a unit depends on is known once it is entered.

    A merged unit takes the place of the later one, so a sweep sees few units where many merge.

    owner    buffer -> the unit that writes it;  readers  buffer -> the units that read it
    before   unit -> all units that it depends on, directly or not: bit n of an integer stands for unit n
    """

    def __init__(self, units: Sequence[Unit]):
        """units: producers before readers."""
        self.units: dict[int, Unit] = dict(enumerate(units))
        self.owner = {b: n for n, u in self.units.items() for b in u.written}
        self.readers: dict[str, set[int]] = {}
        for n, unit in self.units.items():
            for b in unit.read:
                self.readers.setdefault(b, set()).add(n)
        self.before: dict[int, int] = {}

    def enter(self, n: int) -> None:
        """Units are entered by number, each before it is asked about."""
        self.before[n] = 0
        for p in self.producers(n):
            self.before[n] |= self.before[p] | 1 << p

    def producers(self, n: int) -> list[int]:
        """The units that write what unit n reads, by number."""
        return sorted({self.owner[b] for b in self.units[n].read if b in self.owner and self.owner[b] != n})

    def between(self, first: int, second: int, but: int = -1) -> bool:
        """Whether something, `but` for one unit, must run after the first and before the second."""
        return any(p not in (first, but) and self.before[p] >> first & 1 for p in self.producers(second))

    def independent(self, one: int, two: int) -> bool:
        return not self.before[one] >> two & 1 and not self.before[two] >> one & 1

    def merge(self, first: int, second: int, unit: Unit) -> None:
        """Put `unit` in the place of two."""
        before = (self.before.pop(first) | self.before[second]) & ~(1 << first | 1 << second)
        del self.units[first]
        self.units[second], self.before[second] = unit, before
        for b in unit.written:
            self.owner[b] = second
        for b in unit.read:
            self.readers[b] = self.readers.get(b, set()) - {first} | {second}
        for n, needs in self.before.items():
            if n != second and needs & (1 << first | 1 << second):
                self.before[n] = (needs | before | 1 << second) & ~(1 << first)

    def in_order(self) -> list[Unit]:
        """Producers first; else by number.  All units have been entered."""
        done, result = 0, []
        pending = sorted(self.units)
        while pending:
            ready = next(n for n in pending if not self.before[n] & ~done)
            pending.remove(ready)
            done |= 1 << ready
            result.append(self.units[ready])
        return result
