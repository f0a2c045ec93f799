"""The gradient and batching rules: every row of both tables against finite differences."""
from __future__ import annotations

import numpy as np
import pytest
from derivatives import check
from frontend_checks import normal, same

import jtc
from jtc.dialects.batching import RULES as BATCHING
from jtc.dialects.gradients import CONSTANT, RULES
from jtc.dialects.optable import META_OPS, SCALAR_FUNCTIONS
from jtc.frontend.elementwise import apply
from jtc.nn import functional as F

pytestmark = pytest.mark.usefixtures("backend")


def values(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers no two of which are nearly equal, so that maxima do not change within a difference's step."""
    x = normal(*shape, dtype=np.float64, seed=seed)
    ranks = np.argsort(np.argsort(x, axis=None)).reshape(shape)
    return x + 0.01 * ranks


def test_every_op_has_both_rules():
    assert set(RULES) == set(SCALAR_FUNCTIONS) | set(META_OPS)
    assert set(BATCHING) | {"constant", "iota"} == set(RULES)          # these two have no arguments


# where a function is defined: (low, high) of its arguments
DOMAINS = {**dict.fromkeys(("log", "log2", "log10", "sqrt", "rsqrt"), (0.2, 3)), "log1p": (-0.8, 3),
           **dict.fromkeys(("asin", "acos", "atanh"), (-0.9, 0.9)), "acosh": (1.2, 3), "pow": (0.3, 2.5),
           "tan": (-1.2, 1.2), "div": (0.4, 2), "mod": (0.4, 2)}
SMOOTH = sorted(name for name, row in SCALAR_FUNCTIONS.items()
                if name not in CONSTANT and "float" in row.kinds and name not in ("where", "max", "min"))


@pytest.mark.parametrize("name", SMOOTH)
def test_scalar_functions(name):
    low, high = DOMAINS.get(name, (-1.5, 1.5))
    rng = np.random.default_rng(0)
    args = [rng.uniform(low, high, 5) for _ in range(SCALAR_FUNCTIONS[name].arity)]
    check(lambda *xs: apply(name, "float", *xs), *args)


def test_where_max_min():
    x, y = values(3, 4), values(3, 4, seed=1) + 0.005
    check(lambda a, b: jtc.where(a > b, jtc.sin(a), a * b), x, y)
    check(lambda a, b: jtc.maximum(a, b) * jtc.minimum(a, b * 2), x, y)


def test_constant_functions_have_gradient_zero():
    x = values(4)
    for name in ("floor", "ceil", "trunc", "round", "sign"):
        same(jtc.grad(lambda x, name=name: jtc.sum(apply(name, "round", x)))(jtc.array(x)), np.zeros(4))
    same(jtc.grad(lambda x: jtc.sum((x > 0).astype(jtc.float64)))(jtc.array(x)), np.zeros(4))


def test_powers_at_zero():
    square = jtc.grad(lambda x, y: jtc.sum(jtc.pow(x, y)), (0, 1))
    gx, gy = square(jtc.array([0.0, 0.0, -2.0]), jtc.array([2.0, 0.0, 2.0]))
    same(gx, np.array([0, 0, -4], np.float32))
    assert gy.numpy()[:2].tolist() == [0, 0]


META = {
    "broadcast": lambda x: jtc.broadcast_to(x * x, (2, *x.shape)) * x,
    "broadcast of ones": lambda x: jtc.sum(x, axis=0, keepdims=True) * x,
    "reshape": lambda x: jtc.reshape(x * x, (x.size,)) * jtc.sum(x),
    "transpose": lambda x: jtc.permute_dims(x, (1, 0)) @ x,
    "reduce add": lambda x: jtc.sum(x * x, axis=1) * jtc.sum(x),
    "reduce max": lambda x: jtc.max(x * x, axis=0) * jtc.max(x),
    "reduce min": lambda x: jtc.min(jtc.sin(x), axis=1) * jtc.min(x),
    "reduce mul": lambda x: jtc.prod(x, axis=0) * jtc.prod(x, axis=1, keepdims=True),
    "reindex": lambda x: jtc.reindex(x * x, (4, 3), lambda i, j: (i + j - 1, 2 * j), fill=1.5),
    "reindex_reduce add": lambda x: jtc.reindex_reduce(x * x, "add", (6,), lambda i, j: (2 * i + j - 1,)),
    "reindex_reduce max": lambda x: jtc.reindex_reduce(x * x, "max", (4,), lambda i, j: (i + j - 1,)),
    "reindex_reduce min": lambda x: jtc.reindex_reduce(jtc.sin(x), "min", (7,), lambda i, j: (i + j,)),
    "reindex_reduce mul": lambda x: jtc.reindex_reduce(x * x, "mul", (5,), lambda i, j: (i + j - 1,)),
    "gather rows": lambda x: jtc.take(x * x, np.array([[0, 2, 2], [1, 0, -1]]), axis=0) ** 2,
    "gather one of each row": lambda x: jtc.take_along_axis(x * x, np.array([[1], [4], [0]]), axis=1) ** 2,
    "gather along": lambda x: jtc.take_along_axis(x * x, np.array([[1, 1, 7], [4, 0, 2], [0, -1, 1]]), axis=1) ** 2,
    "scatter add": lambda x: jtc.scatter(x * x, INDEX, jtc.sin(x[:, 1:4]), axis=1, reduce="add") ** 2,
    "scatter mul": lambda x: jtc.scatter(x * x, INDEX, jtc.sin(x[:, 1:4]), axis=1, reduce="mul") ** 2,
    "scatter max": lambda x: jtc.scatter(x * x, INDEX, x[:, 1:4], axis=1, reduce="max") ** 2,
    "scatter min": lambda x: jtc.scatter(x * x, INDEX, x[:, 1:4], axis=1, reduce="min") ** 2,
    "scatter replace": lambda x: jtc.scatter(x * x, INDEX, jtc.sin(x[:, 1:4]), axis=1) ** 2,
}
INDEX = np.array([[0, 0, 3], [4, 9, 1], [2, 2, 2]])


@pytest.mark.parametrize("name", META)
def test_meta_ops(name):
    check(META[name], values(3, 5))


FUNCTIONS = {
    "softmax": lambda x: jtc.softmax(x, axis=1), "log_softmax": lambda x: jtc.log_softmax(x, axis=0),
    "logsumexp": lambda x: jtc.logsumexp(x, axis=1), "gelu": jtc.gelu, "silu": jtc.silu,
    "layer_norm": lambda x: F.layer_norm(x, 5), "std": lambda x: jtc.std(x, axis=0),
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True), "rms_norm": lambda x: F.rms_norm(x, 5),
    "cross_entropy": lambda x: F.cross_entropy(x, np.array([4, 0, 3])), "roll": lambda x: jtc.roll(x * x, 2, axis=1),
    "concat": lambda x: jtc.concat([x, x * x, x[:, :1]], axis=1), "logaddexp": lambda x: jtc.logaddexp(x, x[::-1]),
    "max_pool": lambda x: F.max_pool2d(x.reshape(1, 1, 3, 5), 2, stride=1, padding=1),
    "avg_pool": lambda x: F.avg_pool2d((x * x).reshape(1, 1, 3, 5), 2, stride=2, padding=1, count_include_pad=False),
    "einsum": lambda x: jtc.einsum("ij,kj,il->kl", x, x, x), "hypot": lambda x: jtc.hypot(x, x[::-1] + 3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    check(FUNCTIONS[name], values(3, 5))


@pytest.mark.parametrize("options", [{"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}, {"groups": 2},
                                     {"groups": 4, "stride": (1, 2)}], ids=str)
def test_convolutions(options):
    groups = options.get("groups", 1)
    check(lambda x, w: F.conv2d(x, w, **options), values(1, 4, 4, 5), values(4, 4 // groups, 3, 2, seed=1),
          second=False, examples=False)


def test_transposed_convolution():
    check(lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1), values(1, 2, 3, 2), values(2, 3, 3, 2, seed=1),
          second=False, examples=False)


@pytest.mark.parametrize("zeros", [(), (1,), (0, 3)])
def test_products_with_zeros(zeros):
    """Exact to second order, for every count of factors."""
    for n in (1, 2, 3, 5, 8):
        x = values(2, n) + 2
        x[0, [z for z in zeros if z < n]] = 0
        check(lambda x: jtc.prod(x, axis=1), x, examples=False)


def test_products_of_what_meets_with_zeros():
    """Of 5, 4... factors that a map or an index brings together, none, one, two or three are 0."""
    x = values(4, 4) + 2
    x[0, 1] = x[1, 0] = x[1, 2] = x[2, 1] = x[3, 0] = 0
    check(lambda x: jtc.reindex_reduce(x, "mul", (7,), lambda i, j: (i + j,)), x, examples=False)
    index = np.array([[0, 0, 3], [2, 1, 1], [2, 2, 2], [0, 3, 3]])
    check(lambda x: jtc.scatter(x, index, x[::-1, :3], axis=1, reduce="mul"), x, examples=False)


def test_casts():
    """The gradient has the dtype of its argument; integers pass nothing on."""
    x = normal(3)
    same(jtc.grad(lambda x: jtc.sum(x.astype(jtc.float64) ** 2))(jtc.array(x)), (2 * x.astype(np.float64)).astype("f4"))
    same(jtc.grad(lambda x: jtc.sum(x.astype(jtc.int32).astype(jtc.float32) * x))(jtc.array(x)), np.trunc(x))


def test_ties_are_shared():
    x = jtc.array([[3.0, 1.0, 3.0], [2.0, 2.0, 2.0]])
    same(jtc.grad(lambda x: jtc.sum(jtc.max(x, axis=1)))(x),
         np.array([[1 / 2, 0, 1 / 2], [1 / 3, 1 / 3, 1 / 3]], np.float32))
    same(jtc.grad(lambda x: jtc.sum(jtc.maximum(x, 2.0)))(x), np.array([[1, 0, 1], [0.5, 0.5, 0.5]], np.float32))


def test_limits():
    x = jtc.array([-1.0, 0.0, 3.0, 6.0, 7.0])
    for function, expected in ((jtc.relu, [0, 0, 1, 1, 1]), (F.relu6, [0, 0, 1, 0, 0]),
                               (F.elu, [np.exp(-1), 1, 1, 1, 1]), (lambda x: jtc.clip(x, 0, 6), [0, 1, 1, 1, 0])):
        same(jtc.grad(lambda x, f=function: jtc.sum(f(x)))(x), np.array(expected, np.float32))
