"""The gradient rules: one row for every op of the op table.

A rule gets the cotangent `g` of a node, the node itself and its arguments, and gives a cotangent, or None, for each
argument.  It is written in meta-ops, so what it gives can be differentiated again, to any order, and is fused by the
passes that fuse everything else.  None means that nothing flows: the argument holds no floats, or the op is constant
wherever it has a derivative (comparisons, rounding).

Every rule is linear in `g`.  Forward mode needs no rules of its own for that reason: see docs/gradients.md.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jtc.dialects.affine import Affine
from jtc.dialects.build import convert, make, reshaped, splat, transposed, zeros
from jtc.dialects.dtypes import BOOL, I64
from jtc.dialects.graph import Node, TensorType
from jtc.dialects.pieces import piece

Cotangents = Sequence[Node | None]


@dataclass(frozen=True)
class Rule:
    """A gradient rule: function(g, node, *arguments) -> cotangents.

    A node may bear one as its `data`, which is then used instead of its op's: functions choose their gradient so where
    there are several (relu at 0), and stop it.
    """

    function: Callable[..., Cotangents]


def cotangents(node: Node, g: Node, value: Node) -> Cotangents:
    """The cotangents of the node's arguments.  value: what stands for the node's result, as a rule the node itself."""
    rule = node.data if isinstance(node.data, Rule) else RULES[node.op]
    return rule.function(g, value, *node.args) if isinstance(rule.function, _Scalar) else rule.function(g, node, value)


# ------------------------------------------------------------------------------------------------ scalar functions
class Term:
    """A node in a formula: operators make nodes, numbers take its type."""

    __slots__ = ("node",)

    def __init__(self, node: Node):
        self.node = node

    def of(self, fn: str, *others: Term | float) -> Term:
        """fn(self, *others)."""
        return Term(make(fn, [self.node, *(self._node(o) for o in others)]))

    def _node(self, value: Term | float) -> Node:
        return value.node if isinstance(value, Term) else splat(value, self.node.dtype, self.node.shape)

    def __add__(self, other: Term | float) -> Term:
        return self.of("add", other)

    def __sub__(self, other: Term | float) -> Term:
        return self.of("sub", other)

    def __rsub__(self, other: float) -> Term:
        return Term(self._node(other)).of("sub", self)

    def __mul__(self, other: Term | float) -> Term:
        return self.of("mul", other)

    def __truediv__(self, other: Term | float) -> Term:
        return self.of("div", other)

    def __rtruediv__(self, other: float) -> Term:
        return Term(self._node(other)).of("div", self)

    def __neg__(self) -> Term:
        return self.of("neg")

    def where(self, yes: Term | float, no: Term | float) -> Term:
        """`yes` where this bool holds, else `no`; one of them may be a number."""
        model = yes if isinstance(yes, Term) else no
        assert isinstance(model, Term)
        return Term(make("where", [self.node, model._node(yes), model._node(no)]))


@dataclass(frozen=True)
class _Scalar:
    """A formula on Terms as a function on nodes."""

    formula: Callable[..., Sequence[Term | None]]

    def __call__(self, g: Node, y: Node, *args: Node) -> Cotangents:
        found = self.formula(Term(g), Term(y), *map(Term, args))
        return [None if term is None else term.node for term in found]


def formula(function: Callable[..., Sequence[Term | None]]) -> Rule:
    """The rule of a scalar function: function(g, y, a, ...), on Terms, gives a Term or None for each argument."""
    return Rule(_Scalar(function))


def _larger(g: Term, a: Term, b: Term) -> Term:
    """g where a > b, half of it where they are equal."""
    return a.of("gt", b).where(g, a.of("eq", b).where(g * 0.5, 0))


def _log_of_base(a: Term) -> Term:
    """log(a), and 0 where a is 0: there a**b does not change with a positive b."""
    return a.of("eq", 0).where(1, a).of("log")


_LN2, _LN10 = math.log(2), math.log(10)

_SCALARS: dict[str, Callable[..., Sequence[Term | None]]] = {
    # y = f(a, b)
    "add": lambda g, y, a, b: (g, g),
    "sub": lambda g, y, a, b: (g, -g),
    "mul": lambda g, y, a, b: (g * b, g * a),
    "div": lambda g, y, a, b: (g / b, -(g / b * y)),
    "mod": lambda g, y, a, b: (g, -(g * (a / b).of("floor"))),
    "pow": lambda g, y, a, b: (b.of("eq", 0).where(0, g * b * a.of("pow", b - 1)), g * y * _log_of_base(a)),
    "max": lambda g, y, a, b: (_larger(g, a, b), _larger(g, b, a)),
    "min": lambda g, y, a, b: (_larger(g, b, a), _larger(g, a, b)),
    "atan2": lambda g, y, a, b: (g * b / (a * a + b * b), -(g * a / (a * a + b * b))),
    "where": lambda g, y, c, a, b: (None, c.where(g, 0), c.where(0, g)),
    # y = f(a)
    "neg": lambda g, y, a: (-g,),
    "abs": lambda g, y, a: (g * a.of("sign"),),
    "exp": lambda g, y, a: (g * y,),
    "exp2": lambda g, y, a: (g * (y * _LN2),),
    "expm1": lambda g, y, a: (g * (y + 1),),
    "log": lambda g, y, a: (g / a,),
    "log2": lambda g, y, a: (g / (a * _LN2),),
    "log10": lambda g, y, a: (g / (a * _LN10),),
    "log1p": lambda g, y, a: (g / (a + 1),),
    "sqrt": lambda g, y, a: (g * 0.5 / y,),
    "rsqrt": lambda g, y, a: (g * -0.5 * (y * y * y),),
    "sin": lambda g, y, a: (g * a.of("cos"),),
    "cos": lambda g, y, a: (-(g * a.of("sin")),),
    "tan": lambda g, y, a: (g * (y * y + 1),),
    "asin": lambda g, y, a: (g * (1 - a * a).of("rsqrt"),),
    "acos": lambda g, y, a: (-(g * (1 - a * a).of("rsqrt")),),
    "atan": lambda g, y, a: (g / (a * a + 1),),
    "sinh": lambda g, y, a: (g * a.of("cosh"),),
    "cosh": lambda g, y, a: (g * a.of("sinh"),),
    "tanh": lambda g, y, a: (g * (1 - y * y),),
    "sigmoid": lambda g, y, a: (g * (y * (1 - y)),),
    "asinh": lambda g, y, a: (g * (a * a + 1).of("rsqrt"),),
    "acosh": lambda g, y, a: (g * ((a - 1) * (a + 1)).of("rsqrt"),),
    "atanh": lambda g, y, a: (g / ((1 - a) * (a + 1)),),
    "erf": lambda g, y, a: (g * (-(a * a)).of("exp") * (2 / math.sqrt(math.pi)),),
}
# Constant wherever they have a derivative; what is given and taken may also be integers or bools only.
CONSTANT = ("floordiv", "sign", "floor", "ceil", "trunc", "round", "eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf",
            "and", "or", "xor", "not", "shl", "shr", "philox")


# ------------------------------------------------------------------------------------------------ meta-ops
def _ones(type: TensorType) -> Node:
    return splat(1, type.dtype, type.shape)


def _total(node: Node, axes: tuple[int, ...]) -> Node:
    return make("reduce", [node], {"fn": "add", "axes": axes}) if axes else node


def _where(condition: Node, yes: Node, no: Node) -> Node:
    return make("where", [condition, yes, no])


def _nothing(g: Node, node: Node, value: Node) -> Cotangents:
    return [None] * len(node.args)


def _cast(g: Node, node: Node, value: Node) -> Cotangents:
    return [convert(g, node.args[0].dtype)]


def _reshape(g: Node, node: Node, value: Node) -> Cotangents:
    return [reshaped(g, node.args[0].shape)]


def _transpose(g: Node, node: Node, value: Node) -> Cotangents:
    perm = node.attrs["perm"]
    return [transposed(g, tuple(perm.index(d) for d in range(len(perm))))]


def _broadcast(g: Node, node: Node, value: Node) -> Cotangents:
    """Sum over what was repeated."""
    x, dims = node.args[0], node.attrs["dims"]
    taken = {d for d, n in zip(dims, x.shape) if n != 1 or node.shape[d] == 1}
    total = _total(g, tuple(d for d in range(len(g.shape)) if d not in taken))
    order = sorted(taken)
    kept = [d for d in dims if d in taken]
    return [reshaped(transposed(total, tuple(order.index(d) for d in kept)), x.shape)]


def _reindex(g: Node, node: Node, value: Node) -> Cotangents:
    """Every element goes back to where it was read; the compiler turns the affine scatter into a gather."""
    attrs = {"fn": "add", "map": node.attrs["map"]}
    return [make("reindex_reduce", [g], attrs, node.args[0].type)]


@dataclass(frozen=True)
class _Fold:
    """How elements of a domain are combined into a result.

    spread   v -> the element of v that each point of the domain goes into; 0 for points that are dropped
    collect  v over the domain -> the sum of what goes into each element of the result
    """

    spread: Callable[[Node], Node]
    collect: Callable[[Node], Node]


def _fold_of(node: Node) -> _Fold:
    """That of a reduce or reindex_reduce."""
    x = node.args[0]
    if node.op == "reduce":
        axes = node.attrs["axes"]
        rest = tuple(d for d in range(len(x.shape)) if d not in axes)
        return _Fold(lambda v: make("broadcast", [v], {"dims": rest}, TensorType(v.dtype, x.shape)),
                     lambda v: _total(v, tuple(axes)))
    attrs = {"map": node.attrs["map"]}
    return _Fold(lambda v: make("reindex", [v], attrs | {"fill": False if v.dtype is BOOL else 0},
                                TensorType(v.dtype, x.shape)),
                 lambda v: make("reindex_reduce", [v], attrs | {"fn": "add"}, TensorType(v.dtype, node.shape)))


def _reduction(g: Node, node: Node, value: Node) -> Cotangents:
    x, fn, fold = node.args[0], node.attrs["fn"], _fold_of(node)
    if fn == "add":
        return [fold.spread(g)]
    if fn in ("max", "min"):
        hit = make("eq", [x, fold.spread(value)])
        count = fold.collect(convert(hit, x.dtype))
        return [_where(hit, fold.spread(make("div", [g, count])), zeros(x.type))]
    if fn == "mul" and node.op == "reduce":
        return [_product(g, x, tuple(node.attrs["axes"]))]
    if fn == "mul":
        product = make(node.op, [_where(_is_zero(x), _ones(x.type), x)], node.attrs, node.type)
        parts = [fold.spread(part) for part in (product, *map(fold.collect, _zero_factors(x)))]
        return [make("mul", [fold.spread(g), _others(x, *parts)])]
    return [None]                                          # and, or: there are no floats


def _is_zero(x: Node) -> Node:
    return make("eq", [x, zeros(x.type)])


def _zero_factors(x: Node) -> tuple[Node, Node, Node]:
    """1, x and x**2 where x is 0, else 0: the last two are always 0, their derivatives are not."""
    nothing, is_zero = zeros(x.type), _is_zero(x)
    return convert(is_zero, x.dtype), _where(is_zero, x, nothing), _where(is_zero, make("mul", [x, x]), nothing)


def _others(x: Node, product: Node, count: Node, total: Node, squares: Node) -> Node:
    """The product of all factors but x; right where factors are 0, as is its own derivative.

    product: of the factors that are not 0; of those that are, count, total and squares: sums of `_zero_factors`.
    Their product is 1, total, (total**2 - squares) / 2 for 0, 1, 2 of them; three have no second derivative.
    """
    nothing, one = zeros(x.type), _ones(x.type)

    def by_count(*cases: Node) -> Node:
        result = nothing
        for number, case in reversed(list(enumerate(cases))):
            result = _where(make("eq", [count, splat(number, x.dtype, x.shape)]), case, result)
        return result

    pair = make("mul", [make("sub", [make("mul", [total, total]), squares]), splat(0.5, x.dtype, x.shape)])
    without = make("div", [product, _where(_is_zero(x), one, x)])
    return _where(_is_zero(x), make("mul", [product, by_count(nothing, one, make("sub", [total, x]))]),
                  make("mul", [without, by_count(one, total, pair)]))


def _product(g: Node, x: Node, axes: tuple[int, ...]) -> Node:
    """The gradient of a product over `axes`, exact to every order also where factors are 0: that of a tree of products.

    Factors 2i and 2i + 1 of a level are multiplied; each gets the other one times the gradient of their product.
    """
    rest = tuple(d for d in range(len(x.shape)) if d not in axes)
    perm = (*rest, *axes)
    rows, count = tuple(x.shape[d] for d in rest), math.prod(x.shape[d] for d in axes)
    levels = [reshaped(transposed(x, perm), (*rows, count))]
    along = [Affine.axis(f"d{d}") for d in range(len(rows) + 2)]
    pairs: list[Node] = []
    while (n := levels[-1].shape[-1]) > 1:
        half = -(-n // 2)
        forms = (*along[:len(rows)], along[-2] * 2 + along[-1])
        level = make("reindex", [levels[-1]], {"map": forms, "fill": 1}, TensorType(x.dtype, (*rows, half, 2)))
        pairs.append(level)
        first, second = (make("reindex", [level], {"map": (*along[:-1], Affine((), side)), "fill": 0},
                              TensorType(x.dtype, (*rows, half))) for side in (0, 1))
        levels.append(make("mul", [first, second]))
    if count == 0:
        return zeros(x.type)
    g = reshaped(g, (*rows, 1))
    for level, below in zip(reversed(pairs), reversed(levels[:-1])):
        n = below.shape[-1]
        other = make("reindex", [level], {"map": (*along[:-1], 1 - along[-1]), "fill": 0}, level.type)
        wide = make("broadcast", [g], {"dims": tuple(range(len(rows) + 1))}, level.type)
        flat = reshaped(make("mul", [wide, other]), (*rows, 2 * level.shape[-2]))
        g = flat if flat.shape == below.shape else \
            make("reindex", [flat], {"map": tuple(along[:len(rows) + 1]), "fill": 0}, TensorType(x.dtype, (*rows, n)))
    back = tuple(perm.index(d) for d in range(len(perm)))
    return transposed(reshaped(g, tuple(x.shape[d] for d in perm)), back)


def _along(v: Node, axis: int, form: Affine, fill: float = 0) -> Node:
    """v at `form` of its place along one axis (which the form calls d0), `fill` outside."""
    place = form.substitute({"d0": Affine.axis(f"d{axis}")})
    forms = tuple(place if d == axis else Affine.axis(f"d{d}") for d in range(len(v.shape)))
    return make("reindex", [v], {"map": forms, "fill": fill}, v.type)


def _before(v: Node, axis: int, start: float) -> Node:
    """What stands one step before each place, `start` at the first."""
    return _along(v, axis, Affine.axis("d0") - 1, start)


def _carried(g: Node, factors: Node, axis: int) -> Node:
    """The cotangents of y where y[t] depends on y[t - 1] by factors[t]: c[t] = g[t] + factors[t + 1] c[t + 1].

    That is a recurrence from the end: its step s is place n - 1 - s, with the factor of place n - s.
    """
    n = g.shape[axis]
    back = n - 1 - Affine.axis("d0")
    factors = _along(factors, axis, n - Affine.axis("d0"))
    return _along(make("recurrence", [factors, _along(g, axis, back)], {"axis": axis}), axis, back)


def _scan(g: Node, node: Node, value: Node) -> Cotangents:
    """max and min: half to either side where the next element equals the value so far."""
    x, fn, axis = node.args[0], node.attrs["fn"], node.attrs["axis"]
    if fn == "add":
        back = g.shape[axis] - 1 - Affine.axis("d0")
        return [_along(make("scan", [_along(g, axis, back)], node.attrs), axis, back)]
    if fn == "mul":
        return [make("mul", [_carried(g, x, axis), _before(value, axis, 1)])]
    if fn in ("max", "min"):
        index = make("iota", [], {"axis": axis}, TensorType(I64, x.shape))
        first = make("eq", [index, splat(0, I64, x.shape)])
        before, one = _before(value, axis, 0), _ones(x.type)
        wins = make("gt" if fn == "max" else "lt", [x, before])
        ties = _where(make("eq", [x, before]), splat(0.5, x.dtype, x.shape), zeros(x.type))
        taken = _where(make("or", [first, wins]), one, ties)
        return [make("mul", [_carried(g, make("sub", [one, taken]), axis), taken])]
    return [None]                                          # and, or: there are no floats


def _recurrence(g: Node, node: Node, value: Node) -> Cotangents:
    factors, axis = node.args[0], node.attrs["axis"]
    carried = _carried(g, factors, axis)
    return [make("mul", [carried, _before(value, axis, 0)]), carried]


def _concat(g: Node, node: Node, value: Node) -> Cotangents:
    axis, start, found = node.attrs["axis"], 0, []
    for arg in node.args:
        found.append(piece(g, axis, start, start + arg.shape[axis]))
        start += arg.shape[axis]
    return found


def _gather(g: Node, node: Node, value: Node) -> Cotangents:
    """Every element goes back to where it was read.

    That is a scatter, unless few enough points meet each element that asking all of them costs no more than writing it.
    """
    x, *indices = node.args
    dense = _dense(g, node)
    if dense is None:
        attrs = {"fn": "add", "map": node.attrs["map"], "dims": node.attrs["dims"]}
        dense = make("scatter", [zeros(x.type), g, *indices], attrs)
    return [dense, *[None] * len(indices)]


DENSE_POINTS = 2      # points asked for each element of a gradient: more cost more than clearing and scattering


def _dense(g: Node, node: Node) -> Node | None:
    """The gradient of a gather along one dimension as a sum of what belongs here; None where that costs too much.

    The other dimensions must be axes of the result, each once; the sum runs over the axes that are left.
    """
    x, *indices = node.args
    forms, dims = node.attrs["map"], node.attrs["dims"]
    if len(dims) != 1 or forms[dims[0]].terms:
        return None
    own = [form.as_axis() for d, form in enumerate(forms) if d != dims[0]]
    names = [name for name in own if name is not None]
    if len(names) != len(own) or len(set(names)) != len(names):
        return None
    axes = [int(name[1:]) for name in names]
    if any(g.shape[a] != n for a, n in zip(axes, (n for d, n in enumerate(x.shape) if d != dims[0]))):
        return None
    rest = [d for d in range(len(g.shape)) if d not in axes]
    if math.prod(g.shape[d] for d in rest) > DENSE_POINTS:
        return None
    wide = (*x.shape, *(g.shape[d] for d in rest))                      # the dimensions of x, then what is summed
    place = iter(d for d in range(len(x.shape)) if d != dims[0])
    at = {a: next(place) for a in axes} | {d: len(x.shape) + k for k, d in enumerate(rest)}
    spread = tuple(at[d] for d in range(len(g.shape)))
    index = make("broadcast", [convert(indices[0], I64)], {"dims": spread}, TensorType(I64, wide))
    if forms[dims[0]].const:
        index = make("add", [index, splat(forms[dims[0]].const, I64, wide)])
    here = make("eq", [index, make("iota", [], {"axis": dims[0]}, TensorType(I64, wide))])
    values = make("broadcast", [g], {"dims": spread}, TensorType(g.dtype, wide))
    return _total(_where(here, values, zeros(values.type)), tuple(range(len(x.shape), len(wide))))


def _scatter(g: Node, node: Node, value: Node) -> Cotangents:
    init, updates, *indices = node.args
    fn, places = node.attrs["fn"], {"map": node.attrs["map"], "dims": node.attrs["dims"]}

    def spread(v: Node, fill: float = 0) -> Node:
        return make("gather", [v, *indices], places | {"fill": fill}, TensorType(v.dtype, updates.shape))

    def combined(how: str, start: Node, values: Node) -> Node:
        return make("scatter", [start, values, *indices], places | {"fn": how})

    none: list[Node | None] = [None] * len(indices)
    if fn == "add":
        return [g, spread(g), *none]
    if fn == "replace":                                    # the last write to each element is the one that counts
        number = _numbers(updates.shape)
        last = combined("replace", splat(-1, I64, init.shape), number)
        kept = make("lt", [last, splat(0, I64, init.shape)])
        wins = make("eq", [spread(last, -1), number])
        return [_where(kept, g, zeros(g.type)), _where(wins, spread(g), zeros(updates.type)), *none]
    if fn in ("max", "min"):
        own, theirs = make("eq", [init, value]), make("eq", [updates, spread(value)])
        count = combined("add", convert(own, init.dtype), convert(theirs, init.dtype))
        share = make("div", [g, count])
        return [_where(own, share, zeros(init.type)), _where(theirs, spread(share), zeros(updates.type)), *none]
    if fn == "mul":
        parts = [combined("mul", *(_where(_is_zero(x), _ones(x.type), x) for x in (init, updates))),
                 *(combined("add", *pair) for pair in zip(_zero_factors(init), _zero_factors(updates)))]
        return [make("mul", [g, _others(init, *parts)]),
                make("mul", [spread(g), _others(updates, *map(spread, parts))]), *none]
    return [None, None, *none]                             # and, or: there are no floats


def _numbers(shape: tuple[int, ...]) -> Node:
    """0, 1, 2... in row-major order."""
    return reshaped(make("iota", [], {"axis": 0}, TensorType(I64, (math.prod(shape),))), shape)


RULES: dict[str, Rule] = {
    **{name: formula(function) for name, function in _SCALARS.items()},
    **{name: Rule(_nothing) for name in (*CONSTANT, "constant", "iota", "random", "arg_reduce")},
    "cast": Rule(_cast), "reshape": Rule(_reshape), "transpose": Rule(_transpose), "broadcast": Rule(_broadcast),
    "recompute": Rule(lambda g, node, value: [g]),
    "reindex": Rule(_reindex), "reduce": Rule(_reduction), "reindex_reduce": Rule(_reduction),
    "gather": Rule(_gather), "scatter": Rule(_scatter), "scan": Rule(_scan), "recurrence": Rule(_recurrence),
    "concat": Rule(_concat),
}

# Rules that functions choose for their nodes.
STOP = Rule(_nothing)                                                   # the value counts as a constant
FIRST_IF_RESULT_POSITIVE = formula(lambda g, y, a, b: (y.of("gt", 0).where(g, 0), None))                # relu
# Either side of a `where` that joins tensors reads its own places only, and drops what arrives for others.
JOINED = formula(lambda g, y, c, a, b: (None, g, g))
FIRST_IF_STRICTLY_ABOVE = formula(lambda g, y, a, b: (a.of("gt", b).where(g, 0), None))
FIRST_IF_STRICTLY_BELOW = formula(lambda g, y, a, b: (a.of("lt", b).where(g, 0), None))
FIRST_IF_NOT_BELOW = formula(lambda g, y, a, b: (a.of("ge", b).where(g, 0), a.of("lt", b).where(g, 0)))  # clip
FIRST_IF_NOT_ABOVE = formula(lambda g, y, a, b: (a.of("le", b).where(g, 0), a.of("gt", b).where(g, 0)))
