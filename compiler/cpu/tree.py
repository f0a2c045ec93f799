"""Pairwise reduction: blocks of one reduction axis are reduced one by one, and their results meet in a binary tree.

    for block b:   x = reduce(block b)
                   for every 1 at the end of b in binary:   x = combine(waiting[level], x)
                   waiting[level] = x

As in a binary counter, level l holds the result of 2^l blocks.  Every term goes through log2(blocks) sums besides those
of its block, which bounds the rounding error.  Source: N. J. Higham, "The accuracy of floating point summation", 1993.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jtc.compiler.cpu.code import type_of
from jtc.compiler.cpu.operands import Operand, Spot
from jtc.compiler.cpu.places import Form, Frame, Linear
from jtc.compiler.cpu.prefetch import Prefetches

if TYPE_CHECKING:
    from jtc.compiler.cpu.tile import Accumulators, Tile

LANE = "lane"           # the axis of the waiting results: one after the other, level by level


def reduce_in_pairs(tile: Tile, order: Sequence[str], steps: int, frame: Frame, offsets: Mapping[str, int]
                    ) -> Accumulators:
    """The tile's accumulators for its reduction over order[0] in blocks of `steps`, and over the axes after it.

    order: the reduction axes that are left, outer to inner; offsets: places along those outside of them
    """
    axis, code = order[0], tile.code
    blocks, rest = divmod(tile.reduction_extents[axis], steps)
    waiting = _Waiting.of(tile, axis, blocks.bit_length())

    def block(start: str, last: int, size: int) -> list[str]:
        inner = replace(tile, places={**tile.places, axis: tile.places[axis].part(0, size)})
        nothing: Accumulators = [None] * len(inner.slots)
        found = inner.reduce_over(list(order), frame.moved(axis, start, last), offsets, nothing, Prefetches((), ()))
        return tile.roots(inner, found)

    def one(value: str, _: list[str]) -> list[str]:
        number = code.op(f"arith.divui {value}, {code.index(steps)} : index")
        waiting.push(number, block(value, (blocks - 1) * steps, steps))
        return []

    if blocks == 1:
        parts = [block(code.index(0), 0, steps)]
    else:
        code.loop(code.index(0), code.index(blocks * steps), steps, one)
        parts = [waiting.load(code.index(n)) for n in reversed(range(blocks.bit_length())) if blocks >> n & 1]
    if rest:
        parts.append(block(code.index(blocks * steps), blocks * steps, rest))
    total = parts.pop()
    while parts:
        total = waiting.combined(parts.pop(), total)
    return tile.from_roots(total)


@dataclass(frozen=True)
class _Waiting:
    """Results that wait for others of their size, one set of `roots` for each level of the tree."""

    tile: Tile
    operand: Operand
    row: int            # elements of one level

    @staticmethod
    def of(tile: Tile, axis: str, levels: int) -> _Waiting:
        row = len(tile.root_widths) * tile.lanes
        memory = tile.workspace.memory(f"{tile.stage.name}.{axis}.tree", levels * row, tile.dtype)
        return _Waiting(tile, Operand(memory, Form({}, 0, {LANE: 1})), row)

    def _spots(self) -> list[Spot]:
        starts = [(n * self.tile.lanes, width) for n, width in enumerate(self.tile.root_widths)]
        return [Spot({LANE: at}) if width is None else Spot({}, LANE, at, width, width) for at, width in starts]

    def _at(self, level: str) -> Frame:
        code = self.tile.code
        start = code.product(level, self.row)
        return Frame(code, {self.operand.form: Linear(start, 0, 0, self.operand.memory.count - self.row)}, {})

    def load(self, level: str) -> list[str]:
        frame = self._at(level)
        return [self.tile.values.memory.load(frame, self.operand, spot) for spot in self._spots()]

    def store(self, level: str, values: Sequence[str]) -> None:
        frame = self._at(level)
        for x, spot in zip(values, self._spots()):
            self.tile.values.memory.store(frame, self.operand, spot, x)

    def combined(self, first: Sequence[str], second: Sequence[str]) -> list[str]:
        return [self.tile.combine(a, b, width) for a, b, width in zip(first, second, self.tile.root_widths)]

    def push(self, number: str, values: list[str]) -> None:
        """Take in the result of block `number`."""
        code = self.tile.code
        after = code.op(f"arith.index_cast {code.offset(number, 1)} : index to i64")
        ones = code.op(f"arith.index_cast {code.op(f'math.cttz {after} : i64')} : i64 to index")
        types = [type_of(self.tile.dtype, width) for width in self.tile.root_widths]
        self.store(ones, code.loop(code.index(0), ones, 1, lambda level, held: self.combined(self.load(level), held),
                                   values, types))
