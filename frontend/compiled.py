"""Compiled modules as functions of tensors."""
from __future__ import annotations

import os

from jtc.frontend.tensor import Tensor
from jtc.runtime import module


def load_module(path: str | os.PathLike[str]) -> module.Module:
    """The module in a shared object made by `jtc compile`: a callable on arrays and tensors that returns tensors.

    Needs neither the compiler nor MLIR.  Raises InputError for a file that is missing, damaged, foreign, or for
    another processor.
    """
    return module.load_module(path, Tensor.from_buffer)
