"""What `import jtc` offers, and what it costs."""
from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import jtc
from jtc.dialects.optable import SCALAR_FUNCTIONS
from jtc.frontend import elementwise

HEAVY = ("torch_mlir", "mlir", "llvmlite", "rich", "hypothesis", "safetensors", "sklearn", "jtc.compiler", "jtc.passes",
         "jtc.dialects.mlir", "jtc.dialects.reader", "jtc.frontend.nn")
STUBS = Path(__file__).resolve().parents[2] / "frontend" / "stubs"


def test_import_is_light():
    code = "import sys, jtc; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if name.startswith(HEAVY)] == []


def test_array_api_names():
    """Functions of the standard that jtc leaves out are named here, so that the list shrinks on purpose."""
    missing = {"searchsorted", "sort", "argsort", "unique_all", "unique_counts", "unique_inverse", "unique_values",
               "nonzero", "meshgrid", "isdtype", "finfo", "iinfo", "can_cast", "conj", "imag", "real", "copysign",
               "signbit", "nextafter", "diff"}
    names = """abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_invert bitwise_or
        bitwise_right_shift bitwise_xor ceil clip conj copysign cos cosh divide equal exp expm1 floor floor_divide
        greater greater_equal hypot imag isfinite isinf isnan less less_equal log log1p log2 log10 logaddexp
        logical_and logical_not logical_or logical_xor maximum minimum multiply negative nextafter not_equal positive
        pow real reciprocal remainder round sign signbit sin sinh square sqrt subtract tan tanh trunc all any max mean
        min prod std sum var cumulative_sum cumulative_prod arange asarray empty empty_like eye from_dlpack full
        full_like linspace meshgrid ones ones_like tril triu zeros zeros_like matmul matrix_transpose tensordot vecdot
        broadcast_arrays broadcast_to concat expand_dims flip moveaxis permute_dims repeat reshape roll squeeze stack
        tile unstack argmax argmin nonzero where searchsorted sort argsort count_nonzero take take_along_axis
        unique_all unique_counts unique_inverse unique_values astype can_cast finfo iinfo isdtype result_type diff e
        inf nan newaxis pi bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64""".split()
    assert {name for name in names if not hasattr(jtc, name)} == missing


def test_public_modules():
    import jtc.nn.functional as F
    import jtc.nn.linear
    from jtc import nn
    from jtc.nn import Linear, functional
    assert nn is jtc.nn is sys.modules["jtc.nn"] is sys.modules["jtc.frontend.nn"]
    assert F is functional is nn.functional is sys.modules["jtc.frontend.nn.functional"]
    assert Linear is jtc.nn.linear.Linear and F.__spec__.name == F.__name__ == "jtc.frontend.nn.functional"
    assert jtc.random.uniform and jtc.knobs.get("backend") in ("compiled", "reference")
    with pytest.raises(ImportError):
        import jtc.nn.absent  # noqa: F401
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        jtc.absent                 # noqa: B018
    assert {"jit", "nn", "export", "exp", "load_module"} <= set(dir(jtc))


@pytest.mark.parametrize("name", jtc._MODULES)
def test_public_modules_come_when_asked_for(name):
    code = f"import sys, jtc; before = set(sys.modules); import jtc.{name}; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert f"jtc.{name}" in loaded and import_module(f"jtc.{name}") is getattr(jtc, name)
    assert {path.parent / path.stem for path in STUBS.rglob("*.pyi")} & {STUBS / name, STUBS / name / "__init__"}, \
        f"type checkers look for frontend/stubs/{name}.pyi, or frontend/stubs/{name}/__init__.pyi"


def test_type_checkers_see_every_public_name():
    made = subprocess.run([sys.executable, "-m", "jtc.tools.stubs"], capture_output=True, text=True, check=True).stdout
    assert (STUBS / "_public.pyi").read_text() == made, "run python -m jtc.tools.stubs > frontend/stubs/_public.pyi"
    assert not {name for name in dir(jtc) if not name.startswith("__")} - set(jtc.__all__)


@pytest.mark.parametrize("stub", sorted(STUBS.rglob("[!_]*.pyi")) + sorted(STUBS.rglob("__init__.pyi")),
                         ids=lambda path: str(path.relative_to(STUBS)))
def test_stubs_of_modules(stub):
    name = ".".join(("jtc", *stub.relative_to(STUBS).with_suffix("").parts)).removesuffix(".__init__")
    assert stub.read_text() == f"from {import_module(name).__name__} import *\n"


def test_every_scalar_function_has_a_public_name():
    named = {fn for fn, _ in elementwise.FUNCTIONS.values()}
    assert set(SCALAR_FUNCTIONS) - named == {"pow", "where", "philox"}      # with functions of their own


def test_every_public_function_is_documented():
    functions = [jtc.nn.functional.__dict__[n] for n in jtc.nn.functional.__all__]
    functions += [v for n, v in vars(jtc).items() if callable(v) and getattr(v, "__module__",
                                                                             "").startswith("jtc.frontend")]
    assert [f.__name__ for f in functions if not f.__doc__] == []


def test_documents_from_the_op_table():
    assert jtc.add.__doc__.split("\n\n") == [
        "Elementwise: x1 + x2.", "    Takes any shapes, broadcast against each other; gives the common dtype.  "
        "Raises InputError for bools, and for shapes that do not fit.\n    "]
    assert jtc.maximum.__doc__.startswith("Elementwise: the larger; NaN where either is NaN.\n")
    assert "gives bools.  False for integers and bools." in jtc.isnan.__doc__


def test_dtypes_and_numpy():
    assert repr(jtc.float32) == "jtc.float32" and str(jtc.float32) == "float32"
    assert jtc.asarray(np.zeros(2, np.int16)).dtype is jtc.int16
