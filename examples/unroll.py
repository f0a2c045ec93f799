"""Steps of training as one program: the time of a step of a small net for several numbers of steps in a program.

    python examples/unroll.py 1 2 8 --rounds 30

The net is 784-512-512-10 with batches of 128; the numbers take turns, so that what disturbs one disturbs all.  With
JTC_CARRY=1 the update of a step and the product of the next one that reads the weight are one kernel.
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import jtc
from jtc import nn, optim

STEPS = 16              # in one turn


def training(count: int) -> Callable[[], None]:
    """A function that trains `count` steps by one call of a program and waits for it."""
    jtc.random.seed(0)
    net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    opt = optim.SGD(net.parameters(), lr=1e-3)

    def step(x: jtc.Tensor, t: jtc.Tensor) -> jtc.Tensor:
        loss = nn.functional.cross_entropy(net(x), t)
        opt.step(loss)
        return loss

    several = jtc.jit(step, unroll=count)
    rng = np.random.default_rng(0)
    x = jtc.array(rng.standard_normal((count, 128, 784), dtype=np.float32))
    t = jtc.array(rng.integers(0, 10, (count, 128)))
    return lambda: jtc.sync(several(x, t))


def measure(counts: list[int], rounds: int) -> dict[int, float]:
    """Number of steps in a program -> the least time of a step, in milliseconds."""
    runs = {count: training(count) for count in counts}
    best = dict.fromkeys(counts, float("inf"))
    for number in range(rounds + 2):                    # two to compile and warm up
        for count, run in runs.items():
            run()                                       # brings its parameters into the caches
            calls = max(1, STEPS // count)
            start = time.perf_counter()
            for _ in range(calls):
                run()
            if number >= 2:
                best[count] = min(best[count], (time.perf_counter() - start) / (calls * count) * 1e3)
    return best


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("counts", type=int, nargs="+", help="numbers of steps in a program")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    for count, best in measure(options.counts, options.rounds).items():
        print(f"unroll={count}: {best:.3f} ms a step")
