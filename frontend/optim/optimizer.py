"""`Optimizer`: what all optimisers share."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from jtc.dialects.graph import TensorType
from jtc.frontend import lazy, values
from jtc.frontend.creation import asarray
from jtc.frontend.elementwise import where
from jtc.frontend.nn.parameter import Parameter
from jtc.frontend.optim.clip import clipped
from jtc.frontend.optim.group import ParamGroup
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import changed, current_tracer, input_error, trace_error


class Optimizer(ABC):
    """Base class.  A subclass gives its options to __init__, and defines `slots` and `update_parameter`.

    param_groups   dicts with "params" and options; assigning to an option takes effect in the next step
    state          parameter -> its tensors by name
    """

    saves_step: ClassVar[bool] = False             # whether a state dict says for each parameter how many steps it took

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]):
        if current_tracer() is not None:
            raise trace_error(f"{type(self).__name__} cannot be made while a function is traced",
                              "make optimisers outside of the jitted function")
        self.defaults = dict(defaults)
        self.param_groups: list[ParamGroup] = []
        self._states: dict[int, dict[str, Tensor]] = {}            # by id of the parameter, which a group holds
        self._steps: list[Tensor] = []                             # one for each group: steps so far, float64
        if isinstance(params, Tensor):
            raise input_error("an optimiser takes parameters in a list, got one tensor", "write [parameter]")
        given = list(params)
        if not given:
            raise input_error(f"{type(self).__name__} got no parameters",
                              "a module.parameters() can be listed once only")
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    # ------------------------------------------------------------------------------------------- what a rule defines
    def check_options(self, group: ParamGroup) -> None:  # noqa: B027  most rules refuse nothing
        """Raise InputError for options that make no sense."""

    def slots(self, group: ParamGroup) -> Mapping[str, float]:
        """Names and first values of the tensors that the rule keeps for each parameter."""
        return {}

    def counts(self, group: ParamGroup) -> bool:
        """Whether the rule needs the number of the step."""
        return self.saves_step

    @abstractmethod
    def update_parameter(self, parameter: Parameter, gradient: Tensor, state: Mapping[str, Tensor],
                         group: ParamGroup, step: Tensor) -> None:
        """Assign the parameter's next value and that of its state; `step` counts from 1."""

    # ------------------------------------------------------------------------------------------------------ the public
    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with their own options; what is not given is as for the other groups."""
        if "params" not in group:
            raise input_error(f"a parameter group has 'params', got {', '.join(map(repr, group))}")
        unknown = sorted(set(group) - set(self.defaults) - {"params"})
        if unknown:
            raise input_error(f"{type(self).__name__} has no option {unknown[0]!r}",
                              f"its options are {', '.join(self.defaults)}")
        listed = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        params = [self._named(entry) for entry in listed]
        known = {id(p) for other in self.param_groups for p in other.params}
        for number, p in enumerate(params):
            if id(p) in known:
                raise input_error(f"parameter {p.name or number} is given to {type(self).__name__} twice")
            known.add(id(p))
        made = ParamGroup({"params": params, **self.defaults, **{k: v for k, v in group.items() if k != "params"}})
        self.check_options(made)
        self.param_groups.append(made)
        self._steps.append(Tensor.from_buffer(values.from_numpy(np.array(0, np.float64))))
        for p in params:
            self._states[id(p)] = {name: _filled(p.type, value) for name, value in self.slots(made).items()}
        changed()

    @staticmethod
    def _named(entry: Any) -> Parameter:
        name, parameter = entry if isinstance(entry, tuple) and len(entry) == 2 else (None, entry)
        if not isinstance(parameter, Parameter):
            raise input_error(f"an optimiser changes nn.Parameter, got {type(parameter).__name__}")
        if name is not None:
            parameter.name = name
        return parameter

    @property
    def state(self) -> dict[Parameter, dict[str, Tensor]]:
        return {p: self._states[id(p)] for group in self.param_groups for p in group.params}

    def trainable(self) -> list[Parameter]:
        """The parameters that are not frozen, in the order of the groups."""
        return [p for group in self.param_groups for p in group.params if p.requires_grad]

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """The gradients of a scalar loss by the parameters that are not frozen, in the order of the groups.

        Raises InputError for a loss that is no scalar, and for a parameter that does not reach it.
        """
        from jtc.frontend.autodiff import gradients
        if (tracer := current_tracer()) is not None:
            tracer.depends_on(self)
        return gradients(loss, self.trainable())

    def step(self, loss: Tensor, *, max_norm: float | None = None, max_value: float | None = None) -> None:
        """Update the parameters by the gradients of a scalar loss.

        max_norm   limit of the norm of all gradients together (see `clip_grad_norm`)
        max_value  limit of the magnitude of every element
        """
        self.start(self.record(clipped(self.gradients(loss), max_norm, max_value)), loss)

    def update(self, gradients: Sequence[Any], when: Tensor | None = None) -> None:
        """Update the parameters that are not frozen by gradients given in their order.

        when  a bool tensor without dimensions: where it is False, everything stays as it is
        Outside of `jit` the step is started at once, so that every step is one program of the same form.
        """
        self.start(self.record(gradients, when))

    def start(self, touched: Sequence[Tensor], loss: Tensor | None = None) -> None:
        """Outside of `jit`, compute a step that was recorded; what it touched, and a loss that is kept to be printed
        later, do not keep the batch.

        Nobody may hold the step's gradients by now: they would be results too, and the program another one than under
        `jit`.
        """
        if current_tracer() is None:
            if loss is not None:
                lazy.end_history(loss)
            lazy.evaluate_state(touched)

    def record(self, gradients: Sequence[Any], when: Tensor | None = None) -> list[Tensor]:
        """Assign what `update` does without starting it; the tensors that were assigned to."""
        if (tracer := current_tracer()) is not None:
            tracer.depends_on(self)
        params = self.trainable()
        if len(gradients) != len(params):
            raise input_error(f"{len(gradients)} gradients for {len(params)} parameters")
        rest = iter(gradients)
        touched: list[Tensor] = []
        for group, count in zip(self.param_groups, self._steps):
            step = count
            if self.counts(group):
                step = count + 1
                count.assign(step if when is None else where(when, step, count))
                touched.append(count)
            for p in group.params:
                if p.requires_grad:
                    gradient = asarray(next(rest))
                    if gradient.shape != p.shape:
                        raise input_error(f"a gradient of shape {gradient.shape} for parameter {p.name or '?'} "
                                          f"of shape {p.shape}")
                    state = self._states[id(p)]
                    if group.get("maximize"):
                        gradient = -gradient
                    before = [] if when is None else [(t, Tensor.of(t.node())) for t in (p, *state.values())]
                    self.update_parameter(p, gradient, state, group, step)
                    for tensor, old in before:
                        tensor.assign(where(when, tensor, old))
                    touched += [p, *state.values()]
        return touched

    # ------------------------------------------------------------------------------------------------------ state dict
    def state_dict(self) -> dict[str, Any]:
        """The state of parameters by number and the options of groups, as PyTorch lays it out."""
        numbers = {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group.params)}
        state: dict[int, dict[str, Tensor]] = {}
        for group, count in zip(self.param_groups, self._steps):
            if self.counts(group) and not count.item():
                continue                                           # no step yet: PyTorch has no state either
            for p in group.params:
                row = {name: tensor._alias() for name, tensor in self._states[id(p)].items()}
                if self.saves_step:
                    row["step"] = asarray(np.array(count.item(), np.float32))
                if row:
                    state[numbers[id(p)]] = row
        groups = [{**group, "params": [numbers[id(p)] for p in group.params]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave, here or in PyTorch.  Nothing is changed unless everything fits."""
        try:
            groups, states = list(state_dict["param_groups"]), state_dict["state"]
            sizes = [len(group["params"]) for group in groups]
        except (KeyError, TypeError):
            raise input_error("this is not the state dict of an optimiser: it has no 'state' and 'param_groups'") \
                from None
        if sizes != [len(group.params) for group in self.param_groups]:
            raise input_error(f"the state dict has groups of {sizes} parameters, the optimiser of "
                              f"{[len(group.params) for group in self.param_groups]}")
        loads: list[tuple[Tensor, Tensor]] = []
        for group, saved, count in zip(self.param_groups, groups, self._steps):
            rows = [states.get(n, states.get(str(n), {})) for n in saved["params"]]
            for p, row in zip(group.params, rows):
                for name, tensor in self._states[id(p)].items():
                    if row.get(name) is None:                      # PyTorch makes the state in the first step
                        continue
                    value = asarray(row[name], dtype=tensor.dtype)
                    if value.shape != tensor.shape:
                        raise input_error(f"the state {name!r} of parameter {p.name or '?'} has shape {value.shape}, "
                                          f"the parameter {tensor.shape}")
                    loads.append((tensor, value))
            done = max((self._steps_done(row) for row in rows), default=0.0)
            loads.append((count, asarray(np.array(done, np.float64))))
        for group, saved in zip(self.param_groups, groups):
            group.update({k: v for k, v in saved.items() if k in self.defaults})
        for tensor, value in loads:
            tensor.set_buffer(value.value())

    def _steps_done(self, row: Mapping[str, Any]) -> float:
        """The number of steps that a saved state of one parameter stands for."""
        return float(asarray(row["step"]).item()) if "step" in row else 0.0

    # -------------------------------------------------------------------------------------------------------- under jit
    def static_state(self) -> Hashable:
        return tuple([group.static_state() for group in self.param_groups])

    def static_change(self, before: Any) -> str:
        name = type(self).__name__
        if len(before) != len(self.param_groups):
            return f"{name} has {len(self.param_groups)} parameter groups, before it had {len(before)}"
        for number, (group, then) in enumerate(zip(self.param_groups, before)):
            for (option, now), (_, old) in zip(group.static_state(), then):     # type: ignore[call-overload]
                if now != old:
                    return f"{option!r} of group {number} of {name} has changed"
        return f"{name} has changed"

    def __repr__(self) -> str:
        rows = [f"  group {i}: {len(group.params)} parameters, "
                + ", ".join(f"{k}={v}" for k, v in group.items() if k != "params")
                for i, group in enumerate(self.param_groups)]
        return "\n".join([f"{type(self).__name__} (", *rows, ")"])


def _filled(type: TensorType, value: float) -> Tensor:
    return Tensor.from_buffer(values.splat(type, value))
