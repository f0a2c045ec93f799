"""The small workloads of docs/performance.md as saved graphs, for `jtc bench`: inputs are float32, weights compiled in.

    python examples/kernels.py FOLDER [NAME ...]      # writes FOLDER/NAME.jtc; all of them where no name is given
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

import jtc
from jtc import Tensor

Workload = tuple[Callable[..., Tensor], tuple[np.ndarray, ...]]
rng = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def matmul(m: int, k: int, n: int) -> Workload:
    return jtc.matmul, (normal(m, k), normal(k, n))


def softmax() -> Workload:
    return lambda x: jtc.softmax(x, axis=-1), (normal(4096, 4096),)


def layer_norm() -> Workload:
    return lambda x, g, b: jtc.nn.functional.layer_norm(x, 1024, g, b), (normal(4096, 1024), normal(1024), normal(1024))


def gelu_linear() -> Workload:
    w, b = normal(1024, 4096) / 32, normal(4096)
    return lambda x: jtc.gelu(x @ w + b), (normal(512, 1024),)


def chain() -> Workload:
    """Ten operations on every element, one of them transcendental."""
    def function(x: Tensor) -> Tensor:
        y = jtc.relu(x * 1.5 + 0.5)
        y = jtc.sigmoid(y * x) - 0.25
        return jtc.minimum(jtc.sqrt(jtc.abs(y) + 0.01), 0.75)
    return function, (normal(1 << 24),)


def convolution(batch: int, channels: int, outputs: int, size: int, window: int) -> Workload:
    """Cross-correlation with stride 1 that keeps the size, written in four meta-ops."""
    w, pad = normal(outputs, channels, window, window) / (channels * window * window) ** 0.5, window // 2
    space = (batch, outputs, size, size, channels, window, window)

    def function(x: Tensor) -> Tensor:
        xx = jtc.reindex(x, space, lambda n, o, i, j, c, p, q: (n, c, i + p - pad, j + q - pad), fill=0)
        ww = jtc.reindex(w, space, lambda n, o, i, j, c, p, q: (o, c, p, q))
        return jtc.reindex_reduce(xx * ww, "add", space[:4], lambda n, o, i, j, c, p, q: (n, o, i, j))
    return function, (normal(batch, channels, size, size),)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "matmul_512": lambda: matmul(512, 512, 512),
    "matmul_1024": lambda: matmul(1024, 1024, 1024),
    "matmul_2048": lambda: matmul(2048, 2048, 2048),
    "matmul_509x771x1003": lambda: matmul(509, 771, 1003),
    "softmax_4096": softmax,
    "layernorm_4096x1024": layer_norm,
    "gelu_linear_512x1024x4096": gelu_linear,
    "chain10_16M": chain,
    "conv3x3_64_64_56_b1": lambda: convolution(1, 64, 64, 56, 3),
    "conv1x1_256_64_56_b1": lambda: convolution(1, 256, 64, 56, 1),
    "conv3x3_64_64_56_b8": lambda: convolution(8, 64, 64, 56, 3),
    "conv1x1_256_64_56_b8": lambda: convolution(8, 256, 64, 56, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(WORKLOADS)}")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(WORKLOADS)
    if unknown:
        parser.error(f"no workload {', '.join(sorted(unknown))}: one of {', '.join(WORKLOADS)}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or WORKLOADS:
        function, inputs = WORKLOADS[name]()
        jtc.export(function, inputs, arguments.folder / f"{name}.jtc", name=name)
        print(arguments.folder / f"{name}.jtc")


if __name__ == "__main__":
    main()
