"""Convolutions by Winograd's algorithm: results against float64, errors, what is chosen, what stays as it was."""
from __future__ import annotations

import numpy as np
import pytest

import jtc
from jtc.compiler import pipeline
from jtc.compiler.cpu import machine
from jtc.compiler.driver import compile_graph, settings_for
from jtc.dialects.affine import Affine
from jtc.dialects.build import make
from jtc.dialects.dtypes import BF16, F32, DType
from jtc.dialects.graph import Node, TensorType
from jtc.dialects.target import CpuTarget
from jtc.frontend.traced import trace
from jtc.nn import functional as F
from jtc.passes.graph.winograd.cost import choose
from jtc.passes.graph.winograd.match import match
from jtc.passes.graph.winograd.matrices import MATRICES, TILES
from jtc.runtime import knobs
from jtc.runtime.module import load_module

rng = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def reference(x: np.ndarray, w: np.ndarray, pad: int = 1) -> np.ndarray:
    """In float64; x [n, c, h, w], w [o, c, 3, 3]."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("ncijpq,ocpq->noij", windows, w.astype(np.float64), optimize=True)


def run(function, *arrays: np.ndarray, **chosen) -> np.ndarray:
    with knobs.use(**chosen):
        return np.asarray(jtc.jit(function)(*arrays))


def reductions(function, *arrays: np.ndarray, **chosen) -> int:
    """Kernels that sum."""
    with knobs.use(**chosen):
        settings = settings_for()
    program = pipeline.run(trace(function, arrays).graph, pipeline.graph_passes(settings), settings)
    return sum("reduce" in s.ops for k in program.kernels for s in k.stages)


def flipped(x, w):
    """The gradient with respect to the image, written out: taps in reverse, filters summed."""
    n, c, h, v = x.shape
    shape = (n, w.shape[1], h, v, w.shape[0], 3, 3)
    xx = jtc.reindex(x, shape, lambda n, o, i, j, c, p, q: (n, c, i - p + 1, j - q + 1), fill=0)
    ww = jtc.reindex(w, shape, lambda n, o, i, j, c, p, q: (c, o, p, q))
    return jtc.sum(xx * ww, axis=(4, 5, 6))


def channels_last(x, w):
    n, h, v, c = x.shape
    shape = (n, h - 2, v - 2, w.shape[0], 3, 3, c)
    xx = jtc.reindex(x, shape, lambda n, i, j, o, p, q, c: (n, i + p, j + q, c))
    ww = jtc.reindex(w, shape, lambda n, i, j, o, p, q, c: (o, c, p, q))
    return jtc.sum(xx * ww, axis=(4, 5, 6))


PROGRAMS = {
    "whole tiles": (lambda x, w: F.conv2d(x, w, padding=1), (normal(1, 16, 8, 8), normal(16, 16, 3, 3))),
    "cut tiles, two images": (lambda x, w: F.conv2d(x, w, padding=1), (normal(2, 5, 13, 9), normal(7, 5, 3, 3))),
    "no padding": (lambda x, w: F.conv2d(x, w), (normal(2, 8, 7, 10), normal(17, 8, 3, 3))),
    "wide padding": (lambda x, w: F.conv2d(x, w, padding=(3, 2)), (normal(1, 4, 5, 6), normal(3, 4, 3, 3))),
    "groups": (lambda x, w: F.conv2d(x, w, padding=1, groups=2), (normal(2, 8, 6, 6), normal(12, 4, 3, 3))),
    "epilogue": (lambda x, w, b: jtc.relu(F.conv2d(x, w, b, padding=1)) + x,
                 (normal(1, 6, 6, 7), normal(6, 6, 3, 3), normal(6))),
    "flipped taps": (flipped, (normal(2, 6, 9, 8), normal(6, 5, 3, 3))),
    "channels last": (channels_last, (normal(2, 9, 11, 8), normal(5, 8, 3, 3))),
    "two in a row": (lambda x, w: F.conv2d(jtc.relu(F.conv2d(x, w, padding=1)), w, padding=1),
                     (normal(1, 8, 10, 10), normal(8, 8, 3, 3))),
}


@pytest.mark.parametrize("tile", [str(m) for m in TILES])
@pytest.mark.parametrize("name", PROGRAMS)
def test_results(name, tile):
    function, arrays = PROGRAMS[name]
    want = run(function, *(a.astype(np.float64) for a in arrays), backend="reference")
    got = run(function, *arrays, winograd=tile)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())
    assert reductions(function, *arrays, winograd=tile) >= 5
    assert reductions(function, *arrays, winograd="off") == (2 if name == "two in a row" else 1)


@pytest.mark.parametrize("tile", [str(m) for m in TILES])
def test_float64_is_exact_to_its_own_precision(tile):
    x, w = normal(1, 16, 9, 9).astype(np.float64), normal(8, 16, 3, 3).astype(np.float64)
    want = reference(x, w)
    np.testing.assert_allclose(run(lambda x, w: F.conv2d(x, w, padding=1), x, w, winograd=tile), want, rtol=0,
                               atol=1e-13 * np.abs(want).max())


@pytest.mark.parametrize("tile", [str(m) for m in TILES])
@pytest.mark.parametrize("dtype", [jtc.bfloat16, jtc.float16], ids=str)
def test_16_bits_are_rounded_once(dtype, tile):
    """What lies between the transforms is float32."""
    x, w = (jtc.array(a).astype(dtype) for a in (normal(2, 20, 13, 9), normal(24, 20, 3, 3)))
    want = reference(x.numpy(), w.numpy())
    with knobs.use(winograd=tile):
        got = jtc.jit(lambda x, w: F.conv2d(x, w, padding=1))(x, w)
    assert got.dtype is dtype
    half = 2.0 ** (-8 if dtype is jtc.bfloat16 else -11)        # a unit in the last place
    np.testing.assert_allclose(got.numpy().astype(np.float64), want, rtol=1.01 * half, atol=2e-5 * np.abs(want).max())


def one_by_one(x, w):
    """The convolution, padded by 1, with its terms added in float32 one after the other, whatever a schedule does."""
    size, padded = x.shape[2], np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    total = np.zeros((x.shape[0], w.shape[0], size, size), np.float32)
    for c, p, q in np.ndindex(w.shape[1:]):
        total += w[:, c, p, q, None, None] * padded[:, None, c, p:p + size, q:q + size]
    return total


@pytest.mark.parametrize("channels", (16, 64, 256))
def test_errors_are_as_documented(channels):
    x, w = normal(1, channels, 14, 14), normal(32, channels, 3, 3)
    want = reference(x, w)
    error = {"direct": np.abs(one_by_one(x, w) - want)}
    for tile in ("off", "2", "4"):
        error[tile] = np.abs(run(lambda x, w: F.conv2d(x, w, padding=1), x, w, winograd=tile) - want)
    largest = {tile: e.max() for tile, e in error.items()}
    typical = {tile: np.sqrt(np.square(e).mean()) for tile, e in error.items()}
    assert typical["off"] < 1.1 * typical["direct"], "blocks of a reduction only make it less"
    assert largest["2"] < 1.5 * largest["direct"]
    assert largest["4"] < 6 * largest["direct"]
    assert typical["4"] < 3 * typical["direct"]
    assert largest["4"] < 6e-6 * np.abs(want).max()


@pytest.mark.parametrize("tile", TILES)
def test_the_matrices_give_sums_over_three_taps_exactly(tile):
    b, g, a = (np.array(MATRICES[tile][name]) for name in "BGA")       # fractions
    for tap in range(3):
        for place in range(tile + 2):
            w, x = np.eye(3, dtype=int)[tap], np.eye(tile + 2, dtype=int)[place]
            got = a @ ((g @ w) * (b @ x))
            assert list(got) == [int(i + tap == place) for i in range(tile)]


def test_strict_keeps_the_sums_as_they_are_written():
    function, arrays = PROGRAMS["whole tiles"]
    assert reductions(function, *arrays, strict=True, winograd="4") == 1
    np.testing.assert_array_equal(run(function, *arrays, strict=True, winograd="4"),
                                  run(function, *arrays, strict=True, winograd="off"))


@pytest.mark.parametrize("function, arrays", [
    (lambda x, w: F.conv2d(x, w, stride=2, padding=1), (normal(1, 16, 9, 9), normal(16, 16, 3, 3))),
    (lambda x, w: F.conv2d(x, w, dilation=2), (normal(1, 16, 9, 9), normal(16, 16, 3, 3))),
    (lambda x, w: F.conv2d(x, w, padding=2), (normal(1, 16, 9, 9), normal(16, 16, 5, 5))),
    (lambda x, w: F.conv2d(x, w, padding=(1, 0)), (normal(1, 16, 9, 9), normal(16, 16, 3, 1))),
    (lambda x, w: F.max_pool2d(x, 3, 1, 1), (normal(1, 16, 9, 9), normal(1))),
], ids=["strided", "dilated", "5 x 5", "3 x 1", "largest"])
def test_what_is_no_such_convolution_stays(function, arrays):
    assert reductions(function, *arrays, winograd="2") == reductions(function, *arrays, winograd="off")


def convolution(batch: int, channels: int, filters: int, size: int, dtype: DType = F32) -> Node:
    x, w = (Node("input", (), {}, TensorType(dtype, shape))
            for shape in ((batch, channels, size, size), (filters, channels, 3, 3)))
    shape = (batch, filters, size, size, channels, 3, 3)
    n, o, i, j, c, p, q = (Affine.axis(f"d{d}") for d in range(7))
    xx = make("reindex", [x], {"map": (n, c, i + p - 1, j + q - 1), "fill": 0.0}, TensorType(dtype, shape))
    ww = make("reindex", [w], {"map": (o, c, p, q), "fill": 0.0}, TensorType(dtype, shape))
    return make("reduce", [make("mul", [xx, ww])], {"fn": "add", "axes": (4, 5, 6)})


@pytest.mark.parametrize("sizes, tile", [
    ((1, 64, 64, 56), 4), ((8, 128, 128, 28), 4), ((1, 128, 128, 28), 4), ((1, 256, 256, 14), 2),
    ((8, 512, 512, 7), 4),
    ((1, 3, 64, 224), None), ((1, 64, 3, 56), None),        # too few channels, filters
    ((1, 512, 512, 7), None),                               # four times the weights for 49 places
])
def test_the_cost_rule(sizes, tile):
    conv = match(convolution(*sizes))
    assert conv is not None
    assert choose(conv, True, TILES, CpuTarget()) == tile


def test_where_vectors_are_shorter_fewer_multiply_adds_are_worth_more_weights():
    conv = match(convolution(1, 512, 512, 7))
    assert conv is not None and choose(conv, True, TILES, machine.named("x86-64-v3")) == 2


def test_images_that_run_one_by_one_stay_in_the_caches():
    """Eight of 56 x 56 do not together, nor where sixteen threads would have to share eight slices."""
    conv = match(convolution(8, 64, 64, 56))
    assert conv is not None
    assert choose(conv, True, TILES, CpuTarget()) is None
    assert choose(conv, True, TILES, CpuTarget(threads=2), apart=True) == 4
    assert choose(conv, True, TILES, CpuTarget(threads=16), apart=True) is None


def test_direct_sums_of_pairs_are_twice_as_fast():
    conv = match(convolution(1, 128, 128, 28, BF16))
    assert conv is not None
    assert choose(conv, True, (2,), CpuTarget()) == 2
    assert choose(conv, True, (2,), machine.named("cooperlake")) is None


def test_direct_sums_of_blocks_are_faster_still():
    conv = match(convolution(8, 512, 512, 7, BF16))
    assert conv is not None
    assert choose(conv, True, TILES, machine.named("cooperlake")) is not None
    assert choose(conv, True, TILES, machine.named("sapphirerapids")) is None


def test_transformed_weights_and_matrices_are_made_once():
    w = normal(64, 64, 3, 3)
    x = normal(1, 64, 28, 28)
    module = load_module(compile_graph(trace(lambda x: F.conv2d(x, jtc.asarray(w), padding=1), (x,)).graph, embed=True))
    assert sum(launch.kernel != "pack_x" for launch in module.plan.launches) == 5      # the image may be copied
    got, want = np.asarray(module(x)), reference(x, w)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


def test_gradients_are_those_of_the_direct_sum():
    function, (x, w) = PROGRAMS["whole tiles"]

    def loss(w, x):
        return jtc.sum(function(x, w) ** 2)
    want = run(jtc.grad(loss), w.astype(np.float64), x.astype(np.float64), backend="reference")
    for tile in ("2", "4"):
        np.testing.assert_allclose(run(jtc.grad(loss), w, x, winograd=tile), want, rtol=0,
                                   atol=2e-5 * np.abs(want).max())
