"""From kernels to a module that runs: schedule, emit, equal kernels once, objects, link, plan, cache."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernels import contraction

import jtc
from jtc.compiler import codegen, driver, explain, phases, pipeline
from jtc.compiler.contents import contents, key_of
from jtc.compiler.cpu import lower
from jtc.compiler.driver import Timings, compile_graph, settings_for
from jtc.dialects.dtypes import F32
from jtc.dialects.errors import InputError, UsageError
from jtc.dialects.graph import TensorType
from jtc.dialects.text import program_text
from jtc.runtime import knobs
from jtc.runtime.module import load_module


@pytest.fixture(autouse=True)
def own_cache(tmp_path):
    with knobs.use(cache_dir=tmp_path / "cache", jobs=0):
        yield tmp_path


def two_equal_kernels():
    """d = (a @ b) @ b2 with kernels that differ in names only."""
    first = contraction(16, 16, 16)
    stage = first.kernels[0].stages[0]
    reads = (replace(stage.reads[0], buffer="c"), replace(stage.reads[1], buffer="e"))
    second = replace(first.kernels[0], name="again", stages=(
        replace(stage, name="other", reads=reads, write=replace(stage.write, buffer="d")),))
    kind = TensorType(F32, (16, 16))
    return replace(first, inputs=["a", "b", "e"], outputs=["d"], input_names=[], output_names=[],
                   buffers={**first.buffers, "d": kind, "e": kind}, kernels=[first.kernels[0], second])


def check(path, program):
    module = load_module(path)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(program.buffers[n].shape, np.float32) for n in program.inputs]
    want = arrays[0]
    for b in arrays[1:]:
        want = want @ b
    np.testing.assert_allclose(module(*arrays), want, rtol=1e-4, atol=1e-4)


def test_compile_and_run(own_cache):
    timings = Timings()
    path = compile_graph(contraction(), phase="kernel", timings=timings)
    check(path, contraction())
    assert own_cache in path.parents and not timings.cached and timings.distinct == timings.compiled == 1
    assert {"kernel-schedule", "emit", "objects", "plan", "link"} <= {name for name, _ in timings.steps}
    again = Timings()
    assert compile_graph(contraction(), phase="kernel", timings=again) == path
    assert again.cached


def test_output_file_is_the_module(own_cache):
    output = own_cache / "m.so"
    assert compile_graph(contraction(), output=output, phase="kernel") == output
    check(output, contraction())
    assert output.stat().st_mode & 0o111
    with pytest.raises(InputError, match="no directory"):
        compile_graph(contraction(), output=own_cache / "absent" / "m.so", phase="kernel")
    with pytest.raises(InputError, match="is a directory"):
        compile_graph(contraction(), output=own_cache, phase="kernel")


def test_equal_kernels_share_code():
    program = two_equal_kernels()
    timings = Timings()
    path = compile_graph(program, phase="kernel", timings=timings)
    assert timings.distinct == 1
    plan = load_module(path).plan
    assert [launch.kernel for launch in plan.launches] == ["product", "again"]
    assert len({launch.symbol for launch in plan.launches}) == 1
    check(path, program)


def test_objects_are_shared_between_programs():
    compile_graph(contraction(), phase="kernel")
    timings = Timings()
    path = compile_graph(contraction(name="other"), phase="kernel", timings=timings)
    assert not timings.cached and timings.distinct == 1 and timings.compiled == 0
    check(path, contraction())


def test_a_damaged_entry_is_compiled_again(caplog):
    path = compile_graph(contraction(), phase="kernel")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert compile_graph(contraction(), phase="kernel") == path
    assert "damaged" in caplog.text
    check(path, contraction())


def test_workers(own_cache):
    program = two_equal_kernels()
    kernels = []
    buffers = dict(program.buffers)
    for n in range(4):                                     # four different kernels
        part = contraction(8 + n, 16, 5)
        names = {b: f"{b}{n}" for b in part.buffers}
        buffers.update({names[b]: t for b, t in part.buffers.items()})
        stage = part.kernels[0].stages[0]
        reads = tuple(replace(r, buffer=names[r.buffer]) for r in stage.reads)
        kernels.append(replace(part.kernels[0], name=f"k{n}", stages=(
            replace(stage, reads=reads, write=replace(stage.write, buffer=f"c{n}")),)))
    made = {b: t for b, t in buffers.items() if b[-1].isdigit()}
    whole = replace(program, inputs=[b for b in made if b[0] != "c"], outputs=[b for b in made if b[0] == "c"],
                    input_names=[], output_names=[], buffers=made, kernels=kernels)
    seen = []
    path = compile_graph(whole, phase="kernel", jobs=2, progress=lambda *step: seen.append(step))
    module = load_module(path)
    arrays = [np.ones(whole.buffers[n].shape, np.float32) for n in whole.inputs]
    assert all((out == 5).all() for out in module(*arrays))
    assert ("objects", 4, 4) in seen


def test_interrupt_leaves_nothing(own_cache, monkeypatch):
    import jtc.compiler.workers as workers

    def interrupt(*args):
        raise KeyboardInterrupt
    monkeypatch.setattr(workers, "compile_object", interrupt)
    output = own_cache / "m.so"
    output.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        compile_graph(contraction(), output=output, phase="kernel")
    assert output.read_text() == "old"
    assert [p.name for p in own_cache.rglob("*") if p.is_file()] in (["m.so"], ["m.so", "sources.json"],
                                                                     ["sources.json", "m.so"])


def test_other_targets():
    for name in ("cpu:x86-64-v3", "x86-64"):
        module = load_module(compile_graph(contraction(), name, phase="kernel"))
        assert module.plan.target == name.removeprefix("cpu:")
        check(module.path, contraction())
    with pytest.raises(UsageError, match="unknown target 'z80'"):
        compile_graph(contraction(), "z80", phase="kernel")
    with knobs.use(target="z80"), pytest.raises(UsageError, match="unknown cpu 'z80'"):
        compile_graph(contraction(), phase="kernel")
    with pytest.raises(UsageError, match="unknown knob"):
        compile_graph(contraction(), phase="kernel", nonsense=1)


def test_narrow_types_have_code():
    byte = jtc.array(np.array([0, 1, 200, 255], np.uint8))
    assert (byte + byte).numpy().tolist() == [0, 2, 144, 254]
    assert jtc.array([1.7, -2.0]).astype(jtc.int16).astype(jtc.int32).numpy().tolist() == [1, -2]
    half = jtc.array([1.0, 3e-8, 70000.0]).astype(jtc.float16)
    assert half.numpy().tolist() == [1.0, 2.0 ** -24 * 1, np.inf] and (half + half).dtype is jtc.float16



def test_dump(own_cache):
    dump = own_cache / "dump"
    compile_graph(contraction(), phase="kernel", dump_dir=dump)
    files = {str(p.relative_to(dump)) for p in dump.rglob("*") if p.is_file()}
    names = [f"{n:02}-{name}.mlir" for n, name in enumerate(["kernel", *(step.name for step in pipeline.KERNEL)])]
    assert set(names) <= files
    for phase, suffix in (("loops", ".loops.mlir"), ("llvm", ".ll"), ("asm", ".s"), ("obj", ".o")):
        assert [f for f in files if f.startswith(f"{phase}/kernel_") and f.endswith(suffix)]
    # A dump can be compiled on from.
    start, value = phases.read_file(dump / names[-1])
    assert start == "schedule"
    check(compile_graph(value, phase=start), contraction())
    with pytest.raises(InputError, match="cannot write the dump directory"):
        (own_cache / "file").write_text("")
        compile_graph(contraction(), phase="kernel", dump_dir=own_cache / "file" / "x")


def test_from_every_phase():
    settings = settings_for()
    value, start = contraction(), "kernel"
    for end in ("schedule", "loops", "llvm"):
        value = phases.advance(value, start, end, settings)
        found, back = phases.parse(phases.text_of(value, end), f"x{phases.PHASES[end].suffix}", end)
        assert found == end
        value, start = back, end
    assert phases.advance(value, "llvm", "obj", settings)[0].data[:4] == b"\x7fELF"
    with pytest.raises(UsageError, match="cannot make kernel from llvm"):
        phases.path_between("llvm", "kernel")


def test_canonical_names():
    program = two_equal_kernels()
    forms = [codegen.canonical(k)[0] for k in program.kernels]
    assert forms[0] == forms[1]
    assert codegen.canonical(program.kernels[1])[1] == {"c": "b0", "e": "b1", "d": "b2"}


def test_report(own_cache):
    module = load_module(compile_graph(contraction(), phase="kernel"))
    report = explain.explain_plan(module.plan)
    kernel, = [k for k in report.kernels if k.name == "product"]
    assert kernel.ops == ["reindex_reduce", "mul"] and kernel.lines == ["user.py:7"]
    assert kernel.flops == 2 * 20 * 24 * 12 and kernel.bytes == 4 * (20 * 12 + 12 * 24 + 20 * 24)
    assert kernel.reasons == [("c", "it is an output")] and kernel.symbol.startswith("kernel_")
    text = str(report)
    assert "ends at c: it is an output" in text and "from user.py:7" in text and "vector" in text
    assert explain.Report.from_json(report.to_json()) == report
    with open(own_cache / "k.mlir", "w") as file:
        file.write(program_text(contraction()))
    from jtc.tools.explain import make
    assert [k.name for k in make(str(own_cache / "k.mlir"), "cpu").kernels] == [k.name for k in report.kernels]


def test_key_depends_on_what_matters():
    def key(program, target="cpu"):
        return key_of(contents(program, False), driver.resolve_target(target))
    base = key(contraction())
    assert base.digest == key(contraction()).digest
    assert base.differs(key(contraction(n=21)).parts) == ["graph", "inputs"]
    assert base.differs(key(contraction(), "x86-64").parts) == ["target"]
    with knobs.use(optimize=3):
        assert base.differs(key(contraction()).parts) == ["knobs"]
    with knobs.use(threads=1, dump_dir="x"):
        assert base.digest == key(contraction()).digest


def test_what_runs_once_is_compiled_in_a_hurry():
    """The product of weights is made when they are bound, the one with x in every call."""
    weights = np.ones((70, 70), np.float32)
    graph = jtc.jit(lambda x: jtc.matmul(x, jtc.matmul(weights, weights))).graph(np.ones((64, 70), np.float32))
    settings = settings_for("x86-64-v4")
    functions = codegen.emit_kernels(phases.advance(graph, "graph", "schedule", settings), settings)
    assert any(not f.once for f in functions.values())
    product, = [f for name, f in functions.items() if f.once and "dot" in name]
    slow, quick = (codegen.to_object(codegen.to_llvm(code, settings), settings).data
                   for code in (replace(product, once=False).code(), product.code()))
    assert slow != quick


@pytest.mark.parametrize("function, tight", [
    (lambda x: jtc.exp(x) + 1, False),
    (lambda x: jtc.sum(x, axis=1), True),
    (lambda x: jtc.matmul(x, x), True),
])
def test_addresses_are_reduced_where_loops_carry_values(function, tight):
    settings = settings_for("x86-64-v4")
    graph = jtc.jit(function).graph(np.ones((64, 64), np.float32))
    functions = codegen.emit_kernels(phases.advance(graph, "graph", "schedule", settings), settings)
    assert [lower.carries(str(codegen.to_llvm(f.code(), settings).data)) for f in functions.values()] == [tight]
