"""Kernels cut along one axis: what a kernel does for one slice of a batch, and the buffers that it shares with others.

A kernel may be cut where each of its stages has a parallel axis that walks one dimension of what it writes, and that
nothing else depends on: y[n, f] = sum(x[n, c] * w[f, c]) may be cut along n, and then x and y are, or along f.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jtc.dialects.affine import Affine
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import PARALLEL, Access, Axis, Kernel, Slice, Stage
from jtc.passes.kernel.kernel_merge_axes import pinned
from jtc.passes.stages import map_accesses


@dataclass(frozen=True)
class Cut:
    """A way to cut a kernel.

    size  of the axes along which it is cut;  axes: one of each stage
    dims  buffer or local -> the dimension that they walk, for those that are cut with the kernel
    """

    size: int
    axes: tuple[str, ...]
    dims: Mapping[str, int]


def cuts(kernel: Kernel, buffers: Mapping[str, TensorType]) -> Iterator[Cut]:
    """All ways to cut a kernel.  buffers: types of what it touches."""
    types = {**buffers, **{b.name: b.type for b in kernel.locals}}
    for axis in kernel.stages[0].axes:
        found = _cut(kernel, types, axis)
        if found is not None:
            yield found


def _cut(kernel: Kernel, types: Mapping[str, TensorType], first: Axis) -> Cut | None:
    """The cut along an axis of the first stage, and along those of other stages that walk what is cut with it."""
    axes: list[str] = []
    dims: dict[str, int] = {}
    whole: set[str] = set()
    for stage in kernel.stages:
        axis = first.name if not axes else _walks(stage, dims)
        if axis is None or stage.sizes.get(axis) != first.size or not _free(stage, axis, kernel):
            return None
        for access in stage.accesses:
            at = _dimension(access, axis, first.size)
            if at is None:
                whole.add(access.buffer)
            elif at < 0 or not _seen_as(types[access.buffer], access, at) or dims.setdefault(access.buffer, at) != at:
                return None
        axes.append(axis)
    written = {a.buffer for s in kernel.stages for a in s.writes}
    if first.name in {axis.name for axis, _ in kernel.shared}:      # locals are those of one place of it
        written -= {b.name for b in kernel.locals}
        if set(axes) != {first.name}:
            return None
    return Cut(first.size, tuple(axes), dims) if written <= dims.keys() and not whole & dims.keys() else None


def _walks(stage: Stage, dims: Mapping[str, int]) -> str | None:
    """The axis that walks a dimension that is cut."""
    forms = [a.index[dims[a.buffer]] for a in stage.accesses if a.buffer in dims and dims[a.buffer] < len(a.index)]
    return next((str(axis) for form in forms if (axis := form.as_axis()) is not None), None)


def _free(stage: Stage, axis: str, kernel: Kernel) -> bool:
    """Whether places along an axis are on their own."""
    named = {a.name: a for a in stage.axes}
    return named[axis].kind == PARALLEL and named[axis].size > 1 and not stage.accumulate \
        and axis not in pinned(stage) and all(axis not in g.index.axes for g in kernel.needed) \
        and all(axis != shared.name or block == 1 for shared, block in kernel.shared)


def _dimension(access: Access, axis: str, size: int) -> int | None:
    """The dimension that an axis walks from end to end; None where it does not occur, -1 where it occurs otherwise."""
    found = [d for d, form in enumerate(access.index) if axis in form.axes]
    if not found:
        return None
    at = found[0]
    whole = len(found) == 1 and access.index[at] == Affine.axis(axis) and access.shape[at] == size
    return at if whole else -1


def _seen_as(type: TensorType, access: Access, at: int) -> bool:
    """Whether dimension `at` of a view is that of the buffer."""
    return type.shape[:at + 1] == access.shape[:at + 1] and type.size == access.size


def part(kernel: Kernel, cut: Cut, one: Slice, names: Mapping[str, str]) -> Kernel:
    """One slice of a kernel.

    names  buffer that lives inside of a slice only -> the buffer of this slice; of others the slice is a part
    """
    number, count, size = one.number, one.count, cut.size // one.count
    local = {b.name for b in kernel.locals}

    def access(a: Access) -> Access:
        if a.buffer not in cut.dims:
            return a
        at = cut.dims[a.buffer]
        if a.buffer in names or a.buffer in local:
            return replace(a, buffer=names.get(a.buffer, a.buffer), shape=sliced(a.shape, at, count))
        return replace(a, index=(*a.index[:at], a.index[at] + number * size, *a.index[at + 1:]))

    def stage(s: Stage, axis: str) -> Stage:
        return map_accesses(replace(s, axes=_shorter(s.axes, axis, size)), access)

    shared = tuple((_shorter([axis], axis.name, size)[0] if axis.name in cut.axes else axis, block)
                   for axis, block in kernel.shared)
    locals_ = tuple(replace(b, type=replace(b.type, shape=sliced(b.type.shape, cut.dims[b.name], count)))
                    if b.name in cut.dims else b for b in kernel.locals)
    return replace(kernel, shared=shared, locals=locals_, slice=one,
                   stages=tuple(stage(s, axis) for s, axis in zip(kernel.stages, cut.axes, strict=True)),
                   reasons=kernel.reasons if number == 0 else ())


def sliced(shape: Sequence[int], at: int, count: int) -> tuple[int, ...]:
    """The shape of one of `count` slices along dimension `at`."""
    return (*shape[:at], shape[at] // count, *shape[at + 1:])


def _shorter(axes: Sequence[Axis], name: str, size: int) -> tuple[Axis, ...]:
    return tuple(replace(a, size=size) if a.name == name else a for a in axes)
