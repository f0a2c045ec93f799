"""What must hold of a program in memory, checked after every pass.

The graph's rules are those of the op table; the kernel's are written here; those of schedules in `passes/kernel/legality.py`.
"""
from __future__ import annotations

from collections.abc import Iterator

from jtc.dialects import optable
from jtc.dialects.affine import Affine
from jtc.dialects.errors import InputError
from jtc.dialects.expr import Expr, walk
from jtc.dialects.graph import DYNAMIC, Graph, Weights
from jtc.dialects.kernel import REDUCTION, Access, Kernel, Program, Stage
from jtc.dialects.target import CpuTarget


class VerifyError(InputError):
    """A program that breaks a rule of its phase."""


def verify_graph(graph: Graph) -> None:
    """Every node's type is what the op table says, constants have their shape, inputs are inputs.  Raises VerifyError."""
    for node in graph.inputs:
        if node.op != "input":
            raise VerifyError(f"graph {graph.name}: argument {node!r} is not an input", node.loc)
    for names, nodes, what in ((graph.input_names, graph.inputs, "input"), (graph.output_names, graph.outputs, "output")):
        if names and len(names) != len(nodes):
            raise VerifyError(f"graph {graph.name}: {len(nodes)} {what}s with {len(names)} names")
    arguments = {id(n) for n in graph.inputs}
    for node in graph.nodes():
        if node.op == "input":
            if id(node) not in arguments:
                raise VerifyError(f"graph {graph.name}: uses an input that is not among its arguments", node.loc)
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
            raise VerifyError(f"weights {value.name} have shape {tuple(node.data.shape)}, the graph says {node.type}", node.loc)


def verify_program(program: Program) -> None:
    """Buffers are known and written before they are read; every access fits its buffer.  Raises VerifyError."""
    for name in (*program.inputs, *program.outputs, *program.constants):
        if name not in program.buffers:
            raise VerifyError(f"program {program.name}: no buffer {name!r}")
    names = [k.name for k in program.kernels]
    if len(set(names)) != len(names):
        raise VerifyError(f"program {program.name}: two kernels are called {max(names, key=names.count)!r}")
    ready = {*program.inputs, *program.constants}
    for kernel in program.kernels:
        _verify_kernel(kernel, program, ready)
    missing = [n for n in program.outputs if n not in ready]
    if missing:
        raise VerifyError(f"program {program.name}: the output {missing[0]!r} is never written")


def verify_schedules(program: Program, target: CpuTarget) -> None:
    """Every stage's schedule is legal.  Raises VerifyError naming what it breaks."""
    from jtc.passes.base import PassError
    from jtc.passes.kernel import legality
    for kernel in program.kernels:
        for stage in kernel.stages:
            try:
                legality.check(stage, kernel, program, target)
            except PassError as error:
                raise VerifyError(error.message, error.location, error.hint) from None


def _verify_kernel(kernel: Kernel, program: Program, ready: set[str]) -> None:
    local = {b.name: b.type for b in kernel.locals}
    shared = {axis.name: axis.size for axis, _ in kernel.shared}
    blocks = {axis.name: min(block, axis.size) for axis, block in kernel.shared}
    for stage in kernel.stages:
        where = f"{kernel.name}/{stage.name}"
        location = stage.locs[0] if stage.locs else None
        for problem in _stage_problems(stage, shared):
            raise VerifyError(f"{where}: {problem}", location)
        for access in (*stage.reads, stage.write, *(() if stage.keep is None else (stage.keep,))):
            type = local.get(access.buffer) or program.buffers.get(access.buffer)
            if type is None:
                raise VerifyError(f"{where}: no buffer {access.buffer!r}", location)
            if access.dtype is not type.dtype or access.buffer not in local and access.size != type.size:
                raise VerifyError(f"{where}: {access.buffer} is {type}, the access sees it as "
                                  f"{access.dtype}{list(access.shape)}", location)
            for problem in _access_problems(access, stage, blocks if access.buffer in local else {}):
                raise VerifyError(f"{where}: {access.buffer}: {problem}", location)
        for access in stage.reads:
            if access.buffer not in ready and access.buffer not in local:
                raise VerifyError(f"{where}: reads {access.buffer}, which nothing has written yet", location)
        for written in (stage.write, stage.keep):
            if written is not None and (written.buffer in program.constants or written.buffer in program.inputs):
                raise VerifyError(f"{where}: writes {written.buffer}, an input or a constant", location)
            if written is not None and written.buffer not in local:
                ready.add(written.buffer)


def _stage_problems(stage: Stage, shared: dict[str, int]) -> Iterator[str]:
    names = [a.name for a in stage.axes]
    if len(set(names)) != len(names):
        yield f"axis {max(names, key=names.count)!r} is there twice"
    for name, size in shared.items():
        if stage.sizes.get(name, size) != size:
            yield f"the shared axis {name} has size {size}, here {stage.sizes[name]}"
    if any(a.size == DYNAMIC for a in stage.axes):
        yield "has an unknown size; kernels need all sizes"
    if stage.reduce is not None and stage.reduce != "replace" and stage.reduce not in optable.REDUCTIONS:
        yield f"unknown reduction {stage.reduce!r}"
    if any(a.kind == REDUCTION for a in stage.axes) and stage.reduce is None:
        yield "has reduction axes and no reduction"
    for body, accumulated in ((stage.body, False), (stage.epilogue, True)):
        for e in () if body is None else walk(body):
            if e.fn == "read" and not 0 <= e.attr < len(stage.reads):
                yield f"read %{e.attr} of {len(stage.reads)}"
            if e.fn == "acc" and not accumulated:
                yield "the accumulator is used in the body"
            unknown = _axes(e) - set(names)
            if unknown:
                yield f"the body names the axis {min(unknown)!r}, which the stage does not have"


def _axes(e: Expr) -> set[str]:
    if e.fn == "index":
        return e.attr.axes if isinstance(e.attr, Affine) else set()
    if e.fn == "inbounds":
        return set().union(*(g.index.axes for g in e.attr))
    return set()


def _access_problems(access: Access, stage: Stage, blocks: dict[str, int]) -> Iterator[str]:
    """blocks: sizes of shared axes as a local buffer sees them."""
    if len(access.index) != len(access.shape):
        yield f"{len(access.index)} indices for {len(access.shape)} dimensions"
        return
    unknown = access.axes - set(stage.sizes)
    if unknown:
        yield f"the index names the axis {min(unknown)!r}, which the stage does not have"
        return
    if any(size <= 0 for size in stage.sizes.values()):
        return                                  # an empty iteration space touches nothing
    sizes = {**stage.sizes, **blocks}
    gathered = {dim for dim, _ in access.gather}
    guarded = {axis for guard in access.guards for axis in guard.index.axes}
    for dim, (form, size) in enumerate(zip(access.index, access.shape, strict=True)):
        low, high = form.range(sizes)
        # What a guard cuts off is not worked out here; an index that shares no axis with a guard must fit as it is.
        if dim not in gathered and not form.axes & guarded and (low < 0 or high >= size):
            yield f"index {form} runs from {low} to {high} in a dimension of {size}"
