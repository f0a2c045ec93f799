"""Contractions whose blocks a matrix unit multiplies (Schedule.matrix, family.Matrix).

On a processor without the unit its instructions are replaced by functions (compiler/cpu/matrix_emulated.py), all else
is the code that a processor with it runs: the same schedules, registers, tails.
"""
from __future__ import annotations

from dataclasses import replace

import pytest
from emitting import TARGETS, access, axes, check, fn, types_of
from test_dot import agrees, broken, half, normal, product

import jtc
import jtc.nn.functional as F
from jtc.compiler.cpu import lower, machine
from jtc.compiler.cpu.emit import emit
from jtc.compiler.driver import settings_for
from jtc.compiler.explain import schedule_text
from jtc.compiler.phases import advance
from jtc.dialects.dtypes import BF16, F16, F32
from jtc.dialects.expr import acc, cast, read
from jtc.dialects.kernel import Kernel, Pack, Program, Schedule, Stage
from jtc.passes.kernel.kernel_schedule import apply
from jtc.passes.kernel.matrix_blocks import Blocks, blocks_of
from jtc.passes.kernel.rules import candidates
from jtc.passes.kernel.rules.common import View
from jtc.passes.kernel.rules.contraction_estimate import estimate
from jtc.runtime import processor

PANELS = ("j//", "k//", "j%", "k%")
SCHEDULES = {
    "in place": Schedule("j", 16, (("j", 32), ("i", 32)), ("k",), (("k", 64),), (Pack(1, ("j", 32), PANELS),)),
    "narrow": Schedule("j", 16, (("j", 48), ("i", 7)), ("k",), (), (Pack(1, ("j", 48), PANELS),)),
    "blocks": Schedule("j", 16, (("j", 32), ("k", 32), ("i", 20)), ("k",), (),
                       (Pack(1, ("k", 32), PANELS), Pack(0, ("k", 32), ("i", "k"), 16))),
    "rows": Schedule("j", 16, (("i", 96), ("j", 16), ("i", 48)), ("k",), (("k", 64),),
                     (Pack(1, ("i", 96), PANELS), Pack(0, ("i", 96), ("i", "k"))), threads=1),
}
SCHEDULES = {name: replace(s, dot="k", matrix=True) for name, s in SCHEDULES.items()}


# ------------------------------------------------------------------------------------------------ one kernel
@pytest.mark.parametrize("target", ["native", *TARGETS])
@pytest.mark.parametrize("name", SCHEDULES)
def test_products(target, name):
    """Tails on both axes, tiles of fewer rows than a block, blocks that overlap; small integers are exact."""
    for n, m, k in ((7, 50, 32), (32, 32, 64), (37, 33, 96), (100, 16, 160), (2, 15, 32)):
        for out in (F32, BF16):
            check(Kernel("k", (product(n, m, k, SCHEDULES[name], out=out),)), target=target)


def window(schedule, turned):
    """y[o, i, j] or y[i, j, o] = the sum of x[2 i + p, j + q, c] w[o, p, q, c]."""
    reads = (access("x", BF16, (13, 24, 32), "2*i + p, j + q, c"), access("w", BF16, (40, 3, 2, 32), "o, p, q, c"))
    body = fn("mul", cast(read(0, BF16), F32), cast(read(1, BF16), F32))
    write = access("y", F32, (40, 6, 23), "o, i, j") if turned else access("y", F32, (6, 23, 40), "i, j, o")
    return Stage("s", axes("o:40 i:6 j:23 p:3r q:2r c:32r"), reads, body, write, "add",
                 fn("neg", acc(F32)), schedule=schedule)


@pytest.mark.parametrize("loops", [(("o", 32), ("i", 2), ("j", 16)), (("o", 16), ("j", 23)), (("i", 4), ("o", 16)),
                                   (("o", 48), ("j", 10)), (("o", 32), ("p", 1), ("j", 32))])
@pytest.mark.parametrize("turned", [False, True])
def test_windows(loops, turned):
    """Several axes of points, results that are transposed in registers."""
    pack = Pack(1, loops[0], ("o//", "p", "q", "c//", "o%", "c%"))
    schedule = Schedule("o", 16, loops, ("p", "q", "c"), (("q", 2),), (pack,), dot="c", matrix=True)
    check(Kernel("k", (window(schedule, turned),)), target=TARGETS[0])
    check(Kernel("k", (window(schedule, turned),)), target="native")


@pytest.mark.parametrize("loops", [(("o", 16), ("i", 7), ("j", 7)), (("i", 5), ("o", 16), ("j", 7)),
                                   (("o", 32), ("i", 2), ("j", 7)), (("j", 5), ("o", 16), ("i", 7))])
def test_rows_run_on_through_padding(loops):
    """y[i, j, o] over images with two more pixels in each row than points: rows of blocks lie in both, some unused."""
    reads = (access("x", BF16, (9, 9, 32), "i + p, j + q, c"), access("w", BF16, (40, 3, 3, 32), "o, p, q, c"))
    body = fn("mul", cast(read(0, BF16), F32), cast(read(1, BF16), F32))
    pack = Pack(1, loops[0], ("o//", "p", "q", "c//", "o%", "c%"))
    schedule = Schedule("o", 16, loops, ("p", "q", "c"), (), (pack,), dot="c", matrix=True)
    stage = Stage("s", axes("o:40 i:7 j:7 p:3r q:3r c:32r"), reads, body, access("y", BF16, (7, 7, 40), "i, j, o"),
                  "add", cast(acc(F32), BF16), schedule=schedule)
    assert broken(stage) == ""
    tile = {a: dict(loops)[a] for a in "oij"}
    blocks = blocks_of(stage, schedule, tile, 16)
    assert (blocks.around, blocks.axis, blocks.gap) == ("i", "j", 9) and blocks.groups == 1
    for target in ("native", TARGETS[0]):
        check(Kernel("k", (stage,)), target=target)


def assembly_of(stage, target):
    kernel, cpu = Kernel("k", (stage,)), machine.named(target)
    emitted = emit(kernel, types_of(kernel), cpu)
    return lower.to_assembly(lower.to_llvm(emitted.text, emitted.symbol, len(emitted.operands)), cpu)


def test_instructions():
    """Two blocks of rows by two of columns, and two steps in an iteration: a load for each multiplication."""
    words = assembly_of(product(64, 64, 256, SCHEDULES["in place"]), "sapphirerapids").split()
    assert words.count("tdpbf16ps") == 8 and words.count("tileloadd") == 8 and words.count("tilezero") == 4
    assert words.count("ldtilecfg") == 1 and words.count("tilerelease") == 1
    tails = assembly_of(product(67, 64, 256, SCHEDULES["in place"]), "sapphirerapids").split()
    assert tails.count("ldtilecfg") == 3
    assert "tdpbf16ps" not in assembly_of(product(64, 64, 256, SCHEDULES["in place"]), "x86-64-v4").split()


def test_sums_between_blocks_stay_in_the_unit():
    """What waits for the next block of the reduction is loaded into accumulators, and stored from them."""
    schedule = replace(SCHEDULES["blocks"], loops=(("j", 32), ("k", 64), ("i", 32)),
                       packs=tuple(replace(p, inside=("k", 64)) for p in SCHEDULES["blocks"].packs))
    words = assembly_of(product(64, 64, 256, schedule, out=F32), "sapphirerapids").split()
    assert words.count("tileloadd") > words.count("tdpbf16ps") and words.count("tilestored") == 8


@pytest.mark.parametrize("depth, written", [(64, 0), (512, 32)])
def test_lines_that_are_only_written_are_fetched_before_long_reductions(depth, written):
    stage = product(64, 64, depth, SCHEDULES["in place"])
    assert assembly_of(stage, "sapphirerapids").count("prefetcht0") == written + 2, "and always what is added"
    added = replace(stage, reads=(*stage.reads[:2], access("c", BF16, (64, 64), "i, j")),
                    epilogue=cast(fn("add", acc(F32), cast(read(2, BF16), F32)), BF16))
    assert assembly_of(added, "sapphirerapids").count("prefetcht0") == written + 32


def test_the_tuner_counts_them_as_the_rule():
    stage = replace(product(300, 96, 256, None), schedule=None)
    kernel, target = Kernel("k", (stage,)), machine.named("sapphirerapids")
    program = Program("f", ["a", "b", "c"], ["y"], types_of(kernel), [kernel])
    view, found = View(stage, kernel, program, target), candidates(stage, kernel, program, target)
    plain = [c for c in found if c.schedule.matrix and not c.copies]
    assert plain
    for candidate in plain:
        assert estimate(view, candidate) == pytest.approx(candidate.cost, rel=0.1), candidate


@pytest.mark.parametrize("few", [1, 8])
@pytest.mark.parametrize("rows, columns, depth", [(64, 64, 256), (512, 768, 1024), (49, 2048, 4096)])
def test_few_candidates_are_the_first_of_all(rows, columns, depth, few):
    stage = replace(product(rows, columns, depth, None), schedule=None)
    kernel, target = Kernel("k", (stage,)), machine.named("sapphirerapids")
    program = Program("f", ["a", "b", "c"], ["y"], types_of(kernel), [kernel])
    every, found = (candidates(stage, kernel, program, target, few=n) for n in (0, few))
    assert every[0].schedule.matrix and found[:few] == every[:few] and len(found) < len(every)


@pytest.mark.parametrize("images, pixels, channels", [(8, 14, 256), (8, 7, 512), (8, 28, 128), (1, 14, 256)])
def test_proposed_tiles_are_legal(images, pixels, channels):
    """Of several images with their channels innermost: rows run on from one row of pixels to the next one only."""
    inside = (("i + p - 1", pixels), ("j + q - 1", pixels))
    reads = (access("x", BF16, (images, pixels, pixels, channels), "b, i + p - 1, j + q - 1, c", inside),
             access("w", BF16, (channels, channels, 3, 3), "o, c, p, q"))
    body = fn("mul", cast(read(0, BF16), F32), cast(read(1, BF16), F32))
    stage = Stage("s", axes(f"b:{images} o:{channels} i:{pixels} j:{pixels} c:{channels}r p:3r q:3r"), reads, body,
                  access("y", BF16, (images, pixels, pixels, channels), "b, i, j, o"), "add", cast(acc(F32), BF16))
    kernel, target = Kernel("k", (stage,)), machine.named("sapphirerapids")
    program = Program("f", ["x", "w"], ["y"], types_of(kernel), [kernel])
    found = candidates(stage, kernel, program, target, constants=frozenset(["w"]))
    assert found[0].schedule.matrix
    for candidate in found:
        if candidate.schedule.matrix:
            apply(candidate, program, kernel, stage, target)
            pads = [copied.pad for copied in (*candidate.copies, *candidate.schedule.packs) if copied.read == 0]
            assert all((channels + pad) * BF16.bytes % 64 == 0 for pad in pads), "a row of a block in two cache lines"


def test_blocks():
    stage = product(37, 64, 64, SCHEDULES["in place"])
    assert blocks_of(stage, stage.schedule, {"i": 32, "j": 32}, 16) == Blocks("i", 16, 2, 1, 2)
    assert blocks_of(stage, stage.schedule, {"i": 1, "j": 64}, 16) == Blocks("", 1, 1, 1, 4)
    blocks = blocks_of(stage, stage.schedule, {"i": 37, "j": 16}, 16)
    assert blocks == Blocks("i", 13, 3, 1, 1) and blocks.starts(37) == [0, 13, 24] and blocks.starts(5) == [0]


def test_refused():
    good = product(64, 96, 64, SCHEDULES["blocks"])
    wide, narrow = good.schedule.packs
    assert broken(good) == ""
    assert "where no pairs are multiplied" in broken(good, dot="")
    assert "of 16 lanes, not 8" in broken(good, lanes=8)
    assert "32 steps of k are multiplied at a time, not 64 or 16" in broken(
        good, loops=(("j", 32), ("k", 16), ("i", 20)),
        packs=tuple(replace(p, inside=("k", 16)) for p in (wide, narrow)))
    assert "4 of results and 4 of an operand leave no register of 8" in broken(
        good, loops=(("j", 64), ("k", 32), ("i", 16)))
    assert "rows of %0 must be steps of k next to each other" in broken(
        good, packs=(wide, replace(narrow, order=("i//", "k//", "i%", "k%"), pad=0)))
    assert "has no unit for float16" in broken(product(64, 96, 64, SCHEDULES["blocks"], F16))


# ------------------------------------------------------------------------------------------------ whole programs
WEIGHTS = {"lin": normal(70, 128), "conv": normal(40, 64, 3, 3) / 9, "point": normal(96, 128, 1, 1)}
PROGRAMS = {
    "matmul": (lambda a, b: half(a) @ half(b), normal(130, 256), normal(256, 112)),
    "long": (lambda a, b: half(a) @ half(b), normal(130, 2048) / 30, normal(2048, 64)),
    "batched": (lambda a, b: half(a) @ half(b).mT, normal(3, 37, 64), normal(3, 71, 64)),
    "linear": (lambda a: jtc.relu(F.linear(half(a), half(WEIGHTS["lin"]), half(WEIGHTS["lin"][:, 0]))),
               normal(37, 128)),
    "3x3": (lambda x: F.conv2d(half(x), half(WEIGHTS["conv"]), padding=1), normal(2, 64, 19, 21)),
    "3x3, weights given": (lambda x, w: jtc.relu(F.conv2d(half(x), half(w), padding=1, stride=2)),
                           normal(2, 64, 15, 17), WEIGHTS["conv"]),
    "1x1": (lambda x: F.conv2d(half(x), half(WEIGHTS["point"])), normal(1, 128, 7, 7)),
    "attention": (lambda q, k, v: F.scaled_dot_product_attention(half(q), half(k), half(v), is_causal=True),
                  *(normal(2, 150, 32, seed=s) for s in range(3))),
}


def needs_registers():
    """The softmax of attention takes accumulators of its own, in the registers that processors with the unit have."""
    if machine.host().registers < machine.named("sapphirerapids").registers:
        pytest.skip(f"this machine has {machine.host().registers} vector registers")


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_scheduled_for_the_unit(name, tmp_path):
    """The rule takes blocks where the processor multiplies them; those schedules give the right results."""
    function, *inputs = PROGRAMS[name]
    graph = jtc.jit(lambda *a: jtc.astype(function(*a), jtc.float32)).graph(*inputs)
    if name == "attention":
        needs_registers()
    program = advance(graph, "graph", "schedule", settings_for("cpu:sapphirerapids"))
    found = [s for k in program.kernels for s in k.stages if s.schedule.matrix]
    assert found and "in blocks of a matrix unit" in schedule_text(found[0].schedule)
    # Attention rounds its weights to bfloat16 once per block of keys, not once.
    agrees(program, graph, inputs, tmp_path / "m.so", 2.0 ** -7 if name == "attention" else 1e-5)


def test_weights_of_attention(tmp_path):
    """Where the unit multiplies them, they are kept in 16 bits, rounded once; elsewhere they stay float32."""
    needs_registers()
    inputs = [normal(2, 256, 32, seed=s) for s in range(3)]
    graph = jtc.jit(lambda *a: jtc.astype(PROGRAMS["attention"][0](*a), jtc.float32)).graph(*inputs)
    for target, unit in (("sapphirerapids", True), ("cooperlake", False)):
        program = advance(graph, "graph", "schedule", settings_for(f"cpu:{target}"))
        kernel = next(k for k in program.kernels if len(k.stages) > 1)
        scores, *_, last = kernel.stages
        assert scores.schedule.matrix == last.schedule.matrix == unit
        weights = next(s.keep for s in kernel.stages if s.keep is not None)
        assert last.reads[0].buffer == weights.buffer and weights.dtype is (BF16 if unit else F32)
        agrees(program, graph, inputs, tmp_path / f"{target}.so", 2.0 ** -7)


# ------------------------------------------------------------------------------------------------ the processor
def test_the_state_has_to_be_granted(monkeypatch):
    """Linux lets a process use the unit when it asks; where it does not, the processor counts as one without it."""
    unit = processor.family().matrices.get("bf16")
    if unit is None:
        pytest.skip(f"there is no matrix unit for {processor.family()}")
    flags = "fpu sse2 amx_tile amx_bf16"
    monkeypatch.setattr(processor, "_line", lambda start: flags)
    for granted in (True, False):
        monkeypatch.setattr(processor, "_granted", lambda component, granted=granted: granted)
        assert (processor.features.__wrapped__() >= set(unit.needs)) == granted
