"""The schedules that were measured on this machine: kept in the cache, used by every compilation, exported, imported.

There is one entry for each processor, number of threads, set of knobs that decide which schedules are allowed, and
version of jtc, MLIR and LLVM: what is measured under one says nothing of another.  It holds, for every kernel that was
tuned (by its identity, see passes/kernel/choice.py), the candidates that were taken, or that the default is best.
Nothing here imports MLIR or LLVM: the key of a compiled module asks for `stamp`.
"""
from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jtc.compiler import cache as cache_module
from jtc.compiler.keys import Key, text_hash, versions
from jtc.dialects.errors import InputError, UsageError
from jtc.dialects.target import CpuTarget
from jtc.runtime import knobs, processor

if TYPE_CHECKING:
    from jtc.passes.kernel.choice import Choice

log = logging.getLogger("jtc")
FORMAT, VERSION = "jtc-schedules", 1


@dataclass(frozen=True)
class Tuned:
    """What was found for one kernel.

    kernel, program  its name where it was tuned, for people;  tried: how many schedules were measured
    choice           None where the default is best
    """

    kernel: str
    program: str
    tried: int
    choice: Choice | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Tuned:
        """Raises KeyError, TypeError, ValueError where it is not one."""
        choice = data["choice"]
        return Tuned(str(data["kernel"]), str(data["program"]), int(data["tried"]), choice and _choice(choice))


def _choice(data: Mapping[str, Any]) -> Choice:
    from jtc.dialects.kernel import Fetch, Pack, Schedule
    from jtc.passes.kernel.choice import Choice
    from jtc.passes.kernel.rules.common import Candidate, Copy

    def candidate(row: Mapping[str, Any]) -> Candidate:
        fields = {name: _tuples(value) for name, value in row["schedule"].items()
                  if name not in ("packs", "fetches")}
        packs = tuple(Pack(p["read"], _tuples(p["inside"]), _tuples(p["order"]), p["pad"])
                      for p in row["schedule"]["packs"])
        fetches = tuple(Fetch(**fetch) for fetch in row["schedule"]["fetches"])
        copies = tuple(Copy(c["read"], _tuples(c["order"]), c["pad"]) for c in row["copies"])
        return Candidate(float(row["cost"]), Schedule(**fields, packs=packs, fetches=fetches), copies)
    return Choice(tuple(row and candidate(row) for row in data["stages"]), float(data["gain"]))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@dataclass
class Store(Mapping[str, "Choice"]):
    """The entry under one key, read when it is asked for: identity of a kernel -> its Choice, where it has one.

    parts  what the key is made of
    """

    parts: Mapping[str, str]
    cache: cache_module.Cache = field(default_factory=cache_module.current)

    @property
    def digest(self) -> str:
        return Key(self.parts).digest

    @cached_property
    def _data(self) -> bytes | None:
        return self.cache.schedules(self.digest)

    @property
    def stamp(self) -> str:
        """A hash of all that is in it; "none" where there is nothing."""
        return "none" if self._data is None else text_hash(self._data)

    @cached_property
    def tuned(self) -> dict[str, Tuned]:
        """All kernels that were tuned, by identity."""
        return {} if self._data is None else _read(self._data, str(self.cache.root))[0].kernels

    def __getitem__(self, identity: str) -> Choice:
        found = self.tuned[identity].choice
        if found is None:
            raise KeyError(identity)
        return found

    def __iter__(self) -> Iterator[str]:
        return (identity for identity, found in self.tuned.items() if found.choice is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def keep(self, found: Mapping[str, Tuned]) -> bool:
        """Add to what is there, or replace it, for these kernels; returns whether it could be written."""
        def merge(data: bytes | None) -> bytes:
            kernels = {} if data is None else _read(data, str(self.cache.root))[0].kernels
            return _text([Machine(dict(self.parts), {**kernels, **found})]).encode()
        self.__dict__.pop("_data", None)
        self.__dict__.pop("tuned", None)
        return self.cache.publish_schedules(self.digest, merge)


def parts_for(target: CpuTarget) -> dict[str, str]:
    """What measurements for this target depend on, with the knobs that hold here."""
    conditions = {name: str(knobs.get(name)) for name in ("threads", "strict", "optimize")}
    return {"processor": processor.name(), "target": repr(target), **conditions, **versions()}


def stored(target: CpuTarget) -> Store:
    """What is known for this target, with the knobs that hold here."""
    return Store(parts_for(target))


def stamp(target: CpuTarget) -> str:
    """What a compiled module depends on besides its program: the schedules that it may have taken."""
    return stored(target).stamp if knobs.get("schedules") == "tuned" else "default"


def used(target: CpuTarget) -> Mapping[str, Choice]:
    """Identity of a kernel -> the schedules that a compilation takes."""
    return stored(target) if knobs.get("schedules") == "tuned" else {}


# ---------------------------------------------------------------------------------------------------------- files
@dataclass
class Machine:
    """One entry as a file has it: the parts of its key, and its kernels."""

    parts: dict[str, str]
    kernels: dict[str, Tuned]


def _text(machines: Iterable[Machine]) -> str:
    rows = [{"parts": m.parts, "kernels": {identity: t.to_json() for identity, t in sorted(m.kernels.items())}}
            for m in machines]
    return json.dumps({"format": FORMAT, "version": VERSION, "machines": rows}, indent=1) + "\n"


def _read(data: bytes, source: str) -> list[Machine]:
    """Raises InputError for what is not such a file."""
    try:
        found = json.loads(data)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InputError(f"{source}: this is not a file of tuned schedules",
                             hint="`jtc tune --export FILE` writes them")
        if found["version"] != VERSION:
            raise InputError(f"{source}: format {found['version']!r} of tuned schedules, this jtc reads {VERSION}",
                             hint="update jtc")
        return [Machine({str(k): str(v) for k, v in m["parts"].items()},
                        {str(k): Tuned.from_json(t) for k, t in m["kernels"].items()}) for m in found["machines"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}: the file of tuned schedules is damaged: {type(error).__name__} {error}") from None


def export(path: Path) -> int:
    """Write all that the cache has, for any machine, to a file; returns how many kernels.  Raises InputError."""
    from jtc.compiler.sealed import replacing
    cache = cache_module.current()
    machines = [machine for data in cache.all_schedules() for machine in _read(data, str(cache.root))]
    try:
        with replacing(path) as new:
            new.write_text(_text(machines))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    return sum(len(m.kernels) for m in machines)


def take_in(path: Path, target: CpuTarget) -> tuple[int, int]:
    """Add the kernels of an exported file to the cache: (how many, how many of them count for this target here).

    Raises InputError where it is not such a file, UsageError where the cache cannot be written.
    """
    try:
        machines = _read(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    here = parts_for(target)
    for machine in machines:
        if not Store(machine.parts).keep(machine.kernels):
            raise unkept()
    return sum(len(m.kernels) for m in machines), sum(len(m.kernels) for m in machines if m.parts == here)


def unkept() -> UsageError:
    """The error where schedules would be lost."""
    cache = cache_module.current()
    return UsageError(f"the cache {cache.root} is {cache.mode}: tuned schedules cannot be kept",
                      hint="JTC_CACHE=on, or another JTC_CACHE_DIR")
