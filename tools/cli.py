"""The command `jtc`: finds the subcommand, parses its arguments, and turns what goes wrong into an exit code.

Nothing here imports MLIR, LLVM or NumPy before a command needs it: `--help` is quick.
"""
from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jtc.dialects.errors import UsageError, near
from jtc.tools.errors import USAGE, guarded


@dataclass(frozen=True)
class Command:
    """A subcommand.  Its module has `configure(parser)` and `run(arguments) -> exit code`."""

    name: str
    summary: str
    module: str


COMMANDS: dict[str, Command] = {
    row.name: row
    for row in (
        Command("compile", "compile a saved graph to a module, or to any phase before it", "jtc.tools.compile"),
        Command("run", "run a compiled module or a saved graph on files", "jtc.tools.run"),
        Command("opt", "run passes on IR and print it", "jtc.tools.opt"),
        Command("explain", "show the kernels of a model, their schedules, and why they are not fused further",
                "jtc.tools.explain"),
        Command("bench", "time a model, against the machine, with optimisations off, or against other systems",
                "jtc.tools.bench"),
        Command("tune", "measure schedules of a model's kernels and keep the fastest", "jtc.tools.tune"),
        Command("cache", "look at, check or clear the disk cache", "jtc.tools.cache"),
        Command("doctor", "check this installation", "jtc.tools.doctor"),
        Command("fuzz", "compile random kernels and compare them with NumPy", "jtc.tools.fuzz"),
    )
}
# These read their own arguments.
OWN_PARSER = ("opt", "fuzz")


class Parser(argparse.ArgumentParser):
    """argparse with jtc's errors: lower case, a hint, exit code 2."""

    def error(self, message: str) -> Any:
        raise UsageError(message, hint=f"see `{self.prog} --help`")


def help_text() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {c.name:{width}}  {c.summary}" for c in COMMANDS.values())
    return (f"usage: jtc COMMAND [arguments]\n\njtc compiles tensor programs to native code.\n\n{rows}\n\n"
            "`jtc COMMAND --help` says more, with examples.  `jtc --version` prints the version.\n"
            "exit codes: 0 done, 1 the input is wrong, 2 usage, 70 a bug of jtc, 130 interrupted\n")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    if len(arguments) == 2 and arguments[0] == "help":
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text(), end="")
        return 0 if arguments else USAGE
    if arguments[0] == "--version":
        import jtc
        print(f"jtc {jtc.__version__}")
        return 0
    atexit.register(_end_soon)
    return guarded(lambda: _dispatch(arguments[0], arguments[1:]))


def _end_soon() -> None:
    """Leave out the last collection of a process that only compiled: it looks at every node and kernel, for 0.2 s.

    Where the native runtime is in use, it is wanted: the runtime reports objects that are left.
    """
    if "jtc.runtime._native" not in sys.modules:
        gc.freeze()


def _dispatch(name: str, arguments: list[str]) -> int:
    command = COMMANDS.get(name)
    if command is None:
        raise UsageError(f"unknown command {name!r}", hint=near(name, COMMANDS))
    module = importlib.import_module(command.module)
    if name in OWN_PARSER:
        return module.main(arguments)
    parser = Parser(prog=f"jtc {name}", description=_capital(command.summary) + ".",
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    module.configure(parser)
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as end:                   # --help
        return int(end.code or 0)
    run: Callable[[Any], int] = module.run
    return run(parsed)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    sys.exit(main())
