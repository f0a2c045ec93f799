"""A compiled module: loaded from a shared object, called with arrays.  Needs no compiler, no MLIR, no tracing.

The object exports `jtc_plan` (JSON, see plan.py) and `jtc_plan_size` (int64), the kernel functions that the plan names
and, where weights are embedded, `jtc_weights` (64-byte aligned) and `jtc_weights_size` (int64).
"""
from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jtc.dialects.dtypes import DTYPES
from jtc.dialects.errors import InputError
from jtc.runtime import processor
from jtc.runtime.cost import estimate_ns
from jtc.runtime.elf import SharedObject
from jtc.runtime.engine import Buffer, Executable, Library
from jtc.runtime.plan import BufferPlan, Plan


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input, output or constant of a module; dtype is the IR name."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {DTYPES[self.dtype].public}[{', '.join(map(str, self.shape))}]"


class Module:
    """A program ready to run.

    name, inputs, outputs   what it is and takes and gives
    constants               weights that are not in the file; `bind` them before the first call
    plan                    buffers, launches, report
    wrap                    what a call makes of every output Buffer (NumPy arrays unless told otherwise)
    """

    def __init__(self, plan: Plan, library: Library, path: Path, wrap: Callable[[Buffer], Any] | None = None):
        self.plan, self.path, self.name = plan, path, plan.name
        self.wrap = wrap or Buffer.numpy
        self.executable = Executable(plan, library, estimate_ns)
        rows = plan.buffers
        self.inputs = [_info(name, rows[i]) for name, i in zip(plan.input_names, plan.inputs, strict=True)]
        self.outputs = [_info(name, rows[i]) for name, i in zip(plan.output_names, plan.outputs, strict=True)]
        embedded = library.has("jtc_weights")
        self._values: list[Buffer | None] = []
        self.constants: list[TensorInfo] = []
        for c in plan.constants:
            row = rows[c.buffer]
            value = None
            if c.splat is not None:
                value = Buffer.empty(row.dtype, row.shape)
                value.fill(c.splat)
            elif embedded:
                value = library.constant("jtc_weights", c.offset, row.dtype, row.shape)
            else:
                self.constants.append(TensorInfo(c.name, row.dtype, tuple(row.shape)))
            self._values.append(value)
        if not self.constants:
            self.executable.bind([value for value in self._values if value is not None])

    def bind(self, weights: Mapping[str, Any] | Sequence[Any]) -> None:
        """Give the weights, by name or in the order of `constants`: arrays, tensors or Buffers.

        Memory that is passed as a Buffer is used in place; arrays are copied.  Weights that are only packed into
        another form are not kept.  Raises InputError for a missing one or another type.
        """
        if isinstance(weights, Mapping):
            absent = [c.name for c in self.constants if c.name not in weights]
            if absent:
                raise InputError(f"{self.name}: the weight {absent[0]!r} is missing",
                                 hint=f"weights: {', '.join(c.name for c in self.constants)}")
            weights = [weights[c.name] for c in self.constants]
        if len(weights) != len(self.constants):
            raise InputError(f"{self.name} has {len(self.constants)} weights, got {len(weights)}")
        given = iter([to_buffer(value, copy=True) for value in weights])
        self.executable.bind([next(given) if value is None else value for value in self._values])

    def run(self, inputs: Sequence[Buffer]) -> list[Buffer]:
        """Buffers in, Buffers out, which may not be ready yet.  Raises InputError where an input does not fit."""
        return self.executable.run(list(inputs))

    def profile(self, *args: Any) -> list[float]:
        """Run on arrays, tensors or Buffers, one launch after another: the seconds that each of plan.launches took."""
        return [t * 1e-9 for t in self.executable.profile([to_buffer(value, copy=False) for value in args])]

    def __call__(self, *args: Any) -> Any:
        """Arrays, tensors or Buffers in; the results put together as the traced function returned them."""
        results = [self.wrap(b) for b in self.run([to_buffer(value, copy=False) for value in args])]
        if self.plan.tree is None:
            return results[0] if len(results) == 1 else tuple(results)
        return _unflatten(json.loads(self.plan.tree), results)

    def __repr__(self) -> str:
        return f"<Module {self.name}({', '.join(map(str, self.inputs))}) -> ({', '.join(map(str, self.outputs))})>"


def load_module(path: str | os.PathLike[str], wrap: Callable[[Buffer], Any] | None = None) -> Module:
    """The module in a shared object written by `jtc compile`; `wrap` makes the results of calls from Buffers.

    The file is checked before any of its code is loaded.  Raises InputError for one that is missing, cut, foreign, of a
    newer format, or compiled for instructions that this processor lacks.
    """
    file = SharedObject(path)
    here = processor.family()
    if file.family != here:
        raise InputError(f"{path}: compiled for {file.family}, and this machine is {here}",
                         hint="run it on such a machine, or compile for this one")
    plan = plan_of(file)
    absent = processor.missing(plan.features)
    if absent:
        raise InputError(f"{path}: compiled for {plan.target} with {absent[0]}, which this processor lacks",
                         hint=f"compile it for this machine, or with --target {next(iter(here.levels))}")
    for launch in plan.prepare + plan.launches:
        if launch.symbol not in file.symbols:
            raise InputError(f"{path}: the file is damaged: the kernel {launch.symbol} is missing")
    if "jtc_weights" in file.symbols:
        size = file.number("jtc_weights_size")
        if size < plan.weight_bytes:
            raise InputError(f"{path}: the file is damaged: {size} bytes of weights, not {plan.weight_bytes}")
    return Module(plan, Library(os.path.abspath(path)), Path(path), wrap)


def plan_of(file: SharedObject) -> Plan:
    """What a module for any processor says of itself.  Raises InputError where it is none."""
    return Plan.from_json(file.read("jtc_plan", file.number("jtc_plan_size")), str(file.path))


def to_buffer(value: Any, copy: bool) -> Buffer:
    """The Buffer of a Buffer, of a tensor (computing it if it is pending), or of an array."""
    if isinstance(value, Buffer):
        return value
    if hasattr(type(value), "_buffer"):
        return value.value()
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    try:
        return Buffer.from_numpy(array, copy=copy)
    except InputError:                # strings, objects, complex numbers...
        raise InputError(f"a value is {type(value).__name__} {' '.join(repr(value).split())[:60]}, "
                         f"an array of {array.dtype}", hint="pass arrays or tensors of numbers") from None


def _info(name: str, row: BufferPlan) -> TensorInfo:
    return TensorInfo(name, row.dtype, tuple(row.shape))


def _unflatten(form: Any, leaves: list[Any]) -> Any:
    """Lists, tuples and dicts from {"kind", "names", "children"} with None for a leaf; takes leaves from the front."""
    if form is None:
        return leaves.pop(0)
    items = [_unflatten(child, leaves) for child in form["children"]]
    if form["kind"] == "dict":
        return dict(zip(form["names"], items, strict=True))
    return items if form["kind"] == "list" else tuple(items)
