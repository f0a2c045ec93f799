"""What the cost model of contractions says of a schedule that its rule did not propose, read back from the schedule."""
from __future__ import annotations

from math import prod

from jtc.passes.kernel.matrix_blocks import cut
from jtc.passes.kernel.rules.common import Candidate, View
from jtc.passes.kernel.rules.contraction import total
from jtc.passes.kernel.rules.contraction_cost import COPY, Nest, Operand
from jtc.passes.kernel.rules.contraction_matrix import row_gap
from jtc.passes.kernel.rules.contraction_operands import COPY_KERNEL, copying, is_fixed, volume
from jtc.passes.kernel.rules.contraction_tile import Tile


def estimate(view: View, candidate: Candidate) -> float | None:
    """Cycles of the whole stage; None where the model has no word for it: lanes along a reduction, register tiles of
    more than two axes besides the lanes, packs of what is not a factor."""
    factors, schedule = view.stage.factors(), candidate.schedule
    if factors is None or schedule.vector not in view.parallel:
        return None
    holders = [i for i in factors if schedule.vector in view.strides[i].axes]
    if not holders:
        return None
    wide = holders[0]
    narrow = factors[0] if wide == factors[1] else factors[1]
    steps = dict(schedule.loops)
    axes = sorted((a for a in view.parallel if a != schedule.vector and steps.get(a, 1) > 1),
                  key=lambda a: -abs(view.written[a]))
    if len(axes) > 2 or any(p.read not in (wide, narrow) for p in schedule.packs):
        return None
    unit = view.target.matrix(view.stage.reads[wide].dtype) if schedule.matrix else None
    if unit is not None:
        axes.sort(key=lambda a: min(steps[a], view.free[a]))        # blocks' rows lie along the longest
    sizes = [min(steps[a], view.free[a]) for a in axes]
    gap = 0
    if unit is not None and len(axes) > 1 and (sizes[0] * cut(sizes[1], unit.rows)[1] + 1) * -(
            -steps[schedule.vector] // view.lanes) >= unit.registers:
        gap = row_gap(view, narrow, *axes)      # else its registers would not do
    tile = Tile(schedule.vector, -(-steps[schedule.vector] // view.lanes), tuple(axes), sizes[-1] if axes else 1,
                sizes[0] if len(axes) > 1 else 1, schedule.dot, unit, gap)
    ways = {number: _way(view, candidate, number) for number in (wide, narrow)}
    lead = [(a, 1) for a in view.stage.parallel if all(a != b for b, _ in schedule.loops)]
    nest = Nest(view, tile, ways[wide], ways[narrow], (*lead, *schedule.loops), schedule.reduction,
                tuple((ways[p.read], p.inside) for p in schedule.packs), wide in schedule.prefetch)
    return total(view, nest)[0]


def _way(view: View, candidate: Candidate, number: int) -> Operand:
    """How a schedule reads an operand."""
    pack = next((p for p in candidate.schedule.packs if p.read == number), None)
    copy = next((c for c in candidate.copies if c.read == number), None)
    if copy is None:
        return Operand(number) if pack is None else Operand(number, pack=pack.order, pad=pack.pad, packed=True)
    if panels := not copy.order[0].isdecimal():
        cost = 0.0 if is_fixed(view, number) else copying(view, number, volume(view, number), COPY_KERNEL)
    else:
        box = prod(high - low + 1 for low, high in (f.range(view.stage.sizes) for f in view.stage.reads[number].index))
        cost = box * (COPY if list(copy.order) == sorted(copy.order, key=int) else COPY_KERNEL)
    return Operand(number, cost, pack.order if pack else (), copy.order, copy.pad, panels or pack is not None)
