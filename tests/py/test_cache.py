"""The disk cache: keys, damage, read-only directories, many processes, trimming, explanations."""
from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from jtc.compiler import keys
from jtc.compiler.cache import Cache
from jtc.compiler.keys import Key
from jtc.compiler.sealed import PIECE, SEAL, Damaged, check_seal, seal, sealed
from jtc.dialects.errors import InputError
from jtc.runtime import knobs

KEY = Key({"graph": "g1", "name": "f", "target": "t1"})


def put(cache: Cache, key: Key = KEY, data: bytes = b"module"):
    return cache.publish_program(key, key.parts["name"], lambda path: path.write_bytes(data) and None)


def test_round_trip(tmp_path):
    cache = Cache(tmp_path)
    assert cache.program(KEY) is None
    path = put(cache)
    assert cache.program(KEY) == path
    assert path.read_bytes()[:-SEAL] == b"module"
    cache.publish_object("ab12", b"object")
    assert cache.object("ab12") == b"object"
    assert cache.object("ab13") is None
    assert cache.contents("cd12") is None
    cache.publish_contents("ef12", {"graph": "g"})
    assert cache.contents("ef12") == {"graph": "g"}
    assert cache.schedules("aa12") is None
    cache.publish_schedules("aa12", lambda old: b"one" if old is None else old + b"two")
    cache.publish_schedules("aa12", lambda old: b"one" if old is None else old + b"two")
    assert cache.schedules("aa12") == b"onetwo" and list(cache.all_schedules()) == [b"onetwo"]
    assert cache.stats() == {"programs": (1, 6 + SEAL), "objects": (1, 6 + SEAL), "files": (1, 14 + SEAL),
                             "schedules": (1, 6 + SEAL)}


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
@pytest.mark.parametrize("kind", ["programs", "objects", "files", "schedules"])
def test_damage_is_seen_and_repaired(tmp_path, caplog, damage, kind):
    cache = Cache(tmp_path)

    def fill():
        put(cache, data=b"x" * 1000)
        cache.publish_object("ab12", b"x" * 1000)
        cache.publish_contents("ab12", {"graph": "x" * 1000})
        cache.publish_schedules("ab12", lambda old: b"x" * 1000)

    def found():
        return {"programs": cache.program(KEY), "objects": cache.object("ab12"), "files": cache.contents("ab12"),
                "schedules": cache.schedules("ab12")}

    fill()
    path = cache._path(kind, KEY.digest if kind == "programs" else "ab12")
    data = bytearray(path.read_bytes())
    data[500] ^= damage == "flipped"
    path.write_bytes({"cut": data[:700], "empty": b""}.get(damage, data))
    with caplog.at_level(logging.WARNING, "jtc"):
        assert [name for name, value in found().items() if value is None] == [kind]
    assert len(caplog.records) == 1 and "damaged" in caplog.text
    assert not path.exists()
    fill()
    assert None not in found().values()


def test_seals_cover_every_piece_of_a_large_file(tmp_path):
    path = tmp_path / "large"
    data = bytes(range(256)) * ((2 * PIECE + 1000) // 256)
    path.write_bytes(data)
    seal(path)
    assert path.read_bytes() == sealed(data) and check_seal(path) == len(data)
    for at in (0, PIECE - 1, PIECE, 2 * PIECE + 1, len(data) - 1, len(data) + 9):
        with open(path, "r+b") as file:
            file.seek(at)
            old = file.read(1)
            file.seek(at)
            file.write(bytes([old[0] ^ 1]))
        with pytest.raises(Damaged):
            check_seal(path)
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(old)
    assert check_seal(path) == len(data)


def test_failed_write_leaves_nothing(tmp_path):
    cache = Cache(tmp_path)

    def fail(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.publish_program(KEY, "f", fail)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_unwritable_place(tmp_path, caplog):
    """The cache's place is a file: works without a cache, with one warning."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    cache = Cache(blocked / "cache")
    with caplog.at_level(logging.WARNING, "jtc"):
        path = put(cache)
        cache.publish_object("ab12", b"object")
        put(cache)
    assert path.read_bytes().startswith(b"module")
    assert len([r for r in caplog.records if "cannot be written" in r.getMessage()]) == 1
    assert cache.program(KEY) is None and cache.object("ab12") is None


@contextmanager
def unprivileged():
    """Permissions do not stop root: be somebody else meanwhile."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def open_place():
    """A directory that anybody may enter, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_directory_without_write_permission(open_place, caplog):
    cache = Cache(open_place / "cache")
    path = put(cache)
    cache.publish_object("ab12", b"object")
    for folder in (cache.root, *cache.root.rglob("*")):
        folder.chmod(0o555)
    before = sorted(cache.root.rglob("*"))
    other = Key({**KEY.parts, "graph": "g2"})
    with unprivileged(), caplog.at_level(logging.WARNING, "jtc"):
        assert cache.program(KEY) == path and cache.object("ab12") == b"object" and cache.verify() == (2, [])
        assert not caplog.records
        made = put(cache, other)
        cache.publish_object("cd34", b"object")
        assert made.read_bytes() == sealed(b"module") and cache.root not in made.parents
        assert len(caplog.records) == 1 and "Permission denied" in caplog.text
        with pytest.raises(InputError, match="cannot clear the cache .*: Permission denied"):
            cache.clear()
    assert sorted(cache.root.rglob("*")) == before


def full(path):
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk(tmp_path, caplog, monkeypatch):
    """A module that does not fit in the cache goes elsewhere; one that fits nowhere is one clear error."""
    root = tmp_path / "cache"
    cache = Cache(root)

    def write(path):
        full(path) if root in path.parents else path.write_bytes(b"module")

    with caplog.at_level(logging.WARNING, "jtc"):
        path = cache.publish_program(KEY, "f", write)
    assert root not in path.parents and path.read_bytes() == sealed(b"module")
    assert "No space left on device" in caplog.text and len(caplog.records) == 1
    with pytest.raises(InputError, match="cannot write the compiled module to .*: No space left on device"):
        cache.publish_program(KEY, "f", full)
    monkeypatch.setattr("jtc.compiler.cache.sealed", lambda data: full(tmp_path / "x"))
    cache.publish_object("ab12", b"object")
    assert cache.object("ab12") is None and cache.program(KEY) is None
    assert [p for p in root.rglob("*") if p.is_file()] == []


def test_readonly_and_off(tmp_path):
    put(Cache(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    readonly = Cache(tmp_path, "readonly")
    assert readonly.program(KEY)
    other = Key({**KEY.parts, "graph": "g2"})
    assert tmp_path not in put(readonly, other).parents
    readonly.publish_object("ab12", b"object")
    assert sorted(tmp_path.rglob("*")) == before
    assert Cache(tmp_path, "off").program(KEY) is None


def test_misses_are_explained(tmp_path, caplog):
    cache = Cache(tmp_path)
    assert "no programs" in cache.why(KEY)
    put(cache)
    put(cache, Key({"graph": "g9", "name": "g", "target": "t1"}))
    asked = Key({**KEY.parts, "target": "t2"})
    assert cache.why(asked) == ("nothing under this key; the nearest entry is 'f', which differs in "
                                "target (t1 there, t2 here)")
    with caplog.at_level(logging.INFO, "jtc"):
        cache.program(asked)
    assert "differs in target" in caplog.text
    assert "there is an entry" in cache.why(KEY)


def test_trim_removes_what_was_not_used(tmp_path):
    cache = Cache(tmp_path, limit=1 << 40)
    paths = []
    for i in range(10):
        paths.append(put(cache, Key({**KEY.parts, "graph": str(i)}), b"x" * 1000))
        os.utime(paths[-1], (i, i))
    cache.program(Key({**KEY.parts, "graph": "0"}))             # used now
    cache.limit = 5 * (1000 + SEAL)
    removed = cache.trim()
    left = [i for i, p in enumerate(paths) if p.exists()]
    assert left == [0, 7, 8, 9] and removed == 6 * (1000 + SEAL)
    assert not paths[1].with_suffix(".json").exists()


def test_stale_temporary_files_go(tmp_path):
    cache = Cache(tmp_path)
    put(cache)
    folder = cache._path("programs", KEY.digest).parent
    stale = [folder / ".tmp-old.so", folder / ".tmp-old.json", tmp_path / ".tmp-old.json"]
    for path in (*stale, folder / ".tmp-new.so"):
        path.write_text("")
    for path in stale:
        os.utime(path, (0, 0))
    cache.trim()
    assert not [path for path in stale if path.exists()] and (folder / ".tmp-new.so").exists()


def test_verify_and_clear(tmp_path):
    cache = Cache(tmp_path)
    path = put(cache)
    cache.publish_object("ab12", b"object")
    assert cache.verify() == (2, [])
    path.write_bytes(path.read_bytes()[:-3])
    assert cache.verify() == (2, [path])
    assert cache.clear() == 1
    assert set(cache.stats().values()) == {(0, 0)}
    blocked = tmp_path / "objects"
    blocked.write_text("")
    with pytest.raises(InputError, match="cannot clear"):
        cache.clear()


WRITER = """
import sys
from jtc.compiler.cache import Cache
from jtc.compiler.keys import Key
cache = Cache(sys.argv[1])
for i in range(40):
    key = Key({"name": "f", "graph": str(i)})
    data = bytes([i]) * 5000
    if cache.program(key) is None:
        path = cache.publish_program(key, "f", lambda path: path.write_bytes(data) and None)
        assert path.read_bytes()[:5000] == data
    cache.publish_object(f"{i:04}", data)
    assert cache.object(f"{i:04}") == data
"""


def test_two_processes(tmp_path):
    children = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)],
                                 stderr=subprocess.PIPE) for _ in range(2)]
    for child in children:
        assert child.wait() == 0, child.stderr.read()
        child.stderr.close()
    assert Cache(tmp_path).verify() == (80, [])
    assert not [p for p in tmp_path.rglob(".tmp-*")]


def test_threads(tmp_path):
    cache = Cache(tmp_path)
    threads = [threading.Thread(target=put, args=(cache,)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert cache.verify() == (1, [])


def test_source_hash_is_remembered_by_date_and_size(tmp_path, monkeypatch):
    with knobs.use(cache_dir=tmp_path):
        first = keys._sources_hash()
        note = json.loads((tmp_path / "sources.json").read_text())
        assert note["hash"] == first
        note["hash"] = "remembered"
        (tmp_path / "sources.json").write_text(json.dumps(note))
        assert keys._sources_hash() == "remembered"
        note["stamp"] = "another"
        (tmp_path / "sources.json").write_text(json.dumps(note))
        assert keys._sources_hash() == first


def test_key_parts():
    assert KEY.digest == Key(dict(reversed(KEY.parts.items()))).digest
    assert KEY.digest != Key({**KEY.parts, "target": "t2"}).digest
    assert {"jtc", "mlir", "llvm"} == set(keys.versions())
