"""Neural networks: `jtc.nn.functional`, under PyTorch's names."""
from __future__ import annotations

from jtc.frontend.nn import functional

__all__ = ["functional"]
