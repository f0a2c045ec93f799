"""The plan of a module: its buffers and where they lie, what to launch in which order, what to prepare once.

A plan is data, kept as JSON beside the machine code; planner.py makes it.  Every buffer has a kind:

| kind     | memory                                                        | `place`                     |
|---|---|---|
| input    | the caller's                                                  | number of the input         |
| output   | fresh for every run, or that of the input that it replaces    | number of the output        |
| constant | weights, bound once; or a number that fills the buffer        | number of the constant      |
| prepared | written once by the `prepare` launches, from constants only   | offset in the prepared block|
| scratch  | like prepared, but needed only while preparing                | offset in the scratch block |
| arena    | intermediate values; one block per run, shared by liveness    | offset in the arena         |
| own      | those of one slice; one block per thread, shared by liveness  | offset in the block         |

Launches with equal `wave` do not depend on each other and may run at the same time; waves run in order.  But where they
belong to slices, as of the images of a batch, those of one slice run in order, on one thread, and slices at the same
time; then all launches of the wave belong to some slice.
"""
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from jtc.dialects.errors import InputError

VERSION = 1
KINDS = ("input", "output", "constant", "prepared", "scratch", "arena", "own")


@dataclass(slots=True)
class BufferPlan:
    """One buffer.  dtype: name in the IR; bytes: its size; kind and place: see the module's table."""

    name: str
    dtype: str
    shape: list[int]
    bytes: int
    kind: str
    place: int


@dataclass(slots=True)
class ConstantPlan:
    """Where the value of a constant buffer comes from: `splat` fills it, else `bytes` bytes at `offset` of the weights.

    name is the name in the weight table; two constants with the same array share one offset.
    """

    name: str
    buffer: int
    splat: bool | int | float | None
    offset: int
    bytes: int


@dataclass(slots=True)
class LaunchPlan:
    """One call of a kernel function: `operands` are buffer numbers, `units` its iterations that threads share.

    workspace: bytes of private memory per thread; wave: see the module's text; flops, bytes: what it computes, moves;
    offsets: where in each operand the kernel starts, in bytes; empty where all are 0;  slice: of its wave, or -1.
    """

    kernel: str
    symbol: str
    operands: list[int]
    units: int
    workspace: int
    wave: int
    flops: int
    bytes: int
    offsets: list[int] = field(default_factory=list)
    slice: int = -1


@dataclass(slots=True)
class Plan:
    """Everything the runtime needs besides machine code and weights.

    inputs, outputs      buffer numbers; input_names, output_names: as the user knows them
    weight_bytes         size of the weight blob
    target, features     LLVM names of the processor and of the features that the code may use
    tree                 how results are put together for the caller (JSON written by the front end), or None
    report               what `jtc explain` prints, as the driver gives it
    updates              [output, input] numbers: the output may be written over the input, if nobody else needs that
    """

    name: str
    inputs: list[int]
    outputs: list[int]
    input_names: list[str]
    output_names: list[str]
    buffers: list[BufferPlan]
    constants: list[ConstantPlan]
    prepare: list[LaunchPlan]
    launches: list[LaunchPlan]
    arena_bytes: int = 0
    prepared_bytes: int = 0
    scratch_bytes: int = 0
    own_bytes: int = 0
    weight_bytes: int = 0
    target: str = ""
    features: str = ""
    tree: str | None = None
    report: dict[str, Any] = field(default_factory=dict)
    updates: list[list[int]] = field(default_factory=list)

    @property
    def memory(self) -> int:
        """Bytes for values between kernels, at most at one time; those of a slice on one thread."""
        return self.arena_bytes + self.own_bytes

    def to_json(self) -> str:
        return json.dumps({"format": "jtc-plan", "version": VERSION, **_fields(self)}, separators=(",", ":"),
                          default=_fields)

    @staticmethod
    def from_json(text: str | bytes, source: str = "plan") -> Plan:
        """Raises InputError for text that is not a plan, or one of a newer format."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise InputError(f"{source}: the plan is not readable: {error}") from None
        if not isinstance(data, dict) or data.pop("format", None) != "jtc-plan":
            raise InputError(f"{source}: this is not a jtc plan")
        version = data.pop("version", None)
        if version != VERSION:
            newer = isinstance(version, int) and version > VERSION
            raise InputError(f"{source}: plan format {version!r}, this jtc reads format {VERSION}",
                             hint="update jtc" if newer else "compile the model again")
        try:
            for key, cls in (("buffers", BufferPlan), ("constants", ConstantPlan), ("prepare", LaunchPlan),
                             ("launches", LaunchPlan)):
                data[key] = [cls(**row) for row in data[key]]
            plan = Plan(**data)
            plan.check(source)
            return plan
        except (TypeError, KeyError) as error:
            known = {f.name for f in fields(Plan)}
            odd = sorted(set(data) - known)
            what = f"unknown field {odd[0]!r}" if odd else error
            raise InputError(f"{source}: the plan is damaged: {what}") from None

    def check(self, source: str = "plan") -> None:
        """Raise InputError where a number points outside: afterwards native code may trust the plan."""
        def need(condition: bool, what: str) -> None:
            if not condition:
                raise InputError(f"{source}: the plan is damaged: {what}")

        count = len(self.buffers)
        blocks = {"prepared": self.prepared_bytes, "scratch": self.scratch_bytes, "arena": self.arena_bytes,
                  "own": self.own_bytes}
        limits = {"input": len(self.inputs), "output": len(self.outputs), "constant": len(self.constants)}
        for b in self.buffers:
            need(b.kind in KINDS, f"buffer {b.name} has kind {b.kind!r}")
            fits = b.place + b.bytes <= blocks[b.kind] if b.kind in blocks else b.place < limits[b.kind]
            need(b.place >= 0 and b.bytes >= 0 and fits, f"buffer {b.name} lies outside its memory")
        for launch in self.prepare + self.launches:
            need(all(0 <= i < count for i in launch.operands), f"{launch.kernel} names a buffer that is not there")
            need(launch.units >= 0 and launch.workspace >= 0, f"{launch.kernel} has negative sizes")
            need(len(launch.offsets) in (0, len(launch.operands)) and all(
                0 <= offset <= self.buffers[i].bytes for i, offset in zip(launch.operands, launch.offsets)),
                f"{launch.kernel} starts outside of a buffer")
            need(launch.slice >= 0 or all(self.buffers[i].kind != "own" for i in launch.operands),
                 f"{launch.kernel} touches a value of a slice, and belongs to none")
        need(all(launch.slice < 0 for launch in self.prepare), "what runs once is in slices")
        whole = {launch.wave for launch in self.launches if launch.slice < 0}
        need(all(launch.slice < 0 or launch.wave not in whole for launch in self.launches),
             "a wave is in slices in part")
        need(all(0 <= i < count for i in self.inputs + self.outputs), "an input or output names no buffer")
        for pair in self.updates:
            need(len(pair) == 2 and 0 <= pair[0] < len(self.outputs) and 0 <= pair[1] < len(self.inputs)
                 and self.buffers[self.outputs[pair[0]]].kind == "output"
                 and self.buffers[self.outputs[pair[0]]].place == pair[0]
                 and self.buffers[self.outputs[pair[0]]].bytes == self.buffers[self.inputs[pair[1]]].bytes,
                 "an output cannot lie in the place of an input")
        need(len({p[0] for p in self.updates}) == len({p[1] for p in self.updates}) == len(self.updates),
             "two outputs lie in the place of one input")
        need(len(self.input_names) == len(self.inputs), "names of inputs are missing")
        need(len(self.output_names) == len(self.outputs), "names of outputs are missing")
        for c in self.constants:
            need(0 <= c.buffer < count and (c.splat is not None or c.offset + c.bytes <= self.weight_bytes),
                 f"constant {c.name} lies outside the weights")


def _fields(row: Any) -> dict[str, Any]:
    """The fields of the plan, or of a row of it, as they stand in JSON."""
    return {f.name: getattr(row, f.name) for f in fields(row)}


def weights(plan: Plan, constants: Mapping[str, Any]) -> Iterable[tuple[int, np.ndarray]]:
    """(offset in the blob, array) of every weight, in the order of their offsets, each once."""
    seen: set[int] = set()
    for c in sorted(plan.constants, key=lambda c: c.offset):
        if c.splat is None and c.offset not in seen:
            seen.add(c.offset)
            yield c.offset, np.ascontiguousarray(constants[c.name])
