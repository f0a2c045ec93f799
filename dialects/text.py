"""Writing a Graph or a Program as text of the `jtc` dialect, without MLIR being imported.  `reader.py` reads it back.

A graph is a function on tensors, one op of the op table per node:

    func.func @f(%x: tensor<4x8xf32> {jtc.name = "x"}) -> (tensor<4xf32> {jtc.name = "y"}) {
      %0 = "jtc.exp"(%x) : (tensor<4x8xf32>) -> tensor<4x8xf32> loc("model.py":7:0)
      %1 = "jtc.reduce"(%0) {fn = "add", axes = array<i64: 1>} : (tensor<4x8xf32>) -> tensor<4xf32> loc("model.py":8:0)
      return %1 : tensor<4xf32>
    }

A program is one op that holds its buffers and kernels.  In a kernel, axes and indices are strings in the notation of
`affine.py` and `kernel.py`, so that the axes keep their names; the body, the epilogue and the gathered indices of a
stage are regions of scalar ops, whose arguments are the values that the stage's reads give (in the epilogue after the
accumulator).  Where a stage has more results (`more`), the epilogue yields their values too: after that of the write if
there is a reduction, else these only.  `gather = ["dim 0: offset 1"]` adds the second offset of the third region to
the index of dimension 0.

    "jtc.program"() ({
      "jtc.buffer"() {name = "x", type = tensor<4x8xf32>} : () -> ()
      "jtc.buffer"() {name = "y", type = tensor<4xf32>} : () -> ()
      "jtc.kernel"() ({
        "jtc.stage"() ({
        ^bb0(%x: f32):
          %0 = "jtc.exp"(%x) : (f32) -> f32
          "jtc.yield"(%0) : (f32) -> ()
        }, {}, {}) {
          name = "s0",
          axes = ["i:4", "k:8r"],
          reads = [{buffer = "x", view = tensor<4x8xf32>, index = ["i", "k"]}],
          write = {buffer = "y", view = tensor<4xf32>, index = ["i"]},
          reduce = "add"} : () -> ()
      }) {name = "k0"} : () -> ()
    }) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
"""
from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from jtc.dialects.affine import Affine, axis_of
from jtc.dialects.dtypes import F64, DType
from jtc.dialects.expr import Expr, acc, walk
from jtc.dialects.graph import Graph, Location, Node, TensorType, Weights
from jtc.dialects.kernel import Access, Kernel, Pack, Program, Schedule, Stage
from jtc.dialects.optable import META_OPS

VERSION = 1               # of the text; a reader refuses newer ones
_HEAD = f"module attributes {{jtc.version = {VERSION} : i64}} {{\n"
_IDENTIFIER = re.compile(r"[A-Za-z_][\w$.]*")


def graph_text(graph: Graph, locations: bool = True) -> str:
    """The graph as MLIR text; the arrays of weights are named, not written.

    Without locations, two graphs of the same structure, names and splats give the same text.
    """
    where = _location if locations else _no_location
    names: dict[int, str] = {}
    arguments = []
    for i, node in enumerate(graph.inputs):
        names[id(node)] = f"%arg{i}"
        arguments.append(f"%arg{i}: {node.type}{_public(graph.input_names, i)}{where(node.loc)}")
    results = [f"{node.type}{_public(graph.output_names, i, graph.updates)}" for i, node in enumerate(graph.outputs)]
    lines = [f"  func.func @{_symbol(graph.name)}({', '.join(arguments)}) -> ({', '.join(results)}) {{"]
    for node in graph.nodes():
        if id(node) in names:
            continue
        names[id(node)] = f"%{len(names) - len(graph.inputs)}"
        operands = ", ".join(names[id(a)] for a in node.args)
        types = ", ".join(str(a.type) for a in node.args)
        lines.append(f"    {names[id(node)]} = \"jtc.{node.op}\"({operands}){_node_attrs(node)} : "
                     f"({types}) -> {node.type}{where(node.loc)}")
    values = ", ".join(names[id(n)] for n in graph.outputs)
    lines.append(f"    return{f' {values} : ' if values else ''}{', '.join(str(n.type) for n in graph.outputs)}")
    return _HEAD + "\n".join(lines) + "\n  }\n}\n"


def program_text(program: Program, locations: bool = True) -> str:
    """The program as MLIR text; arrays in `constants` are marked, not written."""
    lines = ['  "jtc.program"() ({']
    for name, type in program.buffers.items():
        attrs = {"name": string(name), "type": str(type)}
        if name in program.constants:
            value = program.constants[name]
            splat = isinstance(value, (bool, int, float, np.generic))
            attrs["constant"] = number(value, type.dtype) if splat else '"weights"'
        if name in program.storage:
            held = program.storage[name]
            attrs["stored"] = _dictionary({"order": f"[{', '.join(map(str, held.order))}]",
                                           "pad": f"{held.pad} : i64", "why": string(held.why)})
        lines.append(f'    "jtc.buffer"() {_dictionary(attrs)} : () -> ()')
    for kernel in program.kernels:
        lines += _indent(_kernel_lines(kernel, _location if locations else _no_location), 4)
    attrs = {"name": string(program.name), "inputs": _strings(program.inputs), "outputs": _strings(program.outputs)}
    if program.input_names:
        attrs["input_names"] = _strings(program.input_names)
    if program.output_names:
        attrs["output_names"] = _strings(program.output_names)
    if program.updates:
        attrs["updates"] = f"[{', '.join(_strings(pair) for pair in program.updates.items())}]"
    return _HEAD + "\n".join(lines) + f"\n  }}) {_dictionary(attrs)} : () -> ()\n}}\n"


# ------------------------------------------------------------------------------------------------ attributes
def number(value: bool | int | float | np.generic, dtype: DType) -> str:
    """A number as an attribute of its dtype, exact: decimal where that reads back equal, else its bits."""
    if dtype.kind == "bool":
        return "true" if value else "false"
    if not dtype.is_float:
        return f"{int(value)} : {dtype.name}"
    with np.errstate(over="ignore"):               # a number too large for the dtype is its infinity
        exact = np.asarray(value).astype(dtype.numpy)
    # The parser reads a decimal as a double and rounds it to the dtype, so this is what it will see.
    for decimal in (str(exact), repr(float(exact))):
        mantissa, e, exponent = decimal.partition("e")
        decimal = mantissa + ("" if "." in mantissa else ".0") + e + exponent
        if np.isfinite(float(exact)) and np.asarray(float(decimal)).astype(dtype.numpy) == exact:
            return f"{decimal} : {dtype.name}"
    bits = int(exact.view(f"u{dtype.bytes}"))
    return f"0x{bits:0{2 * dtype.bytes}X} : {dtype.name}"


def string(text: str) -> str:
    """A quoted string; everything outside printable ASCII as the bytes of its UTF-8 form."""
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\' else f"\\{b:02X}" for b in text.encode())
    return '"' + "".join(plain) + '"'


def affine_map(forms: Sequence[Affine], rank: int) -> str:
    """An affine map from the dimensions d0, d1... of a domain; the terms in the order of the dimensions."""
    dims = [f"d{i}" for i in range(rank)]
    ordered = (Affine(sorted(form.terms.items(), key=lambda item: dims.index(axis_of(item[0]))), form.const)
               for form in forms)
    results = re.sub(r"(d\d+)//(\d+)", r"(\1 floordiv \2)", ", ".join(map(str, ordered)))
    results = re.sub(r"(d\d+)%(\d+)", r"(\1 mod \2)", results)
    return f"affine_map<({', '.join(dims)}) -> ({results})>"


def _node_attrs(node: Node) -> str:
    row = META_OPS.get(node.op)
    if row is None or not row.attrs:
        return ""
    return " " + _dictionary({name: _ATTRIBUTES[kind](node.attrs[name], node) for name, kind in row.attrs.items()})


def _value(value: Any, node: Node) -> str:
    return string(value.name) if isinstance(value, Weights) else number(value, node.dtype)


def _domain_rank(node: Node) -> int:
    """Rank of the domain of a node's map: that of the result, or of what is written into it."""
    if node.op == "reindex_reduce":
        return node.args[0].type.rank
    return node.args[1].type.rank if node.op == "scatter" else node.type.rank


# One writer per kind of attribute in the op table.
_ATTRIBUTES: dict[str, Callable[[Any, Node], str]] = {
    "ints": lambda value, node: f"array<i64{': ' if value else ''}{', '.join(map(str, value))}>",
    "int": lambda value, node: f"{value} : i64",
    "fn": lambda value, node: string(value),
    "map": lambda value, node: affine_map(value, _domain_rank(node)),
    "number": lambda value, node: number(value, node.dtype),
    "value": _value,
}


def _public(names: Sequence[str], i: int, updates: Mapping[int, int] = MappingProxyType({})) -> str:
    """The attributes of an argument or a result: its name; of a result, the number of the argument that it replaces."""
    attrs = {"jtc.name": string(names[i])} if names else {}
    if i in updates:
        attrs["jtc.updates"] = f"{updates[i]} : i64"
    return f" {_dictionary(attrs)}" if attrs else ""


def _symbol(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else string(name)


def _dictionary(attrs: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name} = {value}" if value else name for name, value in attrs.items()) + "}"


def _strings(items: Iterable[object]) -> str:
    return f"[{', '.join(string(str(i)) for i in items)}]"


def _no_location(location: Location | None) -> str:
    return ""


def _location(location: Location | None) -> str:
    return "" if location is None else f" loc({_place(location)})"


def _place(location: Location) -> str:
    # Column 0: a line of the user's program.  Positions in MLIR text have columns from 1.
    place = f"{string(location.file)}:{location.line}:0"
    return f"{string(location.function)}({place})" if location.function else place


# ------------------------------------------------------------------------------------------------ kernels
def _kernel_lines(kernel: Kernel, where: Callable[[Location | None], str]) -> list[str]:
    lines = ['"jtc.kernel"() ({']
    for local in kernel.locals:
        attrs = {"name": string(local.name), "type": str(local.type)}
        lines.append(f'  "jtc.buffer"() {_dictionary(attrs)} : () -> ()')
    for stage in kernel.stages:
        lines += _indent(_stage_lines(stage, where is not _no_location), 2)
    attrs = {"name": string(kernel.name)}
    if kernel.shared:
        attrs["shared"] = _strings(f"{axis} by {block}" for axis, block in kernel.shared)
    if kernel.needed:
        attrs["needed"] = _strings(kernel.needed)
    if kernel.reasons:
        attrs["reasons"] = f"[{', '.join(_strings(pair) for pair in kernel.reasons)}]"
    if kernel.slice is not None:
        one = kernel.slice
        attrs["slice"] = _dictionary({"number": f"{one.number} : i64", "count": f"{one.count} : i64",
                                      "why": string(one.why)})
    if kernel.in_place:
        attrs["in_place"] = f"[{', '.join(_strings(pair) for pair in kernel.in_place)}]"
    return [*lines, f"}}) {_dictionary(attrs)} : () -> ()"]


def _stage_lines(stage: Stage, locations: bool) -> list[str]:
    arguments = _argument_names(stage.reads)
    gathers = [e for a in stage.accesses for _, e in a.gather]
    lines = ['"jtc.stage"() ({']
    lines += _block(arguments, stage.body.dtype if stage.scan else None, stage.body)
    tails = stage.tails
    if (stage.more or stage.rescale is not None) and stage.reduce is not None and stage.epilogue is None:
        tails = [acc(stage.body.dtype), *tails]
    lines.append("}, {" if tails or gathers else "}, {}, {}) {")
    if tails:
        plain = stage.more and stage.reduce is None
        lines += _block(arguments, None if plain else stage.body.dtype, *tails)
    if gathers:
        lines += ["}, {", *_block(arguments, None, offsets=gathers), "}) {"]
    elif tails:
        lines.append("}, {}) {")
    count = iter(range(len(gathers)))
    attrs: dict[str, str] = {"name": string(stage.name), "axes": _strings(stage.axes)}
    reads = [_access(a, count) for a in stage.reads]
    attrs["reads"] = "[" + ",".join(f"\n    {r}" for r in reads) + "]"
    attrs["write"] = _access(stage.write, count)
    if stage.reduce is not None:
        attrs["reduce"] = string(stage.reduce)
    if stage.keep is not None:
        attrs["keep"] = _access(stage.keep, count)
    if stage.before is not None:
        attrs["before"] = _access(stage.before, count)
    if stage.rescale is not None:
        attrs["rescale"] = ""
    if stage.more:
        attrs["more"] = "[" + ",".join(f"\n    {_access(r.write, count)}" for r in stage.more) + "]"
    if stage.accumulate:
        attrs["accumulate"] = ""
    if stage.scan:
        attrs["scan"] = ""
    if stage.ops:
        attrs["ops"] = _strings(stage.ops)
    if stage.schedule is not None:
        attrs["schedule"] = _schedule(stage.schedule)
    body = ",\n".join(f"  {name} = {value}" if value else f"  {name}" for name, value in attrs.items())
    where = f" loc(fused[{', '.join(map(_place, stage.locs))}])" if locations and stage.locs else ""
    return [*lines, *f"{body}}} : () -> (){where}".split("\n")]


def _access(access: Access, gathered: Iterable[int]) -> str:
    attrs = {"buffer": string(access.buffer), "view": str(TensorType(access.dtype, access.shape)),
             "index": _strings(access.index)}
    if access.guards:
        attrs["guards"] = _strings(access.guards)
    if access.fill != 0 or np.signbit(access.fill):
        attrs["fill"] = number(access.fill, access.dtype)
    if access.gather:
        attrs["gather"] = _strings(f"dim {dim}: offset {value}" for (dim, _), value in zip(access.gather, gathered))
    return _dictionary(attrs)


def _schedule(s: Schedule) -> str:
    attrs = {"vector": string(s.vector), "lanes": f"{s.lanes}", "loops": _strings(f"{a}:{n}" for a, n in s.loops),
             "reduction": _strings(s.reduction)}
    if s.unroll:
        attrs["unroll"] = _strings(f"{a}:{n}" for a, n in s.unroll)
    if s.tree:
        attrs["tree"] = _strings(f"{a}:{n}" for a, n in s.tree)
    if s.dot:
        attrs["dot"] = string(s.dot)
    if s.matrix:
        attrs["matrix"] = ""
    if s.packs:
        attrs["packs"] = f"[{', '.join(map(_pack, s.packs))}]"
    if s.split:
        attrs["split"] = _strings(s.split)
    if s.threads:
        attrs["threads"] = f"{s.threads}"
    if s.stream:
        attrs["stream"] = ""
    if s.prefetch:
        attrs["prefetch"] = f"[{', '.join(map(str, s.prefetch))}]"
    if s.fetches:
        attrs["fetches"] = _strings(s.fetches)
    if s.gain:
        attrs["gain"] = number(s.gain, F64)
    return _dictionary(attrs)


def _pack(pack: Pack) -> str:
    axis, step = pack.inside
    attrs = {"read": f"{pack.read}", "inside": string(f"{axis}:{step}"), "order": _strings(pack.order)}
    if pack.pad:
        attrs["pad"] = f"{pack.pad}"
    return _dictionary(attrs)


def _block(arguments: Sequence[tuple[str, DType]], carried: DType | None, *values: Expr,
           offsets: Sequence[Expr] = ()) -> list[str]:
    """A region that gives offsets, or yields values.  carried: the type of `acc`, where it has one."""
    head = ([("%acc", carried)] if carried else []) + [*arguments]
    lines = [f"^bb0({', '.join(f'{name}: {dtype.name}' for name, dtype in head)}):"] if head else []
    names: dict[int, str] = {}
    number_of = itertools.count()
    for e in (e for root in (*offsets, *values) for e in walk(root)):
        if e.fn == "read":
            names[id(e)] = arguments[e.attr][0]
        elif e.fn == "acc":
            names[id(e)] = "%acc"
        elif id(e) not in names:
            names[id(e)] = f"%{next(number_of)}"
            args, types = ", ".join(names[id(a)] for a in e.args), ", ".join(a.dtype.name for a in e.args)
            name = "constant" if e.fn == "const" else e.fn
            lines.append(f"  {names[id(e)]} = \"jtc.{name}\"({args}){_scalar_attrs(e)} : ({types}) -> {e.dtype.name}")
    lines += [f'  "jtc.offset"({names[id(e)]}) : ({e.dtype.name}) -> ()' for e in offsets]
    given, types = ", ".join(names[id(v)] for v in values), ", ".join(v.dtype.name for v in values)
    return [*lines, f'  "jtc.yield"({given}) : ({types}) -> ()']


def _argument_names(reads: Sequence[Access]) -> list[tuple[str, DType]]:
    """A block argument for each read, named after its buffer; with the read's number where that is not unique."""
    names: list[str] = []
    for i, access in enumerate(reads):
        name = f"%{_clean(access.buffer)}"
        while name in names:
            name += f"_{i}"
        names.append(name)
    return [(name, access.dtype) for name, access in zip(names, reads)]


def _scalar_attrs(e: Expr) -> str:
    if e.fn == "const":
        return f" {{value = {number(e.attr, e.dtype)}}}"
    if e.fn == "index":
        return f" {{form = {string(str(e.attr))}}}"
    if e.fn == "inbounds":
        return f" {{guards = {_strings(e.attr)}}}"
    return ""


def _clean(buffer: str) -> str:
    """A buffer's name as the name of a value, which must not look like a number or the accumulator."""
    name = re.sub(r"[^\w$.]", "_", buffer, flags=re.ASCII)
    return name if _IDENTIFIER.fullmatch(name) and name != "acc" else f"_{name}"


def _indent(lines: Iterable[str], spaces: int) -> list[str]:
    return [" " * spaces + line for line in lines]
