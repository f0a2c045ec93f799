"""Activation functions as modules: each calls the function of nn.functional with what it was made with."""
from __future__ import annotations

from typing import Any

from jtc.frontend.nn import functional as F
from jtc.frontend.nn import init
from jtc.frontend.nn.linear import check_sizes, uninitialised
from jtc.frontend.nn.module import Module
from jtc.frontend.tensor import Tensor


def _activation(name: str, function: str, **options: Any) -> type[Module]:
    """A module class with `options` and their defaults as arguments of its constructor, in order."""
    target = getattr(F, function)

    class Activation(Module):
        def __init__(self, *args: Any, inplace: bool = False, **given: Any):
            super().__init__()
            values = dict(options)
            if len(args) > len(options) or not set(given) <= set(options) - set(list(options)[:len(args)]):
                raise TypeError(f"{name} takes {', '.join(options) or 'no options'}")
            values.update(zip(options, args))
            values.update(given)
            for key, value in values.items():
                setattr(self, key, value)

        def forward(self, x: Any) -> Tensor:
            return target(x, **{key: getattr(self, key) for key in options})

        def extra_repr(self) -> str:
            return ", ".join(f"{key}={getattr(self, key)!r}" for key in options)

    Activation.__name__ = Activation.__qualname__ = name
    Activation.__doc__ = target.__doc__
    return Activation


ReLU = _activation("ReLU", "relu")
ReLU6 = _activation("ReLU6", "relu6")
LeakyReLU = _activation("LeakyReLU", "leaky_relu", negative_slope=0.01)
ELU = _activation("ELU", "elu", alpha=1.0)
SELU = _activation("SELU", "selu")
GELU = _activation("GELU", "gelu", approximate="none")
SiLU = _activation("SiLU", "silu")
Mish = _activation("Mish", "mish")
Sigmoid = _activation("Sigmoid", "sigmoid")
LogSigmoid = _activation("LogSigmoid", "logsigmoid")
Tanh = _activation("Tanh", "tanh")
Softplus = _activation("Softplus", "softplus", beta=1.0)
Softsign = _activation("Softsign", "softsign")
Hardsigmoid = _activation("Hardsigmoid", "hardsigmoid")
Hardswish = _activation("Hardswish", "hardswish")
Hardtanh = _activation("Hardtanh", "hardtanh", min_val=-1.0, max_val=1.0)


class _Along(Module):
    def __init__(self, dim: int = -1):
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_Along):
    """exp(x) over its sum along `dim`."""

    def forward(self, x: Any) -> Tensor:
        return F.softmax(x, axis=self.dim)


class LogSoftmax(_Along):
    """The logarithm of softmax along `dim`."""

    def forward(self, x: Any) -> Tensor:
        return F.log_softmax(x, axis=self.dim)


class GLU(_Along):
    """a * sigmoid(b), a and b the two halves of x along `dim`."""

    def forward(self, x: Any) -> Tensor:
        return F.glu(x, axis=self.dim)


class PReLU(Module):
    """x where it is positive, else weight * x; one weight, or one for each of num_parameters channels."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = None):
        super().__init__()
        check_sizes(self, 1, num_parameters=num_parameters)
        self.num_parameters = num_parameters
        self.weight = _constant(num_parameters, init, dtype)

    def forward(self, x: Any) -> Tensor:
        return F.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


def _constant(count: int, value: float, dtype: Any) -> Tensor:
    return init.constant_(uninitialised(count, dtype=dtype), value)
