"""Emitted reductions, contractions and kernels of several stages against the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from emitting import (
    COMPILED,
    MATMULS,
    TARGETS,
    access,
    axes,
    check,
    data,
    fn,
    matmul,
    types_of,
)

from jtc.compiler.cpu import machine
from jtc.compiler.cpu.emit import emit
from jtc.dialects.dtypes import BOOL, F32, F64, I32, I64
from jtc.dialects.expr import acc, const, read
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Axis, Kernel, Local, Pack, Schedule, Stage
from jtc.dialects.optable import REDUCTIONS


@pytest.mark.parametrize("name, dtype", [(name, dtype) for name, row in REDUCTIONS.items() for dtype in COMPILED
                                         if dtype.kind in row.kinds], ids=str)
def test_every_reduction(name, dtype):
    n, m = 5, 53
    along_row = Schedule("k", 16, (), ("k",), (("k", 2),))
    down_columns = Schedule("i", 4, (("k", 20), ("i", 4)), ("k",), (("k", 3),))
    for schedule in (along_row, down_columns, Schedule("", 1, reduction=("k",)), Schedule("k", 8, (("i", 2),), ("k",))):
        stage = Stage(
            "s",
            axes(f"i:{n} k:{m}r"),
            (access("x", dtype, (n, m), "i, k"),),
            read(0, dtype),
            access("y", dtype, (n,), "i"),
            name,
            schedule=schedule,
        )
        values = data(TensorType(dtype, (n, m)))
        if name == "mul" and dtype is not BOOL:
            values = np.where(values == 0, 1, np.sign(values)).astype(dtype.numpy)
        check(stage, {"x": values}, target="x86-64" if schedule.lanes == 8 else "native")


@pytest.mark.parametrize("name", ["max", "min", "add"])
def test_nan_comes_through_a_reduction(name):
    for lanes, size in ((16, 70), (1, 9)):
        for at in (0, 3, size - 1):
            x = np.arange(size, dtype=np.float32)
            x[at] = np.nan
            stage = Stage(
                "s",
                axes(f"k:{size}r"),
                (access("x", F32, (size,), "k"),),
                read(0, F32),
                access("y", F32, (), ""),
                name,
                schedule=Schedule("k" if lanes > 1 else "", lanes, (), ("k",), (("k", 4),)),
            )
            assert np.isnan(check(stage, {"x": x})[1]["y"])


@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_empty_reductions_give_the_identity(name):
    for dtype in COMPILED:
        if dtype.kind in REDUCTIONS[name].kinds:
            for schedule in (Schedule("k", 16, (), ("k",)), Schedule("i", 4, (("k", 8), ("i", 4)), ("k",))):
                check(
                    Stage(
                        "s",
                        axes("i:5 k:0r"),
                        (access("x", dtype, (5, 0), "i, k"),),
                        read(0, dtype),
                        access("y", dtype, (5,), "i"),
                        name,
                        schedule=schedule,
                    )
                )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", list(MATMULS))
def test_contraction(name, target):
    for n, m, k in ((13, 50, 17), (1, 1, 1)):
        check(matmul(n, m, k, MATMULS[name]), target=target)


@pytest.mark.parametrize("dtype", [F64, I32, I64], ids=str)
@pytest.mark.parametrize("name", ["packed", "blocked"])
def test_contraction_dtypes(name, dtype):
    check(matmul(9, 40, 20, MATMULS[name], dtype))


@pytest.mark.parametrize("name", ["plain", "blocked", "dots"])
def test_epilogue_at_the_last_block(name):
    biased = fn("max", fn("add", acc(F32), read(2, F32)), const(0, F32))
    check(matmul(7, 35, 20, MATMULS[name], epilogue=biased))
    positive = fn("gt", acc(F32), const(0, F32), dtype=BOOL)  # partial sums do not fit the output
    emitted, _ = check(matmul(7, 35, 20, MATMULS[name], epilogue=positive, out=BOOL))
    assert (emitted.workspace_bytes >= 7 * 35 * 4) == (name == "blocked")


def test_units_may_run_in_any_ranges():
    stage = matmul(29, 70, 5, MATMULS["plain"])
    emitted, _ = check(stage)
    assert emitted.units == 8 * 3
    check(stage, ranges=[(17, 24), (0, 1), (1, 2), (2, 9), (9, 17)])


def test_independent_stages_share_the_units():
    """Stages that read nothing of each other: the units of one after those of the other."""
    first = matmul(29, 70, 5, MATMULS["plain"])
    second = replace(matmul(11, 70, 5, MATMULS["plain"]), name="second")
    second = replace(
        second,
        reads=tuple(replace(a, buffer=a.buffer + "2") for a in second.reads),
        write=replace(second.write, buffer=second.write.buffer + "2"),
    )
    kernel = Kernel("k", (first, second))
    emitted, _ = check(kernel)
    assert emitted.units == 8 * 3 + 3 * 3
    check(kernel, ranges=[(20, 27), (0, 1), (1, 20), (27, 28), (28, 33)])


def test_keep_stores_every_value():
    for schedule in (
        Schedule("k", 16, (), ("k",), (("k", 2),)),
        Schedule("i", 4, (("i", 4),), ("k",)),
        Schedule("", 1, (), ("k",)),
    ):
        stage = Stage(
            "s",
            axes("i:6 k:45r"),
            (access("x", F32, (6, 45), "i, k"),),
            fn("abs", read(0, F32)),
            access("y", F32, (6,), "i"),
            "add",
            keep=access("z", F32, (6, 45), "i, k"),
            schedule=schedule,
        )
        check(stage)


def test_panels_packed_ahead():
    """v//T and v%T: panels 32 wide of an operand with 50 columns; the register tile is half a panel."""
    reads = (access("a", F32, (5, 9), "i, k"), access("b", F32, (2, 9, 32), "j//32, k, j%32"))
    for steps in ((("j", 16),), (("j", 32),), (("j", 64), ("j", 32))):
        check(
            Stage(
                "s",
                axes("i:5 j:50 k:9r"),
                reads,
                fn("mul", read(0, F32), read(1, F32)),
                access("y", F32, (5, 50), "i, j"),
                "add",
                schedule=Schedule("j", 16, (*steps, ("i", 2)), ("k",)),
            )
        )


def test_packs_with_guards_are_cut_into_boxes():
    x = access("x", F32, (20, 30), "i + 1, k - 2", (("i + 1", 20), ("k - 2", 30)), 3)
    reads = (x, access("w", F32, (33, 40), "k, j"))
    for order in (("i", "k"), ("k", "i"), ("i//", "k", "i%")):
        schedule = Schedule("j", 16, (("i", 8), ("j", 16), ("i", 4)), ("k",), packs=(Pack(0, ("i", 8), order),))
        check(
            Stage(
                "s",
                axes("i:21 j:40 k:33r"),
                reads,
                fn("mul", read(0, F32), read(1, F32)),
                access("y", F32, (21, 40), "i, j"),
                "add",
                schedule=schedule,
            )
        )


def softmax(n, m, block, lanes, step):
    place, shape = ("i", (block,)) if block > 1 else ("", ())
    x, y = access("x", F32, (n, m), "i, j"), access("y", F32, (n, m), "i, j")
    top, total = access("top", F32, shape, place), access("total", F32, shape, place)
    row = Schedule("j", lanes, (), ("j",), (("j", 4),))
    stages = (
        Stage("top", axes(f"i:{n} j:{m}r"), (x,), read(0, F32), top, "max", schedule=row),
        Stage(
            "total",
            axes(f"i:{n} j:{m}r"),
            (x, top),
            fn("exp", fn("sub", read(0, F32), read(1, F32))),
            total,
            "add",
            keep=y,
            epilogue=fn("div", const(1, F32), acc(F32)),
            schedule=row,
        ),
        Stage(
            "map",
            axes(f"i:{n} j:{m}"),
            (y, total),
            fn("mul", read(0, F32), read(1, F32)),
            y,
            schedule=Schedule("j", lanes, (("j", step),)),
        ),
    )
    locals_ = tuple(Local(b, TensorType(F32, shape)) for b in ("top", "total"))
    return Kernel("softmax", stages, ((Axis("i", n), block),), locals_)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("block", [1, 3])
def test_stages_share_rows(block, target):
    lanes = machine.named(target).lanes(F32)
    for n, m in ((5, 70), (4, 3)):
        emitted, outputs = check(softmax(n, m, block, lanes, 2 * lanes), target=target, tolerance=1e-6)
        assert emitted.units == -(-n // block)
        np.testing.assert_allclose(outputs["y"].sum(1), 1, rtol=1e-5)


def test_row_scalars_stay_in_registers():
    assert (
        "%w"
        not in emit(softmax(5, 70, 1, 16, 64), types_of(softmax(5, 70, 1, 16, 64)), machine.host())
        .text.replace("%workspace", "")
        .split("scf.for", 1)[1]
    )


@pytest.mark.parametrize("out", [F32, BOOL], ids=str)
@pytest.mark.parametrize("block", [1, 4, 10])
def test_last_stage_reduces_over_a_shared_axis(block, out):
    shape, place = ((block, 37), "i, j") if block > 1 else ((37,), "j")
    local = access("t", F32, shape, place)
    epilogue = fn("gt", acc(F32), const(0, F32), dtype=BOOL) if out is BOOL else fn("neg", acc(F32))
    lanes = Schedule("j", 16, (("j", 16),))
    stages = (
        Stage(
            "map",
            axes("b:3 i:10 j:37"),
            (access("x", F32, (3, 10, 37), "b, i, j"),),
            fn("mul", read(0, F32), read(0, F32)),
            local,
            schedule=lanes,
        ),
        Stage(
            "sum",
            axes("b:3 i:10r j:37"),
            (local, access("x", F32, (3, 10, 37), "b, i, j")),
            fn("sub", read(0, F32), read(1, F32)),
            access("y", out, (3, 37), "b, j"),
            "add",
            epilogue,
            schedule=replace(lanes, reduction=("i",)),
        ),
    )
    kernel = Kernel("k", stages, ((Axis("b", 3), 1), (Axis("i", 10), block)), (Local("t", TensorType(F32, shape)),))
    emitted, _ = check(kernel, ranges=[(2, 3), (0, 2)])
    assert emitted.units == 3
