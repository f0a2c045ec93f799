"""A register tile in a matrix unit (family.Matrix), whose registers hold blocks of rows x lanes.

    once for the stage: configure        how many rows the registers have
    accumulators = 0                     one for each block of the tile; what earlier blocks of the reduction have left
    for the reduction axes (loops): load blocks of the operands, multiply
    store the accumulators               where they wait for the next block of the reduction, or in the workspace, where
                                         the end of the tile (store.py) finds its vectors

Where the rows of a tile are no multiple of those of a block, the last block begins earlier and computes some of them
once more: to configure the unit anew takes as long as a dozen multiplications.  That is only done around tiles of fewer
rows than one block.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

from jtc.compiler.cpu.code import Code, stored_type
from jtc.compiler.cpu.loops import Flag
from jtc.compiler.cpu.operands import Allowed, Memory, Operand, Spot
from jtc.compiler.cpu.places import Frame
from jtc.compiler.cpu.prefetch import Prefetches, fetch_for_others
from jtc.compiler.cpu.store import Finish, finish_parts, scoped
from jtc.compiler.cpu.tile import Tile
from jtc.compiler.cpu.workspace import Workspace
from jtc.dialects.dtypes import F32
from jtc.dialects.family import Matrix
from jtc.passes.kernel.matrix_blocks import Blocks

ROW = 64                # bytes of a row of a block, and of the shapes of all registers
NUMBER, BYTES, ADDRESS = "i8", "i64", "!llvm.ptr"


@dataclass(frozen=True)
class MatrixUnit:
    """The unit, as one stage uses it: the first registers hold results, the next a row of blocks of the vector operand,
    the others blocks of the scalar operand in turn."""

    code: Code
    unit: Matrix
    blocks: Blocks
    workspace: Workspace

    def configure(self, rows: int) -> None:
        """Set the shapes of the registers: blocks of so many rows, but those of the vector operand, of all pairs.

        Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18 (palette 1).
        """
        code, unit = self.code, self.unit
        paired = range(self.blocks.count, self.blocks.count + self.blocks.vectors)
        lengths = [ROW if i < unit.registers else 0 for i in range(16)]
        heights = [unit.pairs if i in paired else rows for i in range(unit.registers)]
        shapes = bytes([1, *[0] * 15, *(b for n in lengths for b in n.to_bytes(2, "little")), *heights])
        words = [int.from_bytes(shapes.ljust(ROW, b"\0")[i:i + 4], "little") for i in range(0, ROW, 4)]
        memory, integers = self.workspace.memory("matrix.shapes", len(words), F32), f"vector<{len(words)}xi32>"
        bits, kind = code.constant(f"dense<{words}>", integers), stored_type(F32, len(words))
        x = code.op(f"vector.bitcast {bits} : {integers} to {kind}")
        code.line(f"vector.store {x}, {memory.ssa}[{code.index(0)}] : {memory.type}, {kind}")
        self.call(unit.configure, (self.pointer(memory, code.index(0)), ADDRESS))

    def release(self) -> None:
        """Say that nothing in the unit is needed any more."""
        self.call(self.unit.release)

    def call(self, name: str, *arguments: tuple[str, str]) -> None:
        """One of the unit's intrinsics.  arguments: (value, type)"""
        values, types = (", ".join(part) for part in zip(*arguments)) if arguments else ("", "")
        self.code.line(f'llvm.call_intrinsic "{name}"({values}) : ({types}) -> ()')

    def register(self, number: int) -> tuple[str, str]:
        return self.code.constant(str(number), NUMBER), NUMBER

    def move(self, name: str, register: int, memory: Memory, address: str, stride: int) -> None:
        """Load or store a register.  stride: elements from row to row."""
        apart = self.code.constant(str(stride * memory.dtype.bytes), BYTES)
        self.call(name, self.register(register), (self.pointer(memory, address), ADDRESS), (apart, BYTES))

    def pointer(self, memory: Memory, address: str) -> str:
        """The address of an element of a memref."""
        code = self.code
        base = code.op(f"memref.extract_aligned_pointer_as_index {memory.ssa} : {memory.type} -> index")
        place = code.op(f"arith.addi {base}, {code.product(address, memory.dtype.bytes)} : index")
        return code.op(f"llvm.inttoptr {code.op(f'arith.index_cast {place} : index to i64')} : i64 to {ADDRESS}")


@dataclass(frozen=True)
class MatrixTile:
    """One register tile.  partial: where results wait for the next block of the reduction, lanes side by side."""

    unit: MatrixUnit
    tile: Tile
    partial: Operand

    @cached_property
    def wide(self) -> Operand:
        return next(o for o in self._operands if self.tile.vector in o.form.axes)

    @cached_property
    def narrow(self) -> Operand:
        return next(o for o in self._operands if o is not self.wide)

    @cached_property
    def _operands(self) -> list[Operand]:
        factors = self.tile.stage.factors()
        assert factors is not None
        return [self.tile.values.operands[i] for i in factors]

    @cached_property
    def rows(self) -> int:
        """Rows of the tile, with those between its points."""
        blocks = self.unit.blocks
        around, along = (self.tile.places[a].extent if a else 1 for a in (blocks.around, blocks.axis))
        return (around - 1) * blocks.gap + along

    @cached_property
    def groups(self) -> list[dict[str, int]]:
        """Offsets along the axes of the tile that are neither on the lanes nor on the rows."""
        blocks = self.unit.blocks
        return [p for p in self.tile.points if not p.get(blocks.axis) and not p.get(blocks.around)]

    @cached_property
    def starts(self) -> list[int]:
        """First rows of the blocks."""
        return self.unit.blocks.starts(self.rows)

    @cached_property
    def vectors(self) -> int:
        return -(-self.tile.places[self.tile.vector].extent // self.tile.lanes)

    @cached_property
    def results(self) -> Memory:
        """Where the accumulators are stored, one block behind the other."""
        return self.unit.workspace.memory("matrix.results", self.unit.blocks.count * self._block, F32)

    @property
    def _block(self) -> int:
        return self.unit.unit.rows * self.tile.lanes

    def _number(self, group: int, block: int, vector: int) -> int:
        """The register of a block of results."""
        blocks = self.unit.blocks
        return (group * blocks.along + block) * blocks.vectors + vector

    @cached_property
    def held(self) -> list[tuple[int, Spot]]:
        """The registers of results, and the first vector of each."""
        tile, axis, lanes = self.tile, self.unit.blocks.axis, self.tile.lanes
        return [(self._number(g, b, v), Spot({**group, axis: start}, tile.vector, v * lanes, lanes, lanes))
                for g, group in enumerate(self.groups) for b, start in enumerate(self.starts)
                for v in range(self.vectors)]

    # -------------------------------------------------------------------------------------------- reduction
    def emit(self, frame: Frame, how: Finish) -> None:
        """Append the tile."""
        unit = self.unit
        few = self.rows < unit.blocks.rows
        if few:
            unit.configure(self.rows)
        if self.tile.stage.rescale is None and self.tile.before is None:
            self._either(how.first, frame, self._zero, partial(self._resume, frame))
            self._reduce(frame)
            whole = replace(how, first=True, last=True)
            self._either(how.last, frame, partial(self._finish, frame, whole), partial(self._wait, frame))
        else:           # each block of the reduction changes what earlier ones have left
            self._zero()
            self._reduce(frame)
            self._finish(frame, how)
        if few:
            unit.configure(unit.blocks.rows)

    def _either(self, condition: Flag, frame: Frame, yes: Callable[[], None], no: Callable[[], None]) -> None:
        def side(append: Callable[[], None]) -> list[str]:
            append()
            return []

        if isinstance(condition, bool):
            (yes if condition else no)()
        else:
            self.unit.code.branch(condition, lambda: scoped(frame, partial(side, yes)),
                                  lambda: scoped(frame, partial(side, no)))

    def _zero(self) -> None:
        for number, _ in self.held:
            self.unit.call(self.unit.unit.zero, self.unit.register(number))

    def _resume(self, frame: Frame) -> None:
        stride = self.partial.form.steps.get(self.unit.blocks.axis, 0)
        for number, spot in self.held:
            self._load(frame, number, self.partial, spot, stride)

    def _wait(self, frame: Frame) -> None:
        stride = self.partial.form.steps.get(self.unit.blocks.axis, 0)
        for number, spot in self.held:
            address = self.tile.values.memory.place(frame, self.partial, Allowed(), spot)
            self.unit.move(self.unit.unit.store, number, self.partial.memory, address, stride)

    def _finish(self, frame: Frame, how: Finish) -> None:
        unit, code = self.unit, self.unit.code
        for number, _ in self.held:
            unit.move(unit.unit.store, number, self.results, code.index(number * self._block), self.tile.lanes)
        finish_parts(self.tile, frame, partial(self._parts, frame), how)

    def _reduce(self, frame: Frame) -> None:
        self._over(list(self.tile.reduction_extents), frame, {}, Prefetches.before(self.tile, frame))

    def _over(self, order: list[str], frame: Frame, offsets: Mapping[str, int], ahead: Prefetches) -> None:
        """Append the loops over the axes in `order` at these places along the others."""
        if not order:
            self._multiply(frame, offsets)
            return
        (axis, *rest), tile, code = order, self.tile, self.unit.code
        extent, step = tile.reduction_extents[axis], self.unit.unit.pairs if axis == tile.dot else 1
        count = max(1, tile.factor(axis) // step) * step
        whole = extent // count * count if extent > count else 0
        fetch = ahead.along(tile, frame, offsets, count // step) if whole and not rest else None

        def body(value: str, _: list[str]) -> list[str]:
            inner = frame.moved(axis, value, whole - count)
            for at in range(0, count, step):
                self._over(rest, inner, {**offsets, axis: at}, ahead)
                if fetch is not None:
                    fetch(value, at // step)
            return []

        if whole:
            code.loop(code.index(0), code.index(whole), count, body)
        for at in range(whole, extent, step):
            self._over(rest, frame, {**offsets, axis: at}, ahead)

    def _multiply(self, frame: Frame, offsets: Mapping[str, int]) -> None:
        """Append one multiplication for each block of results."""
        unit, tile, loaded = self.unit, self.tile, dict[int, tuple]()
        first, free = unit.blocks.count, unit.blocks.count + unit.blocks.vectors
        turn = itertools.cycle(range(free, unit.unit.registers))
        for (g, group), (b, start) in itertools.product(enumerate(self.groups), enumerate(self.starts)):
            scalars = next(turn)
            at = Spot({**group, **offsets, unit.blocks.axis: start})
            self._load(frame, scalars, self.narrow, at, self.narrow.form.steps.get(unit.blocks.axis, 0))
            for vector in range(self.vectors):
                spot = Spot({**group, **offsets}, tile.vector, vector * tile.lanes, tile.lanes, tile.lanes)
                place = (self.wide.form.offset(spot.offsets), vector)
                if loaded.get(first + vector) != place:
                    self._load(frame, first + vector, self.wide, spot, self.wide.form.steps[tile.dot])
                    loaded[first + vector] = place
                unit.call(unit.unit.multiply, unit.register(self._number(g, b, vector)), unit.register(scalars),
                          unit.register(first + vector))

    def _load(self, frame: Frame, register: int, operand: Operand, spot: Spot, stride: int) -> None:
        address = self.tile.values.memory.place(frame, operand, Allowed(), spot)
        self.unit.move(self.unit.unit.load, register, operand.memory, address, stride)

    # -------------------------------------------------------------------------------------------- results
    def _parts(self, frame: Frame, turned: str) -> Iterator[list[tuple[str, Spot]]]:
        """The results, a few at a time, which are loaded when they are asked for.

        turned  the axis along which vectors of them are transposed: a part is what one transposition takes then
        """
        tile, code = self.tile, self.unit.code
        parts: dict[tuple, list[Spot]] = {}
        for spot in tile.spots:
            along = spot.offsets.get(turned, 0) // tile.lanes
            others = tuple(sorted((a, o) for a, o in spot.offsets.items() if a != turned))
            parts.setdefault((others, along, spot.start) if turned else (id(spot),), []).append(spot)
        kind = stored_type(F32, tile.lanes)
        for part in parts.values():
            results = []
            for spot in part:
                fetch_for_others(tile, frame, spot)
                address = code.index(self._place(spot))
                x = code.op(f"vector.load {self.results.ssa}[{address}] : {self.results.type}, {kind}")
                results.append((x, spot))
            yield results

    def _place(self, spot: Spot) -> int:
        """Where the vector of a spot lies among the results."""
        blocks, offsets = self.unit.blocks, spot.offsets
        row = offsets.get(blocks.around, 0) * blocks.gap + offsets.get(blocks.axis, 0)
        block = next(i for i, start in enumerate(self.starts) if row - start < min(blocks.rows, self.rows))
        group = self.groups.index({a: 0 if a in (blocks.axis, blocks.around) else o for a, o in offsets.items()})
        number = self._number(group, block, spot.start // self.tile.lanes)
        return number * self._block + (row - self.starts[block]) * self.tile.lanes
