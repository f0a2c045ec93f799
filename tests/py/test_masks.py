"""Attention under masks of indices: which blocks of columns are left out, and that nothing else changes."""
from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import jtc
from jtc.compiler import phases
from jtc.compiler.driver import settings_for
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL, I32, I64
from jtc.dialects.expr import const, expr, index
from jtc.dialects.kernel import Axis, Guard, Program
from jtc.dialects.needed import share
from jtc.dialects.reader import read_text
from jtc.dialects.reference import run_program
from jtc.dialects.text import program_text
from jtc.frontend.traced import trace
from jtc.passes.graph.fusion.index_arithmetic import simplified
from jtc.runtime import knobs
from jtc.runtime.cost import kernel_cost

rng = np.random.default_rng(0)
S, T, D = 180, 301, 20          # blocks of rows and of columns, the last ones shorter
attend = jtc.nn.functional.scaled_dot_product_attention


def normal(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def operands(s: int = S, t: int = T, heads: int = 1) -> list[np.ndarray]:
    return [normal(heads, s, D), normal(heads, t, D), normal(heads, t, 9)]


def places(q, k):
    """Index of the row, as a column; index of the column, as a row."""
    return jtc.arange(q.shape[-2]).reshape(-1, 1), jtc.arange(k.shape[-2]).reshape(1, -1)


def masked(condition):
    """Attention where condition(i, j) holds."""
    return lambda q, k, v: attend(q, k, v, condition(*places(q, k)))


def program(function, *arrays, phase: str = "kernel", **chosen) -> Program:
    with knobs.use(**chosen):
        return phases.advance(trace(function, arrays).graph, "graph", phase, settings_for())


def needed(function, *arrays, **chosen) -> list[str]:
    return [str(g) for k in program(function, *arrays, **chosen).kernels for g in k.needed]


def run(function, *arrays, **chosen) -> np.ndarray:
    with knobs.use(**chosen):
        return np.asarray(jtc.jit(function)(*arrays))


def check(function, *arrays, rtol: float = 3e-5, **chosen) -> None:
    """Compiled code gives what the interpreter of graphs gives."""
    np.testing.assert_allclose(run(function, *arrays, **chosen), run(function, *arrays, backend="reference"),
                               rtol=rtol, atol=rtol / 10)


def causal(q, k, v):
    return attend(q, k, v, is_causal=True)


def added(q, k, v):
    i, j = places(q, k)
    return attend(q, k, v, jtc.where(j <= i, 0.0, -np.inf).astype("float32"))


def by_hand(q, k, v):
    """The scores are scaled after they are masked."""
    i, j = places(q, k)
    s = jtc.where(j > i, -np.inf, q @ k.mT) * 0.2
    e = jtc.exp(s - jtc.max(s, axis=-1, keepdims=True))
    return (e / jtc.sum(e, axis=-1, keepdims=True)) @ v


def without_maximum(q, k, v):
    """Sums whose terms are 0 where the mask does not hold: what is linear in the scores has no -inf."""
    i, j = places(q, k)
    s = jtc.where(j <= i, jtc.abs(q @ k.mT), 0.0)
    return s @ v / jtc.sum(s, axis=-1, keepdims=True)


def stored(q, k, v):
    """A mask of so many operations that a kernel of its own makes it."""
    band = jtc.tril(jtc.triu(jtc.ones((q.shape[-2], k.shape[-2]), dtype="bool"), k=-50), k=60)
    return attend(q, k, v, jtc.where(band, jtc.where(band, 0.0, 1.0) * 2.0, -np.inf).astype("float32"))


def narrow(q, k, v):
    i, j = (x.astype("int32") for x in places(q, k))
    return attend(q, k, v, j - i <= 0)


LEFT_OUT = {
    "causal": (causal, ["0 <= i0 - i1 < 180"]),
    "added": (added, ["0 <= i0 - i1 < 180"]),
    "scaled after": (by_hand, ["0 <= i0 - i1 < 180"]),
    "sums of products": (without_maximum, ["0 <= i0 - i1 < 180"]),
    "negated": (masked(lambda i, j: ~(j > i)), ["0 <= i0 - i1 < 180"]),
    "int32": (narrow, ["0 <= i0 - i1 < 180"]),
    "window": (masked(lambda i, j: (j <= i) & (i - j < 40)), ["0 <= i0 - i1 < 40"]),
    "window of one": (masked(lambda i, j: i == j), ["0 <= i0 - i1 < 1"]),
    "both sides": (stored, ["0 <= i0 - i1 + 60 < 111"]),
    "strided": (masked(lambda i, j: (2 * j <= i - 5) & (3 * j + 100 >= i)), None),
    "the end only": (masked(lambda i, j: j >= i + 150), ["0 <= -i0 + i1 - 150 < 151"]),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_left_out(name: str):
    """The same as the interpreters of graphs and of kernels give, which leave nothing out."""
    function, want = LEFT_OUT[name]
    arrays = operands()
    found = needed(function, *arrays)
    assert found == want if want is not None else len(found) == 2
    exact = run(function, *arrays, backend="reference")
    np.testing.assert_allclose(run(function, *arrays), exact, rtol=3e-5, atol=3e-6)
    np.testing.assert_allclose(run_program(program(function, *arrays), arrays)[0], exact, rtol=3e-5, atol=3e-6)
    assert np.isnan(exact).any() == (name in ("strided", "the end only"))        # rows with nothing are 0 / 0


SIZES = [(45, 401), (200, 45), (1, 300), (256, 256), (90, 129), (300, 130)]


@pytest.mark.parametrize("function", (causal, LEFT_OUT["window"][0], LEFT_OUT["the end only"][0]))
def test_sizes(function):
    for s, t in SIZES:
        arrays = operands(s, t)
        check(function, *arrays)


def test_it_is_left_out():
    """What is not read cannot be seen: the last block of columns, where it is NaN, in rows before it."""
    q, k, v = operands(400, 400)
    k[:, 384:], v[:, 384:] = np.nan, np.nan
    got = run(causal, q, k, v)
    assert np.isfinite(got[:, :300]).all() and np.isnan(got[:, 384:]).all()
    np.testing.assert_allclose(got[:, :300], run(causal, q[:, :300], k[:, :300], v[:, :300], backend="reference"),
                               rtol=3e-5, atol=3e-6)
    q, k, v = operands(400, 400)
    k[:, :16], v[:, :16] = np.nan, np.nan
    got = run(LEFT_OUT["window"][0], q, k, v)
    assert np.isfinite(got[:, 300:]).all() and np.isnan(got[:, 16:40]).all()


def hole(q, k, v):
    i, j = places(q, k)
    return attend(q, k, v, i != j)


def given(q, k, v, mask):
    return attend(q, k, v, mask)


def all_columns(q, k, v):
    """One of the reductions takes all columns."""
    i, j = places(q, k)
    x = q @ k.mT
    s = jtc.where(j <= i, x, -np.inf)
    e = jtc.exp(s - jtc.max(s, axis=-1, keepdims=True))
    return e @ v / (jtc.sum(e, axis=-1, keepdims=True) + jtc.sum(x * x, axis=-1, keepdims=True))


def finite(q, k, v):
    """-1e9 is not nothing: a row of only such numbers is their mean."""
    i, j = places(q, k)
    return jtc.softmax(jtc.where(j > i + 100, q @ k.mT, -1e9), axis=-1) @ v


ALL = {"a hole": (hole, ()), "data": (given, (np.tri(S, T, dtype=bool),)), "one takes all": (all_columns, ()),
       "finite": (finite, ()), "rows only": (masked(lambda i, j: i + 0 * j < 100), ())}


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_left_out(name: str):
    function, more = ALL[name]
    arrays = [*operands(), *more]
    assert needed(function, *arrays) == []
    check(function, *arrays, rtol=1e-4)


@pytest.mark.parametrize("chosen", ({"strict": True}, {"chains": "rows"}), ids=str)
def test_whole_rows_are_computed_whole(chosen):
    arrays = operands()
    assert needed(causal, *arrays, **chosen) == []
    check(causal, *arrays, **chosen)


def test_with_masks_that_are_data():
    """Rows whose columns are all left out by both are NaN."""
    q, k, v = operands()
    present = rng.random(T) < 0.7
    present[:90] = False

    def function(q, k, v, present):
        i, j = places(q, k)
        return attend(q, k, v, (j <= i) & present)

    assert needed(function, q, k, v, present) == ["0 <= i0 - i1 < 180"]
    got = run(function, q, k, v, present)
    np.testing.assert_allclose(got, run(function, q, k, v, present, backend="reference"), rtol=3e-5, atol=3e-6)
    assert np.isnan(got[:, :90]).all() and np.isfinite(got[:, 170:]).all()


def grouped(q, k, v):
    """Four heads of queries share each head of keys and values."""
    s = jtc.einsum("bhgsd,bhtd->bhgst", q, k)
    i, j = places(q, k)
    return jtc.einsum("bhgst,bhte->bhgse", jtc.softmax(jtc.where(j <= i, s, -np.inf), axis=-1), v)


def test_groups_of_heads():
    arrays = [normal(2, 2, 4, 200, D), normal(2, 2, 300, D), normal(2, 2, 300, D)]
    assert len(needed(grouped, *arrays)) == 1
    check(grouped, *arrays)


@pytest.mark.parametrize("name, tolerance", (("bfloat16", 2e-2), ("float16", 3e-3)))
def test_half_precision(name: str, tolerance: float):
    arrays = operands()
    half = [jtc.array(a).astype(name) for a in arrays]
    assert len(needed(causal, *half)) == 1
    got = np.asarray(jtc.jit(lambda *a: causal(*a).astype("float32"))(*half))
    exact = run(causal, *(np.asarray(h.astype("float32")) for h in half), backend="reference")
    np.testing.assert_allclose(got, exact, rtol=tolerance, atol=tolerance)


def test_threads_change_no_bit():
    arrays = operands(512, 512)
    np.testing.assert_array_equal(run(causal, *arrays, threads=1), run(causal, *arrays, threads=2))


def test_text_and_costs():
    arrays = operands(1024, 1024)
    for phase in ("kernel", "schedule"):
        found = program(causal, *arrays, phase=phase)
        assert program_text(read_text(program_text(found)), locations=False) == program_text(found, locations=False)
    plain = program(attend, *arrays)
    (ours, _), (whole, _) = (kernel_cost(p.kernels[-1], p.buffers) for p in (found, plain))
    assert 0.55 < ours / whole < 0.65
    assert "60% of them, where 0 <= i0 - i1 < 1024" in str(jtc.explain(causal, *arrays))


def test_share_counts_blocks():
    """Against every point of small axes."""
    draw = np.random.default_rng(1)
    for _ in range(100):
        rows, columns, down, across = (int(draw.integers(1, n)) for n in (30, 30, 9, 9))
        guards = [Guard(Affine({"j": int(draw.choice([-2, -1, 1, 2])), "i": int(draw.choice([-1, 0, 1]))},
                               int(draw.integers(-20, 20))), int(draw.integers(1, 30)))
                  for _ in range(int(draw.integers(1, 3)))]
        shared = [(Axis("h", 3), 1), (Axis("i", rows), down), (Axis("j", columns), across)]
        blocks, run_ = 0, 0
        for top in range(0, rows, down):
            held = [all(any(0 <= g.index.evaluate({"i": i, "j": j}) < g.size for i, j in product(
                range(top, min(top + down, rows)), range(left, min(left + across, columns)))) for g in guards)
                for left in range(0, columns, across)]
            blocks, run_ = blocks + len(held), run_ + max(1, sum(held))
        assert share(shared, guards) * blocks == pytest.approx(run_)
    assert share(shared, ()) == 1


def test_index_arithmetic():
    i, j = (index(Affine.axis(a), I64) for a in "ij")
    sizes = {"i": 8, "j": 10}

    def made(fn, *args, dtype=I64):
        return str(simplified(expr(fn, args, dtype), sizes))

    def guards(fn, *args):
        return [str(g) for g in simplified(expr(fn, args, BOOL), sizes).attr]

    assert made("sub", j, i) == "index(j - i)"
    assert made("mul", const(3, I64), i) == "index(3*i)"
    assert made("mul", i, j) == "mul(index(i), index(j))"
    assert made("cast", i, dtype=I32) == "index(i)"
    assert made("mul", index(Affine.axis("i"), I32), const(1 << 30, I32), dtype=I32).startswith("mul")     # it wraps
    assert guards("lt", j, i) == ["0 <= i - j - 1 < 7"]
    assert made("le", i, const(7, I64), dtype=BOOL) == "True" and made("gt", i, const(7, I64), dtype=BOOL) == "False"
    inside = simplified(expr("lt", (j, i), BOOL), sizes), simplified(expr("eq", (j, const(4, I64)), BOOL), sizes)
    assert guards("and", *inside) == ["0 <= i - j - 1 < 7", "0 <= j - 4 < 1"]
