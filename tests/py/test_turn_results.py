"""Sums that are stored in rows, and that a second kernel turns (kernel-turn-results)."""
from __future__ import annotations

from dataclasses import replace

import pytest
from test_dot import agrees, half, normal

import jtc
import jtc.nn.functional as F
from jtc.compiler.driver import settings_for
from jtc.compiler.phases import advance


def update(x, y, w, v, stride=1):
    """A step with momentum against the gradient of sum(conv(x, w) * y); images are channels last."""
    x, y = (half(a).transpose(0, 3, 1, 2) for a in (x, y))

    def loss(w):
        out = F.conv2d(x, half(w), stride=stride, padding=w.shape[-1] // 2)
        return jtc.sum(jtc.astype(out, jtc.float32) * jtc.astype(y, jtc.float32))
    v = v * 0.9 + jtc.grad(loss)(w)
    return w - 0.1 * v, v


def arrays(batch, channels, filters, size, window, stride=1):
    shape = (filters, channels, window, window)
    return normal(batch, size, size, channels), normal(batch, size // stride, size // stride, filters), \
        normal(*shape), normal(*shape)


CASES = {
    "3x3": (update, arrays(4, 32, 48, 16, 3)),
    "odd sizes": (update, arrays(3, 19, 37, 11, 3)),
    "5x5": (update, arrays(2, 16, 33, 9, 5)),
    "stride 2": (lambda *a: update(*a, stride=2), arrays(4, 32, 32, 16, 3, 2)),
}


def scheduled(name, target="sapphirerapids", **options):
    function, inputs = CASES[name]
    graph = jtc.jit(function).graph(*inputs)
    return graph, inputs, advance(graph, "graph", "schedule", replace(settings_for(f"cpu:{target}"), **options))


def rows(program):
    return [k.name for k in program.kernels if k.name.endswith("_rows")]


@pytest.mark.parametrize("name", CASES)
def test_results(name, tmp_path):
    graph, inputs, program = scheduled(name)
    assert len(rows(program)) == 1
    agrees(program, graph, inputs, tmp_path / "m.so")


def test_small_windows_are_turned_for_the_unit_only_which_strict_arithmetic_does_not_use():
    assert not rows(scheduled("3x3", strict=True)[-1])
    assert not rows(scheduled("3x3", quick=True)[-1])
    assert not rows(scheduled("3x3", "cooperlake")[-1])


def in_float32(x, y, w, v):
    def loss(w):
        return jtc.sum(F.conv2d(x, w, stride=2, padding=1) * y)
    v = v * 0.9 + jtc.grad(loss)(w)
    return w - 0.1 * v, v


def float32_arrays(channels, filters):
    shape = (filters, channels, 4, 4)
    return normal(2, channels, 8, 8), normal(2, filters, 4, 4), normal(*shape), normal(*shape)


def float32_program(channels, filters, target):
    inputs = float32_arrays(channels, filters)
    graph = jtc.jit(in_float32).graph(*inputs)
    return graph, inputs, advance(graph, "graph", "schedule", settings_for(f"cpu:{target}"))


def test_vectors_store_rows_where_lines_crowd_the_cache(tmp_path):
    """Two tensors of 16 lines 8 KiB apart each take 256 KiB of 512; with 4 KiB, 7.5 KiB, or a larger cache, less."""
    graph, inputs, program = float32_program(128, 128, "znver3")
    name, = rows(program)
    sums, = next(k for k in program.kernels if k.name == name).stages
    assert not sums.schedule.matrix and sums.write.flat[sums.schedule.vector] == 1
    agrees(program, graph, inputs, tmp_path / "m.so", 1e-4)
    assert not rows(float32_program(64, 256, "znver3")[-1])
    assert not rows(float32_program(120, 128, "znver3")[-1])
    assert not rows(float32_program(128, 128, "x86-64-v3")[-1])


def test_the_unit_multiplies_and_the_turned_sums_are_read_in_blocks():
    *_, program = scheduled("3x3")
    sums = next(k for k in program.kernels if k.name.endswith("_rows")).stages[0]
    assert sums.schedule.matrix and sums.write.flat[sums.schedule.vector] == 1
    ends = next(k.stages[0] for k in program.kernels if sums.write.buffer in k.read)
    assert [ends.reads[p.read].buffer for p in ends.schedule.packs] == [sums.write.buffer]


@pytest.mark.parametrize("function, inputs", [
    (update, arrays(4, 32, 48, 16, 1)),         # rows of channels
    (lambda x, w: jtc.astype(F.conv2d(half(x), half(w)), jtc.float32), (normal(2, 64, 8, 8), normal(64, 64, 3, 3))),
    (lambda x, y, w, v: update(x, y, w, v)[1] - v * 0.9, arrays(2, 4, 16, 8, 3)),       # few results
])
def test_left_alone(function, inputs):
    graph = jtc.jit(function).graph(*inputs)
    assert not rows(advance(graph, "graph", "schedule", settings_for("cpu:sapphirerapids")))
