"""From operations of the `jtc` dialect to the objects they stand for.  The verifier and the reader share this.

Every function raises DecodeError with a message and the operation that it is about; nobody outside `dialect.py` and
`reader.py` needs to call them.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jtc.dialects import expr
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import DTYPES, DType
from jtc.dialects.expr import Expr
from jtc.dialects.graph import DYNAMIC, MAX_BYTES, Location, TensorType, Weights
from jtc.dialects.kernel import (
    PARALLEL,
    REDUCTION,
    Access,
    Axis,
    Guard,
    Kernel,
    Local,
    Pack,
    Program,
    Result,
    Schedule,
    Stage,
)
from jtc.dialects.mlir import ir, position
from jtc.dialects.optable import META_OPS


class DecodeError(Exception):
    """What is wrong with an operation."""

    def __init__(self, message: str, op: Any = None):
        super().__init__(message)
        self.op = op


# ------------------------------------------------------------------------------------------------ types and attributes
def dtype(type: Any) -> DType:
    found = DTYPES.get(str(type))
    if found is None:
        raise DecodeError(f"{type} is not an element type; it must be one of {', '.join(DTYPES)}")
    return found


def tensor_type(type: Any) -> TensorType:
    if not isinstance(type, ir.RankedTensorType) or type.encoding is not None:
        raise DecodeError(f"{type} is not a ranked tensor type")
    dims = (DYNAMIC if type.is_dynamic_dim(i) else n for i, n in enumerate(type.shape))
    made = TensorType(dtype(type.element_type), tuple(dims))
    if made.bytes > MAX_BYTES:
        raise DecodeError(f"{type} takes more than 2^63 bytes")
    return made


def number(attr: Any, of: DType, name: str) -> bool | int | float:
    """The number in an attribute, which must have the dtype `of`."""
    if isinstance(attr, ir.BoolAttr):
        given = "i1"
    elif isinstance(attr, (ir.IntegerAttr, ir.FloatAttr)):
        given = str(attr.type)
    else:
        raise DecodeError(f"{name} must be a number, got {attr}")
    if given != of.name:
        raise DecodeError(f"{name} must be of type {of.name}, got {attr}")
    return attr.value


def affine_map(attr: Any) -> tuple[Affine, ...]:
    if not isinstance(attr, ir.AffineMapAttr):
        raise DecodeError(f"map must be an affine_map, got {attr}")
    map = attr.value
    if map.n_symbols:
        raise DecodeError(f"map must not have symbols, got {map}")
    return tuple(_affine(e, map.n_dims) for e in map.results)


def _affine(e: Any, dims: int) -> Affine:
    """An affine expression, its terms in the order of the dimensions."""
    form = _terms(e)
    order = [f"d{i}" for i in range(dims)]
    return Affine(sorted(form.terms.items(), key=lambda item: order.index(re.split("//|%", item[0])[0])), form.const)


def _terms(e: Any) -> Affine:
    if isinstance(e, ir.AffineDimExpr):
        return Affine.axis(f"d{e.position}")
    if isinstance(e, ir.AffineConstantExpr):
        return Affine.of(e.value)
    if isinstance(e, ir.AffineAddExpr):
        return _terms(e.lhs) + _terms(e.rhs)
    if isinstance(e, ir.AffineMulExpr) and isinstance(e.rhs, ir.AffineConstantExpr):
        return _terms(e.lhs) * e.rhs.value
    sign = "//" if isinstance(e, ir.AffineFloorDivExpr) else "%" if isinstance(e, ir.AffineModExpr) else ""
    if sign and isinstance(e.lhs, ir.AffineDimExpr) and isinstance(e.rhs, ir.AffineConstantExpr):
        return Affine.axis(f"d{e.lhs.position}{sign}{e.rhs.value}")
    raise DecodeError(f"map: {e} is neither affine nor a digit of a dimension")


class Fields:
    """The attributes of an op or a dictionary, taken out one by one; `finish` complains of those that are left."""

    def __init__(self, attrs: Mapping[str, Any], what: str, op: Any = None):
        # Other dialects may attach attributes of theirs; these have a dot in the name.
        self.left = {name: attr for name, attr in attrs.items() if "." not in name}
        self.what, self.op = what, op

    def error(self, message: str) -> DecodeError:
        return DecodeError(f"{self.what}{message}", self.op)

    def take(self, name: str, kind: Any, example: str, optional: bool = False) -> Any:
        attr = self.left.pop(name, None)
        if attr is None and optional:
            return None
        if attr is None:
            raise self.error(f"needs the attribute {name} = {example}")
        if not isinstance(attr, kind):
            raise self.error(f"{name} must be like {example}, got {attr}")
        return attr

    def string(self, name: str) -> str:
        return self.take(name, ir.StringAttr, '"..."').value

    def integer(self, name: str, default: int | None = None) -> int:
        attr = self.take(name, ir.IntegerAttr, "1", optional=default is not None)
        return default if attr is None else attr.value      # type: ignore[return-value]

    def real(self, name: str, default: float) -> float:
        attr = self.take(name, ir.FloatAttr, "1.5 : f64", optional=True)
        return default if attr is None else float(attr.value)

    def flag(self, name: str) -> bool:
        return self.take(name, ir.UnitAttr, "unit", optional=True) is not None

    def type(self, name: str) -> TensorType:
        return tensor_type(self.take(name, ir.TypeAttr, "tensor<8xf32>").value)

    def items(self, name: str, optional: bool = True) -> list[Any]:
        return list(self.take(name, ir.ArrayAttr, "[...]", optional) or ())

    def strings(self, name: str, optional: bool = True) -> list[str]:
        items = self.items(name, optional)
        if not all(isinstance(i, ir.StringAttr) for i in items):
            raise self.error(f'{name} must be like ["...", "..."], got [{", ".join(map(str, items))}]')
        return [i.value for i in items]

    def pairs(self, name: str, example: str) -> list[tuple[str, str]]:
        found = []
        for pair in self.items(name):
            strings = isinstance(pair, ir.ArrayAttr) and all(isinstance(s, ir.StringAttr) for s in pair)
            if not strings or len(pair) != 2:
                raise self.error(f"{name}: {pair} is not like {example}")
            found.append((pair[0].value, pair[1].value))
        return found

    def integers(self, name: str) -> list[int]:
        items = self.items(name)
        if not all(isinstance(i, ir.IntegerAttr) for i in items):
            raise self.error(f"{name} must be like [0, 1], got [{', '.join(map(str, items))}]")
        return [i.value for i in items]

    def parsed(self, name: str, parse: Callable[[str], Any], example: str, optional: bool = True) -> tuple[Any, ...]:
        """A list of strings in a notation of ours."""
        values = []
        for text in self.strings(name, optional):
            try:
                values.append(parse(text))
            except ValueError:
                raise self.error(f"{name}: {text!r} is not like {example!r}") from None
        return tuple(values)

    def dictionary(self, name: str, optional: bool = False) -> Fields | None:
        attr = self.take(name, ir.DictAttr, "{...}", optional)
        return None if attr is None else self.inner(attr, f"{name}: ")

    def inner(self, attr: Any, what: str) -> Fields:
        if not isinstance(attr, ir.DictAttr):
            raise self.error(f"{what}must be like {{...}}, got {attr}")
        return Fields({item.name: item.attr for item in attr}, self.what + what, self.op)

    def finish(self) -> None:
        if self.left:
            raise self.error(f"unknown attribute {next(iter(self.left))!r}")


# ------------------------------------------------------------------------------------------------ graph ops
def node_attrs(op: Any, result: TensorType) -> dict[str, Any]:
    """Attributes of a graph op, of the kinds that the op table says."""
    fields = Fields(dict(op.attributes.items()), "", op)
    row = META_OPS.get(op.name.removeprefix("jtc."))
    attrs: dict[str, Any] = {}
    for name, kind in (row.attrs if row else {}).items():
        if kind == "ints":
            attrs[name] = tuple(fields.take(name, ir.DenseI64ArrayAttr, "array<i64: 0, 1>"))
        elif kind == "int":
            attrs[name] = fields.integer(name)
        elif kind == "fn":
            attrs[name] = fields.string(name)
        elif kind == "map":
            attrs[name] = affine_map(fields.take(name, ir.AffineMapAttr, "affine_map<(d0, d1) -> (d1, d0)>"))
        else:
            attr = fields.take(name, ir.Attribute, "0 : i32")
            named = kind == "value" and isinstance(attr, ir.StringAttr)
            attrs[name] = Weights(attr.value) if named else number(attr, result.dtype, name)
    fields.finish()
    return attrs


def location(place: Any) -> Location | None:
    """The line of the user's program; None for a mere position in MLIR text."""
    found = locations(place)
    return found[0] if found else None


def locations(place: Any) -> tuple[Location, ...]:
    place = ir.Location.from_attr(place.attr)
    if isinstance(place, ir.FusedLoc):
        return tuple(found for part in place.locations for found in locations(part))
    file, line, column = position(place)
    if not file or file == "-" or column:
        return ()
    return (Location(file, line, place.name_str if isinstance(place, ir.NameLoc) else ""),)


# ------------------------------------------------------------------------------------------------ kernel ops
_AXIS = re.compile(r"([A-Za-z_][\w.$]*):(\d+)(r?)")
_GUARD = re.compile(r"0 <= (.+) < (\d+)")
_SHARED = re.compile(r"(.+) by ([1-9]\d*)")
_STEP = re.compile(r"([A-Za-z_][\w.$]*):([1-9]\d*)")
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
        name, type, constant = _buffer(inner)
        if name in result.buffers:
            raise DecodeError(f"buffer {name!r} is there twice", inner)
        result.buffers[name] = type
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


def _buffer(op: Any) -> tuple[str, TensorType, Any]:
    fields = Fields(dict(op.attributes.items()), "", op)
    found = fields.string("name"), fields.type("type"), fields.take("constant", ir.Attribute, "0 : i32", optional=True)
    fields.finish()
    return found


def _kernel(op: Any) -> Kernel:
    fields = Fields(dict(op.attributes.items()), "", op)
    name = fields.string("name")
    shared = fields.parsed("shared", _shared, "i:128 by 32")
    reasons, in_place = fields.pairs("reasons", '["buffer", "why"]'), fields.pairs("in_place", '["written", "read"]')
    fields.finish()
    stages, local = [], []
    for inner in _operations(op.regions[0], ("jtc.buffer", "jtc.stage")):
        if inner.name == "jtc.stage":
            stages.append(_stage(inner))
        else:
            buffer, type, constant = _buffer(inner)
            if constant is not None:
                raise DecodeError("a buffer inside a kernel cannot be constant", inner)
            local.append(Local(buffer, type))
    return Kernel(name, tuple(stages), shared, tuple(local), tuple(reasons), tuple(in_place))


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
    first = len(tails) - len(writes)        # values before those of the further results
    if first not in ((0,) if plain else (1,) if writes else (0, 1)):
        raise DecodeError(f"the epilogue yields {len(tails)} values for {len(writes)} further results", op)
    epilogue = tails[:first]
    if writes and epilogue and epilogue[0].fn == "acc":
        epilogue = []
    schedule = fields.dictionary("schedule", optional=True)
    result = Stage(
        name, axes, tuple(_access(f, gathered, type) for f, type in zip(reads, types, strict=True)), body, write,
        reduce=reduce, epilogue=epilogue[0] if epilogue else None,
        keep=None if keep is None else _access(keep, gathered),
        more=tuple(Result(write, value) for write, value in zip(writes, tails[first:], strict=True)),
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
        fields.parsed("tree", _step, "k:2048"))
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
    fields = Fields(dict(op.attributes.items()), "", op)
    text = fields.string("form")
    fields.finish()
    try:
        return Affine.parse(text)
    except ValueError as error:
        raise DecodeError(f"form: {error}", op) from None


def guards(op: Any) -> tuple[Guard, ...]:
    fields = Fields(dict(op.attributes.items()), "", op)
    found = fields.parsed("guards", _guard, "0 <= i - 1 < 8", optional=False)
    fields.finish()
    return found
