"""From types, attributes and operations of the `jtc` dialect to the objects they stand for: those of graphs.

The verifier and the reader share this, and decode_kernel.py.  Every function raises DecodeError with a message and the
operation that it is about; nobody outside `dialect.py` and `reader.py` needs to call them.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import DTYPES, DType
from jtc.dialects.graph import DYNAMIC, MAX_BYTES, Location, TensorType, Weights
from jtc.dialects.mlir import ir, position
from jtc.dialects.optable import META_OPS


class DecodeError(Exception):
    """What is wrong with an operation."""

    def __init__(self, message: str, op: Any = None):
        super().__init__(message)
        self.op = op


# ------------------------------------------------------------------------------------------------ types and attributes
def dtype(type: Any) -> DType:
    """The dtype of an element type.  Raises DecodeError where jtc has none."""
    found = DTYPES.get(str(type))
    if found is None:
        raise DecodeError(f"{type} is not an element type; it must be one of {', '.join(DTYPES)}")
    return found


def tensor_type(type: Any) -> TensorType:
    """The shape and dtype of a ranked tensor type.  Raises DecodeError where it is none or takes too much memory."""
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
    """The results of an affine map without symbols, in its dimensions d0, d1 and so on."""
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

    def string(self, name: str, default: str | None = None) -> str:
        attr = self.take(name, ir.StringAttr, '"..."', optional=default is not None)
        return default if attr is None else attr.value      # type: ignore[return-value]

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
    """Every line of the user's program that an operation comes from: several where it was fused."""
    place = ir.Location.from_attr(place.attr)
    if isinstance(place, ir.FusedLoc):
        return tuple(found for part in place.locations for found in locations(part))
    file, line, column = position(place)
    if not file or file == "-" or column:
        return ()
    return (Location(file, line, place.name_str if isinstance(place, ir.NameLoc) else ""),)
