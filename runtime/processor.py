"""Which processor this is, and which instructions it has, in LLVM's names."""
from __future__ import annotations

import ctypes
import functools
import platform

from jtc.dialects.errors import InputError
from jtc.dialects.family import FAMILIES, Family


@functools.cache
def family() -> Family:
    """The instruction set of this machine.  Raises InputError where it is none that jtc knows."""
    here = platform.machine()
    for row in FAMILIES:
        if row.uname == here:
            return row
    raise InputError(f"jtc has no code for this processor ({here})",
                     hint=f"it has for {', '.join(row.name for row in FAMILIES)}")


@functools.cache
def features() -> frozenset[str] | None:
    """The features of this machine, or None where the operating system does not say."""
    flags = _line(family().cpuinfo)
    if flags is None:
        return None
    have = spelled(family(), flags)
    for unit in family().matrices.values():
        if have.issuperset(unit.needs) and unit.component is not None and not _granted(unit.component):
            have -= set(unit.needs)
    return have


def _granted(component: int) -> bool:
    """Whether Linux lets this process use a part of the processor's state that it must ask for, from now on."""
    request, ask_for_component = 158, 0x1023        # arch_prctl, ARCH_REQ_XCOMP_PERM (asm/prctl.h)
    try:
        return ctypes.CDLL(None).syscall(request, ask_for_component, component) == 0
    except OSError:
        return False


def spelled(family: Family, flags: str) -> frozenset[str]:
    """The names in a line of /proc/cpuinfo, as LLVM spells them."""
    return frozenset(family.spelled.get(f, f) for f in flags.split())


@functools.cache
def name() -> str:
    """The model of this machine's processor, as its maker calls it."""
    return " ".join((_line("model name") or platform.processor() or platform.machine()).split())


def _line(start: str) -> str | None:
    """The value of the first line of /proc/cpuinfo that begins so; None where there is none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith(start):
                    return line.partition(":")[2]
    except OSError:
        pass
    return None


def missing(needed: str) -> list[str]:
    """The features of an LLVM feature string ("+avx2,+fma,-sse4a") that this machine lacks."""
    have = features()
    if have is None:
        return []
    return [f[1:] for f in needed.split(",") if f.startswith("+") and f[1:] not in have]
