"""`graph-winograd`: convolutions of 3 x 3 taps by Winograd's algorithm."""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

from jtc.dialects.build import convert, located
from jtc.dialects.dtypes import F32, DType
from jtc.dialects.errors import UsageError
from jtc.dialects.graph import Graph, Node
from jtc.dialects.kernel import Program
from jtc.dialects.target import CpuTarget
from jtc.passes.base import Pass, need_graph
from jtc.passes.graph.fusion.plan import weight_only
from jtc.passes.graph.rewriting import rebuild_knowing
from jtc.passes.graph.winograd.build import build
from jtc.passes.graph.winograd.cost import choose
from jtc.passes.graph.winograd.match import Convolution, match
from jtc.passes.graph.winograd.matrices import TILES, matrix

TILES_OF = {"auto": TILES, "off": (), **{str(m): (m,) for m in TILES}}


@dataclass(frozen=True)
class GraphWinograd(Pass):
    """Compute convolutions of stride 1 with 3 x 3 taps in tiles of transformed elements, with fewer products.

    sum_{c,p,q} x[c, i + p, j + q] * w[o, c, p, q]  ->  A (sum_c (G w G') * (B x B')) A'  for tiles of m x m results

    (m + 2)^2 products for each tile and pair of channels instead of 9 m^2: 2.25 times fewer for m = 2, 4 times for
    m = 4.  The transforms are contractions with small matrices; those of constant taps are done once, when weights are
    bound.

    winograd  "auto": where the cost rule (winograd/cost.py) sees a gain, m = 4 only for taps that are constant, as its
              rounding error is larger; "off"; "2", "4": this m for every such convolution of floats
    slices    "off": no pass will run the images of a batch one by one
    target    the processor: where it multiplies 16-bit floats in pairs or blocks, direct sums of these are faster

    16-bit floats are converted to float32 before the transforms, and the result is rounded to 16 bits once.

    Changes rounding, so it is left out where arithmetic is kept as written (strict).  Sums of normal numbers over 16 to
    256 channels in f32: for m = 2 the largest error is no larger than that of the direct sum, whose chain of additions
    is longer; for m = 4 it is up to 4 times as large, 2 to 3 times on average, and stays below 6e-6 of the largest
    result (tests/py/test_winograd.py).  Assumes canonical form.  Runs after differentiation, so gradients are those of
    the convolution as it was written.
    """

    name: ClassVar[str] = "graph-winograd"
    winograd: str = "auto"
    slices: str = "auto"
    target: CpuTarget = CpuTarget()

    def run(self, module: Graph | Program) -> Graph:
        graph = need_graph(module, self.name)
        if self.winograd not in TILES_OF:
            raise UsageError(f"{self.name}: winograd={self.winograd!r} is not one of {', '.join(TILES_OF)}")
        fixed = weight_only(graph.nodes())
        matrices = _Matrices()

        def rule(old: Node, node: Node) -> Node:
            conv = match(node) if TILES_OF[self.winograd] and id(old) not in fixed else None
            if conv is None:
                return node
            before = match(old)
            tile = self.tile(conv, before is not None and id(before.taps) in fixed)
            if tile is None:
                return node
            with located(node.loc):
                # The transforms cancel: 16 bits would not be enough for what lies between them.
                wide = F32 if node.dtype.is_half else node.dtype
                made = build(replace(conv, image=convert(conv.image, wide), taps=convert(conv.taps, wide)), tile,
                             partial(matrices, tile=tile, dtype=wide))
                return convert(made, node.dtype)

        return rebuild_knowing(graph, rule)

    def tile(self, conv: Convolution, fixed: bool) -> int | None:
        """m for a convolution, whose taps are `fixed` or not; None to leave it as it is."""
        tiles = TILES_OF[self.winograd]
        if self.winograd != "auto":
            return tiles[0]
        return choose(conv, fixed, tiles if fixed else tiles[:1], self.target, self.slices != "off")


@dataclass
class _Matrices:
    """The matrices that a graph needs, each made once."""

    made: dict[tuple[str, int, DType], Node] = field(default_factory=dict)

    def __call__(self, name: str, tile: int, dtype: DType) -> Node:
        key = name, tile, dtype
        if key not in self.made:
            self.made[key] = matrix(*key)
        return self.made[key]
