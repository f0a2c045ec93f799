"""jtc: a tensor compiler on MLIR.  This file is the package's `__init__`: it names what is public.

Functions are imported here; larger parts (`jtc.nn`, `jtc.export`, `jtc.explain`, ...) when they are first asked for.
"""
from __future__ import annotations

from importlib import import_module
from typing import Any

from jtc.dialects.dtypes import DTYPES as _DTYPES
from jtc.dialects.errors import InputError, InternalError, JtcError, TraceError, UsageError
from jtc.frontend import creation, elementwise, indexing, linalg, manipulation, meta, reductions
from jtc.frontend import methods as _methods
from jtc.frontend.tensor import Tensor

__version__ = "0.1.0"

e, inf, nan, pi, newaxis = 2.718281828459045, float("inf"), float("nan"), 3.141592653589793, None

# public name -> (module, attribute or None for the module itself), imported on first use
_LAZY: dict[str, tuple[str, str | None]] = {
    "jit": ("jtc.frontend.jit", "jit"),
    "sync": ("jtc.frontend.lazy", "sync"),
    "export": ("jtc.frontend.export", "export"),
    "save": ("jtc.frontend.io", "save"),
    "load": ("jtc.frontend.io", "load"),
    "load_module": ("jtc.frontend.compiled", "load_module"),
    "explain": ("jtc.frontend.explain", "explain"),
    "nn": ("jtc.frontend.nn", None),
    "random": ("jtc.frontend.random", None),
    "knobs": ("jtc.runtime.knobs", None),
} | {name: ("jtc.frontend.activations", name) for name in ("relu", "gelu", "sigmoid", "silu", "softmax", "log_softmax")}

for _module in (creation, elementwise, reductions, manipulation, indexing, linalg, meta):
    globals().update({name: getattr(_module, name) for name in _module.PUBLIC})
for _dtype in _DTYPES.values():
    globals()["bool" if _dtype.public == "bool" else _dtype.public] = _dtype


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'jtc' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    loaded = import_module(module)
    value = globals()[name] = loaded if attribute is None else getattr(loaded, attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = ["InputError", "InternalError", "JtcError", "Tensor", "TraceError", "UsageError", *_LAZY]  # pyright: ignore
