"""Stages that fetch what others will move: who fetches what, and that no value changes."""
from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from emitting import TARGETS, check

import jtc
from jtc.compiler import phases
from jtc.compiler.cpu import machine
from jtc.compiler.cpu.emit import emit
from jtc.compiler.driver import settings_for
from jtc.compiler.tuning.store import Tuned
from jtc.dialects.kernel import Fetch, Kernel, Program
from jtc.dialects.reader import read_text
from jtc.dialects.text import program_text
from jtc.passes.kernel.choice import Choice
from jtc.passes.kernel.rules.common import Candidate

rng = np.random.default_rng(3)


def normalised(x):
    d = x - jtc.mean(x, axis=-1, keepdims=True)
    return d / jtc.sqrt(jtc.mean(d * d, axis=-1, keepdims=True) + 1e-5)


CASES = {"softmax of rows": (lambda x: jtc.softmax(x, axis=-1), (70, 301)),
         "softmax of columns": (lambda x: jtc.softmax(x, axis=0), (70, 301)),
         "softmax in the middle": (lambda x: jtc.softmax(x, axis=1), (9, 40, 65)),
         "layer norm": (normalised, (70, 301))}


def scheduled(name: str, target: str = "native", l2: int = 72 << 10) -> Program:
    """The program for a processor with a small second-level cache."""
    function, shape = CASES[name]
    settings = replace(settings_for(), target=replace(machine.named(target), l2=l2))
    graph = jtc.jit(function).graph(np.zeros(shape, np.float32))
    return phases.advance(graph, "graph", "schedule", settings)


def fetches(kernel: Kernel) -> list[tuple[Fetch, ...]]:
    return [stage.schedule.fetches for stage in kernel.stages]


def test_the_stage_that_moves_nothing_fetches_for_those_around_it():
    kernel, = scheduled("softmax of rows").kernels
    write = len(kernel.stages[2].reads)
    assert fetches(kernel) == [(), (Fetch(0, 0, 1), Fetch(2, write, 0)), ()]


def test_what_the_second_level_cache_holds_is_not_fetched():
    kernel, = scheduled("softmax of rows", l2=1 << 20).kernels
    assert not any(fetches(kernel))


def test_blocks_that_would_fill_the_second_level_cache_are_not_fetched():
    kernel, = scheduled("softmax of rows", l2=4 * 301 * 3).kernels
    assert not any(fetches(kernel))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_no_value_changes(name: str, target: str):
    program = scheduled(name, target)
    for kernel in program.kernels:
        assert any(fetches(kernel)), name
        plain = replace(kernel, stages=tuple(
            replace(s, schedule=replace(s.schedule, fetches=())) for s in kernel.stages))
        x = {"x": rng.standard_normal(program.buffers["x"].shape).astype(np.float32)}
        with_them, without = (check(k, x, target, 1e-5)[1]["out"] for k in (kernel, plain))
        np.testing.assert_array_equal(with_them, without)


def test_one_prefetch_for_a_line():
    """Two vectors of 8 lanes share a cache line."""
    for target, lanes in (("x86-64-v4", 16), ("x86-64-v3", 8)):
        kernel, = scheduled("softmax of rows", target).kernels
        stage = kernel.stages[1]
        assert stage.schedule.lanes == lanes
        text = emit(kernel, scheduled("softmax of rows", target).buffers, machine.named(target)).text
        loop = next(part for part in re.split("scf.for|scf.yield", text) if "memref.prefetch" in part)
        assert loop.count("write, locality<2>") == dict(stage.schedule.unroll)["r0"] * lanes // 16


def test_text_keeps_them():
    program = scheduled("layer norm")
    again = read_text(program_text(program))
    assert [fetches(k) for k in again.kernels] == [fetches(k) for k in program.kernels]


def test_tuned_schedules_keep_them():
    kernel, = scheduled("layer norm").kernels
    chosen = Choice(tuple(Candidate(1.0, stage.schedule) for stage in kernel.stages), 1.5)
    tuned = Tuned("kernel", "program", 3, chosen)
    assert any(c.schedule.fetches for c in chosen.stages)
    assert Tuned.from_json(json.loads(json.dumps(tuned.to_json()))) == tuned
