"""Plans: what runs once, waves, the arena; JSON and what is wrong with it."""
from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import F32
from jtc.dialects.errors import InputError, InternalError
from jtc.dialects.expr import const, expr, read
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Access, Axis, Kernel, Program, Stage
from jtc.dialects.target import CpuTarget
from jtc.runtime.cost import kernel_cost
from jtc.runtime.plan import VERSION, Plan, weights
from jtc.runtime.planner import ALIGNMENT, build_plan, lifetimes


@dataclass
class Code:
    symbol: str
    operands: list[str]
    units: int = 1
    workspace_bytes: int = 0
    offsets: list[int] = field(default_factory=list)


def kernel(name: str, reads: list[str], write: str, sizes: dict[str, int], accumulate: bool = False) -> Kernel:
    """write[i] = sum of reads[i mod size]."""
    size = sizes[write]

    def access(buffer: str) -> Access:
        index = Affine.axis("i") if sizes[buffer] == size else Affine()
        return Access(buffer, F32, (sizes[buffer],), (index,))

    body = const(1.0, F32)
    for k in range(len(reads)):
        body = expr("add", (body, read(k, F32)), F32)
    reduce = "add" if accumulate else None
    return Kernel(name, (Stage("s", (Axis("i", size),), tuple(map(access, reads)), body, access(write), reduce,
                               accumulate=accumulate),))


def program(rows: list[tuple[list[str], str]], inputs: list[str], outputs: list[str], sizes: dict[str, int],
            constants: dict | None = None) -> Program:
    buffers = {name: TensorType(F32, (n,)) for name, n in sizes.items()}
    kernels = [kernel(f"k{i}_{write}", reads, write, sizes) for i, (reads, write) in enumerate(rows)]
    return Program("p", inputs, outputs, buffers, kernels, constants or {})


def planned(module: Program, **options) -> Plan:
    return build_plan(module, {k.name: Code(k.name, k.operands) for k in module.kernels}, **options)


def kinds(plan: Plan) -> dict[str, str]:
    return {b.name: b.kind for b in plan.buffers}


def check_memory(plan: Plan) -> None:
    """No two buffers that live at the same time overlap, and all lie in their blocks, aligned."""
    for kind, launches, size in (("arena", plan.launches, plan.arena_bytes),
                                 ("scratch", plan.prepare, plan.scratch_bytes)):
        live = lifetimes(launches)
        rows = [(i, b) for i, b in enumerate(plan.buffers) if b.kind == kind]
        for i, b in rows:
            assert b.place % ALIGNMENT == 0 and b.place + b.bytes <= size
            for j, other in rows:
                together = live[i][0] <= live[j][1] and live[j][0] <= live[i][1]
                apart = b.place + b.bytes <= other.place or other.place + other.bytes <= b.place
                assert i == j or not together or apart, (b, other)
    prepared = sorted((b.place, b.place + b.bytes) for b in plan.buffers if b.kind == "prepared")
    assert all(end <= start for (_, end), (start, _) in zip(prepared, prepared[1:]))


def check_order(plan: Plan, module: Program) -> None:
    """Every launch comes in a later wave than those that write what it touches, or read what it writes."""
    wave = {launch.kernel: launch.wave for launch in plan.prepare + plan.launches}
    once = {launch.kernel for launch in plan.prepare}
    for n, first in enumerate(module.kernels):
        for second in module.kernels[n + 1:]:
            depends = set(first.written) & {*second.read, *second.written} or set(first.read) & set(second.written)
            if depends and (first.name in once) == (second.name in once):
                assert wave[first.name] < wave[second.name]
            if set(first.written) & set(second.read) and second.name in once:
                assert first.name in once


@st.composite
def programs(draw) -> Program:
    """Random programs over inputs, weights, numbers and results of earlier kernels."""
    sizes = {"x": 64, "y": 1000, "w": 300, "v": 64, "c": 5}
    names = list(sizes)
    rows = []
    for i in range(draw(st.integers(1, 14))):
        reads = draw(st.lists(st.sampled_from(names), min_size=0, max_size=3, unique=True))
        sizes[f"t{i}"] = draw(st.sampled_from([1, 7, 64, 300, 5000, 2 << 20]))
        rows.append((reads, f"t{i}"))
        names.append(f"t{i}")
    outputs = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4))
    constants = {"w": np.zeros(300, np.float32), "v": None, "c": 2.0}
    return program(rows, ["x", "y"], outputs, sizes, constants)


@settings(deadline=None, max_examples=150)
@given(programs())
def test_random_programs(module):
    plan = planned(module)
    check_memory(plan)
    check_order(plan, module)
    assert Plan.from_json(plan.to_json()) == plan
    known = kinds(plan)
    fixed = {"x": "input", "y": "input", "w": "constant", "v": "constant", "c": "constant"}
    for name, kind in known.items():
        assert fixed.get(name, kind) == kind
    assert sorted(launch.kernel for launch in plan.prepare + plan.launches) == sorted(k.name for k in module.kernels)
    from_input = {"x", "y"}
    for k in module.kernels:
        if from_input & {*k.read}:
            from_input.update(k.written)
    for launch in plan.prepare:
        for i in launch.operands:
            assert plan.buffers[i].name not in from_input
            assert plan.buffers[i].kind in ("constant", "prepared", "scratch")
    for name in module.outputs:
        assert known[name] in ("input", "constant", "output")


def test_kernels_on_weights_run_once():
    module = program([(["w"], "folded"), (["folded", "c"], "packed"), (["x", "packed"], "y"), ([], "iota"),
                      ([], "table"), (["iota", "table", "y"], "z")], ["x"], ["z"],
                     dict.fromkeys(["w", "folded", "packed", "c", "x", "y", "table", "z"], 100) | {"iota": 10_000},
                     {"w": np.ones(100, np.float32), "c": 3.0})
    plan = planned(module)
    assert [launch.symbol for launch in plan.prepare] == ["k0_folded", "k1_packed", "k4_table"]
    assert kinds(plan) == {"w": "constant", "folded": "scratch", "packed": "prepared", "c": "constant", "x": "input",
                           "y": "arena", "iota": "arena", "table": "prepared", "z": "output"}
    assert [(c.name, c.splat, c.offset) for c in plan.constants] == [("w", None, 0), ("c", 3.0, 0)]
    assert plan.weight_bytes == 448 and [offset for offset, _ in weights(plan, module.constants)] == [0]


def test_scatter_into_a_weight_dependent_buffer_keeps_its_order():
    sizes = dict.fromkeys(["w", "t", "x", "y"], 64)
    module = program([([], "t")], ["x"], ["y"], sizes, {"w": np.zeros(64, np.float32)})
    module.kernels += [kernel("scatter", ["w"], "t", sizes, accumulate=True), kernel("use", ["t", "x"], "y", sizes)]
    plan = planned(module)
    assert [launch.kernel for launch in plan.prepare] == ["k0_t", "scatter"]
    assert plan.prepare[0].wave < plan.prepare[1].wave
    module.kernels[1] = kernel("scatter", ["x"], "t", sizes, accumulate=True)
    assert [launch.kernel for launch in planned(module).launches] == ["k0_t", "scatter", "use"]


def test_arena_is_reused_along_a_chain():
    count, size = 20, 1 << 20
    names = [f"t{i}" for i in range(count)]
    module = program([([a], b) for a, b in zip(["x", *names], names)], ["x"], [names[-1]],
                     dict.fromkeys(["x", *names], size))
    assert planned(module).arena_bytes == 2 * 4 * size


def test_small_independent_kernels_share_a_wave_and_large_ones_do_not():
    for size, waves in ((100, 2), (8 << 20, 4)):
        names = ["x", "a", "b", "c", "z"]
        module = program([(["x"], "a"), (["x"], "b"), (["x"], "c"), (["a", "b", "c"], "z")], ["x"], ["z"],
                         dict.fromkeys(names, size))
        code = {k.name: Code(k.name, k.operands, units=1000) for k in module.kernels}
        assert len({launch.wave for launch in build_plan(module, code).launches}) == waves


def test_outputs_that_are_read_repeated_inputs_or_constants():
    module = program([(["x"], "y"), (["y"], "z")], ["x"], ["z", "y", "x", "w", "y"], dict.fromkeys("xyzw", 10),
                     {"w": np.zeros(10, np.float32)})
    plan = planned(module)
    assert kinds(plan) == {"x": "input", "y": "output", "z": "output", "w": "constant"} and plan.arena_bytes == 0
    assert [plan.buffers[i].name for i in plan.outputs] == ["z", "y", "x", "w", "y"]
    assert [b.place for b in plan.buffers if b.kind == "output"] == [1, 0]


def test_equal_weights_are_stored_once():
    array = np.ones(10, np.float32)
    module = program([(["v", "w", "x"], "y")], ["x"], ["y"], dict.fromkeys("vwxy", 10), {"v": array, "w": array})
    plan = planned(module)
    assert plan.weight_bytes == 64 and len(list(weights(plan, module.constants))) == 1


def test_costs():
    module = program([(["x", "c"], "y")], ["x"], ["y"], {"x": 100, "c": 7, "y": 100}, {"c": 0.0})
    assert kernel_cost(module.kernels[0], module.buffers) == (200, 400 + 4 + 400)


@pytest.mark.parametrize("change, message", [
    (lambda p: p.kernels.reverse(), "reads y before it is written"),
    (lambda p: p.constants.update(y=1.0), "writes y, which is an input or a constant"),
    (lambda p: p.outputs.append("w"), "the output w is never written"),
    (lambda p: p.constants.update(c=np.zeros(3, np.float32)), "the weight c"),
])
def test_programs_out_of_order_are_bugs(change, message):
    module = program([(["x", "c"], "y"), (["y"], "z")], ["x"], ["z"], dict.fromkeys("xyzcw", 10), {"c": 1.0})
    change(module)
    with pytest.raises(InternalError, match=message):
        planned(module)


def test_unknown_dimension_is_refused():
    module = program([(["x"], "y")], ["x"], ["y"], {"x": 10, "y": 10})
    module.buffers["x"] = TensorType(F32, (-1,))
    with pytest.raises(InputError, match="unknown dimension"):
        planned(module)


def damaged(plan: Plan, **changes) -> str:
    return json.dumps({**json.loads(plan.to_json()), **changes})


def test_damaged_and_newer_plans():
    module = program([(["x"], "y"), (["y"], "z")], ["x"], ["z"], dict.fromkeys("xyz", 10))
    plan = planned(module, target=CpuTarget("x86-64-v3", "+avx2"), tree="null")
    assert (plan.target, plan.features, plan.tree, plan.report) == ("x86-64-v3", "+avx2", "null", {})
    with pytest.raises(InputError, match=r"f\.so: plan format 2, this jtc reads format 1\n  hint: update jtc"):
        Plan.from_json(damaged(plan, version=VERSION + 1), "f.so")
    for text in ("", "[]", "{}", "{", b"\xff\xfe"):
        with pytest.raises(InputError):
            Plan.from_json(text)
    outside = [replace(b, place=1 << 40) if b.kind == "arena" else b for b in plan.buffers]
    for bad in ({"wrong": 1}, {"launches": [{}]}, {"inputs": [99]}, {"outputs": [-1]}, {"input_names": []},
                *({"launches": [json.loads(plan.to_json())["launches"][0] | wrong]} for wrong in
                  ({"operands": [77]}, {"offsets": [0]}, {"offsets": [0, 1 << 40]}, {"offsets": [-4, 0]}))):
        with pytest.raises(InputError, match="damaged"):
            Plan.from_json(damaged(plan, **bad))
    with pytest.raises(InputError, match="lies outside"):
        Plan.from_json(replace(plan, buffers=outside).to_json())
