"""The disk cache of compiled code: content-addressed, checked when read, safe with many processes.

    CACHE/programs/ab/abcdef....so    compiled modules   key: graph, weights, target, knobs, versions
    CACHE/programs/ab/abcdef....json  the parts of that key, for explaining misses
    CACHE/objects/12/1234....o        objects of kernels key: loops text, target, effort, versions
    CACHE/files/34/3456....json       what is in a file: its graph's parts of the key; key: the file's bytes, versions
    CACHE/schedules/56/5678....json   schedules that were measured; key: processor, threads, knobs, versions
    CACHE/sources.json                hash of jtc's own sources, by the sizes and dates of the files

Every entry is sealed (see sealed.py) and checked when it is read.  It is written under another name and renamed, so
that nobody sees half of it; two processes that make the same entry write the same bytes.  Where the cache cannot be
written, or its disk is full, modules go to a temporary directory of this process.  Nothing here imports MLIR or LLVM:
a hit must not.
"""
from __future__ import annotations

import atexit
import fcntl
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jtc.compiler.keys import Key
from jtc.compiler.sealed import SEAL, Damaged, check_seal, replacing, seal, sealed
from jtc.dialects.errors import InputError
from jtc.runtime import knobs

log = logging.getLogger("jtc")
_SUFFIXES = {"programs": ".so", "objects": ".o", "files": ".json", "schedules": ".json"}
TRIM_TO = 0.8                   # trimming goes down to this part of the limit, so that it is not needed again at once
STALE_SECONDS = 3600            # a temporary file this old was left by a process that is gone


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
        """The object of a kernel; None where there is none."""
        return self._data("objects", digest)

    def contents(self, digest: str) -> dict[str, str] | None:
        """What was noted about a file by `publish_contents`; None where nothing was."""
        data = self._data("files", digest)
        return None if data is None else json.loads(data)

    def schedules(self, digest: str) -> bytes | None:
        """What `publish_schedules` kept last; None where there is nothing."""
        return self._data("schedules", digest)

    def all_schedules(self) -> Iterator[bytes]:
        """Everything that `publish_schedules` kept, under any key."""
        for path in sorted(self._files("schedules", ".json")):
            data = None if path.name.startswith(".") else self.schedules(path.stem)
            if data is not None:
                yield data

    def _data(self, kind: str, digest: str) -> bytes | None:
        path = self._lookup(kind, digest)
        try:
            return None if path is None else path.read_bytes()[:-SEAL]
        except OSError:
            return None

    def _path(self, kind: str, digest: str) -> Path:
        return self.root / kind / digest[:2] / (digest + _SUFFIXES[kind])

    def _lookup(self, kind: str, digest: str) -> Path | None:
        if self.mode == "off":
            return None
        path = self._path(kind, digest)
        try:
            check_seal(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            log.warning("cache entry %s cannot be read (%s); compiling", path, error.strerror)
            return None
        except Damaged as problem:
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

        Raises InputError where it can neither be written there nor to a temporary directory.
        """
        path = self._path("programs", key.digest)
        if self.mode == "on":
            try:
                size = _make(path, write)
                with replacing(path.with_suffix(".json")) as side:
                    side.write_text(json.dumps({"name": name, "parts": dict(key.parts)}))
                self._count(size)
                return path
            except OSError as error:
                self._not_kept(error)
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="jtc-"))
            atexit.register(shutil.rmtree, self._scratch, ignore_errors=True)
        path = self._scratch / path.name
        try:
            _make(path, write)
        except OSError as error:
            raise InputError(f"cannot write the compiled module to {self._scratch}: {error.strerror}",
                             hint="TMPDIR names another place") from None
        return path

    def publish_object(self, digest: str, data: bytes) -> None:
        """Keep the object of a kernel."""
        self._publish("objects", digest, data)

    def publish_contents(self, digest: str, parts: Mapping[str, str]) -> None:
        """Note which graph a file holds: the parts of the keys of its modules that come from it."""
        self._publish("files", digest, json.dumps(dict(parts)).encode())

    def publish_schedules(self, digest: str, merge: Callable[[bytes | None], bytes]) -> bool:
        """Replace what is kept under a key by what `merge` makes of it; no other process comes in between.

        Returns whether it could be written.
        """
        if self.mode != "on":
            return False
        try:
            (self.root / "schedules").mkdir(parents=True, exist_ok=True)
            with open(self.root / "schedules" / ".lock", "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return self._publish("schedules", digest, merge(self.schedules(digest)))
        except OSError as error:
            self._not_kept(error)
            return False

    def _publish(self, kind: str, digest: str, data: bytes) -> bool:
        if self.mode != "on":
            return False
        try:
            with replacing(self._path(kind, digest)) as new:
                new.write_bytes(sealed(data))
        except OSError as error:
            self._not_kept(error)
            return False
        self._count(len(data))
        return True

    def _not_kept(self, error: OSError) -> None:
        _warn_once(f"the cache {self.root} cannot be written ({error.strerror}); compiled code is not kept")

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
                    check_seal(path)
                except (OSError, Damaged):
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
        for path in [*self.root.glob(".tmp-*"), *self.root.glob("*/*/.tmp-*")]:
            if time.time() - _mtime(path) > STALE_SECONDS:
                self._drop(path)
        entries = []
        for kind, suffix in _SUFFIXES.items():
            for path in list(self._files(kind, suffix)):
                try:
                    info = path.stat()
                except OSError:
                    continue
                if not path.name.startswith("."):
                    entries.append((info.st_mtime, info.st_size, path))
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


def _make(path: Path, write: Callable[[Path], None]) -> int:
    """Write a sealed file; returns its size."""
    with replacing(path) as new:
        write(new)
        seal(new)
        return new.stat().st_size


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
