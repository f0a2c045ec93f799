"""The functions of neural networks under PyTorch's names: thin combinations of array functions."""
from __future__ import annotations

from jtc.frontend import activations, convolution
from jtc.frontend.manipulation import flatten, pad
from jtc.frontend.nn import attention, losses, norms

for _module in (activations, convolution, norms, losses, attention):
    globals().update({name: getattr(_module, name) for name in _module.PUBLIC})

__all__ = ["flatten", "pad", *activations.PUBLIC, *convolution.PUBLIC, *norms.PUBLIC, *losses.PUBLIC, *attention.PUBLIC]
