"""The tensor that users hold: a node of a graph, a value in memory, or both.

| made by | `_node` | `_buffer` |
|---|---|---|
| an array, or a finished computation | None until it is used in an op | the value |
| an op outside of `jit` | pending node | None until somebody asks for the value |
| an op while `jit` traces | node of the trace | None for ever |

Operators and methods that are public functions under another name are attached in methods.py.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from jtc.dialects.dtypes import DTYPES, DType
from jtc.dialects.graph import Node, TensorType
from jtc.frontend.trace import Tracer, current_tracer, shown, trace_error

if TYPE_CHECKING:
    from jtc.frontend import values


class Tensor:
    """An n-dimensional array of one element type.  Made by the functions of `jtc`, such as `jtc.array`."""

    __slots__ = ("_node", "_buffer", "_tracer", "__weakref__")

    _node: Node | None
    _buffer: values.Buffer | None
    _tracer: Tracer | None
    requires_grad = False             # a Parameter may say otherwise

    if TYPE_CHECKING:                 # methods.py attaches these, and the functions that are methods
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __rfloordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __rmod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __rand__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __ror__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __rxor__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __getitem__(self, key: Any) -> Tensor: ...
        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, *args: Any):
        raise TypeError("tensors are made by jtc.array(...), jtc.zeros(...) and the other functions of jtc")

    @staticmethod
    def of(node: Node) -> Tensor:
        """The tensor of a node that was just recorded."""
        tensor = _new(Tensor)
        tensor._node, tensor._buffer, tensor._tracer = node, None, current_tracer()
        if tensor._tracer is None:
            from jtc.frontend import lazy
            lazy.pending(tensor)
        return tensor

    @staticmethod
    def from_buffer(buffer: values.Buffer) -> Tensor:
        """The tensor of a value in memory."""
        tensor = _new(Tensor)
        tensor._node, tensor._buffer, tensor._tracer = None, buffer, None
        return tensor

    def node(self) -> Node:
        """The node that stands for this tensor in what is recorded now.

        Raises TraceError for a tensor of a trace that has ended, or of another one.
        """
        tracer = current_tracer()
        if self._tracer is tracer:
            if tracer is None and self._node is None:
                self._node = Node("input", (), {}, self.type, data=self._buffer)
                self._node.history = True if self.requires_grad else None
            return self._node                                              # type: ignore[return-value]
        if self._tracer is None:
            return tracer.capture(self).value                              # type: ignore[union-attr]
        raise trace_error(f"a tensor of the traced function {self._tracer.name!r} is used outside of it",
                          "return it from the function")

    # ------------------------------------------------------------------------------------------ what is known at once
    @property
    def type(self) -> TensorType:
        if self._node is not None:
            return self._node.type
        value = self._buffer
        return TensorType(DTYPES[value.dtype], value.shape)                # type: ignore[union-attr]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._node.type.shape if self._node is not None else self._buffer.shape     # type: ignore[union-attr]

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.type.size

    @property
    def nbytes(self) -> int:
        return self.type.bytes

    @property
    def device(self) -> str:
        return "cpu"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without dimensions has no length")
        return self.shape[0]

    # ------------------------------------------------------------------------------------------------- asking for the
    # value
    def value(self, what: str = "numpy()", hint: str | None = None) -> values.Buffer:
        """The value in memory, computed now if it is pending.  Raises TraceError while `jit` traces this tensor."""
        if self._buffer is None or current_tracer() is not None:
            if self._tracer is not None:
                raise trace_error(f"{what} needs the value of {shown(self)}, which is traced: it is not known yet",
                                  hint or "compute with jtc functions, or do this outside of the jitted function")
            entry = current_tracer().captured.get(id(self)) if current_tracer() else None     # type: ignore[union-attr]
            if entry is not None and entry.value is not entry.node:
                raise trace_error(f"{what} needs the value that the traced function assigned, which is not known yet",
                                  "read the value after the jitted call")
            if self._buffer is None:
                from jtc.frontend import lazy
                lazy.evaluate([self])
        return self._buffer                                                # type: ignore[return-value]

    def numpy(self) -> np.ndarray:
        """A NumPy array with the value, computed now if it is pending; read-only, it may share the tensor's memory."""
        return self.value().numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.value("conversion to a NumPy array", "use jtc functions on it instead of NumPy's").numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(f"conversion from {array.dtype} to {np.dtype(dtype)} needs a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **options: Any) -> Any:
        array = self.numpy()
        if not array.flags.writeable:                  # NumPy refuses to export read-only memory without a copy
            array = array.copy()
        return array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0                                    # kDLCPU

    def item(self) -> bool | int | float:
        """The only element as a Python number.  Raises InputError where there is not exactly one."""
        return self._scalar("item()")

    def tolist(self) -> Any:
        return self.numpy().tolist()

    def is_ready(self) -> bool:
        """Whether the value can be read without waiting; never computes anything."""
        return self._buffer is not None and self._buffer.is_ready()

    def _scalar(self, what: str, hint: str | None = None) -> Any:
        from jtc.frontend.trace import input_error
        if self.size != 1:
            raise input_error(f"{what} needs a tensor with one element, got shape {self.shape}",
                              "reduce it with jtc.any or jtc.all" if what == "bool()" else None)
        return self.value(what, hint).numpy().reshape(())[()].item()

    def __bool__(self) -> bool:
        return bool(self._scalar("bool()", "the branch would depend on data: use jtc.where(condition, a, b), "
                                           "or move the branch outside of the jitted function"))

    def __int__(self) -> int:
        return int(self._scalar("int()", "keep it a tensor: x.astype(jtc.int64)"))

    def __float__(self) -> float:
        return float(self._scalar("float()", "keep it a tensor: x.astype(jtc.float32)"))

    def __index__(self) -> int:
        if not self.dtype.is_integer:
            raise trace_error(f"a tensor of {self.dtype.public} cannot be a Python index or size",
                              "convert it: x.astype(jtc.int64)")
        return int(self._scalar("__index__()", "sizes and Python indices must be known while tracing; "
                                               "index with the tensor itself, or use jtc.take"))

    def __complex__(self) -> complex:
        return complex(float(self))

    def __hash__(self) -> int:
        return id(self)

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("cannot iterate over a tensor without dimensions")
        return (self[i] for i in range(self.shape[0]))

    def __repr__(self) -> str:
        if self._tracer is not None:
            return f"Tensor(traced, shape={self.shape}, dtype={self.dtype.public})"
        body = np.array2string(self.numpy(), separator=", ", prefix="Tensor(")
        return f"Tensor({body}, dtype={self.dtype.public})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else format(str(self), spec)

    def __reduce__(self) -> tuple[Callable[[np.ndarray], Tensor], tuple[np.ndarray]]:
        return _rebuild, (self.numpy(),)

    def __copy__(self) -> Tensor:
        return Tensor.of(self.node()) if current_tracer() is not None else self._alias()

    def __deepcopy__(self, memo: dict) -> Tensor:
        return self.__copy__()

    def _alias(self) -> Tensor:
        """Another tensor with the same value; assigning to one leaves the other."""
        if self._buffer is not None:
            return Tensor.from_buffer(self._buffer)
        return Tensor.of(self.node())

    # ------------------------------------------------------------------------------------------------------------
    # assigning
    def assign(self, value: Any) -> Tensor:
        """Give this tensor another value of its shape; `value` is converted to its dtype.  Returns the tensor.

        While `jit` traces, assigning to a tensor from outside makes the new value a result that is stored into the
        tensor after each call.  Raises InputError where the shape differs.
        """
        from jtc.frontend.operands import convert, expand, to_node
        from jtc.frontend.trace import input_error
        node = to_node(value)
        if node.shape != self.shape and node.shape != ():
            raise input_error(f"cannot assign shape {node.shape} to a tensor of shape {self.shape}")
        self.set_node(expand(convert(node, self.dtype), self.shape))
        return self

    def set_node(self, node: Node) -> None:
        """Let the tensor stand for `node` from now on (of the same type)."""
        tracer = current_tracer()
        if tracer is not None and self._tracer is None:
            tracer.capture(self).value = node
            return
        old = self.node()                              # raises for a tensor of another trace
        self._node, self._buffer = node, None
        if tracer is None:
            from jtc.frontend import lazy
            lazy.assigned(self, old)

    def set_buffer(self, buffer: values.Buffer) -> None:
        """Let the tensor stand for a value in memory from now on."""
        self._node, self._buffer, self._tracer = None, buffer, None


_new = object.__new__


def leaf(array: np.ndarray) -> Tensor:
    """A tensor with a copy of `array`."""
    from jtc.frontend import values
    return Tensor.from_buffer(values.from_numpy(array))


def _rebuild(array: np.ndarray) -> Tensor:
    return leaf(array)


def is_tensor_like(value: Any) -> bool:
    """Whether NumPy can make an array of it without guessing: it offers DLPack or the array interface."""
    return hasattr(value, "__dlpack__") or hasattr(value, "__array__") or hasattr(value, "__array_interface__")
