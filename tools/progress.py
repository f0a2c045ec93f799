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


def size_text(size: int) -> str:
    """A number of bytes as people read it: "812 B", "3.4 KB", "102.2 MB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def count_text(count: int, thing: str) -> str:
    """A count with its noun: "1 kernel", "3 kernels", "2 entries"."""
    if count == 1:
        return f"1 {thing}"
    return f"{count} {thing[:-1]}ies" if thing.endswith("y") else f"{count} {thing}s"


def timings_text(timings: Timings) -> str:
    """A table of the steps, and of the kernels that took longest."""
    if timings.cached:
        return f"from the cache in {timings.total:.3f} s"
    lines = [f"  {name:28} {seconds * 1e3:9.1f} ms" for name, seconds in timings.steps]
    lines.append(f"  {'total':28} {timings.total * 1e3:9.1f} ms   ({count_text(timings.distinct, 'distinct kernel')}, "
                 f"{timings.compiled} compiled, {timings.distinct - timings.compiled} from the cache)")
    slow = sorted(timings.kernels, key=lambda row: -row[1])[:5]
    if slow:
        lines.append("slowest kernel steps:")
        lines += [f"  {name:40} {seconds * 1e3:9.1f} ms" for name, seconds in slow]
    return "\n".join(lines)
