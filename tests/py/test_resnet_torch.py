"""ResNet-50 of the examples against the same network in PyTorch: a state dict that PyTorch saved, the same logits."""
from __future__ import annotations

import numpy as np
import pytest
from example_programs import example

import jtc

resnet50 = example("resnet50")
torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install torch==2.13.0)")


def conv_norm(inputs: int, outputs: int, size: int, stride: int = 1) -> list:
    return [torch.nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), torch.nn.BatchNorm2d(outputs)]


class Bottleneck(torch.nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, project: bool):
        super().__init__()
        self.conv1, self.bn1 = conv_norm(inputs, width, 1)
        self.conv2, self.bn2 = conv_norm(width, width, 3, stride)
        self.conv3, self.bn3 = conv_norm(width, 4 * width, 1)
        self.downsample = torch.nn.Sequential(*conv_norm(inputs, 4 * width, 1, stride)) if project else None

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


def twin() -> torch.nn.Module:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = conv_norm(3, 64, 7, 2)
            channels = 64
            for number, (blocks, width, stride) in enumerate(resnet50.STAGES, start=1):
                stage = []
                for block in range(blocks):
                    stage.append(Bottleneck(channels, width, stride if block == 0 else 1, block == 0))
                    channels = 4 * width
                setattr(self, f"layer{number}", torch.nn.Sequential(*stage))
            self.fc = torch.nn.Linear(channels, 1000)

        def forward(self, x):
            x = torch.nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    return Net()


@pytest.mark.slow
def test_state_dict_of_torch(tmp_path):
    source = resnet50.ResNet50()
    resnet50.randomize(source)                     # weights that keep values near 1 through fifty layers
    other = twin().eval()
    other.load_state_dict({key: torch.tensor(value.numpy()) for key, value in source.state_dict().items()})
    torch.save(other.state_dict(), tmp_path / "resnet50.pth")
    net = resnet50.ResNet50()
    assert net.load_state_dict(jtc.load(tmp_path / "resnet50.pth")) == ([], [])
    net.eval()
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    with torch.no_grad():
        want = other(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(jtc.jit(net)(x).numpy(), want, rtol=1e-3, atol=1e-3 * np.abs(want).max())
