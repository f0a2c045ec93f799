"""The order in which kernels are launched: as recorded, except where another one keeps less memory alive, and where an
update has to wait for those that read the old value, so that it can be written over it."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Kernel
from jtc.passes.graph.fusion.units import Unit
from jtc.passes.updates import Link, links, makers_of


def launch_order(units: Sequence[Unit], outputs: Iterable[str], types: Mapping[str, TensorType],
                 recorded: Mapping[str, int], updates: Mapping[str, str]) -> list[Unit]:
    """The units, producers before readers.

    Of those that can run, one that frees at least what it allocates goes first, as the update of a weight does, which
    is the last to read a gradient; else the one whose first value was recorded first.

    outputs: buffers that live on; types: of every buffer; recorded: when its value was (`Node.order`);
    updates: output -> the input whose next value it is.
    """
    state = replaced(units, types, updates)
    read, written = [set(u.read) for u in units], [set(u.written) for u in units]
    kept = {*outputs, *(link.new for link in state)}
    made = set[str]().union(*written)
    waiting: dict[str, set[int]] = {}                   # buffer -> numbers of its readers that have not run
    for n, buffers in enumerate(read):
        for b in buffers:
            waiting.setdefault(b, set()).add(n)
    missing = [buffers & made - own for buffers, own in zip(read, written)]
    for first, then in _readers_first(read, written, state):
        missing[then] |= written[first]
    pending, result = list(range(len(units))), []
    places = [min(recorded[b] for b in own if b in recorded) for own in written]
    passing = [buffers & made - kept - own for buffers, own in zip(read, written)]

    def growth(n: int) -> int:
        """Bytes that are alive after the unit, and not before."""
        new = sum(types[b].bytes for b in written[n] - kept if waiting.get(b, set()) - {n})
        return new - sum(types[b].bytes for b in passing[n] if waiting[b] == {n})

    while pending:
        ready = [n for n in pending if not missing[n]]
        grown = {n: growth(n) for n in ready}
        chosen = min(ready, key=lambda n: (min(grown[n], 1), places[n], n))
        pending.remove(chosen)
        result.append(units[chosen])
        for b in read[chosen]:
            waiting[b].discard(chosen)
        for n in pending:
            missing[n] -= written[chosen]
    return result


def replaced(units: Sequence[Unit], types: Mapping[str, TensorType], updates: Mapping[str, str]) -> list[Link]:
    """Where units make a value of state of the one before it, element by element."""
    kernels = [Kernel("", tuple(unit.stages)) for unit in units] if updates else []
    makers = makers_of(kernels)
    return [link for new, old in updates.items()
            for link in links(kernels, makers, new, old, lambda link: types[link.new] == types[link.old])]


def _readers_first(read: Sequence[set[str]], written: Sequence[set[str]], links: Iterable[Link]
                   ) -> list[tuple[int, int]]:
    """(reader of an old value, unit that replaces it), without those that would have to wait for each other."""
    owner = {b: n for n, own in enumerate(written) for b in own}
    before: list[int] = []                  # unit -> those that it has to wait for: bit n of an integer is unit n
    for n, buffers in enumerate(read):
        mask = 0
        for p in {owner[b] for b in buffers if b in owner and owner[b] != n}:
            mask |= before[p] | 1 << p
        before.append(mask)
    found = []
    for link in links:
        for reader, buffers in enumerate(read):
            if reader != link.kernel and link.old in buffers and not before[reader] >> link.kernel & 1:
                found.append((reader, link.kernel))
                late = before[reader] | 1 << reader
                before = [m | late if n == link.kernel or m >> link.kernel & 1 else m for n, m in enumerate(before)]
    return found
