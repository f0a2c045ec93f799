"""The native runtime as Python sees it: buffers, streams, executables, the memory pool.

Importing this module applies the knobs and makes the runtime safe to fork: before a fork all streams finish their
queues; the child starts with no threads and makes its own when it needs them.
"""
from __future__ import annotations

import atexit
import os
from typing import Any

import numpy as np

from jtc.runtime import _native, knobs
from jtc.runtime._native import Buffer, Dispatcher, Event, Executable, Library, Stream

current_stream = _native.current_stream
default_stream = _native.default_stream
memory_statistics = _native.memory_statistics
reset_peak = _native.reset_peak
synchronize = _native.synchronize
trim = _native.trim


def from_dlpack(value: Any) -> Buffer:
    """A Buffer that borrows the memory of anything with `__dlpack__` on the CPU (copied where it is not row-major)."""
    return Buffer.from_numpy(np.from_dlpack(value), copy=False)


# Knobs that act on the whole process while they hold, not on what is compiled.
PROCESS_KNOBS = frozenset(("threads", "spin_us", "pool_limit", "async_"))


def _apply(name: str, value: Any) -> None:
    if name in PROCESS_KNOBS:
        _native.configure(name, value)


for _name in PROCESS_KNOBS:
    _apply(_name, knobs.get(_name))
knobs.listen(_apply)
os.register_at_fork(before=_native.before_fork, after_in_parent=_native.after_fork_parent)
atexit.register(_native.shutdown)

__all__ = ["PROCESS_KNOBS", "Buffer", "Dispatcher", "Event", "Executable", "Library", "Stream", "current_stream",
           "default_stream", "from_dlpack", "memory_statistics", "reset_peak", "synchronize", "trim"]
