"""Products with what reduces rows between them as one kernel: attention in its many forms."""
from __future__ import annotations

import numpy as np
import pytest

import jtc
from jtc.compiler import phases
from jtc.compiler.driver import settings_for
from jtc.dialects.kernel import Program, Stage
from jtc.dialects.reader import read_text
from jtc.dialects.reference import run_program
from jtc.dialects.text import program_text
from jtc.frontend.traced import trace
from jtc.runtime import knobs

rng = np.random.default_rng(0)
S, T, D = 45, 301, 20           # rows and columns in several blocks, the last one shorter; no whole vectors


def normal(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def attend(q, k, v, mask=None):
    return jtc.nn.functional.scaled_dot_product_attention(q, k, v, mask)


def expected(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """In float64."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    s = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    with np.errstate(invalid="ignore"):
        e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v


def program(function, *arrays, phase: str = "kernel", **chosen) -> Program:
    with knobs.use(**chosen):
        return phases.advance(trace(function, arrays).graph, "graph", phase, settings_for())


def stages(found: Program) -> list[Stage]:
    return [s for k in found.kernels for s in k.stages]


def run(function, *arrays, **chosen) -> np.ndarray:
    with knobs.use(**chosen):
        return np.asarray(jtc.jit(function)(*arrays))


def is_online(found: Program) -> bool:
    return any(s.rescale is not None for s in stages(found))


half = np.ones((S, T), bool)
half[: S // 2, :200] = False                    # the first blocks of columns of some rows have nothing
empty = rng.random((S, T)) < 0.7
empty[::7] = False                              # these rows have nothing at all

MASKS = {"none": None, "causal": np.tri(S, T, dtype=bool),
         "late": half, "empty rows": empty, "added -inf": np.where(half, 0.5, -np.inf).astype(np.float32),
         "one for each head": rng.random((3, S, T)) < 0.8}


def test_a_maximum_of_other_values_bounds_no_terms():
    """Where the first columns have none, exp(s - 0) would be infinite, and NaN once it is masked."""
    q, k, v = np.full((2, S, D), 2.5, np.float32), 2.5 + 0.01 * normal(2, T, D), normal(2, T, D)
    mask = np.arange(T) >= 200

    def late(q, k, v, mask):
        s = q @ k.mT
        e = jtc.exp(s - jtc.max(jtc.where(mask, s, -np.inf), axis=-1, keepdims=True)) * mask.astype("float32")
        return e / jtc.sum(e, axis=-1, keepdims=True) @ v

    assert not is_online(program(late, q, k, v, mask))
    found = run(late, q, k, v, mask)
    np.testing.assert_allclose(found, run(late, q, k, v, mask, chains="off"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str):
    q, k, v, mask = normal(3, S, D), normal(3, T, D), normal(3, T, D + 3), MASKS[name]
    arrays = (q, k, v) if mask is None else (q, k, v, mask)
    found = program(attend, *arrays)
    assert len([k for k in found.kernels if any("reduce" in s.ops for s in k.stages)]) == 1 and is_online(found)
    want = expected(*arrays)
    for chains in ("online", "rows") if name == "empty rows" else ("online",):
        got = run(attend, *arrays, chains=chains)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6, err_msg=chains)
    assert np.isnan(want).any() == (name == "empty rows")


def test_infinite_and_nan_scores():
    """As computed at once: a row with +inf or NaN among its scores is NaN."""
    q, k, v, bias = normal(2, S, D), normal(2, T, D), normal(2, T, D), np.zeros((S, T), np.float32)
    bias[3, 5], bias[4, 290], bias[5, 7], bias[6, 299] = np.inf, np.inf, np.nan, np.nan
    got, want = run(attend, q, k, v, bias), run(attend, q, k, v, bias, chains="off")
    assert np.isnan(got[:, 3:7]).all() and np.isfinite(np.delete(got, [3, 4, 5, 6], axis=1)).all()
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


def test_large_scores_that_grow():
    """Every block has larger scores than the one before it, beyond what exp can hold."""
    q, k, v = np.ones((4, 40, 4), np.float32), np.ones((4, 600, 4), np.float32), normal(4, 600, 8)
    k *= np.linspace(-300, 300, 600, dtype=np.float32)[:, None]
    np.testing.assert_allclose(run(attend, q, k, v), expected(q, k, v), rtol=1e-4, atol=1e-6)


def grouped(q, k, v):
    """Four heads of queries [b, h, 4, s, d] share each head of keys and values [b, h, t, d]."""
    s = jtc.einsum("bhgsd,bhtd->bhgst", q, k) * 0.3
    return jtc.einsum("bhgst,bhte->bhgse", jtc.softmax(s, axis=-1), v)


def positions_first(q, k, v):
    """[b, s, h, d] in and out."""
    s = jtc.einsum("bshd,bthd->bhst", q, k)
    return jtc.einsum("bhst,bthd->bshd", jtc.softmax(s, axis=-1), v)


def divided(q, k, v):
    """Softmax as one writes it, divided at the end."""
    s = q @ k.mT
    e = jtc.exp(s - jtc.max(s, axis=-1, keepdims=True))
    return (e / jtc.sum(e, axis=-1, keepdims=True)) @ v


def without_maximum(q, k, v):
    e = jtc.exp(q @ k.mT * 0.1)
    return e @ v / jtc.sum(e, axis=-1, keepdims=True)


def without_sum(q, k, v):
    """No maximum, no sum of its own: each column is weighted by how it compares to the row's mean."""
    s = jtc.abs(q @ k.mT)
    return (s / jtc.sum(s, axis=-1, keepdims=True)) @ v


FORMS = {
    "two batch axes": (attend, ((2, 3, S, D), (2, 3, T, D), (2, 3, T, 5))),
    "no batch axis": (attend, ((400, 16), (T, 16), (T, 16))),
    "wide heads": (attend, ((8, 30, 256), (8, 300, 256), (8, 300, 256))),
    "one wide": (attend, ((2, S, 1), (2, T, 1), (2, T, 1))),
    "grouped heads": (grouped, ((2, 2, 4, 30, D), (2, 2, T, D), (2, 2, T, D))),
    "positions first": (positions_first, ((2, 40, 3, 16), (2, 290, 3, 16), (2, 290, 3, 16))),
    "divided": (divided, ((2, S, D), (2, T, D), (2, T, D))),
    "without maximum": (without_maximum, ((2, S, D), (2, T, D), (2, T, D))),
    "without exp": (without_sum, ((2, S, D), (2, T, D), (2, T, D))),
    "short rows": (attend, ((2, 33, 8), (2, 50, 8), (2, 50, 8))),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str):
    function, shapes = FORMS[name]
    arrays = [normal(*shape) for shape in shapes]
    wide = [a.astype(np.float64) for a in arrays]
    want = run(function, *wide, chains="off")
    found = program(function, *arrays)
    assert len(found.kernels) == 1, [k.name for k in found.kernels]
    np.testing.assert_allclose(run(function, *arrays), want, rtol=3e-5, atol=3e-6)
    if name in ("grouped heads", "divided"):
        np.testing.assert_allclose(run(function, *wide), want, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(run(function, *wide, chains="rows"), want, rtol=1e-12, atol=1e-12)


def test_bfloat16():
    """Scores, weights and sums are float32 between the products."""
    arrays = [jtc.astype(jtc.array(normal(4, n, 32)), jtc.bfloat16) for n in (40, 300, 300)]
    assert is_online(program(attend, *arrays))
    want = expected(*(np.asarray(jtc.astype(a, jtc.float32)) for a in arrays))
    got = jtc.jit(lambda q, k, v: jtc.astype(attend(q, k, v), jtc.float32))(*arrays)
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("function", (attend, grouped, without_maximum))
def test_meaning_and_text_of_the_kernel(function):
    """The interpreter of kernels gives what the compiled code gives, and the text says all there is."""
    shapes = next(shapes for f, shapes in FORMS.values() if f is function)
    arrays = [normal(*shape) for shape in shapes]
    for phase in ("kernel", "schedule"):
        found = program(function, *arrays, phase=phase)
        np.testing.assert_allclose(run_program(found, arrays)[0], run(function, *arrays), rtol=3e-5, atol=3e-6)
        assert program_text(read_text(program_text(found)), locations=False) == program_text(found, locations=False)


def test_strict_keeps_the_arithmetic():
    arrays = normal(2, S, D), normal(2, T, D), normal(2, T, D)
    found = program(attend, *arrays, strict=True)
    assert len(found.kernels) == 1 and not is_online(found)
    assert any(s.ops[-1:] == ("div",) and s.reduce is None for s in stages(found))     # the weights are normalised
    want = run(attend, *arrays, chains="off", strict=True)
    np.testing.assert_allclose(run(attend, *arrays, strict=True), want, rtol=1e-6, atol=1e-7)


def test_threads_change_no_bit():
    arrays = normal(4, 200, 32), normal(4, T, 32), normal(4, T, 32)
    np.testing.assert_array_equal(run(attend, *arrays, threads=1), run(attend, *arrays, threads=2))


def test_memory_does_not_grow_with_the_square():
    arrays = normal(1, 2048, 16), normal(1, 2048, 16), normal(1, 2048, 16)
    assert jtc.explain(attend, *arrays).memory < 2 << 20
    with knobs.use(chains="off"):
        assert jtc.explain(attend, *arrays).memory >= 2048 * 2048 * 4


def test_gradients():
    """Where the weights are read again, by the backward pass, they are written, and all is right."""
    arrays = [jtc.array(normal(2, n, 16)) for n in (40, 300, 300)]

    def loss(q, k, v):
        return jtc.sum(attend(q, k, v) ** 2)

    got = {}
    for chains in ("online", "off"):
        with knobs.use(chains=chains):
            value, gradients = jtc.jit(jtc.value_and_grad(loss, argnums=(0, 1, 2)))(*arrays)
            got[chains] = [np.asarray(x) for x in (value, *gradients)]
    for one, two in zip(got["online"], got["off"], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


REFUSED = {
    "weights are an output": (lambda q, k, v: (p := jtc.softmax(q @ k.mT, axis=-1), p @ v),
                              ((2, S, D), (2, T, D), (2, T, D)), "read by other kernels"),
    "centred weights": (lambda q, k, v: ((s := q @ k.mT) - jtc.mean(s, axis=-1, keepdims=True)) ** 2 @ v,
                        ((2, S, D), (2, T, D), (2, T, D)), "a sum of whole rows that is needed at every column"),
    "wide layers": (lambda q, k, v: jtc.softmax(q @ k.mT, axis=-1) @ v,
                    ((512, 1024), (600, 1024), (600, 1024)), "would pass by"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name: str):
    function, shapes, why = REFUSED[name]
    arrays = [normal(*shape) for shape in shapes]
    assert not is_online(program(function, *arrays))
    assert why in str(jtc.explain(function, *arrays))
    with knobs.use(chains="off"):
        want = jtc.jit(function)(*arrays)
    got = jtc.jit(function)(*arrays)
    for one, two in zip(*(x if isinstance(x, tuple) else (x,) for x in (got, want)), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(two), rtol=1e-3, atol=1e-4)
