"""jtc under the shared peer benchmark: the primitives its workloads use, and how one workload is built.

The benchmark's runner imports this module and calls `build(w)`; see `build` for what a workload offers.
"""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

os.environ.setdefault("JTC_THREADS", os.environ.get("BENCH_THREADS", "1"))      # read when jtc starts its threads

import jtc  # noqa: E402
from jtc import Tensor  # noqa: E402
from jtc.nn import functional as fn  # noqa: E402

VERSION = f"jtc {jtc.__version__}"
EPS = 1e-5


class F:
    """Primitives on jtc tensors, each a thin name for a public function."""

    matmul, linear, reshape, transpose = jtc.matmul, fn.linear, jtc.reshape, jtc.permute_dims
    relu, sigmoid, sqrt, abs, tanh, minimum = fn.relu, fn.sigmoid, jtc.sqrt, jtc.abs, jtc.tanh, jtc.minimum
    leaky_relu, gelu = fn.leaky_relu, fn.gelu

    @staticmethod
    def index0(x: Tensor, i: int) -> Tensor:
        return x[i]

    @staticmethod
    def gelu_tanh(x: Tensor) -> Tensor:
        return fn.gelu(x, approximate="tanh")

    @staticmethod
    def softmax(x: Tensor) -> Tensor:
        return fn.softmax(x, axis=-1)

    @staticmethod
    def layernorm(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
        return fn.layer_norm(x, x.shape[-1:], g, b, EPS)

    @staticmethod
    def sum(x: Tensor, axis: Any) -> Tensor:
        return jtc.sum(x, axis=axis)

    @staticmethod
    def mean_square(x: Tensor) -> Tensor:
        return jtc.mean(x * x)

    @staticmethod
    def conv2d(x: Tensor, w: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
        return fn.conv2d(x, w, stride=stride, padding=padding, groups=groups)

    @staticmethod
    def conv_transpose2d(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
        return fn.conv_transpose2d(x, w, stride=stride, padding=padding)

    @staticmethod
    def batchnorm_train(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
        return fn.batch_norm(x, None, None, g, b, training=True, eps=EPS)

    @staticmethod
    def batchnorm_infer(x: Tensor, g: Tensor, b: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return fn.batch_norm(x, mean, var, g, b, eps=EPS)

    @staticmethod
    def maxpool(x: Tensor, k: int, s: int, p: int) -> Tensor:
        return fn.max_pool2d(x, k, s, p)

    @staticmethod
    def global_avgpool(x: Tensor) -> Tensor:
        return jtc.mean(x, axis=(2, 3))

    @staticmethod
    def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        return fn.scaled_dot_product_attention(q, k, v, is_causal=causal)

    @staticmethod
    def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
        return fn.cross_entropy(logits, labels)


def build(w: Any) -> Callable[[], Any]:
    """`run()` for a workload: one forward pass, or one training step.

    w offers name, inputs() (name -> array), const(arrays) (names that may be compiled in), and fwd(F, tensors) or, for
    training, phases: (loss(F, tensors) -> (loss, tensors for later phases), names of the parameters), lr and momentum.
    With a `precision` of "bf16", products are computed in bfloat16.
    """
    function, inputs = compiled(w)

    def run() -> Any:
        result = function(*inputs)
        jtc.sync(result)
        return result

    return run


def compiled(w: Any, unroll: int | None = None) -> tuple[Any, list[Tensor]]:
    """A jitted function, and the tensors to call it with.

    unroll: so many training steps as one program; the losses are then stacked
    """
    return (_training(w, unroll), []) if w.training else _forward(w)


def _precision(w: Any) -> jtc.autocast:
    """The context in which a workload's products have its precision."""
    return jtc.autocast("bf16", enabled=getattr(w, "precision", "f32") == "bf16")


def _training(w: Any, unroll: int | None) -> Any:
    trained = {n for _, names in w.phases for n in names}
    tensors = {n: jtc.nn.Parameter(a) if n in trained else jtc.array(a) for n, a in w.inputs().items()}
    optimizers = [jtc.optim.SGD([tensors[n] for n in names], lr=w.lr, momentum=w.momentum) for _, names in w.phases]

    def step() -> list[Tensor]:
        known, losses = dict(tensors), []
        for (objective, _), optimizer in zip(w.phases, optimizers):
            with _precision(w):
                loss, later = objective(F, known)
            optimizer.step(loss)
            known |= {n: jtc.stop_gradient(x) for n, x in later.items()}
            losses.append(loss)
        return losses

    return jtc.jit(step, name=w.name, unroll=unroll)


def _forward(w: Any) -> tuple[Any, list[Tensor]]:
    arrays = w.inputs()
    constant = w.const(arrays)
    names = [n for n in arrays if n not in constant]

    def forward(*inputs: Tensor) -> Any:
        weights = {n: jtc.asarray(arrays[n]) for n in arrays if n in constant}
        with _precision(w):
            return w.fwd(F, weights | dict(zip(names, inputs, strict=True)))

    return jtc.jit(forward, name=w.name), [jtc.array(arrays[n]) for n in names]


def to_numpy(result: Any) -> list[np.ndarray]:
    return [np.asarray(r) for r in result]
