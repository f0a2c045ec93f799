"""Whole programs for other processors than this one: their objects, their modules, and their results.

Code for fewer instructions than this machine has runs twice: here, and on an emulated processor that has no others.
Code for aarch64 runs emulated.  Without QEMU and a cross compiler these parts are skipped, and say what is missing.
"""
from __future__ import annotations

import functools
import re
import shutil
import struct
import subprocess

import numpy as np
import pytest
from kernels import matmul, saved
from test_layering import ROOT

import jtc
import jtc.nn.functional as F
from jtc.compiler import link, workers
from jtc.compiler.cpu import machine
from jtc.compiler.driver import compile_graph, settings_for
from jtc.compiler.phases import advance
from jtc.dialects.errors import InputError
from jtc.dialects.family import AARCH64, FAMILIES, X86_64
from jtc.dialects.optable import SCALAR_FUNCTIONS
from jtc.dialects.reference import run_graph
from jtc.runtime import processor
from jtc.runtime.elf import SharedObject
from jtc.runtime.module import load_module
from jtc.tools import emulated, fuzz

TARGETS = ("x86-64", "x86-64-v3", "aarch64")
FUNCTIONS = [name for name, row in SCALAR_FUNCTIONS.items()
             if row.arity == 1 and "float" in row.kinds and row.result == "same" and hasattr(jtc, name)]
# Relocations that a shared object resolves when it is linked: code's own addresses, and those of its constants.
RELOCATIONS = {
    X86_64: {"R_X86_64_PC32": 2, "R_X86_64_PLT32": 4},
    AARCH64: {"R_AARCH64_ADR_PREL_PG_HI21": 275, "R_AARCH64_ADD_ABS_LO12_NC": 277, "R_AARCH64_LDST8_ABS_LO12_NC": 278,
              "R_AARCH64_JUMP26": 282, "R_AARCH64_CALL26": 283, "R_AARCH64_LDST16_ABS_LO12_NC": 284,
              "R_AARCH64_LDST32_ABS_LO12_NC": 285, "R_AARCH64_LDST64_ABS_LO12_NC": 286,
              "R_AARCH64_LDST128_ABS_LO12_NC": 299},
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def functions(x):
    """Every function of one float, on values where all are defined."""
    return functools.reduce(jtc.add, (getattr(jtc, name)(x + (name == "acosh")) for name in FUNCTIONS))


def reductions(x):
    return (jtc.sum(x), jtc.mean(x, axis=0), jtc.max(x, axis=1), jtc.prod(x[:, :5], axis=1), jtc.argmin(x, axis=0),
            jtc.var(x, axis=(0, 2)), jtc.any(x > 3, axis=2))


def moves(x, rows, places, updates):
    table = jtc.grad(lambda x: jtc.sum(jtc.take(x, rows, axis=0) ** 2))(x)
    return jtc.take(x, rows, axis=0), jtc.scatter(x, places, updates, axis=0, reduce="add"), x[::-1, ::2].mT, table


def scans(x):
    return jtc.cumulative_sum(x, axis=1), jtc.cumulative_max(x, axis=0), jtc.linear_recurrence(x * 0.5, x, axis=1)


def halves(x, y):
    products = [jtc.matmul(jtc.astype(x, d), jtc.astype(y, d)) for d in (jtc.float16, jtc.bfloat16)]
    return tuple(jtc.astype(jtc.softmax(p, axis=-1), jtc.float32) for p in products)


def integers(a, b):
    return a // b, a % b, (a << 3) ^ b, jtc.astype(jtc.astype(a, jtc.int8), jtc.float32), jtc.astype(a, jtc.uint64) * 7


def training_step(x, t, w, v):
    def loss(w, v):
        return F.cross_entropy(F.max_pool2d(jtc.relu(F.conv2d(x, w, padding=1)), 2).reshape(x.shape[0], -1) @ v, t)
    value, gradients = jtc.value_and_grad(loss, argnums=(0, 1))(w, v)
    return value, *(p - 0.1 * g for p, g in zip((w, v), gradients))


PROGRAMS = {
    "products": (lambda a, b, c: (a @ b, jtc.gelu(a @ b + c), a @ a.mT), normal(37, 53), normal(53, 71), normal(71)),
    "convolutions": (lambda x, w, d: (F.conv2d(x, w, stride=2, padding=1), F.conv2d(x, d, padding=1, groups=6)),
                     normal(2, 6, 13, 15), normal(9, 6, 3, 3), normal(6, 1, 3, 3)),
    "rows": (lambda x, w, b: (jtc.softmax(x, axis=-1), F.layer_norm(x, (67,), w, b)), normal(19, 67), normal(67),
             normal(67)),
    "functions": (functions, np.linspace(0.1, 0.9, 135, dtype=np.float32)),
    "functions of doubles": (functions, np.linspace(0.1, 0.9, 135)),
    "reductions": (reductions, normal(11, 23, 17)),
    "moves": (moves, normal(9, 21), np.array([3, 0, 3, 8, 1]), np.arange(105).reshape(5, 21) % 8, normal(5, 21)),
    "scans": (scans, normal(13, 37)),
    "halves": (halves, normal(7, 33) / 8, normal(33, 18)),
    "integers": (integers, np.arange(-40, 41, dtype=np.int32), np.repeat(np.int32([-3, 1, 7]), 27)),
    "training step": (training_step, normal(5, 3, 8, 8), np.array([0, 3, 2, 1, 1]), normal(4, 3, 3, 3),
                      normal(64, 4, seed=1)),
}


def graph_of(name):
    function, *inputs = PROGRAMS[name]
    return jtc.jit(function).graph(*inputs), inputs


@functools.cache
def expected(name):
    graph, inputs = graph_of(name)
    return run_graph(graph, inputs)


def compare(results, wanted, tolerance=2e-4):
    for got, want in zip(results, wanted, strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(want).max())))


def needs_emulator(target):
    if emulated.missing(target):
        pytest.skip(f"cannot run {target.name} emulated: this machine lacks {emulated.missing(target)}")


@pytest.fixture(scope="module", params=TARGETS)
def compiled(request, tmp_path_factory):
    """(target, name of a program -> its module), each compiled once."""
    folder = tmp_path_factory.mktemp("modules")

    @functools.cache
    def module(name):
        return compile_graph(graph_of(name)[0], f"cpu:{request.param}", folder / f"{name}.so")
    return machine.named(request.param), module


# ------------------------------------------------------------------------------------------------ results
@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_of_the_interpreter(compiled, name):
    target, module = compiled
    tolerance = 2.0 ** -6 if name == "halves" else 2e-4             # two units in the last place of bfloat16
    if target.family == processor.family():
        results = load_module(module(name))(*PROGRAMS[name][1:])
        compare([np.asarray(r) for r in (results if isinstance(results, tuple) else (results,))], expected(name),
                tolerance)
    needs_emulator(target)
    compare(emulated.run_module(module(name), target, PROGRAMS[name][1:]), expected(name), tolerance)


@pytest.mark.parametrize("name", TARGETS)
def test_weights_are_packed_on_the_other_machine(name, tmp_path):
    target, weights, x = machine.named(name), normal(53, 71), normal(37, 53, seed=1)
    needs_emulator(target)
    module = compile_graph(matmul(37, 71, 53, weights=weights), f"cpu:{name}", tmp_path / "m.so")
    compare(emulated.run_module(module, target, [x]), [x @ weights])


def test_an_emulated_processor_refuses_newer_instructions(tmp_path):
    """Which makes the tests above say that code for a target keeps to it."""
    needs_emulator(machine.named("x86-64"))
    a = normal(37, 53)
    module = compile_graph(jtc.jit(jtc.matmul).graph(a, a.T), "cpu:x86-64-v3", tmp_path / "m.so")
    compare(emulated.run_module(module, machine.named("x86-64-v3"), [a, a.T]), [a @ a.T])
    with pytest.raises(AssertionError, match="[Ii]llegal instruction"):
        emulated.run_module(module, machine.named("x86-64"), [a, a.T])


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_random_kernels(name, capfd):
    target = machine.named(name)
    if target.family != processor.family():
        needs_emulator(target)
    code = fuzz.main(["--seed", "300", "--count", "25", "--target", name])
    report = capfd.readouterr().out
    assert code == 0 and "25 cases, 0 failures" in report, report


# ------------------------------------------------------------------------------------------------ objects and modules
def relocatable(data):
    """(number of the machine, names of undefined symbols, types of relocations) of an ELF object."""
    def unpack(form, at):
        return struct.unpack_from("<" + form, data, at)
    number, = unpack("H", 18)
    start, = unpack("Q", 40)
    size, count = unpack("HH", 58)
    sections = [unpack("IIQQQQIIQQ", start + i * size) for i in range(count)]
    undefined, types = [], set()
    for _, kind, _, _, at, length, other, *_ in sections:
        if kind == 2:                                                       # SHT_SYMTAB
            names = sections[other][4]
            for symbol in range(at + 24, at + length, 24):
                name, _, _, section = unpack("IBBH", symbol)
                if not section:
                    undefined.append(data[names + name:data.index(b"\0", names + name)].decode())
        if kind == 4:                                                       # SHT_RELA
            types |= {unpack("QII", entry)[1] for entry in range(at, at + length, 24)}
    return number, undefined, types


@pytest.mark.parametrize("target", TARGETS)
def test_objects_need_nothing_from_outside(target):
    family, settings = machine.named(target).family, settings_for(f"cpu:{target}")
    for name in ("products", "functions", "functions of doubles", "integers"):
        for code in advance(graph_of(name)[0], "graph", "loops", settings):
            number, undefined, types = relocatable(workers.compile_object(code, settings))
            assert (number, undefined) == (family.machine, []), name
            assert types <= set(RELOCATIONS[family].values()), name


@pytest.mark.parametrize("target, accumulators", [("x86-64-v3", 12), ("aarch64", 24)])
def test_default_products_keep_their_sums_in_registers(target, accumulators):
    a = np.zeros((512, 512), np.float32)
    codes = advance(jtc.jit(jtc.matmul).graph(a, a), "graph", "asm", settings_for(f"cpu:{target}"))
    blocks = [block for code in codes for block in re.split(r"^\.?\w+:.*$", str(code.data), flags=re.MULTILINE)]
    inner = max(blocks, key=lambda block: len(re.findall(r"vfmadd|fmla", block)))
    assert len(re.findall(r"vfmadd|fmla", inner)) == 4 * accumulators      # four steps of the reduction
    assert not re.search(r"%rsp|\[sp", inner), "accumulators are spilled"


needs_cross_linker = pytest.mark.skipif(link.find_linker(AARCH64) is None, reason="there is no linker for aarch64")


@needs_cross_linker
def test_a_foreign_module_is_explained_and_not_run(call, tmp_path):
    model = saved(tmp_path / "m.jtc", matmul(weights=normal(12, 24)))
    np.save(tmp_path / "x.npy", normal(20, 12))
    assert call("compile", model, "--target", "aarch64", "-o", "m.so")[0] == 0
    file = SharedObject(tmp_path / "m.so")
    assert file.family is AARCH64 and file.number("jtc_weights_size") == 4 * 12 * 24
    assert (tmp_path / "m.so").read_bytes()[18] == 183
    code, out, _ = call("explain", "m.so")
    assert code == 0 and "1 kernel" in out
    code, _, err = call("run", "m.so", "--input", "x.npy")
    assert code == 1 and "m.so: compiled for aarch64, and this machine is x86-64" in err
    code, _, err = call("run", model, "--target", "aarch64", "--input", "x.npy")
    assert code == 2 and "this machine is x86-64, it runs no code for aarch64" in err
    assert call("compile", model, "--target", "aarch64", "--emit", "obj", "-o", "m.o")[0] == 0
    assert relocatable((tmp_path / "m.o").read_bytes())[0] == 183


def test_without_a_cross_linker(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no linker for aarch64 found.*aarch64-linux-gnu-ld") as caught:
        link.link(tmp_path / "m.so", {}, "{}", family=AARCH64)
    assert "apt install binutils-aarch64-linux-gnu" in caught.value.hint


# ------------------------------------------------------------------------------------------------ families
def test_this_machine(monkeypatch):
    assert processor.family() in FAMILIES
    monkeypatch.setattr(processor.platform, "machine", lambda: "vax")
    with pytest.raises(InputError, match=r"no code for this processor \(vax\)"):
        processor.family.__wrapped__()


def test_features_of_an_arm_machine():
    """As /proc/cpuinfo lists them: Neoverse N1."""
    line = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs"
    flags = processor.spelled(AARCH64, line)
    assert [name for name, needs in AARCH64.levels.items() if flags.issuperset(needs)] == ["aarch64", "aarch64-v8.2"]
    assert not flags.issuperset(machine.named("x86-64").features.replace("+", "").split(","))


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_levels_are_cumulative(family):
    levels = list(family.levels.values())
    assert all(set(low) <= set(high) for low, high in zip(levels, levels[1:]))
    assert not set(family.beyond) & {f for level in levels for f in level}


CROSS_COMPILER = shutil.which(AARCH64.binutils[0] + "g++")


@pytest.mark.skipif(CROSS_COMPILER is None, reason="there is no C++ compiler for aarch64")
def test_the_native_runtime_compiles_for_every_family():
    """The sources that ask which processor they are compiled for."""
    sources = [path for path in (ROOT / "runtime" / "native").glob("*.cpp") if "__aarch64__" in path.read_text()]
    for source in sources:
        subprocess.run([CROSS_COMPILER, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", source],
                       check=True)
    assert sources
