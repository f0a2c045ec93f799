"""Runs compiled modules in QEMU's user-mode emulator: those for processors that this machine is not, and those for
fewer instructions than it has, which an emulated processor refuses.

    run(module, target, buffers, calls)      functions of a shared object, each on ranges of its units
    run_module(module, target, inputs)       a whole module, as its plan says

Needs qemu-user and a C compiler for the family (Debian: `apt install qemu-user gcc-aarch64-linux-gnu`).  A small
program, emulated.c, loads the module, so the system's loader sees it as it would on the machine itself.
"""
from __future__ import annotations

import functools
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jtc.dialects.dtypes import DTYPES
from jtc.dialects.errors import InputError
from jtc.dialects.family import Family
from jtc.dialects.target import CpuTarget
from jtc.runtime import processor
from jtc.runtime.elf import SharedObject
from jtc.runtime.module import plan_of
from jtc.runtime.plan import LaunchPlan

DRIVER = Path(__file__).with_name("emulated.c")
# QEMU's processor that has the instructions of a target, and no newer ones that compilers use.
MODELS = {"x86-64": "Opteron_G1,-pni", "x86-64-v2": "Nehalem", "x86-64-v3": "Haswell", "aarch64": "cortex-a53",
          "aarch64-v8.2": "neoverse-n1", "aarch64-v8.6": "max"}


@dataclass(frozen=True)
class Call:
    """Calls of a function.  operands: (number of the buffer, offset in bytes);  ranges: (begin, end) of units."""

    symbol: str
    operands: Sequence[tuple[int, int]]
    workspace: int
    ranges: Sequence[tuple[int, int]]


def missing(target: CpuTarget) -> str | None:
    """What this machine lacks to emulate a target, or None."""
    if target.name not in MODELS:
        return f"a model of {target.name} in QEMU"
    if shutil.which(_emulator(target.family)) is None:
        return f"{_emulator(target.family)} (apt install qemu-user)"
    if _compiler(target.family) is None:
        return f"a C compiler for {target.family} (apt install gcc-{target.family.binutils[0].rstrip('-')})"
    return None


def _emulator(family: Family) -> str:
    return f"qemu-{family.uname}"


def _compiler(family: Family) -> str | None:
    own = ("cc", "gcc") if family == processor.family() else ()
    return next(filter(None, map(shutil.which, (*own, family.binutils[0] + "gcc"))), None)


@functools.cache
def _driver(family: Family) -> tuple[tempfile.TemporaryDirectory[str], list[str]]:
    """The folder that holds the compiled program, and the command that runs it, without the model of the processor."""
    compiler = _compiler(family)
    assert compiler is not None
    folder = tempfile.TemporaryDirectory(prefix="jtc-emulated-")
    program = Path(folder.name, "driver")
    subprocess.run([compiler, "-O1", "-Wall", "-Wextra", "-o", str(program), str(DRIVER), "-ldl"], check=True)
    found = subprocess.run([compiler, "-print-file-name=libc.so.6"], check=True, capture_output=True, text=True)
    root = Path(found.stdout.strip()).resolve().parent.parent
    return folder, [_emulator(family), "-L", str(root), str(program)]


def run(module: Path, target: CpuTarget, buffers: Sequence[tuple[np.ndarray, int]], calls: Sequence[Call]
        ) -> list[np.ndarray]:
    """The contents of the buffers after the calls.

    buffers  (content, alignment of its start; 0: it starts right behind a page that may not be touched)
    Raises InputError where a tool is missing, AssertionError where a function writes beside its memory or crashes.
    """
    lacks = missing(target)
    if lacks:
        raise InputError(f"cannot emulate {target.name}: this machine lacks {lacks}")
    folder, (emulator, *rest) = _driver(target.family)
    job = [_numbers(len(buffers))]
    for content, alignment in buffers:
        job += [_numbers(content.nbytes, alignment), content.tobytes()]
    job.append(_numbers(len(calls)))
    for call in calls:
        name = call.symbol.encode()
        job += [_numbers(len(name)), name,
                _numbers(len(call.operands), *(n for pair in call.operands for n in pair), call.workspace,
                         len(call.ranges), *(n for pair in call.ranges for n in pair))]
    done = subprocess.run([emulator, "-cpu", MODELS[target.name], *rest, str(module.resolve())], input=b"".join(job),
                          capture_output=True, cwd=folder.name)         # QEMU leaves a dump of memory after a crash
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise AssertionError(f"on {target.name}: {said or 'nothing said'} (code {done.returncode})")
    results, at = [], 0
    for content, _ in buffers:
        results.append(np.frombuffer(done.stdout, content.dtype, content.size, at).reshape(content.shape).copy())
        at += content.nbytes
    return results


def _numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def run_module(path: Path, target: CpuTarget, inputs: Sequence[np.ndarray], parts: int = 3) -> list[np.ndarray]:
    """The outputs of a module with embedded weights; every launch runs in up to `parts` ranges.  Raises as `run`."""
    file = SharedObject(path)
    plan = plan_of(file)
    weights = file.read("jtc_weights", plan.weight_bytes)
    blocks: list[np.ndarray] = []           # one for each input, output and constant, one for each kind of the others
    places: list[tuple[int, int]] = []      # (block, offset) of each buffer of the plan
    shared: dict[str, int] = {}
    sizes = {"arena": plan.arena_bytes, "own": plan.own_bytes, "prepared": plan.prepared_bytes,
             "scratch": plan.scratch_bytes}
    given = dict(zip(plan.inputs, inputs, strict=True))
    constants = {c.buffer: c for c in plan.constants}
    for number, row in enumerate(plan.buffers):
        if row.kind in sizes:
            if row.kind not in shared:
                shared[row.kind] = len(blocks)
                blocks.append(np.full(sizes[row.kind], 0xFF, np.uint8))
            places.append((shared[row.kind], row.place))
            continue
        content = np.empty(row.shape, DTYPES[row.dtype].numpy)
        if number in given:
            content[...] = given[number]
        elif number in constants:
            constant = constants[number]
            content[...] = constant.splat if constant.splat is not None else np.frombuffer(
                weights, content.dtype, content.size, constant.offset).reshape(content.shape)
        places.append((len(blocks), 0))
        blocks.append(content)
    calls = [_call(launch, places, parts) for launch in plan.prepare + plan.launches]
    results = run(path, target, [(block, 64) for block in blocks], calls)
    return [results[places[number][0]] for number in plan.outputs]


def _call(launch: LaunchPlan, places: Sequence[tuple[int, int]], parts: int) -> Call:
    offsets = launch.offsets or [0] * len(launch.operands)
    operands = [(places[i][0], places[i][1] + offset) for i, offset in zip(launch.operands, offsets)]
    cuts = sorted({launch.units * part // parts for part in range(parts + 1)})
    return Call(launch.symbol, operands, launch.workspace, list(zip(cuts, cuts[1:])))
