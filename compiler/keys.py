"""What compiled code depends on, and hashes of it.  Nothing here imports MLIR or LLVM: finding a hit must not."""
from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jtc.compiler.sealed import digests, replacing
from jtc.runtime import knobs

# Key part -> the packages that may be what it stands for.
_PACKAGES = {"mlir": ("mlir", "mlir-python-bindings", "torch-mlir"), "llvm": ("llvmlite",)}


@dataclass(frozen=True)
class Key:
    """What an entry depends on, part by part: {"graph": hash, "target": "...", ...}.  Parts are short texts."""

    parts: Mapping[str, str]

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(dict(self.parts), sort_keys=True).encode()).hexdigest()[:40]

    def differs(self, other: Mapping[str, str]) -> list[str]:
        """Names of the parts in which `other` is different."""
        return [name for name in {**self.parts, **other} if self.parts.get(name) != other.get(name)]


def text_hash(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:24]


def arrays_hash(arrays: Mapping[str, Any]) -> str:
    """Hash of the contents of NumPy arrays and of their names."""
    def one(item: tuple[str, Any]) -> bytes:
        name, array = item
        state = hashlib.blake2b(f"{name}:{array.dtype}{array.shape};".encode(), digest_size=24)
        state.update(memoryview(array.reshape(-1).view("uint8")) if array.flags.c_contiguous else array.tobytes())
        return state.digest()

    with ThreadPoolExecutor(4) as threads:              # hashing lets other threads run
        return text_hash(b"".join(threads.map(one, sorted(arrays.items()))))


def file_hash(path: Path) -> str:
    """Hash of the contents of a file.  Raises OSError, and Damaged where the file gets shorter meanwhile."""
    size = path.stat().st_size
    return text_hash(b"%d:" % size + b"".join(digests(path, size, lambda data: hashlib.blake2b(data).digest())))


@cache
def versions() -> dict[str, str]:
    """Key parts for the code generators: hash of jtc's sources, versions of MLIR and LLVM."""
    installed = _installed()
    found = {"jtc": _sources_hash()}
    for part, packages in _PACKAGES.items():
        there = [f"{name} {installed[name]}" for name in packages if name in installed]
        found[part] = ", ".join(there) or _asked(packages)
    return found


def _installed() -> dict[str, str]:
    """Package -> version, from the names of the metadata's directories.

    importlib.metadata, which knows other ways to install a package too, takes longer to import than a hit may last.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue                    # a zip file, or nothing
        for name in names:
            package, _, version = name.removesuffix(".dist-info").rpartition("-")
            if name.endswith(".dist-info") and package:
                found.setdefault(package.lower().replace("_", "-"), version)
    return found


def _asked(packages: Sequence[str]) -> str:
    from importlib.metadata import PackageNotFoundError, version
    for package in packages:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return "absent"


def _sources_hash() -> str:
    """Hash of the sources that decide what is generated; read anew only when a file's size or date has changed."""
    root = Path(__file__).parent.parent
    stamp, files = [], []
    for folder in ("dialects", "passes", "compiler", "runtime"):
        for path in sorted((root / folder).rglob("*.py")):
            info = path.stat()
            files.append(path)
            stamp.append(f"{path}:{info.st_size}:{info.st_mtime_ns}")
    stamp_hash = text_hash("\n".join(stamp))
    memo = Path(knobs.get("cache_dir")) / "sources.json"
    try:
        known = json.loads(memo.read_text())
        if known["stamp"] == stamp_hash:
            return str(known["hash"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    state = hashlib.sha256()
    for path in files:
        state.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    result = state.hexdigest()[:24]
    if knobs.get("cache") == "on":
        try:
            with replacing(memo) as new:
                new.write_text(json.dumps({"stamp": stamp_hash, "hash": result}))
        except OSError:
            pass                        # the hash is only computed again
    return result
