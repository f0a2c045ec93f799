"""`jtc.nn.utils.rnn`: batches of sequences of different lengths, under PyTorch's names.

PyTorch stores the elements of a batch one after the other, so the shape of what it computes with depends on the
lengths.  Here a `PackedSequence` keeps the padded tensor and the lengths beside it: lengths are data, and one program
serves all batches of one padded shape.  Recurrent layers take a `PackedSequence` and give one; a sequence's state
stays as it is where the sequence has ended (`RNN`).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jtc.dialects.errors import TraceError
from jtc.frontend.creation import arange, asarray
from jtc.frontend.elementwise import where
from jtc.frontend.indexing import take
from jtc.frontend.manipulation import expand_dims, pad, reshape, stack, swapaxes
from jtc.frontend.operands import need_integer
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import current_tracer, input_error, shown, trace_error


@dataclass(init=False, eq=False)
class PackedSequence:
    """n sequences.  Made by `pack_padded_sequence`, or from what PyTorch's has: data and batch_sizes.

    padded   [length, n, ...]; what stands beyond the end of a sequence means nothing
    lengths  [n], int64
    ordered  whether the sequences were promised to be sorted, the longest first

    It is a container as lists are: jitted functions take and return it, and its tensors count by type.
    """

    padded: Tensor
    lengths: Tensor
    ordered: bool

    def __init__(self, data: Any, batch_sizes: Any = None, sorted_indices: Any = None, unsorted_indices: Any = None):
        """data [sum of lengths, ...]: the first elements of all sequences, the longest first, then the second ones...

        batch_sizes [longest length]: how many sequences have an element 0, 1, ...; sorted_indices [n]: the numbers of
        the sequences in that order, in which they are where it is None; or unsorted_indices, its inverse.
        Raises InputError where these do not fit together.
        """
        data, sizes = asarray(data), _integers(batch_sizes, "batch_sizes")
        if not sizes.size or (sizes < 1).any() or (np.diff(sizes) > 0).any() or not data.ndim \
                or sizes.sum() != data.shape[0]:
            raise input_error(f"batch_sizes {shown(sizes.tolist())} do not fit data of shape {data.shape}",
                              "they never grow, and their sum is the number of elements")
        if sorted_indices is None and unsorted_indices is not None:
            sorted_indices = np.argsort(_integers(unsorted_indices, "unsorted_indices"))
        order = np.arange(sizes[0]) if sorted_indices is None else _integers(sorted_indices, "sorted_indices")
        if order.shape != (sizes[0],) or (np.sort(order) != np.arange(sizes[0])).any():
            raise input_error(f"sorted_indices {shown(order.tolist())} are no permutation of {sizes[0]} sequences")
        steps, n = len(sizes), int(sizes[0])
        place = np.full((steps, n), data.shape[0])                   # no element: reads 0
        for t, (size, start) in enumerate(zip(sizes, np.cumsum(sizes) - sizes)):
            place[t, order[:size]] = np.arange(start, start + size)
        lengths = np.zeros(n, np.int64)
        lengths[order] = (sizes[:, None] > np.arange(n)).sum(axis=0)
        self.padded = reshape(take(data, asarray(place.reshape(-1)), axis=0), (steps, n, *data.shape[1:]))
        self.lengths, self.ordered = asarray(lengths), sorted_indices is None

    def replaced(self, padded: Tensor) -> PackedSequence:
        """Other elements [length, n, ...] for the same sequences."""
        return _packed(padded, self.lengths, self.ordered)

    def live(self) -> Tensor:
        """[length, n]: whether there is such an element."""
        return expand_dims(arange(self.padded.shape[0]), 1) < self.lengths

    @property
    def data(self) -> Tensor:
        """[sum of lengths, ...]: the elements in PyTorch's order.  Its shape needs lengths that are known."""
        lengths, (steps, n, *rest) = self._known_lengths("data"), self.padded.shape
        order = np.argsort(-lengths, kind="stable")
        t, k = np.nonzero(np.arange(steps)[:, None] < lengths[order])
        return take(reshape(self.padded, (steps * n, *rest)), asarray(t * n + order[k]), axis=0)

    @property
    def batch_sizes(self) -> Tensor:
        """[longest length], int64: how many sequences have an element 0, 1, ..."""
        lengths = self._known_lengths("batch_sizes")
        return asarray((np.arange(lengths.max())[:, None] < lengths).sum(axis=1))

    @property
    def sorted_indices(self) -> Tensor | None:
        """[n], int64: the numbers of the sequences, the longest first; None where they were given so."""
        return None if self.ordered else asarray(np.argsort(-self._known_lengths("sorted_indices"), kind="stable"))

    @property
    def unsorted_indices(self) -> Tensor | None:
        """[n], int64: where in that order each sequence is."""
        if self.ordered:
            return None
        order = np.argsort(-self._known_lengths("unsorted_indices"), kind="stable")
        return asarray(np.argsort(order))

    def _known_lengths(self, what: str) -> np.ndarray:
        lengths = known(self.lengths)
        if lengths is None:
            raise trace_error(f"{what} of a PackedSequence needs its lengths, which are traced: they are not known yet",
                              "use .padded [length, n, ...] and .live() in traced functions")
        return lengths


def _packed(padded: Tensor, lengths: Tensor, ordered: bool) -> PackedSequence:
    made = object.__new__(PackedSequence)
    made.padded, made.lengths, made.ordered = padded, lengths, ordered
    return made


def known(tensor: Tensor) -> np.ndarray | None:
    """The value of a tensor; None where it is data of a program that is traced."""
    node = tensor.node()
    if node.op == "constant" and isinstance(node.data, np.ndarray):
        return node.data
    if current_tracer() is not None:
        return None
    try:
        return tensor.numpy()
    except TraceError:                             # it stands for one example of vmap
        return None


def _integers(value: Any, name: str) -> np.ndarray:
    """A list of integers that has to be known now."""
    found = known(value) if isinstance(value, Tensor) else np.asarray(value)
    if found is None:
        raise trace_error(f"{name} decide on shapes, so they cannot be traced", "pass a padded tensor and lengths")
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise input_error(f"{name} is a list of integers, got {shown(value)}")
    return found.astype(np.int64)


def pack_padded_sequence(input: Any, lengths: Any, batch_first: bool = False,
                         enforce_sorted: bool = True) -> PackedSequence:
    """The first lengths[i] elements of each sequence i of a padded tensor [length, n, ...] (n first if batch_first).

    lengths [n]: integers of at least 1, a list, an array or a tensor.  With enforce_sorted none is larger than the one
    before, which only says in which order `data` has the sequences.
    Raises InputError where lengths do not fit.  Where they are traced (an argument of a jitted function) they are not
    looked at: one larger than `length` then counts as `length`, and what is below 1 is a sequence without elements.
    """
    x = asarray(input)
    if x.ndim < 2:
        raise input_error(f"pack_padded_sequence takes {'[n, length' if batch_first else '[length, n'}, ...], "
                          f"got shape {x.shape}")
    if batch_first:
        x = swapaxes(x, 0, 1)
    steps, n = x.shape[:2]
    if not isinstance(lengths, Tensor):
        lengths = asarray(_integers(lengths, "lengths"))
    if not lengths.dtype.is_integer:
        raise input_error(f"lengths are integers, got {shown(lengths)}")
    if lengths.shape != (n,):
        raise input_error(f"lengths of shape {lengths.shape} for a batch of {n} sequences",
                          f"give one length for each of them: shape ({n},)")
    values = known(lengths)
    if values is not None:
        for number in np.flatnonzero((values < 1) | (values > steps))[:1]:
            raise input_error(f"sequence {number} has length {values[number]}, which is not between 1 and {steps}")
        if enforce_sorted and (np.diff(values) > 0).any():
            raise input_error(f"lengths {shown(values.tolist())} are not sorted, the longest first",
                              "sort the batch, or pass enforce_sorted=False")
    return _packed(x, asarray(lengths, dtype=np.int64), enforce_sorted)


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Tensor, Tensor]:
    """The elements as [length, n, ...] (n first if batch_first) with padding_value beyond the ends; the lengths [n].

    length is total_length, or the longest; where lengths are traced it is that of the tensor that was packed.  Outside
    of `jit`, total_length keeps the shape, and with it the program, from batch to batch.
    Raises InputError for a total_length below the longest, where that is known.
    """
    if not isinstance(sequence, PackedSequence):
        raise input_error(f"pad_packed_sequence takes a PackedSequence, got {shown(sequence)}")
    values, x = known(sequence.lengths), sequence.padded
    longest = x.shape[0] if values is None else int(values.max(initial=0))
    steps = longest if total_length is None else need_integer(total_length, "total_length", 1)
    if values is not None and steps < longest:
        raise input_error(f"total_length {steps} is below the longest sequence, which has {longest} elements")
    x = x[:steps] if steps < x.shape[0] else pad(x, [(0, steps - x.shape[0]), *[(0, 0)] * (x.ndim - 1)])
    live = sequence.replaced(x).live()
    x = where(reshape(live, live.shape + (1,) * (x.ndim - 2)), x, padding_value)
    return swapaxes(x, 0, 1) if batch_first else x, sequence.lengths


def pad_sequence(sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0,
                 padding_side: str = "right") -> Tensor:
    """Sequences [length_i, ...] as one tensor [longest, n, ...] (n first if batch_first), padded on one side.

    Raises InputError for an empty list, and where shapes differ beyond the lengths.
    """
    if padding_side not in ("left", "right"):
        raise input_error(f"padding_side is 'left' or 'right', got {padding_side!r}")
    if not isinstance(sequences, (list, tuple)) or not sequences:
        raise input_error(f"a list of one or more sequences is needed, got {shown(sequences)}")
    # Arrays are laid out by NumPy: as tensors, each set of lengths would be a program.
    given: list[Any] = [s if isinstance(s, Tensor) else np.asarray(s) for s in sequences]
    shape = given[0].shape
    for s in given:
        if not s.shape or s.shape[1:] != shape[1:]:
            raise input_error(f"sequences of shapes {shape} and {s.shape} do not fit together",
                              "only the first dimension, their length, may differ")
    longest = max(s.shape[0] for s in given)
    left = padding_side == "left"
    if any(isinstance(s, Tensor) for s in given):
        widths = [[(longest - s.shape[0], 0)[::1 if left else -1], *[(0, 0)] * (s.ndim - 1)] for s in given]
        rows = [pad(s, width, constant_values=padding_value) for s, width in zip(given, widths)]
        return stack(rows, axis=0 if batch_first else 1)
    batch = np.full((len(given), longest, *shape[1:]), padding_value, np.result_type(*given))
    for row, s in zip(batch, given):
        row[longest - len(s) if left else 0:][:len(s)] = s
    return asarray(batch if batch_first else batch.swapaxes(0, 1))


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences [length_i, ...] packed; errors as for `pad_sequence` and `pack_padded_sequence`."""
    return pack_padded_sequence(pad_sequence(sequences), [len(s) for s in sequences], enforce_sorted=enforce_sorted)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences [length_i, ...] of a padded tensor.  Their shapes need lengths that are known."""
    x = asarray(padded_sequences)
    return [(x[i] if batch_first else x[:, i])[:n] for i, n in enumerate(_integers(lengths, "lengths").tolist())]


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences [length_i, ...].  Their shapes need lengths that are known."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))


__all__ = ["PackedSequence", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence",
           "unpad_sequence", "unpack_sequence"]
