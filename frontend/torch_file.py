"""PyTorch's `.pth` and `.pt` files, read without PyTorch and without running what their pickle asks for.

Two layouts.  Since PyTorch 1.6 a file is a zip archive: `data.pkl` describes the containers, `data/<key>` holds the
bytes of storage <key>.  Before, it is a row of pickles followed by the bytes of all storages.  Either way the pickle
may only name what stands in `_CALLABLES`, `_STORAGES` and `_VALUES`; any other name is refused before it is imported.
A pickle can also set attributes of what it was given, so all that it gets are objects that allow it nothing.

Source of the layouts: torch/serialization.py and torch/_utils.py of PyTorch 2.13.
"""
from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

import numpy as np

from jtc.dialects.dtypes import dtype_of
from jtc.dialects.errors import InputError
from jtc.frontend.tensor import leaf

_MAGIC = 0x1950A86A20F9469CFC6C                 # first pickle of the older layout
_HINT = "save a dict of tensors: torch.save(net.state_dict(), path)"

_STORAGES = {
    "BoolStorage": "bool", "CharStorage": "int8", "ShortStorage": "int16", "IntStorage": "int32",
    "LongStorage": "int64", "ByteStorage": "uint8", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32", "DoubleStorage": "float64",
}
_VALUES = frozenset(_STORAGES.values()) | {"uint16", "uint32", "uint64"}      # torch.float32 and so on


def read_torch(path: str) -> Any:
    """What `torch.save` wrote: tensors in dicts, lists and tuples, with numbers, strings and None as they are.

    Devices become their names, dtypes jtc's, sizes tuples, parameters tensors; views that share memory become tensors
    of their own.  Raises InputError, naming the file, for one that is missing, damaged or cut, that asks for any other
    class or function, or holds element types that jtc lacks.
    """
    try:
        with open(path, "rb") as file:
            read = _read_archive if zipfile.is_zipfile(file) else _read_stream
            file.seek(0)
            return _finished(read(file, path), {})
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path}: its tensors do not fit into memory") from None
    except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, RecursionError, NotImplementedError, struct.error,
            AttributeError, IndexError, KeyError, TypeError, ValueError) as error:       # all that a pickle can cause
        raise InputError(f"{path} is not a file written by torch.save, or is damaged: {str(error)[:120]}",
                         hint=_HINT) from None


class _Inert:
    """An object whose state a pickle cannot set."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("the pickle sets the state of an object that has none")


class _Callable(_Inert):
    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


class _Value(_Inert):
    """A finished leaf: an array, or what stands for a dtype, a device, a storage type."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value


class _Storage(_Inert):
    """The elements behind one or more tensors: a flat array."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray):
        self.array = array


def _tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any) -> _Value:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata)."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride) \
            or any(type(n) is not int or n < 0 for n in numbers):
        raise pickle.UnpicklingError(f"no tensor of size {size!r:.40} has stride {stride!r:.40}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if math.prod(size) == 0:
        return _Value(np.empty(size, storage.array.dtype))
    if last >= storage.array.size:
        raise pickle.UnpicklingError(f"a tensor reads element {last} of a storage of {storage.array.size}")
    bytes_ = tuple(step * storage.array.itemsize for step in stride)
    view = np.lib.stride_tricks.as_strided(storage.array[offset:], size, bytes_, writeable=False)
    metadata = rest[2] if len(rest) > 2 else None
    return _Value(np.negative(view) if isinstance(metadata, dict) and metadata.get("neg") else view)


def _typed_tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], requires_grad: bool,
                  hooks: Any, dtype: _Value, *rest: Any) -> _Value:
    """torch._utils._rebuild_tensor_v3: the storage is bytes, the element type stands beside it."""
    return _tensor(_Storage(storage.array.view(dtype.value.numpy)), offset, size, stride, requires_grad, hooks, *rest)


def _parameter(data: _Value, *rest: Any) -> _Value:
    return data


def _of_type(function: _Callable, kind: Any, args: tuple[Any, ...], state: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor of a subclass, such as nn.Buffer."""
    return function(*args)


_CALLABLES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Callable(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _Callable(_typed_tensor),
    ("torch._utils", "_rebuild_parameter"): _Callable(_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): _Callable(_of_type),
    ("torch", "Size"): _Callable(tuple),
    ("torch", "device"): _Callable(lambda *parts: _Value(":".join(map(str, parts)))),
    ("torch", "Tensor"): _Value("tensor"),
    ("torch.nn.parameter", "Parameter"): _Value("tensor"),
    ("torch.nn.parameter", "Buffer"): _Value("tensor"),
    ("torch.storage", "UntypedStorage"): _Value(dtype_of("uint8")),
}


class _Reader(pickle.Unpickler):
    """storage(key, dtype, number of elements) -> flat array."""

    def __init__(self, file: BinaryIO, path: str, storage: Callable[[str, np.dtype, int], np.ndarray]):
        super().__init__(file, encoding="utf-8")
        self.path, self.storage = path, storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CALLABLES:
            return _CALLABLES[module, name]
        if module == "torch" and (name in _STORAGES or name in _VALUES):
            return _Value(dtype_of(_STORAGES.get(name, name)))
        if module == "torch" and (name.endswith("Storage") or name.startswith(("complex", "float", "q"))):
            raise InputError(f"{self.path}: holds elements of torch.{name}, an element type that jtc lacks")
        raise InputError(f"{self.path}: refused, because its pickle asks for {module}.{name}; "
                         "only tensors in plain containers are read", hint=_HINT)

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or not isinstance(dtype, _Value) or type(count) is not int or count < 0:
            raise pickle.UnpicklingError(f"{pid!r:.60} is not a storage")
        array = self.storage(str(key), dtype.value.numpy, count)
        if view and view[0] is not None:                           # (key, offset, number of elements), before 1.6
            _, offset, size = view[0]
            array = array[offset:offset + size]
        return _Storage(array)


def _read_archive(file: BinaryIO, path: str) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        root = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
        if root is None:
            raise InputError(f"{path}: is a zip file that torch.save has not written: data.pkl is missing", hint=_HINT)
        if f"{root}constants.pkl" in members:
            raise InputError(f"{path}: is a TorchScript program, not a file of tensors", hint=_HINT)
        if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
            raise InputError(f"{path}: was written on a big-endian machine, which jtc does not read")
        arrays: dict[str, np.ndarray] = {}

        def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            if key not in arrays:
                info = members[f"{root}data/{key}"]
                if info.compress_type != zipfile.ZIP_STORED or info.file_size < count * dtype.itemsize:
                    raise pickle.UnpicklingError(f"storage {key} holds {info.file_size} bytes, its tensors need "
                                                 f"{count * dtype.itemsize}")
                arrays[key] = np.frombuffer(archive.read(info), np.uint8)
            return arrays[key][:count * dtype.itemsize].view(dtype)

        return _Reader(io.BytesIO(archive.read(f"{root}data.pkl")), path, storage).load()


def _read_stream(file: BinaryIO, path: str) -> Any:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    arrays: dict[str, np.ndarray] = {}

    def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        if key not in arrays:
            if count * dtype.itemsize > size:
                raise pickle.UnpicklingError(f"storage {key} is to hold {count} elements, more than the file")
            arrays[key] = np.zeros(count, dtype)                   # filled below: their bytes come last
        return arrays[key]

    def load() -> Any:
        return _Reader(file, path, storage).load()

    if load() != _MAGIC:
        raise pickle.UnpicklingError("it begins like neither layout")
    _, machine = load(), load()                                    # version of the layout; sizes and byte order
    if not machine["little_endian"]:
        raise InputError(f"{path}: was written on a big-endian machine, which jtc does not read")
    result = load()
    for key in load():
        array = arrays[key]
        (count,) = struct.unpack("<q", file.read(8))
        blob = file.read(array.nbytes)
        if count != array.size or len(blob) != array.nbytes:
            raise EOFError(f"storage {key} is cut short")
        array[:] = np.frombuffer(blob, array.dtype)
    return result


def _finished(value: Any, done: dict[int, Any]) -> Any:
    """The containers with tensors in them; what is shared stays shared, and what contains itself is refused."""
    if not isinstance(value, (_Value, _Storage, dict, list, tuple)):
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        raise pickle.UnpicklingError(f"it holds an object of {type(value).__name__}")
    if id(value) in done:
        if done[id(value)] is done:
            raise pickle.UnpicklingError("a container contains itself")
        return done[id(value)]
    done[id(value)] = done
    result: Any
    if isinstance(value, _Value):
        result = leaf(np.array(value.value, order="C")) if isinstance(value.value, np.ndarray) else value.value
    elif isinstance(value, _Storage):
        result = leaf(np.array(value.array))
    elif isinstance(value, dict):
        result = {_finished(key, done): _finished(item, done) for key, item in dict.items(value)}
    else:
        result = type(value)([_finished(item, done) for item in value])
    done[id(value)] = result
    return result
