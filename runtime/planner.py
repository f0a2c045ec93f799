"""Makes the plan of a program: what runs once, waves, places in memory.

State is updated in place: where kernels make w1 of w0, w2 of w1... and may write over what they read
(`Kernel.in_place`), all of these but w0 lie in the memory of the last one, an output; and that may be the memory of w0,
an input, if the caller gives it up (`Plan.updates`).  So memory is written before a value in it is dead only by the
kernel that replaces this value, element by element (`dialects/in_place.py`): all others that read it run in earlier
waves, for which a write to w1 counts as one to w0.

Kernels that do one slice of something each (`Kernel.slice`) run slice by slice, each on one thread, where there are
slices enough for all threads.  Values that only one slice touches lie in memory of that thread.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jtc.dialects.errors import InputError, InternalError
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Kernel, Program
from jtc.dialects.tables import tables
from jtc.dialects.target import CpuTarget
from jtc.runtime.cost import estimate_ns, kernel_cost
from jtc.runtime.plan import BufferPlan, ConstantPlan, LaunchPlan, Plan

ALIGNMENT = 64
# A launch below one of these cannot keep several threads busy, so it may share a wave with others.
SMALL_NS = 100_000
SMALL_UNITS = 4
# Moving a launch forward keeps its result alive for longer; results above this size stay where they are.
WAVE_BYTES = 4 << 20


class Function(Protocol):
    """What plans and reports need to know of a kernel's machine code (`compiler.codegen.Function` has it)."""

    @property
    def symbol(self) -> str: ...

    @property
    def operands(self) -> Sequence[str]: ...

    @property
    def units(self) -> int: ...

    @property
    def workspace_bytes(self) -> int: ...

    @property
    def offsets(self) -> Sequence[int]: ...


def build_plan(program: Program, functions: Mapping[str, Function], target: CpuTarget | None = None,
               tree: str | None = None, reuse: bool = True) -> Plan:
    """The plan of `program`; `functions` has one entry for every kernel, by kernel name.

    reuse: whether values that are not needed at the same time may share memory
    Raises InputError for unknown dimensions, InternalError for a program that is not in order (a buffer read before it
    is written, a kernel that writes an input or a constant).
    """
    _check_program(program, functions)
    once = _constant_kernels(program)
    launches = [_launch(k, functions[k.name], program) for k in program.kernels]
    prepare = [launch for launch, k in zip(launches, program.kernels, strict=True) if k.name in once]
    repeated = [(launch, k) for launch, k in zip(launches, program.kernels, strict=True) if k.name not in once]
    _assign_slices(repeated, target or CpuTarget())
    _assign_waves([launch for launch, _ in repeated], [k for _, k in repeated], program)
    _check_in_place(repeated)
    runs = sorted((launch for launch, _ in repeated), key=lambda launch: launch.wave)
    for number, launch in enumerate(prepare):
        launch.wave = number

    buffers, constants, weight_bytes = _describe(program, prepare, runs, once)
    order = {b.name: i for i, b in enumerate(buffers)}
    plan = Plan(program.name, [order[n] for n in program.inputs], [order[n] for n in program.outputs],
                list(program.input_names or program.inputs), list(program.output_names or program.outputs),
                buffers, constants, prepare, runs, weight_bytes=weight_bytes, tree=tree)
    if target is not None:
        plan.target, plan.features = target.name, target.features
    old = {name: i for i, name in enumerate(program.buffers)}
    renumber = {old[b.name]: i for i, b in enumerate(buffers)}
    for launch in prepare + runs:
        launch.operands = [renumber[i] for i in launch.operands]
    live = lifetimes(runs)
    if reuse:
        plan.own_bytes = _place_own(buffers, runs, order)
    else:
        live = dict.fromkeys(live, (0, len(runs)))
    plan.arena_bytes = place([b for b in buffers if b.kind == "arena"], live, order)
    plan.scratch_bytes = place([b for b in buffers if b.kind == "scratch"], lifetimes(prepare), order)
    for b in buffers:
        if b.kind == "prepared":
            b.place = plan.prepared_bytes
            plan.prepared_bytes = _align(plan.prepared_bytes + b.bytes)
    for new, chain in _replaced(program, once).items():
        if chain and chain[-1] in program.inputs:
            plan.updates.append([program.outputs.index(new), program.inputs.index(chain[-1])])
    plan.check()
    return plan


def lifetimes(launches: Sequence[LaunchPlan]) -> dict[int, tuple[int, int]]:
    """Buffer number -> (first, last) wave that touches it."""
    result: dict[int, tuple[int, int]] = {}
    for launch in launches:
        for number in launch.operands:
            first, last = result.get(number, (launch.wave, launch.wave))
            result[number] = (min(first, launch.wave), max(last, launch.wave))
    return result


def place(buffers: Sequence[BufferPlan], live: Mapping[int, tuple[int, int]], number: Mapping[str, int]) -> int:
    """Give every buffer an offset such that no two that live at the same time overlap; return the size of the block.

    Largest first; each goes into the smallest gap that holds it between those already placed that live at the same time
    (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
    """
    placed: list[tuple[int, int, int, int]] = []        # offset, end, first wave, last wave; sorted by offset
    total = 0
    for b in sorted(buffers, key=lambda b: (-b.bytes, number[b.name])):
        first, last = live[number[b.name]]
        size = _align(b.bytes)
        best, best_gap, cursor = -1, -1, 0
        for offset, end, start, stop in placed:
            if stop < first or last < start:
                continue
            gap = offset - cursor
            if gap >= size and (best < 0 or gap < best_gap):
                best, best_gap = cursor, gap
            cursor = max(cursor, end)
        b.place = cursor if best < 0 else best
        total = max(total, b.place + size)
        placed.append((b.place, b.place + size, first, last))
        placed.sort()
    return total


def _place_own(buffers: Sequence[BufferPlan], runs: Sequence[LaunchPlan], number: Mapping[str, int]) -> int:
    """Give intermediate values that one slice touches only their places in the memory of its thread; return its size.
    """
    touched: dict[int, set[tuple[int, int]]] = {}       # buffer -> waves and slices
    live: dict[int, tuple[int, int]] = {}
    for at, launch in enumerate(runs):
        for i in launch.operands:
            touched.setdefault(i, set()).add((launch.wave, launch.slice))
            live[i] = live.get(i, (at, at))[0], at
    slices: dict[tuple[int, int], list[BufferPlan]] = {}
    for b in buffers:
        where = touched.get(number[b.name], set())
        if b.kind == "arena" and len(where) == 1 and min(where)[1] >= 0:
            b.kind = "own"
            slices.setdefault(min(where), []).append(b)
    return max((place(own, live, number) for own in slices.values()), default=0)


def _align(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _check_program(program: Program, functions: Mapping[str, Function]) -> None:
    for name, type in program.buffers.items():
        if any(n < 0 for n in type.shape):
            raise InputError(f"{program.name}: {name} has an unknown dimension in {type}",
                             hint="compile for one fixed shape")
    fixed = {*program.inputs, *program.constants}
    known = set(fixed)
    for kernel in program.kernels:
        if kernel.name not in functions:
            raise InternalError(f"{program.name}: kernel {kernel.name} has no function")
        for name in kernel.read:
            if name not in known:
                raise InternalError(f"{program.name}: {kernel.name} reads {name} before it is written")
        for name in kernel.written:
            if name in fixed:
                raise InternalError(f"{program.name}: {kernel.name} writes {name}, which is an input or a constant")
        known.update(kernel.written)
    for name in program.outputs:
        if name not in known:
            raise InternalError(f"{program.name}: the output {name} is never written")


def _constant_kernels(program: Program) -> set[str]:
    """Kernels that depend on weights and on nothing else, and write no output: they run once.

    So do kernels that make tables, which read nothing at all.
    """
    outputs = set(program.outputs)
    candidates = {k.name for k in program.kernels if not outputs & set(k.written)}
    while True:
        changing = {*program.inputs, *(n for k in program.kernels if k.name not in candidates for n in k.written)}
        rest = {k.name for k in program.kernels if k.name in candidates
                and not changing & {*k.read, *k.written}}
        if rest == candidates:
            break
        candidates = rest
    # Those connected to a weight or a table: they read it, or share a buffer with one that does.
    result: set[str] = set()
    touched = {n for n, value in program.constants.items() if not isinstance(value, (bool, int, float))} \
        | tables(program)
    while True:
        more = {k.name for k in program.kernels if k.name in candidates - result and touched & {*k.read, *k.written}}
        if not more:
            return result
        result |= more
        used = {n for k in program.kernels if k.name in more for n in (*k.read, *k.written)}
        touched |= used - set(program.constants)


def _launch(kernel: Kernel, function: Function, program: Program) -> LaunchPlan:
    numbers = {name: i for i, name in enumerate(program.buffers)}
    flops, moved = kernel_cost(kernel, program.buffers)
    return LaunchPlan(kernel.name, function.symbol, [numbers[n] for n in function.operands], function.units,
                      function.workspace_bytes, 0, flops, moved,
                      list(function.offsets) if any(function.offsets) else [])


def _assign_slices(repeated: Sequence[tuple[LaunchPlan, Kernel]], target: CpuTarget) -> None:
    """Number the slices of runs of kernels that do parts of something, where threads can share these."""
    start = 0
    while start < len(repeated):
        end, first = start + 1, repeated[start][1].slice
        if first is not None and first.number == 0:
            number, count = 0, first.count
            while end < len(repeated):
                after = repeated[end][1].slice
                if after is None or after.count != count or after.number not in (number, number + 1):
                    break
                number, end = after.number, end + 1
            if number == count - 1 and target.shares(count):
                for launch, kernel in repeated[start:end]:
                    assert kernel.slice is not None
                    launch.slice = kernel.slice.number
        start = end


def _assign_waves(launches: Sequence[LaunchPlan], kernels: Sequence[Kernel], program: Program) -> None:
    """Waves in launch order; a launch too small to fill the threads joins the latest wave of small ones it may.

    The launches of a run in slices are one wave.
    """
    before: LaunchPlan | None = None
    writer: dict[str, int] = {}             # last wave that wrote the buffer
    reader: dict[str, int] = {}             # last wave that read it
    small_waves: list[bool] = []
    for launch, kernel in zip(launches, kernels, strict=True):
        changed = (*kernel.written, *(old for _, old in kernel.in_place))
        earliest = 1 + max((writer.get(n, -1) for n in (*kernel.read, *kernel.written)), default=-1)
        earliest = max([earliest, *(reader.get(n, -1) + 1 for n in changed)])
        written = sum(program.buffers[n].bytes for n in kernel.written)
        small = written <= WAVE_BYTES and (estimate_ns(launch.flops, launch.bytes) < SMALL_NS
                                           or launch.units < SMALL_UNITS)
        last = len(small_waves) - 1
        joins = small and earliest <= last and small_waves[last]
        if launch.slice >= 0:
            small, joins = False, before is not None and 0 <= before.slice in (launch.slice, launch.slice - 1)
        launch.wave = last if joins else last + 1
        before = launch
        if not joins:
            small_waves.append(small)
        for n in kernel.read:
            reader[n] = max(reader.get(n, -1), launch.wave)
        for n in changed:
            writer[n] = launch.wave


def _check_in_place(launches: Sequence[tuple[LaunchPlan, Kernel]]) -> None:
    """Raise InternalError where something else touches a value in or after the wave in which it is written over."""
    touched: dict[str, list[tuple[int, str]]] = {}      # buffer -> (wave, kernel)
    for launch, kernel in launches:
        for name in (*kernel.read, *kernel.written):
            touched.setdefault(name, []).append((launch.wave, kernel.name))
    for launch, kernel in launches:
        for new, old in kernel.in_place:
            late = next((k for wave, k in touched[old] if wave >= launch.wave and k != kernel.name), None)
            if late is not None:
                raise InternalError(f"{kernel.name} writes {new} over {old}, which {late} still reads")


def _replaced(program: Program, once: set[str]) -> dict[str, list[str]]:
    """Output -> the values whose memory it takes over, the last one first."""
    over = {new: old for kernel in program.kernels if kernel.name not in once for new, old in kernel.in_place}
    found: dict[str, list[str]] = {}
    for name in program.outputs:
        chain, at = [], name
        while at in over:
            at = over[at]
            chain.append(at)
        found[name] = chain
    return found


def _describe(program: Program, prepare: Sequence[LaunchPlan], runs: Sequence[LaunchPlan], once: set[str],
              ) -> tuple[list[BufferPlan], list[ConstantPlan], int]:
    """Buffers that are used (arena and prepared ones still without an offset), constants, size of the weight blob."""
    names = list(program.buffers)
    used_once = {names[i] for launch in prepare for i in launch.operands}
    used_often = {names[i] for launch in runs for i in launch.operands} | set(program.outputs)
    written_once = {n for k in program.kernels if k.name in once for n in k.written}
    home = {inner: outer for outer, chain in _replaced(program, once).items() for inner in chain}
    inputs = {n: i for i, n in enumerate(program.inputs)}
    outputs = {n: i for i, n in reversed(list(enumerate(program.outputs)))}
    buffers: list[BufferPlan] = []
    constants: list[ConstantPlan] = []
    offsets: dict[int, int] = {}
    weight_bytes = 0
    for name, type in program.buffers.items():
        if name not in used_once and name not in used_often and name not in inputs:
            continue
        if name in inputs:
            kind, where = "input", inputs[name]
        elif name in program.constants:
            kind, where = "constant", len(constants)
            value = program.constants[name]
            if isinstance(value, (bool, int, float)):
                constants.append(ConstantPlan(name, len(buffers), value, 0, type.bytes))
            else:
                _check_weight(program, name, type, value)
                shared = id(value) if value is not None else -1 - len(constants)
                if shared not in offsets:
                    offsets[shared] = weight_bytes
                    weight_bytes = _align(weight_bytes + type.bytes)
                constants.append(ConstantPlan(name, len(buffers), None, offsets[shared], type.bytes))
        elif name in written_once:
            kind, where = ("prepared" if name in used_often else "scratch"), 0
        elif name in outputs or name in home:
            kind, where = "output", outputs[home.get(name, name)]
        else:
            kind, where = "arena", 0
        buffers.append(BufferPlan(name, type.dtype.name, list(type.shape), type.bytes, kind, where))
    return buffers, constants, weight_bytes


def _check_weight(program: Program, name: str, type: TensorType, value: Any) -> None:
    if value is not None and (tuple(value.shape) != type.shape or value.nbytes != type.bytes):
        raise InternalError(f"{program.name}: the weight {name} is {value.dtype}{list(value.shape)}, its buffer {type}")
