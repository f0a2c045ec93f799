"""From operations of the `jtc` dialect to programs, kernels and stages; decode.py has types and attributes."""
from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from jtc.dialects import expr
from jtc.dialects.affine import Affine
from jtc.dialects.decode import DecodeError, Fields, dtype, locations, number
from jtc.dialects.dtypes import DType
from jtc.dialects.expr import Expr
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import (
    PARALLEL,
    REDUCTION,
    Access,
    Axis,
    Fetch,
    Guard,
    Kernel,
    Local,
    Pack,
    Program,
    Result,
    Schedule,
    Slice,
    Stage,
    Storage,
)
from jtc.dialects.mlir import ir

_AXIS = re.compile(r"([A-Za-z_][\w.$]*):(\d+)(r?)")
_GUARD = re.compile(r"0 <= (.+) < (\d+)")
_SHARED = re.compile(r"(.+) by ([1-9]\d*)")
_STEP = re.compile(r"([A-Za-z_][\w.$]*):([1-9]\d*)")
_FETCH = re.compile(r"(\d+)\.(\d+) \+ (\d+)")
_GATHER = re.compile(r"dim (\d+): offset (\d+)")


def _match(pattern: re.Pattern, text: str) -> tuple[str, ...]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return match.groups()


def _axis(text: str) -> Axis:
    name, size, reduction = _match(_AXIS, text)
    return Axis(name, int(size), REDUCTION if reduction else PARALLEL)


def _guard(text: str) -> Guard:
    form, size = _match(_GUARD, text)
    return Guard(Affine.parse(form), int(size))


def _shared(text: str) -> tuple[Axis, int]:
    axis, block = _match(_SHARED, text)
    return _axis(axis), int(block)


def _fetch(text: str) -> Fetch:
    stage, access, blocks = _match(_FETCH, text)
    return Fetch(int(stage), int(access), int(blocks))


def _step(text: str) -> tuple[str, int]:
    name, step = _match(_STEP, text)
    return name, int(step)


def _gather(text: str) -> tuple[int, int]:
    dim, value = _match(_GATHER, text)
    return int(dim), int(value)


def program(op: Any) -> Program:
    """The program in a `jtc.program` op."""
    fields = Fields(dict(op.attributes.items()), "", op)
    result = Program(fields.string("name"), fields.strings("inputs", False), fields.strings("outputs", False), {},
                     input_names=fields.strings("input_names"), output_names=fields.strings("output_names"))
    result.updates = dict(fields.pairs("updates", '["output", "input"]'))
    fields.finish()
    for inner in _operations(op.regions[0], ("jtc.buffer", "jtc.kernel")):
        if inner.name == "jtc.kernel":
            result.kernels.append(_kernel(inner))
            continue
        name, type, constant, storage = _buffer(inner)
        if name in result.buffers:
            raise DecodeError(f"buffer {name!r} is there twice", inner)
        result.buffers[name] = type
        if storage is not None:
            result.storage[name] = storage
        if isinstance(constant, ir.StringAttr):
            result.constants[name] = None
        elif constant is not None:
            result.constants[name] = number(constant, type.dtype, "constant")
    return result


def _operations(region: Any, names: tuple[str, ...]) -> Iterable[Any]:
    for block in region.blocks:
        for op in block.operations:
            if op.operation.name not in names:
                allowed = " and ".join(names)
                raise DecodeError(f"{op.operation.name} cannot stand here; only {allowed} can", op.operation)
            yield op.operation


def _buffer(op: Any) -> tuple[str, TensorType, Any, Storage | None]:
    fields = Fields(dict(op.attributes.items()), "", op)
    found = fields.string("name"), fields.type("type"), fields.take("constant", ir.Attribute, "0 : i32", optional=True)
    inner, storage = fields.dictionary("stored", optional=True), None
    if inner is not None:
        storage = Storage(tuple(inner.integers("order")), inner.integer("pad", 0), inner.string("why"))
        inner.finish()
    fields.finish()
    return *found, storage


def _kernel(op: Any) -> Kernel:
    fields = Fields(dict(op.attributes.items()), "", op)
    name = fields.string("name")
    shared = fields.parsed("shared", _shared, "i:128 by 32")
    needed = fields.parsed("needed", _guard, "0 <= i - j < 128")
    reasons, in_place = fields.pairs("reasons", '["buffer", "why"]'), fields.pairs("in_place", '["written", "read"]')
    inner, slice = fields.dictionary("slice", optional=True), None
    if inner is not None:
        slice = Slice(inner.integer("number"), inner.integer("count"), inner.string("why"))
        inner.finish()
    fields.finish()
    stages, local = [], []
    for inner in _operations(op.regions[0], ("jtc.buffer", "jtc.stage")):
        if inner.name == "jtc.stage":
            stages.append(_stage(inner))
        else:
            buffer, type, constant, storage = _buffer(inner)
            if constant is not None or storage is not None:
                raise DecodeError(f"a buffer inside a kernel cannot be {'constant' if storage is None else 'stored'}",
                                  inner)
            local.append(Local(buffer, type))
    return Kernel(name, tuple(stages), shared, tuple(local), tuple(reasons), tuple(in_place), needed, slice)


def _stage(op: Any) -> Stage:
    fields = Fields(dict(op.attributes.items()), "", op)
    name = fields.string("name")
    axes = fields.parsed("axes", _axis, "i:128", optional=False)
    reads = [fields.inner(attr, f"read {i}: ") for i, attr in enumerate(fields.items("reads"))]
    types = [f.type("view") for f in reads]
    scan = fields.flag("scan")
    body, = _region(op, 0, types, _carried(op, types) if scan else None, "body")
    gathered = _region(op, 2, types, None, "third region")
    write = _access(fields.dictionary("write"), gathered)      # type: ignore[arg-type]
    keep = fields.dictionary("keep", optional=True)
    reduce = fields.string("reduce") if "reduce" in fields.left else None
    writes = [_access(fields.inner(attr, f"more {i}: "), gathered) for i, attr in enumerate(fields.items("more"))]
    plain = bool(writes) and reduce is None
    tails = _region(op, 1, types, None if plain else body.dtype, "epilogue")
    rescale = fields.flag("rescale")
    before = fields.dictionary("before", optional=True)
    first = len(tails) - len(writes) - rescale      # values before those of the further results
    if first not in ((0,) if plain else (1,) if writes or rescale else (0, 1)):
        raise DecodeError(f"the epilogue yields {len(tails)} values for {len(writes)} further results"
                          f"{' and `rescale`' * rescale}", op)
    epilogue = tails[:first]
    if (writes or rescale) and epilogue and epilogue[0].fn == "acc":
        epilogue = []
    schedule = fields.dictionary("schedule", optional=True)
    result = Stage(
        name, axes, tuple(_access(f, gathered, type) for f, type in zip(reads, types, strict=True)), body, write,
        reduce=reduce, epilogue=epilogue[0] if epilogue else None,
        keep=None if keep is None else _access(keep, gathered),
        more=tuple(Result(write, value) for write, value in zip(writes, tails[first:])),
        before=None if before is None else _access(before, gathered), rescale=tails[-1] if rescale else None,
        accumulate=fields.flag("accumulate"), scan=scan, schedule=None if schedule is None else _schedule(schedule),
        locs=locations(op.location), ops=tuple(fields.strings("ops")))
    fields.finish()
    return result


def _carried(op: Any, reads: list[TensorType]) -> DType | None:
    """The type of the value that a scan carries: that of the body's first argument, before those of the reads."""
    arguments = [a for block in op.regions[0].blocks for a in block.arguments]
    return dtype(arguments[0].type) if len(arguments) == len(reads) + 1 else None


def _access(fields: Fields, gathered: list[Expr], view: TensorType | None = None) -> Access:
    view = view or fields.type("view")
    fill = fields.take("fill", ir.Attribute, "0.0 : f32", optional=True)
    gather = []
    for dim, value in fields.parsed("gather", _gather, "dim 0: offset 1"):
        if value >= len(gathered):
            raise fields.error(f"gather: offset {value} of the {len(gathered)} in the third region")
        gather.append((dim, gathered[value]))
    access = Access(fields.string("buffer"), view.dtype, view.shape,
                    fields.parsed("index", Affine.parse, "2*i + k - 1", optional=False),
                    fields.parsed("guards", _guard, "0 <= i - 1 < 8"),
                    0 if fill is None else number(fill, view.dtype, f"{fields.what}fill"), tuple(gather))
    fields.finish()
    return access


def _schedule(fields: Fields) -> Schedule:
    packs = []
    for i, attr in enumerate(fields.items("packs")):
        pack = fields.inner(attr, f"pack {i}: ")
        inside = pack.string("inside")
        try:
            loop = _step(inside)
        except ValueError:
            raise pack.error(f"inside: {inside!r} is not like 'i:8'") from None
        packs.append(Pack(pack.integer("read"), loop, tuple(pack.strings("order", False)), pack.integer("pad", 0)))
        pack.finish()
    result = Schedule(
        fields.string("vector"), fields.integer("lanes"), fields.parsed("loops", _step, "i:8"),
        tuple(fields.strings("reduction")), fields.parsed("unroll", _step, "k:4"), tuple(packs),
        tuple(fields.strings("split")), fields.integer("threads", 0), fields.flag("stream"),
        tuple(fields.integers("prefetch")), fields.real("gain", 0.0),
        fields.parsed("tree", _step, "k:2048"), fields.parsed("fetches", _fetch, "2.1 + 0"),
        fields.string("dot", ""), fields.flag("matrix"))
    fields.finish()
    return result


def _region(op: Any, number: int, reads: list[TensorType], acc: DType | None, what: str) -> list[Expr]:
    """The values that a region of a stage yields, or the offsets of the third one; none where it is empty.

    The body must not be empty.
    """
    blocks = list(op.regions[number].blocks)
    if not blocks and number:
        return []
    if len(blocks) != 1:
        raise DecodeError(f"the {what} must be one block", op)
    expected = ([acc] if acc is not None else []) + [t.dtype for t in reads]
    block = blocks[0]
    if [str(a.type) for a in block.arguments] != [d.name for d in expected]:
        given = ", ".join(str(a.type) for a in block.arguments)
        rule = "the accumulator and one value for each read" if acc is not None else "one value for each read"
        raise DecodeError(f"the {what} takes ({', '.join(d.name for d in expected)}), {rule}; it has ({given})", op)
    leaves = ([expr.acc(acc)] if acc is not None else []) + [expr.read(i, t.dtype) for i, t in enumerate(reads)]
    values: dict[Any, Expr] = dict(zip(block.arguments, leaves, strict=True))
    offsets: list[Expr] = []
    for inner in (o.operation for o in block.operations):
        if any(a not in values for a in inner.operands):
            raise DecodeError(f"the {what} uses a value from outside of its region", inner)
        args = [values[a] for a in inner.operands]
        if inner.name == "jtc.yield":
            if len(args) != (number < 2) and not (number == 1 and args):
                raise DecodeError(f"the {what} yields {len(args)} values, not {int(number < 2)}", inner)
            return args or offsets
        if inner.name == "jtc.offset":
            if number < 2:
                raise DecodeError("offsets stand in the third region of a stage", inner)
            offsets += args
        else:
            values[inner.results[0]] = _scalar(inner, tuple(args))
    raise DecodeError(f"the {what} must end in jtc.yield", op)


def _scalar(op: Any, args: tuple[Expr, ...]) -> Expr:
    if not op.name.startswith("jtc."):
        raise DecodeError(f"{op.name} cannot stand in a stage; only scalar ops of jtc can", op)
    name, type = op.name.removeprefix("jtc."), dtype(op.results[0].type)
    if name == "constant":
        return expr.const(number(op.attributes["value"], type, "value"), type)
    if name == "index":
        return expr.index(index_form(op), type)
    if name == "inbounds":
        return expr.expr("inbounds", (), type, guards(op))
    return expr.expr(name, args, type)


def index_form(op: Any) -> Affine:
    """The attribute of a `jtc.index`: the form whose value it is."""
    fields = Fields(dict(op.attributes.items()), "", op)
    text = fields.string("form")
    fields.finish()
    try:
        return Affine.parse(text)
    except ValueError as error:
        raise DecodeError(f"form: {error}", op) from None


def guards(op: Any) -> tuple[Guard, ...]:
    """The attribute of a `jtc.inbounds`: the ranges in which it is true."""
    fields = Fields(dict(op.attributes.items()), "", op)
    found = fields.parsed("guards", _guard, "0 <= i - 1 < 8", optional=False)
    fields.finish()
    return found
