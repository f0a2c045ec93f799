"""Narrow and unsigned integers and 16-bit floats through the whole compiler: every op, strict rounding, schedules."""
from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from frontend_checks import RTOL, same
from op_cases import array, graph_of, meta_op_cases, scalar_function_cases

import jtc
from jtc.compiler import workers
from jtc.compiler.driver import compile_graph
from jtc.dialects.dtypes import BF16, BOOL, DTYPES, F16, F32, DType
from jtc.dialects.expr import walk
from jtc.dialects.graph import Graph, Node
from jtc.dialects.kernel import Program
from jtc.dialects.optable import infer
from jtc.dialects.reference import run_graph
from jtc.nn import functional as F
from jtc.runtime import knobs
from jtc.runtime.module import load_module

NARROW = [DTYPES[n] for n in ("i8", "i16", "ui8", "ui16", "ui32", "ui64", "f16", "bf16")]


def all_ops(dtype: DType) -> tuple[Graph, list[np.ndarray]]:
    """One graph with a case of every op, and with each function where it takes one, on elements of `dtype`."""
    chosen = {}
    for op, args, attrs, declared in (*meta_op_cases(dtype), *scalar_function_cases(dtype)):
        if op not in ("constant", "random") and all(0 not in t.shape for t in args):
            to = declared.dtype if op == "cast" else None
            chosen[op, attrs.get("fn"), to] = (op, args, attrs, infer(op, args, attrs, declared))
    inputs: list[Node] = []
    outputs: list[Node] = []
    arrays: list[np.ndarray] = []
    for case in chosen.values():
        graph = graph_of(*case)
        inputs += graph.inputs
        outputs += graph.outputs
        arrays += [array(t, seed) for seed, t in enumerate(case[1])]
    return Graph("all", inputs, outputs, [f"x{i}" for i in range(len(inputs))],
                 [f"y{i}" for i in range(len(outputs))]), arrays


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_every_op(dtype):
    graph, arrays = all_ops(dtype)
    assert len(graph.outputs) > 45
    results = load_module(compile_graph(graph))(*arrays)
    for node, want, got in zip(graph.outputs, run_graph(graph, arrays), results, strict=True):
        rtol = RTOL.get(got.dtype, 0)
        assert got.dtype == want.dtype == node.dtype.numpy
        if node.dtype.is_float:
            got, want = got.astype(np.float64), want.astype(np.float64)
            np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol, err_msg=repr(node))
        else:
            np.testing.assert_array_equal(got, want, err_msg=repr(node))


def chain(x, y):
    z = x * y + x
    return jtc.relu(z * z - y) / 3, jtc.sum(z, axis=0), jtc.max(jtc.abs(z), axis=1), jtc.where(z > y, z, y).T


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_strict_rounds_every_result(dtype):
    """As the interpreter does, bit by bit; and without it, only what is stored."""
    x, y = (array(jtc.zeros((33, 41), dtype=dtype).type, seed) for seed in range(2))
    graph = jtc.jit(chain).graph(x, y)
    want = run_graph(graph, [x, y])
    for got, exact in zip(jtc.jit(chain, strict=True)(x, y), want, strict=True):
        np.testing.assert_array_equal(got.numpy(), exact)
    wide = [a.astype(np.float32) for a in (x, y)]
    z = wide[0] * wide[1] + wide[0]
    once = (np.maximum(z * z - wide[1], 0) / np.float32(3)).astype(dtype.numpy)
    got = jtc.jit(chain)(x, y)[0].numpy()
    assert (got != once).mean() < 0.01 and (got != want[0]).any()       # a fused product may round otherwise


def kernels_of(function, *args, target="cpu", each=None) -> Program:
    from jtc.compiler import phases
    from jtc.compiler.driver import settings_for
    settings = replace(settings_for(target), each=each)
    return phases.advance(jtc.jit(function).graph(*args), "graph", "schedule", settings)


def test_long_sums_are_float32():
    ones = np.ones((3, 5000), F16.numpy)
    assert jtc.sum(jtc.array(ones), axis=1).numpy().tolist() == [5000.0] * 3       # beyond 2048, float16 adds no 1
    assert jtc.mean(jtc.array(ones * 200), axis=1).numpy().tolist() == [200.0] * 3    # the sum is beyond float16
    index = jtc.array(np.zeros(5000, np.int64))
    table = jtc.zeros((2,), dtype=F16)
    grown = jtc.grad(lambda t: jtc.sum(jtc.take(t, index).astype(F32)))(table)
    assert grown.numpy().tolist() == [5000.0, 0.0]


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_layers_agree_with_the_interpreter(dtype):
    x, w = (array(jtc.zeros(s, dtype=dtype).type, seed) for seed, s in enumerate([(2, 8, 9, 9), (12, 8, 3, 3)]))

    def layers(x, w):
        y = F.gelu(F.conv2d(x, w, padding=1))
        return y, F.group_norm(y, 3), F.max_pool2d(y, 2), jtc.cumulative_sum(y[0, 0], axis=1), jtc.mean(y, axis=(2, 3))

    with knobs.use(backend="reference"):
        expected = jtc.jit(layers)(x, w)
    for got, want in zip(jtc.jit(layers)(x, w), expected, strict=True):
        same(got, want.numpy())


def test_half_rows_stay_wide_inside_a_kernel():
    x = np.ones((64, 100), BF16.numpy)
    kernel, = kernels_of(lambda x: jtc.softmax(x, axis=-1), x).kernels
    assert kernel.locals and all(b.type.dtype is F32 for b in kernel.locals)


def test_what_readers_widen_is_stored_narrow():
    def norm(x, w):
        with jtc.autocast("bf16"):
            return F.layer_norm(x @ w, 96)

    program = kernels_of(norm, np.ones((64, 80), np.float32), np.ones((80, 96), np.float32))
    inside = [t for b, t in program.buffers.items() if t.shape == (64, 96) and b not in program.outputs]
    assert inside and all(t.dtype is BF16 for t in inside)


def test_operands_of_products_are_packed_as_float32():
    a, b = np.ones((300, 200), BF16.numpy), np.ones((200, 320), BF16.numpy)
    program = kernels_of(lambda a, b: a @ b, a, b, target="cpu:x86-64-v4")     # others multiply pairs as they are
    stage = program.kernels[-1].stages[-1]
    assert stage.factors() is not None and stage.write.dtype is BF16
    schedule = stage.schedule
    for number in stage.factors():
        ahead, packed = stage.reads[number].dtype, [p for p in schedule.packs if p.read == number]
        assert ahead is F32 or not packed or stage.copied_as(number) is F32
    copies = [k.stages[0] for k in program.kernels[:-1]]
    assert all(s.write.dtype is F32 and any(e.fn == "cast" for e in walk(s.body)) for s in copies)
    assert copies or schedule.packs


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
def test_workers_find_the_same_schedules(dtype):
    """An element type that comes from another process is the one of this process."""
    assert all(pickle.loads(pickle.dumps(d)) is d for d in (dtype, BOOL))
    a, b, mask = np.ones((300, 200), dtype.numpy), np.ones((200, 320), dtype.numpy), np.ones((300, 320), bool)
    here, there = (kernels_of(lambda a, b, m: jtc.where(m, a @ b, b[:1]), a, b, mask, target="cpu:cooperlake",
                              each=each) for each in (None, partial(workers.each, 2)))
    workers.stop()
    assert [s.schedule for k in here.kernels for s in k.stages] == [s.schedule for k in there.kernels for s in k.stages]
    assert any(s.schedule.dot for k in there.kernels for s in k.stages) == (dtype is BF16)


@pytest.mark.parametrize("target", ["cpu:x86-64", "cpu:x86-64-v3", "cpu:x86-64-v4"])
def test_products_and_softmax_on_every_level(target):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(F16.numpy) for s in ((37, 70), (70, 51)))
    with knobs.use(target=target.removeprefix("cpu:")):
        try:
            got = jtc.jit(lambda a, b: jtc.softmax(a @ b, axis=-1))(a, b).numpy()
        except jtc.InputError as error:
            assert "lacks" in str(error)
            pytest.skip("this machine does not run it")
    scores = a.astype(np.float64) @ b.astype(np.float64)
    powers = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(got.astype(np.float64), powers / powers.sum(1, keepdims=True), atol=2e-3, rtol=2e-2)


def test_integer_products_wrap():
    rng = np.random.default_rng(1)
    for dtype in ("i8", "ui8", "i16"):
        kind = DTYPES[dtype].numpy
        a, b = (rng.integers(0, 100, s).astype(kind) for s in ((33, 65), (65, 40)))
        np.testing.assert_array_equal((jtc.array(a) @ jtc.array(b)).numpy(), a @ b)
        wide = jtc.array(a).astype(jtc.int32) @ jtc.array(b).astype(jtc.int32)
        np.testing.assert_array_equal(wide.numpy(), a.astype(np.int32) @ b.astype(np.int32))
