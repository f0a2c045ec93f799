"""Random numbers from Philox: the same numbers for the same seed on every target, in and outside of `jit`.

The state is one tensor, a 64-bit key.  Every draw takes the key, and moves it on by an odd constant, so draws are
independent streams; under `jit` the state is read and written like any other tensor that the function assigns to.
Inside of `vmap` the examples draw from one key, or each from its own (`Examples`).
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jtc.dialects.dtypes import F32, F64, I32, I64, DType
from jtc.dialects.graph import Node, TensorType
from jtc.frontend import values
from jtc.frontend.activations import with_number
from jtc.frontend.creation import asarray
from jtc.frontend.operands import convert, expand, need_integer, normalize_shape, to_node
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import current_tracer, input_error, public_dtype, record, trace_error, untraced
from jtc.runtime import knobs

_STEP = 0x9E3779B97F4A7C15 - (1 << 64)      # the golden ratio times 2**64, odd, as a signed number
_EXAMPLE = 0xC13FA9A902A6328F               # 2**64 / p with p**3 = p + 1, odd: keys of examples meet no later draw's


def _mix(seed: int) -> int:
    """splitmix64: neighbouring seeds give unrelated keys.  Source: Steele, Lea, Flood, OOPSLA 2014."""
    mask = (1 << 64) - 1
    z = (seed + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return _signed(z ^ (z >> 31))


def _signed(value: int) -> int:
    """The int64 with the lowest 64 bits of `value`."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


@dataclass
class Examples:
    """What draws inside of one `vmap` give.

    randomness  "error": refused;  "same": one draw for all examples;  "different": one for each
    size        the number of examples
    keys        the key of a draw for one example -> the keys for all
    """

    randomness: str
    size: int
    keys: dict[Node, Node] = field(default_factory=dict)

    def key(self, shared: Node, depth: int) -> Node:
        """The key of a draw, from the key that all examples share; depth: how many vmaps are around this one."""
        if self.randomness == "error":
            raise input_error("random numbers are drawn inside of vmap",
                              'vmap(f, randomness="different") draws them for each example, "same" once for all')
        if self.randomness == "same":
            return shared
        numbers = record("iota", [], {"axis": 0}, TensorType(I64, (self.size,)))
        steps = with_number("mul", numbers, _signed(_EXAMPLE ** (depth + 1)))
        one = Node("input", (), {}, TensorType(I64, ()))
        self.keys[one] = record("add", [expand(shared, (self.size,)), steps])
        return one


_examples: ContextVar[tuple[Examples, ...]] = ContextVar("jtc_examples", default=())


@contextmanager
def mapped(examples: Examples) -> Iterator[None]:
    """Inside the `with` block a function is recorded for one of `examples`."""
    token = _examples.set((*_examples.get(), examples))
    try:
        yield
    finally:
        _examples.reset(token)


class Generator:
    """A stream of random numbers.  `key` is its state: an int64 tensor without dimensions."""

    def __init__(self, seed: int = 0):
        with untraced():
            self.key = asarray(_mix(seed), dtype=I64)

    def seed(self, seed: int) -> None:
        """Start again from an integer seed."""
        self.key.assign(_mix(need_integer(seed, "a seed")))

    def host(self) -> np.random.Generator:
        """A NumPy generator that starts from the next draw of this stream, for numbers made outside of any graph.

        Initial weights come from here: each shape would otherwise be a kernel to compile for a single use.  Raises
        TraceError while `jit` traces.
        """
        if current_tracer() is not None:
            raise trace_error("numbers on the host cannot be drawn while a function is traced",
                              "make modules and their parameters outside of the jitted function")
        with knobs.use(backend="reference"):           # at most a few additions are pending behind the key
            key = int(self.key)
        self.key.set_buffer(values.from_numpy(np.array(_signed(key + _STEP), np.int64)))
        return np.random.Generator(np.random.Philox(key=key % (1 << 64)))

    def bits(self, shape: tuple[int, ...], words: int = 1) -> list[Node]:
        """`words` independent int32 tensors of random bits."""
        key = state = self.key.node()
        for depth, examples in enumerate(_examples.get()):
            key = examples.key(key, depth)
        self.key.set_node(with_number("add", state, _STEP))
        return [record("random", [key], {"stream": word}, TensorType(I32, shape)) for word in range(words)]

    def unit(self, shape: tuple[int, ...], dtype: DType, count: int = 1) -> list[Node]:
        """`count` tensors of uniform numbers in [0, 1): 24 random bits for float32, 53 for float64."""
        if dtype is not F64:
            return [convert(_unit32(b), dtype) for b in self.bits(shape, count)]
        words = self.bits(shape, 2 * count)
        return [_unit64(words[2 * i], words[2 * i + 1]) for i in range(count)]


def _high(bits: Node, count: int) -> Node:
    """The upper `count` of 32 bits as a non-negative integer: the shift keeps the sign, the mask removes it."""
    return with_number("and", with_number("shr", bits, 32 - count), (1 << count) - 1)


def _unit32(bits: Node) -> Node:
    return with_number("mul", convert(_high(bits, 24), F32), 2.0 ** -24)


def _unit64(high: Node, low: Node) -> Node:
    wide = with_number("mul", convert(_high(high, 27), F64), 2.0 ** 26)
    return with_number("mul", record("add", [wide, convert(_high(low, 26), F64)]), 2.0 ** -53)


default = Generator()


def seed(seed: int) -> None:
    """Start the default generator again from an integer seed."""
    default.seed(seed)


def _float(dtype: Any) -> DType:
    found = F32 if dtype is None else public_dtype(dtype)
    if not found.is_float:
        raise input_error(f"random numbers of this kind are floats, not {found.public}", "use randint for integers")
    return found


def uniform(shape: Any = (), low: float = 0.0, high: float = 1.0, *, dtype: Any = None) -> Tensor:
    """Uniform numbers in [low, high); float32 unless dtype is given."""
    to = _float(dtype)
    node, = default.unit(normalize_shape(shape), to)
    if (low, high) != (0, 1):
        node = with_number("add", with_number("mul", node, high - low), low)
    return Tensor.of(node)


def normal(shape: Any = (), mean: float = 0.0, std: float = 1.0, *, dtype: Any = None) -> Tensor:
    """Normally distributed numbers; float32 unless dtype is given.  Source: Box and Muller, 1958."""
    to = _float(dtype)
    u, v = default.unit(normalize_shape(shape), to, 2)
    tail = record("log1p", [record("neg", [u])])                       # log(1 - u), and 1 - u is never 0
    radius = record("sqrt", [with_number("mul", tail, -2.0)])
    node = record("mul", [radius, record("cos", [with_number("mul", v, 2 * math.pi)])])
    if std != 1:
        node = with_number("mul", node, std)
    return Tensor.of(with_number("add", node, mean) if mean else node)


def randint(low: int, high: int | None = None, shape: Any = (), *, dtype: Any = None) -> Tensor:
    """Integers in [low, high), or [0, low) where high is None; int64 unless dtype is given.

    The range holds at most 2**31 integers; no integer is more likely than another by more than one part in 2**32.
    """
    low, high = (0, low) if high is None else (low, high)
    low, high = need_integer(low, "low"), need_integer(high, "high")
    width = high - low
    if not 0 < width <= 1 << 31:
        raise input_error(f"randint from {low} to {high}: the range must hold between 1 and {1 << 31} integers")
    to = I64 if dtype is None else public_dtype(dtype)
    if not to.is_integer:
        raise input_error(f"randint gives integers, not {to.public}")
    bits, = default.bits(normalize_shape(shape))
    wide = with_number("and", convert(bits, I64), (1 << 32) - 1)
    node = with_number("shr", with_number("mul", wide, width), 32)
    return Tensor.of(convert(with_number("add", node, low) if low else node, to))


def bernoulli(p: Any = 0.5, shape: Any = None) -> Tensor:
    """True with probability p, a number or a tensor; the shape of p unless shape is given."""
    chance = to_node(p)
    dims = chance.shape if shape is None else normalize_shape(shape)
    node, = default.unit(dims, chance.dtype if chance.dtype.is_float else F32)
    result = record("lt", [node, expand(convert(chance, node.dtype), dims)])
    return Tensor.of(result)


def rand(*shape: int, dtype: Any = None) -> Tensor:
    """Uniform numbers in [0, 1) of the given sizes."""
    return uniform(shape, dtype=dtype)


def randn(*shape: int, dtype: Any = None) -> Tensor:
    """Normally distributed numbers of the given sizes."""
    return normal(shape, dtype=dtype)
