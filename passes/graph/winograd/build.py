"""A convolution by Winograd's algorithm as five contractions; the matrices of the transforms are factors like others.

With tiles of m x m results and m + 2 frequencies along each axis of the image:

    U[t, f, j, c]     = sum_r  B[f, r]  * image[m t + r, j, c]             rows of the image
    V[f, g, t, s, c]  = sum_r  B[g, r]  * U[t, f, m s + r, c]              columns
    M[f, g, t, s, o]  = sum_c  V[f, g, t, s, c] * W[f, g, c, o]            (m + 2)^2 matrix products
    P[t, f, s, j, o]  = sum_g  A[j, g]  * M[f, g, t, s, o]                 columns of the result
    Y[t, i, s, j, o]  = sum_f  A[i, f]  * P[t, f, s, j, o]                 rows

Channels are innermost, so that every sum has a long contiguous axis for the lanes, whatever the image's size; the
image's own order is met by the first and the last one.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from jtc.dialects.affine import Affine
from jtc.dialects.build import make, reshaped
from jtc.dialects.graph import Node, TensorType
from jtc.passes.graph.winograd.match import Convolution
from jtc.passes.graph.winograd.matrices import TAPS

Axes = Mapping[str, int]                            # name -> size, in order
Read = tuple[Node, Sequence[Affine | str]]          # a tensor and the index into it, over named axes


def build(conv: Convolution, tile: int, matrix: Callable[[str], Node]) -> Node:
    """The convolution with tiles of tile x tile; matrix: the matrices B, G and A of these tiles by name."""
    return _Builder(conv, tile, matrix).run()


class _Builder:
    def __init__(self, conv: Convolution, tile: int, matrix: Callable[[str], Node]):
        self.conv, self.tile, self.matrix, self.loc = conv, tile, matrix, conv.node.loc
        self.rows, self.columns = conv.windows
        sizes = conv.sizes
        self.batch, self.groups, self.channels, self.filters = (
            {a: sizes[a] for a in axes} for axes in (conv.batch, conv.groups, conv.channels, conv.filters))
        self.frequencies = {"f": tile + TAPS - 1, "g": tile + TAPS - 1}
        self.tiles = {"t": -(-self.rows.size // tile), "s": -(-self.columns.size // tile)}

    def run(self) -> Node:
        products = self.products(self.image(), self.taps())
        return self.result(products)

    def image(self) -> Node:
        """V over (f, g, groups, batch, t, s, channels)."""
        conv, rows, columns, reach = self.conv, self.rows, self.columns, {"r": self.tile + TAPS - 1}
        forms: list[Affine] = list(conv.image_forms)
        forms[rows.dim] = self.tile * Affine.axis("t") + Affine.axis("r") + rows.start
        forms[columns.dim] = Affine.axis("j")
        f, g = {"f": self.frequencies["f"]}, {"g": self.frequencies["g"]}
        t, inner = {"t": self.tiles["t"]}, self.groups | self.channels
        axes = self.batch | t | f | {"j": conv.image.shape[columns.dim]} | inner
        half = self.contract((conv.image, forms), (self.matrix("B"), ["f", "r"]), axes, reach)
        place = self.tile * Affine.axis("s") + Affine.axis("r") + columns.start
        return self.contract((half, [*self.batch, "t", "f", place, *inner]), (self.matrix("B"), ["g", "r"]),
                             f | g | self.groups | self.batch | self.tiles | self.channels, reach)

    def taps(self) -> Node:
        """W over (f, g, groups, channels, filters)."""
        conv = self.conv
        values = {w.tap: Affine({name: -1}, TAPS - 1) if w.flipped else Affine.axis(name)
                  for w, name in zip(conv.windows, "pq")}
        forms = [form.substitute(values) for form in conv.tap_forms]
        rest = self.groups | self.channels | self.filters
        half = self.contract((conv.taps, forms), (self.matrix("G"), ["f", "p"]),
                             {"f": self.frequencies["f"], "q": TAPS} | rest, {"p": TAPS})
        return self.contract((half, ["f", "q", *rest]), (self.matrix("G"), ["g", "q"]), self.frequencies | rest,
                             {"q": TAPS})

    def products(self, image: Node, taps: Node) -> Node:
        """M over (f, g, groups, batch, t, s, filters)."""
        axes = self.frequencies | self.groups | self.batch | self.tiles | self.filters
        return self.contract((image, [*self.frequencies, *self.groups, *self.batch, *self.tiles, *self.channels]),
                             (taps, [*self.frequencies, *self.groups, *self.channels, *self.filters]), axes,
                             self.channels)

    def result(self, products: Node) -> Node:
        """The result in the dimensions of the convolution's."""
        f, t, s = {"f": self.frequencies["f"]}, {"t": self.tiles["t"]}, {"s": self.tiles["s"]}
        inner = self.groups | self.filters
        axes = self.batch | t | f | s | {"j": self.tile} | inner
        half = self.contract((products, [*self.frequencies, *self.groups, *self.batch, *self.tiles, *self.filters]),
                             (self.matrix("A"), ["j", "g"]), axes, {"g": self.frequencies["g"]})
        width, height = self.tiles["s"] * self.tile, self.tiles["t"] * self.tile
        half = reshaped(half, tuple((self.batch | t | f | {"x": width} | inner).values()))
        kept = [f"d{i}" for i in range(len(self.conv.sizes)) if i not in self.conv.node.attrs["axes"]]
        whole: dict[str, int] = {}
        for axis in kept:
            size = self.conv.sizes[axis]
            whole |= t | {"i": self.tile} if axis == self.rows.place else \
                {"x": width} if axis == self.columns.place else {axis: size}
        node = self.contract((half, [*self.batch, "t", "f", "x", *inner]), (self.matrix("A"), ["i", "f"]), whole, f)
        node = reshaped(node, tuple(height if a == self.rows.place else width if a == self.columns.place
                                    else self.conv.sizes[a] for a in kept))
        return self.cut(node)

    def cut(self, node: Node) -> Node:
        """Without the places of the last tiles that the result does not have."""
        if node.shape == self.conv.node.shape:
            return node
        forms = tuple(Affine.axis(f"d{d}") for d in range(node.type.rank))
        type = TensorType(node.dtype, self.conv.node.shape)
        return make("reindex", [node], {"map": forms, "fill": 0.0}, type, self.loc)

    def contract(self, one: Read, two: Read, axes: Axes, summed: Axes) -> Node:
        """The sum over the axes `summed` of a product of two reads, with the dimensions `axes`."""
        every = {**axes, **summed}
        numbers = {name: Affine.axis(f"d{d}") for d, name in enumerate(every)}
        factors = []
        for node, index in (one, two):
            forms = tuple((Affine.axis(form) if isinstance(form, str) else form).substitute(numbers) for form in index)
            factors.append(make("reindex", [node], {"map": forms, "fill": 0.0},
                                TensorType(node.dtype, tuple(every.values())), self.loc))
        product = make("mul", factors, loc=self.loc)
        return make("reduce", [product], {"fn": "add", "axes": tuple(range(len(axes), len(every)))}, loc=self.loc)
