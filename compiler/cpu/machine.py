"""The processors that code is generated for.  Imports neither MLIR nor LLVM: a warm process asks for `host()` too."""
from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

from jtc.dialects.errors import UsageError
from jtc.dialects.family import FAMILIES, X86_64, Family
from jtc.dialects.target import CpuTarget
from jtc.runtime import processor


def _target(name: str, family: Family, features: Iterable[str], l1: int = 32 << 10, l2: int = 1 << 20, threads: int = 1,
            cpu: str = "") -> CpuTarget:
    """A target whose vectors are the widest that the features allow."""
    have = frozenset(features)
    registers = next(r for r in family.registers if have.issuperset(r.needs))
    return CpuTarget(name, ",".join("+" + f for f in sorted(have)), registers.bits, registers.count, registers.masks,
                     l1, l2, threads, family, cpu)


def cache_size(level: int, default: int) -> int:
    """Size in bytes of the first core's data cache of that level."""
    for folder in ("index0", "index1", "index2", "index3"):
        try:
            path = Path("/sys/devices/system/cpu/cpu0/cache") / folder
            if int((path / "level").read_text()) == level and (path / "type").read_text().strip() != "Instruction":
                text = (path / "size").read_text().strip()
                return int(text.rstrip("KM")) << {"K": 10, "M": 20}.get(text[-1], 0)
        except (OSError, ValueError):
            continue
    return default


@functools.cache
def host() -> CpuTarget:
    """This machine, with the instruction sets, cache sizes and threads that the operating system reports.

    Its name is that of the level that it reaches, so that equal features give equal code on any maker's processor.
    """
    family = processor.family()
    flags = processor.features() or frozenset(family.baseline)
    level = next((name for name, needs in reversed(tuple(family.levels.items())) if flags.issuperset(needs)),
                 next(iter(family.levels)))
    usable = flags.intersection({f for level in family.levels.values() for f in level}.union(family.beyond))
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _target(level, family, usable, cache_size(1, 32 << 10), cache_size(2, 1 << 20), threads, family.cpu)


# The levels of every family, and single processors.
_NAMED = {target.name: target for target in (
    *(_target(name, family, features, cpu=family.cpu) for family in FAMILIES
      for name, features in family.levels.items()),
    _target("cooperlake", X86_64, (*X86_64.levels["x86-64-v4"], "avx512bf16", "avx512vnni")),
    _target("sapphirerapids", X86_64, (*X86_64.levels["x86-64-v4"], "amx-bf16", "amx-tile", "avx512bf16", "avx512vnni"),
            48 << 10, 2 << 20),
    _target("znver3", X86_64, (*X86_64.levels["x86-64-v3"], "sse4a"), l2=512 << 10),
)}
NAMES = ("native", *_NAMED)


def named(name: str) -> CpuTarget:
    """The target with this name: "native" (this machine), a level of a family, or a processor.  Raises UsageError."""
    if name == "native":
        return host()
    if name not in _NAMED:
        raise UsageError(f"unknown cpu target {name!r}", hint=f"one of {', '.join(NAMES)}")
    return _NAMED[name]


def runs_here(target: CpuTarget) -> bool:
    """Whether this machine has all that code for the target may use."""
    return target.family == processor.family() and not processor.missing(target.features)
