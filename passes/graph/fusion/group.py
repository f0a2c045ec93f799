"""Stages that share outer axes become one kernel.

Two stages can stand in one kernel when the second reads, in each iteration of the shared outer axes, only what the
first wrote in that iteration (sharing.py says which axes those are).  A value that nobody else reads then lives for one
iteration (or one block of iterations) and never reaches memory: softmax, layer_norm and batch_norm are one kernel each.

Scatters and scans stay alone: they need loops of their own.  So do contractions, but for two with what reduces the rows
of the first between them (chain.py), and for one that replaces state with one that reads the new value (update.py).
A group needs buffers that fit into the second-level cache, and either no more than SMALL points in all, or
MIN_ITERATIONS shared iterations.  Without a reduction only stages of equal size are joined, and large ones only where
they share all axes: an optimiser's state and parameter are then read once for the update of all.

Where an update is made of a result element by element, both are results of one stage (results.py) before that.

A stage is first joined with those that it reads, the largest buffer first; then with stages that reduce what it
reduces, so that memory is read once: the gradients of a norm's scale and shift.  Last, small results that lose nothing
by waiting for each other, as they are outputs, are computed side by side in one kernel: the updates of all biases,
where they need a norm of all gradients first.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Stage
from jtc.passes.graph.fusion.chain import chain
from jtc.passes.graph.fusion.order import replaced
from jtc.passes.graph.fusion.results import join_results
from jtc.passes.graph.fusion.rows import keep_rows
from jtc.passes.graph.fusion.sharing import MAX_OPS, SMALL, Refused, StageFacts, share_axes
from jtc.passes.graph.fusion.units import Unit, Units
from jtc.passes.graph.fusion.update import updated


def group(units: Sequence[Unit], outputs: Iterable[str], types: dict[str, TensorType],
          updates: Mapping[str, str] = MappingProxyType({}), chains: str = "off", carry: bool = False
          ) -> list[Unit]:
    """The units with as many as possible joined, in an order in which they can run.

    units: producers before readers; outputs: buffers that are read outside; types: of every buffer, to which
    those that chains add are added; updates: output -> the input whose next value it is; chains: see chain.CHAINS;
    carry: whether an update of state may be joined with the product that reads the new value.
    """
    wanted = set(outputs)
    units = keep_rows(units, wanted)
    before = {link.new: link.old for link in replaced(units, types, updates)}
    return _Grouping(join_results(units, wanted | before.keys(), wanted), wanted, types, before).run(chains, carry)


class _Grouping:
    """before: new value of state -> the one that it replaces, in its memory where nothing else reads that."""

    def __init__(self, units: Sequence[Unit], outputs: set[str], types: dict[str, TensorType], before: dict[str, str]):
        self.held, self.outputs, self.types, self.before = Units(units), outputs, types, before
        self.lasting = outputs | before.keys()
        self.facts = {id(s): StageFacts(s) for u in self.held.units.values() for s in u.stages}
        self.makers = {s.write.buffer: s for u in self.held.units.values() for s in u.stages}
        self.alone = {n: "many tensors are written into one" if u.apart else _alone(u.stages)
                      for n, u in self.held.units.items()}

    def run(self, chains: str, carry: bool) -> list[Unit]:
        for n in range(len(self.held.units)):
            self.held.enter(n)
            self.with_producers(n)
            self.with_siblings(n)
        if chains != "off":
            self.join_chains(chains)
        if carry:
            self.join_updates()
        self.side_by_side()
        return self.held.in_order()

    def join_chains(self, how: str) -> None:
        """Join a product, what reduces its rows, and the product that this is a factor of."""
        held = self.held
        for n in sorted(held.units):
            for p in held.producers(n) if n in held.units and _is_product(held.units[n]) else ():
                first = next((q for q in held.producers(p) if _is_product(held.units[q])), None)
                if first is None or self.alone[p] or len({held.units[x].fixed for x in (first, p, n)}) > 1:
                    continue
                try:
                    unit = self.chained((first, p, n), how)
                except Refused as reason:
                    _refuse(held.units[first], held.units[p], reason)
                    _refuse(held.units[p], held.units[n], reason)
                    continue
                held.merge(first, p, unit)
                held.merge(p, n, unit)
                break

    def join_updates(self) -> None:
        """Join a product that replaces state, as the update of a weight does, and a product that reads the new value.
        """
        held = self.held
        for n in sorted(held.units):
            for p in held.producers(n) if n in held.units and _is_product(held.units[n]) else ():
                one, two = held.units[p], held.units[n]
                state = set(one.written) & set(two.read) & self.before.keys()
                if not _is_product(one) or one.fixed != two.fixed or not state:
                    continue
                try:
                    if held.between(p, n):
                        raise Refused("another kernel runs between them")
                    self.check_state((one, two))
                    sharing = updated(self.facts[id(one.stages[0])], self.facts[id(two.stages[0])])
                except Refused as reason:
                    _refuse(one, two, reason)
                    continue
                refused = [r for r in one.refused if not r[1].startswith(f"{two.stages[0].write.buffer} ")]
                held.merge(p, n, Unit([*one.stages, *two.stages], one.fixed, refused + two.refused, sharing))
                break

    def chained(self, members: tuple[int, int, int], how: str) -> Unit:
        """One unit of two products and what is between them.  Raises Refused."""
        held, units = self.held, [self.held.units[n] for n in members]
        stages = [s for u in units for s in u.stages]
        if sum(len(s.ops) for s in stages) > MAX_OPS:
            raise Refused(f"a kernel has at most {MAX_OPS} ops")
        first, middle, last = members
        if held.between(first, middle) or held.between(middle, last) or held.between(first, last, but=middle):
            raise Refused("another kernel runs between them")
        self.check_state(units)
        facts = in_order([self.facts[id(s)] for s in stages])
        outside = {b for u in units for b in u.written
                   if b in self.outputs or held.readers.get(b, set()) - set(members)}
        found = chain(facts, outside, self.types, how, self.makers)
        self.facts |= {id(s): StageFacts(s) for s in found.stages}
        written = {a.buffer for s in found.stages for a in s.writes}
        refused = [r for u in units for r in u.refused if r[0] in written]
        if found.note:
            refused.append((found.stages[-1].write.buffer, found.note))
        return Unit(found.stages, units[-1].fixed, refused, found.sharing)

    def check_state(self, units: Sequence[Unit]) -> None:
        """Raise Refused where one of the units replaces in its memory what another one reads."""
        for unit in units:
            for old in {self.before[b] for b in unit.written if b in self.before}:
                if any(old in other.read for other in units if other is not unit):
                    raise Refused(f"{old} is read by a stage before the one that replaces it in its memory")

    def side_by_side(self) -> None:
        """Put small units that share no axes, and of which nothing is read, into one kernel after the other."""
        held, last, points, ops = self.held, -1, 0, 0
        for n in sorted(held.units):
            unit = held.units[n]
            size = sum(self.facts[id(s)].points for s in unit.stages)
            count = sum(len(s.ops) for s in unit.stages)
            if self.alone[n] or unit.sharing.shared or size > SMALL or not set(unit.written) <= self.lasting \
                    or any(held.readers.get(b) for b in unit.written):
                continue
            if last >= 0 and points + size <= SMALL and ops + count <= MAX_OPS and held.independent(last, n) \
                    and held.units[last].fixed == unit.fixed:
                held.merge(last, n, Unit([*held.units[last].stages, *unit.stages], unit.fixed,
                                         held.units[last].refused + unit.refused))
                points, ops = points + size, ops + count
            else:
                points, ops = size, count
            last = n

    def with_producers(self, n: int) -> None:
        held, unit = self.held, self.held.units[n]
        # The largest buffer between two is the one most worth keeping out of memory.
        size = {p: max(self.types[b].bytes for b in held.units[p].written if b in unit.read) for p in held.producers(n)}
        for p in sorted(size, key=lambda p: (-size[p], -p)):
            other = held.units[p]
            if other.fixed != unit.fixed:
                continue
            try:
                held.merge(p, n, self.joined(p, n))
            except Refused as reason:
                other.refused += [(b, f"{unit.stages[-1].write.buffer} does not join: {reason}")
                                  for b in other.written if b in unit.read]

    def with_siblings(self, n: int) -> None:
        """Join units that reduce the same large buffer, where neither reads the other."""
        held, unit = self.held, self.held.units[n]
        if self.alone[n] or not any(s.reduce for s in unit.stages):
            return
        for b in sorted(unit.read, key=lambda b: (-self.types[b].size, b)):
            if self.types[b].size <= max(self.types[w].size for w in unit.written):
                return
            for other in sorted(held.readers[b]):
                if other < n and not self.alone[other] and any(s.reduce for s in held.units[other].stages) \
                        and held.units[other].fixed == unit.fixed and held.independent(other, n):
                    try:
                        held.merge(other, n, self.joined(other, n))
                    except Refused:
                        continue        # no boundary: nothing flows between them

    def joined(self, first: int, second: int) -> Unit:
        """One unit of both.  Raises Refused."""
        held, one, two = self.held, self.held.units[first], self.held.units[second]
        for n in (first, second):
            if self.alone[n]:
                raise Refused(self.alone[n])
        stages = [*one.stages, *two.stages]
        if sum(len(s.ops) for s in stages) > MAX_OPS:
            raise Refused(f"a kernel has at most {MAX_OPS} ops")
        facts = in_order([self.facts[id(s)] for s in stages])
        elementwise = not any(f.reductions for f in facts)
        if elementwise and len({f.points for f in facts}) > 1:
            raise Refused("neither reduces")
        if held.between(first, second):
            raise Refused("another kernel runs between them")
        outside = {b for f in facts for b in f.written
                   if b in self.outputs or held.readers.get(b, set()) - {first, second}}
        sharing = share_axes(facts, outside, self.types)
        if elementwise and facts[0].points > SMALL and len(sharing.shared) < len(facts[0].stage.axes):
            raise Refused("neither reduces, and they share only some axes")
        return Unit([f.stage for f in facts], one.fixed, one.refused + two.refused, sharing)


def _is_product(unit: Unit) -> bool:
    return len(unit.stages) == 1 and not unit.apart and unit.stages[0].factors() is not None


def _refuse(maker: Unit, reader: Unit, reason: Refused) -> None:
    """Note why two units are not one, in place of what was noted before."""
    for b in set(maker.written) & set(reader.read):
        maker.refused = [r for r in maker.refused if r[0] != b]
        maker.refused.append((b, f"{reader.stages[-1].write.buffer} does not join: {reason}"))


def _alone(stages: Sequence[Stage]) -> str:
    """Why a unit's stages are a kernel of their own, "" where they may be grouped."""
    for stage in stages:
        if stage.accumulate:
            return "a scatter has loops of its own"
        if stage.scan:
            return "a scan has loops of its own"
        if stage.factors() is not None:
            return "a contraction has loops of its own"
        if any(a.size == 0 for a in stage.axes):
            return "it is empty"
    return ""


def in_order(stages: Sequence[StageFacts]) -> list[StageFacts]:
    """Producers first; otherwise as given."""
    result: list[StageFacts] = []
    pending = list(stages)
    while pending:
        missing = set().union(*(s.written for s in pending))
        ready = next(s for s in pending if not missing & s.read)
        result.append(ready)
        pending.remove(ready)
    return result
