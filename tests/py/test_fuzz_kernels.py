"""Random kernels under random legal schedules agree with NumPy and stay inside their buffers.

The cases run in a child process, so that an access out of bounds (a crash) is a failure with a seed, not the end of the
test run.  `jtc fuzz --case N` repeats case N; `jtc fuzz --seconds 36000 --seed N` looks for new ones.
"""
from __future__ import annotations

import random

import numpy as np
import pytest

from jtc.compiler.cpu import machine
from jtc.dialects.dtypes import F32
from jtc.tools import fuzz
from jtc.tools.kernel_runs import Fenced
from jtc.tools.random_kernels import random_case

CASES = 200


@pytest.mark.slow
def test_random_kernels_under_random_schedules(capfd):
    code = fuzz.main(["--seed", "0", "--count", str(CASES)])
    report = capfd.readouterr().out
    assert code == 0 and f"{CASES} cases, 0 failures" in report, report


def test_cases_depend_on_the_seed_only():
    for seed in range(20):
        first, again = (random_case(random.Random(seed)) for _ in range(2))
        assert first.program.kernels == again.program.kernels and first.indices == again.indices


def test_the_schedules_are_daring():
    """Most cases use what can go wrong: vectors with tails, packs, blocks of reductions, cuts, threads."""
    found = {"vector": 0, "packs": 0, "blocked": 0, "split": 0, "threads": 0}
    for seed in range(200):
        rng = random.Random(seed)
        for kernel in fuzz.schedule_case(rng, random_case(rng), machine.named("x86-64-v4")).kernels:
            for stage in kernel.stages:
                schedule = stage.schedule
                found["vector"] += bool(schedule.vector)
                found["packs"] += bool(schedule.packs)
                found["blocked"] += any(a in stage.reductions for a, _ in schedule.loops)
                found["split"] += bool(schedule.split)
                found["threads"] += schedule.threads > 0
    assert all(count >= 15 for count in found.values()), found


def test_fences_notice_writes_beside_an_array():
    memory = Fenced(10, F32, at_end=True, alignment=64)
    assert memory.intact() and memory.address % 64 == 0
    memory.all[memory.start - 1] = 0
    assert not memory.intact()


def test_differences_are_named():
    assert fuzz._compare("y", np.array([1, 2.5], np.float32), np.array([1, 2.0]), F32) == \
        "y[1] is np.float32(2.5), should be np.float64(2.0); 1 of 2 differ"
    assert fuzz._compare("y", np.array([np.nan], np.float32), np.array([np.nan]), F32) is None
    assert "nan" in fuzz._compare("y", np.array([np.nan], np.float32), np.array([1.0]), F32)
