"""Every layer and loss beside its PyTorch twin: same weights in; same results, gradients and running statistics out."""
from __future__ import annotations

import numpy as np
import pytest
from frontend_checks import normal

import jtc
from jtc import nn

torch = pytest.importorskip("torch", reason="torch is not installed: layers are not compared with PyTorch")
pytestmark = pytest.mark.usefixtures("backend")

# name, arguments, options, shape of the input
LAYERS = [
    ("Linear", (5, 7), {}, (3, 5)), ("Linear", (5, 7), {"bias": False}, (2, 3, 5)),
    ("Conv1d", (3, 4, 3), {"padding": 1}, (2, 3, 9)),
    ("Conv1d", (4, 6, 3), {"stride": 2, "dilation": 2, "groups": 2}, (2, 4, 11)),
    ("Conv2d", (3, 4, 3), {"padding": "same"}, (2, 3, 6, 5)),
    ("Conv2d", (3, 4, (3, 2)), {"stride": (2, 1)}, (2, 3, 7, 6)),
    ("Conv2d", (4, 4, 3), {"groups": 4, "padding": 1, "bias": False}, (2, 4, 5, 5)),
    ("Conv3d", (2, 3, 2), {"padding": 1}, (1, 2, 4, 3, 5)),
    ("ConvTranspose1d", (3, 4, 3), {"stride": 2}, (2, 3, 5)),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}, (2, 4, 4, 5)),
    ("ConvTranspose3d", (2, 3, 2), {"stride": 2}, (1, 2, 2, 3, 2)),
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1}, (2, 3, 9)), ("MaxPool2d", (2,), {}, (2, 3, 7, 6)),
    ("MaxPool2d", (3, 2, 1), {"ceil_mode": True}, (2, 3, 6, 6)), ("MaxPool3d", (2,), {}, (1, 2, 4, 4, 5)),
    ("AvgPool1d", (2,), {}, (2, 3, 6)), ("AvgPool2d", (3, 2, 1), {"count_include_pad": False}, (2, 3, 6, 6)),
    ("AvgPool3d", (2,), {}, (1, 2, 4, 4, 4)), ("AdaptiveAvgPool1d", (3,), {}, (2, 3, 7)),
    ("AdaptiveAvgPool2d", ((1, 1),), {}, (2, 3, 4, 5)), ("AdaptiveAvgPool2d", ((3, None),), {}, (2, 3, 4, 5)),
    ("BatchNorm1d", (4,), {}, (6, 4)), ("BatchNorm1d", (4,), {"momentum": None}, (6, 4, 3)),
    ("BatchNorm2d", (3,), {}, (4, 3, 2, 5)), ("BatchNorm2d", (3,), {"affine": False}, (4, 3, 2, 2)),
    ("BatchNorm2d", (3,), {"track_running_stats": False}, (4, 3, 2, 2)), ("BatchNorm3d", (2,), {}, (2, 2, 2, 3, 2)),
    ("LayerNorm", (6,), {}, (4, 6)), ("LayerNorm", ([3, 4],), {"bias": False}, (2, 3, 4)),
    ("GroupNorm", (2, 6), {}, (2, 6, 3)),
    ("RMSNorm", (6,), {}, (3, 6)), ("RMSNorm", ([2, 3],), {"eps": 1e-3}, (4, 2, 3)),
    ("Dropout", (0.0,), {}, (3, 4)), ("Flatten", (), {}, (2, 3, 4)), ("Flatten", (0, 1), {}, (2, 3, 4)),
    ("Unflatten", (1, (2, 3)), {}, (2, 6, 4)), ("Identity", (), {}, (2, 3)),
    ("PReLU", (), {}, (3, 4)), ("PReLU", (3,), {}, (2, 3, 4)), ("Softmax", (-1,), {}, (3, 4)),
    ("LogSoftmax", (), {"dim": 1}, (3, 4)), ("GLU", (1,), {}, (3, 4)), ("LeakyReLU", (0.2,), {}, (3, 4)),
    ("Hardtanh", (-0.5,), {"max_val": 0.3}, (3, 4)), ("GELU", (), {"approximate": "tanh"}, (3, 4)),
    *((name, (), {}, (3, 5)) for name in ("ReLU", "ReLU6", "ELU", "SELU", "GELU", "SiLU", "Mish", "Sigmoid",
                                          "LogSigmoid", "Tanh", "Softplus", "Softsign", "Hardsigmoid", "Hardswish")),
]
LOSSES = [
    ("MSELoss", {}, "normal"), ("L1Loss", {"reduction": "sum"}, "normal"), ("SmoothL1Loss", {"beta": 0.3}, "normal"),
    ("HuberLoss", {"delta": 0.4, "reduction": "none"}, "normal"), ("BCEWithLogitsLoss", {}, "unit"),
    ("BCEWithLogitsLoss", {"pos_weight": np.array([1, 2, 0.5, 3], np.float32)}, "unit"),
    ("BCEWithLogitsLoss", {"weight": np.array([1, 2, 0.5, 3], np.float32), "reduction": "sum"}, "unit"),
    ("BCELoss", {}, "both unit"), ("KLDivLoss", {}, "unit"), ("KLDivLoss", {"reduction": "batchmean"}, "zeros"),
    ("KLDivLoss", {"log_target": True, "reduction": "sum"}, "normal"), ("CrossEntropyLoss", {}, "class"),
    ("CrossEntropyLoss", {"weight": np.array([1, 2, 0.5, 3], np.float32), "ignore_index": 1}, "class"),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, "class"), ("NLLLoss", {"reduction": "none"}, "class"),
]


def twins(name, args, options, dtype=torch.float32):
    """A layer and PyTorch's, with the same state that differs from the initial one."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*args, **options).to(dtype)
    state = {key: (value * 0.9 + 0.1 * torch.rand_like(value) if value.is_floating_point() else value)
             for key, value in theirs.state_dict().items()}
    theirs.load_state_dict(state)
    ours = getattr(nn, name)(*args, **options)
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    return ours, theirs


def close(ours, theirs, rtol=2e-5):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape and ours.dtype.numpy == theirs.dtype
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=rtol, atol=rtol * max(1e-6, np.abs(theirs).max(initial=0)))


def same_gradients(ours, theirs, arrays, rtol=5e-5):
    """Results of two modules on the same arrays, and gradients by float arrays and parameters of a weighted sum."""
    given = [jtc.array(a) for a in arrays]
    their_given = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    result, expected = ours(*given), theirs(*their_given)
    result, expected = (r[0] if isinstance(r, tuple) else r for r in (result, expected))
    weights = normal(*result.shape, seed=9)
    (expected * torch.tensor(weights)).sum().backward()
    by = [p for _, p in sorted(ours.named_parameters())] + [x for x in given if x.dtype.is_float]
    found = jtc.gradients(jtc.sum(result * weights), by)
    close(result, expected, rtol)
    wanted = [p.grad for _, p in sorted(theirs.named_parameters())] + [x.grad for x in their_given if x.requires_grad]
    largest = max(g.abs().max().item() for g in wanted) if wanted else 0
    for g, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(g.numpy(), other.numpy(), rtol=rtol, atol=rtol * largest)


@pytest.mark.parametrize("name,args,options,shape", LAYERS, ids=[f"{i}-{row[0]}" for i, row in enumerate(LAYERS)])
def test_layers(name, args, options, shape):
    ours, theirs = twins(name, args, options)
    for train in (True, True, False):
        ours.train(train), theirs.train(train)
        for seed in range(2):
            x = normal(*shape, seed=seed)
            theirs.zero_grad()
            same_gradients(ours, theirs, [x])
    for key, value in theirs.state_dict().items():
        close(ours.state_dict()[key], value)


@pytest.mark.parametrize("name,options,kind", LOSSES, ids=[f"{i}-{row[0]}" for i, row in enumerate(LOSSES)])
def test_losses(name, options, kind):
    x, y = normal(6, 4), normal(6, 4, seed=1)
    if kind != "normal":
        y = 1 / (1 + np.exp(-y))
    if kind == "both unit":
        x = 1 / (1 + np.exp(-x))
        x[0, 0], x[0, 1] = 0, 1
    if kind == "zeros":
        y[1:3] = 0
    if kind == "class":
        y = np.array([0, 3, 1, 1, 2, 0])
    ours = getattr(nn, name)(**options)
    theirs = getattr(torch.nn, name)(**{k: torch.tensor(v) if isinstance(v, np.ndarray) else v
                                        for k, v in options.items()})
    close(ours(x, y), theirs(torch.tensor(x), torch.tensor(y)))
    inputs, theirs_in = jtc.array(x), torch.tensor(x, requires_grad=True)
    theirs(theirs_in, torch.tensor(y)).sum().backward()
    g, = jtc.gradients(jtc.sum(ours(inputs, y)), [inputs])
    close(g, theirs_in.grad)


def test_embedding():
    ours, theirs = twins("Embedding", (7, 3), {"padding_idx": 2})
    index = np.array([[0, 2, 6], [5, 2, 1]])
    same_gradients(ours, theirs, [index])
    assert (nn.Embedding(5, 3, padding_idx=-1).weight.numpy()[4] == 0).all()


@pytest.mark.parametrize("options", [{}, {"batch_first": True, "bias": False}, {"kdim": 3, "vdim": 5}], ids=str)
def test_multihead_attention(options):
    ours, theirs = twins("MultiheadAttention", (8, 2), options)
    wide = options.get("kdim", 8), options.get("vdim", 8)
    first = (2, 4) if options.get("batch_first") else (4, 2)
    other = (2, 5) if options.get("batch_first") else (5, 2)
    q, k, v = normal(*first, 8), normal(*other, wide[0], seed=1), normal(*other, wide[1], seed=2)
    padding = np.array([[False] * 4 + [True], [False] * 5])
    mask = np.triu(np.ones((4, 5), bool), 2)
    for given in ({}, {"key_padding_mask": padding}, {"attn_mask": mask}, {"average_attn_weights": False},
                  {"attn_mask": np.where(np.stack([mask] * 4), -1e9, 0.5).astype(np.float32)}):
        result, weights = ours(*map(jtc.array, (q, k, v)), **given)
        expected = theirs(*map(torch.tensor, (q, k, v)), **{n: torch.tensor(a) if isinstance(a, np.ndarray) else a
                                                            for n, a in given.items()})
        close(result, expected[0])
        close(weights, expected[1])
    assert ours(*map(jtc.array, (q, k, v)), need_weights=False)[1] is None
    same_gradients(ours, theirs, [q, k, v])


@pytest.mark.parametrize("options", [{}, {"norm_first": True, "batch_first": True, "activation": "gelu"}], ids=str)
def test_transformer_encoder(options):
    options = {"dim_feedforward": 16, "dropout": 0.0, **options}
    ours, theirs = twins("TransformerEncoderLayer", (8, 2), options)
    x = normal(2, 4, 8)
    same_gradients(ours, theirs, [x], 1e-4)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(x.shape[1 if options.get("batch_first") else 0])
    close(ours(jtc.array(x), mask.numpy()), theirs(torch.tensor(x), mask), 1e-4)
    stack = nn.TransformerEncoder(ours, 2, nn.LayerNorm(8))
    their_stack = torch.nn.TransformerEncoder(theirs, 2, torch.nn.LayerNorm(8))
    stack.load_state_dict(their_stack.state_dict())
    close(stack(jtc.array(x)), their_stack(torch.tensor(x)), 1e-4)


def test_initial_values_have_the_same_spread():
    for name, args in (("Linear", (300, 200)), ("Conv2d", (20, 30, 5)), ("ConvTranspose2d", (20, 30, 5)),
                       ("Embedding", (200, 100)), ("MultiheadAttention", (120, 2))):
        theirs = getattr(torch.nn, name)(*args).state_dict()
        for key, value in getattr(nn, name)(*args).state_dict().items():
            if value.size > 1000:
                expected = theirs[key].std().item()
                assert abs(value.numpy().std() - expected) < 0.05 * expected, (name, key)
                assert abs(np.abs(value.numpy()).max() - theirs[key].abs().max().item()) < expected


@pytest.mark.parametrize("name,options", [("xavier_uniform_", {}), ("xavier_normal_", {"gain": 2.0}),
                                          ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}),
                                          ("kaiming_uniform_", {"a": 1.0}), ("trunc_normal_", {"std": 0.02}),
                                          ("orthogonal_", {"gain": 3.0}), ("normal_", {"mean": 1.0})], ids=str)
def test_init(name, options):
    ours, theirs = nn.Parameter(np.zeros((120, 30, 3), np.float32)), torch.zeros(120, 30, 3)
    getattr(nn.init, name)(ours, **options)
    getattr(torch.nn.init, name)(theirs, **options)
    assert abs(ours.numpy().mean() - theirs.mean().item()) < 0.05 * theirs.std().item()
    assert abs(ours.numpy().std() - theirs.std().item()) < 0.05 * theirs.std().item()
