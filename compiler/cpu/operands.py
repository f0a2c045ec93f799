"""Operands: memory seen through a linear address, guards and gathered indices, and the spots of a register tile."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from jtc.compiler.cpu.code import Code, stored_type
from jtc.compiler.cpu.places import Form, Frame, Linear, Place
from jtc.dialects.affine import split_term
from jtc.dialects.dtypes import DType
from jtc.dialects.expr import Expr
from jtc.dialects.kernel import Access


@dataclass(frozen=True, slots=True)
class Memory:
    """A flat memref of `count` elements.  `slack`: elements past the end that may be read."""

    ssa: str
    count: int
    dtype: DType
    slack: int = 0

    @property
    def type(self) -> str:
        return f"memref<{self.count + self.slack}x{stored_type(self.dtype)}>"


@dataclass(frozen=True, slots=True)
class Gathered:
    """One dimension whose index has data in it: form + sum(exprs) must lie in [0, size)."""

    form: Form
    size: int
    stride: int
    exprs: tuple[Expr, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Operand:
    """An access as code addresses it.

    guards  (form, size): 0 <= form < size, else `fill`
    panels  axis -> width of a panel along which whole vectors may be loaded, past the axis's end too
    source  of a copy made in a loop: what it copies
    """

    memory: Memory
    form: Form
    guards: tuple[tuple[Form, int], ...] = ()
    fill: bool | int | float = 0
    gather: tuple[Gathered, ...] = ()
    panels: Mapping[str, int] = field(default_factory=dict)
    source: Operand | None = None

    @staticmethod
    def of(access: Access, memory: Memory, origin: Mapping[str, Place]) -> Operand:
        """origin  the start of the shared block, for a local buffer; empty for others."""
        by_dim: dict[int, list[Expr]] = {}
        for dim, e in access.gather:
            by_dim.setdefault(dim, []).append(e)
        gather = tuple(Gathered(Form.of(access.index[dim], origin), access.shape[dim], prod(access.shape[dim + 1:]),
                                tuple(es)) for dim, es in by_dim.items())
        flat = access.flat
        panels = {}
        for term in flat.terms:
            axis, digit, size = split_term(term)
            if digit == "%":
                panels[axis] = size
        guards = tuple((Form.of(g.index), g.size) for g in access.guards)
        return Operand(memory, Form.of(flat, origin), guards, access.fill, gather, panels)

    def forms(self) -> list[Form]:
        return [self.form, *(form for form, _ in self.guards), *(g.form for g in self.gather)]


@dataclass(frozen=True, slots=True)
class Spot:
    """Part of the register tile: one point, or `lanes` points along `axis` from `start` on, in a vector of `width`.

    offsets  axis -> distance from the tile's start; without `axis`
    """

    offsets: Mapping[str, int]
    axis: str = ""
    start: int = 0
    lanes: int = 1
    width: int | None = None

    def point(self, lane: int) -> Spot:
        """One lane as a scalar."""
        return Spot({**self.offsets, self.axis: self.start + lane} if self.axis else self.offsets)

    @property
    def full(self) -> bool:
        return self.lanes == self.width

    @property
    def vector_width(self) -> int:
        """The width, of a spot that is a vector."""
        assert self.width is not None
        return self.width


@dataclass(slots=True)
class Allowed:
    """Where guards let a spot touch memory.

    never    nowhere
    scalars  conditions (i1) on all lanes together
    bits     lanes known to be allowed; None: all of them
    masks    conditions lane by lane
    offset   gathered part of the address, an index; offsets: the same lane by lane, i64
    """

    never: bool = False
    scalars: list[str] = field(default_factory=list)
    bits: list[bool] | None = None
    masks: list[str] = field(default_factory=list)
    offset: str | None = None
    offsets: str | None = None

    @property
    def always(self) -> bool:
        return not (self.never or self.scalars or self.bits or self.masks)


def check(code: Code, allowed: Allowed, value: Linear, step: int, size: int, spot: Spot) -> None:
    """Add the condition 0 <= value < size at the spot, whose lanes are `step` apart."""
    reach = step * (spot.lanes - 1)
    low, high = value.low + min(0, reach), value.high + max(0, reach)
    if low >= 0 and high < size:
        return
    if size <= 0 or high < 0 or low >= size:
        allowed.never = True
    elif spot.width is None or not step:
        allowed.scalars.append(code.op(
            f"arith.cmpi ult, {code.offset(value.ssa, value.const)}, {code.index(size)} : index"))
    elif value.ssa is None:
        bits = allowed.bits or [True] * spot.width
        allowed.bits = [b and 0 <= value.const + step * lane < size for lane, b in enumerate(bits)]
        allowed.never = allowed.never or not any(allowed.bits[:spot.lanes])
    else:
        element = "i32" if max(-low, high, size) < 1 << 30 else "i64"
        kind = f"vector<{spot.width}x{element}>"
        start = code.op(f"arith.index_cast {code.offset(value.ssa, value.const)} : index to {element}")
        start = code.op(f"vector.broadcast {start} : {element} to {kind}")
        lanes = code.op(f"arith.addi {start}, {code.ramp(step, spot.width, element)} : {kind}")
        bound = code.constant(f"dense<{size}>", kind)
        allowed.masks.append(code.op(f"arith.cmpi ult, {lanes}, {bound} : {kind}"))


def at_spot(frame: Frame, form: Form, spot: Spot) -> tuple[Linear, int]:
    """The form's value at the first lane of the spot, and the step from lane to lane."""
    step = form.steps.get(spot.axis, 0)
    extra = form.offset(spot.offsets) + step * spot.start
    value = frame.values[form]
    return Linear(value.ssa, value.const + extra, value.low + extra, value.high + extra), step
