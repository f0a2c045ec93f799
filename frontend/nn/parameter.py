"""Parameters: tensors that a module owns and an optimiser changes."""
from __future__ import annotations

from typing import Any

import numpy as np

from jtc.frontend.creation import asarray
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import changed, current_tracer, input_error, trace_error


class Parameter(Tensor):
    """A tensor that counts as a parameter of the module it is assigned to.

    It is a variable: `assign` gives it another value, and every module and optimiser that holds it sees the change.
    Under `jit` its value is an input of the compiled program and, where it is assigned to, an output.

    requires_grad  whether optimisers change it
    name           its path in the module that listed it first ("conv1.weight"), for messages
    """

    __slots__ = ("_requires_grad", "name")
    _requires_grad: bool
    name: str | None

    def __new__(cls, data: Any, requires_grad: bool = True) -> Parameter:
        """A parameter with the value of `data`: a tensor, an array or a nested list of floats."""
        if current_tracer() is not None:
            raise trace_error("a parameter cannot be made while a function is traced",
                              "make modules outside of the jitted function")
        value = asarray(data)
        if not value.dtype.is_float:
            raise input_error(f"a parameter holds floats, got {value.dtype.public}",
                              "use register_buffer for other tensors")
        parameter = object.__new__(cls)
        parameter.set_buffer(value.value())
        parameter._requires_grad, parameter.name = requires_grad, None
        return parameter

    def __init__(self, data: Any, requires_grad: bool = True):
        pass                                       # Tensor refuses to be called; __new__ has done it all

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._requires_grad = value
        changed()

    def requires_grad_(self, requires_grad: bool = True) -> Parameter:
        """Set whether optimisers change it; returns the parameter."""
        self.requires_grad = requires_grad
        return self

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"

    def __copy__(self) -> Parameter:
        return Parameter(self._alias(), self._requires_grad)

    def __deepcopy__(self, memo: dict) -> Parameter:
        copied = memo[id(self)] = self.__copy__()
        return copied

    def __reduce__(self) -> tuple:
        return _restored, (self.numpy(), self._requires_grad)


def _restored(array: np.ndarray, requires_grad: bool) -> Parameter:
    return Parameter(array, requires_grad)
