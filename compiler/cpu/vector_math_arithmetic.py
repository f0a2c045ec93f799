"""Arithmetic, comparison, bits, rounding and conversion, with NumPy's answers in the corner cases."""
from __future__ import annotations

import math
from collections.abc import Callable

from jtc.compiler.cpu import vector_math_half as half
from jtc.compiler.cpu.vector_math_value import Value
from jtc.dialects.dtypes import DTYPES


def maximum(a: Value, b: Value) -> Value:
    if a.element == "i1":
        return a | b
    if a.is_number or b.is_number:
        return a.at_least(b) if b.is_number else b.at_least(a)
    larger = (a > b).select(a, b)  # b where either is NaN: right but for a NaN in a
    return a.is_nan().select(a, larger) if a.is_float else larger


def minimum(a: Value, b: Value) -> Value:
    if a.element == "i1":
        return a & b
    if a.is_number or b.is_number:
        return a.at_most(b) if b.is_number else b.at_most(a)
    smaller = (a < b).select(a, b)
    return a.is_nan().select(a, smaller) if a.is_float else smaller


def sign(x: Value) -> Value:
    if x.is_float:
        nonzero = x.const(1.0).copysign(x)
        return (x.abs() > 0.0).select(nonzero, x)  # zeros and NaN are their own sign
    negative = x.const(0) if x.is_unsigned else (x < 0).select(x.const(-1), x.const(0))
    return (x > 0).select(x.const(1), negative)


# ------------------------------------------------------------------------------------------------ division
def _int_divide(a: Value, b: Value) -> tuple[Value, Value]:
    """Floor quotient and remainder; 0 for both where b is 0.

    Division by 0 and of the smallest integer by -1 trap on x86, so those divisors are replaced first: a / -1 is -a.
    """
    if a.is_unsigned:
        by_zero = b.eq(0)
        quotient, remainder = _truncated(a, by_zero.select(1, b))
        return by_zero.select(0, quotient), by_zero.select(0, remainder)
    zero, minus_one = b.eq(0), b.eq(-1)
    safe = (zero | minus_one).select(1, b)
    quotient, remainder = _truncated(a, safe)
    fix = remainder.ne(0) & ((remainder ^ safe) < 0)
    quotient = fix.select(quotient - 1, quotient)
    remainder = fix.select(remainder + safe, remainder)
    quotient = minus_one.select(-a, zero.select(0, quotient))
    return quotient, (zero | minus_one).select(0, remainder)


def _truncated(a: Value, b: Value) -> tuple[Value, Value]:
    """Quotient towards 0 and its remainder, neither of which overflows.

    x86 divides no vectors of integers.  The float quotient of integers of n bits is never rounded up to the next one
    where the significand has more than n bits: a / b is at least 1 / b away from it.
    """
    if a.bits > 32 or a.element == "ui32":
        return a / b, a.remainder(b)
    wide = "f32" if a.bits <= 16 else "f64"
    quotient = convert((convert(a, wide) / convert(b, wide)).cast("fptosi", "i32"), a.element)
    return quotient, a - quotient * b


def _float_remainder(a: Value, b: Value) -> Value:
    """C's fmod, exact.

    Subtracts multiples of b: a quotient of at most half the significand's bits makes the fused product exact, so each
    turn takes as many bits off the remainder; one turn is enough where |a / b| < 2^12 (f32) or 2^26 (f64).
    """
    digits, half, top = (24, 12, 127) if a.element == "f32" else (53, 26, 1023)
    builder, start, divisor = a.builder, a.abs(), b.abs()
    finite = start < math.inf
    valid = finite & (divisor > 0.0) & (divisor < math.inf)
    divisor = valid.select(divisor, 1.0)
    result, before, after = builder.name(), builder.name(), builder.name()
    first = valid.select(start, 0.0)
    with builder.block(f"{result} = scf.while ({before} = {first.name}) : ({a.type}) -> {a.type} {{"):
        more = (Value(builder, before, a.element, a.lanes).abs() >= divisor).any()
        builder.line(f"scf.condition({more.name}) {before} : {a.type}")
    with builder.block("do {"):
        builder.line(f"^bb0({after}: {a.type}):")
        rest = Value(builder, after, a.element, a.lanes)
        step = divisor
        for _ in range(3):      # where the quotient is past the largest float, take off multiples of 2^k b first
            step = (rest / step).abs().eq(math.inf).select(step * 2.0 ** ((top + 1) // 2), step)
        quotient = ((rest / step).bitcast(a.integer) & (-1 << digits - half)).bitcast(a.element).unary("trunc")
        left = (-quotient).exact_fma(step, rest)
        builder.line(f"scf.yield {left.name} : {a.type}")
    rest = Value(builder, result, a.element, a.lanes)
    rest = (rest < 0.0).select(rest + divisor, rest)  # the last division had rounded up
    kept = (finite & b.abs().eq(math.inf)).select(start, math.nan)
    return valid.select(rest, kept).copysign(a)


def _float_divide(a: Value, b: Value) -> tuple[Value, Value]:
    """Floor quotient and remainder as NumPy's divmod defines them (numpy/_core/src/npymath: npy_divmod)."""
    remainder = _float_remainder(a, b)
    quotient = (a - remainder) / b
    wrong_sign = (remainder < 0.0) ^ (b < 0.0)
    nonzero = remainder.ne(0.0)
    fix = nonzero & wrong_sign
    mod = nonzero.select(fix.select(remainder + b, remainder), remainder.const(0.0).copysign(b))
    quotient = fix.select(quotient - 1.0, quotient)
    floor = quotient.unary("floor")
    floor = (quotient - floor > 0.5).select(floor + 1.0, floor)
    floor = quotient.ne(0.0).select(floor, quotient.const(0.0).copysign(a / b))
    return b.eq(0.0).select(a / b, floor), mod


def floordiv(a: Value, b: Value) -> Value:
    return (_float_divide if a.is_float else _int_divide)(a, b)[0]


def mod(a: Value, b: Value) -> Value:
    return (_float_divide if a.is_float else _int_divide)(a, b)[1]


# ------------------------------------------------------------------------------------------------ bits
def shift_left(a: Value, b: Value) -> Value:
    """0 where b is not in 0..bits-1."""
    inside = b.unsigned_below(a.bits)
    return inside.select(a << inside.select(b, 0), 0)


def shift_right(a: Value, b: Value) -> Value:
    """The sign in every bit where b is not in 0..bits-1; 0 for unsigned integers."""
    inside = b.unsigned_below(a.bits)
    shifted = a >> inside.select(b, a.bits - 1)
    return inside.select(shifted, 0) if a.is_unsigned else shifted


# ------------------------------------------------------------------------------------------------ conversion
def _float_to_int(x: Value, to: str) -> Value:
    """Towards zero.  Narrow integers and uint32 take the low bits of an int32, an int64; where that cannot hold the
    value it is the smallest integer, as x86's conversion gives."""
    if to == "ui64":
        high = x >= 2.0 ** 63
        low = _float_to_int(high.select(x - 2.0 ** 63, x), "i64")
        return (low ^ high.select(low.const(-1 << 63), 0)).taken_as(to)
    if to not in ("i32", "i64"):
        return convert(_float_to_int(x, "i64" if to == "ui32" else "i32"), to)
    limit = 2.0 ** (int(to[1:]) - 1)
    fits = (x < limit) & (x >= -limit) if x.element == "f32" or to == "i64" else (x < limit) & (x > -limit - 1)
    smallest = x.const(-1 << int(to[1:]) - 1, to)
    return fits.select(fits.select(x, 0.0).cast("fptosi", to), smallest)


def convert(x: Value, to: str) -> Value:
    """See vector_math.convert."""
    source = x.element
    if source == to:
        return x
    if source in ("f16", "bf16"):
        return (x.taken_as("i16") & 0x7FFF).ne(0) if to == "i1" else convert(half.widen(x), to)
    if to == "i1":
        return x.ne(0.0 if x.is_float else 0)
    if source == "i1":
        one = 1.0 if DTYPES[to].is_float else 1
        return x.select(x.const(one, to), x.const(one - one, to))
    if to in ("f16", "bf16"):
        return half.narrow(convert(x, "f32"), to)
    if x.is_float:
        if to[0] == "f":
            return x.cast("extf" if to == "f64" else "truncf", to)
        return _float_to_int(x, to)
    if to[0] == "f":
        return x.cast("uitofp" if x.is_unsigned else "sitofp", to)
    if x.bits == DTYPES[to].bits:
        return x.taken_as(to)
    return x.cast("trunci" if x.bits > DTYPES[to].bits else "extui" if x.is_unsigned else "extsi", to)


def _philox(counter: Value, key: Value) -> Value:
    """optable.philox_4x32 on 64-bit lanes that hold 32-bit words."""
    low = 0xFFFFFFFF
    block = counter.shift_right_logical(2)
    zero = counter.const(0)
    words = [block & low, block.shift_right_logical(32), zero, zero]
    k0, k1 = key & low, key.shift_right_logical(32)
    for turn in range(10):
        if turn:
            k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
        p0, p1 = words[0] * 0xD2511F53, words[2] * 0xCD9E8D57
        words = [p1.shift_right_logical(32) ^ words[1] ^ k0, p1 & low,
                 p0.shift_right_logical(32) ^ words[3] ^ k1, p0 & low]
    odd, high = (counter & 1).ne(0), (counter & 2).ne(0)
    word = high.select(odd.select(words[3], words[2]), odd.select(words[1], words[0]))
    return word.cast("trunci", "i32")


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "floordiv": floordiv,
    "mod": mod,
    "max": maximum,
    "min": minimum,
    **{name: lambda a, b, name=name: a.compare(name, b) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "shl": shift_left,
    "shr": shift_right,
    "neg": lambda x: -x,
    "abs": Value.abs,
    "sign": sign,
    "not": lambda x: ~x,
    "sqrt": lambda x: x.unary("sqrt"),
    "rsqrt": lambda x: 1.0 / x.unary("sqrt"),
    "floor": lambda x: x.unary("floor"),
    "ceil": lambda x: x.unary("ceil"),
    "trunc": lambda x: x.unary("trunc"),
    "round": lambda x: x.unary("roundeven"),
    "isnan": Value.is_nan,
    "isinf": lambda x: x.abs().eq(math.inf),
    "where": Value.select,
    "philox": _philox,
}
