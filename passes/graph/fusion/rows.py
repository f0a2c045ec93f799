"""Before grouping: values that a reduction computes anyway are merged into it, those that nothing reads are dropped."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from jtc.dialects.affine import Affine
from jtc.dialects.kernel import Stage
from jtc.passes.graph.fusion.units import Unit, Units
from jtc.passes.stages import renumber, substitute


def drop_unread(units: Sequence[Unit], outputs: Iterable[str]) -> list[Unit]:
    """The units without those that write nothing that is needed, as where a guard that never holds hid their reader."""
    needed, result = set(outputs), []
    for unit in reversed(units):
        if needed & set(unit.written):
            needed |= set(unit.read)
            result.append(unit)
    return result[::-1]


def keep_rows(units: Sequence[Unit], outputs: set[str]) -> list[Unit]:
    """Merge an elementwise stage into the reduction that reads exactly its result: computed once, reduced, and kept
    where others read it, too."""
    held = Units(units)
    for n in range(len(units)):
        held.enter(n)
        stages = held.units[n].stages
        access = _reduced_value(stages[0]) if len(stages) == 1 else ""
        maker = held.owner.get(access)
        if maker is None or len(held.units[maker].stages) != 1 or held.units[maker].fixed != held.units[n].fixed \
                or held.between(maker, n):
            continue
        merged = _kept(held.units[maker].stages[0], stages[0])
        if merged is not None:
            if access not in outputs and held.readers[access] == {n}:
                merged = replace(merged, keep=None)
            held.merge(maker, n, Unit([merged], held.units[n].fixed))
    return held.in_order()


def _reduced_value(stage: Stage) -> str:
    """The buffer whose elements a stage reduces as they are, each read once; "" where there is none."""
    if stage.reduce is None or stage.accumulate or stage.keep is not None or stage.body.fn != "read":
        return ""
    access = stage.reads[stage.body.attr]
    once = sum(a.buffer == access.buffer for a in stage.reads) == 1
    return access.buffer if once and not access.guards and not access.gather else ""


def _kept(stage: Stage, reduction: Stage) -> Stage | None:
    """The reduction that computes `stage` as its body and keeps it, where it reduces exactly that."""
    access = reduction.reads[reduction.body.attr]
    if stage.reduce is not None or stage.write.guards or access.shape != stage.write.shape:
        return None
    names: dict[str, str] = {}
    for mine, theirs in zip(stage.write.index, access.index):
        one, two = mine.as_axis(), theirs.as_axis()
        if one is None and two is None and mine == theirs:
            continue
        if one is None or two is None or stage.sizes[one] != reduction.sizes[two]:
            return None
        names[one] = two
    if len(set(names.values())) != len(names) or names.keys() != stage.sizes.keys() \
            or set(names.values()) != reduction.sizes.keys():
        return None
    inner = renumber(stage, {n: n + len(reduction.reads) for n in range(len(stage.reads))})
    inner = substitute(inner, {old: Affine.axis(new) for old, new in names.items()})
    merged = replace(reduction, reads=reduction.reads + inner.reads, body=inner.body, keep=inner.write,
                     locs=tuple(dict.fromkeys(stage.locs + reduction.locs)), ops=stage.ops + reduction.ops)
    number = reduction.body.attr
    reads = [n for n in range(len(merged.reads)) if n != number]
    merged = renumber(merged, {old: new for new, old in enumerate(reads)})
    return replace(merged, reads=tuple(merged.reads[n] for n in reads))
