"""From the emitter's MLIR text to machine code: upstream lowerings, LLVM IR text, llvmlite's code generator.

MLIR and LLVM are entered under one lock: creating contexts and initialising targets from several threads crashes.
"""
from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jtc.compiler.cpu.llvm_text import downgrade, expand_intrinsics, fence_shuffles
from jtc.compiler.cpu.matrix_emulated import expand_matrices
from jtc.dialects.errors import InputError, InternalError, UsageError
from jtc.dialects.target import CpuTarget

# Of ops that the emitter does not write, but files of loops may hold: left out where there is none.
RARE = {
    re.compile(r"vector\.transfer_"): (
        "convert-vector-to-scf",       # transfers of more than one dimension become loops of one
    ),
    re.compile(r"memref\.(?!(load|store|prefetch|view|global|get_global)\b)|affine\."): (
        "expand-strided-metadata",     # views with strides become base, offset, strides; leaves affine.apply for these
        "lower-affine",                # that, to arith
    ),
}
PIPELINE = (
    "convert-scf-to-cf",               # loops to branches; after all passes that make loops
    "convert-vector-to-llvm{vector-transpose-lowering=shuffle16x16}",  # 16x16 transposes as shuffles in registers
    "convert-math-to-llvm",            # fma, sqrt, floor...: intrinsics (what has no instruction: llvm_text.py)
    "convert-arith-to-llvm",
    "finalize-memref-to-llvm",         # loads and stores to addresses, after the vector ones
    "convert-func-to-llvm{use-bare-ptr-memref-call-conv=1}",  # memref arguments are plain pointers
    "convert-cf-to-llvm",              # after func: block arguments have their final types
    "convert-ub-to-llvm",              # poison left by vector lowering
    # folds pairs of casts, dead addresses and the emitter's arithmetic on indices; once is enough
    "canonicalize{max-iterations=1 region-simplify=disabled}",
    "cse",                             # doing that earlier, too, gives the same code and takes longer
    "reconcile-unrealized-casts",      # last: what it cannot remove is an op that nobody lowered
)

_KERNELS_PER_CONTEXT = 100

_CARRIED = re.compile(r"= phi (?!i64|ptr)")         # of something else than a counter or an address

_DECLARED = re.compile(r"^declare .*? @([\w.]+)\(", re.MULTILINE)
# Intrinsics that are calls of libm or libc on every processor.
_LIBRARY = frozenset(("acos asin atan atan2 cos cosh exp exp10 exp2 frexp ldexp log log10 log2 memcpy memmove memset "
                      "modf pow powi round sin sincos sinh tan tanh").split())

# What `optimize` means: (LLVM IR optimisation level or None, code generation level).
_LEVELS: dict[int, tuple[int | None, int]] = {0: (None, 1), 1: (None, 2), 2: (1, 2), 3: (3, 3)}


def to_llvm(text: str, symbol: str, operands: int) -> str:
    """LLVM IR of one kernel.

    text      MLIR module with one `func.func @symbol`: `operands` flat memrefs, the workspace memref, begin and end
              (index)
    returns   a module whose only external function is `void symbol(ptr operands, ptr workspace, i64 begin, i64 end)`
    Raises InternalError where the text does not parse, verify or lower: the emitter wrote something wrong.
    """
    from jtc.dialects import mlir
    with mlir.lock:
        from jtc.dialects.mlir import ir, llvm
        lowering = _lowering()
        with lowering.context, ir.Location.unknown():
            try:
                module = ir.Module.parse(text)
            except ir.MLIRError as error:
                raise InternalError(f"kernel {symbol}: generated code does not parse: {_first(error)}") from error
            try:
                lowering.passes(text).run(module.operation)
                module.operation.verify()
            except ir.MLIRError as error:
                raise InternalError(f"kernel {symbol}: lowering to llvm failed: {_first(error)}") from error
            # The translation crashes the process on an op that it does not know.
            foreign = _foreign_ops(module.operation)
            if foreign:
                raise InternalError(f"kernel {symbol}: no lowering to llvm for {', '.join(foreign)}")
            llvm_ir = llvm.translate_module_to_llvmir(module.operation)
    declared = _DECLARED.findall(llvm_ir)
    calls = [name for name in declared if not name.startswith("llvm.") or name.split(".")[1] in _LIBRARY]
    if calls:
        raise InternalError(f"kernel {symbol}: would call a library for {', '.join(calls)}; kernels call nothing")
    return _with_entry(fence_shuffles(downgrade(llvm_ir)), symbol, operands)


class _Lowering:
    """A context, and the passes made in it.

    To make a context, or the patterns of all passes, takes as long as a small kernel, so they serve many kernels; not
    all, because types and attributes stay with a context.
    """

    def __init__(self) -> None:
        from jtc.dialects.mlir import ir
        self.kernels = 0
        self.pipelines: dict[str, Any] = {}         # by their text; freed before the context is
        self.context = ir.Context()
        self.context.enable_multithreading(False)   # a kernel is one function: nothing to share among threads

    def passes(self, text: str) -> Any:
        """The passes that the ops of a kernel's text need."""
        from jtc.dialects.mlir import passmanager
        needed = [name for ops, names in RARE.items() if ops.search(text) for name in names]
        pipeline = f"builtin.module({','.join((*needed, *PIPELINE))})"
        if pipeline not in self.pipelines:
            made = self.pipelines[pipeline] = passmanager.PassManager.parse(pipeline, self.context)
            made.enable_verifier(False)             # after every pass, it takes as long as the passes do
        return self.pipelines[pipeline]


_current: list[_Lowering] = []


def _lowering() -> _Lowering:
    """For the next kernel.  Call under the lock."""
    if not _current or _current[0].kernels >= _KERNELS_PER_CONTEXT:
        _current[:] = [_Lowering()]
    _current[0].kernels += 1
    return _current[0]


def _first(error: Exception) -> str:
    """The first diagnostic of an MLIR error, without its quotation of the source."""
    lines = [line.strip() for line in str(error).splitlines() if "error:" in line]
    return lines[0].removeprefix("error:").strip() if lines else str(error).splitlines()[0]


def _foreign_ops(module: Any) -> list[str]:
    """Names of the ops in a module that are not of the llvm dialect."""
    from jtc.dialects.mlir import ir
    found: dict[str, None] = {}

    def visit(op: Any) -> Any:
        name = op.name
        if not name.startswith("llvm."):
            found[name] = None
        return ir.WalkResult.ADVANCE

    module.walk(visit, ir.WalkOrder.PRE_ORDER)
    return [name for name in found if name != "builtin.module"]


def _with_entry(llvm_ir: str, symbol: str, operands: int) -> str:
    """Make the kernel's function internal, and add the packed entry that calls it."""
    head = re.search(rf"^define void @{re.escape(symbol)}\((.*)\) \{{$", llvm_ir, re.MULTILINE)
    if head is None:
        raise InternalError(f"kernel {symbol}: the module defines no function {symbol}")
    arguments = head[1].split(", ")
    if [a.split(" ")[0] for a in arguments] != ["ptr"] * (operands + 1) + ["i64"] * 2:
        raise InternalError(f"kernel {symbol}: takes ({head[1]}), not {operands} operands, workspace, begin and end")
    inner = ", ".join([*(a.replace("ptr ", "ptr nonnull ", 1) for a in arguments[:operands]), *arguments[operands:]])
    llvm_ir = llvm_ir.replace(head[0], f"define internal void @{symbol}.body({inner}) noinline {{")
    lines = [f"define void @{symbol}(ptr %operands, ptr %workspace, i64 %begin, i64 %end) {{"]
    for i in range(operands):
        lines += [f"  %slot{i} = getelementptr ptr, ptr %operands, i64 {i}", f"  %operand{i} = load ptr, ptr %slot{i}"]
    passed = "".join(f"ptr %operand{i}, " for i in range(operands))
    lines += [f"  call void @{symbol}.body({passed}ptr %workspace, i64 %begin, i64 %end)", "  ret void", "}", ""]
    place = llvm_ir.find("\n!")
    entry = "\n".join(lines)
    return f"{llvm_ir}\n{entry}" if place < 0 else f"{llvm_ir[:place]}\n{entry}{llvm_ir[place:]}"


@functools.cache
def _llvm() -> Any:
    """llvmlite's binding with its code generators ready.  Call under the lock."""
    import llvmlite.binding as llvm
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm


@functools.cache
def _machine(target: CpuTarget, level: int) -> Any:
    """LLVM's target machine.  One for all kernels: it takes a millisecond to learn the processor's features.

    Position-independent, small code model: the object can go into a shared object without text relocations.
    """
    return _llvm().Target.from_triple(target.family.triple).create_target_machine(
        cpu=target.cpu or target.name, features=target.features, opt=level, reloc="pic", codemodel="small")


def _attributes(llvm_ir: str, target: CpuTarget) -> str:
    """Every function compiled for the target, with vectors as wide as the schedule chose them."""
    attributes = (f'nounwind "target-cpu"="{target.cpu or target.name}" "target-features"="{target.features}" '
                  f'"prefer-vector-width"="{target.vector_bits}" "min-legal-vector-width"="{target.vector_bits}" '
                  '"no-trapping-math"="true" "frame-pointer"="none" "no-builtins"')
    return re.sub(r"^(define .*) \{$", rf"\1 {attributes} {{", llvm_ir, flags=re.MULTILINE)


def _compile(llvm_ir: str, target: CpuTarget, optimize: int) -> tuple[Any, Any]:
    """(target machine, LLVM module ready for code generation)."""
    if optimize not in _LEVELS:
        raise UsageError(f"optimize={optimize}: no such level", hint=f"one of {', '.join(map(str, _LEVELS))}")
    llvm = _llvm()
    ir_level, code_level = _LEVELS[optimize]
    expanded = expand_intrinsics(expand_matrices(llvm_ir, target), target)
    try:
        module = llvm.parse_assembly(_attributes(expanded, target))
        module.verify()
    except RuntimeError as error:
        raise InternalError(f"llvm does not accept the generated code: {str(error).splitlines()[0]}") from error
    machine = _machine(target, code_level)
    module.triple, module.data_layout = target.family.triple, str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=ir_level or 0)
    builder = llvm.create_pass_builder(machine, options)
    if ir_level is not None:
        builder.getModulePassManager().run(module, builder)
    elif expanded is not llvm_ir:
        passes = llvm.create_new_module_pass_manager()
        passes.add_always_inliner_pass()
        passes.run(module, builder)
    return machine, module


@contextmanager
def _addresses(reduced: bool) -> Iterator[None]:
    """Inside of the `with` block, whether LLVM reduces addresses in loops, which takes it a third of its time.

    The option holds for the whole process, so it is taken back.  Call under the lock.
    """
    if not reduced:
        _llvm().set_option("", "-disable-lsr=true")
    try:
        yield
    finally:
        if not reduced:
            _llvm().set_option("", "-disable-lsr=false")


def warm_up() -> None:
    """Compile a small loop.  The first kernel of a process takes 0.15 s longer than others: MLIR's and LLVM's code is
    read, their tables are built; a worker has the time while graphs are worked on."""
    from jtc.compiler.cpu.machine import host
    try:
        target = host()
    except InputError:          # it compiles for other machines only
        return
    to_object(to_llvm(_SMALL, "small", 1), target)


_SMALL = """
func.func @small(%a: memref<64xf32>, %workspace: memref<1xi8>, %begin: index, %end: index) {
  %c1 = arith.constant 1 : index
  %zero = arith.constant dense<0.0> : vector<4xf32>
  %sum = scf.for %i = %begin to %end step %c1 iter_args(%acc = %zero) -> (vector<4xf32>) {
    %x = vector.load %a[%i] : memref<64xf32>, vector<4xf32>
    %y = math.fma %x, %x, %acc : vector<4xf32>
    scf.yield %y : vector<4xf32>
  }
  vector.store %sum, %a[%begin] : memref<64xf32>, vector<4xf32>
  return
}
"""


def carries(llvm_ir: str) -> bool:
    """Whether a loop carries values in registers, of which few are left for addresses then.

    Other loops spend their time on what they load and store (measured: as fast with plain addresses).
    """
    return _CARRIED.search(llvm_ir) is not None


def to_object(llvm_ir: str, target: CpuTarget, optimize: int = 1) -> bytes:
    """A relocatable, position-independent ELF object of the module that `to_llvm` made.

    optimize  0: fastest compilation, for code that runs once; 1: full instruction selection and scheduling, no IR
              passes, which code in explicit vectors does not need; 2: and LLVM's O1 passes; 3: and its O3 passes
    """
    from jtc.dialects import mlir
    with mlir.lock, _addresses(reduced=optimize > 0 and carries(llvm_ir)):
        machine, module = _compile(llvm_ir, target, optimize)
        return machine.emit_object(module)


def to_assembly(llvm_ir: str, target: CpuTarget, optimize: int = 1) -> str:
    """As `to_object`, but the assembly text."""
    from jtc.dialects import mlir
    with mlir.lock, _addresses(reduced=optimize > 0 and carries(llvm_ir)):
        machine, module = _compile(llvm_ir, target, optimize)
        return machine.emit_assembly(module)
