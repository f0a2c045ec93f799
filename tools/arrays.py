"""Reading the inputs of a model from files, and showing what it answers."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from jtc.dialects.dtypes import dtype_of
from jtc.dialects.errors import InputError
from jtc.runtime.module import TensorInfo

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
# Mean and standard deviation of ImageNet's channels, with which networks for photographs are usually fed
# (torchvision.models documentation).
MEAN, DEVIATION = (np.array(v, np.float32) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
TOP = 5


def read_inputs(files: Sequence[str], wanted: Sequence[TensorInfo]) -> list[np.ndarray]:
    """The arrays for a model's inputs: by name where a file says names (`x=file`, an npz), else in order.

    Raises InputError for a missing or foreign file, a name that the model does not have, and too few or too many
    arrays.
    """
    named: dict[str, np.ndarray] = {}
    ordered: list[np.ndarray] = []
    names = [w.name for w in wanted]
    for text in files:
        name, equals, path = text.partition("=")
        if not equals or name not in names:
            name, path = "", text
        remaining = [w for w in wanted if w.name not in named][len(ordered):]
        for key, array in _read(path, next((w for w in wanted if w.name == name), remaining[0] if remaining else None)):
            key = name or key
            if key in names:
                named[key] = array
            elif key and not path.endswith(".npz"):
                raise InputError(f"{path}: the model has no input {key!r}", hint=f"its inputs: {', '.join(names)}")
            elif key and len(names) > 1:
                raise InputError(f"{path} holds {key!r}, which is no input of the model",
                                 hint=f"inputs: {', '.join(names)}")
            else:
                ordered.append(array)
    free = [n for n in names if n not in named]
    if len(ordered) != len(free):
        takes = f"{len(names)} input{'s' * (len(names) != 1)} ({', '.join(map(str, wanted))})"
        raise InputError(f"the model takes {takes}, the files give {len(named) + len(ordered)}",
                         hint="give one --input for each")
    named.update(zip(free, ordered, strict=True))
    return [_fit(named[w.name], w) for w in wanted]


def _read(path: str, wanted: TensorInfo | None) -> list[tuple[str, np.ndarray]]:
    """(name or "", array) pairs of one file."""
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                return [(name, archive[name]) for name in archive.files]
        if file.suffix == ".npy":
            return [("", np.load(file, allow_pickle=False))]
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} cannot be read as {file.suffix[1:]}: {str(error).splitlines()[0]}") from None
    if file.suffix.lower() in IMAGES:
        return [("", read_image(file, wanted))]
    raise InputError(f"{path}: the kind of file {file.suffix!r} is not known",
                     hint=f"one of .npy, .npz, {', '.join(IMAGES)}")


def read_image(file: Path, wanted: TensorInfo | None) -> np.ndarray:
    """An image as float32 [1, c, h, w] or [c, h, w], scaled and cut to the middle to fit the input.

    Three channels are normalised with ImageNet's mean and deviation, one channel is grey from 0 to 1.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError(f"{file}: reading images needs pillow", hint="pip install pillow") from None
    shape = () if wanted is None else wanted.shape
    if wanted is None or len(shape) not in (3, 4) or len(shape) == 4 and shape[0] != 1 or shape[-3] not in (1, 3) \
            or wanted.dtype != "f32":
        raise InputError(f"{file}: an image fits a float32 input [1, 3, h, w], not {wanted}")
    channels, height, width = shape[-3:]
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB" if channels == 3 else "L")
    except OSError as error:
        raise InputError(f"{file} cannot be read as an image: {error}") from None
    scale = max(height / image.height, width / image.width)
    image = image.resize((max(width, round(image.width * scale)), max(height, round(image.height * scale))),
                         Image.Resampling.BILINEAR)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = np.asarray(image.crop((left, top, left + width, top + height)), np.float32) / np.float32(255)
    pixels = (pixels - MEAN) / DEVIATION if channels == 3 else pixels[..., None]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).reshape(shape)


def _fit(array: np.ndarray, wanted: TensorInfo) -> np.ndarray:
    """The array, checked against the input it is for."""
    try:
        dtype = dtype_of(array.dtype)
    except TypeError:
        raise InputError(f"input {wanted.name}: arrays of {array.dtype} are not taken; it is {wanted}") from None
    if dtype.name != wanted.dtype or array.shape != wanted.shape:
        raise InputError(f"input {wanted.name}: the file has {dtype}{list(array.shape)}, the model takes {wanted}")
    return array


def summary(name: str, array: np.ndarray) -> str:
    """Shape, dtype and range of an array; the best classes where it looks like class scores."""
    text = f"{name}: {array.dtype}[{', '.join(map(str, array.shape))}]"
    if array.size == 0:
        return text + " empty"
    if array.dtype.kind == "f":
        bad = int(np.count_nonzero(~np.isfinite(array)))
        text += f" from {array.min():.6g} to {array.max():.6g}, mean {array.mean(dtype=np.float64):.6g}"
        text += f", {bad} not finite" if bad else ""
    elif array.dtype.kind != "b":
        text += f" from {array.min()} to {array.max()}"
    if array.ndim == 2 and array.shape[0] == 1 and array.shape[1] >= TOP and array.dtype.kind == "f":
        best = np.argsort(-array[0], kind="stable")[:TOP]
        text += f"\n  top {TOP}: " + ", ".join(f"class {i} ({array[0, i]:.4g})" for i in best)
    return text


def save_outputs(path: Path, outputs: Mapping[str, np.ndarray]) -> None:
    """Write an .npz, or an .npy of a single output; at once or not at all.  Raises InputError."""
    from jtc.compiler.driver import check_writable
    from jtc.compiler.sealed import replacing
    check_writable(path)
    single = path.suffix == ".npy"
    if single and len(outputs) != 1:
        raise InputError(f"cannot write {path}: an .npy file holds one array, the model gives {len(outputs)}",
                         hint="use .npz")
    try:
        with replacing(path) as new, open(new, "wb") as file:
            if single:
                np.save(file, next(iter(outputs.values())))
            else:
                arrays: dict[str, Any] = dict(outputs)
                np.savez(file, **arrays)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
