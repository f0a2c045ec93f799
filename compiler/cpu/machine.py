"""The processors that code is generated for.  Imports neither MLIR nor LLVM: a warm process asks for `host()` too."""
from __future__ import annotations

import functools
import os
from pathlib import Path

from jtc.dialects.errors import UsageError
from jtc.dialects.target import CpuTarget
from jtc.runtime import processor

# The x86-64 psABI's levels, cumulative (x86-64 psABI 1.0, table 3.1), in LLVM's names.
_BASELINE = ("cmov", "cx8", "fxsr", "mmx", "sse", "sse2")
_V2 = ("cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3")
_V3 = ("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
# Instructions beyond the levels that code for kernels may use.
_BEYOND = ("avx512bf16", "avx512bitalg", "avx512fp16", "avx512ifma", "avx512vbmi", "avx512vbmi2", "avx512vnni",
           "avx512vpopcntdq", "avxvnni")


def _target(name: str, features: tuple[str, ...], l1: int = 32 << 10, l2: int = 1 << 20, threads: int = 1) -> CpuTarget:
    """A target whose vectors are the widest that the features allow."""
    have = set(features)
    if have.issuperset(_V4) and have.issuperset(_V3):
        bits, registers, masks = 512, 32, True
    elif have.issuperset(_V3):
        bits, registers, masks = 256, 16, False
    else:
        bits, registers, masks = 128, 16, False
    return CpuTarget(name, ",".join("+" + f for f in features), bits, registers, masks, l1, l2, threads)


def _cache_size(level: int, default: int) -> int:
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

    The CPU name is the psABI level that it reaches, so that equal features give equal code on any vendor's processor.
    """
    flags = processor.features() or frozenset(_BASELINE)
    features = tuple(sorted(flags.intersection(_BASELINE + _V2 + _V3 + _V4 + _BEYOND)))
    level = "x86-64"
    for name, needs in (("x86-64-v2", _V2), ("x86-64-v3", _V3), ("x86-64-v4", _V4)):
        if not flags.issuperset(needs):
            break
        level = name
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _target(level, features, _cache_size(1, 32 << 10), _cache_size(2, 1 << 20), threads)


_NAMED = {
    "x86-64": _BASELINE,
    "x86-64-v2": _BASELINE + _V2,
    "x86-64-v3": _BASELINE + _V2 + _V3,
    "x86-64-v4": _BASELINE + _V2 + _V3 + _V4,
}
NAMES = ("native", *_NAMED)


@functools.cache
def named(name: str) -> CpuTarget:
    """The target with this name: "native" (this machine) or a level of the x86-64 psABI.  Raises UsageError."""
    if name == "native":
        return host()
    if name not in _NAMED:
        raise UsageError(f"unknown cpu target {name!r}", hint=f"one of {', '.join(NAMES)}")
    return _target(name, tuple(sorted(_NAMED[name])))
