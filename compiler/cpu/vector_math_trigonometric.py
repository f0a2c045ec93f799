"""Trigonometric functions and their inverses.

sin and cos reduce x to r = x - n pi/2 with |r| <= pi/4.  Up to a limit this is Cody and Waite's subtraction in three
parts, exact by fused multiply-add; if any lane is beyond it, Payne and Hanek's product with the bits of 2/pi that
matter is computed as well, in integers, so the result is accurate for every finite argument.
Sources: "Cephes" is S. Moshier's Cephes library (single/sinf.c, asinf.c, atanf.c; double/atan.c), "fdlibm" Sun's freely
distributable libm (k_sin.c, k_cos.c, e_asin.c); M. Payne, R. Hanek, "Radian reduction for trigonometric functions",
1983.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable

from jtc.compiler.cpu.vector_math_value import Value

_SIN = {"f32": (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1),  # Cephes
        "f64": (1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
                -1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01)}  # fdlibm
_COS = {"f32": (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2),  # Cephes
        "f64": (-1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07,
                2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02)}  # fdlibm

# pi/2 = the sum of three values of the format, and the largest |x| for which three are enough.
_HALF_PI = {"f32": (1.57079637050628662109375, -4.37113900018624283e-8, -1.71512449200e-15),
            "f64": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33)}
_CODY_WAITE_LIMIT = {"f32": 2.0 ** 17, "f64": 2.0 ** 30}


# ------------------------------------------------------------------------------------------------ reduction
@functools.cache
def _two_over_pi(words: int) -> list[int]:
    """The first 64-bit words of 2/pi's binary fraction, with pi from Machin's formula 16 atan(1/5) - 4 atan(1/239)."""
    bits = 64 * words + 64
    one = 1 << bits

    def arctan_inverse(n: int) -> int:
        total = term = one // n
        k = 1
        while term:
            term //= -n * n
            k += 2
            total += term // k
        return total

    pi = 16 * arctan_inverse(5) - 4 * arctan_inverse(239)
    fraction = (2 * one * one // pi) >> 64
    return [fraction >> 64 * (words - 1 - i) & (1 << 64) - 1 for i in range(words)]


def _high_product(a: Value, b: Value) -> Value:
    """The upper 64 bits of the unsigned product of two i64."""
    low = 0xFFFFFFFF
    a0, a1, b0, b1 = a & low, a.shift_right_logical(32), b & low, b.shift_right_logical(32)
    middle = a1 * b0 + (a0 * b0).shift_right_logical(32)
    cross = a0 * b1 + (middle & low)
    return a1 * b1 + middle.shift_right_logical(32) + cross.shift_right_logical(32)


def _payne_hanek(x: Value, exponents: int) -> tuple[Value, Value]:
    """(r, n mod 4 as i64) of an f64 `x` with 2^16 <= |x| < 2^exponents; finite garbage for smaller ones.

    x = m 2^e with m an integer: x 2/pi mod 4 is m times those bits of 2/pi from 2^-e on, kept in 128 bits.
    """
    bits = x.bitcast("i64")
    m = bits & ((1 << 52) - 1) | 1 << 52
    # The bits of 2/pi before place e - 2 only add multiples of 4.  A zero word in front makes the place positive.
    place = (bits.shift_right_logical(52) & 0x7FF) - (1075 + 2 - 64)
    place = (place < 0).select(0, place)
    index, shift = place.shift_right_logical(6), place & 63
    levels = max(1, ((exponents - 52 - 2 + 64) >> 6).bit_length())
    window: list[Value] = [x.const(w, "i64") for w in [0, *_two_over_pi((1 << levels) + 3)]]
    for level in reversed(range(levels)):  # rotate the words so that word `index` comes first
        step, chosen = 1 << level, (index & 1 << level).ne(0)
        window = [chosen.select(window[i + step], window[i]) for i in range(4 + step - 1)]
    top, second, third = ((window[i] << shift) | window[i + 1].shift_right_logical(1).shift_right_logical(63 - shift)
                          for i in range(3))
    below = _high_product(m, third)
    low = m * second + below
    carry = low.unsigned_below(below)
    high = m * top + _high_product(m, second)
    high = carry.select(high + 1, high)  # in units of 2^-62 quadrants, modulo 4
    n = (high + (1 << 61)).shift_right_logical(62)
    rest = high - (n << 62)
    fraction = low.shift_right_logical(1).cast("sitofp", "f64") * 2.0 ** -125
    turns = rest.cast("sitofp", "f64").fma(2.0 ** -62, fraction)
    high_half_pi, low_half_pi, _ = _HALF_PI["f64"]
    r = turns.fma(low_half_pi, turns * high_half_pi)
    negative = bits < 0
    return negative.select(-r, r), negative.select(-n, n)


def _reduce(x: Value) -> tuple[Value, Value]:
    """(r, n): x = n pi/2 + r, |r| <= pi/4; n as an integer of x's width, right modulo 4."""
    magic = 1.5 * 2.0 ** (23 if x.element == "f32" else 52)
    t = x.fma(2 / math.pi, magic)
    n = t - magic
    r = x
    for part in _HALF_PI[x.element]:
        r = n.exact_fma(-part, r)
    near_n = t.bitcast(x.integer)
    builder, limit = x.builder, _CODY_WAITE_LIMIT[x.element]
    far = x.abs() > limit
    pair = builder.name()
    with builder.block(f"{pair}:2 = scf.if {far.any().name} -> ({x.type}, {near_n.type}) {{"):
        wide = x.cast("extf", "f64") if x.element == "f32" else x
        far_r, far_n = _payne_hanek(wide, 128 if x.element == "f32" else 1024)
        if x.element == "f32":
            far_r, far_n = far_r.cast("truncf", "f32"), far_n.cast("trunci", "i32")
        far_r = (x.abs() < math.inf).select(far_r, math.nan)
        far_r, far_n = far.select(far_r, r), far.select(far_n, near_n)
        builder.line(f"scf.yield {far_r.name}, {far_n.name} : {x.type}, {near_n.type}")
    with builder.block("else {"):
        builder.line(f"scf.yield {r.name}, {near_n.name} : {x.type}, {near_n.type}")
    return (Value(builder, f"{pair}#0", x.element, x.lanes), Value(builder, f"{pair}#1", x.integer, x.lanes))


def _kernels(r: Value) -> tuple[Value, Value]:
    """(sin r, cos r) for |r| <= pi/4"""
    z = r * r
    sine = (r * z).fma(z.polynomial(_SIN[r.element]), r)
    half = z * 0.5
    whole = 1.0 - half
    lost = (1.0 - whole) - half
    return sine, whole + (z * z).fma(z.polynomial(_COS[r.element]), lost)


def _quadrant(x: Value, turn: int) -> Value:
    """sin(x + turn pi/2)"""
    r, n = _reduce(x)
    if turn:
        n = n + turn
    sine, cosine = _kernels(r)
    y = (n & 1).ne(0).select(cosine, sine)
    bits = int(x.element[1:])
    return (y.bitcast(x.integer) ^ ((n & 2) << bits - 2)).bitcast(x.element)


def sin(x: Value) -> Value:
    return x.eq(0.0).select(x, _quadrant(x, 0))  # keeps -0


def cos(x: Value) -> Value:
    return _quadrant(x, 1)


def tan(x: Value) -> Value:
    r, n = _reduce(x)
    sine, cosine = _kernels(r)
    odd = (n & 1).ne(0)
    return x.eq(0.0).select(x, odd.select(-cosine, sine) / odd.select(sine, cosine))


# ------------------------------------------------------------------------------------------------ inverse functions
_ASIN_F32 = (4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 1.6666752422e-1)  # Cephes
_ASIN_F64_TOP = (3.47933107596021167570e-05, 7.91534994289814532176e-04, -4.00555345006794114027e-02,
                 2.01212532134862925881e-01, -3.25565818622400915405e-01, 1.66666666666666657415e-01)  # fdlibm
_ASIN_F64_BOTTOM = (7.70381505559019352791e-02, -6.88283971605453293030e-01, 2.02094576023350569471,
                    -2.40339491173441421878, 1.0)


def _arcsine(x: Value) -> tuple[Value, Value, Value]:
    """(whether |x| > 1/2, asin(s), s): s = |x|, or where |x| > 1/2 sqrt((1 - |x|) / 2); asin|x| = pi/2 - 2 asin(s)."""
    a = x.abs()
    large = a > 0.5
    z = large.select((1.0 - a) * 0.5, a * a)
    s = large.select(z.unary("sqrt"), a)
    if x.element == "f32":
        ratio = z.polynomial(_ASIN_F32)
    else:
        ratio = z.polynomial(_ASIN_F64_TOP) / z.polynomial(_ASIN_F64_BOTTOM)
    return large, (s * z).fma(ratio, s), s


def asin(x: Value) -> Value:
    large, y, _ = _arcsine(x)
    high, low, _ = _HALF_PI[x.element]
    return large.select((low - y * 2.0) + high, y).copysign(x)


def acos(x: Value) -> Value:
    large, y, _ = _arcsine(x)
    high, low, _ = _HALF_PI[x.element]
    double = y * 2.0
    far = (x < 0.0).select((low * 2 - double) + high * 2, double)
    return large.select(far, (low - y.copysign(x)) + high)


_ATAN_F32 = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)  # Cephes
_ATAN_F64_TOP = (-8.750608600031904122785e-1, -1.615753718733365076637e1, -7.500855792314704667340e1,
                 -1.228866684490136173410e2, -6.485021904942025371773e1)  # Cephes
_ATAN_F64_BOTTOM = (1.0, 2.485846490142306297962e1, 1.650270098316988542046e2, 4.328810604912902668951e2,
                    4.853903996359136964868e2, 1.945506571482613964425e2)


def _arctangent(top: Value, bottom: Value | float) -> Value:
    """atan(top / bottom) for both >= 0, with one division.

    Beyond tan(3 pi/8) it is pi/2 - atan(bottom / top); in the middle pi/4 + atan((top - bottom) / (top + bottom)).
    """
    bottom = top._other(bottom)
    steep = top > bottom * 2.414213562373095
    middle = top > bottom * (0.4142135623730950 if top.element == "f32" else 0.66)
    over = steep.select(-bottom, middle.select(top - bottom, top))
    under = steep.select(top, middle.select(top + bottom, bottom))
    t = over / under
    z = t * t
    if t.element == "f32":
        ratio = z.polynomial(_ATAN_F32)
    else:
        ratio = z.polynomial(_ATAN_F64_TOP) / z.polynomial(_ATAN_F64_BOTTOM)
    high, low, _ = _HALF_PI[t.element]
    base = steep.select(t.const(high), middle.select(t.const(high / 2), t.const(0.0)))
    base_low = steep.select(t.const(low), middle.select(t.const(low / 2), t.const(0.0)))
    return base + ((t * z).fma(ratio, base_low) + t)


def atan(x: Value) -> Value:
    return _arctangent(x.abs(), 1.0).copysign(x)


def atan2(y: Value, x: Value) -> Value:
    top, bottom = y.abs(), x.abs()
    # top + bottom must not overflow, bottom * 0.66 not lose bits as a denormal: quarter both where either is large, and
    # enlarge both where both are small.  Powers of two leave the quotient as it is.  inf / inf counts as 1, 0 / 0 as 0.
    huge, tiny, enlarge = (2.0 ** 126, 2.0 ** -100, 2.0 ** 64) if x.element == "f32" else (
        2.0 ** 1022, 2.0 ** -900, 2.0 ** 512)
    small, large = (top < tiny) & (bottom < tiny), (top > huge) | (bottom > huge)
    scale = small.select(enlarge, large.select(top.const(0.25), 1.0))
    both_infinite = top.eq(math.inf) & bottom.eq(math.inf)
    top, bottom = both_infinite.select(1.0, top * scale), both_infinite.select(1.0, bottom * scale)
    bottom = (top.eq(0.0) & bottom.eq(0.0)).select(1.0, bottom)
    angle = _arctangent(top, bottom)
    high, low, _ = _HALF_PI[x.element]
    behind = x.bitcast(x.integer) < 0
    return behind.select((low * 2 - angle) + high * 2, angle).copysign(y)


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "sin": sin, "cos": cos, "tan": tan, "asin": asin, "acos": acos, "atan": atan, "atan2": atan2}
