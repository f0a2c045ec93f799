"""Operators and methods of Tensor: public functions as methods, which `attach` attaches when jtc is imported."""
from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from jtc.frontend import creation, elementwise, indexing, linalg, manipulation, reductions
from jtc.frontend.promotion import is_scalar
from jtc.frontend.tensor import Tensor, is_tensor_like
from jtc.frontend.trace import input_error, shown, trace_error
from jtc.frontend.tree import map_leaves, tensors_in

_BINARY = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
           "mod": "remainder",
           "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
           "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift"}
_COMPARE = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
_UNARY = {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}
_METHODS = {
    elementwise: ("astype", "exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "abs", "sign", "floor", "ceil",
                  "round", "square", "clip", "pow"),
    reductions: ("sum", "prod", "max", "min", "all", "any", "argmax", "argmin", "mean", "var", "std"),
    manipulation: ("swapaxes", "expand_dims", "squeeze", "flatten", "flip", "repeat", "broadcast_to"),
    indexing: ("take", "gather"),
    linalg: ("matmul",),
}


def _operand(value: Any) -> bool:
    return isinstance(value, Tensor) or is_scalar(value) or isinstance(value, (list, tuple)) or is_tensor_like(value)


def _binary(function: Callable[..., Tensor]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(self: Tensor, other: Any) -> Any:
        return function(self, other) if _operand(other) else NotImplemented

    def reflected(self: Tensor, other: Any) -> Any:
        return function(other, self) if _operand(other) else NotImplemented

    return forward, reflected


def _unary(function: Callable[..., Tensor]) -> Callable[..., Any]:
    return lambda self: function(self)


def _shape_argument(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """x.reshape(2, 3) and x.reshape((2, 3)) alike."""
    def method(self: Tensor, *shape: Any) -> Tensor:
        return function(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)

    method.__name__, method.__doc__ = function.__name__, function.__doc__
    return method


def _transpose(self: Tensor, *axes: Any) -> Tensor:
    """Dimension k of the result is dimension axes[k]; all reversed without arguments."""
    return manipulation.transpose(self,
                                  (axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes) or None)


def _T(self: Tensor) -> Tensor:
    """All dimensions in reverse order."""
    return manipulation.transpose(self)


def _mT(self: Tensor) -> Tensor:
    """The last two dimensions exchanged."""
    return manipulation.matrix_transpose(self)


def _setitem(self: Tensor, key: Any, value: Any) -> None:
    raise trace_error("tensors have no item assignment",
                      "make a new tensor with jtc.where or jtc.scatter, or assign a whole one "
                      "with x.assign(value)")


def _delitem(self: Tensor, key: Any) -> None:
    raise trace_error("elements of a tensor cannot be deleted", "join what is to stay with jtc.concat")


def _contains(self: Tensor, value: Any) -> bool:
    """Whether some element equals `value`; needs the values."""
    return bool(reductions.any(elementwise.apply("eq", "promote", self, value)))


# Names of NumPy's ufuncs that jtc has under the name of the Array API.
_UFUNCS = {"absolute": "abs", "power": "pow", "invert": "bitwise_invert", "left_shift": "bitwise_left_shift",
           "right_shift": "bitwise_right_shift", "arcsin": "asin", "arccos": "acos", "arctan": "atan",
           "arctan2": "atan2", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "rint": "round"}


def _ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
    """NumPy's elementwise functions on tensors, and operators with an array on the left, are jtc's."""
    name = ufunc.__name__
    public = _UFUNCS.get(name, name)
    function = next((getattr(home, public) for home in (elementwise, linalg) if public in home.PUBLIC), None)
    if method != "__call__" or function is None:
        called = name if method == "__call__" else f"{name}.{method}"
        raise trace_error(f"np.{called} does not take tensors", "convert the tensor first: np.asarray(x)")
    if options:
        what = "write into an array" if "out" in options else f"take {', '.join(options)}"
        raise trace_error(f"np.{name} cannot {what} where an operand is a tensor",
                          "write y = y + x for y += x, or convert the tensor first: np.asarray(x)")
    return function(*inputs)


# NumPy's functions that need no values.
_ABOUT = {"shape": lambda x: x.shape, "ndim": lambda x: x.ndim, "size": lambda x: x.size}


def _array_function(self: Tensor, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """NumPy's other functions on tensors are jtc's of the same name, so that they trace and have gradients.

    Those that jtc has not get the values as arrays; while `jit` traces there are none.
    """
    name = function.__name__
    if name in _ABOUT and len(args) == 1 and not kwargs:
        return _ABOUT[name](args[0])
    public = {"concatenate": "concat"}.get(name, name)
    homes = (reductions, manipulation, elementwise, linalg, creation, indexing)
    ours = next((getattr(home, public) for home in homes if public in home.PUBLIC), None)
    if ours is not None:
        return _called(ours, name, public, args, kwargs)
    if any(t._tracer is not None for t in tensors_in((args, kwargs))):
        raise trace_error(f"np.{name} needs the value of a traced tensor, not known yet",
                          "compute with functions of jtc")
    args, kwargs = map_leaves(lambda leaf: leaf.numpy() if isinstance(leaf, Tensor) else leaf, (args, kwargs))
    return function(*args, **kwargs)


def _called(ours: Callable[..., Any], name: str, public: str, args: Any, kwargs: Any) -> Any:
    """jtc's function on the arguments of NumPy's.  NumPy takes `axis` by position as well."""
    count = ours.__code__.co_argcount
    if len(args) == count + 1 and ours.__kwdefaults__:
        args, kwargs = args[:count], {next(iter(ours.__kwdefaults__)): args[count], **kwargs}
    try:
        inspect.signature(ours).bind(*args, **kwargs)
    except TypeError as error:
        raise trace_error(f"np.{name} does not take tensors with these arguments: {error}",
                          f"use jtc.{public}, or convert the tensor first: np.asarray(x)") from None
    return ours(*args, **kwargs)


def _divmod(self: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    return elementwise.apply("floordiv", "promote", self, other), elementwise.apply("mod", "promote", self, other)


def _rdivmod(self: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    return elementwise.apply("floordiv", "promote", other, self), elementwise.apply("mod", "promote", other, self)


def _round(self: Tensor, ndigits: int | None = None) -> Tensor:
    """round(x): to whole numbers, halves to even."""
    if ndigits:
        raise input_error(f"round to {shown(ndigits)} digits: a tensor is rounded to whole numbers",
                          "scale it: jtc.round(x * 10) / 10")
    return elementwise.apply("round", "round", self)


def attach() -> None:
    """Attach all of the above to Tensor."""
    for name, public in (_BINARY | _COMPARE).items():
        home = linalg if public == "matmul" else elementwise
        forward, reflected = _binary(getattr(home, public))
        setattr(Tensor, f"__{name}__", forward)
        if name in _BINARY:
            setattr(Tensor, f"__r{name}__", reflected)
    for name, public in _UNARY.items():
        setattr(Tensor, f"__{name}__", _unary(getattr(elementwise, public)))
    for home, names in _METHODS.items():
        for name in names:
            setattr(Tensor, name, _method(getattr(home, name)))
    for name, function in {"__getitem__": indexing.getitem, "__setitem__": _setitem, "__divmod__": _divmod,
                           "__rdivmod__": _rdivmod, "__round__": _round,
                           "__delitem__": _delitem, "__contains__": _contains, "__array_ufunc__": _ufunc,
                           "__array_function__": _array_function,
                           "reshape": _shape_argument(manipulation.reshape),
                           "permute": _shape_argument(manipulation.permute_dims),
                           "transpose": _transpose, "T": property(_T), "mT": property(_mT)}.items():
        setattr(Tensor, name, function)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """A public function as a method: as functions they may be called positionally beyond what the standard allows."""
    def method(self: Tensor, *args: Any, **options: Any) -> Any:
        if args and function.__kwdefaults__:
            # x.sum(0) and x.mean(-1, True) as in NumPy: positional arguments take the keyword-only names in order.
            positional = function.__code__.co_argcount - 1
            for name, value in zip(list(function.__kwdefaults__), args[positional:]):
                options[name] = value
            args = args[:positional]
        return function(self, *args, **options)

    method.__name__, method.__doc__ = function.__name__, function.__doc__
    return method
