"""Attention layers and transformer blocks."""
from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from jtc.dialects.dtypes import BOOL
from jtc.frontend.creation import arange, asarray
from jtc.frontend.elementwise import where
from jtc.frontend.linalg import matmul
from jtc.frontend.manipulation import matrix_transpose, split
from jtc.frontend.nn import functional as F
from jtc.frontend.nn import init
from jtc.frontend.nn.containers import ModuleList
from jtc.frontend.nn.linear import Dropout, Linear, check_sizes, uninitialised
from jtc.frontend.nn.module import Module
from jtc.frontend.nn.normalization import LayerNorm
from jtc.frontend.nn.parameter import Parameter
from jtc.frontend.reductions import mean
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error


class MultiheadAttention(Module):
    """Attention of num_heads heads between queries [l, n, e] and keys and values [s, n, e] ([n, l, e] if batch_first).

    A call returns the result, and the weights [n, l, s] (mean over the heads, or [n, heads, l, s]) or None.

    in_proj_weight   [3 * embed_dim, embed_dim]; where keys or values have another width, q_proj_weight,
                     k_proj_weight and v_proj_weight instead
    in_proj_bias     [3 * embed_dim], or None
    out_proj         Linear(embed_dim, embed_dim)
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
                 kdim: int | None = None, vdim: int | None = None, batch_first: bool = False, dtype: Any = None):
        super().__init__()
        check_sizes(self, 1, embed_dim=embed_dim, num_heads=num_heads)
        if embed_dim % num_heads:
            raise input_error(f"MultiheadAttention of width {embed_dim} in {num_heads} heads",
                              "num_heads divides embed_dim")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        same = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = _xavier(3 * embed_dim, embed_dim, dtype) if same else None
        self.q_proj_weight = None if same else _xavier(embed_dim, embed_dim, dtype)
        self.k_proj_weight = None if same else _xavier(embed_dim, self.kdim, dtype)
        self.v_proj_weight = None if same else _xavier(embed_dim, self.vdim, dtype)
        self.in_proj_bias = uninitialised(3 * embed_dim, dtype=dtype) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Any = None,
                need_weights: bool = True, attn_mask: Any = None, average_attn_weights: bool = True,
                is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
        """Masks: bool (True is left out) or float (added to the scores), as in PyTorch.

        key_padding_mask [n, s]; attn_mask [l, s] or [n * heads, l, s].  is_causal leaves out the keys after each query.
        """
        single = query.ndim == 2
        if query.ndim not in (2, 3):
            raise input_error(f"MultiheadAttention takes 2 or 3 dimensions, got shape {query.shape}")
        batch = [x.expand_dims(axis=0) if single else x if self.batch_first else x.swapaxes(0, 1)
                 for x in (query, key, value)]
        q, k, v = self._projected(*batch)
        n, length, _ = batch[0].shape
        heads = [x.reshape(n, x.shape[1], self.num_heads, -1).swapaxes(1, 2) for x in (q, k, v)]
        scores = matmul(heads[0], matrix_transpose(heads[1])) * (1 / math.sqrt(self.embed_dim // self.num_heads))
        if attn_mask is not None:
            mask = asarray(attn_mask)
            scores = _masked(scores, mask.reshape(n, self.num_heads, *mask.shape[1:]) if mask.ndim == 3 else mask)
        if is_causal and attn_mask is None:
            scores = _masked(scores, causal_mask(length, k.shape[1]))
        if key_padding_mask is not None:
            mask = asarray(key_padding_mask)
            scores = _masked(scores, mask.reshape(n, 1, 1, k.shape[1]))
        weights = F.softmax(scores)
        mixed = matmul(F.dropout(weights, self.dropout, self.training), heads[2])
        result = self.out_proj(mixed.swapaxes(1, 2).reshape(n, length, self.embed_dim))
        result = result.squeeze(axis=0) if single else result if self.batch_first else result.swapaxes(0, 1)
        if not need_weights:
            return result, None
        weights = mean(weights, axis=1) if average_attn_weights else weights
        return result, weights.squeeze(axis=0) if single else weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        biases = [None] * 3 if self.in_proj_bias is None else split(self.in_proj_bias, 3)
        if self.in_proj_weight is None:
            weights: Any = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif query is key is value:
            return split(F.linear(query, self.in_proj_weight, self.in_proj_bias), 3, axis=-1)
        else:
            weights = split(self.in_proj_weight, 3)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases)]

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"


def _xavier(rows: int, columns: int, dtype: Any) -> Parameter:
    parameter = uninitialised(rows, columns, dtype=dtype)
    init.xavier_uniform_(parameter)
    return parameter


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores without those where a bool mask is True, or plus a float mask."""
    return where(mask, -math.inf, scores) if mask.dtype is BOOL else scores + mask


def causal_mask(queries: int, keys: int | None = None) -> Tensor:
    """True where a key comes after the query: bool [queries, keys]."""
    keys = queries if keys is None else keys
    return arange(keys) > arange(queries).reshape(queries, 1)


class TransformerEncoderLayer(Module):
    """Self-attention and two linear maps, each with a residual and a layer norm (before it: norm_first)."""

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: str | Callable[[Tensor], Tensor] = "relu", layer_norm_eps: float = 1e-5,
                 batch_first: bool = False, norm_first: bool = False, bias: bool = True, dtype: Any = None):
        super().__init__()
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        if isinstance(activation, str) and activation not in ("relu", "gelu"):
            raise input_error(f"activation {activation!r}", 'it is "relu", "gelu" or a function')
        self.activation = getattr(F, activation) if isinstance(activation, str) else activation

    def forward(self, src: Tensor, src_mask: Any = None, src_key_padding_mask: Any = None,
                is_causal: bool = False) -> Tensor:
        """src [l, n, d_model], or [n, l, d_model] if batch_first; masks as in MultiheadAttention."""
        def attend(x: Tensor) -> Tensor:
            result, _ = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)
            return self.dropout1(result)

        def feed_forward(x: Tensor) -> Tensor:
            return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))

        if self.norm_first:
            src = src + attend(self.norm1(src))
            return src + feed_forward(self.norm2(src))
        src = self.norm1(src + attend(src))
        return self.norm2(src + feed_forward(src))


class TransformerEncoder(Module):
    """`num_layers` copies of a layer, one after the other, and a last norm."""

    def __init__(self, encoder_layer: TransformerEncoderLayer, num_layers: int, norm: Module | None = None):
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm

    def forward(self, src: Tensor, mask: Any = None, src_key_padding_mask: Any = None,
                is_causal: bool = False) -> Tensor:
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)
