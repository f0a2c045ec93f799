"""jtc: a tensor compiler on MLIR.  This file is the package's `__init__`: it names what is public.

Functions are imported here; larger parts (`jtc.nn`, `jtc.export`, `jtc.explain`, ...) when they are first asked for.
"""
from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from jtc.dialects.dtypes import DTYPES as _DTYPES
from jtc.dialects.errors import InputError, InternalError, JtcError, TraceError, UsageError
from jtc.frontend import creation, elementwise, indexing, linalg, manipulation, meta, methods, reductions, scans
from jtc.frontend.tensor import Tensor

__version__ = "0.1.0"

e, inf, nan, pi, newaxis = 2.718281828459045, float("inf"), float("nan"), 3.141592653589793, None

# public name -> (module, attribute), imported on first use
_LAZY: dict[str, tuple[str, str]] = {
    "jit": ("jtc.frontend.jit", "jit"),
    "sync": ("jtc.frontend.lazy", "sync"),
    "export": ("jtc.frontend.export", "export"),
    "save": ("jtc.frontend.io", "save"),
    "load": ("jtc.frontend.io", "load"),
    "load_module": ("jtc.frontend.compiled", "load_module"),
    "autocast": ("jtc.frontend.autocast", "autocast"),
    "explain": ("jtc.frontend.explain", "explain"),
    "vmap": ("jtc.frontend.vmap", "vmap"),
    "scan": ("jtc.frontend.loop", "scan"),
    "checkpoint": ("jtc.frontend.checkpoint", "checkpoint"),
    "gradients": ("jtc.frontend.autodiff", "gradients"),
    "jacobian": ("jtc.frontend.jacobians", "jacrev"),
} | {name: ("jtc.frontend.transforms", name) for name in (
    "grad", "value_and_grad", "vjp", "jvp", "stop_gradient", "custom_grad")
} | {name: ("jtc.frontend.jacobians", name) for name in ("jacrev", "jacfwd", "hessian")
} | {name: ("jtc.frontend.activations", name) for name in ("relu", "gelu", "silu", "softmax", "log_softmax")}

# Modules under their public names: `import jtc.nn` and `from jtc.nn import functional` find these.
_MODULES = {"nn": "jtc.frontend.nn", "optim": "jtc.frontend.optim", "data": "jtc.frontend.data",
            "random": "jtc.frontend.random", "knobs": "jtc.runtime.knobs"}

_EAGER = {name: getattr(module, name)
          for module in (creation, elementwise, reductions, scans, manipulation, indexing, linalg, meta)
          for name in module.PUBLIC} | {dtype.public: dtype for dtype in _DTYPES.values()}

methods.attach()
globals().update(_EAGER)


class _PublicModules:
    """Import hook: "jtc.nn.functional" is "jtc.frontend.nn.functional", one module under two names."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        first, _, inner = rest.partition(".")
        if package != "jtc" or first not in _MODULES:
            return None
        real = f"{_MODULES[first]}.{inner}" if inner else _MODULES[first]
        return ModuleSpec(name, _Alias(real))                  # type: ignore[arg-type]


class _Alias:
    """Loads a module by importing it under its real name."""

    def __init__(self, real: str):
        self.real = real

    def create_module(self, spec: ModuleSpec) -> Any:
        module = import_module(self.real)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: Any) -> None:
        module.__spec__ = self.spec              # the import system has put that of the public name there


sys.meta_path.insert(0, _PublicModules)


__all__ = ["InputError", "InternalError", "JtcError", "Tensor", "TraceError", "UsageError",
           "e", "inf", "nan", "newaxis", "pi", *_EAGER, *_LAZY, *_MODULES]             # pyright: ignore

if TYPE_CHECKING:                  # stubs/ is installed beside this file
    from jtc._public import *
else:
    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            value = globals()[name] = import_module(_MODULES[name])
            return value
        if name not in _LAZY:
            raise AttributeError(f"module 'jtc' has no attribute {name!r}")
        module, attribute = _LAZY[name]
        value = globals()[name] = getattr(import_module(module), attribute)
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
