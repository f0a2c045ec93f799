"""Prefetches of a register tile: memory that is wanted later is asked for before its reduction, or while it runs.

    results   the cache lines that the tile updates or writes at its end, and what its epilogue reads
    panels    the next panel of a packed operand (`Schedule.prefetch`), or, where panels are packed one by one, what
              the next one is made of: each tile of the current panel fetches a share, lines or rows that follow each
              other, some after each step of its reduction
    others    what other stages will move (`Schedule.fetches`), vector by vector

Hardware does neither: a tile's results are a few lines in each of many rows, and its streams stop where a page ends.
Where panels are fetched, the results' lines take turns too, one in an iteration: all at once would occupy the buffers
through which every load passes that misses the first-level cache.  A prefetch never faults, so an address past the end
of an operand is allowed.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import gcd, prod
from typing import TYPE_CHECKING

from jtc.compiler.cpu.operands import Operand, Spot
from jtc.compiler.cpu.places import Frame
from jtc.dialects.affine import axis_of, split_term
from jtc.dialects.expr import reads_of
from jtc.dialects.kernel import PAIR

if TYPE_CHECKING:
    from jtc.compiler.cpu.tile import Tile

LINE = 64           # bytes
STEPS = 64          # steps of the reduction from which on the results' latency is worth hiding
UNIT_STEPS = 192    # pairs of steps that a matrix unit takes in that time: before fewer, fetching what is only written
                    # would occupy the buffers through which its blocks pass (with 32 pairs it took 1.2 times as long)
MOST_LINES = 64     # of results; a tile that scatters more has other troubles
FIRST_LEVEL, SECOND_LEVEL = 3, 2        # caches, as MLIR's locality hint numbers them


@dataclass(frozen=True)
class Share:
    """What the iterations of the innermost reduction loop fetch for the next panel.

    ahead    how far it begins from where the loop begins to load (SSA);  pace: elements from one iteration to the next
    offsets  of the lines that one iteration fetches
    """

    operand: Operand
    ahead: str
    pace: int
    offsets: Sequence[int]


@dataclass(frozen=True)
class Turns:
    """Lines that the iterations of the innermost reduction loop fetch one after the other.

    start   address of the tile (SSA);  table: how far each line is from it (SSA);  count: its length
    pause   growth of the loop's value until the next lines are due;  each: lines at a time
    """

    operand: Operand
    start: str
    table: str
    count: int
    pause: int
    each: int


@dataclass(frozen=True)
class Prefetches:
    """What the iterations of the innermost reduction loop of one tile fetch."""

    shares: Sequence[Share]
    turns: Sequence[Turns]

    @staticmethod
    def before(tile: Tile, frame: Frame) -> Prefetches:
        """Append the prefetches that belong before the reduction, and what those in the loop need."""
        shares = _shares(tile, frame)
        extents = list(tile.reduction_extents.values())
        turns = []
        for operand in _results(tile):
            lines = _lines(tile, operand)
            if shares and lines and prod(extents) == extents[-1]:
                turns.append(_turns(tile, frame, operand, lines))
            else:
                for offset in lines:
                    _fetch(tile, operand, frame.address(operand.form, offset), FIRST_LEVEL)
        return Prefetches(shares, turns)

    def along(self, tile: Tile, frame: Frame, offsets: Mapping[str, int], parts: int) -> Callable[[str, int], None]:
        """Append what belongs before the innermost reduction loop, which begins at `frame` and these offsets from it.

        Returns what appends the prefetches of one part of an iteration, given the value (SSA) that the axis has in the
        loop, and the part's number.  All at once they occupy the buffers that the next loads pass through, too.
        """
        code, starts = tile.code, list[str]()
        for share in self.shares:
            form = share.operand.form
            starts.append(code.op(f"arith.addi {frame.address(form, form.offset(offsets))}, {share.ahead} : index"))
        return partial(self._inside, tile, starts, parts)

    def _inside(self, tile: Tile, starts: Sequence[str], parts: int, value: str, part: int) -> None:
        code, factor = tile.code, tile.factor(list(tile.reduction_extents)[-1])
        lines = [(share, start, offset) for share, start in zip(self.shares, starts) for offset in share.offsets]
        places = dict[str, str]()       # where a share begins -> where it goes on in this iteration
        for share, start, offset in lines[len(lines) * part // parts:len(lines) * (part + 1) // parts]:
            if start not in places:
                if share.pace % factor == 0:
                    moved = code.product(value, share.pace // factor)
                else:
                    moved = code.product(code.op(f"arith.divui {value}, {code.index(factor)} : index"), share.pace)
                places[start] = code.op(f"arith.addi {start}, {moved} : index")
            _fetch(tile, share.operand, code.offset(places[start], offset), SECOND_LEVEL)
        for turns in self.turns if part == parts - 1 else ():
            number = code.op(f"arith.divui {value}, {code.index(turns.pause)} : index")
            for line in range(turns.each):
                at = code.offset(code.product(number, turns.each), line)
                away = code.op(f"memref.load {turns.table}[{at}] : memref<{turns.count}xindex>")
                _fetch(tile, turns.operand, code.op(f"arith.addi {turns.start}, {away} : index"), FIRST_LEVEL)


def fetch_for_others(tile: Tile, frame: Frame, spot: Spot) -> None:
    """Append the prefetches of one vector for other stages (`Schedule.fetches`)."""
    for operand, write in tile.fetches:
        if spot.start % _line_size(operand) == 0:
            address = frame.address(operand.form, operand.form.offset(spot.offsets) + spot.start)
            _fetch(tile, operand, address, SECOND_LEVEL, write)


# ------------------------------------------------------------------------------------------------ results
def _results(tile: Tile) -> list[Operand]:
    """What the tile touches after its reduction, where that takes long enough; written memory that is read, once."""
    stage, steps, unit = tile.stage, prod(tile.reduction_extents.values()), tile.schedule.matrix
    if stage.reduce is None or stage.accumulate or stage.scan or tile.across:
        return []
    if steps < STEPS and not unit:
        return []
    after = {number for tail in stage.tails for number in reads_of(tail)} - set(reads_of(stage.body))
    written = [(stage.write, tile.write), *((r.write, operand) for r, operand in zip(stage.more, tile.more))]
    found = [] if unit and steps < UNIT_STEPS else [
        operand for access, operand in written if access.buffer not in tile.in_place]
    found += [tile.values.operands[number] for number in sorted(after)]
    return [o for o in found if not o.gather and not o.guards and o.memory.count]


def _turns(tile: Tile, frame: Frame, operand: Operand, lines: list[int]) -> Turns:
    axis = list(tile.reduction_extents)[-1]
    factor = tile.factor(axis)
    iterations = tile.reduction_extents[axis] // factor
    each = -(-len(lines) // iterations)
    wait = 1 << max(0, (iterations * each // len(lines)).bit_length() - 1)      # a power of two divides by a shift
    table = (*lines, *lines[-1:] * (-(-iterations // wait) * each - len(lines)))
    start = frame.address(operand.form, 0)
    return Turns(operand, start, tile.code.table(table), len(table), factor * wait, each)


def _lines(tile: Tile, operand: Operand) -> list[int]:
    """Offsets from the tile's start, one in every cache line that its points touch; two in some where it is not known
    how they lie to the lines."""
    form, size = operand.form, _line_size(operand)
    step = form.steps.get(tile.vector, 0)
    touched = sorted({form.offset(spot.offsets) + step * (spot.start + lane)
                      for spot in tile.spots for lane in range(spot.lanes)})
    if _alignment(tile, operand) % size == 0:
        found = sorted({at - at % size for at in touched})
    else:
        ends = [at for at, following in zip(touched, touched[1:]) if following - at >= size]
        starts = [following for at, following in zip(touched, touched[1:]) if following - at >= size]
        found = [at for first, last in zip([*touched[:1], *starts], [*ends, *touched[-1:]])
                 for at in sorted({*range(first, last, size), last})]
    return found if len(found) <= MOST_LINES else []


def _alignment(tile: Tile, operand: Operand) -> int:
    """A number of elements that divides the address of the tile's start."""
    unit = operand.form.const
    for term, coefficient in operand.form.terms.items():
        axis, digit, _ = split_term(term)
        place = tile.places[axis]
        known = 1 if digit or axis in operand.form.origin else gcd(place.const, place.multiple if place.ssa else 0)
        unit = gcd(unit, coefficient * known)
    return unit


# ------------------------------------------------------------------------------------------------ panels
def _shares(tile: Tile, frame: Frame) -> list[Share]:
    """The tile's shares of the next panels."""
    if tile.across or not tile.reduction_extents:
        return []
    single, found = sources(tile), list[Share]()
    for number in tile.schedule.prefetch:
        packed = tile.values.operands[number]
        found += _source_shares(tile, packed, single[number]) if number in single else \
            _panel_shares(tile, frame, packed)
    return found


def sources(tile: Tile) -> dict[int, Operand]:
    """Reads to be fetched ahead of which each panel is packed for itself -> what it is packed from."""
    loops = [loop for loop in tile.schedule.loops if loop[0] == tile.vector]
    alone = {pack.read for pack in tile.schedule.packs if loops and pack.inside == loops[-1]}
    found = {number: tile.values.operands[number].source for number in tile.schedule.prefetch if number in alone}
    return {number: source for number, source in found.items() if source is not None}


def _source_shares(tile: Tile, packed: Operand, source: Operand) -> list[Share]:
    """Of the rows that an iteration reduces, each tile fetches some lines, from where the next panel begins."""
    code, size, axis = tile.code, _line_size(source), list(tile.reduction_extents)[-1]
    factor, row = tile.factor(axis), source.form.steps.get(axis, 0)
    width = dict(tile.schedule.loops)[tile.vector]
    if tile.dot or source.guards or source.gather or source.form.steps.get(tile.vector) != 1 or row < width or \
            tile.reduction_extents[axis] == factor:
        return []           # not one run for each step of the innermost reduction loop
    rows, lines = _rows_of_a_panel(tile, packed), -(-width // size)
    each = -(-factor * lines // prod(count for _, _, count in rows))
    turn, run, shares = _number(tile, rows), tile.reduction_extents[axis] // factor * row, []
    for line in range(each):
        if turn is None:
            ahead = code.index(width + line // lines * run + line % lines * size)
        else:
            number = code.op(f"arith.remui {code.offset(code.product(turn, each), line)}, "
                             f"{code.index(factor * lines)} : index")
            down = code.op(f"arith.divui {number}, {code.index(lines)} : index")
            along = code.op(f"arith.remui {number}, {code.index(lines)} : index")
            moved = code.sum(code.product(down, run), code.product(along, size))
            ahead = code.offset(moved, width)
        shares.append(Share(source, ahead, row, [0]))
    return shares


def _panel_shares(tile: Tile, frame: Frame, operand: Operand) -> list[Share]:
    code, form, size = tile.code, operand.form, _line_size(operand)
    stride, width = next((c, split_term(t)[2]) for t, c in form.terms.items()
                         if split_term(t)[:2] == (tile.vector, "//"))
    axis = list(tile.reduction_extents)[-1]
    factor = tile.factor(axis)
    if operand.memory.count < 2 * stride:
        return []           # there is one panel
    unit = PAIR if tile.dot else 1      # elements at each place of the panel
    if form.steps.get(tile.vector) != unit or form.steps.get(axis) != width * unit or \
            tile.reduction_extents[axis] == factor:
        return []           # the innermost loop does not run through one panel, line by line
    lines = -(-factor * width * unit // size)
    rows = _rows_of_a_panel(tile, operand)
    each = -(-lines // prod(count for _, _, count in rows))
    start = frame.values[form]
    if start.ssa is None:
        ahead = code.index(stride if start.const + 2 * stride <= operand.memory.count else -start.const)
    else:       # behind the last panel comes the first one
        at = code.offset(start.ssa, start.const)
        more = code.op(f"arith.cmpi ule, {code.offset(at, 2 * stride)}, {code.index(operand.memory.count)} : index")
        back = code.op(f"arith.subi {code.index(0)}, {at} : index")
        ahead = code.select(more, code.index(stride), back, "index")
    turn, pace = _number(tile, rows), each * size
    if turn is not None and each < lines:
        turn = code.op(f"arith.remui {turn}, {code.index(-(-lines // each))} : index")
        run = tile.reduction_extents[axis] // factor * pace
        ahead = code.op(f"arith.addi {ahead}, {code.product(turn, run)} : index")
    return [Share(operand, ahead, pace, range(0, pace, size))]


def _number(tile: Tile, rows: Sequence[tuple[str, int, int]]) -> str | None:
    """The tile's number among those of its panel (SSA), None where it is the only one."""
    turn: str | None = None
    for axis, step, count in rows:
        place = tile.places[axis]
        turn = None if turn is None else tile.code.product(turn, count)
        if place.ssa is not None and count > 1:
            turn = tile.code.sum(turn, tile.code.op(f"arith.divui {place.ssa}, {tile.code.index(step)} : index"))
    return turn


def _rows_of_a_panel(tile: Tile, operand: Operand) -> list[tuple[str, int, int]]:
    """(axis, extent of a tile, tiles) of the loops inside of the panels' loop, whose tiles share a panel."""
    loops, extents, found = list(tile.schedule.loops), dict(tile.stage.sizes), []
    last = max(number for number, (axis, _) in enumerate(loops) if axis == tile.vector)
    used = {axis_of(term) for term in operand.form.terms}
    for number, (axis, step) in enumerate(loops):
        if number > last and axis in tile.stage.parallel and axis not in used:
            found.append((axis, step, -(-extents[axis] // step)))
        extents[axis] = min(extents[axis], step)
    return found


def _line_size(operand: Operand) -> int:
    """Elements in one cache line."""
    return max(1, LINE // operand.memory.dtype.bytes)


def _fetch(tile: Tile, operand: Operand, address: str, level: int, write: bool = False) -> None:
    memory, how = operand.memory, "write" if write else "read"
    tile.code.line(f"memref.prefetch {memory.ssa}[{address}], {how}, locality<{level}>, data : {memory.type}")
