"""JAX: one jitted function, weights are arguments; a training step takes and gives its parameters, in their memory."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jtc.tools.peers.workload import Workload

VERSION = f"jax {jax.__version__}"
EPS = 1e-5
Array = Any
_LAYOUT = ("NCHW", "OIHW", "NCHW")


class F:
    """The primitives."""

    matmul, reshape, transpose, sum, minimum = jnp.matmul, jnp.reshape, jnp.transpose, jnp.sum, jnp.minimum
    relu, sigmoid, leaky_relu, softmax = jax.nn.relu, jax.nn.sigmoid, jax.nn.leaky_relu, jax.nn.softmax
    sqrt, abs, tanh = jnp.sqrt, jnp.abs, jnp.tanh

    @staticmethod
    def linear(x: Array, w: Array, b: Array) -> Array:
        return x @ w.T + b

    @staticmethod
    def index0(x: Array, i: int) -> Array:
        return x[i]

    @staticmethod
    def gelu(x: Array) -> Array:
        return jax.nn.gelu(x, approximate=False)

    @staticmethod
    def gelu_tanh(x: Array) -> Array:
        return jax.nn.gelu(x, approximate=True)

    @staticmethod
    def mean_square(x: Array) -> Array:
        return jnp.mean(jnp.square(x))

    @staticmethod
    def layernorm(x: Array, g: Array, b: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        return centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + EPS) * g + b

    @staticmethod
    def batchnorm_infer(x: Array, g: Array, b: Array, mean: Array, var: Array) -> Array:
        scale = g * lax.rsqrt(var + EPS)
        return x * scale[:, None, None] + (b - mean * scale)[:, None, None]

    @staticmethod
    def batchnorm_train(x: Array, g: Array, b: Array) -> Array:
        return F.batchnorm_infer(x, g, b, x.mean((0, 2, 3)), x.var((0, 2, 3)))

    @staticmethod
    def conv2d(x: Array, w: Array, stride: int = 1, padding: int = 0, groups: int = 1) -> Array:
        return lax.conv_general_dilated(x, w, (stride, stride), ((padding, padding),) * 2, dimension_numbers=_LAYOUT,
                                        feature_group_count=groups)

    @staticmethod
    def conv_transpose2d(x: Array, w: Array, stride: int, padding: int) -> Array:
        edge = w.shape[-1] - 1 - padding
        return lax.conv_general_dilated(x, jnp.flip(w, (2, 3)).swapaxes(0, 1), (1, 1), ((edge, edge),) * 2,
                                        lhs_dilation=(stride, stride), dimension_numbers=_LAYOUT)

    @staticmethod
    def maxpool(x: Array, window: int, stride: int, padding: int) -> Array:
        edges = ((0, 0), (0, 0), (padding, padding), (padding, padding))
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, window, window), (1, 1, stride, stride), edges)

    @staticmethod
    def global_avgpool(x: Array) -> Array:
        return x.mean((2, 3))

    @staticmethod
    def attention(q: Array, k: Array, v: Array, causal: bool) -> Array:
        scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
        if causal:
            scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
        return jax.nn.softmax(scores) @ v

    @staticmethod
    def cross_entropy(logits: Array, labels: Array) -> Array:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()


def build(w: Workload) -> Callable[[], Any] | None:
    if w.precision != "f32":           # it has no mixed precision of its own
        return None
    given = {name: jnp.asarray(a.astype(np.int32) if a.dtype.kind == "i" else a) for name, a in w.inputs().items()}
    if w.training:
        return _trainer(w, given)
    assert w.fwd is not None
    forward = jax.jit(lambda t: w.fwd(F, t))
    return lambda: jax.block_until_ready(forward(given))


def _trainer(w: Workload, given: Mapping[str, Array]) -> Callable[[], Any]:
    trained = [name for _, names in w.phases for name in names]
    data = {name: x for name, x in given.items() if name not in trained}

    def step(parameters: dict[str, Array], speed: dict[str, Array]) -> tuple[Any, Any, list[Array]]:
        state, losses = data | parameters, []
        for objective, names in w.phases:
            def loss(own: dict[str, Array], rest: dict[str, Array], objective: Any = objective) -> Any:
                return objective(F, rest | own)
            (value, later), slopes = jax.value_and_grad(loss, has_aux=True)({n: state[n] for n in names}, state)
            for name in names:
                speed = speed | {name: w.momentum * speed[name] + slopes[name]}
                state = state | {name: state[name] - w.lr * speed[name]}
            state = state | later
            losses.append(value)
        return {name: state[name] for name in trained}, speed, losses

    compiled = jax.jit(step, donate_argnums=(0, 1))
    held = [{name: given[name] for name in trained}, {name: jnp.zeros_like(given[name]) for name in trained}]

    def run() -> Any:
        *held[:], losses = compiled(*held)
        return jax.block_until_ready((losses, held))[0]
    return run


def to_numpy(result: Any) -> list[np.ndarray]:
    return [np.asarray(value) for value in result]
