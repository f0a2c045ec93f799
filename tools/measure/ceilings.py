"""What this machine can do at most: multiply-adds in registers, and bytes from each level of the memory.

Two small kernels in MLIR, compiled and launched as every other kernel of jtc is:

* `fma`: independent chains of fused multiply-adds on vector registers, which read nothing
* `read` and `copy`: sums of a block of memory, and copies of it, over and over; the block's size decides which level it
  comes from

One unit of work is one block, so that threads have blocks of their own.
"""
from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jtc.compiler import codegen
from jtc.compiler.driver import settings_for
from jtc.compiler.link import link
from jtc.compiler.phases import Code, Settings
from jtc.dialects.dtypes import DTYPES
from jtc.runtime import knobs
from jtc.runtime.module import Module, load_module, to_buffer
from jtc.runtime.plan import BufferPlan, LaunchPlan, Plan
from jtc.tools.measure.machine import Machine

CHAINS = 12                 # hides 4-5 cycles of latency on two units, and fits 16 registers beside the operands
STEPS = 20_000              # multiply-adds of one chain in one unit
VECTORS = 8                 # loaded per step of `read` and `copy`
CACHED = 16 << 20           # bytes that one unit reads of a block in a cache, in so many passes as that takes
SHARE = 0.5                 # of a cache: the block that surely stays in it, besides what else is there
MEMORY = 4                  # times the last cache: what surely does not
LARGEST = 512 << 20         # bytes of blocks in memory at most, over all threads


@dataclass(frozen=True)
class Ceiling:
    """Bytes per second from one level: only read, and read and written; block: bytes of each thread's."""

    level: str
    read: float
    copy: float
    block: int

    @property
    def best(self) -> float:
        return max(self.read, self.copy)


@dataclass(frozen=True)
class Ceilings:
    """The ceilings with one number of threads.

    fma        operations per second, a multiply-add counted as two, by element type (IR name)
    bandwidth  by level, nearest first; levels that the operating system does not tell the size of are missing
    """

    threads: int
    fma: dict[str, float]
    bandwidth: dict[str, Ceiling] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def blocks(machine: Machine, threads: int) -> dict[str, int]:
    """Level -> bytes of the block of each thread, so that it lies in that level and in none nearer.

    `copy` takes a second block of the size for what it writes, so a cache holds two.
    """
    found = {"L1": int(machine.l1 * SHARE), "L2": int(machine.l2 * SHARE)}
    third = int(machine.l3 * SHARE) // threads
    if third >= 2 * machine.l2:
        found["L3"] = min(third, 4 * machine.l2)
    far = MEMORY * max(machine.l3, machine.l2 * threads, 16 << 20)
    found["DRAM"] = min(far, LARGEST, machine.memory // 8) // threads
    return {level: size for level, size in found.items() if size}


def measure(machine: Machine, threads: Sequence[int], seconds: float = 0.3, sizes: dict[str, int] | None = None
            ) -> list[Ceilings]:
    """The ceilings with each number of threads; every one is the best of the runs within `seconds`.

    sizes: blocks by level instead of those of `blocks`
    """
    settings, found = settings_for("cpu"), []
    with tempfile.TemporaryDirectory(prefix="jtc-ceilings-") as name:
        folder = Path(name)
        for count in threads:
            with knobs.use(threads=count):
                fma = {dtype: _best(_fma(dtype, count, settings, folder), seconds) for dtype in ("f32", "f64")}
                made = {}
                for level, size in (sizes or blocks(machine, count)).items():
                    once = level == "DRAM"
                    read, copy = (_stream(kind, part, count, once, settings, folder)
                                  for kind, part in (("read", size), ("copy", size // 2)))
                    made[level] = Ceiling(level, _best(read, seconds), _best(copy, seconds), size)
            found.append(Ceilings(count, fma, made))
    return found


def _best(subject: tuple[Module, list[np.ndarray], float], seconds: float) -> float:
    """Most work per second of a module of one launch, over the runs within a slice of time."""
    module, arrays, work = subject
    buffers = [to_buffer(a, copy=True) for a in arrays]
    module.profile(*buffers)
    best, end = 0.0, time.perf_counter() + seconds
    while not best or time.perf_counter() < end:
        best = max(best, work / sum(module.profile(*buffers)))
    return best


def _fma(dtype: str, threads: int, settings: Settings, folder: Path) -> tuple[Module, list[np.ndarray], float]:
    lanes = settings.target.vector_bits // DTYPES[dtype].bits
    fused = settings.target.has(settings.target.family.fused)
    units, kind = 8 * threads, f"vector<{lanes}x{dtype}>"
    chains = range(CHAINS)
    step = [f"%p{i} = math.fma %x0, %x1, %a{i} : {kind}" if fused else
            f"%m{i} = arith.mulf %x0, %x1 : {kind}\n      %p{i} = arith.addf %m{i}, %a{i} : {kind}" for i in chains]
    text = _loop("fma", [(2 * lanes, dtype), (units * lanes, dtype)], f"""
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %lanes = arith.constant {lanes} : index
    %steps = arith.constant {STEPS} : index
    %x0 = vector.load %b0[%c0] : memref<{2 * lanes}x{dtype}>, {kind}
    %x1 = vector.load %b0[%lanes] : memref<{2 * lanes}x{dtype}>, {kind}
    {_chains("%i", "%c0", "%steps", "%c1", kind, CHAINS, ["%x0"] * CHAINS, step)}
    %place = arith.muli %unit, %lanes : index
    vector.store %sum, %b1[%place] : memref<{units * lanes}x{dtype}>, {kind}""")
    work = 2.0 * units * STEPS * CHAINS * lanes
    code = Code("fma", 2, text)
    array = np.full(2 * lanes, 0.5, DTYPES[dtype].numpy)
    return _module(code, [array], (units * lanes, dtype), units, int(work), 0, settings, folder), [array], work


def _stream(kind: str, size: int, threads: int, once: bool, settings: Settings, folder: Path
            ) -> tuple[Module, list[np.ndarray], float]:
    """Read, or copy, blocks of `size` bytes; once: each block once, as it comes from memory."""
    lanes = settings.target.vector_bits // 32
    step = lanes * VECTORS
    length = max(step, size // 4 // step * step)
    units = threads if once or length * 4 > 1 << 20 else 8 * threads
    passes = 1 if once else max(1, CACHED // (length * 4))
    vector, reading = f"vector<{lanes}xf32>", kind == "read"
    shared = f"memref<{units * length}xf32>"
    written = units * lanes if reading else units * length
    head = f"""
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %lanes = arith.constant {lanes} : index
    %step = arith.constant {step} : index
    %length = arith.constant {length} : index
    %passes = arith.constant {passes} : index
    %from = arith.muli %unit, %length : index
    %to = arith.addi %from, %length : index"""
    places = [f"%k{i} = arith.constant {i * lanes} : index\n      %q{i} = arith.addi %i, %k{i} : index\n"
              f"      %v{i} = vector.load %b0[%q{i}] : {shared}, {vector}" for i in range(VECTORS)]
    if reading:
        adds = [f"{place}\n      %p{i} = arith.addf %a{i}, %v{i} : {vector}" for i, place in enumerate(places)]
        body = f"""
    %zero = arith.constant dense<0.0> : {vector}
    %total = scf.for %pass = %c0 to %passes step %c1 iter_args(%before = %zero) -> ({vector}) {{
    {_chains("%i", "%from", "%to", "%step", vector, VECTORS, ["%before", *["%zero"] * (VECTORS - 1)], adds)}
    scf.yield %sum : {vector}
    }}
    %place = arith.muli %unit, %lanes : index
    vector.store %total, %b1[%place] : memref<{written}xf32>, {vector}"""
    else:
        stores = [f"{place}\n      vector.store %v{i}, %b1[%q{i}] : {shared}, {vector}"
                  for i, place in enumerate(places)]
        body = "\n    scf.for %pass = %c0 to %passes step %c1 {\n    scf.for %i = %from to %to step %step {\n      " + \
            "\n      ".join(stores) + "\n    }\n    }"
    text = _loop(kind, [(units * length, "f32"), (written, "f32")], head + body)
    moved = 4.0 * units * length * passes * (1 if reading else 2)
    array = np.ones(units * length, np.float32)
    module = _module(Code(kind, 2, text), [array], (written, "f32"), units, 0, int(moved), settings, folder)
    return module, [array], moved


def _loop(name: str, buffers: Sequence[tuple[int, str]], body: str) -> str:
    """A kernel function with a loop over its units."""
    arguments = ", ".join(f"%b{i}: memref<{size}x{dtype}>" for i, (size, dtype) in enumerate(buffers))
    return f"""func.func @{name}({arguments}, %workspace: memref<1xi8>, %begin: index, %end: index) {{
  %one = arith.constant 1 : index
  scf.for %unit = %begin to %end step %one {{{body}
  }}
  return
}}
"""


def _chains(index: str, low: str, high: str, step: str, kind: str, count: int, first: Sequence[str],
            body: Sequence[str]) -> str:
    """A loop that carries `count` vectors %a0... to %p0..., and their %sum."""
    carried = ", ".join(f"%a{i} = {value}" for i, value in enumerate(first))
    types, inner = ", ".join([kind] * count), "\n      ".join(body)
    sums = [f"%s{i} = arith.addf {f'%s{i - 1}' if i > 1 else '%r#0'}, %r#{i} : {kind}" for i in range(1, count)]
    sums[-1] = sums[-1].replace(f"%s{count - 1} =", "%sum =")
    return f"""%r:{count} = scf.for {index} = {low} to {high} step {step} iter_args({carried}) -> ({types}) {{
      {inner}
      scf.yield {", ".join(f"%p{i}" for i in range(count))} : {types}
    }}
    """ + "\n    ".join(sums)


def _module(code: Code, inputs: Sequence[np.ndarray], output: tuple[int, str], units: int, flops: int, moved: int,
            settings: Settings, folder: Path) -> Module:
    """A module of one launch of a kernel that reads the inputs and writes one buffer."""
    names = {np.dtype(d.numpy): d.name for d in DTYPES.values()}
    rows = [BufferPlan(f"x{i}", names[a.dtype], [a.size], a.nbytes, "input", i) for i, a in enumerate(inputs)]
    size, dtype = output
    rows.append(BufferPlan("out", dtype, [size], size * DTYPES[dtype].bytes, "output", 0))
    launch = LaunchPlan(code.symbol, code.symbol, list(range(len(rows))), units, 0, 0, flops, moved)
    plan = Plan(code.symbol, list(range(len(inputs))), [len(inputs)], [r.name for r in rows[:-1]], ["out"], rows, [],
                [], [launch], target=settings.target.name, features=settings.target.features)
    compiled = codegen.to_object(codegen.to_llvm(code, settings), settings)
    path = Path(tempfile.mkdtemp(dir=folder)) / f"{code.symbol}.so"
    link(path, {code.symbol: bytes(compiled.data)}, plan.to_json())        # type: ignore[arg-type]
    return load_module(path)
