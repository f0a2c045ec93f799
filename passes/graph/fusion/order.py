"""The order in which kernels are launched: as recorded, except where another one keeps less memory alive."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from jtc.dialects.graph import TensorType
from jtc.passes.graph.fusion.units import Unit


def launch_order(units: Sequence[Unit], outputs: Iterable[str], types: Mapping[str, TensorType],
                 recorded: Mapping[str, int]) -> list[Unit]:
    """The units, producers before readers.

    Of those that can run, one that frees at least what it allocates goes first, as the update of a weight does, which
    is the last to read a gradient; else the one whose first value was recorded first.

    outputs: buffers that live on; types: of every buffer; recorded: when its value was (`Node.order`).
    """
    kept = set(outputs)
    made = {b for u in units for b in u.written}
    waiting: dict[str, set[int]] = {}                   # buffer -> numbers of its readers that have not run
    for n, unit in enumerate(units):
        for b in unit.read:
            waiting.setdefault(b, set()).add(n)
    missing = [{b for b in unit.read if b in made and b not in unit.written} for unit in units]
    pending, result = list(range(len(units))), []
    places = [min(recorded[b] for b in unit.written) for unit in units]

    def growth(n: int) -> int:
        """Bytes that are alive after the unit, and not before."""
        new = sum(types[b].bytes for b in units[n].written if b not in kept and waiting.get(b, set()) - {n})
        return new - sum(types[b].bytes for b in units[n].read if b in made - kept and waiting[b] == {n}
                         and b not in units[n].written)

    while pending:
        ready = [n for n in pending if not missing[n]]
        grown = {n: growth(n) for n in ready}
        chosen = min(ready, key=lambda n: (min(grown[n], 1), places[n], n))
        pending.remove(chosen)
        result.append(units[chosen])
        for b in units[chosen].read:
            waiting[b].discard(chosen)
        for n in pending:
            missing[n] -= set(units[chosen].written)
    return result
