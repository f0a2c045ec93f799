"""Times of kernels under different schedules, taken in the program that they belong to.

Every variant is the whole program, compiled with other schedules for any number of its kernels, loaded and run by the
real runtime: with the threads of the knob, with what the kernels before left in the caches, with weights that come from
where they come from.  So one run measures a candidate for each kernel, and a kernel counts for as often as it is
launched.  A copy kernel that a schedule wants is part of the time of the kernel that reads the copy.
"""
from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jtc.compiler import driver, phases, pipeline
from jtc.compiler.phases import Settings
from jtc.dialects.dtypes import DTYPES
from jtc.dialects.errors import JtcError
from jtc.dialects.graph import Graph
from jtc.dialects.kernel import Program
from jtc.passes.kernel.choice import Choice, identity
from jtc.runtime.engine import Buffer
from jtc.runtime.module import Module, load_module, to_buffer

SLICE, LEAST = 0.03, 2      # seconds of one variant in one round, after a run to warm up; at least so many runs
TOLERANCE = 1e-2    # of the largest value: how far results may move when sums are made in another order

Variant = Mapping[str, Choice]          # identity of a kernel -> its schedules; the default ones for all others


@dataclass(frozen=True)
class Times:
    """What one variant took.

    kernels  identity -> seconds of all its launches in one run, in every round
    total    seconds of the whole run, in every round
    """

    kernels: dict[str, list[float]]
    total: list[float]


class Measure(Protocol):
    """Times of each variant in `rounds` rounds that they go through together; None for one that could not be made."""

    def __call__(self, variants: Sequence[Variant], rounds: int) -> list[Times | None]: ...


def unscheduled(program: Graph | Program, phase: str, settings: Settings) -> Program:
    """A program of the phase `graph` or `kernel`, after all passes that come before schedules."""
    found = phases.advance(program, phase, "kernel", settings)
    found = pipeline.run(found, pipeline.make(_halves()[0], settings), settings)
    assert isinstance(found, Program)
    return found


def _halves() -> tuple[list[str], list[str]]:
    """The passes on kernels before schedules, and from there on."""
    names = [step.name for step in pipeline.KERNEL]
    at = names.index("kernel-schedule")
    return names[:at], names[at:]


class Bench:
    """Builds and runs variants of a program.

    program   the kernels as `kernel-schedule` gets them, see `unscheduled`
    problem   told of a variant that could not be made, with the error
    """

    def __init__(self, program: Program, settings: Settings,
                 problem: Callable[[JtcError], None] = lambda error: None):
        self.program, self.settings, self.problem = program, settings, problem
        self.identities = {k.name: identity(k, program) for k in program.kernels}
        self._inputs: list[Buffer] | None = None
        self._weights: dict[str, Any] = {}
        self._default: Built | None = None
        self._emitted: dict[tuple, Any] = {}

    def __call__(self, variants: Sequence[Variant], rounds: int) -> list[Times | None]:
        built = [self._built(v) for v in variants]
        there = list({id(b): b for b in built if b is not None}.values())
        absorbed = set[str]().union(*(b.absorbed for b in there))
        shares = {id(b): _shares(b.scheduled, self.identities, absorbed) for b in there}
        times = {id(b): Times({i: [] for i in self.identities.values()}, []) for b in there}
        for order in _rotating(there, rounds):
            for b in order:
                launches = b.slice()
                here = times[id(b)]
                for identity_ in here.kernels:
                    here.kernels[identity_].append(0.0)
                for launch, seconds in zip(b.module.plan.launches, launches, strict=True):
                    for identity_, share in shares[id(b)].get(launch.kernel, {}).items():
                        here.kernels[identity_][-1] += seconds * share
                here.total.append(sum(launches))
        return [None if b is None else times[id(b)] for b in built]

    def agree(self, one: Variant, other: Variant) -> bool:
        """Whether two variants compute the same, but for rounding."""
        results = []
        for variant in (one, other):
            built = self._built(variant)
            if built is None:
                return False
            results.append([b.numpy() for b in built.module.run(built.inputs)])
        return all(_close(a, b) for a, b in zip(*results, strict=True))

    def _built(self, variant: Variant) -> Built | None:
        """The variant, ready to run; the default one is made once."""
        if variant:
            return self._build(variant)
        self._default = self._default or self._build(variant)
        return self._default

    def _build(self, variant: Variant) -> Built | None:
        try:
            settings = replace(self.settings, tuned=variant, watch=lambda kind, name, seconds, value: None)
            scheduled = pipeline.run(self.program, pipeline.make(_halves()[1], settings), settings)
            assert isinstance(scheduled, Program)
            with tempfile.TemporaryDirectory(prefix="jtc-tune-") as folder:
                path = Path(folder, "variant.so")
                driver.build_scheduled(scheduled, path, settings, self._emitted)
                module = load_module(path)
        except JtcError as error:
            self.problem(error)
            return None
        if module.constants:
            module.bind({c.name: self._weight(c.name, c.dtype, c.shape) for c in module.constants})
        if self._inputs is None:
            self._inputs = random_inputs(module)
        return Built(module, scheduled, self._inputs, set(self.identities) - {k.name for k in scheduled.kernels})

    def _weight(self, name: str, dtype: str, shape: tuple[int, ...]) -> Any:
        """The value of a weight, made once for all variants; random where the program has only its name."""
        if name not in self._weights:
            value = self.program.constants.get(name)
            array = random_array(dtype, shape, len(self._weights)) if value is None else value
            self._weights[name] = to_buffer(array, copy=value is None)
        return self._weights[name]


@dataclass(frozen=True)
class Built:
    """A variant that can run; absorbed: kernels that it does not have, since copies compute what they did."""

    module: Module
    scheduled: Program
    inputs: list[Buffer]
    absorbed: set[str]

    def slice(self) -> list[float]:
        """Least seconds of each launch over the runs that fit into a slice of time: what disturbs only adds to them."""
        self.module.profile(*self.inputs)
        runs: list[list[float]] = []
        end = time.perf_counter() + SLICE
        while len(runs) < LEAST or time.perf_counter() < end:
            runs.append(self.module.profile(*self.inputs))
        return [min(launch) for launch in zip(*runs)]


def slice_seconds(run: float) -> float:
    """How long one variant takes in one round, if a run takes so long."""
    return max(SLICE + run, (1 + LEAST) * run)


def _shares(scheduled: Program, identities: Mapping[str, str], absorbed: set[str]) -> dict[str, dict[str, float]]:
    """Kernel of a scheduled program -> the kernels, by identity, that its time belongs to, and how much of it.

    A kernel belongs to itself; a copy, and a kernel that copies compute elsewhere, to those that read what it writes.
    """
    readers: dict[str, list[str]] = {}
    for kernel in scheduled.kernels:
        for buffer in kernel.read:
            readers.setdefault(buffer, []).append(kernel.name)
    shares: dict[str, dict[str, float]] = {}
    for kernel in reversed(scheduled.kernels):
        if kernel.name in identities and kernel.name not in absorbed:
            shares[kernel.name] = {identities[kernel.name]: 1.0}
            continue
        behind = [name for buffer in kernel.written for name in readers.get(buffer, ()) if name in shares]
        found: dict[str, float] = {}
        for name in behind:
            for identity_, share in shares[name].items():
                found[identity_] = found.get(identity_, 0.0) + share / len(behind)
        shares[kernel.name] = found
    return shares


def _rotating(things: list[Built], rounds: int) -> Iterator[list[Built]]:
    """All of them once a round, each round beginning with another one."""
    for number in range(rounds):
        first = number % max(len(things), 1)
        yield things[first:] + things[:first]


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    if not np.issubdtype(one.dtype, np.floating):
        return bool(np.array_equal(one, other))
    with np.errstate(all="ignore"):
        a, b = one.astype(np.float64), other.astype(np.float64)
        scale = max(float(np.max(np.abs(x[np.isfinite(x)]), initial=0.0)) for x in (a, b))
        same = np.abs(a - b) <= TOLERANCE * scale
        return bool(np.all(same | ~np.isfinite(a) & ~np.isfinite(b)))


def random_inputs(module: Module) -> list[Buffer]:
    """A buffer for each input of a module, see `random_array`."""
    return [to_buffer(random_array(info.dtype, info.shape, seed), copy=True) for seed, info in enumerate(module.inputs)]


def random_array(dtype: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal floats, and zeros of other types, which are indices in range of everything."""
    kind = DTYPES[dtype]
    if not kind.is_float:
        return np.zeros(shape, kind.numpy)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32).astype(kind.numpy)
