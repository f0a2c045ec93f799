"""ResNet-50 (v1.5, the stride in the 3x3 convolution) with fixed random weights, as a saved graph.

    python examples/resnet50.py resnet50.jtc [--batch 1]

The weights are random, so the class scores mean nothing; the work is that of the real network.
"""
from __future__ import annotations

import argparse

import numpy as np

import jtc
from jtc.nn import functional as F

STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))        # blocks, width, stride of the first block


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Float32 weights by name: convolutions `*.weight` [o, i, kh, kw], batch norms `*.{weight,bias,mean,var}` [o],
    `fc.*`."""
    rng = np.random.default_rng(seed)
    out: dict[str, np.ndarray] = {}

    def conv_norm(name: str, o: int, i: int, k: int, gain: float = 1.0) -> None:
        deviation = np.float32((2 / (i * k * k)) ** 0.5)
        out[f"{name}.conv.weight"] = rng.standard_normal((o, i, k, k), np.float32) * deviation
        out[f"{name}.norm.weight"] = np.full(o, gain, np.float32)
        out[f"{name}.norm.bias"] = rng.standard_normal(o, np.float32) * np.float32(0.1)
        out[f"{name}.norm.mean"] = rng.standard_normal(o, np.float32) * np.float32(0.1)
        out[f"{name}.norm.var"] = rng.random(o, np.float32) + np.float32(0.5)

    conv_norm("stem", 64, 3, 7)
    channels = 64
    for s, (blocks, width, _) in enumerate(STAGES):
        for b in range(blocks):
            name = f"layer{s}.{b}"
            conv_norm(f"{name}.a", width, channels, 1)
            conv_norm(f"{name}.b", width, width, 3)
            conv_norm(f"{name}.c", 4 * width, width, 1, gain=0.2)
            if b == 0:
                conv_norm(f"{name}.down", 4 * width, channels, 1)
            channels = 4 * width
    out["fc.weight"] = rng.standard_normal((1000, channels), np.float32) * np.float32(channels ** -0.5)
    out["fc.bias"] = np.zeros(1000, np.float32)
    return out


def resnet50(w: dict):
    """The network as a function of images [n, 3, 224, 224] -> class scores [n, 1000]."""

    def conv_norm(x, name: str, stride: int = 1, padding: int = 0):
        x = F.conv2d(x, w[f"{name}.conv.weight"], stride=stride, padding=padding)
        return F.batch_norm(x, *(w[f"{name}.norm.{part}"] for part in ("mean", "var", "weight", "bias")))

    def block(x, name: str, stride: int, down: bool):
        y = jtc.relu(conv_norm(x, f"{name}.a"))
        y = jtc.relu(conv_norm(y, f"{name}.b", stride, 1))
        y = conv_norm(y, f"{name}.c")
        return jtc.relu(y + (conv_norm(x, f"{name}.down", stride) if down else x))

    def network(x):
        x = F.max_pool2d(jtc.relu(conv_norm(x, "stem", 2, 3)), 3, 2, 1)
        for s, (blocks, _, stride) in enumerate(STAGES):
            for b in range(blocks):
                x = block(x, f"layer{s}.{b}", stride if b == 0 else 1, b == 0)
        return F.linear(jtc.mean(x, axis=(2, 3)), w["fc.weight"], w["fc.bias"])

    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="where to write the saved graph (.jtc)")
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    example = np.zeros((args.batch, 3, 224, 224), np.float32)
    network = resnet50({name: jtc.array(value) for name, value in weights().items()})
    jtc.export(network, (example,), args.output, name="resnet50")


if __name__ == "__main__":
    main()
