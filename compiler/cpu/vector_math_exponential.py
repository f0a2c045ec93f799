"""Exponentials, logarithms and hyperbolic functions.

exp(x) = 2^n exp(r) with n = round(x / ln 2) and |r| <= ln(2) / 2;
log(x) = n ln 2 + log(m) with m in [sqrt(1/2), sqrt(2)).
Sources: "Cephes" is S. Moshier's Cephes library (single/expf.c, logf.c), "fdlibm" is Sun's freely distributable libm
(e_log.c), "Taylor" the series itself.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from jtc.compiler.cpu.vector_math_value import Value


@dataclass(frozen=True)
class Format:
    """What the expansions ask of a floating-point format.

    mantissa      stored bits of the significand; bias: of the exponent
    ln2_high, ln2_low  sum to ln 2; n * ln2_high is exact for every exponent n
    exp_low, exp_high  outside, exp is 0 and inf
    exp_tail      (exp(r) - 1 - r) / r^2, highest power first
    """

    element: str
    mantissa: int
    bias: int
    ln2_high: float
    ln2_low: float
    exp_low: float
    exp_high: float
    exp_tail: tuple[float, ...]
    tiny: float


F32 = Format("f32", 23, 127, 0.693359375, -2.12194440e-4, -104.0, 89.0,
             (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3,
              4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1),  # Cephes
             2.0 ** -126)
F64 = Format("f64", 52, 1023, 6.93147180369123816490e-01, 1.90821492927058770002e-10, -746.0, 710.0,
             tuple(1.0 / math.factorial(k) for k in range(13, 1, -1)),  # Taylor
             2.0 ** -1022)


def format_of(x: Value) -> Format:
    return F32 if x.element == "f32" else F64


# ------------------------------------------------------------------------------------------------ exp and its kin
def _split(x: Value, bias: int, per_unit: float = math.log2(math.e)) -> tuple[Value, Value]:
    """(t, n): n = round(x * per_unit) as a float, and as an integer, plus `bias`, in the low bits of t.

    Adding 1.5 * 2^mantissa leaves no bits for a fraction: rounds without a conversion, whose result for NaN is
    undefined.
    """
    magic = 1.5 * 2.0 ** format_of(x).mantissa + bias
    t = x.fma(per_unit, magic)
    return t, t - magic


def _power(t: Value) -> Value:
    """The number whose exponent's field is in the low bits of t: 2^(n + b), 0 for n = -bias - b, where t is split with
    bias + b."""
    return (t.bitcast(t.integer) << format_of(t).mantissa).bitcast(t.element)


def _scale(y: Value, t: Value, offset: int = 0) -> Value:
    """y * 2^(n + offset), where t is split with twice the format's bias, in two factors, since 2^n alone may be beyond
    the format; rounds once, also to denormals."""
    form = format_of(y)
    both = t.bitcast(y.integer)
    if offset:
        both = both + offset
    first = both >> 1
    y = y * (first << form.mantissa).bitcast(y.element)
    return y * ((both - first) << form.mantissa).bitcast(y.element)


def _reduced(x: Value, n: Value) -> Value:
    """x - n ln 2"""
    form = format_of(x)
    return n.fma(-form.ln2_low, n.fma(-form.ln2_high, x))


def _exp_reduced(r: Value) -> Value:
    """exp(r) for |r| <= ln(2) / 2"""
    return (r * r).fma(r.polynomial(format_of(r).exp_tail), r) + 1.0


def exp(x: Value, offset: int = 0, tail: Value | None = None) -> Value:
    """exp(x + tail) * 2^offset, without overflow on the way; `tail` is below x's last place"""
    form = format_of(x)
    vanishing = x < form.exp_low
    x = vanishing.select(0.0, x).at_most(form.exp_high - offset)
    t, n = _split(x, 2 * form.bias)
    r = _reduced(x, n)
    y = _scale(_exp_reduced(r if tail is None else r + tail), t, offset)
    return vanishing.select(0.0, y)         # a product that underflows takes 150 cycles, as of masked scores: exp(-inf)


def exp_nonpositive(x: Value) -> Value:
    """exp(x) for x <= 0: 2^(n + up), which is 0 where exp is, and a constant; rounds once, also to denormals."""
    form = format_of(x)
    up = form.mantissa + 2
    x = x.at_least(-math.log(2) * (form.bias + up))
    t, n = _split(x, form.bias + up)
    return _exp_reduced(_reduced(x, n)) * _power(t) * 2.0 ** -up


def exp2(x: Value) -> Value:
    form = format_of(x)
    vanishing = x < (-151.0 if x.element == "f32" else -1076.0)
    x = vanishing.select(0.0, x).at_most(form.bias + 2.0)
    t, n = _split(x, 2 * form.bias, 1.0)
    return vanishing.select(0.0, _scale(_exp_reduced((x - n) * math.log(2)), t))


def expm1(x: Value) -> Value:
    """2^n (exp(r) - 1) + (2^n - 1), at half scale since 2^n may overflow where the result does not."""
    form = format_of(x)
    kept = x.at_least(-40.0).at_most(form.exp_high + 1.0)
    t, n = _split(kept, form.bias - 1)
    r = _reduced(kept, n)
    q = (r * r).fma(r.polynomial(form.exp_tail), r)
    half = _power(t)                        # 2^(n - 1)
    y = q.fma(half, half - 0.5) * 2.0
    y = (x > form.exp_high).select(math.inf, y)
    return n.eq(0.0).select(x.eq(0.0).select(x, q), y)


# ------------------------------------------------------------------------------------------------ logarithms
_LOG_F32 = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
            2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # Cephes
_LOG_F64 = (1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
            2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01)  # fdlibm, Lg7..Lg1


def exponent_and_fraction(x: Value) -> tuple[Value, Value]:
    """(n, f): x = 2^n (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), for x positive and finite."""
    form = format_of(x)
    small = x < form.tiny
    x = small.select(x * 2.0 ** (form.mantissa + 1), x)
    root = 0x3F3504F3 if x.element == "f32" else 0x3FE6A09E667F3BCD
    bits = x.bitcast(x.integer) - root
    n = bits >> form.mantissa
    m = ((bits & ((1 << form.mantissa) - 1)) + root).bitcast(x.element)
    n = small.select(n - (form.mantissa + 1), n)
    return n.cast("sitofp", x.element), m - 1.0


def _log_parts(f: Value) -> Value:
    """log(1 + f) - f"""
    if f.element == "f32":
        z = f * f
        return z.fma(-0.5, f * z * f.polynomial(_LOG_F32))
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    return s * (half + z * z.polynomial(_LOG_F64)) - half


def _log_domain(x: Value, y: Value) -> Value:
    """y where x is positive and finite; log's value elsewhere: -inf at 0, NaN below, inf and NaN as they are."""
    edge = x.eq(0.0).select(-math.inf, (x < 0.0).select(math.nan, x))
    return ((x > 0.0) & (x < math.inf)).select(y, edge)


def log(x: Value) -> Value:
    form = format_of(x)
    n, f = exponent_and_fraction(x)
    return _log_domain(x, n.fma(form.ln2_high, f + n.fma(form.ln2_low, _log_parts(f))))


# log 2 to a base, rounded to few bits so that its product with the exponent is exact, and the rest
_LOG10_2 = {"f32": (0.30102539, 4.6050390e-6), "f64": (3.01029995663611771306e-01, 3.69423907715893078616e-13)}


def log2(x: Value) -> Value:
    n, f = exponent_and_fraction(x)
    tail = _log_parts(f)
    inverse = math.log2(math.e)
    high = x.const(inverse)
    rest = inverse - (1.4426950216293335 if x.element == "f32" else inverse)
    low = tail * inverse if x.element == "f64" else tail.fma(inverse, f * rest)
    return _log_domain(x, n + f.fma(high, low))


def log10(x: Value) -> Value:
    n, f = exponent_and_fraction(x)
    tail = _log_parts(f)
    high, low = _LOG10_2[x.element]
    inverse = math.log10(math.e)
    y = f.fma(inverse, tail * inverse)
    return _log_domain(x, n.fma(high, n.fma(low, y)))


def log1p(x: Value) -> Value:
    """log(u) + (1 + x - u) / u with u = 1 + x rounded."""
    u = x + 1.0
    lost = (x < 1.0).select(x - (u - 1.0), 1.0 - (u - x))
    y = log(u) + lost / u
    y = ((u > 0.0) & (u < math.inf)).select(y, _log_domain(u, u))
    return u.eq(1.0).select(x, y)


# ------------------------------------------------------------------------------------------------ hyperbolic
def tanh(x: Value) -> Value:
    """-e / (2 + e) with e = exp(-2|x|) - 1, which never overflows."""
    form = format_of(x)
    a = (x.abs() * -2.0).at_least(-40.0)
    t, n = _split(a, form.bias)
    r = _reduced(a, n)
    q = (r * r).fma(r.polynomial(form.exp_tail), r)
    power = _power(t)
    e = q.fma(power, power - 1.0)
    return (-e / (e + 2.0)).copysign(x)


def sigmoid(x: Value) -> Value:
    """1 / (1 + e), below 0 e / (1 + e), with e = exp(-|x|), which never overflows."""
    e = exp_nonpositive(-x.abs())
    return (x < 0.0).select(e, 1.0) / (e + 1.0)


def sinh(x: Value) -> Value:
    a = x.abs()
    e = expm1(a)
    near = (e + e / (e + 1.0)) * 0.5
    return (a > 20.0).select(exp(a, -1), near).copysign(x)


def cosh(x: Value) -> Value:
    half = exp(x.abs(), -1)
    return half + 0.25 / half


def asinh(x: Value) -> Value:
    a = x.abs()
    large = a > 2.0 ** 28
    safe = large.select(1.0, a)
    square = safe * safe
    near = log1p(safe + square / ((square + 1.0).unary("sqrt") + 1.0))
    far = log(a) + math.log(2)
    return large.select(far, near).copysign(x)


def acosh(x: Value) -> Value:
    large = x > 2.0 ** 28
    t = large.select(1.0, x - 1.0)
    near = log1p(t + (t * 2.0 + t * t).unary("sqrt"))
    return (x < 1.0).select(math.nan, large.select(log(x) + math.log(2), near))


def atanh(x: Value) -> Value:
    a = x.abs()
    return (log1p(a * 2.0 / (1.0 - a)) * 0.5).copysign(x)


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "exp": exp, "exp2": exp2, "expm1": expm1, "log": log, "log2": log2, "log10": log10, "log1p": log1p,
    "tanh": tanh, "sigmoid": sigmoid, "sinh": sinh, "cosh": cosh, "asinh": asinh, "acosh": acosh, "atanh": atanh}
NONPOSITIVE: dict[str, Callable[..., Value]] = {"exp": exp_nonpositive}
