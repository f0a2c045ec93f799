"""16-bit floats: their bits to float32 and back, in the lanes that hold them.

bfloat16 is the upper half of a float32.  float16 is converted by F16C's instructions, and on processors without them by
integer arithmetic; so is what is rounded to bfloat16, where AVX512-BF16 has an instruction that takes denormal numbers
for 0.  Rounding is to nearest, halves to even; a NaN stays one; what is too large becomes an infinity.
Source of the float16 arithmetic: F. Giesen, "half <-> float conversions", 2012 (public domain).
"""
from __future__ import annotations

from jtc.compiler.cpu.vector_math_value import Value, type_name


def widen(x: Value) -> Value:
    """float32 of a float16 or bfloat16, exactly."""
    if x.element == "f16" and _converts(x):
        native = _native(x, "f16")
        half = x.builder.op(f"arith.bitcast {x.name} : {x.type} to {native}")
        wide = x.builder.op(f"arith.extf {half} : {native} to {type_name('f32', x.lanes)}")
        return Value(x.builder, wide, "f32", x.lanes)
    bits = x.taken_as("i16").cast("extui", "i32")
    if x.element == "bf16":
        return (bits << 16).bitcast("f32")
    magnitude = bits & 0x7FFF
    value = ((magnitude << 13).bitcast("f32") * 2.0 ** 112).bitcast("i32")      # the exponent's bias: 127 - 15
    value = (magnitude >= 0x7C00).select(value | 0x7F800000, value)             # infinities and NaN
    return (value | (bits & 0x8000) << 16).bitcast("f32")


def narrow(x: Value, to: str) -> Value:
    """The nearest float16 or bfloat16 of a float32."""
    native, intrinsic = _native(x, to), x.builder.target.rounds(to).get(x.lanes or 1)
    if intrinsic is not None or to == "f16" and _converts(x):
        half = x.builder.op(f"arith.truncf {x.name} : {x.type} to {native}" if intrinsic is None else
                            f'llvm.call_intrinsic "{intrinsic}"({x.name}) : ({x.type}) -> {native}')
        stored = x.builder.op(f"arith.bitcast {half} : {native} to {type_name(to, x.lanes)}")
        return Value(x.builder, stored, to, x.lanes)
    bits = x.bitcast("i32")
    rounded = _bfloat16(x, bits) if to == "bf16" else _float16(x, bits)
    return rounded.cast("trunci", "i16").taken_as(to)


def _bfloat16(x: Value, bits: Value) -> Value:
    upper = bits.shift_right_logical(16)
    rounded = (bits + 0x7FFF + (upper & 1)).shift_right_logical(16)
    return x.is_nan().select(upper | 0x40, rounded)


def _float16(x: Value, bits: Value) -> Value:
    magnitude = bits & 0x7FFFFFFF
    odd = magnitude.shift_right_logical(13) & 1
    normal = (magnitude - (112 << 23) + 0xFFF + odd).shift_right_logical(13)
    # Adding 0.5 leaves the bits of a subnormal float16 at the bottom, rounded by the addition.
    small = (magnitude.bitcast("f32") + 0.5).bitcast("i32") - x.const(0.5).bitcast("i32")
    finite = (magnitude < 113 << 23).select(small, normal)
    special = x.is_nan().select(x.const(0x7E00, "i32"), x.const(0x7C00, "i32"))
    result = (magnitude >= 143 << 23).select(special, finite)       # from 2^16 on
    return result | (bits & ~0x7FFFFFFF).shift_right_logical(16)


def _converts(x: Value) -> bool:
    """Whether the processor has instructions for float16."""
    target = x.builder.target
    return target.has(target.family.half)


def _native(x: Value, element: str) -> str:
    """MLIR's type of as many float16 or bfloat16 as x has lanes."""
    return element if x.lanes is None else f"vector<{x.lanes}x{element}>"
