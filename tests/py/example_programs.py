"""The programs of examples/, as modules."""
from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str = "train_digits") -> ModuleType:
    """The module examples/NAME.py.  Skips where it needs scikit-learn or matplotlib, and that is not installed."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))          # last: a helper of the tests may have the name of an example
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in ("sklearn", "matplotlib"):
            raise
        pytest.skip(f"{error.name} is not installed: pip install '.[examples]'")
