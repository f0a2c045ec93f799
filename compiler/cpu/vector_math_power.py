"""pow(x, y) = exp(y log x): for f32 in f64; for f64 with the logarithm in two doubles, since y log x may be as large as
709 and every bit before its point is lost from the result."""
from __future__ import annotations

import math

from jtc.compiler.cpu import vector_math_exponential as exponential
from jtc.compiler.cpu.vector_math_value import Value


def _product(a: Value, b: Value | float) -> tuple[Value, Value]:
    """a * b as rounded product and its error."""
    p = a * b
    return p, a.exact_fma(b, -p)


def _sum(a: Value, b: Value) -> tuple[Value, Value]:
    """a + b as rounded sum and its error, where |a| >= |b| or a is 0 (Dekker)."""
    s = a + b
    return s, b - (s - a)


def _log_two(x: Value) -> tuple[Value, Value]:
    """log(x) of a positive finite f64 as high + low, good to about 2^-64.

    With s = f / (2 + f) and z = s^2: log(1 + f) = log((1 + s) / (1 - s)) = 2s + s z (2/3 + 2/5 z + ...).
    """
    form = exponential.format_of(x)
    n, f = exponential.exponent_and_fraction(x)
    d, d_low = _sum(f.const(2.0), f)
    s = f / d
    s_low = ((-s).exact_fma(d, f) - s * d_low) / d
    z, z_low = _product(s, s)
    z_low = z_low + s * s_low * 2.0
    rest = z * z.polynomial([2.0 / k for k in range(25, 3, -2)])
    two_thirds, two_thirds_low = 2.0 / 3.0, 2.0 ** -54 * 2.0 / 3.0
    t, t_low = _sum(z.const(two_thirds), rest)
    t_low = t_low + two_thirds_low
    u, u_low = _product(z, t)
    u_low = u_low + z * t_low + z_low * t
    v, v_low = _product(s, u)
    v_low = v_low + s * u_low + s_low * u
    high, low = _sum(s * 2.0, v)
    low = low + (s_low * 2.0 + v_low)
    high, carry = _sum(n * form.ln2_high, high)
    return high, low + carry + n * form.ln2_low


def _magnitude(a: Value, y: Value) -> Value:
    """a ** y for a >= 0 in f64; NaN where a is 1 and y infinite."""
    high, low = _log_two(a)
    p, p_low = _product(y, high)
    p_low = p_low + y * low
    edge = a.eq(0.0) | a.eq(math.inf)
    p = edge.select(y * a.eq(0.0).select(a.const(-math.inf), a.const(math.inf)), p)
    p_low = (p.abs() < 2000.0).select(p_low, 0.0)
    return exponential.exp(p, tail=p_low)


def power(x: Value, y: Value) -> Value:
    """C99's pow, F.9.4.4: 1 where y is 0 or x is 1; NaN for negative finite x and y not an integer."""
    a = x.abs()
    if x.element == "f32":
        log2 = exponential.log2(a.cast("extf", "f64"))
        size = exponential.exp2(y.cast("extf", "f64") * log2).cast("truncf", "f32")
    else:
        size = _magnitude(a, y)
    size = a.eq(1.0).select(1.0, size)
    half = y * 0.5
    whole = y.unary("trunc").eq(y)
    odd = whole & half.unary("trunc").ne(half)
    negative = x.bitcast(x.integer) < 0
    result = (negative & odd).select(-size, size)
    invalid = ((x < 0.0) & (x > -math.inf) & ~whole) | x.is_nan() | y.is_nan()
    result = invalid.select(math.nan, result)
    return (y.eq(0.0) | x.eq(1.0)).select(1.0, result)


FUNCTIONS = {"pow": power}
