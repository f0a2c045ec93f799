"""Training steps of ResNet-50 on random images: losses, the time of a step, and the memory that steps need.

    python examples/train_resnet50.py [--batch 8] [--size 224] [--steps 3] [--checkpoint] [--torch] [--explain]

A step is one program: loss, gradients, and SGD with momentum.  With --checkpoint a block keeps its input only, and is
computed again for its gradients.  --torch takes the same steps in PyTorch, eagerly, to compare with.  --explain shows
the kernels, and the memory that is planned between them.

Memory is what is resident at most during the steps, after a first one, beyond what the imports take (Linux).
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

LEARNING_RATE, MOMENTUM = 1e-3, 0.9


def resident(kind: str = "VmRSS") -> float:
    """Memory of this process that is resident (VmRSS), or was at most (VmHWM), in MB."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith(kind)) * 1024 / 1e6


def forget_peak() -> None:
    """Count the most resident memory from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def jtc_step(images: np.ndarray, labels: np.ndarray, checkpoint: bool, explain: bool) -> Callable[[], float]:
    """A function that takes one step and gives its loss."""
    from resnet50 import Bottleneck, ResNet50, randomize

    import jtc
    from jtc import nn, optim
    net = ResNet50()
    randomize(net)
    if checkpoint:
        for block in [m for m in net.modules() if isinstance(m, Bottleneck)]:
            block.forward = jtc.checkpoint(block.forward)
    opt = optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    @jtc.jit
    def step(x, t):
        loss = nn.functional.cross_entropy(net(x), t)
        opt.step(loss)
        return loss

    if explain:
        print(jtc.explain(step, images, labels))
    return lambda: step(images, labels).item()


def torch_step(images: np.ndarray, labels: np.ndarray) -> Callable[[], float]:
    """The same in PyTorch."""
    import torch
    from resnet50_torch import ResNet50
    net, x, t = ResNet50(), torch.from_numpy(images), torch.from_numpy(labels)
    opt = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(net(x), t)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.item()

    return step


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--steps", type=int, default=3, help="steps to measure, after the first")
    parser.add_argument("--checkpoint", action="store_true", help="compute blocks again rather than keep them")
    parser.add_argument("--torch", action="store_true", help="in PyTorch instead")
    parser.add_argument("--explain", action="store_true", help="show the program")
    options = parser.parse_args(arguments)
    if options.torch:
        import torch  # noqa: F401
    else:
        import jtc  # noqa: F401
    before, rng = resident(), np.random.default_rng(0)
    images = rng.standard_normal((options.batch, 3, options.size, options.size), np.float32)
    labels = rng.integers(0, 1000, options.batch)
    step = torch_step(images, labels) if options.torch else jtc_step(images, labels, options.checkpoint,
                                                                     options.explain)
    start = time.perf_counter()
    losses, times = [step()], []
    print(f"first step: {time.perf_counter() - start:.2f} s")
    forget_peak()
    for _ in range(options.steps):
        start = time.perf_counter()
        losses.append(step())
        times.append(time.perf_counter() - start)
    print("losses: " + ", ".join(f"{loss:.4f}" for loss in losses))
    if times:
        print(f"a step: {min(times):.2f} to {max(times):.2f} s, {resident('VmHWM') - before:.0f} MB "
              f"beyond the {before:.0f} MB of the imports")


if __name__ == "__main__":
    main()
