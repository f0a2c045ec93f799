"""Tables in Markdown, which terminals show well enough; results in JSON; matplotlib where it is installed."""
from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jtc.dialects.errors import InputError, UsageError


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with aligned columns; the first is set left, the others right."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w)
                                 for i, (c, w) in enumerate(zip(row, widths))) + " |"
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def check_output(prefix: str) -> Path:
    """The path that files are named after.  Raises InputError where its directory is not there, or not to write in."""
    path = Path(prefix)
    if not path.parent.is_dir():
        raise InputError(f"cannot write {prefix}: there is no directory {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {prefix}: no permission to write in {path.parent}")
    return path


def write_text(path: Path, text: str) -> None:
    """Raises InputError where the file cannot be written."""
    try:
        path.write_text(text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def write_json(path: Path, data: Any) -> None:
    """Raises InputError where the file cannot be written."""
    write_text(path, json.dumps(data, indent=1) + "\n")


def pyplot() -> Any:
    """matplotlib.pyplot, drawing into files.  Raises UsageError where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise UsageError("plots need matplotlib, which is not installed",
                         hint="pip install jtc[bench], or pip install matplotlib; --no-plot does without") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    return plt
