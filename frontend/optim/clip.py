"""Limits for gradients: functions on lists of gradients, which `Optimizer.gradients` gives and `update` takes."""
from __future__ import annotations

import math
from collections.abc import Sequence

from jtc.frontend.elementwise import abs as absolute
from jtc.frontend.elementwise import clip, maximum, minimum
from jtc.frontend.reductions import max as largest
from jtc.frontend.reductions import sum as total
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error


def clip_grad_norm(gradients: Sequence[Tensor], max_norm: float,
                   norm_type: float = 2.0) -> tuple[list[Tensor], Tensor]:
    """Gradients scaled by min(1, max_norm / (norm + 1e-6)), and the norm of all their elements before.

    Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    if not max_norm >= 0 or not norm_type > 0:
        raise input_error(f"clip_grad_norm with max_norm {max_norm} and norm_type {norm_type}")
    if not gradients:
        raise input_error("clip_grad_norm got no gradients", "pass those of parameters that are not frozen")
    parts = [largest(absolute(g)) if norm_type == math.inf else
             total(g * g) if norm_type == 2 else total(absolute(g) ** norm_type) for g in gradients]
    norm = parts[0]
    for part in parts[1:]:
        norm = maximum(norm, part) if norm_type == math.inf else norm + part
    if norm_type != math.inf:
        norm = norm ** (1 / norm_type)
    scale = minimum(max_norm / (norm + 1e-6), 1.0)
    return [g * scale.astype(g.dtype) for g in gradients], norm


def clipped(gradients: Sequence[Tensor], max_norm: float | None, max_value: float | None) -> list[Tensor]:
    """Gradients limited by value, then by norm, where limits are given."""
    found = list(gradients) if max_value is None else clip_grad_value(gradients, max_value)
    return found if max_norm is None or not found else clip_grad_norm(found, max_norm)[0]


def clip_grad_value(gradients: Sequence[Tensor], clip_value: float) -> list[Tensor]:
    """Gradients with every element limited to -clip_value..clip_value."""
    if not clip_value >= 0:
        raise input_error(f"clip_grad_value with clip_value {clip_value}")
    return [clip(g, -clip_value, clip_value) for g in gradients]
