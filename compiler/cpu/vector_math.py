"""The scalar functions of the op table as arith, math and vector ops: no calls, one code path for all lanes.

`apply` looks a function up in FUNCTIONS; the expansions live in vector_math_<family>.py.  Accuracy and special values:
docs/vector-math.md, and the table ULP in vector_math_accuracy.py that the tests check.
"""
from __future__ import annotations

from collections.abc import Callable

from jtc.compiler.cpu import vector_math_arithmetic as arithmetic
from jtc.compiler.cpu import vector_math_erf as error_function
from jtc.compiler.cpu import vector_math_exponential as exponential
from jtc.compiler.cpu import vector_math_half as half
from jtc.compiler.cpu import vector_math_power as power
from jtc.compiler.cpu import vector_math_trigonometric as trigonometric
from jtc.compiler.cpu.builder import Builder
from jtc.compiler.cpu.vector_math_value import Value, type_name
from jtc.dialects.dtypes import DType
from jtc.dialects.optable import SCALAR_FUNCTIONS, OpError

# name of a row of SCALAR_FUNCTIONS -> its expansion: Values in, Value out
FUNCTIONS: dict[str, Callable[..., Value]] = {
    **arithmetic.FUNCTIONS, **exponential.FUNCTIONS, **trigonometric.FUNCTIONS, **error_function.FUNCTIONS,
    **power.FUNCTIONS}
# the same for functions that take less code where their argument is not above 0
NONPOSITIVE: dict[str, Callable[..., Value]] = exponential.NONPOSITIVE


def type_of(dtype: DType, lanes: int | None) -> str:
    """MLIR type of a value in registers: "f32", "vector<16xf32>"; a bool is i1."""
    return type_name(dtype.name, lanes)


def apply(builder: Builder, fn: str, args: list[str], dtype: DType, lanes: int | None, nonpositive: bool = False
          ) -> str:
    """Append the ops that compute scalar function `fn` and return the result's SSA name.

    args   SSA names of the arguments, all of type_of(dtype, lanes); where's first is a bool
    dtype  of the value arguments, one that `fn` takes; functions of 16-bit floats are computed in float32
    lanes  vector length, None for scalars
    nonpositive  whether the argument, that of a function in NONPOSITIVE, is known not to be above 0
    Raises OpError where `fn` is unknown or does not take `dtype`.
    """
    row = SCALAR_FUNCTIONS.get(fn)
    if row is None:
        raise OpError(f"unknown scalar function {fn!r}")
    if dtype.kind not in row.kinds:
        raise OpError(f"no code for {fn} on {dtype.public}")
    elements = [dtype.name] * len(args)
    if row.arguments == "where":
        elements[0] = "i1"
    values = [Value(builder, name, element, lanes) for name, element in zip(args, elements, strict=True)]
    expansion = (NONPOSITIVE if nonpositive else FUNCTIONS)[fn]
    if not dtype.is_half or row.arguments == "where":
        return expansion(*values).name
    result = expansion(*map(half.widen, values))
    return (half.narrow(result, dtype.name) if row.result == "same" else result).name


def convert(builder: Builder, x: str, source: DType, to: DType, lanes: int | None) -> str:
    """Append the ops that convert `x` of type_of(source, lanes) to `to`; returns the SSA name.

    See `reference_values.convert`, which says what becomes of every value.
    """
    return arithmetic.convert(Value(builder, x, source.name, lanes), to.name).name
