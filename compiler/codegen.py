"""From scheduled kernels to code, one kernel at a time: emit, lower, compile; equal kernels once.

Kernels are equal when they differ only in their names, those of their buffers, and where in these the parts lie that
they touch, as the blocks of a network do, and the steps of a loop.
The name of
a function is a hash of its code, so that equal kernels of different programs share an object in the cache.
"""
from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from jtc.compiler import reproducer
from jtc.compiler.keys import text_hash
from jtc.compiler.phases import Code, Settings
from jtc.dialects.errors import InternalError, JtcError
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Kernel, Program
from jtc.passes.canonical import canonical, on_parts
from jtc.passes.kernel.packing import constant_buffers


@dataclass(frozen=True)
class Function:
    """A kernel's function: its name, buffers in the order it takes them, units of work, workspace per thread, loops.

    offsets: where in each buffer the part starts that it takes, in bytes; once: as of Code
    """

    symbol: str
    operands: list[str]
    units: int
    workspace_bytes: int
    text: str
    offsets: list[int] = field(default_factory=list)
    once: bool = False

    def code(self) -> Code:
        """Its loops."""
        return Code(self.symbol, len(self.operands), self.text, self.once)


def emit_kernels(program: Program, settings: Settings, done: Callable[[Function], None] = lambda function: None,
                 emitted: dict[tuple, Function] | None = None) -> dict[str, Function]:
    """Kernel name -> its function.  `done(function)` is called after each distinct kernel, before the next.

    emitted: kernels that were emitted before with these settings, of this program or another; added to.
    Raises what the emitter raises for wrong input; anything else becomes an InternalError with a reproducer.
    """
    emitted = {} if emitted is None else emitted
    constant, keys = constant_buffers(program), list[tuple]()
    for kernel in program.kernels:
        inner, parts = on_parts(kernel)
        form, names = canonical(inner)
        types = {names[n]: parts[n].type if n in parts else t for n, t in program.buffers.items() if n in names}
        keys.append((form, tuple(types.items()), parts, names))
    repeated = {key[:2] for kernel, key in zip(program.kernels, keys) if not set(kernel.written) <= constant}
    seen: set[tuple] = set()
    result: dict[str, Function] = {}
    for kernel, (form, kinds, parts, names) in zip(program.kernels, keys):
        types, key, once = dict(kinds), (form, kinds), (form, kinds) not in repeated
        if key not in emitted:
            start = time.perf_counter()
            emitted[key] = _emit(form, types, kernel, program, settings)
            settings.watch("kernel", f"emit {kernel.name}", time.perf_counter() - start, emitted[key].code())
        if key not in seen:
            seen.add(key)
            done(replace(emitted[key], once=once))
        back = {new: old for old, new in names.items()}
        operands = [back[n] for n in emitted[key].operands]
        offsets = [parts[n].offset if n in parts else 0 for n in operands]
        result[kernel.name] = replace(emitted[key], operands=operands, offsets=offsets, once=once)
    return result


def distinct(functions: Mapping[str, Function]) -> list[Code]:
    """The code of every function once, in order of first use."""
    return list({f.symbol: f.code() for f in functions.values()}.values())


def _emit(form: Kernel, types: dict[str, TensorType], kernel: Kernel, program: Program, settings: Settings) -> Function:
    from jtc.compiler.cpu.emit import emit
    try:
        made = emit(form, types, settings.target)
    except Exception as error:
        if isinstance(error, JtcError) and not isinstance(error, InternalError):
            raise
        raise reproducer.report(single(program, kernel), [], settings, error, f"emitting kernel {kernel.name} failed",
                                emit="loops") from error
    symbol = f"kernel_{text_hash(made.text)[:16]}"
    text = re.sub(rf"@{re.escape(made.symbol)}\b", f"@{symbol}", made.text)
    return Function(symbol, made.operands, made.units, made.workspace_bytes, text)


def single(program: Program, kernel: Kernel) -> Program:
    """A program of one kernel: what it reads are inputs, what it writes outputs."""
    buffers = {n: program.buffers[n] for n in kernel.operands}
    constants = {n: v for n, v in program.constants.items() if n in buffers and isinstance(v, (bool, int, float))}
    return Program(kernel.name, [n for n in kernel.operands if n not in kernel.written and n not in constants],
                   list(kernel.written), buffers, [kernel], constants)


def to_llvm(code: Code, settings: Settings) -> Code:
    """Loops -> LLVM IR."""
    from jtc.compiler.cpu import lower
    return _step(code, settings, "llvm", lambda: lower.to_llvm(str(code.data), code.symbol, code.operands))


def to_object(code: Code, settings: Settings) -> Code:
    """LLVM IR -> object."""
    from jtc.compiler.cpu import lower
    return _step(code, settings, "obj", lambda: lower.to_object(str(code.data), settings.target,
                                                                _effort(code, settings)))


def to_assembly(code: Code, settings: Settings) -> Code:
    """LLVM IR -> assembly."""
    from jtc.compiler.cpu import lower
    return _step(code, settings, "asm", lambda: lower.to_assembly(str(code.data), settings.target,
                                                                  _effort(code, settings)))


def _effort(code: Code, settings: Settings) -> int:
    return 0 if code.once else settings.optimize


def _step(code: Code, settings: Settings, phase: str, action: Callable[[], str | bytes]) -> Code:
    start = time.perf_counter()
    try:
        made = replace(code, data=action())
    except Exception as error:
        if isinstance(error, JtcError) and not isinstance(error, InternalError):
            raise
        raise reproducer.report(str(code.data), [], settings, error, f"making {phase} of kernel {code.symbol} failed",
                                emit=phase) from error
    settings.watch("kernel", f"{phase} {code.symbol}", time.perf_counter() - start, made)
    return made
