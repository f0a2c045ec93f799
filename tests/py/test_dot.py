"""Contractions whose steps are multiplied in pairs by one instruction (Schedule.dot, family.Dot).

Here the instruction is replaced by multiply-adds (compiler/cpu/llvm_text.py), all else is the code that a processor
with the instruction runs: the same schedules, panels of pairs, tails.  Code for aarch64 runs the real one in QEMU.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from emitting import TARGETS, access, axes, check, fn, types_of
from schedule_cases import pair_panels
from test_targets import compare, needs_emulator

import jtc
import jtc.nn.functional as F
from jtc.compiler.cpu import lower, machine
from jtc.compiler.cpu.emit import emit
from jtc.compiler.driver import compile_graph, settings_for
from jtc.compiler.explain import schedule_text
from jtc.compiler.phases import advance
from jtc.dialects.dtypes import BF16, F16, F32
from jtc.dialects.expr import acc, cast, read
from jtc.dialects.kernel import Kernel, Pack, Program, Schedule, Stage
from jtc.dialects.reference import run_graph
from jtc.dialects.target import CpuTarget
from jtc.passes.kernel import legality
from jtc.passes.kernel.kernel_schedule import KernelSchedule
from jtc.runtime.module import load_module
from jtc.tools import emulated

LANES = {"x86-64-v4": 16, "x86-64-v3": 8, "x86-64": 4}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


# ------------------------------------------------------------------------------------------------ one kernel
def product(n, m, k, schedule, dtype=BF16, out=BF16, turned=False):
    """y = a b + c.  turned: b is given by its columns"""
    b = access("b", dtype, (m, k), "j, k") if turned else access("b", dtype, (k, m), "k, j")
    reads = (access("a", dtype, (n, k), "i, k"), b, access("c", F32, (m,), "j"))
    body = fn("mul", cast(read(0, dtype), F32), cast(read(1, dtype), F32))
    return Stage("s", axes(f"i:{n} j:{m} k:{k}r"), reads, body, access("y", out, (n, m), "i, j"), "add",
                 cast(fn("add", acc(F32), read(2, F32)), out), schedule=schedule)


def schedules(lanes):
    panels = ("j//", "k//", "j%", "k%")
    return {
        "in place": Schedule("j", lanes, (("j", 2 * lanes), ("i", 3)), ("k",), (("k", 8),),
                             (Pack(1, ("j", 2 * lanes), panels),), dot="k"),
        "blocks": Schedule("j", lanes, (("j", lanes), ("k", 8), ("i", 4)), ("k",), (("k", 4),),
                           (Pack(1, ("k", 8), panels), Pack(0, ("k", 8), ("i//", "k//", "i%", "k%"))), dot="k"),
        "rows": Schedule("j", lanes, (("i", 6), ("j", lanes), ("i", 3)), ("k",), (),
                         (Pack(1, ("i", 6), panels), Pack(0, ("i", 6), ("i", "k"), 16)), threads=1, dot="k"),
    }


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["in place", "blocks", "rows"])
def test_products(target, name):
    """Odd and even numbers of steps, tails on every axis, one column beyond whole vectors; small integers are exact."""
    for n, m, k in ((7, 50, 13), (4, 32, 8), (9, 33, 1), (5, 16, 2), (3, 17, 27)):
        stage = product(n, m, k, schedules(LANES[target])[name], out=F32)
        kernel = Kernel("k", (stage,))
        program = Program("f", ["a", "b", "c"], ["y"], types_of(kernel), [kernel])
        assert legality.violations(stage, kernel, program, CpuTarget()) == []
        check(kernel, target=target)


@pytest.mark.parametrize("target", TARGETS)
def test_panels_from_rows_of_pairs(target):
    """Whole blocks of pairs are transposed in registers, what is left over pair by pair."""
    for n, m, k in ((3, 96, 64), (2, 33, 37), (4, 64, 30)):
        stage = product(n, m, k, schedules(LANES[target])["in place"], out=F32, turned=True)
        check(Kernel("k", (stage,)), target=target)
        kernel = Kernel("k", (stage,))
        assert m < 64 or "vector.bitcast" in emit(kernel, types_of(kernel), machine.named(target)).text


@pytest.mark.parametrize("rows, pairs", [(16, 33), (32, 48), (5, 7), (37, 20)])
def test_kernels_that_transpose_pairs(rows, pairs):
    scheduled = KernelSchedule(CpuTarget()).run(pair_panels(rows, pairs)).kernels[0]
    schedule = scheduled.stages[0].schedule
    assert (schedule.vector, schedule.loops[-3:]) == ("p", (("k", 16), ("j", 16), ("p", 2)))
    check(scheduled, target=TARGETS[0])


@pytest.mark.parametrize("target, instruction", [("cooperlake", "vdpbf16ps"), ("aarch64-v8.6", "bfdot"),
                                                 ("x86-64-v4", "vfmadd"), ("aarch64-v8.2", "fmla")])
def test_instructions(target, instruction):
    cpu = machine.named(target)
    stage = product(6, 96, 64, replace(schedules(cpu.lanes(F32))["in place"], unroll=()))
    kernel = Kernel("k", (stage,))
    emitted = emit(kernel, types_of(kernel), cpu)
    assembly = lower.to_assembly(lower.to_llvm(emitted.text, emitted.symbol, len(emitted.operands)), cpu)
    assert assembly.count(instruction) >= 6
    if cpu.multiplies_pairs(BF16):
        assert not {"vfmadd", "fmla"} & set(assembly.split())


def test_what_stands_in_for_the_instruction():
    """The second product of a pair is added first, and each sum is rounded to float32, as x86's instruction does."""
    stage = product(2, 2, 4, schedules(LANES[TARGETS[0]])["in place"], out=F32)
    kernel, ones = Kernel("k", (stage,)), np.ones((4, 2), BF16.numpy)
    for pair, total in (((2.0 ** -30, 1.0), 2.0 ** -30), ((1.0, 2.0 ** -30), 0.0)):        # added to -1
        values = np.array([[0.0, -1.0, *pair]] * 2).astype(BF16.numpy)
        data = {"a": values, "b": ones, "c": np.zeros(2, np.float32)}
        assert np.all(check(kernel, data, TARGETS[0], tolerance=1e-8)[1]["y"] == total)


def broken(stage, **changes):
    stage = replace(stage, schedule=replace(stage.schedule, **changes))
    kernel = Kernel("k", (stage,))
    found = legality.violations(stage, kernel, Program("f", [], ["y"], types_of(kernel), [kernel]), CpuTarget())
    return "; ".join(found)


def test_refused():
    schedule = schedules(16)["blocks"]
    good = product(8, 48, 32, schedule)
    pack = schedule.packs[0]
    assert broken(good) == ""
    assert "pairs of i, which is not a reduction axis" in broken(good, dot="i")
    assert "in blocks that cut one" in broken(
        good, loops=(("j", 16), ("k", 7), ("i", 4)), packs=tuple(replace(p, inside=("k", 7)) for p in schedule.packs))
    assert "must lie next to each other, in panels as j% k%" in broken(
        good, packs=(replace(pack, order=("j//", "k", "j%")), schedule.packs[1]))
    assert "must lie next to each other, in panels" in broken(good, packs=(replace(pack, pad=16), schedule.packs[1]))
    assert "must lie next to each other" in broken(
        good, packs=(pack, replace(schedule.packs[1], order=("i//", "k", "i%"))))
    assert "there are instructions for 4, 8, 16" in broken(good, lanes=2)
    assert "must be whole vectors" in broken(good, loops=(("j", 24), ("k", 8), ("i", 4)))
    assert "meet in a tree" in broken(good, tree=(("k", 4),))
    assert "panels along k" in broken(good, dot="")
    assert "x86-64 has no instruction for it" in broken(product(8, 48, 32, schedule, F16))
    assert "bfloat16 and float32" in broken(replace(good, reads=(
        good.reads[0], access("b", F32, (32, 48), "k, j"), good.reads[2]), body=fn(
            "mul", cast(read(0, BF16), F32), read(1, F32))))
    assert "not a sum of products of two reads in float32" in broken(replace(good, reduce="max"))
    filled = replace(good.reads[0], guards=access("a", BF16, (8, 32), "i, k", guards=[("i - 1", 8)]).guards, fill=1)
    assert "%0 is 1 where it has no elements" in broken(replace(good, reads=(filled, *good.reads[1:])))


# ------------------------------------------------------------------------------------------------ whole programs
def half(x):
    return jtc.astype(x, jtc.bfloat16)


WEIGHTS = {"lin": normal(71, 53), "conv": normal(24, 19, 3, 3) / 9, "point": normal(96, 131, 1, 1),
           "stem": normal(16, 3, 7, 7)}
PROGRAMS = {
    "matmul": (lambda a, b: half(a) @ half(b), normal(130, 265), normal(265, 112)),
    "transposed": (lambda a, b: half(a) @ half(b).mT, normal(37, 53), normal(71, 53)),
    "linear": (lambda a: jtc.relu(F.linear(half(a), half(WEIGHTS["lin"]), half(WEIGHTS["lin"][:, 0]))), normal(37, 53)),
    "3x3": (lambda x: F.conv2d(half(x), half(WEIGHTS["conv"]), padding=1), normal(2, 19, 19, 21)),
    "3x3, weights given": (lambda x, w: jtc.relu(F.conv2d(half(x), half(w), padding=1, stride=2)),
                           normal(2, 19, 15, 17), WEIGHTS["conv"]),
    "1x1": (lambda x: F.conv2d(half(x), half(WEIGHTS["point"])), normal(1, 131, 19, 21)),
    "7x7": (lambda x: F.conv2d(half(x), half(WEIGHTS["stem"]), padding=3, stride=2), normal(1, 3, 40, 42)),
    "attention": (lambda q, k, v: F.scaled_dot_product_attention(half(q), half(k), half(v), is_causal=True),
                  *(normal(2, 150, 32, seed=s) for s in range(3))),
}


def expected(graph, inputs):
    return [a.astype(np.float32) for a in run_graph(graph, inputs, precise=True)]


def agrees(program, graph, inputs, path, tolerance=1e-5):
    """Compile a program with schedules, and compare its results with the graph's."""
    results = load_module(compile_graph(program, "cpu", path, phase="schedule"))(*inputs)
    found = results if isinstance(results, (tuple, list)) else [results]
    compare([np.asarray(a) for a in found], expected(graph, inputs), tolerance)


def scheduled(name, target):
    """(graph, its inputs, the program with schedules for a target, the stages that multiply pairs).

    name, target  the program's in PROGRAMS; a CpuTarget, or its name
    """
    function, *inputs = PROGRAMS[name]
    graph = jtc.jit(lambda *a: jtc.astype(function(*a), jtc.float32)).graph(*inputs)
    program = advance(graph, "graph", "schedule", settings_for(target))
    return graph, inputs, program, [s for k in program.kernels for s in k.stages if s.schedule.dot]


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_scheduled_for_the_instruction(name, tmp_path):
    """The rule takes pairs where the processor multiplies them; those schedules give the right results."""
    host = machine.host()
    graph, inputs, program, found = scheduled(name, replace(host, features=f"{host.features},+avx512bf16"))
    assert found and "in one instruction" in schedule_text(found[0].schedule)
    # Attention rounds its weights to bfloat16 once per block of keys, not once.
    agrees(program, graph, inputs, tmp_path / "m.so", 2.0 ** -7 if name == "attention" else 1e-5)
    assert not scheduled(name, "cpu:x86-64-v4")[3] and scheduled(name, "cpu:cooperlake")[3]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["matmul", "3x3", "linear"])
def test_bfdot(name, tmp_path):
    """Arm's instruction, in the emulator; it rounds sums of pairs to odd."""
    target = machine.named("aarch64-v8.6")
    needs_emulator(target)
    graph, inputs, program, found = scheduled(name, target)
    assert found
    module = compile_graph(program, f"cpu:{target.name}", tmp_path / "m.so", phase="schedule")
    compare(emulated.run_module(module, target, inputs), expected(graph, inputs), 1e-4)
