"""ResNet-50 (v1.5, the stride in the 3x3 convolution) as a saved graph, with random weights or those of a file.

    python examples/resnet50.py resnet50.jtc [--batch 1] [--weights resnet50.pth]

The module has torchvision's names and layouts, so a state dict saved by PyTorch fits.  With random weights, which are
the same every time, the class scores mean nothing; the work is that of the real network.
"""
from __future__ import annotations

import argparse

import numpy as np

import jtc
from jtc import nn

STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))        # blocks, width, stride of the first block


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut: [n, inputs, h, w] -> [n, 4 * width, h / stride, w / stride]."""

    def __init__(self, inputs: int, width: int, stride: int, project: bool):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride=stride, bias=False),
                                        nn.BatchNorm2d(4 * width)) if project else None

    def forward(self, x: jtc.Tensor) -> jtc.Tensor:
        y = jtc.relu(self.bn1(self.conv1(x)))
        y = jtc.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return jtc.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """Images [n, 3, 224, 224] -> class scores [n, classes]."""

    def __init__(self, classes: int = 1000):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64)
        channels = 64
        for number, (blocks, width, stride) in enumerate(STAGES, start=1):
            stage = nn.Sequential()
            for block in range(blocks):
                stage.append(Bottleneck(channels, width, stride if block == 0 else 1, project=block == 0))
                channels = 4 * width
            self.register_module(f"layer{number}", stage)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: jtc.Tensor) -> jtc.Tensor:
        x = nn.functional.max_pool2d(jtc.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in range(1, len(STAGES) + 1):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(jtc.mean(x, axis=(2, 3)))


def randomize(net: nn.Module, seed: int = 0) -> None:
    """Weights that keep values near 1 through all layers, and running statistics as if the network had seen data."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, tensor in net.state_dict().items():
        layer, kind = name.split(".")[-2:]
        if kind == "num_batches_tracked":
            continue
        draw = rng.standard_normal(tensor.shape, np.float32)
        if tensor.ndim == 4:                                       # He et al., 2015
            draw *= np.float32((2 / np.prod(tensor.shape[1:])) ** 0.5)
        elif tensor.ndim == 2:
            draw *= np.float32(tensor.shape[1] ** -0.5)
        elif kind == "weight":
            draw = np.full_like(draw, 0.2 if layer == "bn3" else 1.0)
        else:
            draw = np.abs(draw) + np.float32(0.5) if kind == "running_var" else draw * np.float32(0.1)
        values[name] = draw
    net.load_state_dict(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", help="where to write the saved graph (.jtc)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--weights", help="a state dict, .pth, .safetensors or .npz; random weights without it")
    args = parser.parse_args()
    net = ResNet50()
    if args.weights:
        net.load_state_dict(jtc.load(args.weights))
    else:
        randomize(net)
    net.eval()
    example = np.zeros((args.batch, 3, 224, 224), np.float32)
    jtc.export(net, (example,), args.output, name="resnet50")


if __name__ == "__main__":
    main()
