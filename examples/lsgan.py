"""A generative adversarial network with least-squares losses on handwritten digits.

    python examples/lsgan.py [--epochs 60] [--output DIRECTORY] [--lazy]

One step trains both networks: the critic on real digits and on the generator's, then the generator on what the improved
critic says.  It is one graph, compiled once.  losses.png has the curves of both losses, samples.png a grid of digits
that the generator draws in the end.  Source: Mao et al., "Least squares generative adversarial networks", 2017.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from plots import plot_images, plot_losses
from train_digits import digits

import jtc
from jtc import nn, optim

LATENT, BATCH = 16, 64


class Generator(nn.Module):
    """Normal numbers [n, LATENT] -> images [n, 1, 8, 8] in -1..1."""

    def __init__(self):
        super().__init__()
        self.start = nn.Linear(LATENT, 64 * 2 * 2)
        self.norm1, self.norm2 = nn.BatchNorm2d(64), nn.BatchNorm2d(32)
        self.up1 = nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1)

    def forward(self, z):
        x = jtc.relu(self.norm1(self.start(z).reshape(-1, 64, 2, 2)))
        x = jtc.relu(self.norm2(self.up1(x)))
        return jtc.tanh(self.up2(x))


class Critic(nn.Module):
    """Images -> one number each: 1 for real ones, 0 for others."""

    def __init__(self):
        super().__init__()
        self.down1 = nn.Conv2d(1, 32, 4, stride=2, padding=1)
        self.down2 = nn.Conv2d(32, 64, 4, stride=2, padding=1)
        self.last = nn.Linear(64 * 2 * 2, 1)

    def forward(self, x):
        x = nn.functional.leaky_relu(self.down1(x), 0.2)
        x = nn.functional.leaky_relu(self.down2(x), 0.2)
        return self.last(x.reshape(x.shape[0], -1))


def train(epochs: int = 60, lazy: bool = False, count: int = 1792) -> tuple[list[tuple[float, float]], Generator]:
    """(critic's, generator's) losses of all steps on the first `count` digits, and the trained generator."""
    images = digits()[0][:count] * 2 - 1
    jtc.random.seed(0)
    generator, critic = Generator(), Critic()
    of_generator = optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    of_critic = optim.Adam(critic.parameters(), lr=5e-4, betas=(0.5, 0.999))

    def step(real):
        fake = generator(jtc.random.normal((real.shape[0], LATENT)))
        loss_c = jtc.mean((critic(real) - 1) ** 2) + jtc.mean(critic(jtc.stop_gradient(fake)) ** 2)
        of_critic.step(loss_c)
        loss_g = jtc.mean((critic(fake) - 1) ** 2)
        of_generator.step(loss_g)
        return loss_c, loss_g

    run, order, losses = step if lazy else jtc.jit(step), np.random.default_rng(0), []
    for _ in range(epochs):
        mixed = images[order.permutation(len(images))]
        losses += [run(mixed[i:i + BATCH]) for i in range(0, len(mixed) - BATCH + 1, BATCH)]
    return [(float(c), float(g)) for c, g in losses], generator


def samples(generator: Generator, count: int = 64) -> np.ndarray:
    """`count` images [count, 8, 8] in 0..1."""
    generator.eval()
    return (np.asarray(generator(jtc.random.normal((count, LATENT))))[:, 0] + 1) / 2


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--output", type=Path, default=Path(), help="directory for losses.png and samples.png")
    parser.add_argument("--lazy", action="store_true", help="without jit")
    options = parser.parse_args(arguments)
    losses, generator = train(options.epochs, options.lazy)
    curves = dict(zip(("critic", "generator"), zip(*losses)))
    plot_losses(curves, options.output / "losses.png")
    plot_images(samples(generator), options.output / "samples.png")
    for name, values in curves.items():
        print(f"{name}: loss {values[0]:.3f} at first, {np.mean(values[-20:]):.3f} at last")
    print(f"{options.output}: losses.png, samples.png")


if __name__ == "__main__":
    main()
