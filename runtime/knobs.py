"""Every setting of jtc, declared once: environment variable, keyword, type, meaning, whether code depends on it.

    JTC_THREADS=2 python program.py            # environment
    with knobs.use(threads=2): ...             # context manager; also keywords of `jit` and `compile`
    knobs.get("threads")                       # what holds here; `knobs.threads` is the same

Environment variables are read when a value is asked for.  A value that does not parse raises UsageError with one line
that names the variable, the value and what is allowed.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jtc.dialects.errors import UsageError, near


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting.

    parse      text or Python value -> value; raises ValueError for anything else
    default    the value, or a function that finds it
    allowed    what a value may be, in words (for errors and `jtc doctor`)
    cache_key  whether compiled code depends on it
    """

    name: str
    parse: Callable[[Any], Any]
    default: Any
    allowed: str
    doc: str
    cache_key: bool = False

    @property
    def env(self) -> str:
        return "JTC_" + self.name.rstrip("_").upper()

    def value(self) -> Any:
        """The value of the environment variable, else the default."""
        text = os.environ.get(self.env)
        if text is None or text == "":
            return self.default() if callable(self.default) else self.default
        return self.check(text, self.env)

    def check(self, value: Any, source: str) -> Any:
        try:
            return self.parse(value)
        except (ValueError, TypeError, KeyError):
            hint = f"{self.name} is {self.allowed}: {self.doc}"
            raise UsageError(f"{source}={value!r} is not valid", hint=hint) from None


def _integer(low: int, high: int = 1 << 62) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, (bool, float)):
            raise TypeError
        number = int(value)
        if not low <= number <= high:
            raise ValueError
        return number
    return parse


def _seconds(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    seconds = float(value)
    if not 0 < seconds < float("inf"):
        raise ValueError
    return seconds


def _boolean(value: Any) -> bool:
    if isinstance(value, (bool, int)) and value in (0, 1):
        return bool(value)
    return {"1": True, "on": True, "true": True, "yes": True, "0": False, "off": False, "false": False,
            "no": False}[value.strip().lower()]


def _choice(*names: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        return {name: name for name in names}[value.strip().lower()]
    return parse


def _async(value: Any) -> str | bool:
    return "auto" if isinstance(value, str) and value.strip().lower() == "auto" else _boolean(value)


def _slices(value: Any) -> str:
    text = value.strip().lower() if isinstance(value, str) else value
    return text if text in ("auto", "off") else str(_integer(2)(text))


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def _bytes(value: Any) -> int:
    if isinstance(value, str):
        text = value.strip().lower().removesuffix("ib").removesuffix("b")
        digits = text.rstrip("kmgt")
        return _integer(0)(int(float(digits) * _UNITS[text[len(digits):]]))
    return _integer(0)(value)


def _path(value: Any) -> Path:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise TypeError
    return Path(value).expanduser()


def _optional_path(value: Any) -> Path | None:
    return None if value is None else _path(value)


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError
    return value.strip()


def default_threads() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0))


def _default_pool_limit() -> int:
    """A quarter of the machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


def _default_cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "jtc"


_FLAG = "1 or 0 (on or off)"
KNOBS: dict[str, Knob] = {
    knob.name: knob
    for knob in (
        Knob("threads", _integer(1, 1024), default_threads, "a count of at least 1",
             "threads that run one kernel; the default is the number of processors the process may use"),
        Knob("async_", _async, "auto", "auto, 1 or 0",
             "run programs on the stream's own thread: always, never, or (auto) when they are large enough to gain"),
        Knob("spin_us", _integer(0, 1_000_000), 50, "a number of microseconds",
             "how long a worker or a waiting thread spins before it sleeps"),
        Knob("pool_limit", _bytes, _default_pool_limit, "a number of bytes (suffixes k, m, g)",
             "freed memory that is kept for reuse"),
        Knob("target", _word, "native", "the name of a target", "the processor that code is generated for",
             cache_key=True),
        Knob("optimize", _integer(0, 3), 1, "0 to 3", "effort of LLVM on the generated code", cache_key=True),
        Knob("backend", _choice("compiled", "reference"), "compiled", "compiled or reference",
             "what runs programs: compiled code, or the NumPy reference interpreter (slow; to compare with)"),
        Knob("verify", _boolean, True, _FLAG, "verify the IR between phases"),
        Knob("strict", _boolean, False, _FLAG, "keep the arithmetic as written: fold no scales into weights",
             cache_key=True),
        Knob("fusion", _choice("full", "elementwise", "none"), "full", "full, elementwise or none",
             "what becomes one kernel: elementwise ends kernels at every reduction, none at every operation",
             cache_key=True),
        Knob("chains", _choice("online", "rows", "off"), "online", "online, rows or off",
             "two products and what reduces rows between them (attention) as one kernel: as blocks of columns come by, "
             "with whole rows, or as kernels of their own; strict takes rows for online", cache_key=True),
        Knob("carry", _boolean, False, _FLAG,
             "the update of a weight and the product of the next step that reads it as one kernel, in programs of "
             "several steps (`unroll`)", cache_key=True),
        Knob("winograd", _choice("auto", "off", "2", "4"), "auto", "auto, off, 2 or 4",
             "3 x 3 convolutions by Winograd's algorithm: where it is estimated to gain, never, or all in tiles of "
             "2 x 2 or 4 x 4 (larger rounding errors)", cache_key=True),
        Knob("slices", _slices, "auto", "auto, off or a number above 1",
             "kernels that hand on a batch run slice by slice, so that it stays in the caches: where that is estimated "
             "to gain, never, or in so many slices wherever it can be cut", cache_key=True),
        Knob("packing", _boolean, True, _FLAG, "copy operands of contractions into panels and padded boxes",
             cache_key=True),
        Knob("layout", _choice("auto", "off", "0", "1", "2", "3"), "auto", "auto, off, 0, 1, 2 or 3",
             "the order in which values between kernels lie: as it is estimated to cost all of them least, as the user "
             "writes them, or all with the dimension of this number innermost; strict takes off", cache_key=True),
        Knob("reduction", _choice("auto", "serial", "vector", "tree", "column", "two_pass"), "auto",
             "auto, serial, vector, tree, column or two_pass",
             "the kind that reductions take where they can: see docs/schedules.md", cache_key=True),
        Knob("reuse", _boolean, True, _FLAG, "share memory between values that are not needed at the same time",
             cache_key=True),
        Knob("tiered", _boolean, False, _FLAG,
             "run a program that is not in the cache with code that is compiled in less time, until better code, "
             "compiled behind it, takes its place; strict and tune ignore it"),
        Knob("tune", _boolean, False, _FLAG,
             "measure schedules of what is compiled, on random inputs, and keep the fastest", cache_key=True),
        Knob("tune_budget", _seconds, 60.0, "a number of seconds", "how long one program may be tuned"),
        Knob("schedules", _choice("tuned", "default"), "tuned", "tuned or default",
             "use schedules that were measured to be better than the default ones, where there are any, or ignore them",
             cache_key=True),
        Knob("cache", _choice("on", "off", "readonly"), "on", "on, off or readonly",
             "use of the disk cache of compiled code"),
        Knob("cache_dir", _path, _default_cache_dir, "a directory", "where the disk cache is"),
        Knob("cache_limit", _bytes, 4 << 30, "a number of bytes (suffixes k, m, g)",
             "size of the disk cache; what was not used for longest goes first"),
        Knob("jobs", _integer(0, 1024), default_threads, "a count of at least 0",
             "processes that compile kernels; with 0 the calling process does it"),
        Knob("reproducer_dir", _path, Path, "a directory", "where a failing pass leaves the file that replays it"),
        Knob("dump_dir", _optional_path, None, "a directory", "write every phase of every compiled program there"),
        Knob("log", _choice("debug", "info", "warning", "error"), "warning", "debug, info, warning or error",
             "level of the logger `jtc`"),
    )
}

_overrides: ContextVar[Mapping[str, Any]] = ContextVar("jtc_knobs", default=MappingProxyType({}))
# What `use` has set here among the knobs that decide which code runs; None where it has set none of them.  Native code
# asks this one variable to know whether a call may take the code that was compiled for the process's own settings.
code_overrides: ContextVar[tuple[tuple[str, Any], ...] | None] = ContextVar("jtc_code_knobs", default=None)
_listeners: list[Callable[[str, Any], None]] = []


def get(name: str) -> Any:
    """The value that holds here: innermost `use`, else the environment, else the default."""
    overrides = _overrides.get()
    return overrides[name] if name in overrides else _find(name).value()


def __getattr__(name: str) -> Any:
    if name in KNOBS:
        return get(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _find(name: str) -> Knob:
    try:
        return KNOBS[name]
    except KeyError:
        raise UsageError(f"unknown knob {name!r}", hint=near(name, KNOBS)) from None


def check(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword values in their final types.  Raises UsageError."""
    return {name: _find(name).check(value, name) for name, value in values.items()}


@contextmanager
def use(**values: Any) -> Iterator[None]:
    """Set knobs inside a `with` block.  threads, async_, spin_us and pool_limit act on the whole process meanwhile."""
    checked = check(values)
    merged = {**_overrides.get(), **checked}
    token = _overrides.set(merged)
    code = tuple(sorted((n, str(v)) for n, v in merged.items() if KNOBS[n].cache_key or n == "backend"))
    code_token = code_overrides.set(code or None)
    try:
        _announce(checked)
        yield
    finally:
        code_overrides.reset(code_token)
        _overrides.reset(token)
        _announce(checked)


def _announce(names: Mapping[str, Any]) -> None:
    for name in names:
        for listener in _listeners:
            listener(name, get(name))


def listen(listener: Callable[[str, Any], None]) -> None:
    """Call `listener(name, value)` whenever `use` begins or ends for a knob."""
    _listeners.append(listener)


def key() -> dict[str, Any]:
    """The values that compiled code depends on."""
    return {name: get(name) for name, knob in KNOBS.items() if knob.cache_key}


def describe() -> list[tuple[str, str, Any, str]]:
    """(environment variable, keyword, value here, doc) of every knob, for `jtc doctor`."""
    return [(knob.env, name, get(name), knob.doc) for name, knob in KNOBS.items()]
