"""The error function: a polynomial near 0, 1 - exp(...) beyond.

Sources: f32, N. Juffa, stackoverflow.com/questions/35148198 ("my_erff"); f64, fdlibm's s_erf.c.
"""
from __future__ import annotations

from jtc.compiler.cpu import vector_math_exponential as exponential
from jtc.compiler.cpu.vector_math_value import Value

# erf(x) = x + x p(x^2) for |x| <= 0.927734375, 1 - exp(-x - x q(x)) beyond
_F32_NEAR = (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1)
_F32_FAR = (-1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2, -1.06777877e-1, -6.34846687e-1,
            -1.28717512e-1)


def _erf_f32(x: Value) -> Value:
    a, square = x.abs(), x * x
    near = x.fma(square.polynomial(_F32_NEAR), x)
    bounded = a.at_most(4.0)
    power = bounded.fma(bounded.polynomial(_F32_FAR), -bounded)
    far = (1.0 - exponential.exp_nonpositive(power)).copysign(x)
    return (a > 0.927734375).select(far, near)


# (numerator, denominator) on [0, 0.84375) in x^2, [0.84375, 1.25) in x - 1, [1.25, 1/0.35) and [1/0.35, 6) in 1/x^2
_NEAR = ((-2.37630166566501626084e-05, -5.77027029648944159157e-03, -2.84817495755985104766e-02,
          -3.25042107247001499370e-01, 1.28379167095512558561e-01),
         (-3.96022827877536812320e-06, 1.32494738004321644526e-04, 5.08130628187576562776e-03,
          6.50222499887672944485e-02, 3.97917223959155352819e-01, 1.0))
_MIDDLE = ((-2.16637559486879084300e-03, 3.54783043256182359371e-02, -1.10894694282396677476e-01,
            3.18346619901161753674e-01, -3.72207876035701323847e-01, 4.14856118683748331666e-01,
            -2.36211856075265944077e-03),
           (1.19844998467991074170e-02, 1.36370839120290507362e-02, 1.26171219808761642112e-01,
            7.18286544141962662868e-02, 5.40397917702171048937e-01, 1.06420880400844228286e-01, 1.0))
_FAR = ((-9.81432934416914548592e+00, -8.12874355063065934246e+01, -1.84605092906711035994e+02,
         -1.62396669462573470355e+02, -6.23753324503260060396e+01, -1.05586262253232909814e+01,
         -6.93858572707181764372e-01, -9.86494403484714822705e-03),
        (-6.04244152148580987438e-02, 6.57024977031928170135e+00, 1.08635005541779435134e+02,
         4.29008140027567833386e+02, 6.45387271733267880336e+02, 4.34565877475229228821e+02,
         1.37657754143519042600e+02, 1.96512716674392571292e+01, 1.0))
_TAIL = ((-4.83519191608651397019e+02, -1.02509513161107724954e+03, -6.37566443368389627722e+02,
          -1.60636384855821916062e+02, -1.77579549177547519889e+01, -7.99283237680523006574e-01,
          -9.86494292470009928597e-03),
         (-2.24409524465858183362e+01, 4.74528541206955367215e+02, 2.55305040643316442583e+03,
          3.19985821950859553908e+03, 1.53672958608443695994e+03, 3.25792512996573918826e+02,
          3.03380607434824582924e+01, 1.0))
_ERF_1 = 8.45062911510467529297e-01  # erf(1) rounded to 24 bits, the constant term of the middle interval


def _erf_f64(x: Value) -> Value:
    a = x.abs().at_most(6.0)
    near, middle, tail = a < 0.84375, a < 1.25, a >= 1 / 0.35
    square, shifted = a * a, a - 1.0
    inverse = 1.0 / middle.select(1.0, square)
    top, bottom = (
        near.select(square.polynomial(_NEAR[i]), middle.select(shifted.polynomial(_MIDDLE[i]), tail.select(
            inverse.polynomial(_TAIL[i]), inverse.polynomial(_FAR[i])))) for i in range(2))
    ratio = top / bottom
    far = 1.0 - exponential.exp_nonpositive(ratio - square - 0.5625) / middle.select(1.0, a)
    y = near.select(a.fma(ratio, a), middle.select(ratio + _ERF_1, far))
    return y.copysign(x)


def erf(x: Value) -> Value:
    return _erf_f32(x) if x.element == "f32" else _erf_f64(x)


FUNCTIONS = {"erf": erf}
