"""The values of expressions at a spot of the register tile.

What does not move with the lanes is computed as a scalar and broadcast; what the scope has computed is used again.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from jtc.compiler.cpu.code import Code, stored_type, type_of
from jtc.compiler.cpu.memory import MemoryAccess
from jtc.compiler.cpu.operands import Allowed, Operand, Spot, at_spot, check
from jtc.compiler.cpu.places import Form, Frame
from jtc.compiler.cpu.signs import nonpositive
from jtc.compiler.cpu.vector_math import NONPOSITIVE
from jtc.dialects.dtypes import BOOL, DType
from jtc.dialects.expr import Expr, walk
from jtc.dialects.kernel import PAIR, Access, Stage

ACC = "@acc"              # stands among the axes of what depends on the finished reduction
MAX_NESTING = 50          # levels of an expression that one recursion descends


class Evaluator:
    """Computes the expressions of one stage.

    operands  one for each read; a copy in a loop replaces one while the loop is emitted
    scalars   buffer -> SSA name of its only element, where that is still in a register
    """

    def __init__(self, code: Code, stage: Stage, operands: Sequence[Operand], scalars: Mapping[str, str]):
        self.code, self.stage, self.operands, self.scalars = code, stage, list(operands), scalars
        self.memory = MemoryAccess(code, self)
        self.dot = stage.schedule.dot if stage.schedule is not None else ""
        self.indices: dict[Expr, Form] = {}
        self.bounds: dict[Expr, list[tuple[Form, int]]] = {}
        self.axes: dict[Expr, frozenset[str]] = {}
        self.order: dict[Expr, tuple[str, ...]] = {}
        self.nesting: dict[Expr, int] = {}
        self.read_axes: dict[int, frozenset[str]] = {}
        roots = [stage.body, *stage.tails]
        roots += [e for access in stage.accesses for _, e in access.gather]
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
        return self.code.broadcast(self._value(frame, e, Spot(spot.offsets), acc), e.dtype, spot.vector_width)

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
            a, b, c = (self._value(frame, x, spot, acc) for x in (*product.args, other))
            return code.multiply_add(a, b, c, e.dtype, width)
        if e.fn == "cast" and e.args[0].fn == "read" and self.operands[e.args[0].attr].memory.dtype is e.dtype:
            return self.read(frame, e.args[0].attr, spot)       # a copy holds it converted
        args = [self._value(frame, a, spot, acc) for a in e.args]
        if e.fn == "cast":
            return code.convert(args[0], e.args[0].dtype, e.dtype, width)
        return code.apply(e.fn, args, e.args[-1].dtype, width, e.fn in NONPOSITIVE and nonpositive(e.args[0]))

    def _index(self, frame: Frame, form: Form, dtype: DType, spot: Spot) -> str:
        code = self.code
        value, step = at_spot(frame, form, spot)
        element = type_of(dtype, None)
        start = code.op(f"arith.index_cast {code.offset(value.ssa, value.const)} : index to {element}")
        if spot.width is None:
            return start
        kind = type_of(dtype, spot.width)
        return code.op(f"arith.addi {code.broadcast(start, dtype, spot.width)}, "
                       f"{code.ramp(step, spot.width, element)} : {kind}")

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
        return self.memory.mask(allowed, spot)

    def pair(self, frame: Frame, number: int, spot: Spot, alone: bool) -> str:
        """Two neighbours of a 16-bit read along the axis that is walked in pairs, for each lane of the spot: the bits,
        in a vector of twice its width.  alone: the second one is past the end, and 0 in its place."""
        code, operand, width = self.code, self.operands[number], spot.vector_width
        axes = frozenset(operand.form.steps)
        across = spot.axis in axes
        key = ("pair", axes, number, *(spot.offsets.get(a) for a in sorted(axes)), width,
               *((spot.start,) if across else ()))
        found = frame.memo.get(key)
        if found is None:
            memory, address = operand.memory, self.memory.place(frame, operand, Allowed(), spot)
            filled = f"{self.dot}//{PAIR}" in operand.form.terms        # packed in pairs
            element, lanes = stored_type(memory.dtype), stored_type(memory.dtype, PAIR * width)
            if across:
                bits = code.op(f"vector.load {memory.ssa}[{address}] : {memory.type}, {lanes}")
            else:
                if alone and not filled:
                    low = code.op(f"memref.load {memory.ssa}[{address}] : {memory.type}")
                    both = code.op(f"arith.extui {low} : {element} to i32")
                else:
                    neighbours = stored_type(memory.dtype, PAIR)
                    loaded = code.op(f"vector.load {memory.ssa}[{address}] : {memory.type}, {neighbours}")
                    joined = code.op(f"vector.bitcast {loaded} : {neighbours} to vector<1xi32>")
                    both = code.op(f"vector.extract {joined}[0] : i32 from vector<1xi32>")
                spread = code.op(f"vector.broadcast {both} : i32 to vector<{width}xi32>")
                bits = code.op(f"vector.bitcast {spread} : vector<{width}xi32> to {lanes}")
            found = frame.memo[key] = bits
        return found

    def read(self, frame: Frame, number: int, spot: Spot) -> str:
        """The value of a read at the spot."""
        access = self.stage.reads[number]
        if access.buffer in self.scalars:
            x = self.scalars[access.buffer]
            return x if spot.width is None else self.code.broadcast(x, access.dtype, spot.width)
        return self.memory.load(frame, self.operands[number], spot)
