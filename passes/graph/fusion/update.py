"""A product that replaces state, and the product that reads the new value: the update of a weight and the next step.

    w1[o, i] = w0[o, i] - r * sum_b g[b, o] * x0[b, i];   y[b, o] = sum_i x1[b, i] * w1[o, i]

Both share the rows o, in blocks: a block of w1 is still in the second-level cache when it is used, and no other thread
has to be waited for.  So in a program of several steps (`unroll`) the update of one step and the forward pass of the
next are one kernel for each layer.  x0 and x1 pass by again for every block, so they have to stay in that cache, too.

What is saved is one way of w1 to the shared cache, which prefetches hide as well; what is lost is that panels of x0 are
read in every block.  Measured, that gains nothing (docs/performance.md), so it is done on demand only.
"""
from __future__ import annotations

from math import prod

from jtc.dialects.kernel import Access
from jtc.passes.graph.fusion.sharing import MAX_LOCALS, Refused, Sharing, StageFacts, shared_rows

ROWS = 56               # of a block (measured: 112 are as fast): whole register tiles of 14, 8 and 7 rows
BLOCKS = 8              # at least, so that threads have equal shares


def updated(maker: StageFacts, reader: StageFacts) -> Sharing:
    """How a product that replaces state, and one that has the new value as a factor, share axes.  Raises Refused."""
    if not any(read.buffer in maker.written for read in _factors(reader)):
        raise Refused("the new value is not a factor of its product")
    rows = [c for c in shared_rows(0, (maker, reader))
            if all(sum(name in read.axes for read in _factors(f)) == 1 for f, name in zip((maker, reader), c))]
    if len(rows) != 1:
        raise Refused("no axis that they share is one of rows that use the same operands")
    names, size = rows[0], maker.sizes[rows[0][0]]
    if size < ROWS * BLOCKS:
        raise Refused(f"{size} rows are too few to spread blocks of {ROWS} over threads")
    block = ROWS * maker.stage.write.dtype.bytes * prod(maker.sizes[a] for a in maker.parallel) // size
    passing = sum(prod(f.sizes[a] for a in read.axes) * read.dtype.bytes
                  for f, name in zip((maker, reader), names) for read in _factors(f) if name not in read.axes)
    if block + passing > 2 * MAX_LOCALS:
        raise Refused(f"{passing >> 10} KB would pass by for every block of {ROWS} rows, which is {block >> 10} KB")
    return Sharing(((names, size, ROWS),))


def _factors(facts: StageFacts) -> list[Access]:
    return [facts.stage.reads[number] for number in facts.stage.factors() or ()]
