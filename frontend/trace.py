"""Recording: how a call of a public function becomes a node of a graph, and where in the user's program it stood.

Outside `jit` no tracer is active and nodes pile up behind the tensors that hold them (see lazy.py).  Inside, a
`Tracer` is active; a tensor that was made outside of it becomes one of its inputs when it is first used.
"""
from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from jtc.dialects.dtypes import DType, dtype_of
from jtc.dialects.errors import InputError, TraceError
from jtc.dialects.graph import MAX_BYTES, Location, Node, TensorType, Weights
from jtc.dialects.optable import OpError, infer

if TYPE_CHECKING:
    from jtc.frontend.tensor import Tensor

_current: ContextVar[Tracer | None] = ContextVar("jtc_tracer", default=None)
_transforming: ContextVar[bool | None] = ContextVar("jtc_transforming", default=None)
_locations: dict[tuple[CodeType, int], Location] = {}
_ours: dict[CodeType, bool] = {}
_MAX_LOCATIONS = 50_000


def user_location() -> Location | None:
    """The innermost frame outside of jtc, None where all frames are ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        ours = _ours.get(code)
        if ours is None:
            name = frame.f_globals.get("__name__", "")
            ours = _ours[code] = name == "jtc" or name.startswith("jtc.")
        if not ours:
            found = _locations.get((code, frame.f_lineno))
            if found is None:
                if len(_locations) >= _MAX_LOCATIONS:          # a program that makes functions without end
                    _locations.clear()
                    _ours.clear()
                found = Location(code.co_filename, frame.f_lineno, code.co_qualname)
                _locations[code, frame.f_lineno] = found
            return found
        frame = frame.f_back
    return None


def input_error(message: str, hint: str | None = None) -> InputError:
    """An InputError that names the user's line."""
    return InputError(message, user_location(), hint)


def refused(error: Exception) -> InputError:
    """The InputError that names the user's line, for what the tables of ops and dtypes refused."""
    message, _, hint = str(error).partition("\nhint: ")
    return input_error(message, hint or None)


def trace_error(message: str, hint: str | None = None) -> TraceError:
    """A TraceError that names the user's line."""
    return TraceError(message, user_location(), hint)


def shown(value: Any, width: int = 60) -> str:
    """A value in one line of a message, cut where it is long; only the type of a tensor, to compute nothing."""
    if hasattr(type(value), "_buffer"):
        return f"a tensor {value.dtype.public}{list(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= width else text[:width - 3] + "..."


def public_dtype(value: Any) -> DType:
    """The DType of what a user gave as dtype=, or of an array's dtype.  Raises InputError."""
    try:
        return dtype_of(value)
    except TypeError as error:
        raise refused(error) from None


def array_type(array: np.ndarray) -> TensorType:
    """The type of the tensor that holds an array.  Raises InputError for strings, objects, complex numbers, masks."""
    if type(array) is not np.ndarray and hasattr(array, "mask"):
        raise input_error("a masked array cannot become a tensor: its mask would be lost", "fill it: array.filled(0)")
    return TensorType(public_dtype(array.dtype), array.shape)


class Static(Protocol):
    """An object whose plain Python state decides what is traced: a module, an optimiser."""

    def static_state(self) -> Hashable:
        """A value that differs where a traced function would have to be traced again."""

    def static_change(self, before: Any) -> str:
        """What is different from the state `before`, in words."""


# One object, replaced by `changed`: while it is the same, the static state of no module or optimiser has changed.
epoch: list[object] = [object()]


def changed() -> None:
    """Note that the static state of some module or optimiser may have changed."""
    epoch[0] = object()


class Captured:
    """A tensor from outside that a traced function uses: the tensor, its input node, and the node of its present value.

    `value` differs from `node` once the function has assigned to the tensor.
    """

    __slots__ = ("tensor", "node", "value")

    def __init__(self, tensor: Tensor, node: Node):
        self.tensor, self.node, self.value = tensor, node, node


class Tracer:
    """What is recorded while one function is traced.

    inputs    "input" nodes of the arguments, in order
    captured  id of a tensor from outside -> Captured, in order of first use
    static    id of a module or optimiser that was used -> it, and its static state then
    made      id of a module that was made while tracing -> it
    """

    def __init__(self, name: str):
        self.name = name
        self.inputs: list[Node] = []
        self.captured: dict[int, Captured] = {}
        self.static: dict[int, tuple[Static, Hashable]] = {}
        self.made: dict[int, object] = {}
        self._arrays: dict[int, tuple[np.ndarray, Node]] = {}

    def input(self, type: TensorType) -> Node:
        """A new argument."""
        node = Node("input", (), {}, type, user_location())
        self.inputs.append(node)
        return node

    def capture(self, tensor: Tensor) -> Captured:
        """The entry of a tensor from outside; it keeps the tensor alive."""
        entry = self.captured.get(id(tensor))
        if entry is None:
            node = Node("input", (), {}, tensor.type, user_location())
            entry = self.captured[id(tensor)] = Captured(tensor, node)
        return entry

    def depends_on(self, owner: Static) -> None:
        """Note that what is recorded from here on depends on the static state of `owner`."""
        if id(owner) not in self.static:
            self.static[id(owner)] = owner, owner.static_state()

    def weights(self, array: np.ndarray, type: TensorType) -> Node:
        """A constant that holds an array; the same array gives the same node."""
        found = self._arrays.get(id(array))
        if found is None:
            name = f"w{len(self._arrays)}"
            held = np.array(array, type.dtype.numpy, order="C")
            found = array, Node("constant", (), {"value": Weights(name)}, type, user_location(), held)
            self._arrays[id(array)] = found
        return found[1]

    @contextmanager
    def active(self) -> Iterator[Tracer]:
        """Record here inside the `with` block."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)


@contextmanager
def untraced() -> Iterator[None]:
    """Leave the current trace, if any, inside the `with` block."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def current_tracer() -> Tracer | None:
    return _current.get()


@contextmanager
def transforming() -> Iterator[None]:
    """Inside the `with` block a function is recorded to be differentiated or mapped: jitted ones become part of it."""
    token = _transforming.set(True)
    try:
        yield
    finally:
        _transforming.reset(token)


def recording() -> bool:
    """Whether a jitted function is recorded, as part of another, rather than run."""
    return _current.get() is not None or _transforming.get() is not None


def record(op: str, args: Sequence[Node], attrs: Mapping[str, Any] | None = None,
           declared: TensorType | None = None) -> Node:
    """A new node, of the type that the op table infers.  Raises InputError where the op refuses its arguments."""
    attrs = dict(attrs) if attrs else {}
    try:
        type = infer(op, [a.type for a in args], attrs, declared)
    except OpError as error:
        raise refused(error) from None
    if declared is not None:                       # other ops give no more elements than they take
        check_size(type)
    return Node(op, args, attrs, type, user_location())


def check_size(type: TensorType) -> None:
    """Raise InputError for a type whose bytes cannot be counted with 63 bits, as addresses are."""
    if type.bytes > MAX_BYTES:
        raise input_error(f"shape {shown(type.shape)} of {type.dtype.public} takes more than 2^63 bytes")


def splat(value: Any, dtype: DType, shape: tuple[int, ...] = ()) -> Node:
    """A constant that repeats one number; `value` is converted to the Python type of the dtype's kind."""
    python = {"bool": bool, "float": float}.get(dtype.kind, int)
    try:
        number = python(value)
    except OverflowError:
        raise input_error(f"{shown(value)} does not fit into {dtype.public}") from None
    type = TensorType(dtype, tuple(shape))
    if shape:
        check_size(type)
    return Node("constant", (), {"value": number}, type, user_location())
