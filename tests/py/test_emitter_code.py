"""The emitted code itself: what the inner loops consist of, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import count
from math import prod

import numpy as np
import pytest
from emitting import (
    MATMULS,
    TARGETS,
    access,
    axes,
    check,
    elementwise,
    fn,
    matmul,
    types_of,
)

import jtc
import jtc.nn.functional as F
from jtc.compiler.cpu import lower, machine
from jtc.compiler.cpu.copies import copies, layout
from jtc.compiler.cpu.emit import emit
from jtc.compiler.cpu.places import Place
from jtc.compiler.driver import settings_for
from jtc.compiler.phases import advance
from jtc.dialects.dtypes import F16, F32, F64
from jtc.dialects.errors import InternalError
from jtc.dialects.expr import acc, const, read
from jtc.dialects.kernel import Kernel, Pack, Schedule, Stage
from jtc.tools.kernel_runs import Run, Start, execute


def assembly(stage, target="x86-64-v4"):
    kernel = Kernel("k", (stage,))
    return kernel_assembly(kernel, types_of(kernel), target)


def kernel_assembly(kernel, types, target="x86-64-v4"):
    cpu = machine.named(target)
    emitted = emit(kernel, types, cpu)
    return lower.to_assembly(lower.to_llvm(emitted.text, emitted.symbol, len(emitted.operands)), cpu)


def inner_loop(text):
    """The basic block with the most fused multiply-adds, the shortest of several."""
    blocks = re.split(r"^\.?\w+:.*$|^\s+j\w+\s.*$", text, flags=re.MULTILINE)
    return max(blocks, key=lambda b: (b.count("vfmadd"), -b.count("\n"))).strip().splitlines()


@pytest.mark.parametrize(
    "target,lanes,rows,columns", [("x86-64-v4", 16, 8, 3), ("x86-64-v4", 16, 6, 4), ("x86-64-v3", 8, 6, 2)]
)
def test_the_inner_loop_of_a_contraction_is_loads_and_fused_multiply_adds(target, lanes, rows, columns):
    width = lanes * columns
    schedule = Schedule(
        "j",
        lanes,
        (("j", width), ("k", 256), ("i", rows)),
        ("k",),
        (("k", 4),),
        (Pack(1, ("k", 256), ("j//", "k", "j%")),),
    )
    loop = inner_loop(assembly(matmul(512, 512, 512, schedule), target))
    assert sum("vfmadd" in line for line in loop) == 4 * rows * columns
    assert not any("rsp" in line for line in loop), "accumulators are spilled"
    assert len(loop) <= 4 * (rows * columns + rows + columns) + 6, "addresses are not folded into the loads"


def test_addresses_in_front_of_a_reduction_are_frozen():
    schedule = Schedule("j", 16, (("j", 32), ("i", 4)), ("k",), (("k", 2),))
    kernel = Kernel("k", (matmul(64, 64, 64, schedule),))
    before, loop = emit(kernel, types_of(kernel), machine.named("x86-64-v4")).text.split("iter_args", 1)
    assert "llvm.freeze" in before and "llvm.freeze" not in loop


@pytest.mark.parametrize("rows,tiles,each", [(48, 6, 2), (96, 12, 1), (16, 2, 6)])
def test_the_tiles_of_one_panel_share_the_prefetches_of_the_next(rows, tiles, each):
    loops = (("k", 256), ("i", rows), ("j", 48), ("i", 8))
    packs = (Pack(1, ("k", 256), ("j//", "k", "j%")),)
    schedule = Schedule("j", 16, loops, ("k",), (("k", 4),), packs, prefetch=(1,))
    text = assembly(matmul(96, 480, 512, schedule))
    loop = inner_loop(text)
    assert sum("vfmadd" in line for line in loop) == 4 * 24 and not any("rsp" in line for line in loop)
    assert sum("prefetcht1" in line for line in loop) == each, f"12 lines over {tiles} tiles"
    assert sum("prefetcht0" in line for line in loop) == 1, "the lines of the results take turns"
    lines = {int(n) // 16 for n in re.findall(r"\.quad\t(\d+)", text)}
    assert lines == {row * 30 + n for row in range(8) for n in range(3)}


def fetched_lines(stage, units):
    """Where b is marked after these units: at what they fetch into the second-level cache."""
    kernel, number = Kernel("k", (stage,)), count()

    def mark(prefetch):
        place, type = prefetch.groups()
        constant = f"%mark{next(number)}"
        return f"{constant} = arith.constant 1.0 : f32\nmemref.store {constant}, {place} : {type}"

    types, cpu = types_of(kernel), machine.named("native")
    emitted = emit(kernel, types, cpu)
    text = re.sub(r"memref\.prefetch (\S+), read, locality<2>, data : (.*)", mark, emitted.text)
    starts = {n: Start(np.zeros(prod(types[n].shape), np.float32), F32) for n in emitted.operands}
    return np.flatnonzero(execute([Run(replace(emitted, text=text), 1, [units])], starts, cpu)["b"]).tolist()


@pytest.mark.parametrize("rows,depth,unroll,each", [(8, 64, 4, 12), (16, 64, 4, 6), (24, 64, 4, 4), (40, 64, 4, 3),
                                                    (24, 60, 3, 3), (80, 60, 3, 1), (24, 66, 4, 4)])
def test_a_tile_fetches_one_run_of_the_next_panel(rows, depth, unroll, each):
    """Lines one after the other: with gaps between them, products with three passes over panels took 7 % longer."""
    schedule = Schedule("j", 16, (("j", 48), ("i", 8)), ("k",), (("k", unroll),), threads=2, prefetch=(1,))
    stage = matmul(rows, 96, depth, schedule)
    stage = replace(stage, reads=(stage.reads[0], access("b", F32, (2, depth, 48), "j//48, k, j%48")))
    lines, turns = depth // unroll * each, -(-unroll * 3 // each)
    for tile in range(rows // 8):
        first = depth * 3 + tile % turns * lines
        assert fetched_lines(stage, (tile, tile + 1)) == [16 * n for n in range(first, first + lines)]


def test_prefetches_lie_between_the_steps_of_an_iteration():
    """All at its end, loads of the next one wait behind them: in a matrix unit 3x3 at 7x7 took 1.25 times as long."""
    schedule = Schedule("j", 16, (("j", 48), ("i", 8)), ("k",), (("k", 4),), threads=2, prefetch=(1,))
    stage = matmul(16, 96, 64, schedule)
    kernel = Kernel("k", (replace(stage, reads=(stage.reads[0], access("b", F32, (2, 64, 48), "j//48, k, j%48"))),))
    loop = emit(kernel, types_of(kernel), machine.named("x86-64-v4")).text.split("iter_args")[1].split("scf.yield")[0]
    found = "".join("p" if "locality<2>" in line else "f" * ("vector.fma" in line) for line in loop.splitlines())
    assert found == "".join("f" * 24 + "p" * lines for lines in (1, 2, 1, 2))


@pytest.mark.parametrize("rows", [8, 16, 24, 40, 80, 104])
def test_the_tiles_of_one_panel_fetch_what_the_next_is_packed_from(rows):
    schedule = Schedule("j", 16, (("j", 48), ("i", 8)), ("k",), (("k", 4),), (Pack(1, ("j", 48), ("j//", "k", "j%")),),
                        threads=1, prefetch=(1,))
    marked = fetched_lines(matmul(rows, 96, 64, schedule), (0, 1))
    assert marked == [96 * k + 48 + 16 * line for k in range(64) for line in range(3)]


@pytest.mark.parametrize("columns", [8, 16, 21, 32, 40])
def test_panels_are_filled_up_to_whole_vectors(columns):
    """Tiles load whole vectors: what an earlier kernel left in a panel would be multiplied as well."""
    source = access("b", F32, (30, columns), "k, j")
    tile, limits = {"j": 32}, {"j": columns, "k": 30}
    pack = Pack(0, ("j", 32), ("j//", "k", "j%"))
    panel = layout(pack, tile, limits)
    places = {axis: Place.whole(size) for axis, size in limits.items()}
    made = copies(source, pack, tile, places, access("p", F32, (panel.count,), ""), panel, machine.named("x86-64-v4"))
    written = [stage.write.flat.evaluate(dict(zip(stage.sizes, point)))
               for stage in made for point in np.ndindex(*stage.sizes.values())]
    loaded = {j // 32 * 30 * 32 + k * 32 + j % 32 for k in range(30) for j in range(-(-columns // 16) * 16)}
    assert len(written) == len(set(written)) and set(written) == loaded


def test_long_epilogues_run_side_by_side():
    schedule = Schedule("j", 16, (("j", 48), ("i", 8)), ("k",), (("k", 4),))
    stage = replace(matmul(64, 96, 64, schedule), epilogue=fn("erf", acc(F32)))
    kernel = Kernel("k", (stage,))
    lines = emit(kernel, types_of(kernel), machine.named("x86-64-v4")).text.splitlines()
    loads = [n for n, line in enumerate(lines) if "vector.load %arg3" in line or "math.absf" in line]
    kinds = "".join("l" if "load" in lines[n] else "a" for n in loads)
    assert "aaaa" in kinds and "aaaaa" not in kinds, "four vectors take their first steps together"


def test_results_out_of_line_are_fetched_to_the_last_one():
    schedule = Schedule("j", 16, (("j", 48), ("i", 8)), ("k",))
    text = assembly(matmul(8, 1003, 512, schedule))         # a row may start anywhere: 48 elements lie in up to 4 lines
    assert text.count("prefetcht0") >= 32
    assert "prefetch" not in assembly(matmul(8, 1003, 16, schedule)), "too short to hide anything"


@pytest.mark.parametrize("target,dtype,count", [("x86-64-v4", F32, 4), ("x86-64-v4", F64, 8), ("x86-64-v4", F16, 0),
                                               ("x86-64-v3", F32, 0)], ids=str)
def test_elements_that_lie_apart_are_stored_by_one_instruction_where_there_is_one(target, dtype, count):
    schedule = Schedule("i", 64 // dtype.bytes if target == "x86-64-v4" else 8, (("i", 64),))
    stage = Stage("s", axes("i:64"), (access("x", dtype, (64,), "i"),), fn("neg", read(0, dtype)),
                  access("y", dtype, (64, 9), "i, 4"), schedule=schedule)
    text = assembly(stage, target)
    assert len(re.findall(r"vscatter", text)) == count
    if machine.runs_here(machine.named(target)):
        check(Kernel("k", (stage,)), target=target)


@pytest.mark.parametrize("rows, parts", [(3, 2), (5, 2), (6, 2), (7, 3)])
def test_a_known_part_of_a_vector_is_stored_without_a_mask_where_masks_are_no_registers(rows, parts):
    """Eight columns by fewer rows, which are transposed; a store with a mask takes 25 cycles on Zen 3."""
    stage = replace(matmul(rows, 8, 64, Schedule("j", 8, (("j", 8), ("i", rows)), ("k",))),
                    write=access("y", F32, (8, rows), "j, i"))
    text = assembly(stage, "x86-64-v3")
    assert "vmaskmov" not in text and len(re.findall(r"%xmm\d+, \d*\(%\w+\)$", text, re.MULTILINE)) == 8 * parts
    for target in TARGETS:
        check(Kernel("k", (stage,)), target=target)


@pytest.mark.parametrize("target, columns, dtype, vectors", [
    ("x86-64-v3", 7, F32, 1), ("x86-64-v3", 11, F32, 2), ("x86-64-v3", 12, F32, 2), ("x86-64-v3", 7, F16, 3),
    ("x86-64", 3, F32, 2), ("x86-64-v4", 7, F16, 1)], ids=str)
def test_tails_are_one_vector_where_part_of_one_can_be_loaded(target, columns, dtype, vectors):
    """AVX2 has masked loads of 4 and 8 bytes; where there are none a tail is a half, a quarter... of a vector each."""
    lanes = machine.named(target).lanes(F32)
    stage = matmul(2, columns, 64, Schedule("j", lanes, (("j", 2 * lanes), ("i", 2)), ("k",)), dtype)
    kernel = Kernel("k", (stage,))
    text = emit(kernel, types_of(kernel), machine.named(target)).text
    accumulators = text.split("iter_args", 1)[1].split("-> (")[1].split(")")[0].split(",")
    assert len(accumulators) == 2 * vectors
    if target in TARGETS:
        check(kernel, target=target)


def test_padding_costs_nothing_inside_a_convolution():
    x = access("x", F32, (64, 56, 56), "c, i + p - 1, j + q - 1", (("i + p - 1", 56), ("j + q - 1", 56)))
    w = access("w", F32, (64, 3, 3, 64), "c, p, q, o")
    stage = Stage(
        "s",
        axes("i:56 j:56 o:64 c:64r p:3r q:3r"),
        (x, w),
        fn("mul", read(0, F32), read(1, F32)),
        access("y", F32, (56, 56, 64), "i, j, o"),
        "add",
        schedule=Schedule("o", 16, (("i", 1), ("j", 7), ("o", 48)), ("p", "q", "c"), (("c", 2),), split=("i", "j")),
    )
    loop = inner_loop(assembly(stage))
    assert sum("vfmadd" in line for line in loop) == 2 * 7 * 3
    assert not any("cmp" in line and "k1" in line or "rsp" in line for line in loop)


PADDED = {
    "pooling": (lambda x: F.max_pool2d(x, 3, 2, 1), (1, 8, 57, 57)),
    "depthwise": (lambda x, w: F.conv2d(x, w, padding=1, groups=16), (1, 16, 28, 28), (16, 1, 3, 3)),
    "convolution": (lambda x, w: F.conv2d(x, w, padding=3, stride=2), (1, 3, 64, 64), (32, 3, 7, 7)),
    "dilated": (lambda x, w: F.conv2d(x, w, padding=2, dilation=2, groups=4), (1, 64, 60, 60), (64, 16, 3, 3)),
    "rows": (lambda x, w: F.conv1d(x, w, padding=4), (4, 16, 128), (16, 16, 9)),
}


def scheduled(function, shapes):
    graph = jtc.jit(function).graph(*(np.zeros(s, np.float32) for s in shapes))
    return advance(graph, "graph", "schedule", settings_for("cpu:x86-64-v4"))


@pytest.mark.parametrize("name", PADDED)
def test_default_schedules_leave_no_guard_to_inner_loops(name):
    """They cut loops where guards begin to hold, or pack the padded operand: what is inside compares nothing."""
    function, *shapes = PADDED[name]
    program = scheduled(function, shapes)
    guards = [g for k in program.kernels for s in k.stages for a in s.reads for g in a.guards]
    assert guards, "nothing is padded"
    for kernel in program.kernels:
        text = emit(kernel, program.buffers, machine.named("x86-64-v4")).text
        inner = re.findall(r"scf\.for [^\n]*\{\n((?:(?!\s*\}|[^\n]*scf\.for)[^\n]*\n)*)\s*\}", text)
        assert inner and not any("arith.cmpi" in body for body in inner), kernel.name


def test_an_image_too_narrow_to_cut_is_compared_once_for_a_tile():
    """All vectors of a tile that a copy turns have one mask, and what reads the copy has none."""
    function, _, weights = PADDED["dilated"]
    program = scheduled(function, [(1, 64, 28, 28), weights])
    compared = {k.name: kernel_assembly(k, program.buffers).count("vpcmp") for k in program.kernels}
    assert compared == {"pack_w": 0, "pack_x": 1, "k0_dot": 0}


def test_code_does_not_grow_with_the_problem():
    small, large = (
        emit(
            Kernel("k", (matmul(n, n, n, MATMULS["packed"]),)),
            types_of(Kernel("k", (matmul(n, n, n, MATMULS["packed"]),))),
            machine.named("x86-64-v4"),
        ).text.count("\n")
        for n in (101, 4093)
    )
    assert large <= small * 1.2


def test_missing_schedules_are_bugs():
    with pytest.raises(InternalError, match="stage s has no schedule"):
        emit(Kernel("k", (elementwise(4, F32, None),)), {}, machine.host())


X, Y = read(0, F32), read(1, F32)
SIGNS = {
    "min(x, 0)": (fn("min", X, const(0.0, F32)), True), "min(-1, x)": (fn("min", const(-1.0, F32), X), True),
    "min(x, 1)": (fn("min", X, const(1.0, F32)), False), "min(x, nan)": (fn("min", X, const(np.nan, F32)), False),
    "min(x, y)": (fn("min", X, Y), False), "max(x, 0)": (fn("max", X, const(0.0, F32)), False),
    "-|x|": (fn("neg", fn("abs", X)), True), "-x": (fn("neg", X), False),
    "-(x * x)": (fn("neg", fn("mul", X, X)), True), "-(x * y)": (fn("neg", fn("mul", X, Y)), False),
    "x * -1": (fn("mul", X, const(-1.0, F32)), False),
    "-0.5 * x^2": (fn("mul", const(-0.5, F32), fn("mul", X, X)), True),
    "|x| * -2": (fn("mul", fn("abs", X), const(-2.0, F32)), True), "x - y": (fn("sub", X, Y), False),
    "|x| * 2": (fn("mul", fn("abs", X), const(2.0, F32)), False)}


@pytest.mark.parametrize("argument, known", SIGNS.values(), ids=SIGNS)
def test_exp_takes_less_code_where_its_argument_is_not_above_0(argument, known):
    """One power of two in the place of two; the values are right either way."""
    reads = tuple(access(b, F32, (64,), "i") for b in "xy")
    stage = Stage("s", axes("i:64"), reads, fn("exp", argument), access("out", F32, (64,), "i"),
                  schedule=Schedule("i", 8, (("i", 8),)))
    emitted, _ = check(stage, target=TARGETS[-1], tolerance=1e-6)
    assert ("arith.shrsi" not in emitted.text) == known
