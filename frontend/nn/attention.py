"""Linear maps, embeddings, dropout and attention."""
from __future__ import annotations

import math
from typing import Any

from jtc.dialects.dtypes import BOOL
from jtc.frontend.activations import softmax
from jtc.frontend.autocast import active
from jtc.frontend.creation import asarray, ones, tril
from jtc.frontend.elementwise import equal, logical_or, where
from jtc.frontend.indexing import take
from jtc.frontend.linalg import einsum, matmul
from jtc.frontend.manipulation import expand_dims, matrix_transpose
from jtc.frontend.operands import convert, to_node
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error
from jtc.frontend.transforms import stop_gradient


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x @ weight.T + bias: x [..., in], weight [out, in], bias [out] -> [..., out]."""
    shape = to_node(weight).shape
    if len(shape) != 2:
        raise input_error(f"linear needs a weight [out, in], got shape {shape}")
    y = matmul(x, matrix_transpose(weight))
    return y if bias is None else y + _bias(bias, y)


def bilinear(x1: Any, x2: Any, weight: Any, bias: Any = None) -> Tensor:
    """y[..., o] = sum of x1[..., i] * weight[o, i, j] * x2[..., j] + bias[o].  Raises InputError for other shapes."""
    y = einsum("...i,oij,...j->...o", x1, weight, x2)
    return y if bias is None else y + _bias(bias, y)


def _bias(bias: Any, y: Tensor) -> Tensor:
    """The bias as it is added: under autocast in the type of the product."""
    node = to_node(bias)
    return Tensor.of(convert(node, y.dtype) if active.get() is not None and y.dtype.is_half else node)


def embedding(indices: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """weight[indices]: rows of the table [count, width] for integer indices [...] -> [..., width].

    padding_idx: a row that gets no gradient.
    """
    rows = take(weight, indices, axis=0)
    if padding_idx is None:
        return rows
    index = asarray(indices)
    padding = logical_or(equal(index, padding_idx), equal(index, padding_idx - to_node(weight).shape[0]))
    return where(expand_dims(padding, -1), stop_gradient(rows), rows)


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zeros with probability p, the rest scaled by 1 / (1 - p); x itself unless training."""
    if not 0 <= p <= 1:
        raise input_error(f"dropout probability {p} is not between 0 and 1")
    node = to_node(x)
    if not training or p == 0:
        return Tensor.of(node)
    from jtc.frontend.random import bernoulli
    keep = bernoulli(1 - p, node.shape)
    return where(keep, Tensor.of(node) * (1 / (1 - p) if p < 1 else 0.0), 0)


def dropout2d(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """`dropout` of whole channels of x [n, c, ...]."""
    shape = to_node(x).shape
    if len(shape) < 2:
        raise input_error(f"dropout2d needs at least two dimensions, got shape {shape}")
    if not training or p == 0:
        return dropout(x, p, training)
    return Tensor.of(to_node(x)) * dropout(ones((*shape[:2], *(1 for _ in shape[2:])), dtype=to_node(x).dtype), p)


def scaled_dot_product_attention(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
                                 is_causal: bool = False, scale: float | None = None) -> Tensor:
    """softmax(query @ key.T * scale) @ value over the last two dimensions [..., length, width].

    attn_mask: bool (False is left out) or float (added to the scores), broadcast to [..., queries, keys].  is_causal
    leaves out the keys after each query.  scale defaults to 1 / sqrt(width).
    """
    q, k = Tensor.of(to_node(query)), Tensor.of(to_node(key))
    if q.ndim < 2 or k.ndim < 2:
        raise input_error(f"attention needs at least two dimensions, got shapes {q.shape} and {k.shape}")
    scores: Tensor = matmul(q, matrix_transpose(k)) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if is_causal:
        if attn_mask is not None:
            raise input_error("give attn_mask or is_causal, not both")
        attn_mask = tril(ones((q.shape[-2], k.shape[-2]), dtype=BOOL))
    if attn_mask is not None:
        mask = to_node(attn_mask)
        scores = where(Tensor.of(mask), scores, -math.inf) if mask.dtype is BOOL else scores + Tensor.of(mask)
    weights = softmax(scores, axis=-1)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return matmul(weights, value)
