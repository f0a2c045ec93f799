"""What a comparison found, as Markdown and as a plot."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jtc.tools.measure.machine import Machine
from jtc.tools.measure.tables import markdown, pyplot
from jtc.tools.peers.runner import UNSUPPORTED, Options, Record, Results
from jtc.tools.peers.table import PEERS
from jtc.tools.peers.workload import TOLERANCES, Workload


def text(results: Results, workloads: Mapping[str, Workload], machine: Machine, options: Options, command: str) -> str:
    """The tables in Markdown: one for each number of threads, then what the figures mean, and what failed."""
    lines = ["# jtc and its peers", "", f"{machine}.  `{command}`", "",
             f"Milliseconds, median of up to {options.rounds} rounds of {options.seconds:g} s.  In the last columns, "
             "how many times longer the best peer takes than jtc, paired by round: median (middle half of the rounds)."
             "  -: not supported; !: failed, see below."]
    for threads, rows in sorted(results.records.items()):
        peers = [name for name in PEERS if any(name in row for row in rows.values())]
        lines += ["", f"## {threads} thread{'s' * (threads != 1)}"]
        for section in dict.fromkeys(workloads[name].section for name in rows):
            names = [name for name in rows if workloads[name].section == section]
            table = [[name, *(_cell(rows[name].get(peer)) for peer in peers), *_best(results, threads, name)]
                     for name in names]
            lines += ["", markdown([section, *peers, "best peer", "its time / jtc's"], table)]
        summary = geometric_means(results, threads, workloads)
        if summary:
            lines += ["", "Geometric mean over jtc of the best peer: "
                      + ", ".join(f"{section} {mean:.2f}" for section, mean in summary.items()) + "."]
    lines += ["", "Weights are " + "; ".join(
        f"{kind} for {', '.join(n for n in results.versions if PEERS[n].weights == kind)}"
        for kind in ("arguments", "constants") if any(PEERS[n].weights == kind for n in results.versions)) + "."]
    lines += ["Outputs agree with a float64 reference to " + "; ".join(
        f"{limit:.0e} of the largest value ({group}: {why})" for group, (limit, why) in TOLERANCES.items()) + "."]
    lines += ["Versions: " + ", ".join(dict.fromkeys(results.versions.values())) + "."]
    failed = [f"* {name}, {threads} thread{'s' * (threads != 1)}, {peer}: {r.why}"
              for threads, rows in sorted(results.records.items()) for name, row in rows.items()
              for peer, r in row.items() if r.why and r.why != UNSUPPORTED]
    return "\n".join(lines + (["", "Failed:", "", *failed] if failed else [])) + "\n"


def _cell(record: Record | None) -> str:
    if record is None or record.why == UNSUPPORTED:
        return "-"
    return f"{record.seconds * 1e3:.3g}" if record.medians else "!"


def _best(results: Results, threads: int, name: str) -> tuple[str, str]:
    best = results.best(threads, name)
    ratio = results.ratio(threads, name, best) if best else None
    return best or "-", str(ratio) if ratio else "-"


def geometric_means(results: Results, threads: int, workloads: Mapping[str, Workload]) -> dict[str, float]:
    """Section -> the geometric mean of the ratios to the best peer."""
    found: dict[str, list[float]] = {}
    for name in results.records[threads]:
        best = results.best(threads, name)
        ratio = results.ratio(threads, name, best) if best else None
        if ratio:
            found.setdefault(workloads[name].section, []).append(math.log(ratio.median))
    return {section: math.exp(sum(logs) / len(logs)) for section, logs in found.items()}


def plot(results: Results, path: Path) -> None:
    """Speed of every peer, jtc's being 1: points on a row for each workload; one panel for each number of threads."""
    plt = pyplot()
    threads = sorted(results.records)
    names = list(dict.fromkeys(name for count in threads for name in results.records[count]))
    figure, axes = plt.subplots(1, len(threads), figsize=(5 + 4 * len(threads), 1.5 + 0.28 * len(names)), sharey=True,
                                squeeze=False)
    for panel, count in zip(axes[0], threads):
        _panel(panel, results, count, names)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _panel(panel: Any, results: Results, threads: int, names: Sequence[str]) -> None:
    rows = results.records[threads]
    for number, peer in enumerate(name for name in PEERS if name != "jtc"):
        points = [(row, ratio) for row, name in enumerate(names) if name in rows
                  and (ratio := results.ratio(threads, name, peer))]
        if points:
            where, ratios = [row for row, _ in points], [1 / ratio.median for _, ratio in points]
            colour = f"C{number}"
            panel.plot(ratios, where, "osD^vPX*h"[number % 9], color=colour, label=peer, markersize=5)
            panel.hlines(where, [1 / r.high for _, r in points], [1 / r.low for _, r in points], color=colour,
                         linewidth=1, alpha=0.5)
    panel.axvline(1, color="black", linewidth=1, label="jtc")
    panel.set_xscale("log")
    panel.set_yticks(range(len(names)), names, fontsize=7)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.grid(alpha=0.3)
    panel.set_xlabel("speed, jtc = 1 (right of the line: faster than jtc)")
    panel.set_title(f"{threads} thread{'s' * (threads != 1)}")
    panel.legend(fontsize=7)
