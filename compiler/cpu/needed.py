"""The loop over the blocks of a shared axis that are needed, for the current blocks of the others (`Kernel.needed`)."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from jtc.compiler.cpu.code import Code
from jtc.compiler.cpu.loops import Flag
from jtc.compiler.cpu.places import Form, Linear, Place, linear
from jtc.dialects.affine import Affine
from jtc.dialects.kernel import Axis, Guard

Span = tuple[str, str]          # SSA numbers of the first and the last block


def span(code: Code, needed: Sequence[Guard], axis: Axis, block: int, places: Mapping[str, Place]) -> Span | None:
    """Append the numbers of the blocks of the axis in which all guards can hold; None where these are all blocks.

    places  of the other shared axes.  Where no block is needed, both are the number of one that may run.
    """
    lows: list[str] = []            # the first blocks in which a guard can hold
    highs: list[str] = []           # the last ones
    for guard in needed:
        step = guard.index[axis.name]
        rest = Affine({t: c for t, c in guard.index.terms.items() if t != axis.name}, guard.index.const)
        start = linear(code, Form.of(rest), places)
        moves = [c * (places[a].extent - 1) for a, c in rest.terms.items()]
        down, up = sum(min(0, m) for m in moves), sum(max(0, m) for m in moves)
        # 0 <= step * j + rest < size, where rest lies in [start + down, start + up]; see dialects/needed.py
        if step > 0:
            low = (-1, -up, -((start.low + up) // step))
            high = (-1, guard.size - 1 - down, (guard.size - 1 - start.high - down) // step)
        else:
            low = (1, down - guard.size + 1, -((guard.size - 1 - start.high - down) // -step))
            high = (1, up, (start.low + up) // -step)
        if low[2] >= block:
            lows.append(_block(code, start, low[0], low[1] + abs(step) - 1, abs(step), block))
        if high[2] < axis.size - 1:
            highs.append(_block(code, start, high[0], high[1], abs(step), block))
    if not lows and not highs:
        return None
    top = -(-axis.size // block) - 1
    first, last = code.index(0), code.index(top)
    for number in lows:
        first = code.op(f"arith.maxui {first}, {number} : index")
    for number in highs:
        last = code.op(f"arith.minui {last}, {number} : index")
    first = code.at_most(first, top)
    return first, code.op(f"arith.maxui {first}, {last} : index")


def _block(code: Code, start: Linear, sign: int, more: int, step: int, block: int) -> str:
    """The number of the block that holds point (sign * start + more) // step; 0 where that is negative."""
    value = code.offset(start.ssa, sign * start.const + more)
    if start.ssa is not None and sign < 0:
        value = code.op(f"arith.subi {code.index(more - start.const)}, {start.ssa} : index")
    value = code.at_least(value, 0)
    for divisor in (step, block):
        value = code.op(f"arith.divui {value}, {code.index(divisor)} : index") if divisor > 1 else value
    return value


def needed_blocks(code: Code, size: int, step: int, blocks: Span, body: Callable[[Place, Flag, Flag], None]) -> None:
    """Emit `body(block, first, last)` for the blocks of `step` points of an axis from the first needed one to the last.

    The last block of the axis may be shorter.
    """
    first, last = blocks
    low, top, whole = code.product(first, step), code.product(last, step), size // step * step

    def run(value: str, _: list[str]) -> list[str]:
        flags = [code.op(f"arith.cmpi eq, {value}, {end} : index") for end in (low, top)]
        body(Place(value, 0, 0, whole - step, step, step), *flags)
        return []

    def tail() -> list[str]:
        alone = code.op(f"arith.cmpi eq, {low}, {code.index(whole)} : index")
        body(Place.whole(size).part(whole, size - whole), alone, True)
        return []

    code.loop(low, code.at_most(code.offset(top, step), whole), step, run)
    if size > whole:
        code.branch(code.op(f"arith.cmpi eq, {top}, {code.index(whole)} : index"), tail)
