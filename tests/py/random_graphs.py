"""Random graphs of meta-ops for property tests: small shapes, arbitrary affine maps, every op of the table."""
from __future__ import annotations

from math import prod
from random import Random

import numpy as np

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL, F64, I64
from jtc.dialects.graph import Graph, Node, TensorType
from jtc.dialects.optable import infer

MAX_SIZE = 2000             # elements of a tensor
CHEAP = ("neg", "abs", "sign", "floor", "tanh", "isnan")
DEAR = ("exp", "erf", "cos")
PAIRS = ("add", "sub", "mul", "max", "min")


def node(op: str, *args: Node, type: TensorType | None = None, **attrs) -> Node:
    """A node whose type the op table infers."""
    return Node(op, args, attrs, infer(op, [a.type for a in args], attrs, type))


def splat(value, shape: tuple[int, ...] = (), dtype=F64) -> Node:
    return Node("constant", (), {"value": value}, TensorType(dtype, shape))


class RandomGraph:
    """Grows a graph by random ops over a pool of f64 values."""

    def __init__(self, seed: int):
        self.random = Random(seed)
        self.inputs: list[Node] = []
        self.pool: list[Node] = []

    def graph(self, ops: int) -> Graph:
        for _ in range(self.random.randint(1, 3)):
            self.input(self.shape())
        for _ in range(ops):
            made = getattr(self, self.random.choice(OPS))()
            if made is not None and made.type.size <= MAX_SIZE and made.dtype is F64:
                self.pool.append(made)
        count = self.random.randint(1, 2)
        return Graph("f", self.inputs, self.pool[-1:] + self.random.sample(self.pool, count - 1))

    # ------------------------------------------------------------------------------------------------ pieces
    def input(self, shape: tuple[int, ...]) -> Node:
        made = Node("input", (), {}, TensorType(F64, shape))
        self.inputs.append(made)
        self.pool.append(made)
        return made

    def shape(self, most: int = 3) -> tuple[int, ...]:
        return tuple(self.random.choice((1, 2, 3, 4, 5, 6, 8)) for _ in range(self.random.randint(0, most)))

    def value(self) -> Node:
        return self.random.choice(self.pool[-4:]) if self.random.random() < 0.7 else self.random.choice(self.pool)

    def form(self, rank: int, plain: float = 0.6) -> Affine:
        """An affine form over d0..: often one axis, else a few with small coefficients."""
        if rank == 0:
            return Affine((), self.random.randint(-1, 1))
        if self.random.random() < plain:
            return Affine.axis(f"d{self.random.randrange(rank)}")
        form = Affine((), self.random.randint(-2, 2))
        for _ in range(self.random.randint(1, 2)):
            form = form + Affine({f"d{self.random.randrange(rank)}": self.random.choice((1, 1, 2, 3, -1, -2, 4))})
        return form

    def like(self, x: Node) -> Node:
        """Another value of the shape of x."""
        same = [v for v in self.pool if v.shape == x.shape]
        chosen = self.random.random()
        if chosen < 0.5:
            return self.random.choice(same)
        if chosen < 0.7:
            return splat(self.random.choice((0.0, 1.0, -2.0, 0.5)), x.shape)
        small = [v for v in self.pool if v.type.rank <= x.type.rank and v.shape == x.shape[x.type.rank - v.type.rank:]]
        y = self.random.choice(small)
        return y if y.shape == x.shape else node("broadcast", y, type=x.type,
                                                 dims=tuple(range(x.type.rank - y.type.rank, x.type.rank)))

    # ------------------------------------------------------------------------------------------------ ops
    def unary(self) -> Node:
        fn = self.random.choice(CHEAP if self.random.random() < 0.7 else DEAR)
        x = self.value()
        made = node(fn, node("tanh", x) if fn == "exp" else x)
        return node("cast", made, type=x.type) if made.dtype is BOOL else made

    def binary(self) -> Node:
        x = self.value()
        args = [x, self.like(x)]
        self.random.shuffle(args)
        return node(self.random.choice(PAIRS), *args)

    def where(self) -> Node:
        x = self.value()
        return node("where", node("lt", x, self.like(x)), self.like(x), x)

    def iota(self) -> Node | None:
        x = self.value()
        if not x.type.rank:
            return None
        place = node("iota", type=x.type, axis=self.random.randrange(x.type.rank))
        return node(self.random.choice(PAIRS), x, place)

    def broadcast(self) -> Node:
        x = self.value()
        shape = tuple(n if n > 1 else self.random.choice((1, 3)) for n in x.shape)
        places = sorted(self.random.sample(range(len(shape) + 2), len(shape)))
        out = [self.random.choice((1, 2, 3)) for _ in range(len(shape) + 2)]
        for d, n in zip(places, shape):
            out[d] = n
        return node("broadcast", x, type=TensorType(F64, tuple(out)), dims=tuple(places))

    def transpose(self) -> Node:
        x = self.value()
        return node("transpose", x, perm=tuple(self.random.sample(range(x.type.rank), x.type.rank)))

    def reshape(self) -> Node:
        x = self.value()
        shape: list[int] = []
        rest = x.type.size
        while rest > 1:
            factor = self.random.choice([n for n in range(2, rest + 1) if rest % n == 0])
            shape.append(factor)
            rest //= factor
        if self.random.random() < 0.3:
            shape.insert(self.random.randint(0, len(shape)), 1)
        self.random.shuffle(shape)
        return node("reshape", x, type=TensorType(F64, tuple(shape)))

    def reindex(self) -> Node:
        x, shape = self.value(), self.shape(4)
        forms = tuple(self.form(len(shape)) for _ in x.shape)
        return node("reindex", x, type=TensorType(F64, shape), map=forms, fill=self.random.choice((0.0, 0.0, 1.5)))

    def pad(self) -> Node:
        x = self.value()
        forms = tuple(Affine.axis(f"d{d}") - 1 for d in range(x.type.rank))
        return node("reindex", x, type=TensorType(F64, tuple(n + 2 for n in x.shape)), map=forms,
                    fill=self.random.choice((0.0, 3.0)))

    def reduce(self) -> Node:
        x = self.value()
        axes = tuple(d for d in range(x.type.rank) if self.random.random() < 0.5)
        return node("reduce", x, fn=self.random.choice(("add", "add", "max", "min")), axes=axes)

    def arg_reduce(self) -> Node | None:
        x = self.value()
        if not x.type.rank:
            return None
        made = node("arg_reduce", x, fn=self.random.choice(("max", "min")), axis=self.random.randrange(x.type.rank))
        return node("cast", made, type=TensorType(F64, made.shape))

    def normalise(self) -> Node | None:
        x = self.value()
        if not x.type.rank:
            return None
        rest = tuple(d for d in range(x.type.rank) if self.random.random() < 0.5)
        axes = tuple(d for d in range(x.type.rank) if d not in rest)
        total = node("reduce", x, fn=self.random.choice(("add", "max")), axes=axes)
        return node(self.random.choice(("sub", "mul")), x, node("broadcast", total, type=x.type, dims=rest))

    def contract(self) -> Node | None:
        x, y = self.value(), self.value()
        if not x.type.rank or not y.type.rank or y.shape[0] != x.shape[-1]:
            return None
        shape = (*x.shape, *y.shape[1:])
        left = node("broadcast", x, type=TensorType(F64, shape), dims=tuple(range(x.type.rank)))
        right = node("broadcast", y, type=TensorType(F64, shape), dims=tuple(range(x.type.rank - 1, len(shape))))
        if prod(shape) > 20 * MAX_SIZE:
            return None
        return node("reduce", node("mul", left, right), fn="add", axes=(x.type.rank - 1,))

    def reindex_reduce(self) -> Node:
        x, shape = self.value(), self.shape()
        forms = tuple(self.form(x.type.rank, 0.4) for _ in shape)
        made = node("reindex_reduce", x, type=TensorType(F64, shape), map=forms,
                    fn=self.random.choice(("add", "add", "max", "min")))
        # Elements that nothing meets hold the identity; an infinity would turn into NaN beside a guard's 0.
        return node("max", node("min", made, splat(50.0, shape)), splat(-50.0, shape))

    def indices(self, domain: tuple[int, ...], size: int) -> Node:
        low, high = splat(-1.0, domain), splat(float(size), domain)
        values = self.like(splat(0.0, domain)) if any(v.shape == domain for v in self.pool) else low
        scaled = node("mul", node("tanh", values), high)
        return node("cast", node("max", scaled, low), type=TensorType(I64, domain))

    def gather(self) -> Node | None:
        x, shape = self.value(), self.shape()
        if not x.type.rank:
            return None
        d = self.random.randrange(x.type.rank)
        forms = [self.form(len(shape)) for _ in x.shape]
        indices, fill = self.indices(shape, x.shape[d]), self.random.choice((0.0, 2.5))
        return node("gather", x, indices, type=TensorType(F64, shape), map=tuple(forms), dims=(d,), fill=fill)

    def scatter(self) -> Node | None:
        init, updates = self.value(), self.value()
        if not init.type.rank:
            return None
        d = self.random.randrange(init.type.rank)
        forms = tuple(self.form(updates.type.rank) for _ in init.shape)
        return node("scatter", init, updates, self.indices(updates.shape, init.shape[d]), map=forms, dims=(d,),
                    fn=self.random.choice(("add", "replace", "max")))


OPS = ("unary", "unary", "binary", "binary", "binary", "where", "iota", "broadcast", "transpose", "reshape", "reshape",
       "reindex", "reindex", "pad", "reduce", "reduce", "arg_reduce", "normalise", "normalise", "contract", "contract",
       "reindex_reduce", "reindex_reduce", "gather", "scatter")


def arrays(graph: Graph, seed: int) -> list[np.ndarray]:
    """Inputs of a graph: multiples of 1/4, so that sums are exact."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.integers(-8, 9, n.shape) / 4) for n in graph.inputs]
