"""Neural networks: modules, `jtc.nn.functional` and `jtc.nn.init`, under PyTorch's names.

`functional` alone is imported at once; the modules come with the first of them that is asked for.
"""
from __future__ import annotations

from importlib import import_module
from typing import Any

from jtc.frontend.nn import functional

# module -> what it defines
_HOMES = {
    "module": "Module",
    "parameter": "Parameter",
    "containers": "Sequential ModuleList ModuleDict ParameterList",
    "linear": "Linear Bilinear Embedding Dropout Dropout2d Flatten Unflatten Identity",
    "convolution": "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d MaxPool1d MaxPool2d MaxPool3d "
                   "AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d AdaptiveAvgPool2d",
    "normalization": "BatchNorm1d BatchNorm2d BatchNorm3d LayerNorm GroupNorm RMSNorm",
    "activation": "ReLU ReLU6 LeakyReLU ELU SELU GELU SiLU Mish Sigmoid LogSigmoid Tanh Softplus Softsign Hardsigmoid "
                  "Hardswish Hardtanh Softmax LogSoftmax GLU PReLU",
    "transformer": "MultiheadAttention TransformerEncoderLayer TransformerEncoder",
    "loss": "CrossEntropyLoss NLLLoss MSELoss L1Loss SmoothL1Loss HuberLoss BCELoss BCEWithLogitsLoss KLDivLoss",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name == "init":
        return import_module("jtc.frontend.nn.init")
    if name not in _HOME:
        raise AttributeError(f"jtc.nn has no {name!r}")
    value = globals()[name] = getattr(import_module(f"jtc.frontend.nn.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, "init"})


__all__ = ["functional", "init", *_HOME]                   # pyright: ignore
