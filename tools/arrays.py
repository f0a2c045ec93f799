"""Reading the inputs of a model from files, and showing what it answers."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from jtc.dialects.dtypes import DTYPES, dtype_of
from jtc.dialects.errors import InputError, UsageError
from jtc.runtime.module import TensorInfo

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
# Mean and standard deviation of ImageNet's channels, with which networks for photographs are usually fed
# (torchvision.models documentation).
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYOUTS = ("auto", "nchw", "nhwc")
TOP = 5


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How an image becomes numbers.

    mean, deviation  of all channels, or one for each, of pixels from 0 to 1; None: those of ImageNet for three
                     channels, 0 and 1 for one
    layout           of the input: channels before or after height and width; "auto": where there are 1 or 3 of them
    """

    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    layout: str = "auto"

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        """float32 [h, w, c] from 0 to 1, normalised.  Raises UsageError for another number of channels."""
        channels = pixels.shape[2]
        for option, values in (("mean", self.mean), ("std", self.deviation)):
            if values is not None and len(values) not in (1, channels):
                raise UsageError(f"--image-{option} has {len(values)} numbers, the image {channels} "
                                 f"channel{'s' * (channels != 1)}")
        mean = self.mean or (MEAN if channels == 3 else (0.0,))
        if self.deviation and 0 in self.deviation:
            raise UsageError("--image-std divides: no number may be 0")
        deviation = self.deviation or (DEVIATION if channels == 3 else (1.0,))
        return (pixels - np.asarray(mean, np.float32)) / np.asarray(deviation, np.float32)


def numbers(text: str) -> tuple[float, ...]:
    """One finite number, or several with commas between them; for argparse."""
    values = tuple(float(part) for part in text.split(","))
    if not np.isfinite(values).all():
        raise ValueError
    return values


def read_labels(path: str) -> list[str]:
    """The lines of a text file.  Raises InputError."""
    try:
        return Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not a text file'}") from None


def read_weights(path: str) -> dict[str, np.ndarray]:
    """The arrays of a saved graph (.jtc), a .safetensors or an .npz, by name.  Raises InputError."""
    from jtc.frontend import model_file
    suffix = Path(path).suffix
    if suffix == ".jtc":
        return dict(model_file.read_model(path).weights)
    if suffix == ".npz":
        return dict(_read(path, None, ImageOptions()))
    if suffix != ".safetensors":
        raise InputError(f"{path}: weights are not read from {suffix or 'such'} files",
                         hint="one of .jtc, .safetensors, .npz")
    try:
        return model_file.read_weights(Path(path).read_bytes(), path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def read_inputs(files: Sequence[str], wanted: Sequence[TensorInfo],
                images: ImageOptions = ImageOptions()) -> list[np.ndarray]:                       # noqa: B008
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
            if equals and not Path(text).exists() and Path(path).exists():
                raise InputError(f"--input {text}: the model has no input {name!r}",
                                 hint=f"its inputs: {', '.join(names) or 'none'}")
            name, path = "", text
        remaining = [w for w in wanted if w.name not in named][len(ordered):]
        target = next((w for w in wanted if w.name == name), remaining[0] if remaining else None)
        for key, array in _read(path, target, images):
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


def _read(path: str, wanted: TensorInfo | None, images: ImageOptions) -> list[tuple[str, np.ndarray]]:
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
        return [("", read_image(file, wanted, images))]
    raise InputError(f"{path}: the kind of file {file.suffix!r} is not known",
                     hint=f"one of .npy, .npz, {', '.join(IMAGES)}")


def read_image(file: Path, wanted: TensorInfo | None, images: ImageOptions) -> np.ndarray:
    """An image as the float32 array [1, c, h, w], [1, h, w, c] or one dimension less that an input wants.

    It is scaled and cut to the middle to fit, and normalised as `images` says.  Raises InputError.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError(f"{file}: reading images needs pillow", hint="pip install pillow") from None
    if wanted is None:
        raise InputError(f"{file}: the model has no further input for this image")
    shape = wanted.shape
    layouts = [name for name, place in (("nchw", -3), ("nhwc", -1)) if images.layout in ("auto", name)
               and len(shape) in (3, 4) and shape[place] in (1, 3)]
    if not layouts or len(shape) == 4 and shape[0] != 1 or wanted.dtype != "f32":
        like = "[1, h, w, 3]" if images.layout == "nhwc" else "[1, 3, h, w]"
        raise InputError(f"{file}: an image fits a float32 input {like}, not {wanted}",
                         hint=None if images.layout == "auto" else "leave --image-layout out")
    channels, height, width = shape[-3:] if layouts[0] == "nchw" else (shape[-1], *shape[-3:-1])
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
    pixels = images.normalised(pixels.reshape(height, width, channels))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if layouts[0] == "nchw" else pixels).reshape(shape)


def _fit(array: np.ndarray, wanted: TensorInfo) -> np.ndarray:
    """The array, checked against the input it is for."""
    try:
        dtype = dtype_of(array.dtype)
    except TypeError:
        raise InputError(f"input {wanted.name}: arrays of {array.dtype} are not taken; it is {wanted}") from None
    if dtype.name != wanted.dtype or array.shape != wanted.shape:
        same = dtype.name == wanted.dtype
        raise InputError(f"input {wanted.name}: the file has {dtype}{list(array.shape)}, the model takes {wanted}",
                         hint=None if same else f"convert it: array.astype({DTYPES[wanted.dtype].public!r})")
    return array


def summary(name: str, array: np.ndarray, labels: Sequence[str] | None = None, top: int = TOP) -> str:
    """Shape, dtype and range of an array; the `top` best classes where it looks like class scores.

    labels: names of the classes; used for the scores of as many classes.
    """
    text = f"{name}: {array.dtype}[{', '.join(map(str, array.shape))}]"
    if array.size == 0:
        return text + " empty"
    if array.dtype.kind == "f":
        bad = int(np.count_nonzero(~np.isfinite(array)))
        text += f" from {array.min():.6g} to {array.max():.6g}, mean {array.mean(dtype=np.float64):.6g}"
        text += f", {bad} not finite" if bad else ""
    elif array.dtype.kind != "b":
        text += f" from {array.min()} to {array.max()}"
    named = labels is not None and array.shape[-1:] == (len(labels),)
    if array.ndim == 2 and array.shape[0] == 1 and (named or array.shape[1] >= TOP) and array.dtype.kind == "f":
        best = np.argsort(-array[0], kind="stable")[:top]
        names = [labels[i] if named and labels else f"class {i}" for i in best]
        text += f"\n  top {len(best)}: " + ", ".join(f"{n} ({array[0, i]:.4g})" for n, i in zip(names, best))
    return text


def check_output(path: Path, model: str | None, count: int = 1) -> None:
    """Refuse, before anything runs, a file that cannot be written, is the model, or cannot hold `count` arrays."""
    from jtc.compiler.driver import check_writable
    check_writable(path)
    if path.suffix not in (".npz", ".npy"):
        raise UsageError(f"--output {path}: the outputs are written as .npz, or as .npy where there is one")
    if model is not None and path.exists() and Path(model).exists() and path.samefile(model):
        raise InputError(f"cannot write {path}: it is the model")
    if path.suffix == ".npy" and count != 1:
        raise InputError(f"cannot write {path}: an .npy file holds one array, the model gives {count}", hint="use .npz")


def save_outputs(path: Path, outputs: Mapping[str, np.ndarray]) -> None:
    """Write an .npz, or an .npy of a single output; at once or not at all.  Raises InputError and UsageError."""
    from jtc.compiler.sealed import replacing
    check_output(path, None, len(outputs))
    single = path.suffix == ".npy"
    try:
        with replacing(path) as new, open(new, "wb") as file:
            if single:
                np.save(file, next(iter(outputs.values())))
            else:
                arrays: dict[str, Any] = dict(outputs)
                np.savez(file, **arrays)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
