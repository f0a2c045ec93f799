"""In which order the dimensions of a value lie in memory.

Inputs and outputs lie as the user has them: row by row.  A value between kernels may lie in any order, and with rows
that are padded, so that they do not crowd a few cache sets.  An order is a permutation of the value's dimensions; a
stage that reads or writes the value has the same axes as before, and other strides.  So no copy is ever made for an
order: where readers want different ones, their packs turn what they read, as they do for inputs.

The orders are chosen together, by what they cost all stages (layout_cost.py).  One value, or all values that stages
walk along the same axis, as those that a network adds to each other are, are moved to have another dimension innermost,
wherever that lowers the sum, until nothing does.  That is a local search: it starts from the user's order, and from all
values with one dimension innermost where that costs less, and the best end counts, the user's where the others gain
next to nothing.  So do single values.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from jtc.dialects.affine import Affine, flatten
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Access, Stage, Storage
from jtc.passes.graph.fusion.layout_cost import CROWD, VECTOR, StageCost
from jtc.passes.graph.fusion.units import Unit
from jtc.passes.stages import map_accesses

LAYOUTS = ("auto", "off", "0", "1", "2", "3")
LEAST = 4_000.0         # cycles that a move has to gain, and as a share of what the stages it touches take:
SHARE = 0.005
SWEEPS = 4

Order = tuple[int, ...]


def choose(units: Sequence[Unit], kept: Iterable[str], fixed: Iterable[str], types: Mapping[str, TensorType],
           layout: str) -> dict[str, Storage]:
    """Buffer -> how it is stored, where that is not row by row.

    kept    buffers that stay as they are: inputs, outputs, constants;  fixed: those known when weights are bound
    layout  auto; off; or the number of the dimension that is to be innermost in all values that have it
    """
    if layout == "off":
        return {}
    stages = [s for u in units for s in u.stages]
    free = _movable(stages, set(kept) | set(fixed), types)
    if layout != "auto":
        return {b: Storage(order, VECTOR // free[b].dtype.bytes, "it is forced")
                for b, order in all_with(int(layout), free).items()}
    search = _Search(stages, free, set(fixed))
    search.run()
    return search.chosen()


def apply(units: Sequence[Unit], types: Mapping[str, TensorType], storage: Mapping[str, Storage]
          ) -> tuple[list[Unit], dict[str, TensorType]]:
    """The units and the types of all buffers where values are stored so."""
    def access(a: Access) -> Access:
        held = storage.get(a.buffer)
        return a if held is None else held.stored(a)

    moved = {b: replace(t, shape=storage[b].shape(t.shape)) if b in storage else t for b, t in types.items()}
    return [replace(u, stages=[map_accesses(s, access) for s in u.stages]) for u in units], moved


def innermost(rank: int, dim: int) -> Order:
    """The dimensions in their order, but for one that is innermost."""
    return (*(d for d in range(rank) if d != dim), dim)


def all_with(dim: int, values: Mapping[str, TensorType]) -> dict[str, Order]:
    """All values that have a dimension, with that one innermost."""
    return {b: innermost(len(t.shape), dim) for b, t in values.items() if dim < len(t.shape)}


def _movable(stages: Sequence[Stage], kept: set[str], types: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """Values whose order is free: between stages, all of which see the same dimensions of it.

    What is gathered keeps its shape, which says whether an index lies outside of it.
    """
    written = {a.buffer for s in stages for a in s.writes}
    free = {b: t for b, t in types.items() if b in written and b not in kept
            and sum(n > 1 for n in t.shape) > 1 and 0 not in t.shape}
    for stage in stages:
        for access in stage.accesses:
            seen = free.get(access.buffer)
            if seen is not None and (access.shape != seen.shape or access.gather or stage.accumulate or stage.scan):
                del free[access.buffer]
    return free


@dataclass(frozen=True, eq=False)
class _Stage:
    """A stage, its free accesses, and what has been found out about others that are the same.

    free  (number among the accesses, buffer)
    """

    cost: StageCost
    free: tuple[tuple[int, str], ...]
    known: dict[tuple[Order | None, ...], float]

    @cached_property
    def plain(self) -> list[Affine]:
        return [a.flat for a in self.cost.stage.accesses]

    def cycles(self, orders: Mapping[str, Order]) -> float:
        key = tuple(orders.get(b) for _, b in self.free)
        if key not in self.known:
            strides, accesses = list(self.plain), self.cost.stage.accesses
            for (number, _), order in zip(self.free, key):
                if order is not None:
                    a = accesses[number]
                    strides[number] = flatten([a.index[d] for d in order], padded(a, order))
            self.known[key] = self.cost.cycles(strides)
        return self.known[key]


def padded(access: Access, order: Order) -> list[int]:
    """The stored shape of a value, with rows that do not crowd."""
    *outer, row = (access.shape[d] for d in order)
    return [*outer, row + padding(row, access.dtype.bytes)]


def padding(row: int, size: int) -> int:
    """Elements of `size` bytes by which rows of so many are longer, so that they do not crowd."""
    return VECTOR // size if row * size % CROWD == 0 else 0


class _Search:
    """orders: buffer -> its order, where that is not the user's."""

    def __init__(self, stages: Sequence[Stage], free: Mapping[str, TensorType], fixed: set[str]):
        self.free, self.orders = free, dict[str, Order]()
        forms: dict[tuple, dict[tuple[Order | None, ...], float]] = {}
        reads = Counter((a.buffer, a.shape, a.index) for s in stages for a in s.reads if a.buffer not in free)
        self.stages: list[_Stage] = []
        self.touched: dict[str, list[_Stage]] = {}
        for stage in stages:
            found = tuple((i, a.buffer) for i, a in enumerate(stage.accesses) if a.buffer in free)
            if not found:
                continue
            cost = StageCost(stage, tuple(a.buffer in fixed for a in stage.reads),
                             tuple(reads.get((a.buffer, a.shape, a.index), 1) for a in stage.reads))
            held = _Stage(cost, found, forms.setdefault((cost.form, *(i for i, _ in found)), {}))
            self.stages.append(held)
            for _, buffer in found:
                self.touched.setdefault(buffer, []).append(held)

    def run(self) -> None:
        moves = [*self._together(), *({b: innermost(len(t.shape), d)} for b, t in self.free.items()
                                      for d, n in enumerate(t.shape) if n > 1)]
        best, plain = self._descend({}, moves), self._total({})
        for start in self._starts():
            if self._total(start) >= plain:
                continue                # a long way down, and seldom further
            end = self._descend(start, moves)
            if self._total(end) < (1 - SHARE) * self._total(best):
                best = end
        self.orders = best
        for buffer in list(self.orders):
            self._go_back(buffer)

    def _starts(self) -> Iterator[dict[str, Order]]:
        """All values with one dimension innermost."""
        for dim in range(max((len(t.shape) for t in self.free.values()), default=0)):
            yield all_with(dim, self.free)

    def _descend(self, start: Mapping[str, Order], moves: Sequence[Mapping[str, Order]]) -> dict[str, Order]:
        self.orders = dict(start)
        for _ in range(SWEEPS):
            if not any([self._gains(move) for move in moves]):
                break
        return self.orders

    def _total(self, orders: Mapping[str, Order]) -> float:
        return sum(s.cycles(orders) for s in self.stages)

    def _go_back(self, buffer: str) -> None:
        """To the user's order, where another one gains next to nothing."""
        now, then = self._with_and_without(buffer)
        if then - now < max(LEAST, SHARE * then):
            self.orders = {b: o for b, o in self.orders.items() if b != buffer}

    def _with_and_without(self, buffer: str) -> tuple[float, float]:
        """Cycles of all stages that touch a value, as it lies now and as the user has it."""
        others = {b: o for b, o in self.orders.items() if b != buffer}
        now, then = (sum(s.cycles(orders) for s in self.touched[buffer]) for orders in (self.orders, others))
        return now, then

    def _gains(self, move: Mapping[str, Order]) -> bool:
        """Whether a move lowers the sum; it is made then."""
        if all(self._order(b) == order for b, order in move.items()):
            return False
        stages = list({id(s): s for b in move for s in self.touched[b]}.values())
        before = sum(s.cycles(self.orders) for s in stages)
        orders = {**self.orders, **move}
        after = sum(s.cycles(orders) for s in stages)
        if before - after < max(LEAST, SHARE * before):
            return False
        self.orders = orders
        return True

    def _order(self, buffer: str) -> Order:
        return self.orders.get(buffer, tuple(range(len(self.free[buffer].shape))))

    def _together(self) -> Iterator[dict[str, Order]]:
        """Moves of all values that stages walk along one axis, to have that innermost."""
        parent: dict[tuple[str, int], tuple[str, int]] = {}

        def root(x: tuple[str, int]) -> tuple[str, int]:
            while parent.setdefault(x, x) != x:
                x = parent[x]
            return x

        for held in self.stages:
            first: dict[str, tuple[str, int]] = {}
            accesses = held.cost.stage.accesses
            for number, buffer in held.free:
                for dim, form in enumerate(accesses[number].index):
                    axis = form.as_axis()
                    if axis is not None and self.free[buffer].shape[dim] > 1:
                        parent[root((buffer, dim))] = root(first.setdefault(axis, (buffer, dim)))
        classes: dict[tuple[str, int], dict[str, int]] = {}
        for buffer, dim in list(parent):
            classes.setdefault(root((buffer, dim)), {})[buffer] = dim
        for found in classes.values():
            if len(found) > 1:
                yield {b: innermost(len(self.free[b].shape), d) for b, d in found.items()}

    def chosen(self) -> dict[str, Storage]:
        found = {}
        for buffer, order in self.orders.items():
            shape = self.free[buffer].shape
            if order == tuple(range(len(shape))):
                continue
            now, then = self._with_and_without(buffer)
            pad = padding(shape[order[-1]], self.free[buffer].dtype.bytes)
            found[buffer] = Storage(order, pad, f"estimated to save {then - now:.3g} cycles")
        return found
