"""What the training examples draw: losses as curves, images as a grid."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def plot_losses(losses: Mapping[str, Sequence[float]], path: Path, smooth: int = 20) -> None:
    """The losses of all steps by name: each step pale, the mean of the last `smooth` steps above it."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    for name, values in losses.items():
        line, = axes.plot(values, alpha=0.3, linewidth=0.8)
        width = min(smooth, len(values))
        means = np.convolve(values, np.full(width, 1 / width), "valid")
        axes.plot(range(width - 1, len(values)), means, color=line.get_color(), label=name)
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path)


def plot_images(images: np.ndarray, path: Path) -> None:
    """Images [n, height, width] in 0..1 in a grid that is as wide as it is high."""
    side = max(int(len(images) ** 0.5), 1)
    figure = Figure(figsize=(6, 6), layout="constrained")
    for cell, image in zip(figure.subplots(side, side, squeeze=False).flat, images):
        cell.imshow(image, cmap="gray", vmin=0, vmax=1)
        cell.set_axis_off()
    figure.savefig(path)
