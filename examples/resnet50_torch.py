"""ResNet-50 in PyTorch, with the names and layouts of torchvision: what examples/resnet50.py is compared with."""
from __future__ import annotations

import torch
from resnet50 import STAGES


def conv_norm(inputs: int, outputs: int, size: int, stride: int = 1) -> list[torch.nn.Module]:
    return [torch.nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), torch.nn.BatchNorm2d(outputs)]


class Bottleneck(torch.nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, project: bool):
        super().__init__()
        self.conv1, self.bn1 = conv_norm(inputs, width, 1)
        self.conv2, self.bn2 = conv_norm(width, width, 3, stride)
        self.conv3, self.bn3 = conv_norm(width, 4 * width, 1)
        self.downsample = torch.nn.Sequential(*conv_norm(inputs, 4 * width, 1, stride)) if project else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(torch.nn.Module):
    """Images [n, 3, 224, 224] -> class scores [n, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, 64, 7, 2)
        channels = 64
        for number, (blocks, width, stride) in enumerate(STAGES, start=1):
            stage = []
            for block in range(blocks):
                stage.append(Bottleneck(channels, width, stride if block == 0 else 1, block == 0))
                channels = 4 * width
            setattr(self, f"layer{number}", torch.nn.Sequential(*stage))
        self.fc = torch.nn.Linear(channels, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))
