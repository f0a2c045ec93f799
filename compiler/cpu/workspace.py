"""The workspace of one call: regions for local buffers, copies and partial results, and memrefs that view them."""
from __future__ import annotations

from dataclasses import dataclass, field

from jtc.compiler.cpu.operands import Memory
from jtc.dialects.dtypes import DType

ALIGNMENT = 64      # bytes: a cache line, and the widest vector register
SLACK = 64          # elements behind every region that whole vectors may read


@dataclass
class Workspace:
    """Regions are named; asking again for a name gives the same memory under another size (never at the same time)."""

    regions: dict[str, int] = field(default_factory=dict)
    views: dict[tuple[str, int, str], Memory] = field(default_factory=dict)

    def memory(self, name: str, count: int, dtype: DType) -> Memory:
        key = (name, count, dtype.name)
        if key not in self.views:
            self.views[key] = Memory(f"%w{len(self.views)}", count, dtype, SLACK)
            size = (count + SLACK) * dtype.bytes
            self.regions[name] = max(self.regions.get(name, 0), -(-size // ALIGNMENT) * ALIGNMENT)
        return self.views[key]

    @property
    def bytes(self) -> int:
        return sum(self.regions.values())

    def offsets(self) -> dict[str, int]:
        """Region -> where it starts, in bytes."""
        found, at = {}, 0
        for name, size in self.regions.items():
            found[name], at = at, at + size
        return found
