"""A file that replays a failure: the IR as it was before the failing step, and in its head what to do with it.

    // jtc reproducer
    // error: pass graph-fuse failed: KeyError: 'd3'
    // target: x86-64-v4
    // features: +avx512f
    // settings: {"optimize": 1, "strict": false}
    // pipeline: graph-fuse,kernel-schedule
    "jtc.graph"() ...

`jtc opt --run-reproducer FILE` does what the head says.  Weights are not in the file: they are names there.
"""
from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from jtc.dialects.errors import InputError, InternalError
from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Program
from jtc.runtime import knobs

if TYPE_CHECKING:
    from jtc.compiler.phases import Settings
    from jtc.passes.base import Pass

log = logging.getLogger("jtc")
HEAD = "jtc reproducer"


@dataclass(frozen=True)
class Reproducer:
    """What a reproducer file says.  `pipeline` are passes to run, `emit` a phase to come to; one of them is empty."""

    text: str
    target: str
    features: str
    settings: dict[str, int | bool]
    pipeline: str
    emit: str


def report(module: Graph | Program | str, passes: Sequence[Pass], settings: Settings, error: BaseException, what: str,
           emit: str = "") -> InternalError:
    """The InternalError to raise, after its reproducer was written.

    module: the IR before the failing step (str: text of a phase below kernels); emit: the phase that could not be made.
    """
    message = f"{what}: {type(error).__name__}: {_first_line(error)}"
    try:
        body = module if isinstance(module, str) else _text(module)
    except Exception as second:                  # the IR may be too broken to print; the first error still matters
        log.warning("no reproducer: the IR cannot be printed: %s", _first_line(second))
        return InternalError(message)
    comment = ";" if emit in ("asm", "obj") and "define " in body else "//"
    head = {
        HEAD: None, "error": message, "target": settings.target.name, "features": settings.target.features,
        "settings": json.dumps({"optimize": settings.optimize, "strict": settings.strict}),
        "pipeline": ",".join(map(pass_text, passes)), "emit": emit,
    }
    lines = [f"{comment} {key}" + ("" if value is None else f": {value}") for key, value in head.items()
             if value is None or value]
    path = _write("\n".join(lines) + "\n" + body, ".ll" if comment == ";" else ".mlir")
    return InternalError(message, str(path), f"jtc opt --run-reproducer {path}")


def read(path: str | Path) -> Reproducer:
    """Raises InputError where the file is not a reproducer."""
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    found: dict[str, str] = {}
    lines = text.splitlines()
    if not lines or lines[0].lstrip("/; ") != HEAD:
        raise InputError(f"{path}: this is not a reproducer file", hint=f"its first line would be `// {HEAD}`")
    for line in lines[1:]:
        if not line.startswith(("//", ";")):
            break
        key, _, value = line.lstrip("/; ").partition(": ")
        found[key] = value
    return Reproducer(text, found.get("target", "native"), found.get("features", ""),
                      json.loads(found.get("settings", "{}")), found.get("pipeline", ""), found.get("emit", ""))


def pass_text(step: Pass) -> str:
    """A pass as `parse_pass` reads it: its name and the options that are not at their default."""
    options = []
    for f in fields(step):
        value = getattr(step, f.name)
        if f.default is MISSING or value == f.default:
            continue                # what has no text: the target, which is in the head, and tuned schedules
        written = ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower() \
            if isinstance(value, bool) else str(value)
        options.append(f"{f.name}={written}")
    return step.name + (f"{{{' '.join(options)}}}" if options else "")


def _text(module: Graph | Program) -> str:
    from jtc.dialects.text import graph_text, program_text
    return graph_text(module) if isinstance(module, Graph) else program_text(module)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def directory() -> Path:
    """Where reproducers go."""
    return Path(knobs.get("reproducer_dir")).resolve()


def _write(text: str, suffix: str) -> Path:
    """Write into the reproducer directory, or a temporary one where that cannot be written."""
    name = f"jtc-reproducer-{hashlib.sha256(text.encode()).hexdigest()[:10]}{suffix}"
    try:
        directory().mkdir(parents=True, exist_ok=True)
        path = directory() / name
        path.write_text(text)
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="jtc-")) / name
        path.write_text(text)
    return path.resolve()
