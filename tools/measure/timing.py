"""The time of a model, and of each of its kernels."""
from __future__ import annotations

import statistics

from jtc.runtime import knobs
from jtc.tools.measure.roofline import profile
from jtc.tools.measure.rounds import calls
from jtc.tools.measure.subject import Running


def show_time(running: Running, seconds: float) -> None:
    """Print the median time of a call, and the rates that follow from what the kernels compute and move."""
    times = calls(running.run, seconds)
    plan = running.module.plan
    flops, moved = (sum(getattr(launch, what) for launch in plan.launches) for what in ("flops", "bytes"))
    median, threads, launches = statistics.median(times), knobs.get("threads"), len(plan.launches)
    best, worst = min(times), max(times)
    print(f"{running.module.name}: median {median * 1e3:.3f} ms, best {best * 1e3:.3f}, worst {worst * 1e3:.3f}, "
          f"{len(times)} runs, {threads} thread{'s' * (threads != 1)}")
    print(f"{launches} launch{'es' * (launches != 1)}, {flops / median / 1e9:.1f} G operations/s, "
          f"{moved / median / 1e9:.1f} GB/s")


def show_kernels(running: Running, seconds: float) -> None:
    """Print the median time of every launch, the slowest first; launches run one after another, not side by side."""
    times = profile(running.module, running.inputs, seconds)
    rows = sorted(zip(times, running.module.plan.launches, strict=True), key=lambda row: -row[0])
    total = sum(times)
    print("\n      ms  share  G operations/s   GB/s  kernel")
    for t, launch in rows:
        rate = 1e-9 / max(t, 1e-9)
        print(f"{t * 1e3:8.3f} {t / total:6.1%} {launch.flops * rate:15.1f} {launch.bytes * rate:6.1f}  "
              f"{launch.kernel}")
