"""The reference interpreters against plain NumPy, and against loops over single elements."""
from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import CASES, A, access, matmul
from op_cases import array, graph_of, meta_op_cases, mlp

from jtc.dialects import reference_values
from jtc.dialects.dtypes import F32, F64, I32, I64
from jtc.dialects.errors import InputError
from jtc.dialects.graph import Graph, Node, TensorType
from jtc.dialects.kernel import Guard
from jtc.dialects.optable import REDUCTIONS
from jtc.dialects.reference import run_graph, run_kernel, run_node, run_program


@pytest.fixture(params=[1 << 20, 3], ids=["whole", "slabs"])
def points(request, monkeypatch):
    """Once with everything at once, once with at most three points at a time."""
    monkeypatch.setattr(reference_values, "POINTS", request.param)


# ------------------------------------------------------------------------------------------------ graphs
def element_by_element(node, args):
    """What the op table's doc lines say, one element at a time."""
    attrs, out = node.attrs, np.zeros(node.shape, node.dtype.numpy)
    place = lambda index: {f"d{i}": n for i, n in enumerate(index)}         # noqa: E731

    def mapped(index, indices):
        j = [form.evaluate(place(index)) for form in attrs["map"]]
        for d, tensor in zip(attrs.get("dims", ()), indices):
            j[d] += int(tensor[index])
        return tuple(j)

    def inside(j, shape):
        return all(0 <= a < n for a, n in zip(j, shape))

    if node.op in ("reindex_reduce", "scatter"):
        if node.op == "scatter":
            out[...], updates, indices = args[0], args[1], args[2:]
        else:
            out[...], updates, indices = REDUCTIONS[attrs["fn"]].identity(node.dtype), args[0], ()
        for index in np.ndindex(updates.shape):
            j = mapped(index, indices)
            if inside(j, out.shape):
                new = updates[index]
                out[j] = new if attrs["fn"] == "replace" else REDUCTIONS[attrs["fn"]].numpy(out[j], new)
        return out
    if node.op == "reduce":
        out[...] = REDUCTIONS[attrs["fn"]].identity(node.dtype)
        for index in np.ndindex(args[0].shape):
            j = tuple(n for d, n in enumerate(index) if d not in attrs["axes"])
            out[j] = REDUCTIONS[attrs["fn"]].numpy(out[j], args[0][index])
        return out
    for index in np.ndindex(out.shape):
        if node.op == "constant":
            out[index] = attrs["value"]
        elif node.op == "iota":
            out[index] = index[attrs["axis"]]
        elif node.op == "broadcast":
            out[index] = args[0][tuple(0 if n == 1 else index[d] for d, n in zip(attrs["dims"], args[0].shape))]
        elif node.op == "transpose":
            out[index] = args[0][tuple(index[attrs["perm"].index(d)] for d in range(len(index)))]
        elif node.op == "recompute":
            out[index] = args[0][index]
        elif node.op == "reshape":
            out[index] = args[0].flat[np.ravel_multi_index(index, out.shape)]
        elif node.op == "arg_reduce":
            row = args[0][index[:attrs["axis"]] + (slice(None),) + index[attrs["axis"]:]]
            out[index] = list(row).index(max(row) if attrs["fn"] == "max" else min(row))
        elif node.op == "concat":
            k, at, axis = 0, list(index), attrs["axis"]
            while at[axis] >= args[k].shape[axis]:
                at[axis], k = at[axis] - args[k].shape[axis], k + 1
            out[index] = args[k][tuple(at)]
        elif node.op in ("scan", "recurrence"):
            a, t = attrs["axis"], index[attrs["axis"]]
            start = REDUCTIONS[attrs.get("fn", "add")].identity(node.dtype)
            before = out[index[:a] + (t - 1,) + index[a + 1:]] if t else node.dtype.numpy.type(start)
            out[index] = REDUCTIONS[attrs["fn"]].numpy(before, args[0][index]) if node.op == "scan" else \
                args[0][index] * before + args[1][index]
        elif node.op in ("reindex", "gather"):
            j = mapped(index, args[1:])
            out[index] = args[0][j] if inside(j, args[0].shape) else attrs["fill"]
        else:
            pytest.fail(f"no loop for {node.op}")
    return out


@pytest.mark.parametrize("dtype", [I32, F64], ids=str)
def test_meta_ops_element_by_element(dtype, points):
    for op, args, attrs, type in meta_op_cases(dtype):
        if op not in ("random", "cast"):
            node = graph_of(op, args, attrs, type).outputs[0]
            values = [array(t, seed) for seed, t in enumerate(args)]
            expected = element_by_element(node, values)
            np.testing.assert_allclose(run_node(node, values), expected, 1e-12, err_msg=repr(node))


def test_cast_rounds_towards_zero():
    node = graph_of("cast", [TensorType(F32, (4,))], {}, TensorType(I32, (4,))).outputs[0]
    np.testing.assert_array_equal(run_node(node, [np.float32([-1.9, -0.5, 0.5, 1.9])]), [-1, 0, 0, 1])


def test_random_is_philox_of_the_element_number():
    def bits(shape, stream):
        graph = graph_of("random", [TensorType(I64, ())], {"stream": stream}, TensorType(I32, shape))
        return run_graph(graph, [np.int64(7)])[0]
    np.testing.assert_array_equal(bits((3, 5), 2).reshape(-1), bits((15,), 2))
    assert (bits((15,), 2) != bits((15,), 3)).any()


def test_graph_in_its_dtypes_and_precisely():
    graph = mlp()
    x = array(TensorType(F32, (4, 8)))
    w = graph.constants()[0].data
    y = np.maximum(x.astype(np.float64) @ w + np.float64(np.float32(0.1)), 0)
    exact = run_graph(graph, [x], precise=True)
    assert [a.dtype for a in exact] == [np.float64] * 3
    for result, expected in zip(exact, [y, y.sum(1), x]):
        np.testing.assert_allclose(result, expected, 1e-14)
    for result, expected in zip(run_graph(graph, [x]), exact):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, 1e-5)


def test_outputs_are_arrays_of_their_own():
    x = Node("input", (), {}, TensorType(F32, (3,)))
    wide = Node("broadcast", [x], {"dims": (1,)}, TensorType(F32, (2, 3)))
    given = np.ones(3, np.float32)
    same, broadcast = run_graph(Graph("f", [x], [x, wide]), [given])
    same += 1
    broadcast[0] = 5
    assert given.tolist() == [1, 1, 1] and broadcast[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("inputs, message", [
    ([], "mlp takes 1 inputs, got 0"),
    ([np.zeros((4, 7), np.float32)], r"input 0 of mlp must be tensor<4x8xf32>, got float32\[4, 7\]"),
    ([np.zeros((4, 8))], r"must be tensor<4x8xf32>, got float64\[4, 8\]"),
])
def test_wrong_inputs(inputs, message):
    with pytest.raises(InputError, match=message):
        run_graph(mlp(), inputs)


def test_weights_without_values():
    graph = mlp()
    graph.constants()[0].data = None
    with pytest.raises(InputError, match="the weights 'w' have no values"):
        run_graph(graph, [np.zeros((4, 8), np.float32)])


# ------------------------------------------------------------------------------------------------ kernels
def inputs_of(program, extra=()):
    return [array(program.buffers[name], seed) for seed, name in enumerate((*program.inputs, *extra))]


@pytest.mark.parametrize("name", CASES)
def test_programs(name, points):
    case = CASES[name]()
    weights = [n for n, value in case.program.constants.items() if value is None]
    arrays = inputs_of(case.program, weights)
    count = len(case.program.inputs)
    program = replace(case.program, constants={**case.program.constants, **dict(zip(weights, arrays[count:]))})
    for precise in (False, True):
        results = run_program(program, arrays[:count], precise)
        for result, expected, buffer in zip(results, case.expected(*arrays), program.outputs, strict=True):
            type = program.buffers[buffer]
            assert result.shape == type.shape
            assert result.dtype == (np.float64 if precise and type.dtype.is_float else type.dtype.numpy)
            np.testing.assert_allclose(result, expected, 1e-5, 1e-6)


def test_run_kernel_writes_in_place_and_makes_what_is_missing():
    program = matmul().program
    x, w, b = array(program.buffers["x"]), array(program.buffers["w"], 1), np.zeros(8, np.float32)
    buffers = {"x": x, "w": w, "b": b}
    run_kernel(program.kernels[0], buffers)
    np.testing.assert_allclose(buffers["y"], np.maximum(x @ w, 0), 1e-5)
    given = buffers["y"] = np.zeros(48, np.float32)
    run_kernel(program.kernels[0], buffers)
    np.testing.assert_allclose(given.reshape(6, 8), np.maximum(x @ w, 0), 1e-5)


def test_what_no_kernel_writes_is_nan():
    program = matmul().program
    kernel = program.kernels[0]
    stage = replace(kernel.stages[0], write=replace(kernel.stages[0].write, guards=(Guard(A("i"), 2),)))
    program = replace(program, kernels=[replace(kernel, stages=(stage,))], constants={"w": 1.0, "b": 0.0})
    y, = run_program(program, inputs_of(program))
    assert np.isfinite(y[:2]).all() and np.isnan(y[2:]).all()


def test_access_outside_its_buffer():
    program = matmul().program
    stage = replace(program.kernels[0].stages[0], reads=(access("x", F32, (6, 5), A("i") + 1, A("k")),
                                                         *program.kernels[0].stages[0].reads[1:]))
    program = replace(program, kernels=[replace(program.kernels[0], stages=(stage,))], constants={"w": 1.0, "b": 0.0})
    with pytest.raises(InputError, match=r"matmul_relu/s0: an access to x leaves its view \[6, 5\] where its guards"):
        run_program(program, inputs_of(program))


def test_missing_values():
    program = matmul().program
    with pytest.raises(InputError, match="the constant 'w' has no values"):
        run_program(program, inputs_of(program))
    with pytest.raises(InputError, match="f takes 1 inputs, got 0"):
        run_program(program, [])
    with pytest.raises(InputError, match="input x must be tensor<6x5xf32>"):
        run_program(program, [np.zeros((5, 6), np.float32)])
    with pytest.raises(InputError, match="kernel matmul_relu needs the buffer 'w'"):
        run_kernel(program.kernels[0], {"x": np.zeros((6, 5), np.float32)})


def test_slabs_cover_the_space_in_order(monkeypatch):
    monkeypatch.setattr(reference_values, "POINTS", 5)
    for shape in ((), (3,), (7,), (2, 3, 4), (0, 3), (1, 11), (4, 1, 3)):
        boxes = list(reference_values.slabs(shape))
        assert all(np.prod([len(r) for r in box]) <= 5 for box in boxes)
        visited = [point for box in boxes for point in itertools.product(*box)]
        assert visited == list(np.ndindex(shape))
