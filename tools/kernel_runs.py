"""Runs emitted kernels on arrays that end beside pages which may not be touched, in this process or emulated."""
from __future__ import annotations

import ctypes
import mmap
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jtc.compiler.cpu import lower
from jtc.compiler.cpu.emit import Emitted
from jtc.compiler.link import link
from jtc.dialects.dtypes import DTYPES, DType
from jtc.dialects.target import CpuTarget
from jtc.runtime import processor
from jtc.tools import emulated

PAGE = mmap.PAGESIZE
PATTERN = 0xA5


@dataclass(frozen=True)
class Run:
    """A kernel's code, compiled with an effort of LLVM, on ranges (begin, end) of its units."""

    emitted: Emitted
    optimize: int
    ranges: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Start:
    """What a buffer holds at the start, as one row.  at_end: whether it ends at a forbidden page, or starts at one."""

    content: np.ndarray
    dtype: DType
    at_end: bool = True


def execute(runs: Sequence[Run], buffers: Mapping[str, Start], target: CpuTarget) -> dict[str, np.ndarray]:
    """What the buffers hold after the runs.  Raises AssertionError where a kernel writes beside its memory."""
    if target.family == processor.family():
        return _execute_here(runs, buffers, target)
    order = {name: number for number, name in enumerate(buffers)}
    calls = [emulated.Call(run.emitted.symbol, [(order[name], 0) for name in run.emitted.operands],
                           run.emitted.workspace_bytes, run.ranges) for run in runs]
    memory = [(start.content, start.dtype.bytes if start.at_end else 0) for start in buffers.values()]
    with tempfile.TemporaryDirectory(prefix="jtc-kernels-") as folder:
        module = Path(folder, "kernels.so")
        link(module, {run.emitted.symbol: _object(run.emitted, target, run.optimize) for run in runs}, "{}",
             family=target.family)
        return dict(zip(buffers, emulated.run(module, target, memory, calls)))


def _object(emitted: Emitted, target: CpuTarget, optimize: int) -> bytes:
    return lower.to_object(lower.to_llvm(emitted.text, emitted.symbol, len(emitted.operands)), target, optimize)


# ------------------------------------------------------------------------------------------------ in this process
class Fenced:
    """An array at the end (or the start) of its pages, next to a page that may not be touched."""

    _libc = ctypes.CDLL(None, use_errno=True)

    def __init__(self, count: int, dtype: DType, at_end: bool, alignment: int = 1):
        bytes_ = count * dtype.bytes
        pages = max(1, -(-bytes_ // PAGE))
        self.map = mmap.mmap(-1, (pages + 2) * PAGE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.all = np.frombuffer(self.map, np.uint8)[PAGE:(pages + 1) * PAGE]
        self.all[:] = PATTERN
        self.start = (len(self.all) - bytes_) // alignment * alignment if at_end else 0
        self.array = self.all[self.start:self.start + bytes_].view(dtype.numpy)
        self.address = self.base + PAGE + self.start
        for page in (0, pages + 1):
            if self._libc.mprotect(ctypes.c_void_p(self.base + page * PAGE), PAGE, 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def intact(self) -> bool:
        """Whether nothing was written beside the array."""
        beside = np.concatenate([self.all[:self.start], self.all[self.start + self.array.nbytes:]])
        return bool(np.all(beside == PATTERN))


def _execute_here(runs: Sequence[Run], buffers: Mapping[str, Start], target: CpuTarget) -> dict[str, np.ndarray]:
    memory = {}
    for name, start in buffers.items():
        memory[name] = Fenced(start.content.size, start.dtype, start.at_end)
        memory[name].array[:] = start.content
    for run in runs:
        call = _loaded(run.emitted, target, run.optimize)
        for begin, end in run.ranges:
            workspace = Fenced(run.emitted.workspace_bytes, DTYPES["ui8"], True, 64)
            workspace.array[:] = 0xFF      # NaN, if it were read before it is written
            call([memory[name].address for name in run.emitted.operands], workspace.address, begin, end)
            if not workspace.intact():
                raise AssertionError(f"{run.emitted.symbol} writes beside its workspace")
    broken = [name for name, fenced in memory.items() if not fenced.intact()]
    if broken:
        raise AssertionError(f"written beside {', '.join(broken)}")
    return {name: fenced.array for name, fenced in memory.items()}


def _loaded(emitted: Emitted, target: CpuTarget, optimize: int) -> Callable[[Sequence[int], int, int, int], None]:
    """A callable (operand addresses, workspace address, begin, end) of the kernel's code in this process."""
    import llvmlite.binding as llvm
    code = _object(emitted, target, optimize)
    engine = llvm.create_lljit_compiler()           # after the code generators are there
    library = llvm.JITLibraryBuilder().add_object_img(code).export_symbol(emitted.symbol).link(engine, "kernels")
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    function = signature(library[emitted.symbol])

    def call(addresses: Sequence[int], workspace: int, begin: int, end: int) -> None:
        assert engine and library       # which keep the code alive
        function((ctypes.c_void_p * max(1, len(addresses)))(*addresses), workspace, begin, end)
    return call
