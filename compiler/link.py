"""Links objects, plan and weights into one shared object.

The module exports the kernels' functions, `jtc_plan` with `jtc_plan_size` (int64), and, where weights are embedded,
`jtc_weights` with `jtc_weights_size` (int64); data is 64-byte aligned.  Equal inputs give equal files.
"""
from __future__ import annotations

import errno
import os
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jtc.compiler.elf import ALIGN, Data, fill, write_object
from jtc.dialects.errors import InputError, InternalError
from jtc.dialects.family import Family
from jtc.runtime import processor

LINKERS = ("ld", "ld.bfd", "ld.gold", "ld.lld")
DRIVERS = ("cc", "gcc", "clang")            # compilers that can call their linker
CROSS = ("ld", "ld.bfd", "gcc")             # the same for another family, whose name stands before them
ANY = "ld.lld"                              # a linker for all families
_FLAGS = [
    "-shared",
    "--strip-all",              # drops local symbols; the exported ones are in the dynamic table
    "--build-id=none",
    "--hash-style=gnu",
    "-z", "noexecstack",
    "-z", "defs",               # a kernel that calls something is a bug: say so here, not at load time
]


def find_linker(family: Family) -> str | None:
    """Path of a linker for a family of processors, or of a compiler that calls one."""
    own = LINKERS + DRIVERS if family == processor.family() else ()
    cross = (family.binutils[0] + name for name in CROSS)
    return next(filter(None, map(shutil.which, (*own, *cross, ANY))), None)


def link(output: Path, objects: Mapping[str, bytes], plan: str,
         weights: Iterable[tuple[int, np.ndarray]] | None = None, weight_bytes: int = 0,
         family: Family | None = None) -> None:
    """Write the shared object.

    objects  name -> relocatable object, in the order of linking
    plan     JSON (see runtime/plan.py)
    weights  (offset, array) in rising order, or None to leave them out; weight_bytes is the size of the whole blob
    family   the processors that the objects are for; None: this machine's
    Raises InputError where no linker is found, OSError where the output cannot be written, InternalError where the
    objects do not link.
    """
    items = [Data("jtc_plan", plan.encode()), Data("jtc_plan_size", struct.pack("<q", len(plan.encode())))]
    if weights is not None:
        items.append(Data("jtc_weights_size", struct.pack("<q", weight_bytes)))
        items.append(Data("jtc_weights", bytes(ALIGN), last=True))      # of an empty section no symbol would remain
    with tempfile.TemporaryDirectory(prefix="jtc-link-") as folder:
        files = []
        for number, data in enumerate(objects.values()):
            files.append(Path(folder, f"{number}.o"))
            files[-1].write_bytes(data)
        files.append(Path(folder, "data.o"))
        family = family or processor.family()
        write_object(files[-1], items, family)
        _run(output, family, [*_FLAGS, "-o", str(output), *map(str, files)])
    if weights is not None and weight_bytes:
        fill(output, "jtc_weights", weight_bytes, ((at, _bytes(a)) for at, a in weights))


def link_relocatable(output: Path, objects: Sequence[bytes], family: Family | None = None) -> None:
    """Write one relocatable object that holds all of `objects`, for `family` (None: this machine's).

    Raises as `link`.
    """
    with tempfile.TemporaryDirectory(prefix="jtc-link-") as folder:
        files = []
        for number, data in enumerate(objects):
            files.append(Path(folder, f"{number}.o"))
            files[-1].write_bytes(data)
        _run(output, family or processor.family(), ["-r", "-o", str(output), *map(str, files)])


def _bytes(array: np.ndarray) -> memoryview:
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))       # type: ignore[arg-type]


def _run(output: Path, family: Family, arguments: list[str]) -> None:
    linker = find_linker(family)
    if linker is None:
        if family == processor.family():
            raise InputError("no linker found: a compiled module is linked with `ld`",
                             hint="install binutils or a C compiler (Debian, Ubuntu: apt install binutils)")
        raise InputError(f"no linker for {family} found: modules are linked with `{family.binutils[0]}ld` or `{ANY}`",
                         hint=f"install one (Debian, Ubuntu: apt install {family.binutils[1]})")
    if Path(linker).name.removeprefix(family.binutils[0]) in DRIVERS:
        arguments = ["-nostdlib", *_through_driver(arguments)]
    done = subprocess.run([linker, *arguments], capture_output=True, text=True, errors="replace")
    if done.returncode:
        text = (done.stderr or done.stdout).strip()
        first = next(iter(text.splitlines()), f"exit code {done.returncode}")
        full = {-signal.SIGXFSZ: errno.EFBIG}.get(done.returncode)
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
            full = number if os.strerror(number) in text else full
        if full:
            raise OSError(full, os.strerror(full), str(output))
        raise InternalError(f"the linker {linker} refuses the objects: {first}")


def _through_driver(arguments: list[str]) -> list[str]:
    """The linker's arguments as a compiler takes them."""
    plain = {"-shared", "-r", "-o"}
    result = []
    for argument in arguments:
        option = argument.startswith("-") and argument not in plain or argument in ("noexecstack", "defs")
        result.append(f"-Wl,{argument}" if option else argument)
    return result
