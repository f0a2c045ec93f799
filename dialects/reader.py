"""Reading the `jtc` dialect: MLIR text or bytecode, verified, to Graph or Program.  `text.py` is the way back."""
from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from jtc.dialects import decode, decode_kernel
from jtc.dialects.errors import InputError
from jtc.dialects.graph import Graph, Location, Node
from jtc.dialects.kernel import Program
from jtc.dialects.mlir import Diagnostic, context, diagnostics, ir, lock, position
from jtc.dialects.text import VERSION, graph_text, program_text


class ReadError(InputError):
    """Text or bytecode that is not a valid program of jtc.  `diagnostics` has all errors, the first is the message.

    source, name: the text, and what the diagnostics call it, to show the line.
    """

    def __init__(self, found: Sequence[Diagnostic], source: str | bytes = "", name: str | None = None):
        self.diagnostics = list(found)
        first = self.diagnostics[0]
        message, _, hint = first.message.partition("\nhint: ")
        super().__init__(message, Location(first.file, first.line) if first.file else None, hint or None)
        lines = source.splitlines() if isinstance(source, str) and first.file == name else []
        if first.column and first.line <= len(lines):
            line = lines[first.line - 1].rstrip()
            indent = re.sub(r"[^\t]", " ", line[:first.column - 1])
            self.excerpt = f"{line}\n{indent}^"

    @property
    def place(self) -> str:
        column = self.diagnostics[0].column
        return super().place + (f":{column}" if column else "")


def read_text(text: str, name: str = "<string>") -> Graph | Program:
    """The graph or program in MLIR text, verified.  name: of the file, for errors.  Raises ReadError."""
    with lock, context():
        return from_module(parse(text, name), name, text)


def read_bytecode(data: bytes, name: str = "<bytes>") -> Graph | Program:
    """As `read_text`, from MLIR bytecode."""
    with lock, context():
        return from_module(parse(data, name), name)


def bytecode(module: Graph | Program) -> bytes:
    """The graph or program as MLIR bytecode."""
    text = graph_text(module) if isinstance(module, Graph) else program_text(module)
    with lock, context():
        stream = io.BytesIO()
        parse(text, module.name).operation.write_bytecode(stream)
        return stream.getvalue()


def parse(source: str | bytes, name: str = "<string>") -> Any:
    """The verified `ir.Module` of text or bytecode, in the current context.  Raises ReadError."""
    try:
        return ir.Module.parse(source)
    except ir.MLIRError as error:
        raise ReadError(diagnostics(error, name), source, name) from None


def from_module(module: Any, name: str = "<string>", text: str = "") -> Graph | Program:
    """The graph or program that a verified module holds.  Raises ReadError where it holds something else.

    text: what the module was read from, for errors.
    """
    version = module.operation.attributes["jtc.version"] if "jtc.version" in module.operation.attributes else None
    if version is not None and (not isinstance(version, ir.IntegerAttr) or version.value > VERSION):
        raise ReadError([Diagnostic(f"written by a newer jtc: its version is {version}, this one reads {VERSION}\n"
                                    "hint: upgrade jtc", name, 1)])
    ops = [op.operation for op in module.body.operations]
    programs = [op for op in ops if op.name == "jtc.program"]
    functions = [op for op in ops if op.name == "func.func"]
    if len(ops) != 1 or not programs and not functions:
        held = ", ".join(op.name for op in ops[:4]) or "nothing"
        raise ReadError([Diagnostic(f"not a module of jtc: that holds one jtc.program or one func.func, this {held}",
                                    name, 1)])
    try:
        return decode_kernel.program(programs[0]) if programs else _graph(functions[0])
    except decode.DecodeError as error:
        file, line, column = position((error.op or ops[0]).location)
        raise ReadError([Diagnostic(str(error), name if file in ("", "-") else file, line, column)], text,
                        name) from None


def _graph(op: Any) -> Graph:
    function = op.opview
    if function.is_external or len(function.body.blocks) != 1:
        raise decode.DecodeError("a graph is a function of one block", op)
    block = function.entry_block
    nodes: dict[Any, Node] = {}
    inputs = [Node("input", (), {}, _type(a.type, op), decode.location(a.location)) for a in block.arguments]
    nodes.update(zip(block.arguments, inputs, strict=True))
    outputs: list[Node] = []
    for inner in (o.operation for o in block.operations):
        if inner.name == "func.return":
            outputs = [nodes[v] for v in inner.operands]
        elif inner.name.startswith("jtc."):
            args = [nodes[v] for v in inner.operands]
            type = _type(inner.results[0].type, inner)
            nodes[inner.results[0]] = Node(inner.name.removeprefix("jtc."), args,
                                           decode.node_attrs(inner, type), type,
                                           decode.location(inner.location))
        else:
            raise decode.DecodeError(f"{inner.name} is not an op of a graph; only those of the jtc dialect are", inner)
    return Graph(function.name.value, inputs, outputs, _names(op, "arg_attrs"), _names(op, "res_attrs"), _updates(op))


def _type(type: Any, op: Any) -> Any:
    try:
        return decode.tensor_type(type)
    except decode.DecodeError as error:
        raise decode.DecodeError(str(error), op) from None


def _names(op: Any, attribute: str) -> list[str]:
    """The names that `jtc.name` gives to all arguments or results; none where one of them has no name."""
    if attribute not in op.attributes:
        return []
    dictionaries = list(op.attributes[attribute])
    return [d["jtc.name"].value for d in dictionaries] if all("jtc.name" in d for d in dictionaries) else []


def _updates(op: Any) -> dict[int, int]:
    """Number of a result -> number of the argument that it replaces, from `jtc.updates`."""
    if "res_attrs" not in op.attributes:
        return {}
    found = {}
    for number, attrs in enumerate(op.attributes["res_attrs"]):
        if "jtc.updates" in attrs:
            attr = attrs["jtc.updates"]
            if not isinstance(attr, ir.IntegerAttr):
                raise decode.DecodeError(f"jtc.updates is the number of an argument, got {attr}", op)
            found[number] = attr.value
    return found
