"""The meaning of kernels, in NumPy: see the text of `kernel.py`, which this follows word for word."""
from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jtc.dialects.errors import InputError
from jtc.dialects.expr import Expr, walk
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Access, Guard, Kernel, Program, Stage
from jtc.dialects.optable import REDUCTIONS
from jtc.dialects.reference_values import (
    combine,
    computed,
    convert,
    coordinates,
    literal,
    locate,
    reduce_axes,
    scalar,
    slabs,
    take,
    update,
)


def run_program(program: Program, inputs: Sequence[np.ndarray], precise: bool = False) -> list[np.ndarray]:
    """The outputs of a program.  Buffers start as NaN (integers: the smallest), so that what is not written shows.

    Raises InputError where the inputs do not fit the program or a constant has no values.
    """
    if len(inputs) != len(program.inputs):
        raise InputError(f"{program.name} takes {len(program.inputs)} inputs, got {len(inputs)}")
    buffers: dict[str, np.ndarray] = {}
    for name, array in zip(program.inputs, inputs, strict=True):
        type, array = program.buffers[name], np.asarray(array)
        if array.dtype != type.dtype.numpy or array.shape != type.shape:
            raise InputError(f"input {name} must be {type}, got {array.dtype}{list(array.shape)}")
        buffers[name] = np.array(array, computed(type.dtype, precise), order="C")
    for name, value in program.constants.items():
        type = program.buffers[name]
        if value is None:
            raise InputError(f"the constant {name!r} has no values", hint="load the weights together with the program")
        array = np.asarray(value).astype(type.dtype.numpy).astype(computed(type.dtype, precise))
        buffers[name] = np.array(np.broadcast_to(array, type.shape), order="C")
    for name, type in program.buffers.items():
        buffers.setdefault(name, _unwritten(type, precise))
    for kernel in program.kernels:
        run_kernel(kernel, buffers, precise)
    return [buffers[name].copy() for name in program.outputs]


def run_kernel(kernel: Kernel, buffers: MutableMapping[str, np.ndarray], precise: bool = False) -> None:
    """Run one kernel on named arrays, each contiguous and of as many elements as the kernel's views of it.

    What the kernel writes is written in place; a written buffer that is missing is made, with the shape of the view
    that it is written through.  With `precise`, values are float64 until they are stored in an array.
    Raises InputError where an access without a guard leaves its buffer.
    """
    for stage in kernel.stages:
        for access in stage.writes:
            if access.buffer not in buffers and access.buffer not in _locals(kernel):
                buffers[access.buffer] = _unwritten(TensorType(access.dtype, access.shape), precise)
    flat: dict[str, np.ndarray] = {}
    for name in (*kernel.operands, *kernel.written):
        if name not in buffers:
            raise InputError(f"kernel {kernel.name} needs the buffer {name!r}")
        if not buffers[name].flags.c_contiguous:
            raise InputError(f"kernel {kernel.name}: the buffer {name!r} is not contiguous")
        flat[name] = buffers[name].reshape(-1)
    accumulators: dict[str, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for block in _blocks(kernel):
            flat.update({b.name: _unwritten(b.type, precise).reshape(-1) for b in kernel.locals})
            for stage in kernel.stages:
                _Run(kernel, stage, block, flat, accumulators, precise).run()


def _locals(kernel: Kernel) -> set[str]:
    return {b.name for b in kernel.locals}


def _unwritten(type: TensorType, precise: bool) -> np.ndarray:
    fill: Any = np.nan if type.dtype.is_float else REDUCTIONS["max"].identity(type.dtype)
    return np.full(type.shape, fill, computed(type.dtype, precise))


def _blocks(kernel: Kernel) -> Iterator[dict[str, range]]:
    """The blocks of the shared axes, in order: axis -> the part of it that one block runs over."""
    parts = [[(axis.name, range(b, min(b + block, axis.size))) for b in range(0, axis.size, block)]
             for axis, block in kernel.shared]
    return map(dict, itertools.product(*parts))


@dataclass
class _Run:
    """One stage on one block of the shared axes.

    accumulators  stage name -> partial reductions over the stage's whole parallel space, kept from block to block
    """

    kernel: Kernel
    stage: Stage
    block: Mapping[str, range]
    flat: Mapping[str, np.ndarray]
    accumulators: dict[str, np.ndarray]
    precise: bool

    def run(self) -> None:
        stage = self.stage
        if stage.accumulate:
            self._accumulate()
            return
        if stage.scan:
            self._scan()
            return
        spans = {a.name: self.block.get(a.name, range(a.size)) for a in stage.axes}
        parallel, reductions = stage.parallel, stage.reductions
        for outer in _boxes(parallel, spans):
            before = acc = self._finished_before(outer)
            if stage.rescale is not None and not self._is_first_block():
                acc = acc * _Points(self, parallel, outer).value(stage.rescale)
            for inner in _boxes(reductions, spans):
                points = _Points(self, [*parallel, *reductions], {**outer, **inner})
                value = np.broadcast_to(points.value(stage.body), points.shape)
                if stage.keep is not None:
                    points.store(stage.keep, value)
                if stage.reduce is None:
                    acc = value
                else:
                    over = tuple(range(len(parallel), len(points.shape)))
                    part = reduce_axes(stage.reduce, value, over, stage.body.dtype, self.precise)
                    acc = combine(stage.reduce, acc, part, stage.body.dtype, self.precise)
            if stage.before is not None:
                points = _Points(self, parallel, outer)
                points.store(stage.before, before)
                points.store(stage.write, acc)
            if self._is_last_block():
                points = _Points(self, parallel, outer)
                results = [(stage.write, points.value(stage.epilogue, acc) if stage.epilogue is not None else acc),
                           *((r.write, points.value(r.value, acc)) for r in stage.more)]
                for write, result in results:
                    points.store(write, result)
            else:
                self._accumulator()[_where(parallel, outer)] = acc

    def _accumulate(self) -> None:
        """write[...] = reduce(write[...], body) at every point, in the order of the axes."""
        stage = self.stage
        names = [a.name for a in stage.axes]
        for box in _boxes(names, {a.name: self.block.get(a.name, range(a.size)) for a in stage.axes}):
            points = _Points(self, names, box)
            value = np.broadcast_to(points.value(stage.body), points.shape)
            offset, inside = points.place(stage.write)
            update(stage.reduce or "replace", self.flat[stage.write.buffer], offset[inside], value[inside])

    def _scan(self) -> None:
        """acc = body(acc), written at every point of the reduction axis, in order."""
        stage = self.stage
        spans = {a.name: self.block.get(a.name, range(a.size)) for a in stage.axes}
        axis, = stage.reductions
        for outer in _boxes(stage.parallel, spans):
            acc = self._identity([*(len(r) for r in outer.values()), 1])
            for step in spans[axis]:
                points = _Points(self, [*stage.parallel, axis], {**outer, axis: range(step, step + 1)})
                acc = np.broadcast_to(points.value(stage.body, acc), points.shape)
                points.store(stage.write, acc if stage.epilogue is None else points.value(stage.epilogue, acc))

    def _is_first_block(self) -> bool:
        """Whether no earlier block has added to the reductions that this one works on."""
        return all(span.start == 0 for axis, span in self.block.items() if axis in self.stage.reductions)

    def _is_last_block(self) -> bool:
        """Whether no later block adds to the reductions that this one has worked on."""
        sizes = self.stage.sizes
        return all(span.stop == sizes[axis] for axis, span in self.block.items() if axis in self.stage.reductions)

    def _finished_before(self, outer: Mapping[str, range]) -> np.ndarray:
        """The reduction of earlier blocks, or its identity."""
        stage = self.stage
        if stage.name in self.accumulators:
            return self.accumulators[stage.name][_where(stage.parallel, outer)]
        return self._identity([len(r) for r in outer.values()])

    def _accumulator(self) -> np.ndarray:
        stage = self.stage
        if stage.name not in self.accumulators:
            self.accumulators[stage.name] = self._identity([stage.sizes[a] for a in stage.parallel])
        return self.accumulators[stage.name]

    def _identity(self, shape: Sequence[int]) -> np.ndarray:
        dtype = self.stage.body.dtype
        identity = REDUCTIONS[self.stage.reduce].identity(dtype) if self.stage.reduce is not None else 0
        return np.full(shape, literal(identity, dtype, self.precise))


def _boxes(names: Sequence[str], spans: Mapping[str, range]) -> Iterator[dict[str, range]]:
    """The space of the named axes, cut into boxes of bounded size, in row-major order."""
    for box in slabs([len(spans[n]) for n in names]):
        yield {n: spans[n][r.start:r.stop] for n, r in zip(names, box)}


def _where(names: Sequence[str], box: Mapping[str, range]) -> tuple[slice, ...]:
    return tuple(slice(box[n].start, box[n].stop) for n in names)


class _Points:
    """The points of a box of a stage's iteration space: arrays with one dimension per axis, in the order of `names`."""

    def __init__(self, run: _Run, names: Sequence[str], box: Mapping[str, range]):
        self.run = run
        self.shape = tuple(len(box[n]) for n in names)
        self.axes: dict[str, np.ndarray] = dict(zip(names, coordinates([box[n] for n in names])))
        # A local buffer sees the place inside the block.
        self.places = {n: c - run.block[n].start if n in run.block else c for n, c in self.axes.items()}
        self.reads: dict[int, np.ndarray] = {}

    def value(self, root: Expr, acc: np.ndarray | None = None) -> np.ndarray:
        """The expression's value at every point, in a shape that broadcasts to the box."""
        precise = self.run.precise
        values: dict[int, Any] = {}
        for e in walk(root):
            args = [values[id(a)] for a in e.args]
            result: Any
            if e.fn == "read":
                result = self.read(e.attr)
            elif e.fn == "const":
                result = literal(e.attr, e.dtype, precise)
            elif e.fn == "acc":
                result = acc
            elif e.fn == "index":
                result = np.asarray(e.attr.evaluate(self.axes)).astype(e.dtype.numpy)
            elif e.fn == "inbounds":
                result = self.holds(e.attr)
            elif e.fn == "cast":
                result = convert(args[0], e.dtype, precise)
            else:
                result = scalar(e.fn, args, e.dtype, precise)
            values[id(e)] = result
        return values[id(root)]

    def read(self, number: int) -> np.ndarray:
        if number not in self.reads:
            access = self.run.stage.reads[number]
            offset, inside = self.locate(access)
            fill = literal(access.fill, access.dtype, self.run.precise)
            read = take(self.run.flat[access.buffer], offset, inside, fill)
            self.reads[number] = read.astype(computed(access.dtype, self.run.precise), copy=False)
        return self.reads[number]

    def holds(self, guards: Sequence[Guard]) -> Any:
        result: Any = np.True_
        for guard in guards:
            value = guard.index.evaluate(self.axes)
            result = result & (value >= 0) & (value < guard.size)
        return np.asarray(result)

    def locate(self, access: Access) -> tuple[Any, Any]:
        """(offset, whether guards and gathered indices allow it), each in a shape that broadcasts to the box."""
        local = access.buffer in _locals(self.run.kernel)
        index = [np.asarray(form.evaluate(self.places if local else self.axes)) for form in access.index]
        allowed = self.holds(access.guards)
        for dim, e in access.gather:
            index[dim] = index[dim] + self.value(e).astype(np.int64)
        for dim in {dim for dim, _ in access.gather}:
            allowed = allowed & (index[dim] >= 0) & (index[dim] < access.shape[dim])
        offset, inside = locate(index, access.shape)
        if np.any(allowed & ~inside):
            where = f"{self.run.kernel.name}/{self.run.stage.name}"
            raise InputError(f"{where}: an access to {access.buffer} leaves its view {list(access.shape)} where its "
                             f"guards hold: index [{', '.join(map(str, access.index))}]")
        return offset, allowed & inside

    def place(self, access: Access) -> tuple[np.ndarray, np.ndarray]:
        """As `locate`, at every point of the box."""
        offset, inside = self.locate(access)
        return np.broadcast_to(offset, self.shape), np.broadcast_to(inside, self.shape)

    def store(self, access: Access, values: np.ndarray) -> None:
        offset, inside = self.place(access)
        target = self.run.flat[access.buffer]
        target[offset[inside]] = np.broadcast_to(values, self.shape)[inside].astype(target.dtype)
