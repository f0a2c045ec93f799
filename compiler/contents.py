"""What a compiled module depends on: its program, or a file whose program is known, the target and the knobs.

Nothing here imports MLIR or LLVM: finding a hit must not.
"""
from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jtc.compiler import cache as cache_module
from jtc.compiler.keys import Key, arrays_hash, file_hash, text_hash, versions
from jtc.compiler.sealed import Damaged
from jtc.compiler.tuning import store
from jtc.dialects.errors import InputError
from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Program
from jtc.dialects.target import CpuTarget
from jtc.runtime import knobs

log = logging.getLogger("jtc")


def contents(program: Graph | Program, embed: bool, tree: str | None = None) -> dict[str, str]:
    """The parts of a key that come from the program.  With `embed`, also the contents of the weights."""
    from jtc.dialects.text import graph_text, program_text
    if isinstance(program, Graph):
        text, types = graph_text(program, locations=False), [n.type for n in program.inputs]
    else:
        text, types = program_text(program, locations=False), [program.buffers[n] for n in program.inputs]
    return {
        "graph": text_hash(text),
        "name": program.name,
        "inputs": ", ".join(map(str, types)) if len(types) < 8 else f"{len(types)} tensors",
        "interface": text_hash(repr((program.input_names, program.output_names, tree))),
        "weights": arrays_hash(weight_arrays(program)) if embed else "outside",
    }


def key_of(parts: Mapping[str, str], target: CpuTarget) -> Key:
    """The key of a program with these `contents`, with the knobs that hold here."""
    options = knobs.key()
    options.pop("target", None)                      # it chose `target`, which is a part of its own
    return Key({**parts, "target": repr(target), "knobs": repr(sorted(options.items())),
                "schedules": store.stamp(target), **versions()})


def weight_arrays(program: Graph | Program) -> dict[str, Any]:
    """Name -> array of the weights.  Raises InputError where one has no value."""
    if isinstance(program, Graph):
        found = {n.attrs["value"].name: n.data for n in program.constants()}
    else:
        found = {n: v for n, v in program.constants.items() if not isinstance(v, (bool, int, float))}
    for name, value in found.items():
        if value is None:
            raise InputError(f"{program.name}: the weights {name!r} have no values",
                             hint="text holds their names only: compile the .jtc, or with --no-weights "
                                  "(embed=False) and bind")
    return found


class FileNote:
    """What the cache knows of a file, by the bytes that it has when this is made."""

    def __init__(self, path: Path, phase: str | None, embed: bool):
        self.path, self.digest = path, ""
        self.cache = cache_module.current()
        if self.cache.mode == "off":
            return
        try:
            self._state = _state(path)
            parts = {"file": file_hash(path), "kind": path.suffix, "phase": phase or "", "embed": str(embed)}
            self.digest = Key({**parts, **versions()}).digest
        except (OSError, Damaged):
            pass                            # whoever reads the file says what is wrong with it

    def contents(self) -> dict[str, str] | None:
        """The parts of keys that come from the program in the file; None where they are not known."""
        found = self.cache.contents(self.digest) if self.digest else None
        if found is None:
            log.info("cache: the contents of %s are not known yet", self.path)
        return found

    def publish(self, contents: Mapping[str, str]) -> None:
        """Note them, unless the file has changed meanwhile."""
        try:
            if self.digest and self._state == _state(self.path):
                self.cache.publish_contents(self.digest, contents)
        except OSError:
            pass


def _state(path: Path) -> tuple[int, ...]:
    info = path.stat()
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
