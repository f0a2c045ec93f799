"""How accurate the vector maths is: one table, tested on every target, from which docs/vector-math.md is written.

    python -m jtc.compiler.cpu.vector_math_accuracy > docs/vector-math.md
"""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Largest error in units in the last place of the exact result, and how the function is computed."""

    f32: float
    f64: float
    method: str
    source: str


_EXP = "2^n e^r, polynomial for e^r"
_LOG = "n log 2 + log m"
_SIN = "x - n pi/2, polynomials on [-pi/4, pi/4]"
_CEPHES_TAYLOR = "f32 Cephes expf.c, f64 Taylor"
_CEPHES_FDLIBM = "f32 Cephes logf.c, f64 fdlibm e_log.c"
_ASIN = "f32 Cephes asinf.c, f64 fdlibm e_asin.c"
_REDUCTION = "Cody and Waite; Payne and Hanek 1983; f32 Cephes sinf.c, f64 fdlibm k_sin.c, k_cos.c"

ULP: dict[str, Accuracy] = {
    "div": Accuracy(0.5, 0.5, "instruction", "IEEE 754"),
    "sqrt": Accuracy(0.5, 0.5, "instruction", "IEEE 754"),
    "rsqrt": Accuracy(1.5, 1.5, "1 / sqrt", "IEEE 754"),
    "exp": Accuracy(1.1, 1.1, _EXP, _CEPHES_TAYLOR),
    "exp2": Accuracy(1.2, 1.2, _EXP, _CEPHES_TAYLOR),
    "expm1": Accuracy(1.8, 2.2, "2^n (e^r - 1) + (2^n - 1)", _CEPHES_TAYLOR),
    "log": Accuracy(1.0, 1.0, _LOG, _CEPHES_FDLIBM),
    "log2": Accuracy(2.0, 2.0, _LOG, _CEPHES_FDLIBM),
    "log10": Accuracy(2.4, 2.2, _LOG, _CEPHES_FDLIBM),
    "log1p": Accuracy(1.8, 1.8, "log u + (1 + x - u) / u, u = 1 + x rounded", _CEPHES_FDLIBM),
    "pow": Accuracy(0.6, 1.2, "f32 in f64; f64 with log x in two doubles", "series of atanh; Dekker 1971"),
    "sin": Accuracy(1.7, 2.6, _SIN, _REDUCTION),
    "cos": Accuracy(1.7, 2.6, _SIN, _REDUCTION),
    "tan": Accuracy(3.0, 3.8, "sin / cos", _REDUCTION),
    "asin": Accuracy(2.6, 2.4, "x + x^3 p(x^2); pi/2 - 2 asin sqrt((1 - x) / 2)", _ASIN),
    "acos": Accuracy(1.4, 1.4, "2 asin sqrt((1 - x) / 2); pi/2 - asin x", _ASIN),
    "atan": Accuracy(2.2, 1.2, "three intervals, one division", "Cephes atanf.c, atan.c"),
    "atan2": Accuracy(2.6, 2.0, "as atan, of the two magnitudes", "Cephes atanf.c, atan.c"),
    "sinh": Accuracy(2.4, 2.6, "(e + e / (e + 1)) / 2 with e = expm1 x", _CEPHES_TAYLOR),
    "cosh": Accuracy(1.6, 1.6, "h + 1 / 4h with h = exp(x) / 2", _CEPHES_TAYLOR),
    "tanh": Accuracy(2.8, 2.8, "-e / (2 + e) with e = expm1(-2x)", _CEPHES_TAYLOR),
    "sigmoid": Accuracy(2.2, 2.2, "1 / (1 + e) with e = exp(-x); e / (1 + e) with e = exp x below 0", _CEPHES_TAYLOR),
    "asinh": Accuracy(2.4, 2.4, "log1p(x + x^2 / (1 + sqrt(x^2 + 1)))", _CEPHES_FDLIBM),
    "acosh": Accuracy(2.2, 2.2, "log1p(t + sqrt(2t + t^2)), t = x - 1", _CEPHES_FDLIBM),
    "atanh": Accuracy(2.5, 2.5, "log1p(2x / (1 - x)) / 2", _CEPHES_FDLIBM),
    "erf": Accuracy(1.3, 1.5, "x + x p(x^2); 1 - exp(...)", "f32 N. Juffa, f64 fdlibm s_erf.c"),
}


def document() -> str:
    """docs/vector-math.md"""
    rows = "\n".join(f"| {name} | {a.f32} | {a.f64} | {a.method} | {a.source} |" for name, a in ULP.items())
    return f"""# Vector maths

Elementary functions are written into the kernel as arithmetic (`compiler/cpu/vector_math*.py`): no libm call, the same
code for every lane and for scalars.  Largest errors in units in the last place, tested for every x86-64 level and, in
an emulator, for aarch64 (`tests/py/test_vector_math.py`):

| function | f32 | f64 | method | source |
|---|---|---|---|---|
{rows}

All other functions are exact or rounded once.  Special values are those of C99 Annex F and NumPy: NaN stays NaN, max
and min give NaN where either argument is one, results overflow to infinity and underflow gradually through denormals
(but for what AVX512-BF16 rounds to bfloat16 in vectors: its instruction takes denormals for 0).
exp of an expression that is not above 0 by its form (-|x|, min(x, 0)...) takes less code, as accurate.
sin, cos and tan are accurate for every finite argument; beyond 2^17 (f32) or 2^30 (f64) they take a slower branch.

Integers wrap.  floordiv and mod round the quotient down; by 0 both are 0.  Shifts by the width or more give 0, or the
sign for shr.  Floats become integers towards zero; a NaN or a value that does not fit becomes the smallest integer.

x86-64 without FMA: `vector.fma` is a multiplication and an addition; `math.fma`, used where the product's rounding
error matters, and without SSE4.1 floor, ceil, trunc and round, are expanded by `compiler/cpu/llvm_text.py`.
"""


if __name__ == "__main__":
    print(document(), end="")
