"""Schedules one step away: legal ones compute the same, and which of them do so bit for bit."""
from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from schedule_cases import AVX512, CASES

from jtc.compiler.driver import compile_graph, settings_for
from jtc.dialects.dtypes import I64
from jtc.dialects.kernel import Program
from jtc.dialects.reference import run_program
from jtc.dialects.target import CpuTarget
from jtc.passes.kernel.candidates import Options
from jtc.passes.kernel.choice import Choice, identity
from jtc.passes.kernel.kernel_merge_axes import KernelMergeAxes
from jtc.passes.kernel.kernel_schedule import KernelSchedule
from jtc.passes.kernel.neighbours import MOVES, _Around, neighbours
from jtc.passes.kernel.rules.common import Candidate, View
from jtc.passes.kernel.rules.contraction_estimate import estimate
from jtc.passes.kernel.sums import same_result
from jtc.runtime import knobs
from jtc.runtime.module import load_module

CHOSEN = ("matmul 33x33", "conv 17->33@7/1", "depthwise 3@9", "transpose 7x129", "add over i of 33x33",
          "add over j of 7x129", "softmax 17x3 by 1", "scan along j of 7x129", "scatter 7x129")
EACH = 4


def merged(name: str) -> Program:
    return KernelMergeAxes().run(CASES[name])


def options(program: Program, position: int = 0, strict: bool = False, target: CpuTarget | None = None) -> Options:
    """Those for this machine, if no target is given."""
    kernel = program.kernels[0]
    return Options(kernel.stages[position], kernel, program, target or settings_for().target, strict)


def around(program: Program, count: int, seed: int = 0) -> list[tuple[int, Candidate]]:
    """(stage, candidate): some that are one or two steps away from the default, chosen by lot."""
    rng, found = random.Random(seed), []
    for position in range(len(program.kernels[0].stages)):
        here = options(program, position)
        near = here.around(here.default, 1000)
        far = here.around(rng.choice(near), 1000) if near else []
        found += [(position, c) for some in (near, far) for c in rng.sample(some, min(count, len(some)))]
    return found


def chosen(program: Program, position: int, candidate: Candidate) -> dict[str, Choice]:
    kernel = program.kernels[0]
    stages = tuple(candidate if i == position else None for i in range(len(kernel.stages)))
    return {identity(kernel, program): Choice(stages, 1.5)}


def arrays(program: Program, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def data(buffer: str) -> np.ndarray:
        kind = program.buffers[buffer]
        if kind.dtype is I64:
            return rng.integers(0, 5, kind.shape)
        values = rng.standard_normal(kind.shape) * 10.0 ** rng.integers(-3, 4, kind.shape)      # sums that round
        values[rng.random(kind.shape) < 0.3] *= -0.0
        return values.astype(kind.dtype.numpy)
    return {b: data(b) for b in (*program.inputs, *program.constants)}


def run(program: Program, given: dict[str, np.ndarray], tuned: dict[str, Choice]) -> list[np.ndarray]:
    scheduled = KernelSchedule(settings_for().target, tuned=tuned).run(program)
    if tuned:
        assert any(s.schedule.gain == 1.5 for k in scheduled.kernels for s in k.stages)
    module = load_module(compile_graph(scheduled, phase="schedule", embed=False))
    if module.constants:
        module.bind({c: given[c] for c in program.constants})
    results = module(*(given[b] for b in program.inputs))
    return [results] if isinstance(results, np.ndarray) else list(results)


@pytest.fixture(autouse=True)
def own_cache(tmp_path):
    with knobs.use(cache_dir=tmp_path, jobs=0):
        yield


@pytest.mark.parametrize("name", [n for n in CHOSEN if "scatter" not in n])         # which add to what was there
def test_legal_neighbours_compute_the_same(name):
    program = merged(name)
    given = arrays(program)
    want = run_program(replace(program, constants={c: given[c] for c in program.constants}),
                       [given[b] for b in program.inputs])
    default = run(program, given, {})
    kernel = program.kernels[0]
    for position, candidate in around(program, EACH):
        got = run(program, given, chosen(program, position, candidate))
        for a, b in zip(want, got, strict=True):
            scale = np.abs(a[np.isfinite(a)]).max(initial=1.0)
            np.testing.assert_allclose(b, np.reshape(a, b.shape), rtol=1e-4, atol=1e-5 * scale, err_msg=str(candidate))
        start = options(program, position)
        if same_result(kernel.stages[position], kernel, candidate, start.default):
            assert [x.tobytes() for x in got] == [x.tobytes() for x in default], candidate


def test_every_kind_of_move_is_made():
    found: set[str] = set()
    for name in CHOSEN:
        program = merged(name)
        for position in range(len(program.kernels[0].stages)):
            here = options(program, position, target=replace(AVX512, threads=2))
            at = _Around(here.default, here.stage, here.kernel, here.target)
            found |= {kind for kind, move in MOVES.items() if any(here._is_legal(c) for c in move(at))}
    assert found == set(MOVES)


@pytest.mark.parametrize("name", CHOSEN)
def test_neighbours_are_different_each(name):
    program = merged(name)
    here = options(program)
    found = [(c.schedule, c.copies) for c in neighbours(here.default, here.stage, here.kernel, AVX512)]
    assert len(found) == len(set(found)) and (here.default.schedule, here.default.copies) not in found


def test_strict_options_keep_the_order_of_sums():
    program = merged("add over j of 33x33")         # along rows: lanes and accumulators decide
    free, strict = options(program), options(program, strict=True)
    kernel, stage = program.kernels[0], program.kernels[0].stages[0]
    assert len(strict.around(strict.default, 1000)) < len(free.around(free.default, 1000))
    assert all(same_result(stage, kernel, c, strict.default) for c in strict.around(strict.default, 1000))
    assert all(same_result(stage, kernel, c, strict.default) for c in strict.first(1000))


@pytest.mark.parametrize("field, value", [("loops", (("r0", 8),)), ("lanes", 4), ("unroll", (("r0", 3),))])
def test_another_order_of_sums_is_seen(field, value):
    """A case for each thing that the order depends on; that it matters is seen in the bits."""
    program = merged("add over j of 7x129")
    here = options(program)
    axis = here.stage.reductions[0]
    value = tuple((axis, n) for _, n in value) if isinstance(value, tuple) else value
    schedule = replace(here.default.schedule, **{field: value})
    if field == "loops":                            # blocks of the reduction: lanes along the other axis
        other = here.stage.parallel[0]
        schedule = replace(schedule, vector=other, lanes=4, loops=(*value, (other, 4)), unroll=())
        start = replace(here.default, schedule=replace(schedule, loops=((other, 4),)))
    else:
        start = here.default
    moved = replace(here.default, schedule=schedule)
    assert not same_result(here.stage, here.kernel, start, moved)
    given = arrays(program)
    one, two = (run(program, given, chosen(program, 0, c)) for c in (start, moved))
    assert one[0].tobytes() != two[0].tobytes()


@pytest.mark.parametrize("name", ["matmul 33x33", "conv 64->64@14/1", "conv 40->17@9/1"])
def test_the_estimate_is_that_of_the_rule(name):
    """What is read back from a schedule costs what the rule said when it proposed it, but for how copies are made."""
    program = merged(name)
    here = options(program)
    view = View(here.stage, here.kernel, program, here.target)
    plain = [c for c in here.ranked if not c.copies and c.schedule.vector]
    assert plain or name != "matmul 33x33"
    for candidate in plain:
        assert estimate(view, candidate) == pytest.approx(candidate.cost, rel=0.1), candidate
