"""Products that are reduced along their rows and multiplied again: attention, whatever it is made of.

    x[i, j] = sum_d q[i, d] * k[j, d];   p[i, j] = what follows from row i of x;   y[i, e] = sum_j p[i, j] * v[j, e]

All stages share the rows i, in blocks: what lies between the products stays in the second-level cache and never
reaches memory, while k and v pass by once for each block.  Where the stages allow it (online.py), they share the
columns j, too, and a block of columns is all that is ever there of x and p, however long their rows are.

How many rows and columns make a block was measured: about 84 rows, in equal shares, are enough that k and v pass by
seldom; 128 columns are two panels of k, and 84 times 128 numbers stay close to the first-level cache.
"""
from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Axis, Guard, Stage
from jtc.dialects.needed import share
from jtc.passes.graph.fusion.needed import needed
from jtc.passes.graph.fusion.online import Part, by_blocks, normalised_last
from jtc.passes.graph.fusion.sharing import (
    MAX_LOCALS,
    MIN_ITERATIONS,
    SMALL,
    Refused,
    Sharing,
    StageFacts,
    local_shape,
    shared_rows,
)

CHAINS = ("online", "rows", "off")
ROWS = (84, 42, 28, 14)     # rows of a block, about: the most that leave threads enough blocks and fit the cache
FEW = 4                     # blocks that are enough where no number of rows leaves MIN_ITERATIONS of them
COLUMNS = 128               # of a block; shorter rows are not cut
PASSING = 2.0               # bytes of k and v that may pass by again for each byte that stays out of memory: they come
                            # from a cache, and while products run


@dataclass(frozen=True)
class Chain:
    """The stages of the kernel, and how they share axes.

    note  why rows are whole although blocks of columns were asked for; "" where they are not
    """

    stages: list[Stage]
    sharing: Sharing
    note: str = ""


def chain(facts: Sequence[StageFacts], outside: set[str], types: dict[str, TensorType], how: str,
          makers: Mapping[str, Stage] = MappingProxyType({})) -> Chain:
    """The kernel of stages among which there are products.  Raises Refused.

    facts: in order; outside: buffers that others read; types: of all buffers, to which new ones are added;
    how: online, or rows, which leaves the arithmetic as it is; makers: buffer -> the stage that makes it
    """
    widest = max(range(len(facts)), key=lambda i: (facts[i].points, i))
    classes = shared_rows(widest, facts)
    parts = [Part(f.stage, tuple(c[i] for c in classes)) for i, f in enumerate(facts)]
    reused = [_reused(number, parts) for number in range(len(classes))]
    if not any(reused):
        raise Refused("no axis that they share is one of rows that use the same operands")
    note, columns = "", 0
    if how == "online":
        parts = normalised_last(parts, outside)
        try:
            parts, columns = by_blocks(parts, outside, types, COLUMNS)
        except Refused as reason:
            note = f"whole rows lie between its products: {reason}"
    guards = needed(parts, makers) if columns else ()
    sizes = [facts[widest].sizes[c[widest]] for c in classes]
    refusals: list[Refused] = []
    for least, rows in itertools.product((MIN_ITERATIONS, FEW), ROWS):
        try:
            sharing = _sharing(parts, sizes, reused, rows, columns, least, outside, types, guards)
        except Refused as reason:
            refusals.append(reason)
        else:
            return Chain([p.stage for p in parts], sharing, note)
    raise refusals[len(ROWS)]       # of the most rows, with few blocks


def _reused(number: int, parts: Sequence[Part]) -> bool:
    """Whether every product has an operand that does not depend on a shared axis, and one that does."""
    found = [sum(p.rows[number] in p.stage.reads[n].axes for n in factors) == 1
             for p in parts if (factors := p.stage.factors()) is not None]
    return all(found)


def _sharing(parts: Sequence[Part], sizes: Sequence[int], reused: Sequence[bool], rows: int, columns: int,
             least: int, outside: set[str], types: Mapping[str, TensorType], guards: tuple[Guard, ...]) -> Sharing:
    """The sharing with so many rows in a block.  least: blocks, so that threads share them.  Raises Refused."""
    blocks, left = [1] * len(sizes), rows
    for number in reversed(range(len(sizes))):
        if reused[number]:
            blocks[number] = -(-sizes[number] // max(1, round(sizes[number] / max(1, left))))
            left //= blocks[number]
    iterations = prod(-(-n // block) for n, block in zip(sizes, blocks))
    points = max(prod(p.stage.sizes.values()) for p in parts)
    if iterations < least and points > SMALL:
        raise Refused(f"blocks of {rows} rows are {iterations}, too few to spread over threads")
    shared = [(tuple(p.rows[number] for p in parts), size, block)
              for number, (size, block) in enumerate(zip(sizes, blocks))]
    if columns:
        size = next(p.stage.sizes[p.columns] for p in parts if p.columns)
        shared.append((tuple(p.columns for p in parts), size, columns))
    read = set().union(*({a.buffer for a in p.stage.reads} for p in parts))
    inner = {a.buffer: (i, a) for i, p in enumerate(parts) for a in p.stage.writes if a.buffer in read - outside}
    sharing = Sharing(tuple(shared), tuple(inner), spread=True, needed=guards)
    held = sum(prod(local_shape(parts[i].stage, i, b, sharing)) * types[b].dtype.bytes for b, (i, _) in inner.items())
    if held > MAX_LOCALS:
        raise Refused(f"what lies between them takes {held >> 10} KB for {rows} rows")
    passing = sum(_passing(p.stage, {name: block for name, block in zip(p.rows, blocks)}) for p in parts)
    axes = [(Axis(f"i{n}", size), block) for n, (_, size, block) in enumerate(shared)]
    passing = round(passing * share(axes, guards))
    kept = 2 * sum(types[b].bytes for b in inner)
    if passing > PASSING * kept:
        raise Refused(f"{passing >> 10} KB would pass by for {kept >> 10} KB that stay out of memory")
    return sharing


def _passing(stage: Stage, blocks: Mapping[str, int]) -> int:
    """Bytes of a product's operands that are read for every block of rows, in all blocks."""
    total = 0
    for number in stage.factors() or ():
        read = stage.reads[number]
        again = prod(-(-stage.sizes[a] // n) for a, n in blocks.items() if n > 1 and a not in read.axes)
        if again > 1:
            total += again * read.dtype.bytes * prod(stage.sizes[a] for a in read.axes)
    return total
