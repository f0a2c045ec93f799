"""Recurrent layers: RNN, LSTM and GRU of several layers and both directions, and their cells.

The products of all inputs with weight_ih are one matrix product, outside of the steps; a step multiplies the hidden
state only.  Steps are recorded one by one, and run through the same kernels.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from jtc.frontend.creation import zeros
from jtc.frontend.elementwise import where
from jtc.frontend.linalg import matmul
from jtc.frontend.loop import scan
from jtc.frontend.manipulation import concat, expand_dims, matrix_transpose, split, stack
from jtc.frontend.nn import functional as F
from jtc.frontend.nn.linear import check_sizes, draw_uniform, uninitialised
from jtc.frontend.nn.module import Module
from jtc.frontend.nn.parameter import Parameter
from jtc.frontend.nn.utils.rnn import PackedSequence
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error

State = tuple[Tensor, ...]


class Cell(ABC):
    """One kind of recurrence.

    gates   rows of the weights for each hidden unit;  states  tensors that a step passes on, the output first
    """

    gates = 1
    states = 1

    def inputs(self, x: Tensor, w: Tensor, b: Tensor | None, b_hidden: Tensor | None) -> Tensor:
        """What the inputs of all steps contribute, [..., gates * hidden_size]."""
        return F.linear(x, w, b if b is None or b_hidden is None else b + b_hidden)

    @abstractmethod
    def step(self, state: State, x: Tensor, w: Tensor, b: Tensor | None) -> State:
        """The next state, from what `inputs` gives for this step; w: weight_hh, b: bias_hh."""


class _Plain(Cell):
    """h = tanh(x + h W) or relu(x + h W)."""

    def __init__(self, nonlinearity: str):
        if nonlinearity not in ("tanh", "relu"):
            raise input_error(f"unknown nonlinearity {nonlinearity!r}", "tanh or relu")
        self.function = F.tanh if nonlinearity == "tanh" else F.relu

    def step(self, state: State, x: Tensor, w: Tensor, b: Tensor | None) -> State:
        return (self.function(x + matmul(state[0], matrix_transpose(w))),)


class _LSTM(Cell):
    """c = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c), where (i, f, g, o) = x + h W."""

    gates, states = 4, 2

    def step(self, state: State, x: Tensor, w: Tensor, b: Tensor | None) -> State:
        h, c = state
        i, f, g, o = split(x + matmul(h, matrix_transpose(w)), 4, axis=-1)
        c = F.sigmoid(f) * c + F.sigmoid(i) * F.tanh(g)
        return F.sigmoid(o) * F.tanh(c), c


class _GRU(Cell):
    """h = (1 - z) n + z h with n = tanh(x_n + r h_n), where (r, z) = sigmoid(x + h W) and h_n = h W_n + b_n."""

    gates = 3

    def inputs(self, x: Tensor, w: Tensor, b: Tensor | None, b_hidden: Tensor | None) -> Tensor:
        return F.linear(x, w, b)

    def step(self, state: State, x: Tensor, w: Tensor, b: Tensor | None) -> State:
        h, = state
        x_r, x_z, x_n = split(x, 3, axis=-1)
        h_r, h_z, h_n = split(F.linear(h, w, b), 3, axis=-1)
        z = F.sigmoid(x_z + h_z)
        n = F.tanh(x_n + F.sigmoid(x_r + h_r) * h_n)
        return (n + z * (h - n),)


class _Recurrent(Module):
    """Layers of one kind.  Parameters of layer k, with "_reverse" after the name for the direction from the end:

    weight_ih_lk  [gates * hidden_size, input_size], or directions * hidden_size columns from layer 1 on
    weight_hh_lk  [gates * hidden_size, hidden_size]
    bias_ih_lk, bias_hh_lk  [gates * hidden_size], unless bias is False
    weight_hr_lk  [proj_size, hidden_size], where proj_size is not 0: it makes the output of a step proj_size long, and
                  outputs have proj_size for hidden_size in the columns of the other weights
    all uniform within 1 / sqrt(hidden_size)
    """

    def __init__(self, cell: Cell, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool,
                 dropout: float, bidirectional: bool, dtype: Any, proj_size: int = 0):
        super().__init__()
        check_sizes(self, 1, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_sizes(self, 0, proj_size=proj_size)
        if proj_size >= hidden_size:
            raise input_error(f"proj_size of {type(self).__name__} is smaller than hidden_size {hidden_size}, "
                              f"got {proj_size}")
        if not 0 <= dropout <= 1:
            raise input_error(f"dropout probability {dropout} is not between 0 and 1")
        self.cell, self.proj_size = cell, proj_size
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        rows, directions = cell.gates * hidden_size, 2 if bidirectional else 1
        output = proj_size or hidden_size
        for layer, suffix in self._places():
            width = input_size if layer == 0 else directions * output
            setattr(self, f"weight_ih{suffix}", uninitialised(rows, width, dtype=dtype))
            setattr(self, f"weight_hh{suffix}", uninitialised(rows, output, dtype=dtype))
            if bias:
                setattr(self, f"bias_ih{suffix}", uninitialised(rows, dtype=dtype))
                setattr(self, f"bias_hh{suffix}", uninitialised(rows, dtype=dtype))
            if proj_size:
                setattr(self, f"weight_hr{suffix}", uninitialised(proj_size, hidden_size, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values anew."""
        draw_uniform(self.hidden_size, *self.parameters())

    def _places(self) -> list[tuple[int, str]]:
        """(layer, suffix of its parameters) for every layer and direction."""
        return [(layer, f"_l{layer}{end}") for layer in range(self.num_layers)
                for end in ("", "_reverse")[:2 if self.bidirectional else 1]]

    def _run(self, given: Tensor | PackedSequence, hx: State | None) -> tuple[Any, State]:
        """Outputs and last states for [length, n, input_size], [length, input_size] without a batch, or sequences."""
        name = type(self).__name__
        packed = given if isinstance(given, PackedSequence) else None
        x: Tensor = given.padded if isinstance(given, PackedSequence) else given
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise input_error(f"{name} takes [length, n, {self.input_size}], or [length, {self.input_size}] without a "
                              f"batch, got shape {x.shape}")
        live = None
        if packed is not None:
            live = expand_dims(packed.live(), -1)
            x = where(live, x, 0)                  # NaN beyond an end, times a gradient of 0, would be NaN
        elif self.batch_first and x.ndim == 3:
            x = x.swapaxes(0, 1)
        places = self._places()
        widths = (self.proj_size or self.hidden_size, *(self.hidden_size,) * (self.cell.states - 1))
        shapes = [(len(places), *x.shape[1:-1], width) for width in widths]
        states = hx if hx is not None else tuple(zeros(shape, dtype=x.dtype) for shape in shapes)
        for state, shape in zip(states, shapes):
            if state.shape != shape:
                raise input_error(f"{name} needs initial states of shape {shape}, got {state.shape}")
        outputs: list[Tensor] = []
        last: list[State] = []
        for number, (layer, suffix) in enumerate(places):
            if number and suffix == f"_l{layer}":
                x = F.dropout(concat(outputs, axis=-1), self.dropout, self.training)
                outputs = []
            y, after = self._direction(x, tuple(s[number] for s in states), suffix, live)
            outputs.append(y)
            last.append(after)
        result = concat(outputs, axis=-1)
        if packed is not None:
            return packed.replaced(result), tuple(stack(column) for column in zip(*last))
        if self.batch_first and result.ndim == 3:
            result = result.swapaxes(0, 1)
        return result, tuple(stack(column) for column in zip(*last))

    def _direction(self, x: Tensor, state: State, suffix: str, live: Tensor | None) -> tuple[Tensor, State]:
        """Outputs and the last state; live [length, n, 1]: where a step counts.

        Elsewhere the state stays: after the end it is that at the end, and the way back begins at the end.
        """
        w_x, w_h = getattr(self, f"weight_ih{suffix}"), getattr(self, f"weight_hh{suffix}")
        b_x, b_h = (getattr(self, f"{name}{suffix}") if self.bias else None for name in ("bias_ih", "bias_hh"))
        w_r = getattr(self, f"weight_hr{suffix}") if self.proj_size else None

        def step(state: State, given: list[Tensor]) -> tuple[State, Tensor]:
            x, *counts = given
            h, *rest = self.cell.step(state, x, w_h, b_h)
            if w_r is not None:
                h = matmul(h, matrix_transpose(w_r))
            after = (h, *rest)
            if counts:
                after = tuple(where(counts[0], new, old) for new, old in zip(after, state))
            return after, after[0]

        inputs = self.cell.inputs(x, w_x, b_x, b_h)
        last, outputs = scan(step, state, [inputs] if live is None else [inputs, live],
                             reverse=suffix.endswith("_reverse"))
        return outputs, last

    def extra_repr(self) -> str:
        shown = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0,
                    "bidirectional": False}
        shown += [f"{name}={getattr(self, name)}" for name, value in defaults.items() if getattr(self, name) != value]
        return ", ".join(shown)


class RNN(_Recurrent):
    """h = tanh(W_ih x + b_ih + W_hh h + b_hh) (or relu) over the steps of x [length, n, input_size].

    A call returns the outputs [length, n, directions * hidden_size] and the last h [layers * directions, n,
    hidden_size]; it takes x and the first h (zeros).  batch_first exchanges length and n of x and of the outputs;
    without a batch, n is missing everywhere.  dropout: between layers, while training.

    For x of sequences with different lengths, a `nn.utils.rnn.PackedSequence`, outputs are one, too; the last h is that
    at the end of each sequence, and the direction from the end begins there.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
                 bias: bool = True, batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 dtype: Any = None):
        super().__init__(_Plain(nonlinearity), input_size, hidden_size, num_layers, bias, batch_first, dropout,
                         bidirectional, dtype)

    def forward(self, x: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        outputs, (h,) = self._run(x, None if hx is None else (hx,))
        return outputs, h


class GRU(_Recurrent):
    """Gated recurrent units over the steps of x, as `RNN` apart from the step; gates in the order reset, update, new.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014; in PyTorch's variant, where
    the reset gate multiplies the product of weight_hh.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, dtype: Any = None):
        super().__init__(_GRU(), input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype)

    def forward(self, x: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        outputs, (h,) = self._run(x, None if hx is None else (hx,))
        return outputs, h


class LSTM(_Recurrent):
    """Long short-term memory over the steps of x, as `RNN` apart from the step; gates in the order input, forget, cell,
    output.  States are pairs (h, c), at the start and in the result (outputs, (h, c)).  With proj_size, h is
    multiplied by weight_hr: outputs and h are proj_size wide, c is hidden_size wide.

    Source: Hochreiter, Schmidhuber, "Long short-term memory", 1997; projections: Sak, Senior, Beaufays, "Long
    short-term memory based recurrent neural network architectures for large vocabulary speech recognition", 2014.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 dtype: Any = None):
        super().__init__(_LSTM(), input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype,
                         proj_size)

    def forward(self, x: Any, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        outputs, (h, c) = self._run(x, None if hx is None else (hx[0], hx[1]))
        return outputs, (h, c)


class _CellModule(Module):
    """One step: x [n, input_size] and a state [n, hidden_size] (zeros), or without n.

    weight_ih [gates * hidden_size, input_size], weight_hh [gates * hidden_size, hidden_size], bias_ih and bias_hh
    [gates * hidden_size] or None; all uniform within 1 / sqrt(hidden_size)
    """

    def __init__(self, cell: Cell, input_size: int, hidden_size: int, bias: bool, dtype: Any):
        super().__init__()
        check_sizes(self, 1, input_size=input_size, hidden_size=hidden_size)
        self.cell = cell
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = self.cell.gates * hidden_size
        self.weight_ih, self.weight_hh = (uninitialised(rows, n, dtype=dtype) for n in (input_size, hidden_size))
        self.bias_ih: Parameter | None = uninitialised(rows, dtype=dtype) if bias else None
        self.bias_hh: Parameter | None = uninitialised(rows, dtype=dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values anew."""
        draw_uniform(self.hidden_size, *self.parameters())

    def _next(self, x: Tensor, state: State | None) -> State:
        shape = (*x.shape[:-1], self.hidden_size)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise input_error(f"{type(self).__name__} takes [n, {self.input_size}] or [{self.input_size}], "
                              f"got shape {x.shape}")
        state = state if state is not None else tuple(zeros(shape, dtype=x.dtype) for _ in range(self.cell.states))
        for s in state:
            if s.shape != shape:
                raise input_error(f"{type(self).__name__} needs a state of shape {shape}, got {s.shape}")
        return self.cell.step(state, self.cell.inputs(x, self.weight_ih, self.bias_ih, self.bias_hh), self.weight_hh,
                              self.bias_hh)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + (", bias=False" if self.bias_ih is None else "")


class GRUCell(_CellModule):
    """One step of `GRU`: (x, h) -> h."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = None):
        super().__init__(_GRU(), input_size, hidden_size, bias, dtype)

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._next(x, None if hx is None else (hx,))[0]


class LSTMCell(_CellModule):
    """One step of `LSTM`: (x, (h, c)) -> (h, c)."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = None):
        super().__init__(_LSTM(), input_size, hidden_size, bias, dtype)

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        h, c = self._next(x, None if hx is None else (hx[0], hx[1]))
        return h, c


class RNNCell(_CellModule):
    """One step of `RNN`: (x, h) -> h."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
                 dtype: Any = None):
        super().__init__(_Plain(nonlinearity), input_size, hidden_size, bias, dtype)

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._next(x, None if hx is None else (hx,))[0]
