"""Every pass with random options on random programs: it gives a program that verifies, or refuses with one line."""
from __future__ import annotations

import random
from dataclasses import fields
from typing import Any

import pytest
from kernels import chain, contraction, matmul

from jtc.compiler import phases, pipeline
from jtc.compiler.driver import settings_for
from jtc.dialects.errors import InputError, UsageError
from jtc.dialects.graph import Graph
from jtc.dialects.target import CpuTarget
from jtc.passes.base import parse_pass, registry
from jtc.runtime import knobs

VALUES: dict[type, list[str]] = {
    int: ["-1", "0", "1", "2", "3", "16", "1000000"], bool: ["true", "false"],
    str: ["", "i", "k", "i0", "r0", "zz"],
    tuple: ["", "i", "k,j", "i,j,k", "0,1", "1,0", "j,8", "k,4", "j//,k,j%", "i0", "i0,8", "9"],
}


def random_pass(name: str, rng: random.Random) -> str:
    options = [f"{f.name}={rng.choice(VALUES[type(f.default)])}" for f in fields(registry()[name])
               if type(f.default) in VALUES and f.name not in ("kernel", "stage") and rng.random() < 0.7]
    return f"{name}{{{' '.join(options)}}}" if options else name


@pytest.mark.parametrize("name", sorted(registry()))
def test_a_pass_refuses_or_gives_a_valid_program(name, tmp_path):
    settings = settings_for(CpuTarget())        # that of a pass without options
    graphs = [chain(), matmul()]
    starts: list[Any] = graphs if name.startswith("graph-") else \
        [contraction(), *(phases.advance(graph, "graph", "schedule", settings) for graph in graphs)]
    rng = random.Random(name)
    with knobs.use(reproducer_dir=tmp_path):
        for _ in range(60):
            program, steps = rng.choice(starts), []
            for step in (rng.choice(sorted(registry())), name, name):
                steps.append(random_pass(step, rng))
                try:
                    program = pipeline.run(program, [parse_pass(steps[-1])], settings)
                    phases.PHASES["graph" if isinstance(program, Graph) else "kernel"].verify(program, settings)
                except (InputError, UsageError) as error:
                    assert error.message and "\n" not in error.message
                except Exception as error:
                    raise AssertionError(f"{steps} on {program.name}") from error
