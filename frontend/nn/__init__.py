"""Neural networks: modules, `jtc.nn.functional`, `jtc.nn.init` and `jtc.nn.utils`, under PyTorch's names."""
from __future__ import annotations

from jtc.frontend.nn import functional, init, utils
from jtc.frontend.nn.activation import (
    ELU,
    GELU,
    GLU,
    SELU,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from jtc.frontend.nn.containers import ModuleDict, ModuleList, ParameterList, Sequential
from jtc.frontend.nn.convolution import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from jtc.frontend.nn.linear import Bilinear, Dropout, Dropout2d, Embedding, Flatten, Identity, Linear, Unflatten
from jtc.frontend.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from jtc.frontend.nn.module import Module
from jtc.frontend.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d, GroupNorm, LayerNorm, RMSNorm
from jtc.frontend.nn.parameter import Parameter
from jtc.frontend.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from jtc.frontend.nn.transformer import MultiheadAttention, TransformerEncoder, TransformerEncoderLayer

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "BatchNorm1d", "BatchNorm2d",
    "BatchNorm3d", "BCELoss", "BCEWithLogitsLoss", "Bilinear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d",
    "ConvTranspose2d", "ConvTranspose3d", "CrossEntropyLoss", "Dropout", "Dropout2d", "ELU", "Embedding", "Flatten",
    "functional", "GELU", "GLU", "GroupNorm", "GRU", "GRUCell", "Hardsigmoid", "Hardswish", "Hardtanh", "HuberLoss",
    "Identity", "init", "KLDivLoss", "L1Loss", "LayerNorm", "LeakyReLU", "Linear", "LogSigmoid", "LogSoftmax",
    "LSTM", "LSTMCell", "MaxPool1d", "MaxPool2d", "MaxPool3d", "Mish", "Module", "ModuleDict", "ModuleList",
    "MSELoss", "MultiheadAttention", "NLLLoss", "Parameter", "ParameterList", "PReLU", "ReLU", "ReLU6", "RMSNorm",
    "RNN", "RNNCell", "SELU", "Sequential", "Sigmoid", "SiLU", "SmoothL1Loss", "Softmax", "Softplus", "Softsign",
    "Tanh", "TransformerEncoder", "TransformerEncoderLayer", "Unflatten", "utils",
]
