"""The time of training steps of an LSTM or a GRU: forward, gradients and SGD, on random sequences.

    python examples/train_recurrent.py {LSTM,GRU} [--steps 64] [--batch 32] [--inputs 256] [--units 256] [--threads 1]
                                       [--torch PYTHON] [--rounds 9] [--explain]

With --torch, a Python that has PyTorch, the same steps are taken there eagerly, in a process of its own, in turns: in
every round each takes four steps, which one first alternates.  The first three losses of both are compared with those
in float64.  Times are milliseconds of a step: the least, the median, and the middle half of the rounds' ratios.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

LEARNING_RATE, CHECKED, SLICE = 0.1, 3, 4
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
GATES = {"LSTM": 4, "GRU": 3}


def problem(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Inputs [steps, batch, inputs], targets [steps, batch, units], weights by name; the same in every process."""
    random = np.random.default_rng(0)
    rows, units = GATES[options.kind] * options.units, options.units
    x = random.standard_normal((options.steps, options.batch, options.inputs), np.float32)
    target = 0.1 * random.standard_normal((options.steps, options.batch, units), np.float32)
    shapes = ((rows, options.inputs), (rows, units), (rows,), (rows,))
    weights = [(random.uniform(-1, 1, shape) / np.sqrt(units)).astype(np.float32) for shape in shapes]
    return x, target, dict(zip(NAMES, weights))


def jtc_step(options: argparse.Namespace) -> Callable[[], float]:
    """A function that takes one step and gives its loss."""
    import jtc
    from jtc import nn, optim
    x, target, weights = problem(options)
    net = getattr(nn, options.kind)(options.inputs, options.units)
    net.load_state_dict({name: jtc.array(w) for name, w in weights.items()})
    opt = optim.SGD(net.parameters(), lr=LEARNING_RATE)

    @jtc.jit
    def step(x, target):
        outputs, _ = net(x)
        loss = nn.functional.mse_loss(outputs, target)
        opt.step(loss)
        return loss

    if options.explain:
        print(jtc.explain(step, x, target))
    given = jtc.array(x), jtc.array(target)
    return lambda: step(*given).item()


def torch_step(options: argparse.Namespace, dtype: str) -> Callable[[], float]:
    """The same in PyTorch."""
    import torch
    torch.set_num_threads(options.threads)
    x, target, weights = problem(options)
    kind = getattr(torch, dtype)
    net = getattr(torch.nn, options.kind)(options.inputs, options.units).to(kind)
    net.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
    opt = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)
    given, wanted = torch.tensor(x).to(kind), torch.tensor(target).to(kind)

    def step() -> float:
        opt.zero_grad()
        loss = torch.nn.functional.mse_loss(net(given)[0], wanted)
        loss.backward()
        opt.step()
        return loss.item()
    return step


def slice_of(step: Callable[[], float]) -> list[float]:
    """Seconds of each of a few steps, after one to warm up."""
    step()
    times = []
    for _ in range(SLICE):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def serve(options: argparse.Namespace) -> None:
    """Be the process with PyTorch: losses in float64 and in float32, then a slice of times for each line of input."""
    exact, step = torch_step(options, "float64"), torch_step(options, "float32")
    print(json.dumps([[exact() for _ in range(CHECKED)], [step() for _ in range(CHECKED)]]), flush=True)
    for _ in sys.stdin:
        print(json.dumps(slice_of(step)), flush=True)


def report(name: str, slices: Sequence[Sequence[float]]) -> None:
    times = 1e3 * np.array(slices)
    print(f"{name}: least {times.min():.2f} ms, median {np.median(times):.2f}")


def compare(options: argparse.Namespace, argv: Sequence[str], losses: list[float], step: Callable[[], float]) -> None:
    """Take turns with PyTorch, and print the times of both."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    environment.pop("PYTHONPATH", None)
    with subprocess.Popen([options.torch, __file__, *argv, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True, env=environment) as peer:
        assert peer.stdin is not None and peer.stdout is not None

        def answer() -> Any:
            assert peer.stdout is not None
            return json.loads(peer.stdout.readline())

        def theirs() -> list[float]:
            assert peer.stdin is not None
            print(file=peer.stdin, flush=True)
            return answer()

        exact, float32 = answer()
        np.testing.assert_allclose(losses, exact, rtol=1e-5)
        np.testing.assert_allclose(float32, exact, rtol=1e-5)
        rounds = []
        for number in range(options.rounds):
            first, second = (theirs, lambda: slice_of(step))[::1 if number % 2 else -1]
            pair = [first(), second()]
            rounds.append(pair[::-1 if number % 2 else 1])
        peer.stdin.close()
    report("jtc", [ours for ours, _ in rounds])
    report("PyTorch", [others for _, others in rounds])
    ratios = np.quantile([np.median(others) / np.median(ours) for ours, others in rounds], (0.25, 0.5, 0.75))
    print("PyTorch's time divided by jtc's: {1:.2f} ({0:.2f}-{2:.2f})".format(*ratios))


def main(argv: Sequence[str] | None = None) -> list[float]:
    """The first losses of jtc."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description="Time training steps of an LSTM or a GRU.")
    parser.add_argument("kind", choices=GATES)
    for name, size in (("steps", 64), ("batch", 32), ("inputs", 256), ("units", 256), ("threads", 1), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has PyTorch")
    parser.add_argument("--explain", action="store_true", help="print the kernels")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.serve:
        serve(options)
        return []
    os.environ["JTC_THREADS"] = str(options.threads)            # read when jtc starts its threads
    step = jtc_step(options)
    losses = [step() for _ in range(CHECKED)]
    print("losses", *losses)
    if options.torch:
        compare(options, argv, losses, step)
    else:
        report("jtc", [slice_of(step) for _ in range(options.rounds)])
    return losses


if __name__ == "__main__":
    main()
