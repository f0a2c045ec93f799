"""`Module`: an object that holds parameters, buffers and other modules, under PyTorch's names.

Parameters, buffers and modules are plain attributes.  A module remembers the names of its buffers; everything else is
found by looking at the attributes' types.  Under `jit`, parameters and buffers are inputs (and outputs, where they are
assigned to); all other attributes are read while tracing, and changing one traces the function again.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from jtc.dialects.errors import InputError
from jtc.frontend.creation import asarray
from jtc.frontend.nn.parameter import Parameter
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import changed, current_tracer, input_error, public_dtype, shown, trace_error


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` found missing in the dict, and unexpected in it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class RemovableHandle:
    """Removes a hook: `handle.remove()`, or at the end of a `with` block."""

    def __init__(self, hooks: dict[int, Callable[..., Any]], key: int):
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        self._hooks.pop(self._key, None)
        changed()

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Module:
    """Base class of all networks and layers.  Subclasses call `super().__init__()` and define `forward`.

    training       whether dropout drops, and batch norm uses the batch
    optional_keys  names of buffers that a state dict may lack
    """

    optional_keys: ClassVar[frozenset[str]] = frozenset()
    training: bool
    forward: Callable[..., Any]

    def __init__(self) -> None:
        if (tracer := current_tracer()) is not None:
            tracer.made[id(self)] = self
        object.__setattr__(self, "_buffer_names", {})              # name -> whether it belongs to the state dict
        object.__setattr__(self, "_pre_hooks", {})
        object.__setattr__(self, "_hooks", {})
        object.__setattr__(self, "training", True)

    # ------------------------------------------------------------------------------------------------------ attributes
    def __setattr__(self, name: str, value: Any) -> None:
        if "_buffer_names" not in self.__dict__ and isinstance(value, (Parameter, Module)):
            raise _not_initialised(self, f"cannot assign {name!r}")
        old = self.__dict__.get(name)
        if isinstance(old, Parameter) and isinstance(value, Tensor) and not isinstance(value, Parameter):
            raise input_error(f"cannot replace the parameter {name!r} of {type(self).__name__} by a plain tensor",
                              f"write {name}.assign(value), or assign nn.Parameter(value)")
        if value is not old and (isinstance(value, (Parameter, Module)) or isinstance(old, (Parameter, Module))):
            self._check_structure(name)
        if isinstance(value, (Parameter, Module)):
            self.__dict__.get("_buffer_names", {}).pop(name, None)
        object.__setattr__(self, name, value)
        if not (isinstance(old, Tensor) and isinstance(value, Tensor)):
            changed()

    def __delattr__(self, name: str) -> None:
        if isinstance(self.__dict__.get(name), (Parameter, Module)):
            self._check_structure(name)
        object.__delattr__(self, name)
        self.__dict__.get("_buffer_names", {}).pop(name, None)
        changed()

    def _check_structure(self, name: str) -> None:
        """Raise TraceError where a function is traced that has not made this module: its calls would not change it."""
        tracer = current_tracer()
        if tracer is not None and id(self) not in tracer.made:
            raise trace_error(f"{name!r} of {type(self).__name__} is set or deleted while {tracer.name!r} is traced: "
                              "that would happen once, and not in each call",
                              "change the structure of modules outside of the jitted function")

    def __getattr__(self, name: str) -> Any:                       # only called where there is no such attribute
        why = "" if "_buffer_names" in self.__dict__ else "; its __init__ has not called super().__init__()"
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{why}")

    def _check_name(self, name: str) -> None:
        if "_buffer_names" not in self.__dict__:
            raise _not_initialised(self, f"cannot register {name!r}")
        if not isinstance(name, str) or not name or "." in name:
            raise input_error(f"the name of a parameter, buffer or module has no dots, got {name!r}")
        taken = name in self.__dict__ and not isinstance(self.__dict__[name], (Tensor, Module, type(None)))
        if taken or hasattr(type(self), name):
            raise input_error(f"{type(self).__name__} already has an attribute {name!r}")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Set the parameter `name`; None for one that is absent."""
        self._check_name(name)
        if param is not None and not isinstance(param, Parameter):
            raise input_error(f"register_parameter takes an nn.Parameter, got {type(param).__name__}")
        setattr(self, name, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Set a tensor that is state but no parameter; `persistent` buffers belong to the state dict."""
        self._check_name(name)
        setattr(self, name, None if tensor is None else asarray(tensor))
        self._buffer_names[name] = persistent

    def register_module(self, name: str, module: Module | None) -> None:
        """Set the module `name`, which need not be a Python name ("0")."""
        self._check_name(name)
        if module is not None and not isinstance(module, Module):
            raise input_error(f"{name!r} is {type(module).__name__}, not an nn.Module")
        setattr(self, name, module)

    add_module = register_module

    # --------------------------------------------------------------------------------------------------------- calling
    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        state = self.__dict__
        if "_buffer_names" not in state:
            raise _not_initialised(self, "it cannot be called")
        tracer = current_tracer()
        if tracer is not None:
            tracer.depends_on(self)
        for hook in list(state["_pre_hooks"].values()):
            changed_args = hook(self, args)
            if changed_args is not None:
                args = changed_args if isinstance(changed_args, tuple) else (changed_args,)
        result = self.forward(*args, **kwargs)
        for hook in list(state["_hooks"].values()):
            changed_result = hook(self, args, result)
            if changed_result is not None:
                result = changed_result
        return result

    def register_forward_pre_hook(self, hook: Callable[[Module, tuple], Any]) -> RemovableHandle:
        """hook(module, args) before every call; what it returns, unless None, replaces the arguments."""
        return _register(self._pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[[Module, tuple, Any], Any]) -> RemovableHandle:
        """hook(module, args, result) after every call; what it returns, unless None, replaces the result."""
        return _register(self._hooks, hook)

    def static_state(self) -> Hashable:
        """What of this module and those in it is read while tracing: attributes that are no tensors, and hooks."""
        return tuple([(_Same(module), tuple([(name, _static(value)) for name, value in module.__dict__.items()]))
                      for module in self.modules()])

    def static_change(self, before: Any) -> str:
        """The first difference from the static state `before`, in words: "Net.drop.training has changed"."""
        then = {same.value: dict(attributes) for same, attributes in before}
        for path, module in self.named_modules(type(self).__name__):
            if module not in then:
                return f"{path} is new"
            now = {name: _static(value) for name, value in module.__dict__.items()}
            for name in now | then[module]:
                if now.get(name) != then[module].get(name):
                    what = "has changed" if name in now and name in then[module] else \
                        "is new" if name in now else "is gone"
                    return f"{path}.{name} {what}"
        return f"{type(self).__name__} has changed"

    # ------------------------------------------------------------------------------------------------------- iterating
    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the modules that are attributes of this one, each module once."""
        seen: set[int] = set()
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def children(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True,
                      _seen: set[int] | None = None) -> Iterator[tuple[str, Module]]:
        """(path, module) of this module, whose path is `prefix`, and of all modules in it."""
        seen = set() if _seen is None else _seen
        if remove_duplicate and id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module):
                yield from value.named_modules(f"{prefix}.{name}" if prefix else name, remove_duplicate, seen)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def _own(self, kind: str) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of the parameters or buffers that are attributes of this module itself."""
        if "_buffer_names" not in self.__dict__:
            raise _not_initialised(self, "it has no parameters")
        for name, value in list(self.__dict__.items()):
            if kind == "parameter" and isinstance(value, Parameter) \
                    or kind == "buffer" and name in self._buffer_names and isinstance(value, Tensor):
                yield name, value

    def _named(self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]:
            for name, tensor in module._own(kind):
                if remove_duplicate and id(tensor) in seen:
                    continue
                seen.add(id(tensor))
                yield f"{path}.{name}" if path else name, tensor

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) of this module and of those in it, each parameter once."""
        for path, parameter in self._named("parameter", prefix, recurse, remove_duplicate):
            if parameter.name is None:
                parameter.name = path
            yield path, parameter

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """(path, buffer) of this module and of those in it, each buffer once."""
        return self._named("buffer", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as "layer1.0.conv"; "" is this module.  Raises InputError."""
        found = self
        for name in target.split(".") if target else []:
            child = found.__dict__.get(name)
            if not isinstance(child, Module):
                raise input_error(f"there is no module {target!r}: {type(found).__name__} has no module {name!r}")
            found = child
        return found

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as "layer1.0.conv.weight".  Raises InputError."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path).__dict__.get(name)
        if not isinstance(found, Parameter):
            raise input_error(f"there is no parameter {target!r}")
        return found

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Call fn on every module in this one, and then on this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # ----------------------------------------------------------------------------------------------------------- modes
    def train(self, mode: bool = True) -> Module:
        """Switch this module and those in it to training (dropout, statistics of the batch) or to evaluation."""
        if not isinstance(mode, bool):
            raise input_error(f"train() takes True or False, got {mode!r:.40}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """train(False)."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Let optimisers change the parameters, or not."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def to(self, dtype: Any = None, device: Any = None) -> Module:
        """Convert parameters and float buffers to a float dtype, in place."""
        if device not in (None, "cpu") or isinstance(dtype, str) and dtype == "cpu":
            raise input_error(f"unknown device {device or dtype!r}", "the devices are: cpu")
        if dtype is not None:
            target = public_dtype(dtype)
            if not target.is_float:
                raise input_error(f"a module is converted to a float dtype, not {target.public}")
            for tensor in [*self.parameters(), *self.buffers()]:
                if tensor.dtype.is_float and tensor.dtype is not target:
                    tensor.set_buffer(tensor.astype(target).value())
        return self

    def float(self) -> Module:
        """Convert parameters and float buffers to float32."""
        return self.to("float32")

    def double(self) -> Module:
        """Convert parameters and float buffers to float64."""
        return self.to("float64")

    def half(self) -> Module:
        """Convert parameters and float buffers to float16."""
        return self.to("float16")

    def bfloat16(self) -> Module:
        """Convert parameters and float buffers to bfloat16."""
        return self.to("bfloat16")

    # ------------------------------------------------------------------------------------------------------ state dict
    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Path -> value now of all parameters and persistent buffers, in PyTorch's order and layouts.

        The values do not change when the module is trained on.
        """
        return {path: tensor._alias() for path, tensor in self._state(prefix)}

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules(remove_duplicate=False):
            start = f"{prefix}{path}." if path else prefix
            for name, tensor in module._own("parameter"):
                yield start + name, tensor
            for name, tensor in module._own("buffer"):
                if module._buffer_names[name]:
                    yield start + name, tensor

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Take the values of tensors or arrays by path; they are converted to the dtype that the module has.

        Nothing is changed unless everything fits.  Raises InputError for a wrong shape and, if `strict`, for keys that
        are missing or unexpected.
        """
        if not isinstance(state_dict, Mapping):
            raise input_error(f"load_state_dict takes a dict of tensors, got {type(state_dict).__name__}")
        own = dict(self._state())
        optional = {f"{path}.{name}" if path else name for path, module in self.named_modules()
                    for name in module.optional_keys}
        missing = [key for key in own if key not in state_dict and key not in optional]
        unexpected = [key for key in state_dict if key not in own]
        if strict and (missing or unexpected):
            found = [f"{what} {_listed(keys)}"
                     for what, keys in (("misses", missing), ("has an unexpected", unexpected)) if keys]
            raise input_error(f"the state dict does not fit {type(self).__name__}: it {', and it '.join(found)}",
                              "load_state_dict(..., strict=False) takes what fits by name")
        values: list[tuple[Tensor, np.ndarray]] = []
        for key, tensor in own.items():
            if key not in state_dict:
                continue
            given = state_dict[key]
            array = given.numpy() if isinstance(given, Tensor) else np.asarray(given)
            if array.dtype.kind in "OSUMm":
                raise input_error(f"the state dict does not fit {type(self).__name__}: {key!r} is {shown(given)}, "
                                  "no tensor")
            if array.shape != tensor.shape:
                raise input_error(f"the state dict does not fit {type(self).__name__}: {key!r} has shape "
                                  f"{array.shape}, the module needs {tensor.shape}")
            values.append((tensor, array))
        for tensor, array in values:
            tensor.set_buffer(asarray(array, dtype=tensor.dtype).value())
        return IncompatibleKeys(missing, unexpected)

    # ---------------------------------------------------------------------------------------------------------- repr
    def extra_repr(self) -> str:
        """What stands between the brackets of the module's line."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.__dict__.items()
                 if isinstance(child, Module)]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        return "\n  ".join([f"{type(self).__name__}({extra}", *lines]) + "\n)"


class _Same:
    """Compares by identity, and keeps the object alive so that its place in memory stays its own."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _static(value: Any) -> Hashable:
    """A value to compare attributes by: numbers and strings as such, tensors by being one, the rest by identity."""
    if isinstance(value, Parameter):
        return Parameter, value.requires_grad
    if isinstance(value, Tensor):
        return Tensor
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return type(value), repr(value)                            # by the text: 0.0 and -0.0 differ, nan equals nan
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(_static, value))
    if isinstance(value, dict):
        return dict, tuple([(_Same(k) if isinstance(k, Tensor) else k, _static(v)) for k, v in value.items()])
    return _Same(value)


def _register(hooks: dict[int, Callable[..., Any]], hook: Callable[..., Any]) -> RemovableHandle:
    key = max(hooks, default=-1) + 1
    hooks[key] = hook
    changed()
    return RemovableHandle(hooks, key)


def _listed(keys: list[str]) -> str:
    text = ", ".join(map(repr, keys[:5]))
    return text + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")


def _not_initialised(module: Module, what: str) -> InputError:
    name = type(module).__name__
    return input_error(f"{what}: {name}.__init__ has not called super().__init__()",
                       f"begin {name}.__init__ with super().__init__()")
