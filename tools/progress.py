"""Progress on stderr while something long runs: only on a terminal, and gone when it is done."""
from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jtc.compiler.driver import Timings


@contextmanager
def progress(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yields `report(step, done, total)` for `compile_graph`."""
    if not sys.stderr.isatty():
        yield lambda step, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda step, done, total: bar.update(task, description=f"{title}: {step}", completed=done,
                                                   total=total or None)


def timings_text(timings: Timings) -> str:
    """A table of the steps, and of the kernels that took longest."""
    if timings.cached:
        return f"from the cache in {timings.total:.3f} s"
    lines = [f"  {name:28} {seconds * 1e3:9.1f} ms" for name, seconds in timings.steps]
    lines.append(f"  {'total':28} {timings.total * 1e3:9.1f} ms   ({timings.distinct} distinct kernels, "
                 f"{timings.compiled} compiled, {timings.distinct - timings.compiled} from the cache)")
    slow = sorted(timings.kernels, key=lambda row: -row[1])[:5]
    if slow:
        lines.append("slowest kernel steps:")
        lines += [f"  {name:40} {seconds * 1e3:9.1f} ms" for name, seconds in slow]
    return "\n".join(lines)
