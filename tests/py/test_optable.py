"""The op table against the reference interpreter: every row, every dtype, odd shapes."""
from __future__ import annotations

import math

import numpy as np
import pytest
from op_cases import argument_types, array, graph_of, meta_op_cases, scalar_function_cases

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BOOL, DTYPES, F32, F64, I32, I64
from jtc.dialects.graph import TensorType
from jtc.dialects.optable import (
    FACTS,
    META_OPS,
    REDUCTIONS,
    SCALAR_FUNCTIONS,
    OpError,
    infer,
    philox_4x32,
    scalar_result,
)
from jtc.dialects.reference import run_node


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_result_type_is_what_infer_says(dtype):
    for op, args, attrs, declared in (*scalar_function_cases(dtype), *meta_op_cases(dtype)):
        type = infer(op, args, attrs, declared)
        assert declared is None or type == declared, (op, args, attrs)
        node = graph_of(op, args, attrs, type).outputs[0]
        for precise in (False, True):
            values = [array(t, i) for i, t in enumerate(args)]
            if precise:
                values = [v.astype(np.float64) if t.dtype.is_float else v for v, t in zip(values, args)]
            result = run_node(node, values, precise)
            expected = np.dtype(np.float64) if precise and type.dtype.is_float else type.dtype.numpy
            assert (result.shape, result.dtype) == (type.shape, expected), (op, args, attrs)


@pytest.mark.parametrize("row", SCALAR_FUNCTIONS.values(), ids=lambda row: row.name)
def test_facts_hold(row):
    assert row.facts <= set(FACTS)
    for dtype in (d for d in DTYPES.values() if d.kind in row.kinds and d.bits != 16):
        values = [array(t, seed) for seed, t in enumerate(argument_types(row, dtype, (64,)))]
        if "commutative" in row.facts:
            np.testing.assert_array_equal(row.numpy(*values), row.numpy(*values[::-1]))
        if "associative" in row.facts:
            a, b = values
            c = array(TensorType(dtype, (64,)), 9)
            np.testing.assert_allclose(row.numpy(a, row.numpy(b, c)), row.numpy(row.numpy(a, b), c), 1e-5)
        if "idempotent" in row.facts:
            np.testing.assert_array_equal(row.numpy(values[0], values[0]), values[0])
        if "zero_preserving" in row.facts:
            assert row.numpy(np.zeros(1, dtype.numpy)) == 0
        if "comparison" in row.facts:
            assert row.result == "bool"


@pytest.mark.parametrize("row", REDUCTIONS.values(), ids=lambda row: row.fn)
def test_identities_are_neutral(row):
    for dtype in (d for d in DTYPES.values() if d.kind in row.kinds):
        x = array(TensorType(dtype, (64,)))
        identity = np.asarray(row.identity(dtype)).astype(dtype.numpy)
        np.testing.assert_array_equal(row.numpy(x, identity), x)


def test_every_row_is_documented():
    for row in (*SCALAR_FUNCTIONS.values(), *META_OPS.values()):
        assert row.doc and "\n" not in row.doc


def test_philox_known_answers():
    """The first block under key 0, from the authors' kat_vectors file."""
    words = philox_4x32(np.arange(4), np.int64(0)).view(np.uint32)
    assert [hex(w) for w in words] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]


def test_nan_and_rounding():
    nan = np.float32(math.nan)
    assert np.isnan(SCALAR_FUNCTIONS["max"].numpy(nan, np.float32(1)))
    assert np.isnan(SCALAR_FUNCTIONS["min"].numpy(np.float32(1), nan))
    assert np.isnan(SCALAR_FUNCTIONS["sign"].numpy(nan))
    np.testing.assert_array_equal(SCALAR_FUNCTIONS["round"].numpy(np.array([0.5, 1.5, 2.5])), [0, 2, 2])
    np.testing.assert_array_equal(SCALAR_FUNCTIONS["mod"].numpy(np.array([-5, 5]), np.array([3, -3])), [1, -1])


@pytest.mark.parametrize("op, args, attrs, declared, message", [
    ("add", [(F32, (8,)), (F32, (9,))], {}, None, r"add needs arguments of one shape, got \(8,\) and \(9,\)"),
    ("add", [(F32, (8,)), (F64, (8,))], {}, None, "add needs arguments of one dtype, got float32 and float64"),
    ("add", [(BOOL, ())] * 2, {}, None, "add does not take bool"),
    ("exp", [(F32, ())] * 2, {}, None, "exp takes 1 argument, got 2"),
    ("where", [(F32, ())] * 3, {}, None, "where needs a bool condition, got float32"),
    ("nothing", [], {}, None, "unknown op 'nothing'"),
    ("constant", [], {"value": 1}, None, "the result type must be given"),
    ("constant", [], {"value": 1}, (F32, (-2,)), r"negative dimension in shape \(-2,\)"),
    ("iota", [], {"axis": 1}, (I32, (3,)), "iota axis 1 is outside"),
    ("random", [(I32, ())], {"stream": 0}, (I32, (3,)), "random needs a key"),
    ("random", [(I64, ())], {"stream": 0}, (F32, (3,)), "random gives int32 bits"),
    ("broadcast", [(F32, (3,))], {"dims": (0,)}, (F32, (4,)), r"cannot broadcast \(3,\) to \(4,\)"),
    ("broadcast", [(F32, (3,))], {"dims": (0, 1)}, (F32, (3, 3)), "must name one dimension"),
    ("reduce", [(F32, (3,))], {"fn": "add", "axes": (1,)}, None, "do not fit shape"),
    ("reduce", [(F32, (3,))], {"fn": "sum", "axes": (0,)}, None, "unknown reduction 'sum'"),
    ("reduce", [(F32, (3,))], {"fn": "and", "axes": (0,)}, None, "cannot reduce float32 with and"),
    ("reduce", [(F32, (3,))], {"fn": "add"}, None, "reduce has attributes"),
    ("arg_reduce", [(F32, (0,))], {"fn": "max", "axis": 0}, None, "argmax of an empty axis"),
    ("arg_reduce", [(F32, (2,))], {"fn": "add", "axis": 0}, None, "knows max and min"),
    ("reindex", [(F32, (3,))], {"map": (), "fill": 0}, (F32, (3,)), "the index map gives 0 indices for 1 dimensions"),
    ("reindex", [(F32, (3,))], {"map": (Affine.axis("d1"),), "fill": 0}, (F32, (3,)), "names axes outside"),
    ("reindex_reduce", [(F32, (3,))], {"fn": "add", "map": ()}, (F32, (3,)), "gives 0 indices for 1"),
    ("reshape", [(F32, (3,))], {}, (F32, (4,)), "cannot reshape"),
    ("transpose", [(F32, (3, 4))], {"perm": (0, 0)}, None, "is not a permutation"),
    ("gather", [(F32, (3,)), (F32, (2,))], {"map": (Affine(),), "dims": (0,), "fill": 0}, (F32, (2,)),
     "needs integer index tensors"),
    ("gather", [(F32, (3,))], {"map": (Affine(),), "dims": (0,), "fill": 0}, (F32, (2,)), "must name one dimension"),
    ("gather", [(F32, (3, 3)), (I32, (2,)), (I64, (2,))], {"map": (Affine(), Affine()), "dims": (0, 1), "fill": 0},
     (F32, (2,)), "gather needs index tensors of one dtype, got int32 and int64"),
    ("scatter", [(F32, (3,))], {"fn": "add", "map": (), "dims": ()}, None, "scatter takes 2 or more arguments, got 1"),
    ("scatter", [(F32, (3,)), (F64, (2,)), (I64, (2,))], {"fn": "add", "map": (Affine(),), "dims": (0,)}, None,
     "scatter of float64 into float32"),
])
def test_wrong_arguments(op, args, attrs, declared, message):
    with pytest.raises(OpError, match=message):
        infer(op, [TensorType(*a) for a in args], attrs, declared and TensorType(*declared))


def test_unknown_dimensions_match_any():
    type = infer("add", [TensorType(F32, (-1, 8)), TensorType(F32, (4, -1))], {})
    assert type == TensorType(F32, (4, 8))
    assert infer("reshape", [TensorType(F32, (-1,))], {}, TensorType(F32, (2, 3))) == TensorType(F32, (2, 3))


def test_where_and_philox_dtypes():
    assert scalar_result("where", [BOOL, F32, F32]) is F32
    assert scalar_result("philox", [I64, I64]) is I32
    with pytest.raises(OpError, match="philox takes an int64 counter"):
        scalar_result("philox", [I32, I32])
