"""Finding convolutions of stride 1 with 3 x 3 taps among sums of products, by the index maps of what is multiplied."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from jtc.dialects.affine import Affine
from jtc.dialects.graph import Node
from jtc.passes.graph.fusion.movement import MAPPED, affine_map
from jtc.passes.graph.maps import leaves
from jtc.passes.graph.winograd.matrices import TAPS

Forms = tuple[Affine, ...]


@dataclass(frozen=True)
class Window:
    """A dimension of the image that is read at `place + tap + start`, or, `flipped`, with the taps in reverse.

    place, tap  axes of the product;  dim: of the image
    start       where the first tap of place 0 reads
    size        places
    """

    place: str
    tap: str
    dim: int
    start: int
    size: int
    flipped: bool


@dataclass(frozen=True)
class Convolution:
    """A sum over `channels` and two windows' taps of image[image_forms] * taps[tap_forms].

    The axes of the product, besides the windows': `batch` that only the image has, `filters` that only the taps have,
    `groups` that both have (all of them in the result), `channels` that both have and that are summed.
    """

    node: Node
    image: Node
    image_forms: Forms
    taps: Node
    tap_forms: Forms
    windows: tuple[Window, Window]
    batch: tuple[str, ...]
    groups: tuple[str, ...]
    channels: tuple[str, ...]
    filters: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Axis of the product -> size."""
        return {f"d{i}": n for i, n in enumerate(self.node.args[0].shape)}

    def count(self, axes: Sequence[str]) -> int:
        """Points of the axes."""
        return prod(self.sizes[a] for a in axes)


def match(node: Node) -> Convolution | None:
    """The node as a convolution; None where it is none."""
    if node.op != "reduce" or node.attrs["fn"] != "add" or node.args[0].op != "mul" or min(node.args[0].shape) < 1:
        return None
    if not node.dtype.is_float:
        return None
    read = [_moved(x) for x in node.args[0].args]
    for image, taps in (read, read[::-1]):
        if image is not None and taps is not None:
            found = _convolution(node, *image, *taps)
            if found is not None:
                return found
    return None


def _moved(node: Node) -> tuple[Node, Forms] | None:
    """(argument, index into it) of an op that moves and fills with 0."""
    if node.op not in MAPPED:
        return None
    x, forms = node.args[0], affine_map(node)
    if node.op == "reindex" and node.attrs["fill"] != 0 and leaves(forms, x.shape, node.shape):
        return None
    return x, forms


def _convolution(node: Node, image: Node, image_forms: Forms, taps: Node, tap_forms: Forms) -> Convolution | None:
    product = node.args[0]
    sizes = {f"d{i}": n for i, n in enumerate(product.shape)}
    summed = {f"d{i}" for i in node.attrs["axes"]}
    single = {a: Affine() for a, n in sizes.items() if n == 1}
    image_forms, tap_forms = (tuple(f.substitute(single) for f in forms) for forms in (image_forms, tap_forms))
    windows = [w for d, form in enumerate(image_forms) if (w := _window(form, d, sizes, summed)) is not None]
    if len(windows) != 2:
        return None
    plain = [f for d, f in enumerate(image_forms) if all(d != w.dim for w in windows)]
    if leaves(tap_forms, taps.shape, product.shape):
        return None
    of_image = {a for form in plain for a in form.axes}
    of_taps = {a for form in tap_forms for a in form.axes}
    for w in windows:
        if w.place in of_image | of_taps or w.tap in of_image or w.tap not in of_taps:
            return None
    of_taps -= {w.tap for w in windows}
    used = {a for w in windows for a in (w.place, w.tap)}
    rest = [a for a, n in sizes.items() if a not in used and n > 1]
    if any(a not in of_image | of_taps or a in summed and a not in of_image & of_taps for a in rest):
        return None
    kept = [a for a in rest if a not in summed]
    return Convolution(
        node, image, image_forms, taps, tap_forms, (windows[0], windows[1]),
        batch=tuple(a for a in kept if a not in of_taps), groups=tuple(a for a in kept if a in of_image & of_taps),
        channels=tuple(a for a in rest if a in summed), filters=tuple(a for a in kept if a not in of_image))


def _window(form: Affine, dim: int, sizes: dict[str, int], summed: set[str]) -> Window | None:
    """The form as place + tap + start or place - tap + start."""
    if len(form.terms) != 2:
        return None
    place = [a for a in form.terms if a not in summed]
    tap = [a for a in form.terms if a in summed]
    if len(place) != 1 or len(tap) != 1 or form[place[0]] != 1 or abs(form[tap[0]]) != 1 or sizes[tap[0]] != TAPS:
        return None
    flipped = form[tap[0]] < 0
    start = form.const - (TAPS - 1 if flipped else 0)
    return Window(place[0], tap[0], dim, start, sizes[place[0]], flipped)

