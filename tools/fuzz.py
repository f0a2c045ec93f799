"""`jtc fuzz`: random kernels under random legal schedules, compiled, run, and compared with NumPy in double precision.

Every buffer ends at (or starts after) a page that may not be touched, and unused bytes hold a pattern that is checked,
so that an access out of bounds stops the run.  Cases run in a child process; a crash is reported with its case and the
next one goes on.  `jtc fuzz --case N` repeats one case and prints its program.
"""
from __future__ import annotations

import argparse
import faulthandler
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jtc.compiler.cpu import machine
from jtc.compiler.cpu.emit import Emitted, emit
from jtc.compiler.cpu.nest import schedule_of
from jtc.dialects.dtypes import BOOL, DType
from jtc.dialects.errors import InputError
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import PAIR, Kernel, Pack, Program, Schedule, Stage
from jtc.dialects.reference import run_kernel
from jtc.dialects.target import CpuTarget
from jtc.passes.base import PassError
from jtc.passes.kernel import legality
from jtc.passes.kernel.kernel_schedule import KernelSchedule
from jtc.passes.kernel.kernel_widen import KernelWiden
from jtc.passes.kernel.packing import hoist
from jtc.passes.kernel.schedule_pass import scalar_schedule
from jtc.runtime import processor
from jtc.tools import emulated
from jtc.tools.kernel_runs import Run, Start, execute
from jtc.tools.random_kernels import Case, random_case

TARGETS = ("native", "native", "native", "x86-64-v4", "x86-64-v3", "x86-64")
BATCH = 200             # cases of one child process
TOLERANCE = {"f64": 1e-11, "f32": 2e-5, "f16": 2.0 ** -10, "bf16": 2.0 ** -7}     # 16 bits: one in the last place


# ------------------------------------------------------------------------------------------------ schedules
def random_schedule(rng: random.Random, stage: Stage, kernel: Kernel, program: Program, target: CpuTarget) -> Schedule:
    """A legal schedule: the most daring of some random ones, or scalar code."""
    for _ in range(60):
        candidate = _propose(rng, stage, kernel)
        paired = _in_pairs(rng, stage, candidate)
        for schedule in (replace(paired, matrix=True), paired, candidate) if paired is not None else (candidate,):
            if legality.is_legal(replace(stage, schedule=schedule), kernel, program, target):
                return schedule
    return scalar_schedule(stage)


def _in_pairs(rng: random.Random, stage: Stage, schedule: Schedule) -> Schedule | None:
    """The schedule with pairs of a reduction axis multiplied at once, for what may be a product of 16-bit floats."""
    factors, vector = stage.factors(), schedule.vector
    if factors is None or not stage.reads[factors[0]].dtype.is_half or vector not in stage.parallel:
        return None
    longest = max(stage.reductions, key=lambda a: stage.sizes[a])
    axis = rng.choice([*stage.reductions, longest])         # which may fill whole blocks of a matrix unit
    loops = tuple((a, -(-step // PAIR) * PAIR if a == axis else step) for a, step in schedule.loops)
    packs = []
    for number in factors:
        rest = [a for a in stage.reads[number].flat.axes if a not in (vector, axis)]
        rng.shuffle(rest)
        inside = rng.choice(loops)
        if vector in stage.reads[number].axes:
            packs.append(Pack(number, inside, (vector + "//", *rest, axis + "//", vector + "%", axis + "%")))
        elif rng.random() < 0.7:
            packs.append(Pack(number, inside, (*rest, axis), rng.choice((0, 3))))
    reduction = (*(a for a in schedule.reduction if a != axis), axis)
    return replace(schedule, loops=loops, packs=tuple(packs), reduction=reduction, prefetch=(), tree=(), dot=axis)


def _propose(rng: random.Random, stage: Stage, kernel: Kernel) -> Schedule:
    single = {a.name for a, block in kernel.shared if block == 1}
    reach = legality.extents(stage, kernel)
    free = [a for a in stage.sizes if a not in single]
    vector = rng.choice([*free, *free, ""]) if free else ""
    lanes = rng.choice((4, 8, 16, 16)) if vector else 1
    chains = []
    for axis in free:
        steps = []
        if axis in stage.parallel and rng.random() < 0.7 or rng.random() < 0.3:
            steps = [rng.choice((1, 2, 3, 4, 6))]
        if axis == vector:
            steps = [lanes * rng.choice((1, 1, 2, 3))] if axis in stage.parallel else []
        if steps and rng.random() < 0.4:
            steps.insert(0, steps[0] * rng.choice((2, 3, 4)))
        chains.append([(axis, s) for s in steps if s <= max(reach[axis], steps[-1])])
    loops = []
    while any(chains):
        chain = rng.choice([c for c in chains if c])
        loops.append(chain.pop(0))
    reduction = list(stage.reductions)
    if not stage.accumulate:
        rng.shuffle(reduction)
    if vector in reduction:
        reduction.remove(vector)
        reduction.append(vector)
    unroll = tuple((a, rng.choice((1, 2, 3, 4, 8))) for a in reduction if rng.random() < 0.5)
    tree = tuple((a, rng.choice((1, 2, 5)) * (lanes if a == vector else 1)) for a in reduction if rng.random() < 0.3)
    schedule = Schedule(vector, lanes, tuple(loops), tuple(reduction), unroll, tree=tree)
    parallel = [a for a in stage.parallel if a in free]
    packs = _packs(rng, stage, schedule)
    panels = [p.read for p in packs if vector and vector + "//" in p.order]
    return replace(schedule, packs=packs, threads=rng.randrange(4) if not kernel.shared else 0,
                   split=tuple(a for a in parallel if rng.random() < 0.3), stream=rng.random() < 0.2,
                   prefetch=tuple(number for number in panels if rng.random() < 0.5))


def _order(rng: random.Random, stage: Stage, number: int, tiled: Sequence[str]) -> tuple[str, ...]:
    """A random order of a pack: whole axes, or tile numbers before places."""
    items = [a for a in stage.reads[number].flat.axes]
    rng.shuffle(items)
    order: list[str] = []
    for axis in items:
        if axis in tiled and rng.random() < 0.6:
            order.append(axis + "//")
        else:
            order.append(axis)
    for item in [o for o in order if o.endswith("//")]:
        order.insert(rng.randrange(order.index(item) + 1, len(order) + 1), item[:-2] + "%")
    return tuple(order)


def _packs(rng: random.Random, stage: Stage, schedule: Schedule) -> tuple[Pack, ...]:
    packs = []
    tiled = [a for a, _ in schedule.loops if a in stage.parallel]
    for number in range(len(stage.reads)):
        if schedule.loops and rng.random() < 0.25:
            order = _order(rng, stage, number, tiled)
            packs.append(Pack(number, rng.choice(schedule.loops), order, rng.choice((0, 0, 3, 16))))
    return tuple(packs)


def schedule_case(rng: random.Random, case: Case, target: CpuTarget) -> Program:
    """The case's program with random schedules, or with the default ones; sometimes with an operand packed ahead."""
    program = KernelWiden().run(case.program)
    if rng.random() < 0.2:
        return KernelSchedule(target=target).run(program)
    kernel, = program.kernels
    for position in range(len(kernel.stages)):
        stage = kernel.stages[position]
        scheduled = replace(stage, schedule=random_schedule(rng, stage, kernel, program, target))
        kernel = replace(kernel, stages=tuple(scheduled if s is stage else s for s in kernel.stages))
    program = replace(program, kernels=[kernel])
    stage = kernel.stages[0]
    if stage.reads and not schedule_of(stage).packs and rng.random() < 0.4:
        try:
            program = _ahead(rng, program, kernel, stage, target)
        except PassError:
            pass        # not every read can be copied ahead
    return program


def _ahead(rng: random.Random, program: Program, kernel: Kernel, stage: Stage, target: CpuTarget) -> Program:
    number = rng.randrange(len(stage.reads))
    tiled = [a for a, _ in schedule_of(stage).loops if a in stage.parallel]
    order = _order(rng, stage, number, tiled) if rng.random() < 0.7 else \
        tuple(map(str, rng.sample(range(len(stage.reads[number].shape)), len(stage.reads[number].shape))))
    hoisted, new_kernel, new_stage = hoist(program, kernel, stage, number, order, rng.choice((0, 0, 5)))
    legality.check(new_stage, new_kernel, hoisted, target)
    kernels = []
    for k in hoisted.kernels:
        stages = tuple(s if s.schedule is not None else replace(s, schedule=random_schedule(rng, s, k, hoisted, target))
                       for s in k.stages)
        kernels.append(replace(k, stages=stages))
    return replace(hoisted, kernels=kernels)


# ------------------------------------------------------------------------------------------------ running
def fill(rng: np.random.Generator, type: TensorType, bounds: tuple[int, int] | None, nan: bool) -> np.ndarray:
    """Small integers; indices within bounds."""
    if bounds is not None:
        return rng.integers(bounds[0], max(bounds[1], bounds[0] + 1), type.size).astype(type.dtype.numpy)
    if type.dtype is BOOL:
        return rng.integers(0, 2, type.size).astype(bool)
    values = rng.integers(-2 if type.dtype.kind != "uint" else 0, 3, type.size).astype(type.dtype.numpy)
    if nan and type.dtype.is_float:
        values[rng.random(type.size) < 0.02] = np.nan
    return values


def unwritten(type: TensorType) -> np.ndarray:
    if type.dtype.is_float:
        return np.full(type.size, np.nan, type.dtype.numpy)
    return np.full(type.size, False if type.dtype is BOOL else np.iinfo(type.dtype.numpy).min, type.dtype.numpy)


def run_case(seed: int, verbose: bool = False, target_name: str | None = None) -> str | None:
    """Run one case, for a random target that this machine runs or the one named; returns what went wrong, or None."""
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    case = random_case(rng)
    choice = rng.choice([t for t in TARGETS if machine.runs_here(machine.named(t))])
    target = machine.named(target_name or choice)
    program = schedule_case(rng, case, target)
    if verbose:
        from jtc.dialects.text import program_text
        print(program_text(program), f"// target {target.name}", sep="\n", flush=True)
    written = {b for k in program.kernels for b in k.written}
    scatters = {s.write.buffer for k in program.kernels for s in k.stages if s.accumulate}
    starts, exact = {}, {}
    for name, type in program.buffers.items():
        start = fill(numbers, type, case.indices.get(name), case.nan) if name not in written or name in scatters \
            else unwritten(type)
        starts[name] = Start(start, type.dtype, rng.random() < 0.7)
        exact[name] = start.astype(np.float64) if type.dtype.is_float else start.copy()
    runs = [_random_run(rng, emit(kernel, program.buffers, target)) for kernel in program.kernels]
    for kernel in program.kernels:
        run_kernel(kernel, exact, precise=True)
    found = execute(runs, starts, target)
    problems = (_compare(name, found[name], exact[name], program.buffers[name].dtype) for name in written)
    return next(filter(None, problems), None)


def _random_run(rng: random.Random, emitted: Emitted) -> Run:
    optimize = rng.choice((0, 1, 1))
    cuts = sorted({rng.randrange(emitted.units + 1) for _ in range(rng.randrange(3))} - {0, emitted.units})
    ranges = list(zip([0, *cuts], [*cuts, emitted.units])) if emitted.units else []
    rng.shuffle(ranges)
    return Run(emitted, optimize, ranges)


def _compare(name: str, got: np.ndarray, want: np.ndarray, dtype: DType) -> str | None:
    """First difference, or None.  Floats: relative to the largest value, since sums may cancel."""
    want = want.reshape(-1)
    if dtype.is_float:
        with np.errstate(all="ignore"):
            finite = np.abs(want[np.isfinite(want)])
            scale = max(1.0, float(finite.max())) if finite.size else 1.0
            limit = TOLERANCE[dtype.name] * scale
            same = (np.abs(got.astype(np.float64) - want) <= limit) | (got == want) | (np.isnan(got) & np.isnan(want))
    else:
        same = got == want
    if same.all():
        return None
    at = int(np.flatnonzero(~same)[0])
    return f"{name}[{at}] is {got[at]!r}, should be {want[at]!r}; {int((~same).sum())} of {same.size} differ"


# ------------------------------------------------------------------------------------------------ command
def _worker(first: int, count: int, deadline: float, target: str | None) -> int:
    faulthandler.enable()
    failures = 0
    for seed in range(first, first + count):
        if time.time() > deadline:
            break
        print(f"case {seed}", flush=True)
        try:
            problem = run_case(seed, target_name=target)
        except Exception as error:      # any exception here is a finding
            problem = f"{type(error).__name__}: {error}"
        if problem:
            failures += 1
            print(f"FAIL {seed} {problem}", flush=True)
    return 1 if failures else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 where every case passed, else 1."""
    parser = argparse.ArgumentParser(prog="jtc fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="first case (default 0)")
    parser.add_argument("--count", type=int, default=None, help="number of cases (default: until the time is over)")
    parser.add_argument("--seconds", type=float, default=None, help="time to spend (default 60 without --count)")
    parser.add_argument("--case", type=int, default=None, help="run one case in this process and print its program")
    parser.add_argument("--target", choices=machine.NAMES, metavar="NAME",
                        help="compile for this processor (default: for several that this machine runs); one of another "
                             "family is emulated by QEMU")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    _check_target(options.target)
    if options.case is not None:
        problem = run_case(options.case, True, options.target)
        print(problem or "passed")
        return 1 if problem else 0
    seconds = options.seconds if options.seconds is not None else (60 if options.count is None else 1e9)
    deadline = time.time() + seconds
    if options.worker:
        return _worker(options.seed, options.count or BATCH, deadline, options.target)
    return _supervise(options.seed, options.count, deadline, options.target)


def _check_target(name: str | None) -> None:
    """Raise InputError where code for the target cannot be run, neither here nor emulated."""
    target = machine.named(name or "native")
    lacks = None if machine.runs_here(target) else "the processor" if target.family == processor.family() else \
        emulated.missing(target)
    if lacks:
        raise InputError(f"cannot run code for {name}: this machine lacks {lacks}")


def _supervise(seed: int, count: int | None, deadline: float, target: str | None) -> int:
    """Children run the cases; one that dies is followed by another that starts after the case it died on."""
    end = seed + count if count is not None else None
    option = ["--target", target] if target else []
    replay = " ".join(["jtc fuzz", *option, "--case"])
    done, failures = 0, 0
    while time.time() < deadline and (end is None or seed < end):
        size = BATCH if end is None else min(BATCH, end - seed)
        command = [sys.executable, "-m", "jtc.tools.fuzz", "--worker", "--seed", str(seed), "--count", str(size),
                   "--seconds", str(deadline - time.time()), *option]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        last = seed
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("case "):
                last, done = int(line.split()[1]), done + 1
            elif line.startswith("FAIL "):
                _, case, problem = line.rstrip("\n").split(" ", 2)
                failures += 1
                print(f"case {case}: {problem}\n  replay: {replay} {case}", flush=True)
        code = child.wait()
        if code not in (0, 1):
            failures += 1
            print(f"case {last}: the process died with code {code}\n  replay: {replay} {last}", flush=True)
            seed = last + 1
        else:
            seed += size
    print(f"{done} cases, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
