"""`nn.utils.rnn`: sequences of different lengths, against PyTorch and against loops over single sequences."""
from __future__ import annotations

import numpy as np
import pytest
from frontend_checks import normal, same

import jtc
from jtc import nn
from jtc.frontend import execute
from jtc.nn.utils import rnn

pytestmark = pytest.mark.usefixtures("backend")
ABSENT = "torch is not installed: packed sequences are not compared with PyTorch"
LENGTHS = [6, 4, 4, 1]
MIXED = [2, 6, 1, 4]
LAYERS = [
    ("RNN", {}), ("LSTM", {"batch_first": True}), ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"proj_size": 3, "num_layers": 2, "bidirectional": True}), ("LSTM", {"proj_size": 2, "bias": False}),
    ("GRU", {"bidirectional": True}), ("GRU", {"num_layers": 2, "batch_first": True}),
]


def states_of(result) -> list:
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("lengths", [LENGTHS, MIXED], ids=["sorted", "unsorted"])
@pytest.mark.parametrize("name,options", LAYERS, ids=[f"{i}-{row[0]}" for i, row in enumerate(LAYERS)])
def test_layers_torch(name, options, lengths):
    torch = pytest.importorskip("torch", reason=ABSENT)
    torch.manual_seed(0)
    theirs, ours = getattr(torch.nn, name)(3, 5, **options), getattr(nn, name)(3, 5, **options)
    ours.load_state_dict(theirs.state_dict())
    batch_first, in_order = options.get("batch_first", False), lengths is LENGTHS
    places = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    widths = [options.get("proj_size", 5), 5][:2 if name == "LSTM" else 1]
    x = normal(*(4, 7) if batch_first else (7, 4), 3)                  # longer than the longest sequence
    states = [normal(places, 4, width, seed=k) for k, width in enumerate(widths)]

    def run(layer, utils, x, lengths, states):
        packed = utils.pack_padded_sequence(x, lengths, batch_first, in_order)
        y, after = layer(packed, tuple(states) if len(states) > 1 else states[0])
        padded, given = utils.pad_packed_sequence(y, batch_first, padding_value=0.5)
        return y, [padded, y.data, *states_of(after)], given

    their_inputs = [torch.tensor(a, requires_grad=True) for a in (x, *states)]
    our_inputs = [jtc.array(a) for a in (x, *states)]
    y, expected, _ = run(theirs, torch.nn.utils.rnn, their_inputs[0], torch.tensor(lengths), their_inputs[1:])
    packed, results, given = run(ours, rnn, our_inputs[0], lengths, our_inputs[1:])
    assert given.dtype is jtc.int64 and given.tolist() == lengths
    np.testing.assert_array_equal(packed.batch_sizes, y.batch_sizes)
    for field in ("sorted_indices", "unsorted_indices"):
        wanted = getattr(y, field)
        assert (getattr(packed, field) is None) == (wanted is None)
        if wanted is not None:
            np.testing.assert_array_equal(getattr(packed, field), wanted)
    weights = [normal(*e.shape, seed=k) for k, e in enumerate(expected)]
    sum((e * torch.tensor(w)).sum() for e, w in zip(expected, weights)).backward()
    total = sum(jtc.sum(r * w) for r, w in zip(results, weights, strict=True))
    for r, e in zip(results, expected, strict=True):
        np.testing.assert_allclose(r.numpy(), e.detach().numpy(), rtol=2e-5, atol=2e-6)
    parameters = dict(ours.named_parameters())
    by = [*parameters.values(), *our_inputs]
    wanted = [dict(theirs.named_parameters())[n].grad for n in parameters] + [t.grad for t in their_inputs]
    for g, w in zip(jtc.gradients(total, by), wanted, strict=True):
        np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_first", [False, True])
def test_padding_torch(batch_first):
    torch = pytest.importorskip("torch", reason=ABSENT)
    theirs = torch.nn.utils.rnn
    rows = [normal(n, 2, seed=n) for n in (3, 1, 4)]
    for side in ("right", "left"):
        expected = theirs.pad_sequence([torch.tensor(r) for r in rows], batch_first, -1.0, side)
        same(rnn.pad_sequence(rows, batch_first, -1.0, side), expected.numpy())
        same(rnn.pad_sequence([jtc.array(r) for r in rows], batch_first, -1.0, side), expected.numpy())
    packed = theirs.pack_sequence([torch.tensor(r) for r in rows], enforce_sorted=False)
    ours = rnn.pack_sequence(rows, enforce_sorted=False)
    same(ours.data, packed.data.numpy())
    expected, lengths = theirs.pad_packed_sequence(packed, batch_first, -2.0, 6)
    for form in (ours, rnn.PackedSequence(ours.data, ours.batch_sizes, ours.sorted_indices),
                 rnn.PackedSequence(packed.data.numpy(), packed.batch_sizes.numpy(), None,
                                    packed.unsorted_indices.numpy())):
        padded, given = rnn.pad_packed_sequence(form, batch_first, -2.0, 6)
        same(padded, expected.numpy())
        same(given, lengths.numpy())
    same(rnn.pad_packed_sequence(rnn.PackedSequence(ours.data, ours.batch_sizes))[0],
         theirs.pad_packed_sequence(theirs.PackedSequence(packed.data, packed.batch_sizes))[0].numpy())
    for ours_row, row in zip(rnn.unpack_sequence(ours), rows, strict=True):
        same(ours_row, row)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_each_sequence_alone(name, bidirectional):
    """A batch gives what its sequences give one by one, also where NaN stands behind their ends."""
    layer = getattr(nn, name)(3, 5, bidirectional=bidirectional)
    x = normal(6, 4, 3)
    for i, n in enumerate(MIXED):
        x[n:, i] = np.nan
    parameters = list(layer.parameters())
    y, after = layer(rnn.pack_padded_sequence(x, MIXED, enforce_sorted=False))
    padded, _ = rnn.pad_packed_sequence(y)
    gradients = jtc.gradients(jtc.sum(padded * padded), parameters)
    alone = [layer(jtc.array(x[:n, i])) for i, n in enumerate(MIXED)]
    sums = jtc.gradients(sum(jtc.sum(out * out) for out, _ in alone), parameters)
    for i, (n, (out, last)) in enumerate(zip(MIXED, alone)):
        np.testing.assert_allclose(padded.numpy()[:n, i], out.numpy(), rtol=1e-5, atol=1e-6)
        assert not padded.numpy()[n:, i].any()
        for ours, wanted in zip(states_of(after), states_of(last)):
            np.testing.assert_allclose(ours.numpy()[:, i], wanted.numpy(), rtol=1e-5, atol=1e-6)
    for ours, wanted in zip(gradients, sums):
        np.testing.assert_allclose(ours.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-5)


def gru_loop(x: np.ndarray, lengths: list[int], w: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and last states of a GRU of one layer, step by step."""
    def sigmoid(a):
        return 1 / (1 + np.exp(-a))
    size = w["weight_hh_l0"].shape[1]
    out, last = np.zeros((len(x), len(lengths), size)), np.zeros((1, len(lengths), size))
    for i, n in enumerate(lengths):
        h = np.zeros(size)
        for t in range(n):
            a = np.split(w["weight_ih_l0"] @ x[t, i] + w["bias_ih_l0"], 3)
            b = np.split(w["weight_hh_l0"] @ h + w["bias_hh_l0"], 3)
            r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
            h = (1 - z) * np.tanh(a[2] + r * b[2]) + z * h
            out[t, i] = h
        last[0, i] = h
    return out, last


def test_lengths_are_data():
    """One program for all lengths of one shape: jitted, with lengths in or packed before, and outside of jit."""
    layer = nn.GRU(3, 5)
    weights = {name: np.asarray(p, np.float64) for name, p in layer.named_parameters()}
    whole = jtc.jit(lambda x, lengths: run(rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)))
    packed = jtc.jit(lambda sequences: run(sequences))
    before = execute.statistics.compiled

    def run(sequences):
        y, h = layer(sequences)
        return rnn.pad_packed_sequence(y, total_length=6)[0], h

    for seed, lengths in enumerate(([6, 4, 4, 1], [2, 6, 1, 3], [5, 5, 5, 5])):
        x = normal(6, 4, 3, seed=seed)
        expected = gru_loop(x, lengths, weights)
        outside = rnn.pack_padded_sequence(jtc.array(x), lengths, enforce_sorted=False)
        for results in (whole(x, np.array(lengths, np.int32)), packed(outside), run(outside)):
            jtc.sync(results)
            for ours, wanted in zip(results, expected, strict=True):
                np.testing.assert_allclose(ours.numpy(), wanted, rtol=1e-4, atol=1e-5)
        if seed == 0:
            before = execute.statistics.compiled
    assert whole.compiles == packed.compiles == 1 and execute.statistics.compiled == before
    out, h = whole(x, np.array([9, 0, 6, -1]))                         # traced, so not refused
    np.testing.assert_allclose(out.numpy(), gru_loop(x, [6, 0, 6, 0], weights)[0], rtol=1e-4, atol=1e-5)


def test_jitted_functions_return_sequences():
    make = jtc.jit(lambda x, n: rnn.pack_padded_sequence(x * 2, n))
    packed = make(normal(4, 2, 3), np.array([3, 1]))
    assert isinstance(packed, rnn.PackedSequence)
    same(packed.data, 2 * normal(4, 2, 3)[[0, 0, 1, 2], [0, 1, 0, 0]])


def test_steps_share_kernels():
    """What says which sequences have ended is read like other inputs of a step: not a constant in each."""
    layer = nn.GRU(8, 16)

    def distinct(steps):
        report = jtc.explain(lambda x, n: layer(rnn.pack_padded_sequence(x, n))[1], np.zeros((steps, 4, 8), np.float32),
                             np.zeros(4, np.int64))
        return len({kernel.symbol for kernel in report.kernels})
    assert distinct(24) == distinct(12)


def traced(call):
    return jtc.jit(lambda x, n: call(rnn.pack_padded_sequence(x, n)))(np.zeros((3, 2), np.float32), np.array([2, 1]))


X = np.zeros((5, 3, 2), np.float32)


@pytest.mark.parametrize("call, message", [
    (lambda: rnn.pack_padded_sequence(X, [3, 2, 0]), "sequence 2 has length 0, which is not between 1 and 5"),
    (lambda: rnn.pack_padded_sequence(X, [6, 2, 1]), "sequence 0 has length 6, which is not between 1 and 5"),
    (lambda: rnn.pack_padded_sequence(X, [3, 2]), r"lengths of shape \(2,\) for a batch of 3 sequences"),
    (lambda: rnn.pack_padded_sequence(X, [3, 2, 1], batch_first=True), r"lengths of shape \(3,\) for a batch of 5"),
    (lambda: rnn.pack_padded_sequence(X, [2, 3, 1]), r"lengths \[2, 3, 1\] are not sorted, the longest first"),
    (lambda: rnn.pack_padded_sequence(X, [2.0, 1.0, 1.0]), r"lengths is a list of integers, got \[2.0, 1.0, 1.0\]"),
    (lambda: rnn.pack_padded_sequence(X, jtc.ones(3)), r"lengths are integers, got a tensor float32\[3\]"),
    (lambda: rnn.pack_padded_sequence(X[0, 0], [1]), r"takes \[length, n, ...\], got shape \(2,\)"),
    (lambda: rnn.pad_packed_sequence(jtc.array(X)), r"takes a PackedSequence, got a tensor float32\[5, 3, 2\]"),
    (lambda: rnn.pad_packed_sequence(rnn.pack_padded_sequence(X, [4, 2, 1]), total_length=3),
     "total_length 3 is below the longest sequence, which has 4 elements"),
    (lambda: rnn.pad_sequence([]), "a list of one or more sequences is needed"),
    (lambda: rnn.pad_sequence([X, X[0]]), r"sequences of shapes \(5, 3, 2\) and \(3, 2\) do not fit together"),
    (lambda: rnn.pad_sequence([X], padding_side="up"), "padding_side is 'left' or 'right', got 'up'"),
    (lambda: rnn.PackedSequence(X[0], [2, 2]), r"batch_sizes \[2, 2\] do not fit data of shape \(3, 2\)"),
    (lambda: rnn.PackedSequence(X[0], [1, 2]), r"batch_sizes \[1, 2\] do not fit"),
    (lambda: rnn.PackedSequence(X[0], [2, 1], [1, 1]), r"sorted_indices \[1, 1\] are no permutation of 2 sequences"),
    (lambda: nn.GRU(3, 4)(rnn.pack_padded_sequence(X, [3, 2, 1])), r"GRU takes .*got shape \(5, 3, 2\)"),
])
def test_errors(call, message):
    with pytest.raises(jtc.InputError, match=message):
        call()


@pytest.mark.parametrize("call", [lambda p: p.data, lambda p: p.batch_sizes, rnn.unpack_sequence])
def test_lengths_that_are_not_known(call):
    with pytest.raises(jtc.TraceError, match="lengths"):
        traced(call)
