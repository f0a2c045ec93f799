"""How a command ends: one clear line on stderr and the exit code that goes with it."""
from __future__ import annotations

import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from jtc.compiler import log as driver_log
from jtc.dialects.errors import InputError, InternalError, JtcError

DONE, WRONG_INPUT, USAGE, BUG, INTERRUPTED = 0, 1, 2, 70, 130


def guarded(command: Callable[[], int]) -> int:
    """Run a command; what it raises becomes a message and an exit code (with JTC_LOG=debug a bug's traceback, too)."""
    try:
        driver_log.start()
        code = command()
        if sys.stdout is not None:                 # it is None where the caller has closed it
            sys.stdout.flush()
        return code
    except JtcError as error:
        if isinstance(error, InternalError):
            logging.getLogger("jtc").debug("%s", traceback.format_exc())
        print(message(error), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as in `jtc explain ... | head`: nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except MemoryError as error:
        print(f"error: out of memory: {error}" if str(error) else "error: out of memory", file=sys.stderr)
        return WRONG_INPUT
    except OSError as error:
        # The machine's, not ours: a full disk under standard output, a file that vanished.
        print(f"error: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        return WRONG_INPUT
    except Exception as error:
        traceback.print_exc()
        replay = " ".join(map(shlex.quote, ("jtc", *sys.argv[1:])))
        print(f"error: {type(error).__name__}: {error}\n  hint: this is a bug of jtc; replay it with: {replay}",
              file=sys.stderr)
        return BUG


def message(error: JtcError) -> str:
    """`file:line: error: ...` where the place is known, else `error: ...`; the line and a caret; the hint."""
    place = f"{error.place}: " if error.place else ""
    text = f"{place}error: {error.message}" + (f"\n{error.excerpt}" if error.excerpt else "")
    return text + (f"\n  hint: {error.hint}" if error.hint else "")


def replacing_text(path: Path, text: str) -> None:
    """Write a text file, at once or not at all.  Raises InputError."""
    from jtc.compiler.driver import check_writable
    from jtc.compiler.sealed import replacing
    check_writable(path)
    try:
        with replacing(path) as new:
            new.write_text(text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
