"""Copies outside all loops: a kernel of its own that writes an operand the way a schedule wants to read it.

Kinds, told apart by the order:

* over axes ("v//", "k", "v%"): panels in the order of the register tile.  v//T and v%T become dimensions, and places
  past the edge are filled, so that the main stage may load whole vectors.
* over dimensions ("0", "2", "1"): a permuted copy of the box that the read touches, with the fill where a guard does
  not hold, so that the main stage reads without guards (the padded image of a convolution)
* over dimensions and axes ("3", "1", "q", "x", "n"): the same, but each index of the dimensions that are missing is
  spread out over its axes (a copy of the image for each column q of a window that slides over columns x by 2).
"""
from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from itertools import count

from jtc.dialects.affine import Affine, split_term
from jtc.dialects.dtypes import DType
from jtc.dialects.expr import cast, rewrite
from jtc.dialects.expr import read as read_expr
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Access, Axis, Guard, Kernel, Program, Schedule, Stage
from jtc.dialects.tables import tables
from jtc.passes.base import PassError
from jtc.passes.kernel import legality
from jtc.passes.kernel.kernel_merge_axes import merge_axes
from jtc.passes.stages import map_expressions


def hoist(program: Program, kernel: Kernel, stage: Stage, number: int, order: tuple[str, ...],
          pad: int = 0) -> tuple[Program, Kernel, Stage]:
    """Put a copy of read `number` before `kernel` and let `stage` read it.  Returns the new program, kernel and stage.

    An equal copy made for an earlier kernel is used again.  What a kernel that does one slice copies is a part of that
    slice, but where all slices read the same: then one copy stands before the first of them.
    Raises PassError where the copy would not be the same data.
    """
    read = stage.reads[number]
    if read.buffer in {b.name for b in kernel.locals} or read.buffer in kernel.written:
        raise PassError(f"kernel-pack: {read.buffer} is written by kernel {kernel.name} itself",
                        hint="give `inside` to copy it in a loop")
    if read.gather or any(split_term(t)[1] for form in read.index for t in form.terms):
        raise PassError(f"kernel-pack: the address of %{number} in stage {stage.name} cannot be copied ahead")
    copy, view = copied(stage, read, order, pad, stage.copied_as(number))
    found = _same(program, kernel, copy)
    if found is None:
        name = fresh(f"{read.buffer}_packed", program.buffers)
        copy = replace(copy, write=replace(copy.write, buffer=name))
        place = next(i for i, k in enumerate(program.kernels) if k.name == kernel.name)
        one = kernel.slice
        if one is not None and _read_by_others(program, kernel, read):
            one, place = None, _first_slice(program.kernels, place)
        maker = Kernel(fresh(f"pack_{read.buffer}", {k.name for k in program.kernels}), (copy,),
                       reasons=((read.buffer, f"copied for kernel {kernel.name}"),), slice=one)
        buffers = {**program.buffers, name: TensorType(view.dtype, copy.write.shape)}
        program = replace(program, buffers=buffers,
                          kernels=[*program.kernels[:place], maker, *program.kernels[place:]])
    else:
        name = found
    reads = tuple(replace(view, buffer=name) if i == number else a for i, a in enumerate(stage.reads))
    new_stage = replace(stage, reads=reads)
    if view.dtype is not read.dtype:
        converted = cast(read_expr(number, read.dtype), view.dtype)
        new_stage = map_expressions(new_stage, lambda root: rewrite(
            root, lambda e: read_expr(number, view.dtype) if e is converted else None))
    new_kernel = replace(kernel, stages=tuple(new_stage if s is stage else s for s in kernel.stages))
    program = replace(program, kernels=[new_kernel if k.name == kernel.name else k for k in program.kernels])
    return program, new_kernel, new_stage


def box_copied(program: Program, kernel: Kernel, stage: Stage, number: int, order: tuple[str, ...]) -> bool:
    """Whether a kernel before `kernel` makes the copy of read `number` with its dimensions in this order."""
    copy, _ = _box(stage, stage.reads[number], order, 0, stage.copied_as(number))
    return _same(program, kernel, copy) is not None


def copied(stage: Stage, read: Access, order: tuple[str, ...], pad: int, dtype: DType) -> tuple[Stage, Access]:
    """The stage that copies what a read of `stage` touches, and the read of that copy, both without a buffer's name.

    order  see the module's text;  pad: elements behind each row;  dtype: of the copy
    Raises PassError where the copy would not be the same data.
    """
    over_dims = not order or any(item.isdecimal() for item in order)
    return (_box if over_dims else _panels)(stage, read, order, pad, dtype)


def _panels(stage: Stage, read: Access, order: tuple[str, ...], pad: int, dtype: DType) -> tuple[Stage, Access]:
    schedule = stage.schedule or Schedule("", 1)
    tile, sizes = legality.panel_widths(stage, schedule), stage.sizes
    problems = [*legality.panel_order("kernel-pack", order, tile)]
    names = {item.rstrip("/%") for item in order}
    if names != read.flat.axes:
        problems.append(f"kernel-pack: the order must list exactly the axes {', '.join(sorted(read.flat.axes))}")
    missing = [g for g in read.guards if g.index.axes - names]
    if missing:
        problems.append(f"kernel-pack: the guard {missing[0]} lies on axes that the copy does not hold")
    if problems:
        raise PassError("; ".join(problems))
    values: dict[str, Affine] = {axis: Affine() for axis in sizes}      # others cancel out of the address
    axes: list[Axis] = []
    forms: list[Affine] = []
    shape: list[int] = []
    for item in order:
        axis, width = item.rstrip("/%"), tile.get(item.rstrip("/%"), 1)
        digit = item[len(axis):]
        size = {"": sizes[axis], "//": -(-sizes[axis] // width), "%": width}[digit]
        name = axis + {"": "", "//": "_tile", "%": "_place"}[digit]
        axes.append(Axis(name, size))
        shape.append(size)
        values[axis] = values[axis] + Affine({name: width if digit == "//" else 1})
        forms.append(Affine({f"{axis}{digit}{width}" if digit else axis: 1}))
    guards = [Guard(g.index.substitute(values), g.size) for g in read.guards]
    guards += [Guard(values[a], sizes[a]) for a in sorted(names) if a + "//" in order and sizes[a] % tile.get(a, 1)]
    source = replace(read, index=tuple(form.substitute(values) for form in read.index), guards=tuple(guards))
    return _copy(stage, axes, source, shape, pad, dtype), _view(shape, forms, pad, dtype)


def _box(stage: Stage, read: Access, order: tuple[str, ...], pad: int, dtype: DType) -> tuple[Stage, Access]:
    dims = [int(item) for item in order if item.isdecimal()]
    names = [item for item in order if not item.isdecimal()]
    spread = [d for d in range(len(read.shape)) if d not in dims]
    walked = frozenset().union(*(read.index[d].axes for d in spread))
    if sorted(dims + spread) != list(range(len(read.shape))) or sorted(names) != sorted(walked) \
            or any(walked & read.index[d].axes for d in dims):
        raise PassError(f"kernel-pack: {','.join(order)} is not a permutation of the {len(read.shape)} dimensions "
                        f"of {read.buffer}")
    bounds = [*zip(read.index, read.shape)]
    own = tuple(g for g in read.guards if (g.index, g.size) not in bounds)
    if any(not g.index.axes <= walked for g in own):
        raise PassError(f"kernel-pack: a guard of {read.buffer} is not the bound of one of its dimensions")
    ranges = [form.range(stage.sizes) for form in read.index]
    for d in dims:
        if ranges[d][0] >= 0 and ranges[d][1] < read.shape[d] < 2 * (ranges[d][1] - ranges[d][0] + 1):
            ranges[d] = (0, read.shape[d] - 1)      # all of it: other reads share the copy
    inside = {str(d): Axis(f"d{d}", ranges[d][1] - ranges[d][0] + 1) for d in dims} | {
        name: Axis(name, stage.sizes[name]) for name in names}
    axes = [inside[item] for item in order]
    source_index = tuple(form if d in spread else Affine.axis(f"d{d}") + ranges[d][0]
                         for d, form in enumerate(read.index))
    guards = tuple(Guard(source_index[d], read.shape[d]) for d in (*dims, *spread)
                   if ranges[d][0] < 0 or ranges[d][1] >= read.shape[d])
    source = replace(read, index=source_index, guards=(*guards, *own))
    shape = [a.size for a in axes]
    forms = [read.index[int(item)] - ranges[int(item)][0] if item.isdecimal() else Affine.axis(item) for item in order]
    return _copy(stage, axes, source, shape, pad, dtype), _view(shape, forms, pad, dtype)


def _copy(stage: Stage, axes: list[Axis], source: Access, shape: list[int], pad: int, dtype: DType) -> Stage:
    write = Access("", dtype, _padded(shape, pad), tuple(Affine.axis(a.name) for a in axes))
    copy = Stage("copy", tuple(axes), (source,), cast(read_expr(0, source.dtype), dtype), write, locs=stage.locs)
    return merge_axes(copy, set())


def _view(shape: list[int], forms: list[Affine], pad: int, dtype: DType) -> Access:
    return Access("", dtype, _padded(shape, pad), tuple(forms))


def _padded(shape: list[int], pad: int) -> tuple[int, ...]:
    return (*shape[:-1], shape[-1] + pad) if shape else ()


def _same(program: Program, kernel: Kernel, copy: Stage) -> str | None:
    """The buffer of an earlier copy kernel that holds the same elements, if there is one."""
    for other in program.kernels:
        if other.name == kernel.name:
            return None
        if len(other.stages) == 1 and other.stages[0].name == "copy" and other.slice in (None, kernel.slice):
            made = other.stages[0]
            if (made.axes, made.reads, made.body, made.write.shape) == \
                    (copy.axes, copy.reads, copy.body, copy.write.shape):
                return made.write.buffer
    return None


def _read_by_others(program: Program, kernel: Kernel, read: Access) -> bool:
    """Whether kernels that do other slices read the same elements."""
    return any(k.slice is not None and k.slice != kernel.slice and any(read in s.reads for s in k.stages)
               for k in program.kernels)


def _first_slice(kernels: Sequence[Kernel], place: int) -> int:
    """Where the slices begin to one of which the kernel at `place` belongs; copies of weights may stand between."""
    first, here = place, kernels[place].slice
    for at in range(place - 1, -1, -1):
        before = kernels[at].slice
        if before is not None and here is not None:
            if before.count != here.count or before.number > here.number:
                break
            first, here = at, before
    return first


def fresh(name: str, taken: Container[str]) -> str:
    """The name, with a number behind it where it is taken."""
    return name if name not in taken else next(f"{name}{n}" for n in count(1) if f"{name}{n}" not in taken)


def constant_buffers(program: Program) -> frozenset[str]:
    """Buffers known when weights are bound: constants, tables, and what kernels make that read only such buffers."""
    fixed, changing = tables(program), set[str]()
    known = fixed | set(program.constants)
    if not known:
        return frozenset()
    for kernel in program.kernels:
        scatters = any(s.accumulate for s in kernel.stages)     # starts from what its buffer held
        if set(kernel.written) <= fixed:
            continue
        if kernel.read and not scatters and all(b in known for b in kernel.read):
            known.update(b for b in kernel.written if b not in changing)
        else:                                                   # kernels may write parts of one buffer
            changing.update(kernel.written)
            known.difference_update(kernel.written)
    return frozenset(known)
