"""What must hold of a program in memory, checked between phases; where something is wrong, after every pass.

The graph's rules are those of the op table, the kernels' those of `dialects/rules.py`, the schedules' those of
`passes/kernel/legality.py`.
"""
from __future__ import annotations

from jtc.dialects import optable, rules
from jtc.dialects.errors import InputError
from jtc.dialects.graph import Graph, Weights
from jtc.dialects.kernel import Program
from jtc.dialects.target import CpuTarget


class VerifyError(InputError):
    """A program that breaks a rule of its phase."""


def verify_graph(graph: Graph, sound: rules.Sound | None = None) -> None:
    """Types are what the op table says, constants have their shape, inputs are inputs.  Raises VerifyError.

    sound: nodes that were verified before, and are not again; added to
    """
    for names, nodes, what in ((graph.input_names, graph.inputs, "input"),
                               (graph.output_names, graph.outputs, "output")):
        if names and len(names) != len(nodes):
            raise VerifyError(f"graph {graph.name}: {len(nodes)} {what}s with {len(names)} names")
    for new, old in graph.updates.items():
        if not 0 <= new < len(graph.outputs) or not 0 <= old < len(graph.inputs) \
                or graph.outputs[new].type != graph.inputs[old].type:
            raise VerifyError(f"graph {graph.name}: output {new} is no next value of input {old}")
    arguments = {id(n) for n in graph.inputs}
    for node in graph.nodes():
        if (node.op == "input") != (id(node) in arguments):
            raise VerifyError(f"graph {graph.name}: {node!r} is an input only in one of two places", node.loc)
        if node.op == "input" or sound is not None and (node,) in sound:
            continue
        try:
            expected = optable.infer(node.op, [a.type for a in node.args], node.attrs, node.type)
        except optable.OpError as error:
            message, _, hint = str(error).partition("\nhint: ")
            raise VerifyError(message, node.loc, hint or None) from None
        same = len(expected.shape) == len(node.shape) and all(map(optable.dims_match, expected.shape, node.shape))
        if expected.dtype is not node.dtype or not same:
            raise VerifyError(f"{node.op} gives {expected}, its type says {node.type}", node.loc)
        value = node.attrs.get("value")
        if isinstance(value, Weights) and node.data is not None and tuple(node.data.shape) != node.shape:
            raise VerifyError(f"weights {value.name} have shape {tuple(node.data.shape)}, the graph says {node.type}",
                              node.loc)
        if sound is not None:
            sound.add((node,))


def verify_program(program: Program, sound: rules.Sound | None = None) -> None:
    """Buffers are known and written before they are read; every access fits its buffer.  Raises VerifyError.

    sound: what was verified before, of which only the places are; added to
    """
    for problem in rules.problems(program, sound):
        stage = next((s for k in program.kernels if k.name == problem.kernel
                      for s in k.stages if s.name == problem.stage), None)
        where = "/".join(filter(None, (problem.kernel, problem.stage))) or f"program {program.name}"
        raise VerifyError(f"{where}: {problem.message}", stage.locs[0] if stage and stage.locs else None)


def verify_schedules(program: Program, target: CpuTarget, sound: rules.Sound | None = None) -> None:
    """Every stage's schedule is legal.  Raises VerifyError naming what it breaks.

    sound: what was verified before, and is not again; added to
    """
    from jtc.passes.base import PassError
    from jtc.passes.kernel import legality
    for kernel in program.kernels:
        if sound is not None and (kernel, target) in sound:
            continue
        for stage in kernel.stages:
            try:
                legality.check(stage, kernel, program, target)
            except PassError as error:
                raise VerifyError(error.message, error.location, error.hint) from None
        if sound is not None:
            sound.add((kernel, target))
