"""Files that appear at once or not at all, and carry a checksum.

A sealed file ends in the magic and a checksum of what is before it.  The loader of shared objects ignores what follows
the ELF image, so a sealed module can be loaded as it is.
"""
from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

MAGIC = b"jtcseal2"
SEAL = len(MAGIC) + 4
PIECE = 4 << 20                 # bytes read at a time
_THREADS = 4                    # reading and checksums let other threads run


class Damaged(Exception):
    """The file is not what was sealed; the message says why."""


def seal(path: Path) -> None:
    """Append the checksum to a finished file."""
    checksum = _checksum(path, path.stat().st_size)
    with open(path, "ab") as file:
        file.write(MAGIC + checksum)


def sealed(data: bytes) -> bytes:
    """`data` as the contents of a sealed file."""
    pieces = [_crc(data[at:at + PIECE]) for at in range(0, len(data), PIECE)]
    return data + MAGIC + _crc(b"".join(pieces))


def check_seal(path: Path) -> int:
    """The size of what is sealed.  Raises Damaged, OSError."""
    size = path.stat().st_size - SEAL
    if size < 0:
        raise Damaged("cut short")
    with open(path, "rb") as file:
        file.seek(size)
        tail = file.read()
    if not tail.startswith(MAGIC):
        raise Damaged("cut short")
    if _checksum(path, size) != tail[len(MAGIC):]:
        raise Damaged("its checksum does not fit")
    return size


def _checksum(path: Path, size: int) -> bytes:
    """CRC-32 of the pieces' CRC-32: finds what goes wrong by chance, at the speed of memory; no guard against malice.
    """
    return _crc(b"".join(digests(path, size, _crc)))


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def digests(path: Path, size: int, digest: Callable[[bytes], bytes]) -> list[bytes]:
    """`digest` of every piece of the first `size` bytes, several at a time.  Raises Damaged where there are fewer."""
    with open(path, "rb", buffering=0) as file:
        def one(at: int) -> bytes:
            wanted = min(PIECE, size - at)
            data = os.pread(file.fileno(), wanted, at)
            if len(data) < wanted:
                raise Damaged("cut short")
            return digest(data)

        if size <= PIECE:
            return [one(0)] if size else []
        with ThreadPoolExecutor(_THREADS) as threads:
            return list(threads.map(one, range(0, size, PIECE)))


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
