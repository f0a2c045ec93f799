"""Files with random damage: every one is read, or refused with one clear line; nothing else may be raised."""
from __future__ import annotations

import random
import re

import numpy as np
import pytest
from kernels import chain, matmul, saved

from jtc.compiler import phases
from jtc.compiler.driver import settings_for
from jtc.dialects.errors import InputError, UsageError
from jtc.frontend.model_file import read_model

WORDS = ["-1", "0", "1", "3", "99999999999", "?", "d0", "f64", "i32", "i1", '""', "true", "[]", "unit", "s0", "a", "x"]
SIZES = ["0", "1", "2", "7", "16", "1000000007", "-3"]


def mutated_text(text: str, rng: random.Random) -> str:
    """One or two tokens deleted, replaced or exchanged."""
    tokens = re.findall(r"[A-Za-z_][\w.$]*|\d+|\s+|.", text)
    for _ in range(rng.choice((1, 1, 2))):
        at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        kind = rng.choice(("delete", "word", "copy", "exchange", "size"))
        if kind == "delete":
            tokens[at] = ""
        elif kind == "word":
            tokens[at] = rng.choice(WORDS)
        elif kind == "copy":
            tokens[at] = tokens[other]
        elif kind == "exchange":
            tokens[at], tokens[other] = tokens[other], tokens[at]
        else:
            tokens[rng.choice([i for i, token in enumerate(tokens) if token.isdigit()])] = rng.choice(SIZES)
    return "".join(tokens)


@pytest.mark.parametrize("phase", ["graph", "kernel", "schedule"])
@pytest.mark.parametrize("graph", [chain(), matmul()], ids=["chain", "matmul"])
def test_ir(graph, phase):
    settings = settings_for("cpu")
    text = phases.text_of(phases.advance(graph, "graph", phase, settings), phase)
    rng, refused = random.Random(f"{graph.name} {phase}"), 0
    for _ in range(12):
        damaged = mutated_text(text, rng)
        try:
            start, value = phases.parse(damaged, "damaged.mlir")
            phases.advance(value, start, "schedule", settings)
        except (InputError, UsageError) as error:
            assert "\n" not in error.message and error.message, damaged
            refused += 1
        except Exception as error:
            raise AssertionError(damaged) from error
    assert refused > 4


def test_saved_graphs(tmp_path):
    good = saved(tmp_path / "good.jtc", matmul(weights=np.ones((12, 24), np.float32))).read_bytes()
    rng, path = random.Random(0), tmp_path / "damaged.jtc"
    for _ in range(100):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 4))):
            at = rng.randrange(len(data))
            kind = rng.choice(("flip", "cut", "insert"))
            data[at:at + {"flip": 1, "cut": rng.randrange(24), "insert": 0}[kind]] = \
                b"" if kind == "cut" else bytes(rng.randrange(256) for _ in range(1 if kind == "flip" else 5))
        path.write_bytes(data)
        try:
            read_model(path).graph()
        except InputError as error:
            assert "\n" not in error.message and error.message
