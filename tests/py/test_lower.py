"""MLIR text to objects: they link into a shared object without libraries, run, and mistakes are named."""
from __future__ import annotations

import ctypes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jtc.compiler.cpu import lower, machine
from jtc.compiler.cpu.llvm_text import downgrade, fence_shuffles
from jtc.dialects.errors import InternalError, UsageError

TAIL = "%workspace: memref<1xi8>, %begin: index, %end: index"
SCALE = f"""func.func @scale(%x: memref<64xf32>, %y: memref<64xf32>, {TAIL}) {{
  %two = arith.constant dense<2.5> : vector<4xf32>
  %step = arith.constant 4 : index
  scf.for %i = %begin to %end step %step {{
    %a = vector.load %x[%i] : memref<64xf32>, vector<4xf32>
    %b = arith.mulf %a, %two : vector<4xf32>
    vector.store %b, %y[%i] {{nontemporal = true, alignment = 16 : i64}} : memref<64xf32>, vector<4xf32>
  }}
  return
}}"""


def load(folder, symbol, data):
    (folder / "k.o").write_bytes(data)
    subprocess.run(["ld", "-shared", "-z", "text", "--no-undefined", "-o", folder / "k.so", folder / "k.o"], check=True)
    function = ctypes.CDLL(str(folder / "k.so"))[symbol]

    def call(arrays, begin, end):
        operands = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
        function(operands, None, ctypes.c_int64(begin), ctypes.c_int64(end))
    return call


def aligned(count):
    raw = np.zeros(count + 16, np.float32)
    start = -raw.ctypes.data % 64 // 4
    return raw[start:start + count]


@pytest.mark.parametrize("optimize", [0, 1, 2, 3])
def test_object_runs_on_a_range(tmp_path, optimize):
    llvm_ir = lower.to_llvm(SCALE, "scale", 2)
    call = load(tmp_path, "scale", lower.to_object(llvm_ir, machine.host(), optimize))
    x, y = aligned(64), aligned(64)
    x[:] = np.arange(64)
    call([x, y], 8, 40)
    np.testing.assert_array_equal(y, np.where((x >= 8) & (x < 40), x * 2.5, 0))


def test_ops_that_the_emitter_does_not_write(tmp_path):
    text = f"""#twice = affine_map<(d0) -> (2 * d0)>
func.func @even(%x: memref<64xf32>, %y: memref<64xf32>, {TAIL}) {{
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %none = arith.constant 0.0 : f32
  %half = memref.subview %x[0] [32] [2] : memref<64xf32> to memref<32xf32, strided<[2]>>
  scf.for %i = %begin to %end step %one {{
    %a = memref.load %half[%i] : memref<32xf32, strided<[2]>>
    %j = affine.apply #twice(%i)
    memref.store %a, %y[%j] : memref<64xf32>
  }}
  %box = memref.reinterpret_cast %x to offset: [32], sizes: [2, 4], strides: [8, 1]
    : memref<64xf32> to memref<2x4xf32, strided<[8, 1], offset: 32>>
  %b = vector.transfer_read %box[%zero, %zero], %none {{in_bounds = [true, true]}}
    : memref<2x4xf32, strided<[8, 1], offset: 32>>, vector<2x4xf32>
  %c = vector.extract %b[1] : vector<4xf32> from vector<2x4xf32>
  %last = arith.constant 60 : index
  vector.store %c, %y[%last] : memref<64xf32>, vector<4xf32>
  return
}}"""
    call = load(tmp_path, "even", lower.to_object(lower.to_llvm(text, "even", 2), machine.host()))
    x, y = aligned(64), aligned(64)
    x[:] = np.arange(64)
    call([x, y], 2, 20)
    places = np.arange(64)
    wanted = np.where((places % 2 == 0) & (places >= 4) & (places < 40), places, 0)
    wanted[60:] = x[40:44]
    np.testing.assert_array_equal(y, wanted)


def test_only_the_entry_is_visible():
    llvm_ir = lower.to_llvm(SCALE, "scale", 2)
    assert "define internal void @scale.body(ptr nonnull %0, ptr nonnull %1" in llvm_ir
    assert "define void @scale(ptr %operands, ptr %workspace, i64 %begin, i64 %end)" in llvm_ir


def test_stores_stay_non_temporal():
    assembly = lower.to_assembly(lower.to_llvm(SCALE, "scale", 2), machine.named("x86-64"))
    assert "movntps" in assembly


def test_vectors_are_as_wide_as_written():
    text = SCALE.replace("vector<4xf32>", "vector<16xf32>")
    text = text.replace("constant 4 ", "constant 16 ").replace("16 : i64", "64 : i64")
    assembly = lower.to_assembly(lower.to_llvm(text, "scale", 2), machine.named("x86-64-v4"))
    assert "%zmm" in assembly


def test_transpose_in_registers(tmp_path):
    rows = "\n".join(f"""  %i{r} = arith.constant {16 * r} : index
  %r{r} = vector.load %x[%i{r}] : memref<256xf32>, vector<16xf32>""" for r in range(16))
    inserts = "\n".join(f"  %m{r + 1} = vector.insert %r{r}, %m{r}[{r}] : vector<16xf32> into vector<16x16xf32>"
                        for r in range(16))
    stores = "\n".join(f"""  %s{r} = vector.extract %t[{r}] : vector<16xf32> from vector<16x16xf32>
  vector.store %s{r}, %y[%i{r}] : memref<256xf32>, vector<16xf32>""" for r in range(16))
    text = f"""func.func @turn(%x: memref<256xf32>, %y: memref<256xf32>, {TAIL}) {{
  %m0 = arith.constant dense<0.0> : vector<16x16xf32>
{rows}
{inserts}
  %t = vector.transpose %m16, [1, 0] : vector<16x16xf32> to vector<16x16xf32>
{stores}
  return
}}"""
    llvm_ir = lower.to_llvm(text, "turn", 2)
    assembly = lower.to_assembly(llvm_ir, machine.named("x86-64-v4"))
    assert assembly.count("vunpck") + assembly.count("vshuf") + assembly.count("vperm") >= 32
    x, y = np.arange(256, dtype=np.float32), np.zeros(256, np.float32)
    load(tmp_path, "turn", lower.to_object(llvm_ir, machine.host()))([x, y], 0, 1)
    np.testing.assert_array_equal(y.reshape(16, 16), x.reshape(16, 16).T)


def test_kernels_share_passes_also_after_one_that_fails_and_in_a_new_context(monkeypatch):
    monkeypatch.setattr(lower, "_KERNELS_PER_CONTEXT", 3)
    monkeypatch.setattr(lower, "_current", [])
    made, plain = set(), lower.to_llvm(SCALE, "scale", 2)
    for _ in range(4):
        with pytest.raises(InternalError, match="no lowering to llvm"):
            lower.to_llvm(SCALE.replace("  return", "  gpu.barrier\n  return"), "scale", 2)
        assert lower.to_llvm(SCALE, "scale", 2) == plain
        made.add(lower._current[0])
    assert len(made) == 3 and all(len(m.pipelines) == 1 for m in made)


def test_warm_up_compiles():
    """Else the first request of every worker would pay for it; it raises where its loop is not what is lowered."""
    lower.warm_up()


def test_threads_compile_at_once():
    def build(target):
        return lower.to_object(lower.to_llvm(SCALE, "scale", 2), machine.named(target))
    targets = ["x86-64", "x86-64-v3", "x86-64-v4"] * 4
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(build, targets)) == [build(t) for t in targets]


def function(body):
    return f"func.func @k(%x: memref<4xf32>, {TAIL}) {{\n{body}\n  return\n}}"


@pytest.mark.parametrize("text, operands, message", [
    ("func.func @k(", 1, "kernel k: generated code does not parse: "),
    (function("  %a = arith.addi %begin, %x : index"), 1, "kernel k: generated code does not parse: "),
    (function("  gpu.barrier"), 1, "kernel k: no lowering to llvm for gpu.barrier"),
    (function("  %a = memref.load %x[%begin] : memref<4xf32>\n  %b = math.exp %a : f32\n"
              "  memref.store %b, %x[%begin] : memref<4xf32>"), 1, "kernel k: would call a library for llvm.exp.f32"),
    (function(""), 3, r"kernel k: takes .*, not 3 operands"),
    (function("").replace("@k", "@other"), 1, "kernel k: the module defines no function k"),
])
def test_mistakes_of_the_emitter_are_named(text, operands, message):
    with pytest.raises(InternalError, match=message) as caught:
        lower.to_llvm(text, "k", operands)
    assert "\n" not in caught.value.message


def test_bad_llvm_and_level():
    with pytest.raises(InternalError, match="llvm does not accept"):
        lower.to_object("define void @k() {\n  nonsense\n}\n", machine.host())
    with pytest.raises(UsageError, match="optimize=7"):
        lower.to_object("", machine.host(), 7)


@pytest.mark.parametrize("line, expected", [
    ("  %1 = fmul float %0, f0x3FC00000", "  %1 = fmul float %0, 0x3FF8000000000000"),
    ("  %1 = fadd double %0, 0.1", "  %1 = fadd double %0, 0x3FB999999999999A"),
    ("  %1 = fadd <2 x float> %0, <float +inf, float -inf>",
     "  %1 = fadd <2 x float> %0, <float 0x7FF0000000000000, float 0xFFF0000000000000>"),
    ("  %1 = fcmp oeq float %0, nan", "  %1 = fcmp oeq float %0, 0x7FF8000000000000"),
    ("  %1 = fadd half %0, 1.5", "  %1 = fadd half %0, 0xH3E00"),
    ("  %1 = fadd bfloat %0, 1.5", "  %1 = fadd bfloat %0, 0xR3FC0"),
    ("  call void @k.2.0(float %0)", "  call void @k.2.0(float %0)"),
])
def test_literals_of_the_newer_llvm(line, expected):
    assert downgrade(line) == expected


def test_shuffles_of_shuffles_are_fenced(tmp_path):
    rows = "".join(f"  %r{i} = vector.load %x[%c{4 * i}] : memref<16xf32>, vector<4xf32>\n" for i in range(4))
    constants = "".join(f"  %c{4 * i} = arith.constant {4 * i} : index\n" for i in range(4))
    stages = "".join(f"  %{name} = vector.shuffle %{a}, %{b} [{lanes}] : vector<4xf32>, vector<4xf32>\n"
                     for name, a, b, lanes in [("a", "r0", "r1", "0, 4, 1, 5"), ("b", "r0", "r1", "2, 6, 3, 7"),
                                               ("c", "r2", "r3", "0, 4, 1, 5"), ("d", "r2", "r3", "2, 6, 3, 7"),
                                               ("t0", "a", "c", "0, 1, 4, 5"), ("t1", "a", "c", "2, 3, 6, 7"),
                                               ("t2", "b", "d", "0, 1, 4, 5"), ("t3", "b", "d", "2, 3, 6, 7")])
    stores = "".join(f"  vector.store %t{i}, %y[%c{4 * i}] : memref<16xf32>, vector<4xf32>\n" for i in range(4))
    text = f"func.func @turn(%x: memref<16xf32>, %y: memref<16xf32>, {TAIL}) {{\n{constants}{rows}{stages}{stores}" \
           "  return\n}"
    llvm_ir = lower.to_llvm(text, "turn", 2)
    assert llvm_ir.count(" = shufflevector ") == 8 and llvm_ir.count(" = call <4 x float> @llvm.arithmetic.fence.") == 4
    call = load(tmp_path, "turn", lower.to_object(llvm_ir, machine.host()))
    x, y = aligned(16), aligned(16)
    x[:] = np.arange(16)
    call([x, y], 0, 1)
    np.testing.assert_array_equal(y.reshape(4, 4), x.reshape(4, 4).T)
    assert fence_shuffles(SCALE) == SCALE


@pytest.mark.parametrize("name", ["x86-64", "x86-64-v3", "aarch64"])
def test_fences_are_no_instructions(name):
    kind, target = "<4 x float>", machine.named(name)
    head = f"define {kind} @f({kind} %x, {kind} %y) {{\n"
    lines = [f"  %{n} = shufflevector {kind} %{a}, {kind} %{b}, <4 x i32> <i32 {i}, i32 {j}, i32 {k}, i32 {m}>\n"
             for n, a, b, (i, j, k, m) in [("p", "x", "y", (0, 4, 1, 5)), ("q", "x", "y", (2, 6, 3, 7)),
                                           ("r", "p", "q", (0, 1, 4, 5))]]
    plain = head + "".join(lines) + f"  ret {kind} %r\n}}\n"
    fenced = fence_shuffles(plain)
    assert fenced.count("fence") == 2           # a call and a declaration
    def instructions(text):
        return [line for line in lower.to_assembly(text, target).splitlines() if line[:1] == "\t" and line[1:2] != "."]
    assert len(instructions(fenced)) - len(instructions(plain)) in (0, 1)      # without them two shuffles may be one


def test_targets():
    host = machine.host()
    assert host is machine.named("native") and host.vector_bits in (128, 256, 512) and host.threads >= 1
    assert host.l1 >= 8 << 10 and host.l2 > host.l1
    shapes = {n: (t.vector_bits, t.registers, t.masks) for n in machine.NAMES[1:] for t in [machine.named(n)]}
    assert shapes == {"x86-64": (128, 16, False), "x86-64-v2": (128, 16, False), "x86-64-v3": (256, 16, False),
                      "x86-64-v4": (512, 32, True), "cooperlake": (512, 32, True), "sapphirerapids": (512, 32, True),
                      "znver3": (256, 16, False),
                      "aarch64": (128, 32, False), "aarch64-v8.2": (128, 32, False),
                      "aarch64-v8.6": (128, 32, False)}
    with pytest.raises(UsageError, match="unknown cpu target 'pentium'"):
        machine.named("pentium")


def test_host_needs_no_compiler():
    code = ("import sys; from jtc.compiler.cpu import machine; machine.host(); "
            "print([m for m in ('llvmlite', 'torch_mlir', 'mlir') if m in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
