"""Train a small convolutional net on handwritten digits, and judge it on digits it has not seen.

    python examples/train_digits.py [--lazy] [--epochs 20] [--autocast bf16] [--plot losses.png]

Forward pass, gradients and update are one graph.  `jit` compiles it for the step; with --lazy the same operations are
recorded as they are called, and compiled when the step ends: the first time, and then no more.  With --autocast the
products are of 16-bit floats; parameters stay float32, and for float16 the loss is scaled, so that no gradient
vanishes.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from plots import plot_losses
from sklearn.datasets import load_digits

import jtc
from jtc import nn, optim

TRAIN = 1500               # the digits after these judge


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn = nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.conv2, self.fc = nn.Conv2d(32, 64, 3, padding=1), nn.Linear(64 * 4 * 4, 10)

    def forward(self, x):
        x = jtc.relu(self.bn(self.conv1(x)))
        x = nn.functional.max_pool2d(jtc.relu(self.conv2(x)), 2)
        return self.fc(x.reshape(x.shape[0], -1))


def digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1797 images [n, 1, 8, 8] in 0..1, and their labels."""
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype("float32").reshape(-1, 1, 8, 8), y.astype("int32")


def train(epochs: int = 20, lazy: bool = False, batch: int = 50, count: int = TRAIN,
          autocast: str | None = None) -> tuple[list[float], Net]:
    """The losses of all steps on the first `count` digits, and the trained net."""
    X, y = digits()
    jtc.random.seed(0)
    net = Net()
    opt = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scaler = optim.GradScaler(enabled=autocast == "f16")

    def step(x, t):
        with jtc.autocast(autocast or "bf16", enabled=autocast is not None):
            loss = nn.functional.cross_entropy(net(x), t)
        scaler.step(opt, loss)
        return loss

    run = step if lazy else jtc.jit(step)
    losses = [run(X[i:i + batch], y[i:i + batch]) for _ in range(epochs) for i in range(0, count, batch)]
    return [loss.item() for loss in losses], net


def accuracy(net: Net) -> float:
    """The share of the held-out digits that the net names rightly."""
    X, y = digits()
    net.eval()
    return float((np.asarray(net(X[TRAIN:])).argmax(1) == y[TRAIN:]).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lazy", action="store_true", help="without jit")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--autocast", choices=("bf16", "f16"))
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the losses of all steps")
    options = parser.parse_args(arguments)
    losses, net = train(options.epochs, options.lazy, autocast=options.autocast)
    print(f"loss: first {losses[0]:.4f}, last {losses[-1]:.6f}")
    print(f"held-out accuracy: {accuracy(net):.3f}")
    if options.plot:
        plot_losses({"training": losses}, options.plot)


if __name__ == "__main__":
    main()
