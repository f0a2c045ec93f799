"""Loads and stores at a spot of the register tile: plain, masked, broadcast, reversed, strided, gathered, scattered.

What a guard does is decided as early as it can be: nothing where it surely holds, the fill where it surely does not, a
constant mask, a condition on a scalar, and only then a mask that is computed.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from jtc.compiler.cpu.code import Code, stored_type, type_of
from jtc.compiler.cpu.operands import Allowed, Gathered, Operand, Spot, at_spot, check
from jtc.compiler.cpu.places import Frame, Linear
from jtc.dialects.dtypes import BOOL, I64
from jtc.dialects.expr import Expr

UNKNOWN = 1 << 62       # bound of an index that depends on data
SCATTERED = (4, 8)      # bytes of elements that one instruction stores to places apart, where there are lane masks: it
                        # takes as long as a store of each (measured), and LLVM a third of the time


def _aligned_parts(lanes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first lane, how many) of the fewest parts of these lanes that are powers of two and begin at multiples of it."""
    rest = frozenset(lanes)
    while rest:
        at, size = min(rest), 1
        while at % (2 * size) == 0 and rest.issuperset(range(at, at + 2 * size)):
            size *= 2
        yield at, size
        rest -= frozenset(range(at, at + size))


class Values(Protocol):
    """What an access asks of the evaluator where its index holds data."""

    def value(self, frame: Frame, e: Expr, spot: Spot, acc: str = "") -> str: ...

    def moving(self, roots: Iterable[Expr], axis: str) -> bool: ...


class MemoryAccess:
    """Writes the loads and stores of one stage."""

    def __init__(self, code: Code, values: Values):
        self.code, self.values = code, values

    def allowed(self, frame: Frame, operand: Operand, spot: Spot) -> Allowed:
        """Where guards and gathered indices let the spot touch the operand."""
        result = Allowed()
        for form, size in operand.guards:
            value, step = at_spot(frame, form, spot)
            check(self.code, result, value, step, size, spot)
        for gathered in operand.gather:
            self._gather(frame, result, gathered, spot)
        return result

    def _gather(self, frame: Frame, allowed: Allowed, gathered: Gathered, spot: Spot) -> None:
        """Add a gathered dimension's part of the address and its bounds."""
        code = self.code
        value, step = at_spot(frame, gathered.form, spot)
        if spot.width is not None and self.values.moving(gathered.exprs, spot.axis):
            kind, width = type_of(I64, spot.width), spot.vector_width
            moved, *others = [code.convert(self.values.value(frame, e, spot), e.dtype, I64, width)
                              for e in gathered.exprs]
            for part in others:
                moved = code.op(f"arith.addi {moved}, {part} : {kind}")
            start = code.op(f"arith.index_cast {code.offset(value.ssa, value.const)} : index to i64")
            index = code.op(f"arith.addi {code.broadcast(start, I64, width)}, {moved} : {kind}")
            if step:
                index = code.op(f"arith.addi {index}, {code.ramp(step, width, 'i64')} : {kind}")
            allowed.masks.append(code.op(
                f"arith.cmpi ult, {index}, {code.number(gathered.size, I64, width)} : {kind}"))
            part = code.op(f"arith.muli {moved}, {code.number(gathered.stride, I64, width)} : {kind}")
            allowed.offsets = part if allowed.offsets is None else code.op(
                f"arith.addi {allowed.offsets}, {part} : {kind}")
            return
        parts = [(self.values.value(frame, e, Spot(spot.offsets)), e.dtype) for e in gathered.exprs]
        indices = [code.op(f"arith.index_cast{'ui' * (dtype.kind == 'uint')} {x} : {type_of(dtype, None)} to index")
                   for x, dtype in parts]
        total = indices[0]
        for x in indices[1:]:
            total = code.op(f"arith.addi {total}, {x} : index")
        place = Linear(code.sum(value.ssa, total), value.const, -UNKNOWN, UNKNOWN)
        check(code, allowed, place, step, gathered.size, spot)
        allowed.offset = code.sum(allowed.offset, code.product(total, gathered.stride))

    def mask(self, allowed: Allowed, spot: Spot, lanes: int | None = None) -> str:
        """The vector mask of all conditions, and of the first `lanes` lanes where given."""
        code, width = self.code, spot.vector_width
        kind = f"vector<{width}xi1>"
        parts = list(allowed.masks)
        if allowed.scalars:
            parts.append(code.op(f"vector.broadcast {code.conjunction(allowed.scalars)} : i1 to {kind}"))
        bits = allowed.bits or [True] * spot.vector_width
        if lanes is not None:
            bits = [b and lane < lanes for lane, b in enumerate(bits)]
        if not all(bits) or not parts:
            parts.append(code.mask(bits))
        return code.conjunction(parts, kind)

    def load(self, frame: Frame, operand: Operand, spot: Spot) -> str:
        """The operand's elements at the spot, `fill` where a guard does not hold."""
        allowed = self.allowed(frame, operand, spot)
        memory = operand.memory
        if allowed.never or memory.count == 0:
            return self.code.number(operand.fill, memory.dtype, spot.width)
        if spot.width is None:
            x = self._scalar_load(frame, operand, allowed, spot)
        else:
            x = self._vector_load(frame, operand, allowed, spot)
        if memory.dtype is BOOL:
            kind = stored_type(BOOL, spot.width)
            zero = self.code.constant("0" if spot.width is None else "dense<0>", kind)
            x = self.code.op(f"arith.cmpi ne, {x}, {zero} : {kind}")
        return x

    def _fill(self, operand: Operand, width: int | None) -> str:
        """The fill as it would stand in memory."""
        if operand.memory.dtype is BOOL:
            text = str(int(bool(operand.fill)))
            return self.code.constant(text if width is None else f"dense<{text}>", stored_type(BOOL, width))
        return self.code.number(operand.fill, operand.memory.dtype, width)

    def place(self, frame: Frame, operand: Operand, allowed: Allowed, spot: Spot, extra: int = 0) -> str:
        """Index of the spot's first element (without what is gathered lane by lane)."""
        step = operand.form.steps.get(spot.axis, 0)
        address = frame.address(operand.form, operand.form.offset(spot.offsets) + step * spot.start + extra)
        return address if allowed.offset is None else self.code.op(f"arith.addi {address}, {allowed.offset} : index")

    def _scalar_load(self, frame: Frame, operand: Operand, allowed: Allowed, spot: Spot) -> str:
        code, memory = self.code, operand.memory
        address = self.place(frame, operand, allowed, spot)
        if not allowed.scalars:
            return code.op(f"memref.load {memory.ssa}[{address}] : {memory.type}")
        inside = code.conjunction(allowed.scalars)
        address = code.select(inside, address, code.index(0), "index")
        x = code.op(f"memref.load {memory.ssa}[{address}] : {memory.type}")
        return code.select(inside, x, self._fill(operand, None), stored_type(memory.dtype))

    def _vector_load(self, frame: Frame, operand: Operand, allowed: Allowed, spot: Spot) -> str:
        code, memory, width = self.code, operand.memory, spot.vector_width
        step = operand.form.steps.get(spot.axis, 0)
        kind = stored_type(memory.dtype, width)
        free = allowed.bits is None and not allowed.masks       # nothing differs from lane to lane
        if step == 0 and free and allowed.offsets is None:
            element = stored_type(memory.dtype)
            x = self._scalar_load(frame, operand, allowed, spot)
            return code.op(f"vector.broadcast {x} : {element} to {kind}")
        tail = None if spot.full or self._may_overrun(operand, spot) else spot.lanes
        whole = free and tail is None
        if step == 1 and allowed.offsets is None:
            address = self.place(frame, operand, allowed, spot)
            if whole and not allowed.scalars:
                return code.op(f"vector.load {memory.ssa}[{address}] : {memory.type}, {kind}")
            if whole and memory.count >= width:
                inside = code.conjunction(allowed.scalars)
                address = code.select(inside, address, code.index(0), "index")
                x = code.op(f"vector.load {memory.ssa}[{address}] : {memory.type}, {kind}")
                return code.select(inside, x, self._fill(operand, width), kind)
            mask = self.mask(allowed, spot, tail)
            return code.op(f"vector.maskedload {memory.ssa}[{address}], {mask}, {self._fill(operand, width)} : "
                           f"{memory.type}, vector<{width}xi1>, {kind} into {kind}")
        if whole and spot.full and not allowed.scalars and allowed.offsets is None and step in (-1, 2):
            return self._shuffled_load(frame, operand, allowed, spot, step)
        mask = self.mask(allowed, spot, None if spot.full else spot.lanes)
        address, index, index_kind = self._lane_addresses(frame, operand, allowed, spot)
        return code.op(f"vector.gather {memory.ssa}[{address}] [{index}], {mask}, {self._fill(operand, width)} : "
                       f"{memory.type}, {index_kind}, vector<{width}xi1>, {kind} into {kind}")

    def _may_overrun(self, operand: Operand, spot: Spot) -> bool:
        """Whether the lanes past the end may be read: of a panel, or of memory with room behind it."""
        width, panel = spot.vector_width, operand.panels.get(spot.axis, 0)
        if operand.form.steps.get(spot.axis) != 1:
            return False
        return panel > 0 and not panel % width and not spot.start % width or operand.memory.slack >= width

    def _shuffled_load(self, frame: Frame, operand: Operand, allowed: Allowed, spot: Spot, step: int) -> str:
        """A reversed vector, or every second element of two."""
        code, memory, width = self.code, operand.memory, spot.vector_width
        kind = stored_type(memory.dtype, width)
        starts, lanes = ([1 - width], [width - 1 - i for i in range(width)]) if step == -1 else \
            ([0, width - 1], [2 * i if 2 * i < width else 2 * i + 1 for i in range(width)])
        places = [self.place(frame, operand, allowed, spot, extra) for extra in starts]
        parts = [code.op(f"vector.load {memory.ssa}[{place}] : {memory.type}, {kind}") for place in places]
        return code.op(f"vector.shuffle {parts[0]}, {parts[-1]} [{', '.join(map(str, lanes))}] : {kind}, {kind}")

    def _lane_addresses(self, frame: Frame, operand: Operand, allowed: Allowed, spot: Spot) -> tuple[str, str, str]:
        """(address, offsets from it, their type) for gathers and scatters."""
        code, width = self.code, spot.vector_width
        step = operand.form.steps.get(spot.axis, 0)
        address = self.place(frame, operand, allowed, spot)
        small = operand.memory.count < 1 << 30
        element = "i32" if small else "i64"
        kind = f"vector<{width}x{element}>"
        if allowed.offsets is None:
            return address, code.ramp(step, width, element), kind
        index = allowed.offsets
        if small:       # lanes that are out of bounds may wrap: they are masked
            index = code.op(f"arith.trunci {index} : vector<{width}xi64> to {kind}")
        if step:
            index = code.op(f"arith.addi {index}, {code.ramp(step, width, element)} : {kind}")
        return address, index, kind

    def store(self, frame: Frame, operand: Operand, spot: Spot, x: str, stream: str | None = None) -> None:
        """Write a value of the operand's dtype where the guards hold.

        stream  condition under which the address is aligned, so that the store may bypass the caches
        """
        code, memory, width = self.code, operand.memory, spot.width
        allowed = self.allowed(frame, operand, spot)
        if allowed.never or memory.count == 0:
            return
        if memory.dtype is BOOL:
            x = code.op(f"arith.extui {x} : {type_of(BOOL, width)} to {stored_type(BOOL, width)}")
        if width is not None and (allowed.masks or allowed.bits):
            self._masked_store(frame, operand, allowed, spot, x)
            return
        if allowed.scalars:
            inside, allowed.scalars = code.conjunction(allowed.scalars), []
            memo = dict(frame.memo)     # what the branch computes is not known after it

            def guarded() -> list[str]:
                self._plain_store(frame, operand, allowed, spot, x, None)
                return []
            code.branch(inside, guarded)
            frame.memo = memo
        else:
            self._plain_store(frame, operand, allowed, spot, x, stream)

    def _plain_store(self, frame: Frame, operand: Operand, allowed: Allowed, spot: Spot, x: str,
                     stream: str | None) -> None:
        code, memory, width = self.code, operand.memory, spot.width
        if width is None:
            code.line(f"memref.store {x}, {memory.ssa}[{self.place(frame, operand, allowed, spot)}] : {memory.type}")
            return
        step, kind = operand.form.steps.get(spot.axis, 0), stored_type(memory.dtype, width)
        if step == 1 and spot.full:
            address = self.place(frame, operand, allowed, spot)
            plain = f"vector.store {x}, {memory.ssa}[{address}]"
            if stream is None:
                code.line(f"{plain} : {memory.type}, {kind}")
                return
            size = width * memory.dtype.bytes
            hint = f"{{nontemporal = true, alignment = {size} : i64}}"
            code.branch(stream, lambda: code.lines_of(f"{plain} {hint} : {memory.type}, {kind}"),
                        lambda: code.lines_of(f"{plain} : {memory.type}, {kind}"))
        elif step == 1 or code.target.masks and memory.dtype.bytes in SCATTERED:
            self._masked_store(frame, operand, allowed, spot, x)
        else:
            for lane in range(spot.lanes):
                element = stored_type(memory.dtype)
                part = code.op(f"vector.extract {x}[{lane}] : {element} from {kind}")
                address = self.place(frame, operand, allowed, spot, step * lane)
                code.line(f"memref.store {part}, {memory.ssa}[{address}] : {memory.type}")

    def _masked_store(self, frame: Frame, operand: Operand, allowed: Allowed, spot: Spot, x: str) -> None:
        code, memory, width = self.code, operand.memory, spot.width
        kind, step = stored_type(memory.dtype, width), operand.form.steps.get(spot.axis, 0)
        known = not (allowed.masks or allowed.scalars or allowed.offsets)
        bits = allowed.bits or [True] * spot.vector_width
        lanes = [lane for lane in range(spot.lanes) if bits[lane]]
        # Of one lane, LLVM 22 makes a scalar store, too wide by what the value is converted from on the way to memory.
        if known and (len(lanes) == 1 or step == 1 and not code.target.masks):
            self._store_parts(frame, operand, allowed, spot, x, lanes)
            return
        mask = self.mask(allowed, spot, None if spot.full else spot.lanes)
        if step == 1 and allowed.offsets is None:
            address = self.place(frame, operand, allowed, spot)
            code.line(f"vector.maskedstore {memory.ssa}[{address}], {mask}, {x} : "
                      f"{memory.type}, vector<{width}xi1>, {kind}")
            return
        address, index, index_kind = self._lane_addresses(frame, operand, allowed, spot)
        code.line(f"vector.scatter {memory.ssa}[{address}] [{index}], {mask}, {x} : "
                  f"{memory.type}, {index_kind}, vector<{width}xi1>, {kind}")

    def _store_parts(self, frame: Frame, operand: Operand, allowed: Allowed, spot: Spot, x: str,
                     lanes: Sequence[int]) -> None:
        """Write these lanes, neighbours together where they are a half, a quarter... of the vector.

        Without lane masks in registers of their own a masked store is worse: 25 cycles with AVX2 on Zen 3 (measured),
        elements one by one without AVX.
        """
        code, memory, kind = self.code, operand.memory, stored_type(operand.memory.dtype, spot.width)
        for start, size in _aligned_parts(lanes):
            address = self.place(frame, operand, allowed, spot, operand.form.steps.get(spot.axis, 0) * start)
            if size == 1:
                element = stored_type(memory.dtype)
                part = code.op(f"vector.extract {x}[{start}] : {element} from {kind}")
                code.line(f"memref.store {part}, {memory.ssa}[{address}] : {memory.type}")
                continue
            piece = stored_type(memory.dtype, size)
            at = f"{{offsets = [{start}], sizes = [{size}], strides = [1]}}"
            part = code.op(f"vector.extract_strided_slice {x} {at} : {kind} to {piece}")
            code.line(f"vector.store {part}, {memory.ssa}[{address}] : {memory.type}, {piece}")
