"""The `jtc` dialect in MLIR: one op per row of the op table, and the ops that hold kernels.

| op | where | what |
|---|---|---|
| meta-ops and scalar functions | graphs | on ranked tensors |
| scalar functions, constant, cast | stages | the same ops on scalars |
| index, inbounds | stages | `{form = "2*i + 1"}`: an integer; `{guards = ["0 <= i - 1 < 8"]}`: whether all hold |
| yield | stages | ends a region with its value (none for the third region) |
| offset | stages | in the third region: a value that accesses refer to as `gather = ["dim 0: offset 0"]` |
| stage | kernels | regions: body, epilogue, gathered indices; attributes: the fields of `kernel.Stage` |
| buffer | programs, kernels | name and type; `constant = 1.0 : f32` (a splat) or `"weights"`; `stored`: its order |
| kernel, program | | hold the others |

The rules are not written here: those of graphs are `optable.infer`, those of kernels `rules.py`.  Assembly is MLIR's
generic form.  Ops on values are pure, so upstream's cse and canonicalize work on them.
"""
from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

from jtc.dialects import decode, decode_kernel, optable, rules
from jtc.dialects.decode import DecodeError
from jtc.dialects.dtypes import DTYPES
from jtc.dialects.graph import TensorType
from jtc.dialects.mlir import ext, ir, register


class Jtc(ext.Dialect, name="jtc"):             # type: ignore[call-arg]
    """Tensor programs; see the module's text."""


OPS: dict[str, type] = {}           # name without "jtc." -> class


def load(context: Any) -> None:
    """Load the dialect into a context; nothing where it is there."""
    with context, ir.Location.unknown():
        if not context.is_dialect_loaded(Jtc.DIALECT_NAMESPACE):
            Jtc.load()
            register(Jtc.DIALECT_NAMESPACE)


# ------------------------------------------------------------------------------------------------ verifiers
_SCALAR_OPS = {*optable.SCALAR_FUNCTIONS, "constant", "cast"}


def _verify_value(op: Any) -> None:
    """A row of the op table, on tensors or, in a stage, on scalars."""
    name = op.name.removeprefix("jtc.")
    operands, results = [v.type for v in op.operands], [v.type for v in op.results]
    scalars = [str(t) in DTYPES for t in (*operands, *results)]
    if any(scalars):
        if not all(scalars):
            raise DecodeError(f"{name} mixes tensors and scalars: {', '.join(map(str, operands))} -> {results[0]}")
        if name not in _SCALAR_OPS:
            raise DecodeError(f"{name} is an op on tensors, not on scalars")
        args, declared = [TensorType(decode.dtype(t), ()) for t in operands], TensorType(decode.dtype(results[0]), ())
    else:
        args, declared = [decode.tensor_type(t) for t in operands], decode.tensor_type(results[0])
    attrs = decode.node_attrs(op, declared)
    result = optable.infer(name, args, attrs, declared)
    fits = len(result.shape) == len(declared.shape) and all(map(optable.dims_match, result.shape, declared.shape))
    if result.dtype is not declared.dtype or not fits:
        shown = (result.dtype.name, declared.dtype.name) if any(scalars) else (result, declared)
        raise DecodeError(f"{name} gives {shown[0]}, its type says {shown[1]}")


def _in(parent: str) -> Callable[[Any], None]:
    def verify(op: Any) -> None:
        if op.parent is None or op.parent.operation.name != parent:
            raise DecodeError(f"must stand directly in a {parent}")
    return verify


def _verify_buffer(op: Any) -> None:
    if op.parent is None or op.parent.operation.name not in ("jtc.program", "jtc.kernel"):
        raise DecodeError("must stand directly in a jtc.program or a jtc.kernel")


def _verify_index(op: Any) -> None:
    _in("jtc.stage")(op)
    decode_kernel.index_form(op)
    if not decode.dtype(op.results[0].type).is_integer:
        raise DecodeError(f"gives an integer, not {op.results[0].type}")


def _verify_inbounds(op: Any) -> None:
    _in("jtc.stage")(op)
    decode_kernel.guards(op)
    if str(op.results[0].type) != "i1":
        raise DecodeError(f"gives i1, not {op.results[0].type}")


def _verify_program(op: Any) -> None:
    """The whole program at once, after the ops in it: all rules but the schedules'."""
    problem = next(rules.problems(decode_kernel.program(op)), None)
    if problem is None:
        return
    for kernel in op.regions[0].blocks[0].operations:
        if kernel.operation.name == "jtc.kernel" and kernel.attributes["name"].value == problem.kernel:
            for stage in kernel.regions[0].blocks[0].operations:
                if stage.operation.name == "jtc.stage" and stage.attributes["name"].value == problem.stage:
                    raise DecodeError(f"{problem.stage}: {problem.message}", stage.operation)
            raise DecodeError(f"{problem.kernel}: {problem.message}", kernel.operation)
    raise DecodeError(problem.message)


# ------------------------------------------------------------------------------------------------ op classes
def _checked(verify: Callable[[Any], None]) -> staticmethod:
    """A verifier as MLIR calls it: it reports one error at the op's location and says whether all is well."""
    def run(view: Any) -> bool:
        op = view.operation
        try:
            verify(op)
        except (DecodeError, optable.OpError) as error:
            about = getattr(error, "op", None) or op
            about.location.emit_error(f"'{about.name}' op {error}")
            return False
        return True
    return staticmethod(run)


def _define(name: str, doc: str, verify: Callable[[Any], None], traits: Sequence[type] = (), arity: int = 0,
            variadic: bool = False, value: bool = False, regions: Sequence[str] = (), after: bool = False) -> None:
    """arity: number of operands; variadic: any number of one type after these; value: it has a result;
    after: verify when the ops in the regions are known to be valid."""
    fields: dict[str, Any] = {f"arg{i}": ext.Operand[Any] for i in range(arity)}
    if variadic:
        fields["more"] = Sequence[ext.Operand[Any]]
    if value:
        fields["res"] = ext.Result[Any]
    members = {
        "__doc__": doc,
        "__module__": __name__,
        "__annotations__": fields | dict.fromkeys(regions, ext.Region),
        "verify_region_invariants" if after else "verify_invariants": _checked(verify),
    }
    class_name = "".join(part.capitalize() for part in name.split("_")) + "Op"
    OPS[name] = types.new_class(class_name, (Jtc.Operation,), {"name": name, "traits": list(traits)},
                                lambda namespace: namespace.update(members))


_rows: list[optable.MetaOp | optable.ScalarFunction] = [*optable.META_OPS.values(), *optable.SCALAR_FUNCTIONS.values()]
for _row in _rows:
    _define(_row.name, _row.doc, _verify_value, [ext.Pure], abs(_row.arity), variadic=_row.arity < 0, value=True)
_define("index", "The value of an affine form of the axes.", _verify_index, [ext.Pure], value=True)
_define("inbounds", "Whether guards hold.", _verify_inbounds, [ext.Pure], value=True)
_define("yield", "The value of a region of a stage.", _in("jtc.stage"), [ir.IsTerminatorTrait], variadic=True)
_define("offset", "A value that is added to an index.", _in("jtc.stage"), arity=1)
_define("stage", "See `kernel.Stage`.", _in("jtc.kernel"), regions=("body", "epilogue", "gather"))
_define("buffer", "A named array: of the program, or of one block of a kernel.", _verify_buffer)
_define("kernel", "See `kernel.Kernel`.", _in("jtc.program"), [ir.NoTerminatorTrait], regions=["stages"])
_define("program", "See `kernel.Program`.", _verify_program, [ir.NoTerminatorTrait], regions=["contents"], after=True)
