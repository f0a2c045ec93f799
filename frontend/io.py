"""`save` and `load`: tensors in nested containers, as safetensors or npz; PyTorch's files are read.

The format follows the name of the file.  A safetensors file written here also says how the containers were nested;
any other loads as a dict by name.
"""
from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from jtc.dialects.errors import InputError
from jtc.frontend.creation import asarray
from jtc.frontend.model_file import read_weights, replacing
from jtc.frontend.tensor import Tensor, leaf
from jtc.frontend.trace import input_error
from jtc.frontend.tree import Form, flatten

_TORCH = (".pth", ".pt")
_PLAIN = (bool, int, float, str, type(None))


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write tensors and arrays in lists, tuples, dicts, dataclasses; numbers, strings and None are kept beside them.

    *.npz takes tensors only.  The file appears whole or not at all.  Raises InputError for other objects and other
    suffixes.
    """
    suffix = _suffix(path)
    if suffix in _TORCH:
        raise input_error(f"{os.fspath(path)}: PyTorch's files are read, not written",
                          "write .safetensors, which safetensors.torch.load_file reads")
    leaves: list[Any] = []
    form = flatten(obj.state_dict() if hasattr(obj, "state_dict") else obj, leaves)
    names = [name or "value" for name in form.paths()]
    if len(set(names)) != len(names):
        raise input_error("two entries have the same name", "use keys without dots")
    arrays: dict[str, np.ndarray] = {}
    plain: dict[str, Any] = {}
    for name, item in zip(names, leaves):
        if isinstance(item, (Tensor, np.ndarray, np.generic)):
            array = item.numpy() if isinstance(item, Tensor) else np.asarray(item)
            arrays[name] = np.array(array, order="C")
        elif isinstance(item, _PLAIN) and suffix == ".safetensors":
            plain[name] = item
        else:
            raise input_error(f"cannot save {name!r}: {type(item).__name__} is not a tensor")
    with replacing(path) as file:
        if suffix == ".npz":
            np.savez(file, **arrays)                                   # type: ignore[arg-type]
        else:
            from safetensors.numpy import save as to_bytes
            file.write(to_bytes(arrays, {"jtc": json.dumps({"form": form.to_json(), "names": names, "plain": plain})}))


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` wrote, any safetensors or npz file as a dict of tensors by name, or what `torch.save` wrote.

    A .pth or .pt file may hold tensors in dicts, lists and tuples, such as a state dict; PyTorch is not needed, and
    nothing that the file's pickle asks for is run.
    Raises InputError for a file that is missing, damaged or of another format.
    """
    try:
        return _read(path)
    except InputError as error:
        raise input_error(error.message, error.hint) from error.__cause__


def _read(path: str | os.PathLike[str]) -> Any:
    suffix, text = _suffix(path), os.fspath(path)
    if suffix in _TORCH:
        from jtc.frontend.torch_file import read_torch
        return read_torch(text)
    try:
        if suffix == ".npz":
            with np.load(text, allow_pickle=False) as archive:
                return {name: asarray(archive[name]) for name in archive.files}
        with open(text, "rb") as file:
            blob = file.read()
    except FileNotFoundError:
        raise InputError(f"{text}: no such file") from None
    except OSError as error:
        raise InputError(f"cannot read {text}: {error.strerror or error}") from None
    except Exception as error:                # NumPy raises what the zip module and its own header parser raise
        raise InputError(f"{text} is not an npz file of plain arrays, or is damaged: {error}") from None
    arrays = read_weights(blob, text)
    return _rebuild(arrays, blob, text)


def _rebuild(arrays: dict[str, np.ndarray], blob: bytes, path: str) -> Any:
    header = json.loads(blob[8:8 + int.from_bytes(blob[:8], "little")])
    note = header.get("__metadata__", {}).get("jtc")
    if note is None:
        return {name: leaf(array) for name, array in arrays.items()}
    try:
        row = json.loads(note)
        form = Form.from_json(row["form"])
        leaves = [row["plain"][name] if name in row["plain"] else leaf(arrays[name]) for name in row["names"]]
        return form.build(iter(leaves))
    except (KeyError, ValueError, TypeError, StopIteration) as error:
        raise InputError(f"{path} is damaged: its description of containers is not valid: {error}") from None


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in (".safetensors", ".npz", *_TORCH):
        raise input_error(f"{os.fspath(path)}: unknown suffix {suffix!r}",
                          "use .safetensors or .npz; .pth and .pt are read")
    return suffix
