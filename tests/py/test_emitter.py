"""Emitted maps, guards and data-dependent indices against the reference: odd sizes, all targets of this machine."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from emitting import (
    COMPILED,
    TARGETS,
    access,
    axes,
    check,
    data,
    elementwise,
    fn,
    rng,
    types_of,
)

from jtc.compiler.cpu import machine
from jtc.compiler.cpu.emit import emit
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import BF16, BOOL, DTYPES, F32, F64, I32, I64
from jtc.dialects.expr import cast, const, expr, index, read
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Guard, Kernel, Schedule, Stage


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", COMPILED, ids=str)
def test_elementwise_tails(dtype, target):
    lanes = machine.named(target).lanes(dtype)
    for n in (1, lanes - 1, lanes, 5 * lanes + 3):
        check(elementwise(n, dtype, Schedule("i", lanes, (("i", 2 * lanes),), threads=1)), target=target)


@pytest.mark.parametrize("schedule", [Schedule("", 1), Schedule("i", 16, (("i", 48),)), Schedule("i", 1, (("i", 1),))])
def test_elementwise_of_nothing_and_of_one(schedule):
    emitted, _ = check(elementwise(0, F32, schedule))
    assert emitted.units in (0, 1)
    check(elementwise(1, F32, schedule))


def test_scalar_of_rank_zero():
    stage = Stage(
        "s",
        (),
        (access("x", F32, (), ""),),
        fn("add", read(0, F32), const(1.5, F32)),
        access("y", F32, (), ""),
        schedule=Schedule("", 1),
    )
    check(stage)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_mixed_dtypes_share_lanes(lanes):
    n = 45
    reads = tuple(access(f"x{d}", d, (n,), "i") for d in COMPILED)
    values = [read(i, d) for i, d in enumerate(COMPILED)]
    total = fn("add", fn("where", values[4], cast(values[0], F64), values[1]), cast(values[2], F64))
    body = fn("mul", cast(total, I64), values[3])
    check(
        Stage(
            "s",
            axes(f"i:{n}"),
            reads,
            body,
            access("y", I64, (n,), "i"),
            schedule=Schedule("i", lanes, (("i", lanes),)),
        )
    )


def test_index_inbounds_and_random_bits():
    n, m = 5, 37
    where = expr("inbounds", (), BOOL, (Guard(Affine.parse("i - j + 2"), 4),))
    bits = expr("philox", (index(Affine.parse("37*i + j"), I64), read(0, I64)), I32)
    body = fn("where", where, bits, index(Affine.parse("-2*j + i"), I32))
    stage = Stage(
        "s",
        axes(f"i:{n} j:{m}"),
        (access("key", I64, (), ""),),
        body,
        access("y", I32, (n, m), "i, j"),
        schedule=Schedule("j", 16, (("j", 32),)),
    )
    check(stage, {"key": np.array(12345678901, np.int64)})


def test_a_long_chain_of_expressions():
    value = read(0, F32)
    for i in range(600):
        value = fn("sub", const(i % 3, F32), value)
    check(
        Stage(
            "s",
            axes("i:20"),
            (access("x", F32, (20,), "i"),),
            value,
            access("y", F32, (20,), "i"),
            schedule=Schedule("i", 16, (("i", 16),)),
        )
    )


def test_equal_expressions_are_computed_once():
    e = fn("exp", read(0, F32))
    stage = Stage(
        "s",
        axes("i:64 j:64"),
        (access("x", F32, (64,), "i"), access("z", F32, (64, 64), "i, j")),
        fn("add", fn("mul", e, e), fn("mul", e, read(1, F32))),
        access("y", F32, (64, 64), "i, j"),
        schedule=Schedule("j", 16, (("j", 64),)),
    )
    emitted, _ = check(stage, {"x": rng.random(64, np.float32)}, tolerance=1e-5)
    (once,) = (
        emit(Kernel("k", (replace(stage, body=body),)), types_of(Kernel("k", (stage,))), machine.host()).text
        for body in (fn("mul", e, read(1, F32)),)
    )
    # exp(x[i]) does not move along the lanes: one scalar expansion serves four vectors and all uses
    for pattern in (r"arith\.shli .* : i32", r"arith\.shli .* : vector"):
        assert len(re.findall(pattern, emitted.text)) == len(re.findall(pattern, once))
    assert not re.search(r"arith\.shli .* : vector", emitted.text)


@pytest.mark.parametrize("dtype", COMPILED, ids=str)
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_transposed_store(dtype, lanes):
    for n, m in ((16, 16), (33, 21), (lanes, 2)):
        stage = Stage(
            "s",
            axes(f"i:{n} j:{m}"),
            (access("x", dtype, (n, m), "i, j"),),
            read(0, dtype),
            access("y", dtype, (m, n), "j, i"),
            schedule=Schedule("j", lanes, (("j", lanes), ("i", lanes)), threads=2),
        )
        emitted, _ = check(stage)
        if n == m == 16:
            assert "vector.extract" not in emitted.text, "stored element by element"


@pytest.mark.parametrize("text,shape", [("2*i", (99,)), ("-i + 49", (50,)), ("3*i + 1", (149,)), ("0", (1,))])
def test_strided_reversed_and_repeated_reads(text, shape):
    stage = Stage(
        "s",
        axes("i:50"),
        (access("x", F32, shape, text),),
        fn("neg", read(0, F32)),
        access("y", F32, (50,), "i"),
        schedule=Schedule("i", 16, (("i", 32),)),
    )
    check(stage)


@pytest.mark.parametrize("text,shape", [("2*i", (99,)), ("-i + 49", (50,)), ("3*i + 1", (149,))])
def test_strided_writes_leave_the_rest(text, shape):
    stage = Stage(
        "s",
        axes("i:50"),
        (access("x", F32, (50,), "i"),),
        read(0, F32),
        access("y", F32, shape, text),
        schedule=Schedule("i", 16, (("i", 32),)),
    )
    check(stage, {"y": np.full(shape, 7, np.float32)})


def test_streamed_stores_at_any_alignment():
    for n in (64, 61):
        stage = elementwise(n * 3, F32, Schedule("i", 16, (("i", 64),), stream=True))
        emitted, _ = check(stage)
        assert "nontemporal" in emitted.text and "sfence" in emitted.text


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("split", [(), ("i",), ("i", "j")])
def test_padded_window(split, target):
    lanes = machine.named(target).lanes(F32)
    for step in (1, 2):
        n, m = (9 + step - 1) // step, (37 + step - 1) // step
        x = access(
            "x",
            F32,
            (9, 37),
            f"{step}*i + p - 1, {step}*j + q - 1",
            ((f"{step}*i + p - 1", 9), (f"{step}*j + q - 1", 37)),
            2,
        )
        stage = Stage(
            "s",
            axes(f"i:{n} j:{m} p:3r q:3r"),
            (x,),
            read(0, F32),
            access("y", F32, (n, m), "i, j"),
            "add",
            schedule=Schedule("j", lanes, (("i", 1), ("j", lanes)), ("p", "q"), (("q", 3),), split=split),
        )
        check(stage, target=target)


def test_split_leaves_no_mask_in_the_interior():
    x = access("x", F32, (640,), "j - 1", (("j - 1", 640),))
    stage = Stage(
        "s",
        axes("j:640"),
        (x,),
        read(0, F32),
        access("y", F32, (640,), "j"),
        schedule=Schedule("j", 16, (("j", 64),), split=("j",)),
    )
    emitted, _ = check(stage)
    loop = emitted.text[emitted.text.index("scf.for") :]
    assert "mask" not in loop


def test_guards_with_negative_steps_and_on_other_axes():
    n, m = 11, 35
    x = access("x", F32, (n, m), "-i + 10, j", (("-i + j - 2", 20), ("-j + 30", 40)), -1)
    for schedule in (
        Schedule("j", 16, (("i", 2), ("j", 16)), split=("j", "i")),
        Schedule("i", 16, (("i", 16), ("j", 3))),
        Schedule("", 1),
    ):
        check(Stage("s", axes(f"i:{n} j:{m}"), (x,), read(0, F32), access("y", F32, (n, m), "i, j"), schedule=schedule))


def test_guarded_writes_are_dropped():
    y = access("y", F32, (10, 20), "i - 1, j - 3", (("i - 1", 10), ("j - 3", 20)))
    for schedule in (
        Schedule("j", 16, (("i", 3), ("j", 16))),
        Schedule("", 1),
        Schedule("j", 8, (("j", 24),), split=("j",)),
    ):
        check(Stage("s", axes("i:13 j:26"), (access("x", F32, (13, 26), "i, j"),), read(0, F32), y, schedule=schedule))


@pytest.mark.parametrize("kind", [I32, I64], ids=str)
def test_gather(kind):
    table, where = (
        access("t", F32, (9, 40), "0, j", gather=((0, read(1, kind)),), fill=5),
        access("w", kind, (21,), "i"),
    )
    lanes = access("t", F32, (40, 9), "j, 0", gather=((1, read(1, kind)),), fill=5)
    indices = rng.integers(-3, 13, 21).astype(kind.numpy)
    for schedule in (Schedule("j", 16, (("j", 32),)), Schedule("i", 8, (("i", 8), ("j", 2))), Schedule("", 1)):
        for first in (table, lanes):
            check(
                Stage(
                    "s",
                    axes("i:21 j:40"),
                    (first, where),
                    read(0, F32),
                    access("y", F32, (21, 40), "i, j"),
                    schedule=schedule,
                ),
                {"w": indices},
            )


@pytest.mark.parametrize("name", ["add", "max", None])
def test_scatter_runs_in_order(name):
    """Overlapping writes; out of range ones are dropped; the buffer keeps what it held."""
    y = access("y", F32, (7, 40), "0, j", gather=((0, read(1, I64)),))
    reads = (access("x", F32, (21, 40), "i, j"), access("w", I64, (21,), "i"))
    inputs = {"w": rng.integers(-1, 8, 21), "y": data(TensorType(F32, (7, 40)))}
    for schedule in (Schedule("j", 16, (("i", 1), ("j", 16))), Schedule("", 1)):
        check(Stage("s", axes("i:21 j:40"), reads, read(0, F32), y, name, accumulate=True, schedule=schedule), inputs)


def test_overlapping_windows_add_up():
    y = access("y", F32, (20,), "2*i + p - 1", (("2*i + p - 1", 20),))
    stage = Stage(
        "s",
        axes("i:11 p:3r"),
        (access("x", F32, (11, 3), "i, p"),),
        read(0, F32),
        y,
        "add",
        accumulate=True,
        schedule=Schedule("", 1, reduction=("p",)),
    )
    check(stage, {"y": np.zeros(20, np.float32)})


@pytest.mark.parametrize("source,to", [(F32, BF16), (I64, I32), (I32, DTYPES["i8"])], ids=str)
def test_a_single_lane_is_stored_as_narrow_as_it_is(source, to):
    """The values beside it stay as they are, and nothing is written behind the last one."""
    y = access("y", to, (9,), "i + j - 1", (("j - 1", 1),))
    stage = Stage(
        "s",
        axes("i:9 j:3"),
        (access("x", source, (9, 3), "i, j"),),
        cast(read(0, source), to),
        y,
        schedule=Schedule("j", 8, (("i", 3), ("j", 8))),
    )
    for target in TARGETS:
        check(stage, target=target)
