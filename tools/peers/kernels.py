"""Workloads of one operation, or a few: products, sums, norms, attention, convolutions."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jtc.tools.peers.workload import Workload, normal

# name -> channels, outputs, size of the image, of the window, stride; the last is depthwise
CONVOLUTIONS = {
    "conv7x7s2_3_64_224": (3, 64, 224, 7, 2),
    "conv3x3_64_64_56": (64, 64, 56, 3, 1),
    "conv1x1_256_64_56": (256, 64, 56, 1, 1),
    "conv3x3_512_512_7": (512, 512, 7, 3, 1),
    "convdw3x3_96_112": (96, 96, 112, 3, 1),
}


def workloads(tiny: bool) -> Iterator[Workload]:
    side = 40 if tiny else 4096
    for m, k, n in [(32, 48, 40), (17, 19, 23)] if tiny else [(512,) * 3, (1024,) * 3, (2048,) * 3, (509, 771, 1003)]:
        yield matmul(f"matmul_{m}" if m == k == n else f"matmul_{m}x{k}x{n}", "matmul", m, k, n)
    yield matmul(f"gemv_{side}", "gemv and sums", side, side, 1)
    for name, axis in (("all", None), ("axis0", 0), ("axis1", 1)):
        yield total(f"sum_{name}_{side}", side, axis)
    yield chain(f"chain10_{4096 if tiny else '16M'}", 4096 if tiny else 1 << 24)
    yield softmax(f"softmax_{side}", side)
    yield layer_norm("layernorm_24x40" if tiny else "layernorm_4096x1024", *((24, 40) if tiny else (4096, 1024)))
    yield batch_norm("batchnorm_4x6x8" if tiny else "batchnorm_train_32x64x56", *((4, 6, 8) if tiny else (32, 64, 56)))
    yield gelu_linear("gelu_linear_8x24x32" if tiny else "gelu_linear_512x1024x4096",
                      *((8, 24, 32) if tiny else (512, 1024, 4096)))
    for shape in ((2, 16, 8), (2, 300, 8)) if tiny else ((8, 512, 64), (8, 4096, 64)):
        yield attention(f"attention_{'x'.join(map(str, shape))}", *shape)
    shape = (2, 300, 8) if tiny else (8, 4096, 64)
    yield attention(f"attention_causal_{'x'.join(map(str, shape))}", *shape, causal=True)
    for batch in (1, 2) if tiny else (1, 8):
        for name, (channels, outputs, size, window, stride) in CONVOLUTIONS.items():
            if tiny:
                channels, outputs, size = min(channels, 4), min(outputs, 4), min(size, 9)
            yield convolution(f"{name}_b{batch}", batch, channels, outputs, size, window, stride, "dw" in name)


def matmul(name: str, section: str, m: int, k: int, n: int) -> Workload:
    return Workload(name, "kernels", section, lambda rng: {"a": normal(rng, m, k), "b": normal(rng, k, n)},
                    lambda F, t: [F.matmul(t["a"], t["b"])])


def total(name: str, side: int, axis: int | None) -> Workload:
    # From 0 to 1: the sum of numbers of both signs has no exact digits to compare.
    return Workload(name, "kernels", "gemv and sums", lambda rng: {"x": rng.random((side, side), dtype=np.float32)},
                    lambda F, t: [F.sum(t["x"], axis)])


def chain(name: str, size: int) -> Workload:
    """Ten operations on every element, one of them transcendental."""
    def forward(F: Any, t: Mapping[str, Any]) -> list[Any]:
        x = t["x"]
        y = F.sigmoid(F.relu(x * 1.5 + 0.5) * x) - 0.25
        return [F.minimum(F.sqrt(F.abs(y) + 0.01), 0.75)]
    return Workload(name, "kernels", "memory bound", lambda rng: {"x": normal(rng, size)}, forward)


def softmax(name: str, side: int) -> Workload:
    return Workload(name, "kernels", "memory bound", lambda rng: {"x": normal(rng, side, side)},
                    lambda F, t: [F.softmax(t["x"])])


def layer_norm(name: str, rows: int, width: int) -> Workload:
    return Workload(name, "kernels", "memory bound",
                    lambda rng: {"x": normal(rng, rows, width), "g": normal(rng, width), "b": normal(rng, width)},
                    lambda F, t: [F.layernorm(t["x"], t["g"], t["b"])])


def batch_norm(name: str, batch: int, channels: int, size: int) -> Workload:
    """With the statistics of the batch, as in training."""
    return Workload(name, "kernels", "memory bound",
                    lambda rng: {"x": normal(rng, batch, channels, size, size), "g": normal(rng, channels),
                                 "b": normal(rng, channels)},
                    lambda F, t: [F.batchnorm_train(t["x"], t["g"], t["b"])])


def gelu_linear(name: str, m: int, k: int, n: int) -> Workload:
    return Workload(name, "kernels", "fused products",
                    lambda rng: {"x": normal(rng, m, k), "w": normal(rng, k, n, scale=k**-0.5), "b": normal(rng, n)},
                    lambda F, t: [F.gelu(F.matmul(t["x"], t["w"]) + t["b"])], constant=("w", "b"))


def attention(name: str, heads: int, length: int, width: int, causal: bool = False) -> Workload:
    return Workload(name, "kernels", "fused products",
                    lambda rng: {name: normal(rng, 1, heads, length, width) for name in "qkv"},
                    lambda F, t: [F.attention(t["q"], t["k"], t["v"], causal=causal)])


def convolution(name: str, batch: int, channels: int, outputs: int, size: int, window: int, stride: int,
                depthwise: bool) -> Workload:
    groups = channels if depthwise else 1
    inner, padding = channels // groups * window**2, window // 2
    return Workload(name, "kernels", "convolutions",
                    lambda rng: {"x": normal(rng, batch, channels, size, size),
                                 "w": normal(rng, outputs, channels // groups, window, window, scale=inner**-0.5)},
                    lambda F, t: [F.conv2d(t["x"], t["w"], stride=stride, padding=padding, groups=groups)],
                    constant=("w",))
