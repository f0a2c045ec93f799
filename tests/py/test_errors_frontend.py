"""Wrong input gives one clear error that names the user's line, outside and inside of `jit`."""
from __future__ import annotations

import numpy as np
import pytest
from frontend_checks import normal

import jtc
from jtc.nn import functional as F

pytestmark = pytest.mark.usefixtures("backend")
X = normal(3, 4)

CASES = {
    "shapes do not broadcast": (lambda x: x + np.zeros(3, np.float32), "(3, 4) and (3,) do not broadcast"),
    "matmul sizes": (lambda x: x @ x, "inner sizes 4 and 3 differ"),
    "matmul of a scalar": (lambda x: x @ jtc.array(2.0), "needs operands with dimensions"),
    "no common dtype": (lambda x: jtc.zeros((2,), dtype=jtc.uint64) + jtc.zeros((2,), dtype=jtc.int8),
                        "no common dtype of uint64 and int8"),
    "bool arithmetic": (lambda x: (x > 0) - (x > 1), "sub does not take bool"),
    "float bit operation": (lambda x: x & 1, "and does not take float32"),
    "integer too large": (lambda x: jtc.zeros((2,), dtype=jtc.int32) + 2**40, "does not fit into int32"),
    "unknown dtype": (lambda x: x.astype("complex64"), "is not a jtc element type"),
    "unknown device": (lambda x: jtc.zeros((2,), device="tpu"), "unknown device 'tpu'"),
    "string": (lambda x: x + "a", None),
    "object array": (lambda x: jtc.array(np.array([None])), "is not a jtc element type"),
    "ragged list": (lambda x: jtc.array([[1, 2], [3]]), "must be rectangular"),
    "reshape": (lambda x: x.reshape(5, -1), "cannot reshape (3, 4) (12 elements)"),
    "reshape size": (lambda x: x.reshape(5, 2), "cannot reshape"),
    "negative shape": (lambda x: jtc.zeros((2, -3)), "negative dimension -3"),
    "float shape": (lambda x: jtc.zeros((2.0,)), "a shape holds integers"),
    "axis": (lambda x: jtc.sum(x, axis=2), "axis 2 is out of range"),
    "axis twice": (lambda x: jtc.sum(x, axis=(0, -2)), "names an axis twice"),
    "permutation": (lambda x: jtc.permute_dims(x, (0,)), "is not a permutation"),
    "empty maximum": (lambda x: jtc.max(x[:0], axis=0), "max of an empty axis"),
    "squeeze": (lambda x: jtc.squeeze(x, axis=0), "cannot squeeze dimension 0"),
    "concat": (lambda x: jtc.concat([x, x.T]), "cannot concat shapes"),
    "concat nothing": (lambda x: jtc.concat([]), "one or more tensors"),
    "index out of range": (lambda x: x[3], "index 3 is out of range for dimension 0"),
    "too many indices": (lambda x: x[0, 0, 0], "3 indices for 2 dimensions"),
    "bool mask": (lambda x: x[x > 0], "bool mask"),
    "bool index": (lambda x: x[True], "cannot index with the bool True"),
    "float index": (lambda x: x[0.5], "cannot index with float"),
    "two ellipses": (lambda x: x[..., ...], "only one '...'"),
    "reindex arity": (lambda x: jtc.reindex(x, (2, 2), lambda i: (i, i)), "takes 1 indices, but there are 2 axes"),
    "reindex product": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i * j, j)), "is not affine"),
    "reindex division": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i // 2, j)), "(d0) // 2 is not affine"),
    "reindex modulo": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i % 2, j)), "(d0) % 2 is not affine"),
    "reindex float": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i + 0.5, j)), "float is not an integer"),
    "reindex comparison": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i if i < 1 else j, j)), "cannot be compared"),
    "reindex tensor": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i + jtc.array(1), j)), None),
    "reindex results": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: (i,)), "gives 1 indices for 2 dimensions"),
    "reindex shape": (lambda x: jtc.reindex(x, (2, -2), lambda i, j: (i, j)), "negative dimension -2"),
    "reindex failure": (lambda x: jtc.reindex(x, (2, 2), lambda i, j: {}[0]), "the index function failed: KeyError"),
    "reindex_reduce name": (lambda x: jtc.reindex_reduce(x, "mean", (3,), lambda i, j: i), "unknown reduction 'mean'"),
    "einsum operands": (lambda x: jtc.einsum("ij,jk->ik", x), "names 2 operands, got 1"),
    "einsum sizes": (lambda x: jtc.einsum("ij,ij->i", x, x.T), "index 'i' has sizes 3 and 4"),
    "einsum rank": (lambda x: jtc.einsum("ijk->i", x), "does not fit an operand of 2 dimensions"),
    "einsum result": (lambda x: jtc.einsum("ij->k", x), "is in no operand"),
    "conv channels": (lambda x: F.conv2d(x[None, None], jtc.zeros((1, 2, 3, 3))), "does not fit a weight of shape"),
    "conv kernel": (lambda x: F.conv2d(x[None, None], jtc.zeros((1, 1, 9, 9))), "larger than the padded input"),
    "conv rank": (lambda x: F.conv2d(x, jtc.zeros((1, 1, 3, 3))), "needs 3 or 4 dimensions"),
    "conv bias": (lambda x: F.conv2d(x[None, None], jtc.zeros((1, 1, 3, 3)), jtc.zeros((2,))), "bias has shape (2,)"),
    "layer norm": (lambda x: F.layer_norm(x, (5,)), "does not fit shape (3, 4)"),
    "cross entropy": (lambda x: F.cross_entropy(x, np.zeros(4, np.int64)), "needs targets of shape (3,)"),
    "linear": (lambda x: F.linear(x, jtc.zeros((3,))), "linear needs a weight [out, in]"),
    "gelu": (lambda x: F.gelu(x, "fast"), "approximate='fast'"),
}


@pytest.mark.parametrize("inside", [False, True], ids=["lazy", "jit"])
@pytest.mark.parametrize("name", CASES)
def test_clear_errors(name, inside):
    function, words = CASES[name]
    expected = jtc.JtcError if words else (jtc.JtcError, TypeError)
    with pytest.raises(expected) as caught:
        jtc.jit(function)(X) if inside else function(jtc.array(X))
    if words:
        text = str(caught.value)
        assert words in text
        assert f"\n  at {__file__}:" in text
        assert isinstance(caught.value, ValueError)
        assert len(text.splitlines()[0]) < 200 and text[0] not in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def test_errors_in_the_middle_of_a_trace_do_not_poison_it():
    f = jtc.jit(lambda x: x @ x)
    with pytest.raises(jtc.InputError):
        f(X)
    assert f(X[:, :3]).shape == (3, 3)
    assert (jtc.array(X) + 1).shape == (3, 4)
