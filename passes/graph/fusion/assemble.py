"""Stages -> Program: groups, names, reasons."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from jtc.dialects.expr import walk
from jtc.dialects.graph import Graph, Node, TensorType
from jtc.dialects.kernel import Kernel, Program, Stage
from jtc.passes.graph.fusion.build import Built
from jtc.passes.graph.fusion.group import group
from jtc.passes.graph.fusion.layout import apply, choose
from jtc.passes.graph.fusion.order import launch_order
from jtc.passes.graph.fusion.plan import Plan, is_source, weight_only
from jtc.passes.graph.fusion.rows import drop_unread
from jtc.passes.graph.fusion.sharing import finish
from jtc.passes.graph.fusion.units import Unit

LABEL_PARTS = 4
_LABELS = {"add": "sum", "mul": "prod"}
_SILENT = frozenset({"read", "const", "acc", "index", "inbounds", "cast", "where"})


def assemble(graph: Graph, outputs: Sequence[Node], plan: Plan, built: Mapping[int, Built], names: Mapping[int, str],
             grouped: bool, chains: str, carry: bool, layout: str) -> Program:
    """The program of all stages.  grouped: whether stages are; chains: how products with reduced rows between them are
    (see chain.CHAINS); carry: whether those that replace state are joined with those that read it; layout: see
    layout.choose."""
    fixed = weight_only(plan.order)
    types: dict[str, TensorType] = {names[id(n)]: n.type for n in plan.order if plan.has_buffer(n)}
    written = [names[id(n)] for n in outputs]
    units = drop_unread([Unit(list(built[id(n)].stages), id(n) in fixed, apart=n.op == "concat")
                         for n in plan.roots()], written)
    known = {names[id(n)] for n in plan.order if id(n) in fixed and plan.has_buffer(n)}
    storage = choose(units, [names[id(n)] for n in plan.order if is_source(n)] + written, known, types, layout)
    units, types = apply(units, types, storage)
    updates = {written[new]: names[id(graph.inputs[old])] for new, old in graph.updates.items()}
    if grouped:
        units = group(units, written, types, updates, chains, carry)
    recorded = {names[id(n)]: n.order for n in plan.order if plan.has_buffer(n)}
    units = launch_order(units, written, types, recorded, updates)
    reasons = {names[key]: text for key, text in plan.reasons.items()}
    kernels: list[Kernel] = []
    for unit, own in ((u, own) for u in units for own in ([[s] for s in u.stages] if u.apart else [u.stages])):
        stages, shared, local = finish(own, unit.sharing, types)
        stages = [replace(s, name=f"s{i}") for i, s in enumerate(stages)]
        hidden = {b.name for b in local}
        why = [(a.buffer, reasons[a.buffer]) for s in stages for a in s.writes if a.buffer not in hidden]
        kernels.append(Kernel(f"k{len(kernels)}_{label(stages)}", tuple(stages), shared, tuple(local),
                              tuple(dict.fromkeys([*why, *(r for r in unit.refused if r[0] not in hidden)])),
                              needed=unit.sharing.needed))
    touched = {b for k in kernels for b in k.operands}.union(names[id(n)] for n in plan.order if is_source(n))
    constants = {names[id(n)]: n.data for n in plan.order if is_source(n) and n.op == "constant"}
    return Program(graph.name, [names[id(n)] for n in graph.inputs], written,
                   {b: t for b, t in types.items() if b in touched}, kernels, constants,
                   list(graph.input_names), list(graph.output_names), updates,
                   {b: s for b, s in storage.items() if b in touched})


def label(stages: Sequence[Stage]) -> str:
    """A short name of what stages compute: "dot_add_max", "max_exp_sum"; "copy" where nothing is."""
    parts: list[str] = []
    for stage in stages:
        if stage.factors() is not None:
            parts.append("dot")
        else:
            parts += [e.fn for e in walk(stage.body) if e.fn not in _SILENT]
            if stage.scan:
                parts.append("scan")
            elif stage.reduce is not None:
                parts.append(_LABELS.get(stage.reduce, stage.reduce))
        parts += [e.fn for root in stage.tails for e in walk(root) if e.fn not in _SILENT]
    found = list(dict.fromkeys(parts))
    return "_".join(found[:LABEL_PARTS]) or "copy"
