"""What must hold of a program of kernels, apart from schedules (`passes/kernel/legality.py` knows those).

The verifier of the dialect and the checks between passes ask the same question here: `problems(program)`.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from jtc.dialects import in_place
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL, F32
from jtc.dialects.expr import Expr, reads_of, walk
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import REDUCTION, Access, Kernel, Program, Stage
from jtc.dialects.optable import REDUCTIONS, SCALAR_FUNCTIONS, OpError, scalar_result


@dataclass(frozen=True, slots=True)
class Problem:
    """One rule that is broken.  kernel, stage: names, "" where the whole program or kernel is meant."""

    message: str
    kernel: str = ""
    stage: str = ""


class Sound:
    """What was found to be in order, by identity: what a pass leaves as it is needs no second look."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], tuple[object, ...]] = {}

    def __contains__(self, parts: tuple[object, ...]) -> bool:
        return tuple(map(id, parts)) in self._kept

    def add(self, parts: tuple[object, ...]) -> None:
        self._kept[tuple(map(id, parts))] = parts           # kept, so that nothing else gets their identities


def problems(program: Program, sound: Sound | None = None) -> Iterator[Problem]:
    """The rules that a program breaks, in its order; the first is the one to show.

    sound: kernels that are known to be, each with the types of its operands; added to
    """
    for name in (*program.inputs, *program.outputs, *program.constants):
        if name not in program.buffers:
            yield Problem(f"there is no buffer {name!r}")
    for names, buffers, what in ((program.input_names, program.inputs, "input"),
                                 (program.output_names, program.outputs, "output")):
        if names and len(names) != len(buffers):
            yield Problem(f"{len(buffers)} {what}s with {len(names)} names")
    yield from _stored(program)
    for name, count in Counter(k.name for k in program.kernels).items():
        if count > 1:
            yield Problem(f"two kernels are called {name!r}")
    ready = {*program.inputs, *program.constants}
    for kernel in program.kernels:
        for name in {b.name for b in kernel.locals} & program.buffers.keys():
            yield Problem(f"{name!r} is both a buffer of the program and of the kernel", kernel.name)
        if kernel.slice is not None and not 0 <= kernel.slice.number < kernel.slice.count:
            yield Problem(f"there is no slice {kernel.slice.number} of {kernel.slice.count}", kernel.name)
        parts = _parts(kernel, program.buffers)
        found = [] if sound is not None and parts in sound else list(_kernel(kernel, program.buffers))
        if sound is not None and not found:
            sound.add(parts)
        for problem in (*found, *_placed(kernel, program, ready)):
            yield Problem(problem.message, kernel.name, problem.stage)
    for name in program.outputs:
        if name in program.buffers and name not in ready:
            yield Problem(f"the output {name!r} is never written")
    for new, old in program.updates.items():
        if new not in program.outputs or old not in program.inputs:
            yield Problem(f"updates: {new!r} is no output, or {old!r} no input")
        elif program.buffers.get(new) != program.buffers.get(old):
            yield Problem(f"updates: {new!r} and {old!r} are of different types")


def _stored(program: Program) -> Iterator[Problem]:
    """What must hold of values that do not lie row by row: the caller does not see them, their order is one."""
    outside = {*program.inputs, *program.outputs, *program.constants}
    for name, held in program.storage.items():
        if name not in program.buffers or name in outside:
            yield Problem(f"stored: {name!r} is no buffer between kernels")
            continue
        shape = program.buffers[name].shape
        if sorted(held.order) != list(range(len(shape))) or not shape:
            yield Problem(f"stored: ({', '.join(map(str, held.order))}) is no order of the {len(shape)} dimensions of "
                          f"{name!r}")
        elif not 0 <= held.pad <= shape[-1]:
            yield Problem(f"stored: {name!r} has rows of {shape[-1]} elements, {held.pad} of them padding")


_RULED = [f.name for f in fields(Stage) if f.name != "schedule"]


def _parts(kernel: Kernel, buffers: Mapping[str, TensorType]) -> tuple[object, ...]:
    """What the rules of `_kernel` look at: everything but schedules."""
    stages = (getattr(stage, name) for stage in kernel.stages for name in _RULED)
    types = (buffers.get(name) for name in kernel.operands)
    return kernel.shared, kernel.needed, kernel.locals, kernel.in_place, *stages, *types


def _placed(kernel: Kernel, program: Program, ready: set[str]) -> Iterator[Problem]:
    """What must hold of a kernel where it stands.

    ready: global buffers that hold values; what the kernel writes is added
    """
    local = {b.name for b in kernel.locals}
    written: set[str] = set()
    for stage in kernel.stages:
        for access in (*stage.reads, *([stage.write] if stage.accumulate else [])):
            if access.buffer not in written and (access.buffer in local or access.buffer not in ready):
                yield Problem(f"reads {access.buffer}, which nothing has written yet", stage=stage.name)
        for access in stage.writes:
            written.add(access.buffer)
            if access.buffer in program.inputs or access.buffer in program.constants:
                yield Problem(f"writes {access.buffer}, an input or a constant", stage=stage.name)
    ready |= written - local


def _kernel(kernel: Kernel, buffers: Mapping[str, TensorType]) -> Iterator[Problem]:
    """What must hold of a kernel by itself."""
    local = {b.name: b.type for b in kernel.locals}
    stages = [s.name for s in kernel.stages]
    for name in dict.fromkeys(n for n in stages if stages.count(n) > 1):
        yield Problem(f"two stages are called {name!r}")
    for number, stage in enumerate(kernel.stages):
        for message in _stage(stage):
            yield Problem(message, stage=stage.name)
        for axis, _ in kernel.shared:
            found = next((a for a in stage.axes if a.name == axis.name), None)
            if found is not None and found.size != axis.size:
                yield Problem(f"the shared axis {axis.name} has size {axis.size}, here {found.size}", stage=stage.name)
            if found is not None and found.kind == REDUCTION and stage.scan:
                yield Problem(f"scans the shared axis {axis.name}", stage=stage.name)
            elif found is not None and found.kind == REDUCTION and stage.before is None:
                for reader in kernel.stages[number + 1:]:
                    if axis.name not in reader.reductions and stage.write.buffer in _read(reader, finished=True) \
                            or stage.write.buffer in _read(reader, finished=False):
                        yield Problem(f"reads {stage.write.buffer} before the reduction over the shared axis "
                                      f"{axis.name} is finished", stage=reader.name)
        shared = {axis.name for axis, _ in kernel.shared}
        if (stage.before is not None or stage.rescale is not None) and not shared & set(stage.reductions):
            yield Problem("`before` and `rescale` need a reduction over a shared axis", stage=stage.name)
        blocks = {axis.name: min(block, axis.size) for axis, block in kernel.shared}
        for what, access in _accesses(stage):
            where = f"{what} {access.buffer}"
            type = local.get(access.buffer) or buffers.get(access.buffer)
            if type is None:
                yield Problem(f"{where}: there is no such buffer", stage=stage.name)
                continue
            sizes = {**stage.sizes, **(blocks if access.buffer in local else {})}
            for message in _access(access, type, sizes):
                yield Problem(f"{where}: {message}", stage=stage.name)
    for message in _needed(kernel):
        yield Problem(message)
    for new, old in kernel.in_place:
        if reason := in_place.refusal(kernel, new, old):
            yield Problem(f"cannot write {new} over {old}: {reason}")


def _needed(kernel: Kernel) -> Iterator[str]:
    """Rules of blocks that may be left out."""
    if not kernel.needed:
        return
    shared, reduced = [axis.name for axis, _ in kernel.shared], {a for s in kernel.stages for a in s.reductions}
    inner = shared[-1] if shared else ""
    if inner not in reduced:
        yield "`needed` is for kernels with a stage that reduces the innermost shared axis"
        return
    for guard in kernel.needed:
        if inner not in guard.index.terms:
            yield f"needed where {guard}, which does not depend on the innermost shared axis {inner!r}"
        for axis in sorted(guard.index.axes - {inner}):
            if axis not in shared or axis in reduced:
                yield f"needed where {guard}, but {axis!r} is no shared axis that is parallel in all stages"
    local = {b.name for b in kernel.locals}
    for stage in kernel.stages:
        if stage.accumulate or stage.scan:
            yield f"stage {stage.name} accumulates or scans, where blocks may be left out"
        for access in stage.writes:
            if access.buffer not in local and inner in access.axes:
                yield f"stage {stage.name} writes {access.buffer} along {inner!r}, of which blocks may be left out"


def _read(stage: Stage, finished: bool) -> set[str]:
    """The buffers that a stage reads: those of its epilogue, once its reduction is finished, or all others."""
    early = [stage.body, *([stage.rescale] if stage.rescale is not None else []),
             *(e for a in stage.accesses for _, e in a.gather)]
    roots = stage.ends if finished else early
    return {stage.reads[n].buffer for root in roots for n in reads_of(root) if 0 <= n < len(stage.reads)}


def _accesses(stage: Stage) -> Iterator[tuple[str, Access]]:
    yield from ((f"read {i} of", a) for i, a in enumerate(stage.reads))
    yield "the write to", stage.write
    if stage.keep is not None:
        yield "keep in", stage.keep
    if stage.before is not None:
        yield "before in", stage.before
    yield from (("the further write to", r.write) for r in stage.more)


def _stage(stage: Stage) -> Iterator[str]:
    names = [a.name for a in stage.axes]
    for name in dict.fromkeys(n for n in names if names.count(n) > 1):
        yield f"the axis {name!r} is there twice"
    if any(a.size < 0 for a in stage.axes):
        yield "an axis has no known size; kernels need all sizes"
    if stage.reductions and stage.reduce is None:
        yield f"the reduction axis {stage.reductions[0]!r} needs `reduce`"
    if stage.reduce is not None and not (stage.accumulate and stage.reduce == "replace"):
        row = REDUCTIONS.get(stage.reduce)
        if row is None:
            yield f"unknown reduction {stage.reduce!r}; it must be one of {', '.join(REDUCTIONS)}"
        elif stage.body.dtype.kind not in row.kinds:
            yield f"cannot reduce {stage.body.dtype.public} with {stage.reduce}"
    if stage.accumulate and stage.reduce is None:
        yield "`accumulate` needs `reduce`"
    if stage.accumulate and (stage.epilogue is not None or stage.keep is not None):
        yield "a stage that accumulates has neither an epilogue nor `keep`"
    if stage.more and (stage.accumulate or stage.scan):
        yield "a stage that accumulates or scans has one result"
    if stage.scan:
        yield from _scan(stage)
    yield from _resumed(stage)
    if stage.epilogue is not None and stage.reduce is None:
        yield "an epilogue needs `reduce`; without one it belongs into the body"
    yield from _expression(stage.body, stage, "the body", set(names))
    if stage.epilogue is not None:
        yield from _expression(stage.epilogue, stage, "the epilogue", set(names if stage.scan else stage.parallel))
    for result in stage.more:
        yield from _expression(result.value, stage, f"the value of {result.write.buffer}", set(stage.parallel))
        if result.value.dtype is not result.write.dtype:
            yield (f"writes {result.value.dtype.name} values into {result.write.buffer}, which is "
                   f"{result.write.dtype.name}")
        for axis in sorted(result.write.axes & set(stage.reductions)):
            yield f"the write to {result.write.buffer} names the reduction axis {axis!r}"
    if (stage.more or stage.before is not None) and len({a.buffer for a in stage.writes}) < len(stage.writes):
        yield "two results are written into one buffer"
    value = stage.body if stage.epilogue is None else stage.epilogue
    if value.dtype is not stage.write.dtype:
        yield f"writes {value.dtype.name} values into {stage.write.buffer}, which is {stage.write.dtype.name}"
    rounded = stage.keep is not None and stage.keep.dtype.is_half and stage.body.dtype is F32
    if stage.keep is not None and stage.keep.dtype is not stage.body.dtype and not rounded:
        yield f"keeps {stage.body.dtype.name} values in {stage.keep.buffer}, which is {stage.keep.dtype.name}"
    for axis in sorted(stage.write.axes & set(stage.reductions)) if not stage.accumulate and not stage.scan else ():
        yield f"the write to {stage.write.buffer} names the reduction axis {axis!r}"
    for what, access in _accesses(stage):
        for axis in sorted(access.axes - set(names)):
            yield f"{what} {access.buffer}: there is no axis {axis!r}"
        for _, e in access.gather:
            yield from _expression(e, stage, f"the gathered index of {what} {access.buffer}", set(names))
            if not e.dtype.is_integer:
                yield f"{what} {access.buffer}: gathers with {e.dtype.name} values, not integers"
    yield from _circular(stage)


def _resumed(stage: Stage) -> Iterator[str]:
    """Rules of reductions that look at what earlier blocks of a shared axis have left."""
    if (stage.before is not None or stage.rescale is not None) and (stage.accumulate or stage.scan):
        yield "a stage that accumulates or scans has neither `before` nor `rescale`"
    if stage.before is not None:
        if stage.ends:
            yield "a stage with `before` has neither an epilogue nor further results"
        if stage.before.dtype is not stage.body.dtype:
            yield f"keeps {stage.body.dtype.name} values in {stage.before.buffer}, which is {stage.before.dtype.name}"
        for axis in sorted(stage.before.axes & set(stage.reductions)):
            yield f"the write to {stage.before.buffer} names the reduction axis {axis!r}"
    if stage.rescale is not None:
        if stage.reduce != "add" or not stage.body.dtype.is_float:
            yield "`rescale` needs a sum of floats"
        if stage.rescale.dtype is not stage.body.dtype:
            yield f"rescales sums of {stage.body.dtype.name} by {stage.rescale.dtype.name}"
        yield from _expression(stage.rescale, stage, "`rescale`", set(stage.parallel))


def _scan(stage: Stage) -> Iterator[str]:
    if stage.reduce is None or stage.reduce not in REDUCTIONS:
        yield "a scan needs `reduce`, whose identity it starts from"
    if len(stage.reductions) != 1:
        yield f"a scan has one reduction axis, not {len(stage.reductions)}"
    if stage.accumulate or stage.keep is not None:
        yield "a scan neither accumulates nor has `keep`"


def _expression(root: Expr, stage: Stage, what: str, axes: set[str]) -> Iterator[str]:
    """axes: those that have a value where the expression is computed."""
    for e in walk(root):
        used: set[str] = set()
        if e.fn == "read":
            if not 0 <= e.attr < len(stage.reads):
                yield f"{what} takes read {e.attr} of {len(stage.reads)}"
                continue
            read = stage.reads[e.attr]
            used = read.axes & set(stage.sizes)
            if read.dtype is not e.dtype:
                yield f"{what} takes {e.dtype.name} from {read.buffer}, which is {read.dtype.name}"
        elif e.fn == "acc":
            finished = stage.reduce is not None and any(root is end for end in stage.ends)
            if not finished and not (stage.scan and root is stage.body):
                yield f"{what} takes the accumulator, which only an epilogue has"
            elif e.dtype is not stage.body.dtype:
                yield f"{what} takes an accumulator of {e.dtype.name}, the body gives {stage.body.dtype.name}"
        elif e.fn == "index":
            used = e.attr.axes
            if not e.dtype.is_integer:
                yield f"{what}: an index is an integer, not {e.dtype.name}"
        elif e.fn == "inbounds":
            used = set().union(*(g.index.axes for g in e.attr))
            if e.dtype is not BOOL:
                yield f"{what}: inbounds gives i1, not {e.dtype.name}"
        elif e.fn in SCALAR_FUNCTIONS:
            yield from _function(e, what)
        elif e.fn not in ("const", "cast"):
            yield f"{what}: unknown function {e.fn!r}"
        for axis in sorted(used - axes):
            kind = "the reduction axis" if axis in stage.reductions else "an unknown axis"
            yield f"{what} depends on {kind} {axis!r}"


def _function(e: Expr, what: str) -> Iterator[str]:
    try:
        result = scalar_result(e.fn, [a.dtype for a in e.args])
    except OpError as error:
        yield f"{what}: {error}".split("\n")[0]
        return
    if result is not e.dtype:
        yield f"{what}: {e.fn} gives {result.name}, not {e.dtype.name}"


def _circular(stage: Stage) -> Iterator[str]:
    """A gathered index may be read through another gathered index, but not through itself."""
    for start in range(len(stage.reads)):
        seen: set[int] = set()
        pending = [start]
        while pending:
            access = stage.reads[pending.pop()]
            found = {r for _, e in access.gather for r in reads_of(e) if 0 <= r < len(stage.reads)} - seen
            seen |= found
            pending += found
        if start in seen:
            yield f"read {start} of {stage.reads[start].buffer} gathers with its own value"


def _access(access: Access, type: TensorType, sizes: Mapping[str, int]) -> Iterator[str]:
    if access.dtype is not type.dtype or access.size != type.size:
        yield f"it is {type}, seen as {TensorType(access.dtype, access.shape)}"
    if len(access.index) != len(access.shape):
        yield f"{len(access.index)} indices for {len(access.shape)} dimensions"
        return
    for dim, _ in access.gather:
        if not 0 <= dim < len(access.shape):
            yield f"gathers in dimension {dim} of {len(access.shape)}"
    if not access.axes <= sizes.keys() or any(n <= 0 for n in sizes.values()):
        return                                  # reported elsewhere; an empty space touches nothing
    gathered = {dim for dim, _ in access.gather}
    for dim, (form, size) in enumerate(zip(access.index, access.shape, strict=True)):
        if dim in gathered:
            continue
        low, high = _range(form, access, sizes)
        if low <= high and (low < 0 or high >= size):
            yield f"the index {form} runs from {low} to {high} in a dimension of {size}"


def _range(form: Affine, access: Access, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Bounds of an index where the guards hold.

    Exact where a guard bounds the form itself, up to a constant.  Where guards bound other forms of its axes, what they
    cut off is not worked out, and the index counts as inside.
    """
    low, high = form.range(sizes)
    for guard in access.guards:
        difference = form - guard.index
        if difference.is_constant:
            low, high = max(low, difference.const), min(high, guard.size - 1 + difference.const)
        elif guard.index.axes & form.axes:
            return 0, -1
    return low, high
