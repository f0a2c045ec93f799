"""Recurrent layers and cells beside their PyTorch twins: results, last states, gradients; and their errors."""
from __future__ import annotations

import numpy as np
import pytest
from frontend_checks import normal

import jtc
from jtc import nn

pytestmark = pytest.mark.usefixtures("backend")
LAYERS = [
    ("RNN", {}), ("RNN", {"nonlinearity": "relu", "bias": False, "num_layers": 2}),
    ("LSTM", {}), ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("LSTM", {"proj_size": 2}), ("LSTM", {"proj_size": 5, "num_layers": 2, "bidirectional": True, "bias": False}),
    ("GRU", {"bidirectional": True}), ("GRU", {"num_layers": 2, "bias": False, "batch_first": True}),
]
CELLS = [("RNNCell", {"nonlinearity": "relu"}), ("RNNCell", {"bias": False}), ("LSTMCell", {}), ("GRUCell", {})]


def flat(result) -> list:
    """output, h[, c] of either library."""
    return [leaf for r in (result if isinstance(result, tuple) else (result,)) for leaf in flat_one(r)]


def flat_one(result) -> list:
    return flat(result) if isinstance(result, tuple) else [result]


def compare(ours, theirs, x, states) -> None:
    """Results and gradients of a weighted sum of all of them, by inputs, states and parameters."""
    torch = pytest.importorskip("torch", reason="torch is not installed: layers are not compared with PyTorch")
    theirs.zero_grad()
    theirs_x, *theirs_states = (torch.tensor(a, requires_grad=True) for a in (x, *states))
    ours_x, *ours_states = map(jtc.array, (x, *states))

    def packed(values):
        return (tuple(values) if len(values) > 1 else values[0],) if values else ()
    results, expected = flat(ours(ours_x, *packed(ours_states))), flat(theirs(theirs_x, *packed(theirs_states)))
    weights = [normal(*e.shape, seed=k) for k, e in enumerate(expected)]
    sum((e * torch.tensor(w)).sum() for e, w in zip(expected, weights)).backward()
    total = sum(jtc.sum(r * w) for r, w in zip(results, weights, strict=True))
    for r, e in zip(results, expected, strict=True):
        np.testing.assert_allclose(r.numpy(), e.detach().numpy(), rtol=2e-5, atol=2e-6)
    names = sorted(dict(theirs.named_parameters()))
    by = [dict(ours.named_parameters())[n] for n in names] + [ours_x, *ours_states]
    wanted = [dict(theirs.named_parameters())[n].grad for n in names] + [t.grad for t in (theirs_x, *theirs_states)]
    for g, w in zip(jtc.gradients(total, by), wanted, strict=True):
        np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-4, atol=1e-5)


def twins(name, options):
    torch = pytest.importorskip("torch", reason="torch is not installed: layers are not compared with PyTorch")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(4, 6, **options)
    ours = getattr(nn, name)(4, 6, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("name,options", LAYERS, ids=[f"{i}-{row[0]}" for i, row in enumerate(LAYERS)])
def test_layers(name, options):
    ours, theirs = twins(name, options)
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    widths = [options.get("proj_size", 6), 6][:2 if name == "LSTM" else 1]
    states = [normal(count, 3, width, seed=k) for k, width in enumerate(widths)]
    length = (3, 5) if options.get("batch_first") else (5, 3)
    compare(ours, theirs, normal(*length, 4), states)
    compare(ours, theirs, normal(*length, 4, seed=1), [])
    compare(ours, theirs, normal(1, 4), [s[:, 0] for s in states])


@pytest.mark.parametrize("name,options", CELLS, ids=[f"{i}-{row[0]}" for i, row in enumerate(CELLS)])
def test_cells(name, options):
    ours, theirs = twins(name, options)
    states = [normal(3, 6, seed=k) for k in range(2 if name == "LSTMCell" else 1)]
    compare(ours, theirs, normal(3, 4), states)
    compare(ours, theirs, normal(4), [])


def test_dropout_between_layers_while_training():
    layer = nn.GRU(4, 6, num_layers=2, dropout=1.0)
    x = normal(3, 2, 4)
    assert not np.array_equal(layer(jtc.array(x))[0].numpy(), layer.eval()(jtc.array(x))[0].numpy())
    assert np.array_equal(layer.train()(jtc.array(x))[0].numpy(), layer(jtc.array(x + 1))[0].numpy())


def test_initial_values_and_text():
    layer = nn.LSTM(3, 16, num_layers=2, batch_first=True)
    assert all(p.abs().max().item() <= 0.25 for p in layer.parameters())
    assert repr(layer) == "LSTM(3, 16, num_layers=2, batch_first=True)"
    assert repr(nn.LSTM(3, 16, proj_size=4)) == "LSTM(3, 16, proj_size=4)"
    assert repr(nn.GRUCell(3, 4, bias=False)) == "GRUCell(3, 4, bias=False)"


@pytest.mark.parametrize("call, message", [
    (lambda: nn.LSTM(3, 0), "hidden_size of LSTM is an integer of at least 1, got 0"),
    (lambda: nn.LSTM(3, 4, proj_size=4), "proj_size of LSTM is smaller than hidden_size 4, got 4"),
    (lambda: nn.LSTM(3, 4, proj_size=-1), "proj_size of LSTM is an integer of at least 0, got -1"),
    (lambda: nn.LSTM(3, 4, proj_size=2)(jtc.zeros((5, 2, 3)), (jtc.zeros((1, 2, 4)), jtc.zeros((1, 2, 4)))),
     r"LSTM needs initial states of shape \(1, 2, 2\), got \(1, 2, 4\)"),
    (lambda: nn.RNN(3, 4, nonlinearity="sin"), "unknown nonlinearity 'sin'"),
    (lambda: nn.GRU(3, 4, dropout=2.0), "dropout probability 2.0 is not between 0 and 1"),
    (lambda: nn.GRU(3, 4)(jtc.zeros((5, 2, 4))), r"GRU takes \[length, n, 3\].*got shape \(5, 2, 4\)"),
    (lambda: nn.GRU(3, 4)(jtc.zeros((5, 2, 3)), jtc.zeros((1, 3, 4))),
     r"GRU needs initial states of shape \(1, 2, 4\), got \(1, 3, 4\)"),
    (lambda: nn.LSTMCell(3, 4)(jtc.zeros((2, 4))), r"LSTMCell takes \[n, 3\] or \[3\], got shape \(2, 4\)"),
    (lambda: nn.GRUCell(3, 4)(jtc.zeros((2, 3)), jtc.zeros((4,))), r"needs a state of shape \(2, 4\), got \(4,\)"),
])
def test_errors(call, message):
    with pytest.raises(jtc.InputError, match=message):
        call()
