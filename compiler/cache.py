"""The disk cache of compiled code: content-addressed, checked when read, safe with many processes.

    CACHE/programs/ab/abcdef....so    compiled modules   key: graph, weights, target, knobs, versions
    CACHE/programs/ab/abcdef....json  the parts of that key, for explaining misses
    CACHE/objects/12/1234....o        objects of kernels key: loops text, target, effort, versions
    CACHE/sources.json                hash of jtc's own sources, by the sizes and dates of the files

Every entry ends in a seal: the magic and a checksum of what is before it (the loader of shared objects ignores what
follows the ELF image).  A file is written under another name and renamed, so that nobody sees half of it; two processes
that make the same entry write the same bytes.  Nothing here imports MLIR or LLVM: a hit must not.
"""
from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jtc.dialects.errors import InputError
from jtc.runtime import knobs

log = logging.getLogger("jtc")
MAGIC = b"jtcseal1"
SEAL = len(MAGIC) + 4
_CHUNK = 4 << 20
_SUFFIXES = {"programs": ".so", "objects": ".o"}
TRIM_TO = 0.8                   # trimming goes down to this part of the limit, so that it is not needed again at once
STALE_SECONDS = 3600            # a temporary file this old was left by a process that is gone


# ---------------------------------------------------------------------------------------------------------- keys
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


@cache
def versions() -> dict[str, str]:
    """Key parts for the code generators: hash of jtc's sources, versions of MLIR and LLVM."""
    from importlib.metadata import PackageNotFoundError, version
    found = {"jtc": _sources_hash()}
    for part, package in (("mlir", "torch-mlir"), ("llvm", "llvmlite")):
        try:
            found[part] = version(package)
        except PackageNotFoundError:
            found[part] = "absent"
    return found


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


# ---------------------------------------------------------------------------------------------------------- seals
class _Damaged(Exception):
    pass


def seal(path: Path) -> None:
    """Append the checksum to a finished file."""
    checksum = _checksum(path, path.stat().st_size)
    with open(path, "ab") as file:
        file.write(MAGIC + checksum)


def _check_seal(path: Path) -> int:
    """The size of what is sealed.  Raises _Damaged, OSError."""
    size = path.stat().st_size - SEAL
    if size < 0:
        raise _Damaged("cut short")
    with open(path, "rb") as file:
        file.seek(size)
        tail = file.read()
    if not tail.startswith(MAGIC):
        raise _Damaged("cut short")
    if _checksum(path, size) != tail[len(MAGIC):]:
        raise _Damaged("its checksum does not fit")
    return size


def _checksum(path: Path, size: int) -> bytes:
    """CRC-32: finds what goes wrong by chance, at the speed of memory; it is no guard against malice."""
    value = 0
    with open(path, "rb") as file:
        while size > 0:
            data = file.read(min(size, _CHUNK))
            if not data:
                raise _Damaged("cut short")
            value = zlib.crc32(data, value)
            size -= len(data)
    return value.to_bytes(4, "little")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block is done, and disappears when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, (0o777 if path.suffix == ".so" else 0o666) & ~_umask())
        os.replace(name, path)
    finally:
        if os.path.exists(name):
            os.unlink(name)


@cache
def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ---------------------------------------------------------------------------------------------------------- entries
class Cache:
    """The cache in one directory.  mode: "on", "off" or "readonly"."""

    def __init__(self, root: Path, mode: str = "on", limit: int = 4 << 30):
        self.root, self.mode, self.limit = Path(root), mode, limit
        self._published = 0             # bytes since the last trimming
        self._trimmed = False
        self._scratch: Path | None = None

    def program(self, key: Key) -> Path | None:
        """The compiled module under `key`, checked; None where there is none.  The miss is logged with its reason."""
        path = self._lookup("programs", key.digest)
        if path is None and log.isEnabledFor(logging.INFO):
            log.info("cache miss: %s", self.why(key))
        return path

    def object(self, digest: str) -> bytes | None:
        path = self._lookup("objects", digest)
        if path is None:
            return None
        try:
            return path.read_bytes()[:-SEAL]
        except OSError:
            return None

    def _path(self, kind: str, digest: str) -> Path:
        return self.root / kind / digest[:2] / (digest + _SUFFIXES[kind])

    def _lookup(self, kind: str, digest: str) -> Path | None:
        if self.mode == "off":
            return None
        path = self._path(kind, digest)
        try:
            _check_seal(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cache entry %s cannot be read (%s); compiling", path, error.strerror)
            return None
        except _Damaged as problem:
            log.warning("cache entry %s is damaged (%s); it is dropped and compiled again", path, problem)
            self._drop(path)
            return None
        try:
            os.utime(path)              # for trimming: used now
        except OSError:
            pass                        # a read-only cache is not trimmed
        return path

    def _drop(self, path: Path) -> None:
        for doomed in (path, path.with_suffix(".json")):
            try:
                doomed.unlink()
            except OSError:
                pass                    # read-only, or another process was faster

    def publish_program(self, key: Key, name: str, write: Callable[[Path], None]) -> Path:
        """Let `write` make the module at a temporary path, publish it under `key`, and return where it is.

        Where the cache cannot be written the module goes to a temporary directory of this process.
        """
        path, kept = self._writable(self._path("programs", key.digest))
        with replacing(path) as new:
            write(new)
            seal(new)
            size = new.stat().st_size
        if kept:
            with replacing(path.with_suffix(".json")) as side:
                side.write_text(json.dumps({"name": name, "parts": dict(key.parts)}))
            self._count(size)
        return path

    def publish_object(self, digest: str, data: bytes) -> None:
        if self.mode != "on":
            return
        path = self._path("objects", digest)
        try:
            with replacing(path) as new:
                new.write_bytes(data + MAGIC + zlib.crc32(data).to_bytes(4, "little"))
        except OSError as error:
            _warn_once(f"the cache {self.root} cannot be written ({error.strerror}); compiled code is not kept")
            return
        self._count(len(data))

    def _writable(self, path: Path) -> tuple[Path, bool]:
        """`path`, or one of the same name in a temporary directory; and whether it is in the cache."""
        if self.mode == "on":
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=path.parent):
                    return path, True
            except OSError as error:
                _warn_once(f"the cache {self.root} cannot be written ({error.strerror}); compiled code is not kept")
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="jtc-"))
            atexit.register(shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch / path.name, False

    # ------------------------------------------------------------------------------------------------ explaining
    def notes(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """(path of the module, {"name", "parts"}) of every program entry, the last used first."""
        for path in sorted(self._files("programs", ".json"), key=_mtime, reverse=True):
            try:
                note = json.loads(path.read_text())
                if isinstance(note["parts"], dict):
                    yield path.with_suffix(".so"), note
            except (OSError, ValueError, KeyError, TypeError):
                continue

    def why(self, key: Key) -> str:
        """Why there is no entry under `key`: which parts of the key differ from the entry that is nearest."""
        if self.mode == "off":
            return "the cache is off"
        best: list[str] | None = None
        nearest: dict[str, Any] = {}
        for path, note in self.notes():
            if not path.exists():
                continue
            differing = key.differs(note["parts"])
            if best is None or (note["parts"].get("graph") != key.parts.get("graph"), len(differing)) < \
                    (nearest["parts"].get("graph") != key.parts.get("graph"), len(best)):
                best, nearest = differing, note
        if best is None:
            return f"the cache {self.root} has no programs"
        if not best:
            return "there is an entry with this key"
        there, here = nearest["parts"], key.parts
        told = [f"{part} ({there.get(part, 'none')} there, {here.get(part, 'none')} here)" for part in best]
        return f"nothing under this key; the nearest entry is {nearest['name']!r}, which differs in {', '.join(told)}"

    # ------------------------------------------------------------------------------------------------ upkeep
    def _files(self, kind: str, suffix: str) -> Iterator[Path]:
        try:
            folders = [f for f in (self.root / kind).iterdir() if f.is_dir()]
        except OSError:
            return
        for folder in folders:
            try:
                yield from (p for p in folder.iterdir() if p.suffix == suffix)
            except OSError:
                continue

    def stats(self) -> dict[str, tuple[int, int]]:
        """Kind -> (entries, bytes)."""
        result = {}
        for kind, suffix in _SUFFIXES.items():
            sizes = [_size(p) for p in self._files(kind, suffix) if not p.name.startswith(".")]
            result[kind] = len(sizes), sum(sizes)
        return result

    def clear(self) -> int:
        """Remove every entry; returns how many.  Raises InputError where one cannot be removed."""
        count = sum(n for n, _ in self.stats().values())
        try:
            for kind in _SUFFIXES:
                if (self.root / kind).exists():
                    shutil.rmtree(self.root / kind)
            (self.root / "sources.json").unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"cannot clear the cache {self.root}: {error.strerror}") from None
        return count

    def verify(self) -> tuple[int, list[Path]]:
        """Check every entry and drop the damaged ones: (entries checked, those dropped)."""
        checked, damaged = 0, []
        for kind, suffix in _SUFFIXES.items():
            for path in self._files(kind, suffix):
                if path.name.startswith("."):
                    continue
                checked += 1
                try:
                    _check_seal(path)
                except (OSError, _Damaged):
                    damaged.append(path)
                    self._drop(path)
        return checked, damaged

    def _count(self, size: int) -> None:
        """Trim at the first entry that this process adds, and then after every sixteenth of the limit."""
        self._published += size
        if not self._trimmed or self._published > self.limit // 16:
            self._trimmed, self._published = True, 0
            self.trim()

    def trim(self) -> int:
        """Remove what was not used for longest until the cache is within its limit; returns the bytes removed."""
        now = time.time()
        entries = []
        for kind, suffix in _SUFFIXES.items():
            for path in list(self._files(kind, suffix)):
                try:
                    info = path.stat()
                except OSError:
                    continue
                if not path.name.startswith("."):
                    entries.append((info.st_mtime, info.st_size, path))
                elif now - info.st_mtime > STALE_SECONDS:
                    self._drop(path)
        total = sum(size for _, size, _ in entries)
        if total <= self.limit:
            return 0
        removed = 0
        for _, size, path in sorted(entries):
            if total - removed <= self.limit * TRIM_TO:
                break
            self._drop(path)
            removed += size
        log.info("cache %s trimmed by %d bytes", self.root, removed)
        return removed


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@cache
def _warn_once(message: str) -> None:
    log.warning("%s", message)


@cache
def _opened(root: Path, mode: str, limit: int) -> Cache:
    return Cache(root, mode, limit)


def current() -> Cache:
    """The cache that the knobs name here."""
    return _opened(Path(knobs.get("cache_dir")), knobs.get("cache"), knobs.get("cache_limit"))
