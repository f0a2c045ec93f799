"""Documents that run: what is in them, running it, and what it prints compared with what they show.

The steps of a document run from top to bottom, in one namespace and one empty directory:

    ```python     a block of Python; a ```text block right after it shows what it prints
    ```console    lines `$ command` for the shell, each followed by what it prints

What is shown is compared as doctest does with ELLIPSIS and NORMALIZE_WHITESPACE: `...` stands for any text, a line may
be broken anywhere.  How SSA values are numbered (%12, %c3) does not count.  Blocks of other languages are only shown.

    python tests/py/documents.py FILE ...     # write what the steps print into the files, where no `...` is in the way
"""
from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [Path("README.md"), *sorted(p.relative_to(ROOT) for p in (ROOT / "docs").glob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
COMMAND = re.compile(r"^\$ (?P<code>(?:.*\\\n)*.*\n)(?P<shown>(?:(?!\$ ).*\n)*)", re.MULTILINE)
NUMBERED = re.compile(r"%c?\d+\b")
TOOLS = {"jtc": "jtc.tools.cli", "jtc-opt": "jtc.tools.opt"}


@dataclass(frozen=True)
class Step:
    """Python code or a shell command.  line: of its first line, from 1; shown: None where no output is shown."""

    kind: str
    code: str
    line: int
    shown: str | None


def tokens(path: Path) -> list[Any]:
    """What markdown-it finds in a document."""
    return MarkdownIt("commonmark").enable("table").parse(path.read_text())


def tables(path: Path) -> list[list[list[str]]]:
    """The tables of a document, as rows of cells, the row of titles left out."""
    found: list[list[list[str]]] = []
    inside = False
    for token in tokens(path):
        inside = token.type == "tbody_open" or inside and token.type != "tbody_close"
        if token.type == "tbody_open":
            found.append([])
        elif inside and token.type == "tr_open":
            found[-1].append([])
        elif inside and token.type == "inline":
            found[-1][-1].append(token.content)
    return found


def steps(path: Path) -> Iterator[Step]:
    blocks = tokens(path)
    for block, after in zip(blocks, [*blocks[1:], None]):
        if block.type != "fence":
            continue
        line = block.map[0] + 2
        if block.info == "python":
            shown = after.content if after is not None and after.info == "text" else None
            yield Step("python", block.content, line, shown)
        elif block.info == "console":
            for found in COMMAND.finditer(block.content):
                before = block.content.count("\n", 0, found.start())
                yield Step("console", found["code"].strip(), line + before, found["shown"])


class Session:
    """A namespace and a directory that the steps of one document run in; the process has to be in that directory."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        tools = folder / ".bin"
        tools.mkdir()
        for tool, module in TOOLS.items():
            (tools / tool).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            (tools / tool).chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}

    def run(self, step: Step) -> str:
        """What the step prints, errors of commands among it.  Exceptions of Python code pass through."""
        if step.kind == "console":
            done = subprocess.run(step.code, shell=True, env=self.environment, text=True, timeout=120,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            return done.stdout
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            # The document's own name and lines, for tracebacks and for the locations that tracing records.
            exec(compile("\n" * (step.line - 1) + step.code, self.name, "exec"), self.namespace)
        return printed.getvalue()


def difference(step: Step, printed: str) -> str:
    """"" where the step printed what is shown, else a text that shows both."""
    checker = doctest.OutputChecker()
    if step.shown is None or checker.check_output(NUMBERED.sub("%_", step.shown), NUMBERED.sub("%_", printed), FLAGS):
        return ""
    example = doctest.Example(step.code, step.shown)
    return f"{step.code}\n{checker.output_difference(example, printed, FLAGS)}"


def update(path: Path) -> None:
    """Run a document and write what its steps print into it."""
    text = path.read_text()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        session = Session(Path(folder), path.name)
        for step in steps(path):
            printed = session.run(step)
            wrong = difference(step, printed)
            if wrong and "..." not in (step.shown or ""):
                head, shown = step.code.rstrip("\n") + "\n", step.shown or ""
                fence = "```\n\n```text\n" if step.kind == "python" else ""
                text = text.replace(head + fence + shown, head + fence + printed.rstrip("\n") + "\n", 1)
            elif wrong:
                print(f"{path}:{step.line}: differs\n{wrong}")
    path.write_text(text)


if __name__ == "__main__":
    for file in sys.argv[1:]:
        update(Path(file).resolve())
