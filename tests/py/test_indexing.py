"""Indexing, gather and scatter, reindex and reindex_reduce against NumPy."""
from __future__ import annotations

import numpy as np
import pytest
from frontend_checks import normal, same

import jtc

pytestmark = pytest.mark.usefixtures("backend")
ROWS, TABLE = np.array([2, 0, 1, 1]), np.array([[0, 3], [1, -1]])


@pytest.mark.parametrize("key", [
    0, -1, slice(None), slice(1, 3), slice(None, None, -1), slice(None, None, 2), slice(3, 0, -2), slice(5, 9), ...,
    None, (0, 1), (slice(None), 2), (..., 1), (0, ..., 2), (None, 0, None), (1, 2, 3),
    (slice(None, None, -1), ..., slice(1, None, 2)), ROWS, (ROWS,), (slice(None), ROWS), (..., TABLE), (ROWS, ROWS),
    (slice(None), ROWS, slice(None, None, -1)), (0, ROWS), (ROWS, slice(None), TABLE[0, 0]),
    (slice(1, 3), TABLE[:, :, None] % 3), (TABLE % 3, None, slice(0, 2)),
    ([0, 1], slice(None), [2, 0]), (0, slice(None), ROWS), (slice(None), 0, ROWS),
    np.int64(2), ()], ids=repr)
def test_getitem(key):
    x = normal(3, 4, 5)
    same(jtc.array(x)[key], np.asarray(x[key]))


def test_index_with_tensors_and_iteration():
    x = normal(3, 4)
    same(jtc.array(x)[jtc.array([2, 0])], x[[2, 0]])
    same(jtc.array(x)[np.zeros((0,), np.int64)], x[:0])
    a, b, c = jtc.array(x)
    same(b, x[1])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0, 2)])
def test_empty(shape):
    x = normal(*shape)
    same(jtc.array(x)[::-1], x[::-1])
    same(jtc.array(x)[..., None], x[..., None])


def test_take():
    x = normal(3, 4, 5)
    same(jtc.take(x, ROWS % 3, axis=0), np.take(x, ROWS % 3, 0))
    same(jtc.take(x, TABLE % 4, axis=1), np.take(x, TABLE % 4, 1))
    same(jtc.take(np.arange(5), [4, -1, 0]), np.array([4, 4, 0]))
    same(jtc.take(np.arange(1, 5), [4, 7, -9, 0]), np.array([0, 0, 0, 1]))
    order = np.argsort(x, axis=1)
    same(jtc.take_along_axis(x, order, axis=1), np.take_along_axis(x, order, 1))
    same(jtc.gather(x, order[..., :1], axis=1), np.take_along_axis(x, order[..., :1], 1))


@pytest.mark.parametrize("reduce,ufunc", [("add", np.add), ("max", np.maximum), ("mul", np.multiply)])
def test_scatter_reduces_overlapping_writes(reduce, ufunc):
    x, updates = normal(3, 4), normal(6, 4, seed=1)
    index = np.random.default_rng(2).integers(0, 3, (6, 4))
    expected = x.copy()
    ufunc.at(expected, (index, np.broadcast_to(np.arange(4), (6, 4))), updates)
    same(jtc.scatter(x, index, updates, axis=0, reduce=reduce), expected)


def test_scatter_replaces_in_order_and_drops_what_is_outside():
    x = jtc.zeros((4,), dtype=jtc.int64)
    same(jtc.scatter(x, [1, 1, 3, 9], [5, 6, 7, 8]), np.array([0, 6, 0, 7]))


def test_reindex():
    x = normal(4, 5)
    same(jtc.reindex(x, (5, 4), lambda i, j: (j, i)), x.T)
    same(jtc.reindex(x, (4, 7), lambda i, j: (i, j - 1), fill=9), np.pad(x, ((0, 0), (1, 1)), constant_values=9))
    same(jtc.reindex(x, (2, 2), lambda i, j: (2 * i + 1, 4 - j)), x[1::2, :2:-1])
    same(jtc.reindex(x, (3,), lambda i: (i, i)), np.diagonal(x)[:3])
    same(jtc.reindex(x, (), lambda: (0, 1)), np.asarray(x[0, 1]))
    same(jtc.reindex(np.asarray(np.float32(3)), (2,), lambda i: ()), np.full(2, 3, np.float32))


def test_reindex_reduce():
    x = normal(4, 5)
    expected = np.zeros(8, np.float32)
    for i in range(4):
        for j in range(5):
            expected[i + j] += x[i, j]
    same(jtc.reindex_reduce(x, "add", (8,), lambda i, j: (i + j,)), expected)
    same(jtc.reindex_reduce(x, "max", (4,), lambda i, j: i), x.max(1))
    dropped = np.zeros(3, np.float32)
    dropped[1:] = x[0, :2]
    same(jtc.reindex_reduce(x[0], "add", (3,), lambda i: i + 1), dropped)


def conv2d(x, w, stride=1, pad=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape  # noqa: E741
    OH, OW = (H + 2*pad - KH)//stride + 1, (W + 2*pad - KW)//stride + 1
    shape = (N, O, OH, OW, C, KH, KW)
    xx = jtc.reindex(x, shape, lambda n, o, i, j, c, p, q: (n, c, i*stride + p - pad, j*stride + q - pad), fill=0)
    ww = jtc.reindex(w, shape, lambda n, o, i, j, c, p, q: (o, c, p, q))
    return jtc.reindex_reduce(xx * ww, "add", (N, O, OH, OW), lambda n, o, i, j, c, p, q: (n, o, i, j))


@pytest.mark.parametrize("stride,pad", [(1, 0), (2, 1)])
def test_convolution_from_meta_operators(stride, pad):
    x, w = normal(2, 3, 7, 8), normal(4, 3, 3, 3, seed=1)
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::stride, ::stride]
    same(jtc.jit(lambda x, w: conv2d(x, w, stride, pad))(x, w), np.einsum("nchwpq,ocpq->nohw", windows, w))
