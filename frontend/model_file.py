"""Saved graphs, `*.jtc`: one zip file (stored, not compressed) that holds what a program is before it is compiled.

| member              | content |
|---|---|
| graph.mlir          | the graph as text of the `jtc` dialect, with the user's lines |
| weights.safetensors | the arrays of its constants, by name |
| meta.json           | format version, name, names of inputs and outputs, how results are put together |
"""
from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jtc.dialects.errors import InputError
from jtc.dialects.graph import Graph

FORMAT, FORMAT_VERSION = "jtc-graph", 1
GRAPH, WEIGHTS, META = "graph.mlir", "weights.safetensors", "meta.json"


@dataclass(slots=True)
class Model:
    """A saved graph in memory.  tree: the form of the results (see tree.Form.to_json), None for a single one."""

    text: str
    weights: Mapping[str, np.ndarray]
    name: str = "main"
    input_names: list[str] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)
    tree: Any = None

    def graph(self, source: str = GRAPH) -> Graph:
        """The graph, with its weights attached.  Raises InputError where the text is wrong or a weight is missing."""
        from jtc.dialects.reader import read_text
        graph = read_text(self.text, source)
        if not isinstance(graph, Graph):
            raise InputError(f"{source}: holds kernels, not a graph")
        graph.name = self.name
        graph.input_names, graph.output_names = list(self.input_names), list(self.output_names)
        for node in graph.constants():
            name = node.attrs["value"].name
            array = self.weights.get(name)
            if array is None:
                raise InputError(f"{source}: the weight {name!r} is missing")
            if array.shape != node.shape or array.dtype != node.dtype.numpy:
                raise InputError(f"{source}: the weight {name!r} is {array.dtype}{list(array.shape)}, "
                                 f"the graph needs {node.type}")
            node.data = array
        return graph


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[io.BufferedWriter]:
    """A file to write that takes the place of `path` once the block is done, and leaves nothing behind if it fails.

    Raises InputError where the place cannot be written.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        raise InputError(f"cannot write {target}: it is not a regular file")      # a device would be replaced
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from None
    finally:
        if os.path.exists(name):
            os.unlink(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_model(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a saved graph; an existing file is replaced at once or, on an error, not at all."""
    from safetensors.numpy import save
    meta = {"format": FORMAT, "version": FORMAT_VERSION, "name": model.name, "inputs": model.input_names,
            "outputs": model.output_names, "tree": model.tree}
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in ((META, json.dumps(meta, indent=1).encode()), (GRAPH, model.text.encode()),
                           (WEIGHTS, save(dict(model.weights)))):
            archive.writestr(zipfile.ZipInfo(name), data)              # without a date: equal models give equal files


def read_model(path: str | os.PathLike[str]) -> Model:
    """Read a saved graph.

    Raises InputError, with one line that names the file, for one that is missing, cut, damaged, not a saved graph, of
    a newer format, or with members outside of its own folder.
    """
    path = os.fspath(path)
    hint = "write it with jtc.export(f, example_args, path)"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for name in names:
                if name.startswith(("/", "\\")) or ".." in Path(name.replace("\\", "/")).parts or ":" in name:
                    raise InputError(f"{path}: the member {name!r} lies outside of the file's folder; refused")
            if META not in names:
                raise InputError(f"{path} is a zip file but not a saved graph: {META} is missing", hint=hint)
            meta = _meta(path, archive.read(META))
            absent = [name for name in (GRAPH, WEIGHTS) if name not in names]
            if absent:
                raise InputError(f"{path} is damaged: {absent[0]} is missing", hint=hint)
            text, blob = archive.read(GRAPH).decode(), archive.read(WEIGHTS)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, EOFError, UnicodeDecodeError, NotImplementedError) as error:
        raise InputError(f"{path} is not a saved graph, or is cut short: {error}", hint=hint) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return Model(text, read_weights(blob, path), meta["name"], meta["inputs"], meta["outputs"], meta["tree"])


def _meta(path: str, data: bytes) -> dict[str, Any]:
    try:
        meta = json.loads(data)
        if meta["format"] != FORMAT:
            raise InputError(f"{path} holds {meta['format']!r:.40}, not a saved graph")
        if not isinstance(meta["version"], int) or meta["version"] > FORMAT_VERSION:
            raise InputError(f"{path} has format version {meta['version']}; this jtc reads up to {FORMAT_VERSION}",
                             hint="read it with a newer jtc")
        names = [meta["name"], *meta["inputs"], *meta["outputs"]]
        if not all(isinstance(name, str) for name in names):
            raise ValueError("wrong types")
        return {key: meta[key] for key in ("name", "inputs", "outputs", "tree")}
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged: {META} is not valid: {error}") from None


def read_weights(blob: bytes, path: str) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file in memory.  Raises InputError where it is damaged."""
    from safetensors import SafetensorError, deserialize

    from jtc.dialects.dtypes import DTYPES
    try:
        rows = deserialize(blob)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged: its weights cannot be read: {error}") from None
    known = {"BOOL": "i1", "BF16": "bf16"} | {d.name.upper().replace("UI", "U"): d.name for d in DTYPES.values()}
    arrays = {}
    for name, row in rows:
        if row["dtype"] not in known:
            raise InputError(f"{path}: the tensor {name!r} has the element type {row['dtype']}, unknown to jtc")
        dtype = DTYPES[known[row["dtype"]]].numpy
        arrays[name] = np.frombuffer(row["data"], dtype).reshape(row["shape"])
    return arrays
