"""The values of expressions at a spot of the register tile.

What does not move with the lanes is computed as a scalar and broadcast; what has been computed in the scope is used again.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from jtc.compiler.cpu.code import Code, stored_type, type_of
from jtc.compiler.cpu.operands import Allowed, Operand, Spot, at_spot, check
from jtc.compiler.cpu.places import Form, Frame, Linear
from jtc.dialects.dtypes import BOOL, I64, DType
from jtc.dialects.expr import Expr, walk
from jtc.dialects.kernel import Access, Stage

ACC = "@acc"              # stands among the axes of what depends on the finished reduction
MAX_NESTING = 50          # levels of an expression that one recursion descends


class Evaluator:
    """Computes the expressions of one stage.

    operands  one for each read; a copy in a loop replaces one while the loop is emitted
    scalars   buffer -> SSA name of its only element, where that is still in a register
    """

    def __init__(self, code: Code, stage: Stage, operands: Sequence[Operand], scalars: Mapping[str, str]):
        self.code, self.stage, self.operands, self.scalars = code, stage, list(operands), scalars
        self.indices: dict[Expr, Form] = {}
        self.bounds: dict[Expr, list[tuple[Form, int]]] = {}
        self.axes: dict[Expr, frozenset[str]] = {}
        self.order: dict[Expr, tuple[str, ...]] = {}
        self.nesting: dict[Expr, int] = {}
        self.read_axes: dict[int, frozenset[str]] = {}
        roots = [stage.body] + ([stage.epilogue] if stage.epilogue is not None else [])
        roots += [e for access in (*stage.reads, stage.write) for _, e in access.gather]
        for root in roots:
            self._survey(root)

    def _survey(self, root: Expr) -> None:
        for e in walk(root):
            if e in self.axes:
                continue
            axes = frozenset().union(*(self.axes[a] for a in e.args))
            if e.fn == "read":
                axes = self.axes_of_read(e.attr)
            elif e.fn == "acc":
                axes = frozenset({ACC})
            elif e.fn == "index":
                self.indices[e], axes = Form.of(e.attr), frozenset(e.attr.axes)
            elif e.fn == "inbounds":
                self.bounds[e] = [(Form.of(g.index), g.size) for g in e.attr]
                axes = frozenset().union(*(g.index.axes for g in e.attr))
            self.axes[e], self.order[e] = axes, tuple(sorted(axes - {ACC}))
            self.nesting[e] = 1 + max((self.nesting[a] for a in e.args), default=0)

    def axes_of_read(self, number: int) -> frozenset[str]:
        """The axes with which the value of a read may change."""
        if number not in self.read_axes:
            self.read_axes[number] = self._axes_of_access(self.stage.reads[number])
        return self.read_axes[number]

    def _axes_of_access(self, access: Access) -> frozenset[str]:
        for _, e in access.gather:
            self._survey(e)
        return frozenset(access.axes).union(*(self.axes[e] for _, e in access.gather))

    def forms(self) -> list[Form]:
        """Every form that a value may need."""
        found = [form for operand in self.operands for form in operand.forms()]
        found += self.indices.values()
        return found + [form for guards in self.bounds.values() for form, _ in guards]

    def moving(self, roots: Iterable[Expr], axis: str) -> bool:
        return any(axis in self.axes[e] for e in roots)

    # -------------------------------------------------------------------------------------------- values
    def value(self, frame: Frame, e: Expr, spot: Spot, acc: str = "") -> str:
        """SSA name of the expression's value at the spot, a vector of `spot.width` or a scalar.

        acc  the finished reduction there, of the same width
        """
        if self.nesting[e] > MAX_NESTING:
            for inner in walk(e):       # bounds the recursion of long chains
                if inner is not e and self.nesting[inner] % MAX_NESTING == 0:
                    self._value(frame, inner, spot, acc)
        return self._value(frame, e, spot, acc)

    def _value(self, frame: Frame, e: Expr, spot: Spot, acc: str) -> str:
        axes = self.axes[e]
        place: tuple = (spot.axis, spot.start, spot.lanes, spot.width) if spot.width is not None else ()
        uniform = place != () and spot.axis not in axes and ACC not in axes
        key = ("value", axes, e, *(spot.offsets.get(a) for a in self.order[e]), spot.width if uniform else place,
               acc if ACC in axes else "")
        found = frame.memo.get(key)
        if found is None:
            if uniform:
                found = self._broadcast(frame, e, spot, acc)
            else:
                found = self._compute(frame, e, spot, acc)
            frame.memo[key] = found
        return found

    def _broadcast(self, frame: Frame, e: Expr, spot: Spot, acc: str) -> str:
        if e.fn == "const":
            return self.code.number(e.attr, e.dtype, spot.width)
        return self.code.broadcast(self._value(frame, e, Spot(spot.offsets), acc), e.dtype, spot.width)

    def _compute(self, frame: Frame, e: Expr, spot: Spot, acc: str) -> str:
        code, width = self.code, spot.width
        if e.fn == "read":
            return self.read(frame, e.attr, spot)
        if e.fn == "const":
            return code.number(e.attr, e.dtype, width)
        if e.fn == "acc":
            return acc
        if e.fn == "index":
            return self._index(frame, self.indices[e], e.dtype, spot)
        if e.fn == "inbounds":
            return self._inbounds(frame, self.bounds[e], spot)
        if e.fn == "add" and e.dtype.is_float and any(a.fn == "mul" for a in e.args):
            product, other = e.args if e.args[0].fn == "mul" else (e.args[1], e.args[0])
            factors = [self._value(frame, a, spot, acc) for a in (*product.args, other)]
            return code.multiply_add(*factors, e.dtype, width)
        args = [self._value(frame, a, spot, acc) for a in e.args]
        if e.fn == "cast":
            return convert(code, args[0], e.args[0].dtype, e.dtype, width)
        return code.apply(e.fn, args, e.args[-1].dtype, width)

    def _index(self, frame: Frame, form: Form, dtype: DType, spot: Spot) -> str:
        code = self.code
        value, step = at_spot(frame, form, spot)
        start = code.op(f"arith.index_cast {code.offset(value.ssa, value.const)} : index to {dtype.name}")
        if spot.width is None:
            return start
        kind = type_of(dtype, spot.width)
        return code.op(f"arith.addi {code.broadcast(start, dtype, spot.width)}, "
                       f"{code.ramp(step, spot.width, dtype.name)} : {kind}")

    def _inbounds(self, frame: Frame, guards: Sequence[tuple[Form, int]], spot: Spot) -> str:
        code, allowed = self.code, Allowed()
        for form, size in guards:
            value, step = at_spot(frame, form, spot)
            check(code, allowed, value, step, size, spot)
        if allowed.never:
            return code.number(False, BOOL, spot.width)
        if allowed.always:
            return code.number(True, BOOL, spot.width)
        if spot.width is None:
            return code.conjunction(allowed.scalars)
        return self._mask(allowed, spot)

    # -------------------------------------------------------------------------------------------- memory
    def allowed(self, frame: Frame, operand: Operand, spot: Spot) -> Allowed:
        """Where guards and gathered indices let the spot touch the operand."""
        result = Allowed()
        for form, size in operand.guards:
            value, step = at_spot(frame, form, spot)
            check(self.code, result, value, step, size, spot)
        for gathered in operand.gather:
            self._gather(frame, result, gathered, spot)
        return result

    def _gather(self, frame: Frame, allowed: Allowed, gathered, spot: Spot) -> None:
        """Add a gathered dimension's part of the address and its bounds."""
        code = self.code
        value, step = at_spot(frame, gathered.form, spot)
        if spot.width is not None and self.moving(gathered.exprs, spot.axis):
            kind, width = type_of(I64, spot.width), spot.width
            moved = None
            for e in gathered.exprs:
                part = convert(code, self.value(frame, e, spot), e.dtype, I64, width)
                moved = part if moved is None else code.op(f"arith.addi {moved}, {part} : {kind}")
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
        total = None
        for e in gathered.exprs:
            part = self.value(frame, e, Spot(spot.offsets))
            total = code.sum(total, code.op(f"arith.index_cast {part} : {e.dtype.name} to index"))
        unknown = 1 << 62
        check(code, allowed, Linear(code.sum(value.ssa, total), value.const, -unknown, unknown), step, gathered.size, spot)
        allowed.offset = code.sum(allowed.offset, code.product(total, gathered.stride))

    def _mask(self, allowed: Allowed, spot: Spot, lanes: int | None = None) -> str:
        """The vector mask of all conditions, and of the first `lanes` lanes where given."""
        code, width = self.code, spot.width
        kind = f"vector<{width}xi1>"
        parts = list(allowed.masks)
        if allowed.scalars:
            parts.append(code.op(f"vector.broadcast {code.conjunction(allowed.scalars)} : i1 to {kind}"))
        bits = allowed.bits or [True] * width
        if lanes is not None:
            bits = [b and lane < lanes for lane, b in enumerate(bits)]
        if not all(bits) or not parts:
            parts.append(code.mask(bits))
        return code.conjunction(parts, kind)

    def read(self, frame: Frame, number: int, spot: Spot) -> str:
        """The value of a read at the spot."""
        access = self.stage.reads[number]
        if access.buffer in self.scalars:
            x = self.scalars[access.buffer]
            return x if spot.width is None else self.code.broadcast(x, access.dtype, spot.width)
        return self.load(frame, self.operands[number], spot)

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
        code, memory, width = self.code, operand.memory, spot.width
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
            mask = self._mask(allowed, spot, tail)
            return code.op(f"vector.maskedload {memory.ssa}[{address}], {mask}, {self._fill(operand, width)} : "
                           f"{memory.type}, vector<{width}xi1>, {kind} into {kind}")
        if whole and spot.full and not allowed.scalars and allowed.offsets is None and step in (-1, 2):
            return self._shuffled_load(frame, operand, allowed, spot, step)
        mask = self._mask(allowed, spot, None if spot.full else spot.lanes)
        address, index, index_kind = self._lane_addresses(frame, operand, allowed, spot)
        return code.op(f"vector.gather {memory.ssa}[{address}] [{index}], {mask}, {self._fill(operand, width)} : "
                       f"{memory.type}, {index_kind}, vector<{width}xi1>, {kind} into {kind}")

    def _may_overrun(self, operand: Operand, spot: Spot) -> bool:
        """Whether the lanes past the end may be read: of a panel, or of memory with room behind it."""
        if operand.form.steps.get(spot.axis) != 1:
            return False
        panel = operand.panels.get(spot.axis, 0)
        if panel:
            tile = dict(self.stage.schedule.loops).get(spot.axis, 0)
            return not (panel % spot.width or spot.start % spot.width or tile % spot.width)
        return operand.memory.slack >= spot.width

    def _shuffled_load(self, frame: Frame, operand: Operand, allowed: Allowed, spot: Spot, step: int) -> str:
        """A reversed vector, or every second element of two."""
        code, memory, width = self.code, operand.memory, spot.width
        kind = stored_type(memory.dtype, width)
        starts, lanes = ([1 - width], [width - 1 - i for i in range(width)]) if step == -1 else \
            ([0, width - 1], [2 * i if 2 * i < width else 2 * i + 1 for i in range(width)])
        parts = [code.op(f"vector.load {memory.ssa}[{self.place(frame, operand, allowed, spot, extra)}] : {memory.type}, {kind}")
                 for extra in starts]
        return code.op(f"vector.shuffle {parts[0]}, {parts[-1]} [{', '.join(map(str, lanes))}] : {kind}, {kind}")

    def _lane_addresses(self, frame: Frame, operand: Operand, allowed: Allowed, spot: Spot) -> tuple[str, str, str]:
        """(address, offsets from it, their type) for gathers and scatters."""
        code, width = self.code, spot.width
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

    def _plain_store(self, frame: Frame, operand: Operand, allowed: Allowed, spot: Spot, x: str, stream: str | None) -> None:
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
            code.branch(stream, lambda: code.line(f"{plain} {hint} : {memory.type}, {kind}") or [],
                        lambda: code.line(f"{plain} : {memory.type}, {kind}") or [])
        elif step == 1:
            self._masked_store(frame, operand, allowed, spot, x)
        else:
            for lane in range(spot.lanes):
                element = stored_type(memory.dtype)
                part = code.op(f"vector.extract {x}[{lane}] : {element} from {kind}")
                address = self.place(frame, operand, allowed, spot, step * lane)
                code.line(f"memref.store {part}, {memory.ssa}[{address}] : {memory.type}")

    def _masked_store(self, frame: Frame, operand: Operand, allowed: Allowed, spot: Spot, x: str) -> None:
        code, memory, width = self.code, operand.memory, spot.width
        kind, mask = stored_type(memory.dtype, width), self._mask(allowed, spot, None if spot.full else spot.lanes)
        if operand.form.steps.get(spot.axis, 0) == 1 and allowed.offsets is None:
            address = self.place(frame, operand, allowed, spot)
            code.line(f"vector.maskedstore {memory.ssa}[{address}], {mask}, {x} : {memory.type}, vector<{width}xi1>, {kind}")
            return
        address, index, index_kind = self._lane_addresses(frame, operand, allowed, spot)
        code.line(f"vector.scatter {memory.ssa}[{address}] [{index}], {mask}, {x} : "
                  f"{memory.type}, {index_kind}, vector<{width}xi1>, {kind}")


def convert(code: Code, x: str, source: DType, to: DType, width: int | None) -> str:
    from jtc.compiler.cpu import vector_math
    return x if source is to else vector_math.convert(code, x, source, to, width)
