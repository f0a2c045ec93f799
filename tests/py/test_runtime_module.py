"""Loading and calling compiled modules, made here from C."""
from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from jtc.dialects.errors import InputError
from jtc.runtime import engine
from jtc.runtime.engine import Buffer
from jtc.runtime.module import Module, load_module
from jtc.runtime.plan import ConstantPlan, Plan

from native import buffer, launch, needs_compiler, plan, shared_object

pytestmark = needs_compiler

# t = x + x; y = t * packed, where packed = reversed w, made once
SOURCE = """
KERNEL(twice) { for (int64_t i = begin; i < end; i++) F(1)[i] = F(0)[i] + F(0)[i]; }
KERNEL(reverse) { for (int64_t i = begin; i < end; i++) F(1)[i] = F(0)[7 - i]; }
KERNEL(multiply) {
    float* own = (float*)workspace;
    for (int64_t i = begin; i < end; i++) own[i] = F(0)[i] * F(1)[i] + F(2)[0];
    for (int64_t i = begin; i < end; i++) F(3)[i] = own[i];
}
"""


def program(name: str = "affine") -> Plan:
    buffers = [buffer("x", [8], "input"), buffer("t", [8], "arena"), buffer("w", [8], "constant", 0),
               buffer("packed", [8], "prepared"), buffer("c", [1], "constant", 1), buffer("y", [8], "output")]
    return plan(name, buffers, [launch("twice", [0, 1], 8), launch("multiply", [1, 3, 4, 5], 8, 1, workspace=32)],
                [launch("reverse", [2, 3], 8)],
                [ConstantPlan("weight", 2, None, 0, 32), ConstantPlan("c", 4, 0.5, 0, 4)],
                arena_bytes=64, prepared_bytes=64, weight_bytes=64)


W = np.arange(8, dtype=np.float32)
X = np.linspace(-1, 1, 8, dtype=np.float32)
EXPECTED = (X + X) * W[::-1] + np.float32(0.5)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return shared_object(tmp_path_factory.mktemp("module") / "affine.so", SOURCE, program())


@pytest.fixture
def module(path):
    loaded = load_module(path)
    loaded.bind([W])
    return loaded


def test_profile(module):
    """A time for every launch of a run, and for none that prepares constants."""
    times = module.profile(X)
    assert len(times) == len(module.plan.launches) == 2 and all(0 < t < 1 for t in times)
    np.testing.assert_allclose(module(X), EXPECTED, rtol=1e-6)


def test_calls(module):
    assert repr(module) == "<Module affine(x: float32[8]) -> (y: float32[8])>"
    assert (module(X) == EXPECTED).all()
    out, = module.run([Buffer.from_numpy(X)])
    assert (out.numpy() == EXPECTED).all()
    assert (module(np.repeat(X, 2)[::2]) == EXPECTED).all()                    # not contiguous


def test_weights_by_name_and_rebinding(path):
    module = load_module(path)
    assert [str(c) for c in module.constants] == ["weight: float32[8]"]
    with pytest.raises(InputError, match="no weights yet"):
        module(X)
    with pytest.raises(InputError, match="the weight 'weight' is missing"):
        module.bind({"other": W})
    with pytest.raises(InputError, match="constant w is float32\\[8\\], got float32\\[3\\]"):
        module.bind([W[:3]])
    with pytest.raises(InputError, match="has 1 weights, got 2"):
        module.bind([W, W])
    module.bind({"weight": W})
    first = module(X)
    module.bind({"weight": W[::-1]})
    assert (first == EXPECTED).all() and (module(X) == (X + X) * W + np.float32(0.5)).all()


def test_embedded_weights(tmp_path):
    blob = W.tobytes() + bytes(32)
    module = load_module(shared_object(tmp_path / "with.so", SOURCE, program(), blob))
    assert not module.constants and (module(X) == EXPECTED).all()
    with pytest.raises(InputError, match="40 bytes of weights, not 64"):
        load_module(shared_object(tmp_path / "short.so", SOURCE, program(), blob[:40]))


@pytest.mark.parametrize("args, message", [
    ((), r"affine takes 1 inputs \(x\), got 0"),
    ((X, X), r"affine takes 1 inputs \(x\), got 2"),
    ((X.astype(np.float64),), r"affine: input 0 \(x\) is float32\[8\], got float64\[8\]"),
    ((X[:4],), r"affine: input 0 \(x\) is float32\[8\], got float32\[4\]"),
    ((X.reshape(2, 4),), r"got float32\[2, 4\]"),
    (("text",), "a value is str .text., an array of"),
])
def test_wrong_arguments(module, args, message):
    with pytest.raises(InputError, match=message):
        module(*args)
    assert (module(X) == EXPECTED).all()


def test_results_are_independent_and_memory_is_reused(module):
    first = module(X)
    second = module(X * 2)
    assert (first == EXPECTED).all() and (second != first).any()
    del first, second
    before = engine.memory_statistics()
    for _ in range(50):
        module(X)
    after = engine.memory_statistics()
    assert after["misses"] == before["misses"] and after["live"] == before["live"]


def test_trees_and_several_outputs(tmp_path):
    buffers = [buffer("x", [8], "input"), buffer("y", [8], "output"), buffer("e", [0], "input", 1)]
    base = plan("many", buffers, [launch("twice", [0, 1], 8)])
    leaf = None
    tree = {"kind": "dict", "names": ["a", "b"], "children": [
        {"kind": "list", "names": [], "children": [leaf, leaf]}, {"kind": "tuple", "names": [], "children": [leaf]}]}
    base = replace(base, outputs=[1, 0, 2], output_names=["y", "x", "e"], tree=json.dumps(tree))
    result = load_module(shared_object(tmp_path / "many.so", SOURCE, base))(X, np.empty(0, np.float32))
    assert list(result) == ["a", "b"] and isinstance(result["b"], tuple) and result["b"][0].shape == (0,)
    assert (result["a"][0] == X + X).all() and (result["a"][1] == X).all()


def test_a_returned_input_is_not_the_users_memory(tmp_path):
    base = replace(plan("same", [buffer("x", [8], "input")], []), outputs=[0], output_names=["x"])
    module = load_module(shared_object(tmp_path / "same.so", SOURCE, base))
    mine = X.copy()
    result = module(mine)
    mine[:] = 0
    assert (result == X).all()
    kept = Buffer.from_numpy(X)
    assert module.run([kept])[0].ptr == kept.ptr


def test_the_code_outlives_the_module(path):
    module = load_module(path)
    module.bind([W])
    executable = module.executable
    del module
    assert (executable.run([Buffer.from_numpy(X)])[0].numpy() == EXPECTED).all()


def test_truncated_files(path, tmp_path):
    data = path.read_bytes()
    cut = tmp_path / "cut.so"
    for length in (0, 1, 63, 64, 100, 1000, len(data) // 2, len(data) - 1):
        cut.write_bytes(data[:length])
        with pytest.raises(InputError, match="cut.so") as error:
            load_module(cut)
        assert len(str(error.value).splitlines()) <= 2


def test_flipped_bytes_never_crash(path, tmp_path):
    """Damage in what is read before loading gives an InputError or, where it did not matter, a plan; never a crash."""
    data = path.read_bytes()
    script = ("import sys\nfrom jtc.dialects.errors import InputError\nfrom jtc.runtime.elf import SharedObject\n"
              "from jtc.runtime.plan import Plan\n"
              "for name in sys.argv[1:]:\n"
              "    try:\n        f = SharedObject(name)\n"
              "        Plan.from_json(f.read('jtc_plan', f.number('jtc_plan_size')))\n"
              "    except InputError: pass\n")
    files = []
    rng = np.random.default_rng(0)
    for i, place in enumerate([*rng.integers(0, 64, 20), *rng.integers(0, len(data), 40)]):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        files.append(tmp_path / f"{i}.so")
        files[-1].write_bytes(damaged)
    subprocess.run([sys.executable, "-c", script, *map(str, files)], check=True)


def test_foreign_files(tmp_path):
    text = tmp_path / "text.so"
    text.write_text("not a module at all\n" * 100)
    with pytest.raises(InputError, match="no ELF shared object"):
        load_module(text)
    source, foreign = tmp_path / "foreign.cpp", tmp_path / "foreign.so"
    source.write_text('__attribute__((constructor)) void f() { __builtin_trap(); }\nextern "C" int g() { return 0; }')
    subprocess.run(["g++", "-shared", "-fPIC", "-o", foreign, source], check=True)
    with pytest.raises(InputError, match="the symbol jtc_plan_size is missing"):     # and its constructor has not run
        load_module(foreign)
    with pytest.raises(InputError, match="No such file"):
        load_module(tmp_path / "absent.so")
    with pytest.raises(InputError, match="Is a directory"):
        load_module(tmp_path)


def test_newer_format_other_processor_missing_kernel(tmp_path):
    newer = json.dumps({**json.loads(program().to_json()), "version": 2})
    with pytest.raises(InputError, match="plan format 2, this jtc reads format 1"):
        load_module(shared_object(tmp_path / "newer.so", SOURCE, newer))
    other = replace(program(), target="future", features="+sse2,+avx9000")
    with pytest.raises(InputError, match="compiled for future with avx9000, which this processor lacks"):
        load_module(shared_object(tmp_path / "other.so", SOURCE, other))
    with pytest.raises(InputError, match="the kernel twice is missing"):
        load_module(shared_object(tmp_path / "less.so", SOURCE.replace("twice", "thrice"), program()))


def test_no_compiler_is_imported(path):
    script = (f"import sys\nfrom jtc.runtime.module import load_module\nm = load_module({str(path)!r})\n"
              "m.bind([__import__('numpy').zeros(8, 'float32')])\n"
              "heavy = {'torch_mlir', 'mlir', 'llvmlite', 'rich', 'hypothesis', 'jtc.compiler', 'jtc.passes'}\n"
              "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n")
    subprocess.run([sys.executable, "-c", script], check=True)


def test_wrap(path):
    module = load_module(path, wrap=lambda b: ("wrapped", b.shape))
    module.bind([W])
    assert isinstance(module, Module) and module(X) == ("wrapped", (8,))
