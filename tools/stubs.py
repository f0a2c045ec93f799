"""frontend/stubs/_public.pyi: what `jtc` itself offers, for type checkers, which do not see what is made or found late.

    python -m jtc.tools.stubs > frontend/stubs/_public.pyi      # write it anew
"""
from __future__ import annotations

from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

import jtc
from jtc.dialects.dtypes import DType
from jtc.dialects.optable import SCALAR_FUNCTIONS
from jtc.frontend.elementwise import FUNCTIONS

TITLE = '"""The names of `jtc`: python -m jtc.tools.stubs > frontend/stubs/_public.pyi"""\nfrom typing import Any\n'


def line(name: str, value: Any) -> str:
    """The declaration of a public name; "" for what frontend/namespace.py shows to type checkers itself."""
    if isinstance(value, DType):
        return f"{name}: DType"
    if isinstance(value, ModuleType):
        return f"from jtc import {name} as {name}"
    if not isinstance(value, FunctionType) and name not in jtc._LAZY:
        return ""
    if name in FUNCTIONS:
        arguments = "x: Any" if SCALAR_FUNCTIONS[FUNCTIONS[name][0]].arity == 1 else "x1: Any, x2: Any"
        return f"def {name}({arguments}, /) -> Tensor: ..."
    home, own = value.__module__, value.__name__
    if getattr(import_module(home), own, None) is not value:
        raise TypeError(f"jtc.{name} is not {home}.{own}")
    return f"from {home} import {own} as {name}"


def stub() -> str:
    """The file's text."""
    lines = [line(name, getattr(jtc, name)) for name in sorted(jtc.__all__)]
    imports = ["from jtc.dialects.dtypes import DType", "from jtc.frontend.tensor import Tensor"]
    imports = sorted([*imports, *(text for text in lines if text.startswith("from"))])
    dtypes, functions = ([x for x in lines if x.endswith(end)] for end in (": DType", ": ..."))
    return "\n".join([TITLE, *imports, "", *dtypes, "", *functions]) + "\n"


if __name__ == "__main__":
    print(stub(), end="")
