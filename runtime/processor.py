"""Which instructions this processor has, in LLVM's names."""
from __future__ import annotations

import functools

# /proc/cpuinfo's name of a feature -> LLVM's, where the two differ.
_RENAMED = {"pni": "sse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2", "lahf_lm": "sahf", "abm": "lzcnt", "bmi1": "bmi",
            "avx512_vnni": "avx512vnni", "avx512_bf16": "avx512bf16", "avx512_fp16": "avx512fp16",
            "avx512_vbmi2": "avx512vbmi2", "avx512_bitalg": "avx512bitalg",
            "avx512_vpopcntdq": "avx512vpopcntdq", "avx_vnni": "avxvnni"}


@functools.cache
def features() -> frozenset[str] | None:
    """The features of this machine, or None where the operating system does not say."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("flags"):
                    return frozenset(_RENAMED.get(f, f) for f in line.partition(":")[2].split())
    except OSError:
        pass
    return None


def missing(needed: str) -> list[str]:
    """The features of an LLVM feature string ("+avx2,+fma,-sse4a") that this machine lacks."""
    have = features()
    if have is None:
        return []
    return [f[1:] for f in needed.split(",") if f.startswith("+") and f[1:] not in have]
