"""PyTorch, eager: weights are arguments, training uses autograd and torch.optim.SGD."""
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as fn

from jtc.tools.peers.workload import Workload

torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
VERSION = f"torch {torch.__version__}"
Tensor = Any                # torch.Tensor, where type checkers need not have PyTorch


class F:
    """The primitives."""

    matmul, reshape, transpose, linear = torch.matmul, torch.reshape, torch.permute, fn.linear
    relu, sigmoid, sqrt, abs, tanh = torch.relu, torch.sigmoid, torch.sqrt, torch.abs, torch.tanh
    leaky_relu, gelu, cross_entropy, maxpool = fn.leaky_relu, fn.gelu, fn.cross_entropy, fn.max_pool2d

    @staticmethod
    def index0(x: Tensor, i: int) -> Tensor:
        return x[i]

    @staticmethod
    def minimum(x: Tensor, bound: float) -> Tensor:
        return torch.clamp_max(x, bound)

    @staticmethod
    def gelu_tanh(x: Tensor) -> Tensor:
        return fn.gelu(x, approximate="tanh")

    @staticmethod
    def softmax(x: Tensor) -> Tensor:
        return fn.softmax(x, dim=-1)

    @staticmethod
    def layernorm(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
        return fn.layer_norm(x, g.shape, g, b)

    @staticmethod
    def sum(x: Tensor, axis: int | None) -> Tensor:
        return x.sum() if axis is None else x.sum(axis)

    @staticmethod
    def mean_square(x: Tensor) -> Tensor:
        return x.square().mean()

    @staticmethod
    def batchnorm_train(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
        return fn.batch_norm(x, None, None, g, b, training=True)

    @staticmethod
    def batchnorm_infer(x: Tensor, g: Tensor, b: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return fn.batch_norm(x, mean, var, g, b)

    @staticmethod
    def conv2d(x: Tensor, w: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
        return fn.conv2d(x, w, stride=stride, padding=padding, groups=groups)

    @staticmethod
    def conv_transpose2d(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
        return fn.conv_transpose2d(x, w, stride=stride, padding=padding)

    @staticmethod
    def global_avgpool(x: Tensor) -> Tensor:
        return x.mean((2, 3))

    @staticmethod
    def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        return fn.scaled_dot_product_attention(q, k, v, is_causal=causal)


def tensors(w: Workload) -> dict[str, Tensor]:
    return {name: torch.from_numpy(a) for name, a in w.inputs().items()}


def precision(w: Workload) -> Any:
    """The context in which a workload's products have its precision."""
    return torch.autocast("cpu", torch.bfloat16, enabled=w.precision == "bf16")


def build(w: Workload) -> Callable[[], Any]:
    return trainer(w, lambda f: f) if w.training else inference(w, lambda f: f)


def inference(w: Workload, compiler: Callable[[Any], Any]) -> Callable[[], Any]:
    """A forward pass through what `compiler` makes of the function."""
    assert w.fwd is not None
    forward, given = compiler(lambda t: w.fwd(F, t)), tensors(w)

    def run() -> Any:
        with torch.inference_mode(), precision(w):
            return forward(given)
    return run


def trainer(w: Workload, compiler: Callable[[Any], Any]) -> Callable[[], list[Tensor]]:
    """A training step; `compiler` makes something of each phase's objective."""
    known: dict[str, Any] = tensors(w)
    optimizers: list[tuple[Any, Sequence[str], Any]] = []
    for objective, names in w.phases:
        for name in names:
            known[name] = torch.nn.Parameter(known[name])
        made = compiler(lambda t, objective=objective: objective(F, t))
        optimizers.append((made, names, torch.optim.SGD([known[n] for n in names], lr=w.lr, momentum=w.momentum)))

    def run() -> list[Tensor]:
        state, losses = dict(known), []
        for objective, names, optimizer in optimizers:
            for _, others, _ in optimizers:                 # no gradients for what this phase does not train
                for name in others:
                    known[name].requires_grad_(others is names)
            with precision(w):
                loss, later = objective(state)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            state |= {name: value.detach() for name, value in later.items()}
            losses.append(loss.detach())
        return losses
    return run


def to_numpy(result: Any) -> list[np.ndarray]:
    return [value.float().numpy() if value.dtype is torch.bfloat16 else value.numpy() for value in result]
