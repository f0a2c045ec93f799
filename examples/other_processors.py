"""Products for a processor with fewer instructions than this one, against NumPy's, in turns: see docs/performance.md.

    OPENBLAS_CORETYPE=Haswell OPENBLAS_NUM_THREADS=1 JTC_THREADS=1 JTC_ASYNC=0 python other_processors.py x86-64-v3
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

import jtc

SIZES = ((512, 512, 512), (1024, 1024, 1024), (509, 771, 1003))


def seconds(call: Callable[[], object]) -> float:
    """Of processor time, which other programs on the machine disturb less."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main(target: str = "native", rounds: int = 12) -> None:
    product = jtc.jit(jtc.matmul, target=target)
    for m, k, n in SIZES:
        rng = np.random.default_rng(0)
        a, b = (rng.standard_normal(shape, dtype=np.float32) for shape in ((m, k), (k, n)))
        x, y = jtc.array(a), jtc.array(b)
        np.testing.assert_allclose(np.asarray(product(x, y)), a @ b, rtol=1e-3, atol=1e-3)
        times = np.array([(seconds(lambda: jtc.sync(product(x, y))), seconds(lambda: a @ b))    # noqa: B023
                          for _ in range(rounds)]) * 1e3
        ours, theirs = (f"{np.median(t):.2f} ({t.min():.2f})" for t in times.T)
        print(f"{m} x {k} x {n}: jtc {ours} ms, NumPy {theirs} ms, {np.median(times[:, 1] / times[:, 0]):.2f} times, "
              f"{2e-6 * m * n * k / np.median(times[:, 0]):.0f} GFLOP/s")


if __name__ == "__main__":
    main(*sys.argv[1:2])
