"""Mixed precision: which type each function computes in, gradients to float32 parameters, loss scaling."""
from __future__ import annotations

import numpy as np
import pytest
from example_programs import example
from frontend_checks import normal

import jtc
from jtc import nn, optim
from jtc.runtime import knobs

F = nn.functional


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", ["bf16", "f16"])
def test_types(name):
    x, w = jtc.array(normal(4, 8)), jtc.array(normal(8, 6))
    image, kernel = jtc.array(normal(2, 3, 5, 5)), jtc.array(normal(4, 3, 3, 3))
    with jtc.autocast(name):
        low = jtc.autocast(name).dtype
        y = x @ w
        narrow = [y, jtc.einsum("ij,jk->ik", x, w), jtc.tensordot(x, w, axes=1), F.conv2d(image, kernel, normal(4)),
                  F.linear(x, w.T, normal(6)), F.conv_transpose2d(image, jtc.array(normal(3, 4, 3, 3))), y * 2 + 1,
                  jtc.relu(y), F.scaled_dot_product_attention(y, y, y), jtc.max(y),
                  F.batch_norm(y, None, None, normal(6), normal(6), training=True)]
        full = [jtc.softmax(y), F.log_softmax(y), jtc.exp(y), jtc.log(y), y ** 1.5, jtc.sum(y), jtc.mean(y), jtc.var(y),
                F.layer_norm(y, 6, normal(6)), F.group_norm(y, 2), F.rms_norm(y, 6), F.softplus(y),
                F.cross_entropy(y, np.array([0, 1, 2, 3])), F.mse_loss(y, normal(4, 6)), y + jtc.array(normal(4, 6))]
        assert [t.dtype for t in narrow] == [low] * len(narrow)
        assert [t.dtype for t in full] == [jtc.float32] * len(full)
        assert (x.astype(jtc.float64) @ w).dtype is jtc.float64
        assert (jtc.array(np.ones((2, 4), np.int64)) @ jtc.array(np.ones((4, 2), np.int64))).dtype is jtc.int64
        with jtc.autocast(enabled=False):
            assert (x @ w).dtype is jtc.float32
        assert (x @ w).dtype is low
    assert (x @ w).dtype is jtc.float32 and jtc.softmax(y).dtype is low
    np.testing.assert_allclose(y.numpy().astype(np.float32), x.numpy() @ w.numpy(), atol=0.1)


@pytest.mark.usefixtures("backend")
def test_decorator_and_jit():
    """The rules in force belong to the signature, inside and outside of the function."""
    x = jtc.array(normal(3, 3))
    calls = []

    def product(a):
        calls.append(1)
        return a @ a

    jitted = jtc.jit(product)
    inside = jtc.jit(jtc.autocast("f16")(product))
    assert jitted(x).dtype is jtc.float32 and inside(x).dtype is jtc.float16 and inside.__name__ == "product"
    for _ in range(2):
        with jtc.autocast("bf16"):
            assert jitted(x).dtype is jtc.bfloat16 and inside(x).dtype is jtc.float16
        assert jitted(x).dtype is jtc.float32
    assert jitted.compiles == 2 and inside.compiles == 2 and len(calls) == 4


def test_bad_dtype():
    with pytest.raises(jtc.InputError, match='autocast to float32\n(.|\n)*hint: it is "bf16" or "f16"'):
        jtc.autocast("f32")
    with pytest.raises(jtc.InputError, match="not a jtc element type"):
        jtc.autocast("int7")


@pytest.mark.usefixtures("backend")
def test_gradients_are_of_the_parameters_type():
    net = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.LayerNorm(7), nn.Linear(7, 2))
    x, t = normal(6, 5), normal(6, 2)

    def loss(net):
        return F.mse_loss(net(x), t)

    exact = jtc.grad(loss)(net)
    low = jtc.grad(jtc.autocast("bf16")(loss))(net)
    for name, gradient in low.items():
        assert gradient.dtype is jtc.float32
        scale = np.abs(exact[name].numpy()).max()
        np.testing.assert_allclose(gradient.numpy(), exact[name].numpy(), atol=0.03 * scale, err_msg=name)
        assert not np.array_equal(gradient.numpy(), exact[name].numpy())


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", ["half", "bfloat16"])
def test_modules_in_16_bits(name):
    """Without autocast: everything is of the parameters' type, what adds up is rounded at the end."""
    jtc.random.seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LayerNorm(36),
                        nn.Linear(36, 3), nn.Softmax(-1))
    x = normal(5, 2, 5, 5)
    exact = net(x).numpy()
    getattr(net, name)()
    low = net[0].weight.dtype
    y = net(jtc.array(x).astype(low))
    assert y.dtype is low and {t.dtype for t in net.state_dict().values() if t.dtype.is_float} == {low}
    np.testing.assert_allclose(y.numpy().astype(np.float32), exact, atol=0.02)
    opt = optim.SGD(net.parameters(), lr=0.1)
    before = net[5].weight.numpy().copy()
    opt.step(jtc.sum(net(jtc.array(x).astype(low))[:, 0].astype(jtc.float32)))
    assert net[5].weight.dtype is low and (net[5].weight.numpy() != before).any()


def state_of(net, opt):
    tensors = [*net.state_dict().values(), *(t for row in opt.state_dict()["state"].values() for t in row.values())]
    return [np.array(t.numpy()) for t in tensors]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("jitted", [False, True])
def test_steps_that_are_not_finite_change_nothing_but_the_scale(jitted):
    jtc.random.seed(0)
    net = nn.Linear(3, 2)
    opt = optim.Adam(net.parameters(), lr=0.1)
    scaler = optim.GradScaler(init_scale=8.0, growth_interval=2)

    def step(x):
        with jtc.autocast("f16"):
            loss = jtc.mean(net(x) ** 2)
        scaler.step(opt, loss, max_norm=10.0)
        return loss

    run = jtc.jit(step) if jitted else step
    x = normal(4, 3)
    run(x)
    before = state_of(net, opt)
    assert scaler.get_scale() == 8.0
    run(np.full((4, 3), 1e6, np.float32))          # infinite as float16
    for old, new in zip(before, state_of(net, opt), strict=True):
        np.testing.assert_array_equal(old, new)
    assert scaler.get_scale() == 4.0
    run(x)
    run(x)
    after = state_of(net, opt)
    assert scaler.get_scale() == 8.0 and not np.array_equal(before[0], after[0])
    again = optim.GradScaler()
    again.load_state_dict(scaler.state_dict())
    assert again.state_dict() == scaler.state_dict() and scaler.state_dict()["_growth_tracker"] == 0


@pytest.mark.usefixtures("backend")
def test_scaled_steps_are_those_of_the_loss():
    nets = []
    for enabled in (True, False):
        jtc.random.seed(3)
        net = nn.Linear(4, 1)
        opt, scaler = optim.SGD(net.parameters(), lr=0.1, momentum=0.9), optim.GradScaler(enabled=enabled)
        for k in range(3):
            scaler.step(opt, jtc.mean(net(normal(5, 4, seed=k)) ** 2), max_value=0.5)
        nets.append(net.weight.numpy())
    np.testing.assert_allclose(nets[0], nets[1], rtol=1e-6)


def test_bad_scaler():
    with pytest.raises(jtc.InputError, match="backoff_factor 1.5"):
        optim.GradScaler(backoff_factor=1.5)
    with pytest.raises(jtc.InputError, match="init_scale 0"):
        optim.GradScaler(init_scale=0)
    with pytest.raises(jtc.InputError, match="has no 'scale'"):
        optim.GradScaler().load_state_dict({})


@pytest.mark.parametrize("name", ["bf16", "f16"])
def test_digits(name):
    losses, net = example().train(epochs=10, autocast=name)
    assert losses[0] > 2 and example().accuracy(net) >= 0.92
    assert all(p.dtype is jtc.float32 for p in net.parameters())


def test_digits_lazily_gives_the_same_losses():
    with knobs.use(backend="reference"):
        options = {"epochs": 1, "batch": 4, "count": 12, "autocast": "f16"}
        one, _ = example().train(**options, lazy=True)
        other, _ = example().train(**options)
    np.testing.assert_allclose(one, other, rtol=1e-2)
