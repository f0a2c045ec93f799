"""How many addresses loops touch.

A walk says of an operand how far the points of each axis lie apart: see `View.walks`, which all functions here take.
"""
from __future__ import annotations

from jtc.passes.kernel.rules.common import View


def whole(view: View, number: int) -> float:
    """Different addresses of a read, or of the result (-1)."""
    key = ("addresses", number)
    if key not in view.memo:
        view.memo[key] = addresses(view.walks[number], view.free)
    return float(view.memo[key])


def addresses(walk: dict[str, int], extents: dict[str, int]) -> float:
    """Different addresses that an operand has over these extents; those of sliding windows are counted once."""
    count, reach = 1.0, 0
    for axis, stride in walk.items():
        size = extents[axis]
        count *= size if stride > reach else 1 + stride * (size - 1) / (reach + 1)
        reach += stride * (size - 1)
    return count


def neighbours(walk: dict[str, int], extents: dict[str, int]) -> tuple[int, int]:
    """(how many neighbours these extents cover from each address on, elements from one such run to the next)."""
    run = 1
    for axis, stride in walk.items():
        if extents[axis] > 1 and stride > run:
            return run, stride
        run = max(run, stride * extents[axis])
    return run, run
