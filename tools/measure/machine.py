"""The machine that is measured: what it is, and having it alone while the clock runs."""
from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from jtc.dialects.errors import InputError
from jtc.runtime import knobs, processor

BUILD = 10              # niceness while compiling


@dataclass(frozen=True)
class Machine:
    """name: of the processor; cores: that this process may use; l1, l2, l3: bytes (l1 and l2 of one core, l3 shared;
    0 where the operating system does not say); memory: bytes; target: LLVM's name of what code is generated for"""

    name: str
    cores: int
    l1: int
    l2: int
    l3: int
    memory: int
    target: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        caches = ", ".join(f"{size >> 10} KiB" if size < 1 << 20 else f"{size / 2**20:.3g} MiB"
                           for size in (self.l1, self.l2, self.l3) if size)
        return f"{self.name}, {self.cores} core{'s' * (self.cores != 1)}, caches {caches}, {self.memory >> 30} GiB"


def this_machine() -> Machine:
    """What the process runs on, with the threads that jtc would use."""
    from jtc.compiler.cpu import machine
    host = machine.host()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(processor.name(), knobs.default_threads(), host.l1, host.l2, machine.cache_size(3, 0), memory,
                   host.name)


@contextmanager
def alone(lock: str | None) -> Iterator[None]:
    """Hold an exclusive lock on a file, so that benchmarks of one machine take turns; nothing without a file.

    Raises InputError where the file cannot be opened.
    """
    if lock is None:
        yield
        return
    try:
        file = open(lock, "a")                  # noqa: SIM115 (closed below, with the lock)
    except OSError as error:
        raise InputError(f"cannot lock {lock}: {error.strerror}") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    time.sleep(0.05)                            # let one that waits have it


class Priority:
    """From here on a low one, for compiling, which should not disturb what others time; the one that the process was
    started with inside of `timing`.  Nothing changes where the system would not let the process go back.
    """

    def __init__(self) -> None:
        self.first = os.getpriority(os.PRIO_PROCESS, 0)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, max(self.first, BUILD))
            os.setpriority(os.PRIO_PROCESS, 0, self.first)
            self.allowed = True
        except OSError:
            self.allowed = False
        self._set(max(self.first, BUILD))

    def restore(self) -> None:
        self._set(self.first)

    @contextmanager
    def timing(self) -> Iterator[None]:
        self._set(self.first)
        try:
            yield
        finally:
            self._set(max(self.first, BUILD))

    def _set(self, value: int) -> None:
        """For every thread of this process: those of pools have the priority that the process had at their birth.

        Where Linux groups processes by session, what counts between sessions is the priority of the group; the process
        that leads one raises it, and never lowers it: then others' idle work would take the time.
        """
        if self.allowed:
            if os.getsid(0) == os.getpid():
                with suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as file:
                    file.write(str(min(value, 0)))
            for thread in os.listdir("/proc/self/task"):
                with suppress(OSError):                     # it has ended
                    os.setpriority(os.PRIO_PROCESS, int(thread), value)
