"""What can go wrong, as classes.  A message is one lower-case line with the value shown; then place and hint."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jtc.dialects.graph import Location


class JtcError(Exception):
    """Base of all errors that jtc raises on purpose.

    message   one line, lower case, with the offending value
    location  the line of the user's program that led here
    hint      what to do instead
    """

    exit_code = 1
    excerpt = ""                   # the line of the file that is wrong, and a caret under the place in it

    def __init__(self, message: str, location: Location | None = None, hint: str | None = None):
        self.message, self.location, self.hint = message, location, hint
        super().__init__(message)

    @property
    def place(self) -> str:
        """file:line, or file:line:column where the file is a compiler's input; "" where no place is known."""
        return str(self.location) if self.location else ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross processes whole, whatever their constructors take."""
        return _restored, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        text = self.message
        if self.place:
            text += f"\n  at {self.place}"
        if self.hint:
            text += f"\n  hint: {self.hint}"
        return text


def _restored(kind: type[JtcError], args: tuple[Any, ...], state: dict[str, Any]) -> JtcError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def near(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: those that look like it, else all."""
    import difflib
    known = list(known)
    close = difflib.get_close_matches(name, known, 3, 0.75 if len(name) > 4 else 0.6)
    return f"did you mean {' or '.join(close)}?" if close else f"one of {', '.join(known)}"


class InputError(JtcError, ValueError):
    """A program, file or argument that jtc cannot take (exit code 1): wrong shape, dtype, index map, model file..."""


class TraceError(JtcError, TypeError):
    """Python code that cannot be traced, such as control flow on a traced value (exit code 1)."""


class UsageError(JtcError):
    """A command line that makes no sense (exit code 2)."""

    exit_code = 2


class InternalError(JtcError):
    """A bug of jtc (exit code 70).  `reproducer` is the file that replays it and `command` the command that does."""

    exit_code = 70

    def __init__(self, message: str, reproducer: str | None = None, command: str | None = None):
        super().__init__(message, hint=f"this is a bug of jtc; replay it with: {command}" if command else None)
        self.reproducer, self.command = reproducer, command
