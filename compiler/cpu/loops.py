"""Loops over the blocks of one axis, with an exact tail, and the same restricted to a range of units."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd

from jtc.compiler.cpu.code import Code
from jtc.compiler.cpu.places import Place

Flag = bool | str        # known, or the SSA name of a condition
Segments = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Units:
    """A range of iterations, flattened over the thread loops that are still to come: SSA names."""

    begin: str
    end: str


def blocks(code: Code, place: Place, step: int, segments: Segments, flags: bool,
           body: Callable[[Place, Flag, Flag], None]) -> None:
    """Emit `body(block, first, last)` for all blocks of `step` points of the place.

    segments  parts of the place to run one after the other; all but the last end in a whole block
    flags     whether the body wants to know if a block is the first, the last one
    """
    for begin, end in segments:
        whole = begin + (end - begin) // step * step
        if whole - begin == step:
            body(place.part(begin, step), begin == 0, whole == place.extent)
        elif whole > begin:
            _loop(code, place, step, begin, whole, flags, body)
        if end > whole:
            body(place.part(whole, end - whole), whole == 0, end == place.extent)


def _loop(code: Code, place: Place, step: int, begin: int, whole: int, flags: bool,
          body: Callable[[Place, Flag, Flag], None]) -> None:
    low, high, top = (code.offset(place.ssa, place.const + at) for at in (begin, whole, whole - step))
    multiple = gcd(step, place.const + begin, place.multiple if place.ssa else 0)

    def run(value: str, _: list[str]) -> list[str]:
        first: Flag = code.op(f"arith.cmpi eq, {value}, {low} : index") if flags and begin == 0 else False
        last: Flag = code.op(f"arith.cmpi eq, {value}, {top} : index") if flags and whole == place.extent else False
        body(Place(value, 0, place.low + begin, place.high + whole - step, step, multiple), first, last)
        return []
    code.loop(low, high, step, run)


def unit_blocks(code: Code, place: Place, step: int, segments: Segments, units: Units, inner: int,
                body: Callable[[Place, Units], None]) -> None:
    """Emit `body(block, units inside the block)` for the blocks that fall into the range.

    inner  units in one block
    """
    low, high = units.begin, units.end
    if inner > 1:
        low = code.op(f"arith.divui {low}, {code.index(inner)} : index")
        high = code.op(f"arith.ceildivui {high}, {code.index(inner)} : index")

    def run(begin: int, end: int, extent: int) -> None:
        def one(number: str, _: list[str]) -> list[str]:
            rest = units
            if inner > 1:
                before = code.product(number, inner)
                rest = Units(code.at_least(code.op(f"arith.subi {units.begin}, {before} : index"), 0),
                             code.at_most(code.op(f"arith.subi {units.end}, {before} : index"), inner))
            elif inner == 1:
                rest = Units(code.index(0), code.index(1))
            if end - begin <= step:
                block = place.part(begin, extent)
            else:
                value = code.sum(place.ssa, code.product(number, step))
                multiple = gcd(step, place.multiple if place.ssa else 0)
                block = Place(value, place.const, place.low + begin, place.high + end - step, step, multiple)
            body(block, rest)
            return []
        code.loop(code.at_least(low, begin // step), code.at_most(high, -(-end // step)), 1, one)

    for begin, end in segments:
        whole = begin + (end - begin) // step * step
        if whole > begin:
            run(begin, whole, step)
        if end > whole:
            run(whole, end, end - whole)
