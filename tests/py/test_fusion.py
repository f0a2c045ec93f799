"""Graphs through the graph passes, against the reference: same values, and as many kernels as they should take."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from example_programs import example
from random_graphs import RandomGraph, arrays, node, splat

import jtc
from jtc.compiler.verify import verify_graph, verify_program
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import F32, F64
from jtc.dialects.errors import InputError
from jtc.dialects.graph import Graph, Node, TensorType
from jtc.dialects.kernel import Program
from jtc.dialects.reference import run_graph, run_program
from jtc.dialects.text import graph_text, program_text
from jtc.frontend.export import standalone
from jtc.frontend.traced import trace
from jtc.nn import functional as F
from jtc.passes.base import Pass, PassError, registry
from jtc.passes.graph.graph_canonicalize import GraphCanonicalize
from jtc.passes.graph.graph_expand import GraphExpand
from jtc.passes.graph.graph_factor_sums import GraphFactorSums
from jtc.passes.graph.graph_fold_scale import GraphFoldScale
from jtc.passes.graph.graph_fuse import GraphFuse
from jtc.passes.graph.graph_push_gather import GraphPushGather
from jtc.passes.kernel.packing import constant_buffers

EXACT: tuple[Pass, ...] = (GraphExpand(), GraphPushGather(), GraphCanonicalize())
ALL: tuple[Pass, ...] = (*EXACT, GraphFactorSums(), GraphCanonicalize(), GraphFoldScale(), GraphCanonicalize())


def fused(graph: Graph, passes: Sequence[Pass] = EXACT) -> Program:
    for step in passes:
        graph = step.run(graph)
        verify_graph(graph)
    program = GraphFuse().run(graph)
    verify_program(program)
    stages = [s for k in program.kernels for s in k.stages]
    reads = {a.buffer for s in stages for a in s.reads}
    unread = [a.buffer for s in stages for a in (s.write, s.keep) if a and a.buffer not in reads]
    assert set(unread) <= set(program.outputs), f"written and never read: {unread}"
    return program


def check(function: Callable, *inputs: np.ndarray, passes: Sequence[Pass] = EXACT, rtol: float = 1e-10) -> Program:
    """The program of a traced function, after comparing it with the graph's meaning in float64."""
    graph = trace(function, inputs, name="f").graph
    program = fused(graph, passes)
    expected = run_graph(graph, inputs, precise=True)
    for got, want in zip(run_program(program, inputs, precise=True), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)
    return program


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng([1, *shape]).standard_normal(shape, dtype=np.float32)


def integers(high: int, *shape: int) -> np.ndarray:
    return np.random.default_rng([2, *shape]).integers(0, high, shape)


def conv2d(x, w, stride=1, pad=0, dilation=1):
    """A convolution from four meta-ops."""
    (n, c, h, w_), (o, _, kh, kw) = x.shape, w.shape
    oh, ow = ((size + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for size, k in ((h, kh), (w_, kw)))
    shape = (n, o, oh, ow, c, kh, kw)
    xx = jtc.reindex(x, shape, lambda n, o, i, j, c, p, q: (
        n, c, i * stride + p * dilation - pad, j * stride + q * dilation - pad), fill=0)
    ww = jtc.reindex(w, shape, lambda n, o, i, j, c, p, q: (o, c, p, q))
    return jtc.reindex_reduce(xx * ww, "add", (n, o, oh, ow), lambda n, o, i, j, c, p, q: (n, o, i, j))


def attention(q, k, v):
    return jtc.softmax(q @ k.mT / np.sqrt(q.shape[-1]), axis=-1) @ v


def heads(x, w):
    """Split into heads, move them, merge them again."""
    y = jtc.permute_dims(jtc.reshape(x @ w, (2, 6, 3, 4)), (0, 2, 1, 3))
    return jtc.reshape(jtc.permute_dims(jtc.relu(y), (0, 2, 1, 3)), (2, 6, 12))


def res_block(x, w1, w2):
    y = jtc.relu(conv2d(x, w1, 1, 1))
    return jtc.relu(conv2d(y, w2, 1, 1) + x)


def layer_norm_of_product(x, w, g, b):
    return F.layer_norm(x @ w + x, 16, g, b)


def softmax_backward(x, d):
    y = jtc.softmax(x, axis=-1)
    return y * (d - jtc.sum(d * y, axis=-1, keepdims=True))


def layer_norm_backward(x, g, d):
    """Gradients of x, scale and shift."""
    c = x - jtc.mean(x, axis=1, keepdims=True)
    r = 1 / jtc.sqrt(jtc.mean(c * c, axis=1, keepdims=True) + 1e-5)
    y, s = c * r, d * g
    mean_of = functools.partial(jtc.mean, axis=1, keepdims=True)
    return r * (s - mean_of(s) - y * mean_of(s * y)), jtc.sum(d * y, axis=0), jtc.sum(d, axis=0)


def batch_norm_backward(x, g, d):
    """Gradients of x, scale and shift, with the batch's statistics."""
    axes, count = (0, 2, 3), x.size // x.shape[1]
    c = x - jtc.mean(x, axis=axes, keepdims=True)
    r = 1 / jtc.sqrt(jtc.mean(c * c, axis=axes, keepdims=True) + 1e-5)
    scale, shift = jtc.sum(d * c * r, axis=axes, keepdims=True), jtc.sum(d, axis=axes, keepdims=True)
    dx = jtc.reshape(g, (1, -1, 1, 1)) * r * (d - shift / count - c * r * scale / count)
    return dx, jtc.reshape(scale, (-1,)), jtc.reshape(shift, (-1,))


def batch_norm_of_channels_last(x, g, b):
    d = x - jtc.mean(x, axis=(0, 1, 2))
    return jtc.relu(d / jtc.sqrt(jtc.mean(d * d, axis=(0, 1, 2)) + 1e-5) * g + b)


def gradients_of_channels_last(x, g, b, d):
    return jtc.grad(lambda x, g, b: jtc.sum(batch_norm_of_channels_last(x, g, b) * d), argnums=(0, 1, 2))(x, g, b)


def turned_sums(x):
    """The channels of what is read are outermost, of what is written innermost."""
    m = jtc.mean(x, axis=(1, 2))
    d = x - jtc.reshape(m, (-1, 1, 1))
    return jtc.transpose(d, (1, 2, 0)), jtc.sum(d * d, axis=(1, 2))


def repeated_product(x, w):
    """A sum of products along an axis that neither factor has."""
    shape = (3, 8, 12, 16)
    return jtc.sum(jtc.broadcast_to(x[:, None, :], shape) * jtc.broadcast_to(w, shape), axis=-1)


# name -> (function, inputs, kernels)
CASES: dict[str, tuple[Callable, tuple[np.ndarray, ...], int]] = {
    "chain": (lambda x, y: jtc.tanh(jtc.exp(x) * y + 1) - x, (normal(4, 5), normal(5)), 1),
    "gelu of matmul": (lambda x, w, b: jtc.gelu(x @ w + b), (normal(8, 16), normal(16, 12), normal(12)), 1),
    "matmul repeated": (repeated_product, (normal(8, 16), normal(12, 16)), 1),
    "batched matmul": (lambda x, y: x @ y, (normal(2, 3, 5, 6), normal(3, 6, 4)), 1),
    "einsum": (lambda x, y: jtc.einsum("bij,jkb->ik", x, y), (normal(2, 3, 4), normal(4, 5, 2)), 1),
    "two products added": (lambda x, y, w: x @ w + y @ w, (normal(8, 8), normal(4, 8, 8)[0], normal(8, 8)), 2),
    "full sum": (lambda x: jtc.sum(x) * 2, (normal(3, 4),), 1),
    "sum of sum": (lambda x: jtc.sum(jtc.sum(x, axis=1), axis=0), (normal(30, 40),), 1),
    "conv": (lambda x, w: conv2d(x, w, 1, 1), (normal(2, 3, 7, 8), normal(4, 3, 3, 3)), 1),
    "conv stride 2, relu": (lambda x, w: jtc.relu(conv2d(x, w, 2, 1)), (normal(2, 3, 7, 8), normal(4, 3, 3, 3)), 1),
    "conv dilated": (lambda x, w: conv2d(x, w, 1, 2, 2), (normal(2, 3, 7, 8), normal(4, 3, 3, 3)), 1),
    "conv grouped, bias, relu": (lambda x, w, b: jtc.relu(F.conv2d(x, w, b, padding=1, groups=2)),
                                 (normal(2, 4, 7, 8), normal(6, 2, 3, 3), normal(6)), 1),
    "conv depthwise": (lambda x, w: F.conv2d(x, w, padding=1, groups=4), (normal(2, 4, 7, 8), normal(4, 1, 3, 3)), 1),
    "conv transposed": (lambda x, w: F.conv_transpose2d(x, w, padding=1), (normal(2, 4, 5, 6), normal(4, 3, 3, 3)), 1),
    "conv transposed, stride = kernel": (lambda x, w: jtc.relu(F.conv_transpose2d(x, w, stride=2)),
                                         (normal(2, 4, 5, 6), normal(4, 3, 2, 2)), 1),
    "conv transposed, stride 2": (lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1),
                                  (normal(2, 4, 5, 6), normal(4, 3, 3, 3)), 1),
    "linear of max pool": (lambda x, w, b: F.linear(F.max_pool2d(x, 2).reshape(6, -1), w, b),
                           (normal(6, 4, 4, 4), normal(5, 16), normal(5)), 2),
    "max pool of relu": (lambda x: F.max_pool2d(jtc.relu(x), 3, 2, 1), (normal(2, 4, 9, 10),), 1),
    "average pool": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (normal(2, 4, 9, 10),), 1),
    "softmax": (lambda x: jtc.softmax(x, axis=-1), (normal(64, 300),), 1),
    "softmax of columns": (lambda x: jtc.softmax(x, axis=0), (normal(64, 300),), 1),
    "log_softmax": (lambda x: jtc.log_softmax(x, axis=-1), (normal(64, 30),), 1),
    "logsumexp": (lambda x: jtc.logsumexp(x, axis=-1), (normal(64, 30),), 1),
    "layer_norm": (lambda x, g, b: F.layer_norm(x, 40, g, b), (normal(64, 40), normal(40), normal(40)), 1),
    "group_norm": (lambda x, g: F.group_norm(x, 2, g), (normal(8, 8, 6, 5), normal(8)), 1),
    "batch_norm in training": (lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True),
                               (normal(4, 16, 6, 7), normal(16), normal(16)), 1),
    "cross_entropy": (lambda x, t: jtc.mean(-jtc.take_along_axis(jtc.log_softmax(x, axis=-1), t, axis=-1)),
                      (normal(64, 70), integers(70, 64, 1)), 1),
    "cross_entropy of classes": (F.cross_entropy, (normal(64, 70), integers(70, 64)), 1),
    "cross_entropy of pixels": (F.cross_entropy, (normal(4, 20, 7, 7), integers(20, 4, 7, 7)), 1),
    "softmax backward": (softmax_backward, (normal(64, 30), normal(65, 30)[1:]), 1),
    "layer_norm backward": (layer_norm_backward, (normal(64, 600), normal(600), normal(65, 600)[1:]), 2),
    "batch_norm of channels last": (batch_norm_of_channels_last, (normal(3, 6, 7, 40), normal(40), normal(40)), 1),
    "batch_norm of channels last, backward": (
        gradients_of_channels_last, (normal(3, 6, 7, 40), normal(40), normal(40), normal(4, 6, 7, 40)[1:]), 1),
    "turned sums": (turned_sums, (normal(70, 9, 11),), 1),
    "batch_norm backward": (batch_norm_backward, (normal(4, 16, 6, 7), normal(16), normal(5, 16, 6, 7)[1:]), 1),
    "sums of columns": (lambda x, y: (jtc.sum(x * y, axis=0), jtc.sum(y, axis=0)),
                        (normal(600, 60), normal(601, 60)[1:]), 1),
    "cross_entropy with probabilities": (F.cross_entropy, (normal(64, 70), normal(64, 71)[:, 1:].copy()), 1),
    "argmax": (lambda x: jtc.argmax(x, axis=1), (normal(30, 40),), 1),
    "attention": (attention, (normal(2, 16, 8), normal(3, 16, 8)[:2], normal(4, 16, 8)[:2]), 1),
    "layer_norm of a product": (layer_norm_of_product, (normal(32, 16), normal(16, 16), normal(16), normal(16)), 2),
    "heads joined": (lambda x, y, w: jtc.reshape(jtc.permute_dims(x @ y, (1, 0, 2)), (6, -1)) @ w,
                     (normal(3, 6, 5), normal(3, 5, 4), normal(12, 7)), 2),
    "heads": (heads, (normal(2, 6, 5), normal(5, 12)), 1),
    "residual block": (res_block, (normal(1, 4, 6, 6), normal(4, 4, 3, 3), normal(5, 4, 3, 3)[:4]), 2),
    "concat": (lambda x, y: jtc.concat([x, y, x], axis=1) * 2, (normal(3, 4), normal(3, 5)), 1),
    "slices": (lambda x: x[1:-1, ::2][::-1] + 1, (normal(6, 7),), 1),
    "flip, roll": (lambda x: jtc.roll(jtc.flip(x, axis=1), 2, axis=0), (normal(6, 7),), 1),
    "reshape, transpose": (lambda x: jtc.exp(jtc.permute_dims(jtc.reshape(x, (2, 5, 3, 4)), (0, 2, 1, 3))),
                           (normal(2, 5, 12),), 1),
    "reshape that mixes axes": (lambda x: jtc.reshape(jtc.transpose(jtc.exp(x)), (4, 9)), (normal(6, 6),), 1),
    "gather": (lambda x, i: jtc.take(x, i, axis=0) * 2, (normal(5, 4), integers(5, 7)), 1),
    "gather of exp": (lambda x, i: jtc.take(jtc.exp(x), i, axis=0), (normal(5, 4), integers(5, 7)), 2),
    "pad of a product": (lambda x, y: jtc.pad(x @ y, 1), (normal(8, 8), normal(9, 8)[:8]), 2),
    "pad of exp": (lambda x: jtc.pad(jtc.exp(x), 2, constant_values=3), (normal(8, 8),), 1),
    "pad of pad": (lambda x: jtc.pad(jtc.pad(x * 2, 1), 2, constant_values=3) + 1, (normal(8, 8),), 1),
    "any": (lambda x: jtc.any(x > 0, axis=1), (normal(8, 8),), 1),
    "integers": (lambda x: x // 3 + x % 5, (integers(100, 8, 8),), 1),
    "rank 0": (lambda x: x * 2 + 1, (np.array(3, np.float32),), 1),
    "empty": (lambda x: (x + 1, jtc.sum(x, axis=0), jtc.sum(x, axis=1)), (normal(0, 4),), 3),
    "overlapping reindex_reduce": (lambda x: jtc.reindex_reduce(x, "add", (5,), lambda i, j: (i + j,)),
                                   (normal(3, 4),), 1),
    "diagonal": (lambda x: jtc.reindex_reduce(x, "add", (5, 5), lambda i: (i, i)), (normal(5),), 1),
    "every second": (lambda x: jtc.exp(jtc.reindex_reduce(x, "add", (11,), lambda i: (2 * i,))), (normal(5),), 1),
    "overlap of strides": (lambda x: jtc.reindex_reduce(x, "max", (40,), lambda i, j: (3 * i + 2 * j - 1,)),
                           (normal(12, 3),), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    function, inputs, kernels = CASES[name]
    program = check(function, *inputs)
    assert len(program.kernels) == kernels, [k.name for k in program.kernels]
    assert all(k.reasons for k in program.kernels)


# (case, shapes of its inputs, kernels): what is small is one kernel, what is large must spread over threads.
SIZES = (
    ("softmax", ((2, 3),), 1), ("softmax", ((4096, 4096),), 1), ("softmax", ((1 << 20, 3),), 1),
    ("softmax", ((3, 1 << 20),), 3),                # too few rows for the threads: each pass over them is a kernel
    ("softmax of columns", ((3, 2),), 1), ("softmax of columns", ((512, 4096),), 1),
    ("log_softmax", ((2, 3),), 1), ("log_softmax", ((32768, 1000),), 1),
    ("layer_norm", ((2, 40), (40,), (40,)), 1), ("layer_norm", ((65536, 40), (40,), (40,)), 1),
    ("batch_norm in training", ((2, 3, 2, 2), (3,), (3,)), 1),
    ("batch_norm in training", ((128, 64, 56, 56), (64,), (64,)), 1),
    # Blocks of 64 channels of 25088 rows leave the cache: what does not go row by row is a kernel of its own.
    ("batch_norm of channels last", ((8, 56, 56, 256), (256,), (256,)), 3),
    ("batch_norm of channels last", ((8, 14, 14, 256), (256,), (256,)), 1),
    ("batch_norm of channels last, backward", ((8, 56, 56, 256), (256,), (256,), (8, 56, 56, 256)), 7),
    ("softmax of columns", ((16384, 1024),), 3),
    ("cross_entropy of classes", ((2, 3), (2,)), 1), ("cross_entropy of classes", ((65536, 10), (65536,)), 1),
    ("cross_entropy of classes", ((4096, 50000), (4096,)), 1),
    ("attention", ((2, 16, 8),) * 3, 1), ("attention", ((16, 2048, 128),) * 3, 1),
    ("softmax backward", ((2, 3),) * 2, 1), ("softmax backward", ((4096, 4096),) * 2, 1),
    ("layer_norm backward", ((3, 40), (40,), (3, 40)), 1),
    ("layer_norm backward", ((9999, 999), (999,), (9999, 999)), 2),
    ("batch_norm backward", ((2, 3, 2, 2), (3,), (2, 3, 2, 2)), 1),
    ("batch_norm backward", ((128, 64, 28, 28), (64,), (128, 64, 28, 28)), 1),
)


@pytest.mark.parametrize("name, shapes, kernels", SIZES)
def test_kernels_at_any_size(name: str, shapes: tuple[tuple[int, ...], ...], kernels: int) -> None:
    function, inputs, _ = CASES[name]
    like = [np.broadcast_to(np.zeros((), x.dtype), shape) for x, shape in zip(inputs, shapes, strict=True)]
    assert len(fused(trace(function, like, name="f").graph, ALL).kernels) == kernels


def test_what_lies_across_is_shared_in_whole_vectors() -> None:
    """With single channels every element of the result would take a cache line."""
    kernel, = fused(trace(turned_sums, [np.zeros((128, 64, 64), np.float32)], name="f").graph, ALL).kernels
    assert [(axis.size, block) for axis, block in kernel.shared] == [(128, 16)]


@pytest.mark.parametrize("name", ("cross_entropy of classes", "cross_entropy of pixels", "layer_norm backward",
                                  "sums of columns", "matmul repeated", "turned sums"))
def test_compiled(name: str) -> None:
    """Through code generation: axes that are reduced at the end, columns summed side by side, an axis of no factor."""
    function, inputs, _ = CASES[name]
    expected = run_graph(trace(function, inputs, name="f").graph, inputs, precise=True)
    got = jtc.jit(function)(*inputs)
    for one, want in zip(got if isinstance(got, tuple) else (got,), expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ("softmax", "layer_norm", "batch_norm in training", "cross_entropy", "attention",
                                  "residual block"))
def test_scales_folded(name: str) -> None:
    """All passes together keep values up to f32's rounding, and the number of kernels."""
    function, inputs, kernels = CASES[name]
    assert len(check(function, *inputs, passes=ALL, rtol=1e-5).kernels) == kernels


def test_random_graphs() -> None:
    """Arbitrary affine maps, fills, overlaps: the kernels compute what the graph says."""
    compared = 0
    # Then: units that depend on units with larger numbers; a scatter into a value that is made in residue classes.
    for seed, ops in [*((seed, 2 + seed % 12) for seed in range(100)), (5734, 24), (6091, 21), (6475, 21), (25086, 18)]:
        graph = RandomGraph(seed).graph(ops)
        inputs = arrays(graph, seed)
        values = run_graph(Graph("all", graph.inputs, [n for n in graph.nodes() if n.dtype.is_float]), inputs)
        if not all(np.isfinite(v).all() for v in values):
            continue
        compared += 1
        for passes in ((GraphExpand(),), ALL):
            program = fused(graph, passes)
            for got, want in zip(run_program(program, inputs), run_graph(graph, inputs), strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9, err_msg=f"seed {seed}")
    assert compared > 80


def test_outputs_are_copied() -> None:
    """An output that is an input, a number, a view or another output has a buffer that some stage writes."""
    x = Node("input", (), {}, TensorType(F64, (3, 4)))
    y = node("exp", x)
    graph = Graph("f", [x], [x, y, node("transpose", y, perm=(1, 0)), splat(2.0, (3,)), y, x])
    value = np.arange(12.0).reshape(3, 4) / 12
    program = fused(graph)
    assert len(set(program.outputs)) == sum(len(s.writes) for k in program.kernels for s in k.stages) == 6
    for got, want in zip(run_program(program, [value]), run_graph(graph, [value]), strict=True):
        np.testing.assert_array_equal(got, want)


def test_ungrouped() -> None:
    """Without grouping every value with a buffer is a kernel of its own, and the values are the same."""
    x = normal(64, 30)
    graph = trace(lambda x: jtc.softmax(x, axis=-1), (x,), name="f").graph
    program = GraphFuse(fusion="elementwise").run(graph)
    verify_program(program)
    assert len(program.kernels) == 4 and not any(k.locals for k in program.kernels)
    np.testing.assert_allclose(run_program(program, [x])[0], run_graph(graph, [x])[0], rtol=1e-6)


def test_deterministic() -> None:
    """The same function gives the same text: it is part of cache keys."""
    inputs = CASES["layer_norm of a product"][1]

    def text() -> str:
        return program_text(fused(trace(layer_norm_of_product, inputs, name="f").graph, ALL))
    assert text() == text()


@pytest.mark.parametrize("groups", (1, 2))
def test_batch_norm_folds_into_weights(groups: int) -> None:
    """What depends on weights only is computed apart; the convolution has one addition left of its batch_norm."""
    w, bias, mean, var, scale, shift = (normal(6, 4 // groups, 3, 3), *(normal(6 + i, 6)[0] for i in range(5)))

    def network(x):
        y = F.batch_norm(F.conv2d(x, w, bias, padding=1, groups=groups), mean, abs(var), scale, shift)
        return jtc.relu(y)

    x = normal(2, 4, 7, 8)
    graph = trace(network, (x,), name="f").graph
    program = fused(graph, ALL)
    run_time = [k for k in program.kernels if program.inputs[0] in k.read]
    assert [k.name.split("_")[1:] for k in run_time] == [["dot", "add", "max"]]
    expected = run_graph(graph, [x], precise=True)[0]
    np.testing.assert_allclose(run_program(program, [x], precise=True)[0], expected, rtol=1e-5, atol=1e-5)


def test_weights_move_without_kernels() -> None:
    """Movement of weights alone is left to the reads."""
    w = normal(6, 5)
    graph = trace(lambda x: x @ jtc.permute_dims(w, (1, 0)), (normal(3, 5),), name="f").graph
    assert len(fused(graph, ALL).kernels) == 1


def long_chain() -> tuple[Node, Node]:
    """A chain of 6000 ops that all read the input."""
    x = Node("input", (), {}, TensorType(F64, (5,)))
    y = x
    for _ in range(2000):
        y = node("tanh", node("add", node("mul", y, splat(0.5, (5,))), x))
    return x, y


def large_tree() -> tuple[Node, Node]:
    """A sum of 2500 cosines, none of them dear enough for a buffer, in 12 layers."""
    x = Node("input", (), {}, TensorType(F64, (5,)))
    nodes = [node("cos", node("add", x, splat(float(i), (5,)))) for i in range(2500)]
    while len(nodes) > 1:
        odd = nodes[len(nodes) // 2 * 2:]
        nodes = [node("add", *pair) for pair in zip(nodes[::2], nodes[1::2], strict=False)] + odd
    return x, nodes[0]


def many_pads() -> tuple[Node, Node]:
    """Borders of different numbers, which cannot be composed: 200 movement ops on one input."""
    x = y = Node("input", (), {}, TensorType(F64, (5,)))
    for i in range(200):
        y = node("reindex", y, type=TensorType(F64, (y.shape[0] + 2,)), map=(Affine.axis("d0") - 1,), fill=float(i % 2))
    return x, y


@pytest.mark.parametrize("make", (long_chain, large_tree, many_pads))
def test_large_graphs(make: Callable[[], tuple[Node, Node]]) -> None:
    """Thousands of ops become kernels of bounded size, in seconds and without deep recursion in any part."""
    x, y = make()
    graph = Graph("f", [x], [y])
    assert graph_text(graph).count(" = ") >= len(graph.nodes()) - 1
    program = fused(graph, ALL)
    assert program_text(program)
    assert max(len(s.ops) for k in program.kernels for s in k.stages) <= 192
    assert sum(len(s.ops) for k in program.kernels for s in k.stages) < 2 * len(graph.nodes())
    value = np.arange(5.0)
    np.testing.assert_allclose(run_program(program, [value])[0], run_graph(graph, [value])[0], rtol=1e-12, atol=1e-12)


def test_wide_sums_are_cut() -> None:
    """A sum of a hundred tensors is read by several kernels."""
    inputs = [Node("input", (), {}, TensorType(F64, (5,))) for _ in range(100)]
    nodes = list(inputs)
    while len(nodes) > 1:
        left_over = nodes[len(nodes) // 2 * 2:]
        nodes = [node("add", *pair) for pair in zip(nodes[::2], nodes[1::2], strict=False)] + left_over
    graph = Graph("f", inputs, nodes)
    values = [np.full(5, float(i)) for i in range(100)]
    program = fused(graph)
    assert max(len(s.reads) for k in program.kernels for s in k.stages) <= 24
    np.testing.assert_allclose(run_program(program, values)[0], run_graph(graph, values)[0])


def digits_step() -> Graph:
    """A training step of examples/train_digits.py."""
    digits = example("train_digits")
    net = digits.Net()
    opt = digits.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(x, t):
        loss = F.cross_entropy(net(x), t)
        opt.step(loss)
        return loss

    return trace(step, (normal(50, 1, 8, 8), integers(10, 50)), name="step").graph


def resnet_block() -> Graph:
    """A block of examples/resnet50.py with its weights compiled in, and the head of the net."""
    block = example("resnet50").Bottleneck(64, 64, 1, True)
    block.eval()
    traced = trace(lambda x: jtc.mean(block(F.max_pool2d(x, 3, 2, 1)), axis=(2, 3)), (normal(1, 64, 16, 16),), name="f")
    return standalone(traced)[0]


@pytest.mark.parametrize("make, run_time", ((digits_step, 14), (resnet_block, 6)))
def test_examples(make: Callable[[], Graph], run_time: int) -> None:
    """Kernels of a run (max-pool, four convolutions with all that follows, the mean); no buffer that nothing reads."""
    program = fused(make(), ALL)
    known = constant_buffers(program)
    assert sum(not set(k.written) <= known for k in program.kernels) == run_time
    assert all(k.reasons for k in program.kernels)


def test_padding_keeps_infinities_out() -> None:
    """A guarded product reads neither factor outside: 0 is filled in, not multiplied."""
    x = Node("input", (), {}, TensorType(F64, (3,)))
    y = node("reindex", node("mul", x, x), type=TensorType(F64, (5,)), map=(Affine.axis("d0") - 1,), fill=0.0)
    value = np.array([np.inf, np.nan, 1.0])
    np.testing.assert_array_equal(run_program(fused(Graph("f", [x], [y])), [value])[0], [0, np.inf, np.nan, 1, 0])


def test_refused() -> None:
    """One clear line for what the pass cannot take."""
    x = Node("input", (), {}, TensorType(F32, (-1, 4)))
    with pytest.raises(PassError, match=r"graph-fuse needs known dimensions, got tensor<\?x4xf32>"):
        GraphFuse().run(Graph("f", [x], [node("exp", x)]))
    y = Node("input", (), {}, TensorType(F32, (3, 4)))
    with pytest.raises(PassError, match="graph-fuse does not know arg_reduce") as caught:
        GraphFuse().run(Graph("f", [y], [node("arg_reduce", y, fn="max", axis=0)]))
    assert "graph-expand" in str(caught.value)
    program = GraphFuse().run(Graph("f", [y], [node("exp", y)]))
    for name, cls in registry().items():
        if name.startswith("graph-"):
            with pytest.raises(InputError, match=f"{name} works on graphs"):
                cls().run(program)
