"""The roofline of a model: what each kernel reaches of what the machine can do (Williams, Waterman, Patterson, 2009).

A kernel can be no faster than its operations take at the peak of the multiply-add units, and its bytes at the bandwidth
of the level that they come from.  That level is the nearest one that holds all operands of the kernel, as if those that
ran before had left them there: the roof is one that nothing can exceed, so the share of it is never flattered.
Operations and bytes are those that `jtc explain` shows; every operand counts once.
"""
from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jtc.runtime.engine import Buffer
from jtc.runtime.module import Module
from jtc.runtime.plan import LaunchPlan
from jtc.tools.measure.ceilings import Ceiling, Ceilings
from jtc.tools.measure.machine import Machine
from jtc.tools.measure.tables import markdown, pyplot


@dataclass(frozen=True)
class Point:
    """One launch.

    seconds   median of several runs;  roof: the least that this machine needs
    bound     "FMA", or the level whose bandwidth is the roof;  level: that holds its operands
    """

    kernel: str
    flops: int
    bytes: int
    seconds: float
    roof: float
    level: str
    bound: str

    @property
    def intensity(self) -> float:
        return self.flops / max(1, self.bytes)

    @property
    def share(self) -> float:
        return self.roof / self.seconds

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "intensity": self.intensity, "gflops": self.flops / self.seconds / 1e9,
                "gbytes": self.bytes / self.seconds / 1e9, "share": self.share}


def profile(module: Module, inputs: Sequence[Buffer], seconds: float) -> list[float]:
    """Median seconds of every launch, which run one after another here."""
    runs: list[list[float]] = []
    module.profile(*inputs)
    end = time.perf_counter() + seconds
    while len(runs) < 3 or time.perf_counter() < end:
        runs.append(module.profile(*inputs))
    return [statistics.median(times) for times in zip(*runs)]


def points(module: Module, seconds: Sequence[float], ceilings: Ceilings, machine: Machine) -> list[Point]:
    """A point for every launch, from its time."""
    return [_point(launch, module, time, ceilings, machine)
            for launch, time in zip(module.plan.launches, seconds, strict=True)]


def _point(launch: LaunchPlan, module: Module, seconds: float, ceilings: Ceilings, machine: Machine) -> Point:
    types = {module.plan.buffers[n].dtype for n in launch.operands}
    peak = ceilings.fma["f64" if "f64" in types else "f32"]
    level = near(launch.bytes, ceilings, machine)
    compute, memory = launch.flops / peak, launch.bytes / level.best
    return Point(launch.kernel, launch.flops, launch.bytes, max(seconds, 1e-9), max(compute, memory), level.level,
                 "FMA" if compute >= memory else level.level)


def near(size: int, ceilings: Ceilings, machine: Machine) -> Ceiling:
    """The nearest level that holds so many bytes; threads have caches of their own, and share the last one."""
    capacity = {"L1": machine.l1 * ceilings.threads, "L2": machine.l2 * ceilings.threads, "L3": machine.l3}
    *cached, last = ceilings.bandwidth.values()
    return next((c for c in cached if size <= capacity[c.level]), last)


def text(name: str, found: Sequence[Point], ceilings: Sequence[Ceilings], machine: Machine) -> str:
    """The ceilings and the kernels in Markdown, the slowest kernel first."""
    levels = list(dict.fromkeys(level for c in ceilings for level in c.bandwidth))
    head = ["threads", "f32 G operations/s", "f64", *(f"{level} GB/s (copy)" for level in levels)]
    rows: list[list[object]] = [[c.threads, f"{c.fma['f32'] / 1e9:.1f}", f"{c.fma['f64'] / 1e9:.1f}", *(
        f"{c.bandwidth[level].read / 1e9:.1f} ({c.bandwidth[level].copy / 1e9:.1f})" if level in c.bandwidth else "-"
        for level in levels)] for c in ceilings]
    total, least = sum(p.seconds for p in found), sum(p.roof for p in found)
    kernels = [[p.kernel, f"{p.seconds * 1e3:.3f}", f"{p.seconds / total:.1%}", f"{p.intensity:.2f}",
                f"{p.flops / p.seconds / 1e9:.1f}", f"{p.bytes / p.seconds / 1e9:.1f}", p.bound, f"{p.share:.0%}"]
               for p in sorted(found, key=lambda p: -p.seconds)]
    return "\n".join([
        f"{machine}", "", markdown(head, rows), "",
        f"{name}: {len(found)} launches, {total * 1e3:.3f} ms one after another, {least / total:.0%} of that at the "
        "roofs", "",
        markdown(["kernel", "ms", "of all", "operations/byte", "G operations/s", "GB/s", "roof", "of its roof"],
                 kernels)]) + "\n"


def report(name: str, found: Sequence[Point], ceilings: Sequence[Ceilings], machine: Machine, threads: int
           ) -> dict[str, Any]:
    """All of it, for JSON."""
    return {"model": name, "machine": machine.to_json(), "threads": threads,
            "ceilings": [c.to_json() for c in ceilings], "kernels": [p.to_json() for p in found]}


def plot(name: str, found: Sequence[Point], ceilings: Ceilings, path: Path) -> None:
    """Operations per second over operations per byte, with the ceilings; the area of a point is its share of the time.

    Kernels without operations (copies) have no place there.
    """
    plt = pyplot()
    shown = [p for p in found if p.flops]
    reach = [p.intensity for p in shown] or [1.0]
    low, high = min(*reach, 0.05) / 2, max(*reach, 100.0) * 2
    peak = ceilings.fma["f32"] / 1e9
    figure, axes = plt.subplots(figsize=(9, 6))
    colours = dict(zip((*ceilings.bandwidth, "FMA"), plt.rcParams["axes.prop_cycle"].by_key()["color"]))
    axes.hlines(peak, low, high, color="black", label=f"FMA {peak:.0f} G operations/s")
    for level, c in ceilings.bandwidth.items():
        rate = c.best / 1e9
        ends = [low, min(high, peak / rate)]
        axes.plot(ends, [x * rate for x in ends], color=colours[level], linewidth=1, label=f"{level} {rate:.0f} GB/s")
    total = sum(p.seconds for p in found)
    for level in dict.fromkeys(p.level for p in shown):
        own = [p for p in shown if p.level == level]
        axes.scatter([p.intensity for p in own], [p.flops / p.seconds / 1e9 for p in own], color=colours[level],
                     s=[12 + 900 * p.seconds / total for p in own], alpha=0.6, edgecolors="black", linewidths=0.4,
                     label=f"kernels with operands in {level}")
    for p in sorted(shown, key=lambda p: -p.seconds)[:6]:
        axes.annotate(f"{p.kernel} {p.share:.0%}", (p.intensity, p.flops / p.seconds / 1e9), fontsize=7,
                      xytext=(4, 4), textcoords="offset points")
    axes.set(xscale="log", yscale="log", xlim=(low, high), xlabel="operations per byte", ylabel="G operations/s",
             title=f"{name}, {ceilings.threads} thread{'s' * (ceilings.threads != 1)}")
    axes.grid(alpha=0.3, which="both")
    for handle in axes.legend(fontsize=7, loc="lower right").legend_handles:
        if hasattr(handle, "set_sizes"):                    # points in the legend are all of one size
            handle.set_sizes([30])
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
