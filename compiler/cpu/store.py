"""The end of a register tile: its results are transposed in registers where memory wants them so, meet the partial
results of earlier reduction blocks, go through the epilogue, and are stored.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from jtc.compiler.cpu.code import Code, stored_type, type_of
from jtc.compiler.cpu.loops import Flag
from jtc.compiler.cpu.operands import Allowed, Operand, Spot
from jtc.compiler.cpu.places import Frame
from jtc.compiler.cpu.prefetch import fetch_for_others
from jtc.compiler.cpu.tile import TOGETHER, Tile, is_long
from jtc.dialects.dtypes import BOOL
from jtc.dialects.kernel import PAIR
from jtc.passes.kernel.pairs import crossed

Results = list[tuple[str, Spot]]


@dataclass(frozen=True)
class Finish:
    """How the results of one tile end.

    first, last  whether this is the first, the last block of the reduction
    partial      where results wait for the next block (may be the stage's write itself)
    scalars      takes the only element of a local scalar (buffer -> SSA name) instead of memory; None: always store
    stream       whether stores bypass the caches where the address is aligned
    free         whether the stage reads nothing from the memory that it writes
    """

    first: Flag
    last: Flag
    partial: Operand
    scalars: dict[str, str] | None
    stream: bool
    free: bool


def finish(tile: Tile, frame: Frame, accs: list[str | None] | None, how: Finish) -> None:
    """Store the results of a tile whose reduction left `accs`; None: the stage has no reduction."""
    turned = _transposed_axis(tile)
    if accs is None and turned and _woven(tile, turned):
        _weave(tile, frame, turned)
        return
    if accs is None and (pairs := _crossed(tile)) is not None:
        _cross(tile, frame, *pairs)
        return
    if accs is None and not turned:
        stream = _aligned(tile, frame) if how.stream else None
        for spot in tile.spots:     # one vector after the other keeps few values alive
            fetch_for_others(tile, frame, spot)
            _final(tile, frame, [(tile.values.value(frame, tile.stage.body, spot), spot)], how, stream)
        return
    if accs is None:
        results = [(tile.values.value(frame, tile.stage.body, spot), spot) for spot in tile.spots]
    else:
        results = tile.results(accs)
    if turned:
        results = transpose(tile, results, turned)
    _with_partials(tile, frame, results, how)


def finish_parts(tile: Tile, frame: Frame, parts: Callable[[str], Iterable[Results]], how: Finish) -> None:
    """The same for results that are found in parts, each of which is stored before the next one is asked for.

    parts  of the axis along which vectors are transposed, or "", where a part must hold what one transposition takes
    """
    turned = _transposed_axis(tile)
    for results in parts(turned):
        _with_partials(tile, frame, transpose(tile, results, turned) if turned else results, how)


def _with_partials(tile: Tile, frame: Frame, results: Results, how: Finish) -> None:
    code, dtype = tile.code, tile.dtype
    stream = _aligned(tile, frame) if how.stream and how.first is True and how.last is True else None

    def added() -> list[str]:
        return [tile.resumed(frame, spot, x, how.partial) for x, spot in results]

    if tile.before is not None:
        _keep_before(tile, frame, results, how)
    values = [x for x, _ in results]
    if how.first is False:
        values = added()
    elif how.first is not True:
        types = [type_of(dtype, spot.width) for _, spot in results]
        values = code.branch(how.first, lambda: values, lambda: scoped(frame, added), types)
    results = [(x, spot) for x, (_, spot) in zip(values, results)]

    def wait() -> list[str]:
        for x, spot in results:
            tile.values.memory.store(frame, how.partial, spot, x)
        return []

    def final() -> list[str]:
        _final(tile, frame, results, how, stream)
        return []

    if how.last is True or not tile.stage.ends and how.partial is tile.write:
        final()
    elif how.last is False:
        wait()
    else:
        code.branch(how.last, lambda: scoped(frame, final), lambda: scoped(frame, wait))


def _keep_before(tile: Tile, frame: Frame, results: Results, how: Finish) -> None:
    """Store what the reduction was before this block."""
    assert tile.before is not None
    for _, spot in results:
        def nothing(spot: Spot = spot) -> list[str]:
            return [tile.identity(spot.width)]

        def waiting(spot: Spot = spot) -> list[str]:
            return [tile.values.memory.load(frame, how.partial, spot)]

        if isinstance(how.first, bool):
            value, = nothing() if how.first else waiting()
        else:
            value, = tile.code.branch(how.first, nothing, lambda: scoped(frame, waiting),
                                      [type_of(tile.dtype, spot.width)])
        tile.values.memory.store(frame, tile.before, spot, value)


def scoped(frame: Frame, body: Callable[[], list[str]]) -> list[str]:
    """What a branch computes is not known after it."""
    memo, frame.memo = frame.memo, dict(frame.memo)
    values = body()
    frame.memo = memo
    return values


def _final(tile: Tile, frame: Frame, results: Results, how: Finish, stream: str | None) -> None:
    """Epilogue and store."""
    memory = tile.values.memory
    if len(results) >= TOGETHER and stream is None and is_long(tile.stage.ends) and _can_wait(tile, how):
        # stored first, which frees the registers to compute several vectors side by side
        for x, spot in results:
            memory.store(frame, tile.write, spot, x)

        def one(spot: Spot) -> None:
            x = memory.load(frame, tile.write, spot)
            further = tile.further(frame, spot, x)
            memory.store(frame, tile.write, spot, tile.final(frame, spot, x))
            for operand, y in further:
                memory.store(frame, operand, spot, y)
        tile.together([partial(one, spot) for _, spot in results], tile.stage.ends)
        return
    for x, spot in results:
        further, x = tile.further(frame, spot, x), tile.final(frame, spot, x)
        for operand, y in further:
            memory.store(frame, operand, spot, y)
        if how.scalars is not None and spot.width is None:
            how.scalars[tile.stage.write.buffer] = x
        else:
            fits = stream and spot.width and not (tile.write.form.offset(spot.offsets) + spot.start) % spot.width
            memory.store(frame, tile.write, spot, x, stream if fits else None)


def _can_wait(tile: Tile, how: Finish) -> bool:
    """Whether the write can hold the results before the epilogue."""
    stage = tile.stage
    return how.scalars is None and how.free and stage.write.dtype is tile.dtype and not stage.write.guards \
        and not stage.write.gather


def _aligned(tile: Tile, frame: Frame) -> str | None:
    """Condition that the tile's first element starts a whole vector register."""
    if not tile.vector or tile.write.gather:
        return None
    code, memory = tile.code, tile.write.memory
    size = memory.dtype.bytes
    base = code.op(f"memref.extract_aligned_pointer_as_index {memory.ssa} : {memory.type} -> index")
    address = code.op(f"arith.addi {base}, {code.product(frame.address(tile.write.form, 0), size)} : index")
    rest = code.op(f"arith.andi {address}, {code.index(tile.lanes * size - 1)} : index")
    return code.op(f"arith.cmpi eq, {rest}, {code.index(0)} : index")


# ------------------------------------------------------------------------------------------------ transposition
def _transposed_axis(tile: Tile) -> str:
    """The tile axis along which the write is contiguous, where it is not so along the lanes; "" if there is none."""
    steps = tile.write.form.steps
    if tile.across or not tile.vector or steps.get(tile.vector, 0) in (0, 1) or tile.write.gather:
        return ""
    if tile.places[tile.vector].extent == 1:
        return ""
    return next((a for a in tile.stage.parallel if steps.get(a) == 1 and tile.places[a].extent > 1), "")


def _woven(tile: Tile, axis: str) -> bool:
    """Whether the tile's vectors lie in memory element by element in turns: a tile of pairs in panels."""
    write, stage = tile.write, tile.stage
    return tile.places[axis].extent == write.form.steps[tile.vector] == PAIR and not write.guards and not stage.more \
        and stage.write.dtype is not BOOL and stage.write.buffer not in tile.values.scalars


def _weave(tile: Tile, frame: Frame, axis: str) -> None:
    """Store the values of a stage without reduction whose vectors at two places along `axis` lie in turns."""
    code, memory, write = tile.code, tile.values.memory, tile.write
    values = {(_key(spot.offsets), spot.start): tile.final(frame, spot, tile.values.value(frame, tile.stage.body, spot))
              for spot in tile.spots}
    for spot in tile.spots:
        if spot.offsets[axis]:
            continue
        pair = [replace(spot, offsets={**spot.offsets, axis: place}) for place in range(PAIR)]
        first, second = (values[_key(s.offsets), s.start] for s in pair)
        if spot.width is None:
            for s, x in zip(pair, (first, second)):
                memory.store(frame, write, s, x)
            continue
        width, kind = spot.width, stored_type(write.memory.dtype, spot.width)
        for start in range(0, min(PAIR * spot.lanes, PAIR * width), width):
            lanes = [(start + lane) // PAIR + (width if lane % PAIR else 0) for lane in range(width)]
            x = code.op(f"vector.shuffle {first}, {second} [{', '.join(map(str, lanes))}] : {kind}, {kind}")
            address, count = memory.place(frame, write, Allowed(), spot, start), PAIR * spot.lanes - start
            if count >= width:
                code.line(f"vector.store {x}, {write.memory.ssa}[{address}] : {write.memory.type}, {kind}")
            else:
                mask = code.mask([lane < count for lane in range(width)])
                code.line(f"vector.maskedstore {write.memory.ssa}[{address}], {mask}, {x} : {write.memory.type}, "
                          f"vector<{width}xi1>, {kind}")


def _crossed(tile: Tile) -> tuple[str, str] | None:
    """(rows, columns) of a tile that transposes at most as many rows of pairs as a vector holds; None: it is none."""
    stage, write, body = tile.stage, tile.write, tile.stage.body
    if stage.more or write.guards or write.gather or stage.write.buffer in tile.values.scalars or body.fn != "read":
        return None
    source, count = tile.values.operands[body.attr], tile.lanes // PAIR
    if source.guards or source.gather or source.memory.dtype is not write.memory.dtype or write.memory.dtype.bytes != 2:
        return None
    sizes = {a: tile.places[a].extent for a in stage.parallel if tile.places[a].extent > 1}
    found = crossed(sizes, source.form.steps, write.form.steps)
    if found is None or found[2] != tile.vector or len(sizes) > 3 or max(sizes[a] for a in found[:2]) > count:
        return None
    return found[:2]


def _cross(tile: Tile, frame: Frame, rows: str, columns: str) -> None:
    """Store the tile of a copy whose elements are pairs: transposed as numbers of 32 bits."""
    code, width, count = tile.code, tile.lanes, tile.lanes // PAIR
    kind, bits = stored_type(tile.write.memory.dtype, width), f"vector<{count}xi32>"

    height, length = tile.places[rows].extent, tile.places[columns].extent

    def row(axis: str, place: int, pairs: int) -> Spot:
        return Spot({rows: 0, columns: 0, axis: place}, tile.vector, 0, PAIR * pairs, width)

    taken = [tile.values.value(frame, tile.stage.body, row(rows, r, length)) for r in range(height)]
    numbers = [code.op(f"vector.bitcast {x} : {kind} to {bits}") for x in taken]
    for c, x in enumerate(square(code, numbers + numbers[:1] * (count - height), bits, count)[:length]):
        x = code.op(f"vector.bitcast {x} : {bits} to {kind}")
        tile.values.memory.store(frame, tile.write, row(columns, c, height), x)


def transpose(tile: Tile, results: Results, axis: str) -> Results:
    """The same results as vectors along `axis`."""
    code, extent = tile.code, tile.places[axis].extent
    at = {(_key(spot.offsets), spot.start): x for x, spot in results if spot.width is not None}
    turned = [(x, spot) for x, spot in results if spot.width is None]
    for _, spot in results:
        if spot.width is None or spot.offsets[axis] % spot.width:
            continue
        width, start = spot.width, spot.offsets[axis]
        count = min(width, extent - start)
        rows = [at[_key({**spot.offsets, axis: start + r}), spot.start] for r in range(count)]
        rest = {a: o for a, o in spot.offsets.items() if a != axis}
        if count == 1:
            for lane in range(spot.lanes):
                point = Spot({**rest, axis: start, tile.vector: spot.start + lane})
                turned.append((code.extract(rows[0], lane, tile.dtype, width), point))
            continue
        columns = square(code, rows + [rows[0]] * (width - count), type_of(tile.dtype, width), width) \
            if tile.dtype is not BOOL else _bools(code, rows + [rows[0]] * (width - count), width)
        for lane in range(spot.lanes):
            place = Spot({**rest, tile.vector: spot.start + lane}, axis, start, count, width)
            turned.append((columns[lane], place))
    return turned


def _key(offsets: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(offsets.items()))


def square(code: Code, rows: Sequence[str], kind: str, width: int) -> list[str]:
    """Transpose width x width elements: exchange off-diagonal blocks of width / 2, width / 4... 1.

    Source: J. O. Eklundh, "A fast computer method for matrix transposing", 1972.
    """
    rows, block = list(rows), width // 2
    while block:
        upper = [lane if not lane & block else width + lane - block for lane in range(width)]
        lower = [lane + block if not lane & block else width + lane for lane in range(width)]
        for r in range(width):
            if not r & block:
                pair = f"{rows[r]}, {rows[r + block]}"
                rows[r], rows[r + block] = (
                    code.op(f"vector.shuffle {pair} [{', '.join(map(str, lanes))}] : {kind}, {kind}")
                    for lanes in (upper, lower))
        block //= 2
    return rows


def _bools(code: Code, rows: Sequence[str], width: int) -> list[str]:
    """Bools are transposed as bytes."""
    bits, kind = f"vector<{width}xi1>", f"vector<{width}xi8>"
    wide = {x: code.op(f"arith.extui {x} : {bits} to {kind}") for x in rows}
    return [code.op(f"arith.trunci {x} : {kind} to {bits}") for x in square(code, [wide[x] for x in rows], kind, width)]
