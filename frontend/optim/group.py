"""Parameter groups: parameters that share options."""
from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from jtc.frontend import values
from jtc.frontend.nn.parameter import Parameter
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import changed, current_tracer, input_error, trace_error


class ParamGroup(dict):
    """Options by name, and the parameters under "params": a dict, as in PyTorch.

    Numbers stand in tensors beside the dict, which are inputs of a compiled step: changing the learning rate does not
    compile anything.  Only whether a number is zero, and all other options, belong to what is compiled.
    """

    def __init__(self, options: Mapping[str, Any]):
        super().__init__()
        self._tensors: dict[str, Tensor] = {}
        for name, value in options.items():
            self[name] = value

    @property
    def params(self) -> list[Parameter]:
        return self["params"]

    def scalar(self, name: str) -> Tensor:
        """The number `name` as a float64 tensor; "beta1" and "beta2" are those of betas."""
        return self._tensors[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if current_tracer() is not None:
            raise trace_error(f"the option {name!r} of an optimiser is changed while a function is traced",
                              "change it, or step the schedule, outside of the jitted function")
        if isinstance(value, (Tensor, np.ndarray, np.generic)):
            value = value.item()
        before = self.get(name)
        super().__setitem__(name, value)
        several = isinstance(value, (tuple, list)) and name == "betas"
        for key, number in ((f"beta{i}", b) for i, b in enumerate(value, 1)) if several else [(name, value)]:
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                buffer = values.from_numpy(np.array(number, np.float64))
                if key in self._tensors:
                    self._tensors[key].set_buffer(buffer)
                else:
                    self._tensors[key] = Tensor.from_buffer(buffer)
        if _form(before) != _form(value):
            changed()

    def update(self, *args: Any, **options: Any) -> None:
        for name, value in dict(*args, **options).items():
            self[name] = value

    def static_state(self) -> Hashable:
        """What of the options is read while tracing."""
        return tuple([(name, _form(value)) for name, value in self.items()])


def _form(value: Any) -> Hashable:
    """Of a number whether it is zero; of parameters which they are and which are frozen."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number", value == 0
    if isinstance(value, (list, tuple)):
        return tuple([(id(v), v.requires_grad) if isinstance(v, Parameter) else _form(v) for v in value])
    return type(value), value


def check_number(name: str, value: Any, low: float = 0.0, high: float = float("inf")) -> None:
    """Raise InputError unless low <= value < high (high included where it is infinite)."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value or value >= high < float("inf"):
        limit = f"at least {low:g}" if high == float("inf") else f"at least {low:g} and below {high:g}"
        raise input_error(f"{name} {value!r:.40}", f"{name} is {limit}")
