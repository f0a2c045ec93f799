"""Training: one graph from data to updated weights, jitted and lazily."""
from __future__ import annotations

import numpy as np
import pytest
from example_programs import example
from frontend_checks import normal

import jtc
from jtc import nn, optim
from jtc.frontend import lazy
from jtc.frontend.execute import statistics
from jtc.runtime import knobs


def test_digits():
    losses, net = example().train(epochs=10)
    assert losses[0] > 2 and example().accuracy(net) >= 0.92


@pytest.mark.usefixtures("backend")
def test_two_networks_in_one_step(monkeypatch):
    """The generative adversarial network: both optimisers, jitted and lazily."""
    lsgan = example("lsgan")
    monkeypatch.setattr(lsgan, "BATCH", 8)
    (lazy, _), (jitted, generator) = (lsgan.train(epochs=2, count=24, lazy=way) for way in (True, False))
    np.testing.assert_allclose(lazy, jitted, rtol=1e-3)
    assert len(jitted) == 6 and jitted[-1][0] < jitted[0][0]
    images = lsgan.samples(generator, 16)
    assert images.shape == (16, 8, 8) and images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("name, arguments, drawn", [
    ("lsgan", ["--epochs", "1", "--output", "."], ["losses.png", "samples.png"]),
    ("train_digits", ["--epochs", "1", "--plot", "losses.png"], ["losses.png"]),
    ("transformer", ["--steps", "3", "--text", "text", "--plot", "losses.png"], ["losses.png"]),
])
def test_examples_draw(tmp_path, monkeypatch, capsys, name, arguments, drawn):
    """The programs as a user runs them, for a few steps."""
    module = example(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("the cat sat on the mat; " * 20)
    module.main(arguments)
    assert "loss" in capsys.readouterr().out
    from matplotlib.image import imread
    for file in drawn:
        picture = imread(tmp_path / file)[..., :3]
        assert min(picture.shape[:2]) > 100 and len(np.unique(picture)) > 10
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["text", *drawn])


@pytest.mark.parametrize("arguments", [[], ["--checkpoint", "--explain"]])
def test_steps_of_a_residual_network(monkeypatch, capsys, arguments):
    """ResNet-50 with one narrow block."""
    monkeypatch.setattr(example("resnet50"), "STAGES", ((1, 16, 2),))
    example("train_resnet50").main(["--batch", "2", "--size", "32", "--steps", "3", *arguments])
    told = capsys.readouterr().out
    losses = [float(x) for x in told.partition("losses: ")[2].partition("\n")[0].split(",")]
    assert len(losses) == 4 and losses[-1] < losses[0]
    assert "MB beyond the" in told and ("kernels, " in told) == ("--explain" in arguments)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_steps_of_a_recurrent_layer(monkeypatch, capsys, kind):
    monkeypatch.setenv("JTC_THREADS", "1")                 # which the program sets
    sizes = ["--steps", "3", "--batch", "2", "--inputs", "3", "--units", "4", "--rounds", "2"]
    losses = example("train_recurrent").main([kind, *sizes])
    assert sorted(losses, reverse=True) == losses and losses[0] != losses[-1]
    assert "jtc: least " in capsys.readouterr().out


@pytest.mark.usefixtures("backend")
def test_a_transformer_writes(monkeypatch, tmp_path):
    writer = example("transformer")
    monkeypatch.setattr(writer, "CONTEXT", 12)
    monkeypatch.setattr(writer, "BATCH", 4)
    (tmp_path / "text").write_text("the cat sat on the mat; " * 20)
    losses, net, text = writer.train(12, [tmp_path / "text"])
    assert losses[-1] < 0.8 * losses[0]
    assert set(writer.write(net, text, 5)) <= set(text.letters)


@pytest.mark.parametrize("autocast", [None, "f16"])
def test_digits_lazily_give_the_same_bits(tmp_path, autocast):
    """The lazy graph of a step is that of the jitted one: same kernels, from the cache; compiled for the first step."""
    options = {"epochs": 1, "batch": 20, "count": 100, "autocast": autocast}
    with knobs.use(cache_dir=tmp_path):
        jitted, net = example().train(**options)
        kernels, before = set(tmp_path.rglob("*.o")), statistics.compiled
        lazy, other = example().train(**options, lazy=True)
    assert statistics.compiled == before + 1
    assert set(tmp_path.rglob("*.o")) == kernels and len(kernels) > 10
    assert lazy == jitted and len(lazy) == 5
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), other.state_dict()[name].numpy(), err_msg=name)


def regression(jitted: bool):
    """A net with batch norm and dropout, its optimiser, and a training step."""
    jtc.random.seed(1)
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))
    opt = optim.Adam(net.parameters(), lr=0.05)

    def step(x, t):
        loss = nn.functional.mse_loss(net(x), t)
        opt.step(loss, max_norm=1.0)
        return loss

    return net, opt, jtc.jit(step) if jitted else step


@pytest.mark.usefixtures("backend")
def test_state_moves_alike():
    """Parameters, running statistics, the optimiser's state and the random numbers."""
    x, t = normal(16, 3), normal(16, 1, seed=1)
    nets = []
    for jitted in (False, True):
        net, opt, step = regression(jitted)
        losses, programs = [], []
        for _ in range(6):
            losses.append(step(x, t).item())
            programs.append(statistics.compiled)
        assert losses[-1] < losses[0] and programs[1] == programs[-1]
        nets.append((losses, net.state_dict(), opt.state_dict()["state"][0]))
    (a, net_a, state_a), (b, net_b, state_b) = nets
    assert a == b
    for one, other in [(net_a, net_b), (state_a, state_b)]:
        for name in one:
            np.testing.assert_array_equal(one[name].numpy(), other[name].numpy(), err_msg=name)


@pytest.mark.usefixtures("backend")
def test_a_value_that_was_read_keeps_its_history():
    """As with two optimisers: what one step computed, and held, is differentiated by the next."""
    generator, critic = nn.Linear(2, 3), nn.Linear(3, 1)
    z = normal(4, 2)
    first = optim.SGD(critic.parameters(), lr=0.1)
    second = optim.SGD(generator.parameters(), lr=0.1)
    fake = generator(z)
    first.step(jtc.mean(critic(jtc.stop_gradient(fake)) ** 2))
    before = fake.numpy()
    loss = jtc.mean((critic(fake) - 1) ** 2)
    loss.item()
    w = np.array(critic.weight.numpy())
    gradient = second.gradients(loss)[1].numpy()
    residual = 2 * (critic(before).numpy() - 1) / 4
    np.testing.assert_allclose(gradient, (residual @ w).sum(0), rtol=1e-5)
    second.step(loss)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("jitted, programs", [(False, 2), (True, 1)])
def test_programs_of_two_optimisers(jitted, programs):
    """Outside of jit each starts its step, as nothing says where an iteration ends; none is compiled again."""
    generator, critic = nn.Linear(2, 3), nn.Linear(3, 1)
    first, second = optim.SGD(generator.parameters(), lr=0.1), optim.Adam(critic.parameters(), lr=0.1)

    def step(z, x):
        fake = generator(z)
        first.step(jtc.mean((critic(fake) - 1) ** 2))
        loss = jtc.mean((critic(x) - 1) ** 2) + jtc.mean(critic(jtc.stop_gradient(fake)) ** 2)
        second.step(loss)
        return loss

    run = jtc.jit(step) if jitted else step
    before = statistics.compiled
    for k in range(3):
        run(jtc.array(normal(4, 2, seed=k)), jtc.array(normal(4, 3, seed=k))).item()
        assert statistics.compiled - before == programs


def test_the_history_of_state_ends_with_each_step():
    """A loop that keeps all of its losses keeps no batch and no old weights."""
    net, _, step = regression(False)
    losses = [step(normal(4, 3, seed=i), normal(4, 1, seed=i)) for i in range(3)]
    for tensor in (*losses, *net.parameters(), *net.buffers()):
        history = tensor._node.history if tensor._node is not None else None
        assert not hasattr(history, "args")


@pytest.mark.usefixtures("backend")
def test_gradients_of_what_is_not_a_loss():
    w, frozen = nn.Parameter(normal(3)), nn.Parameter(normal(3))
    w.name = "layer.weight"
    x = jtc.array(normal(3))
    for loss, message in ((w * x, "gradient of a non-scalar: the loss has shape \\(3,\\)"),
                          (jtc.sum((w > 0).astype(jtc.int32)), "gradient of an integer: the loss is int64"),
                          (jtc.sum(x), "parameter layer.weight of shape \\(3,\\) does not reach the loss"),
                          (jtc.sum(x[jtc.argmax(w)]), "only through argmax"),
                          (jtc.sum(jtc.stop_gradient(w)), "only through stop_gradient"),
                          (3.0, "the loss must be a tensor, got float")):
        with pytest.raises(jtc.InputError, match=message):
            jtc.gradients(loss, [w])
    with pytest.raises(jtc.InputError, match="does not reach the loss"):
        optim.SGD([w, frozen], lr=0.1).step(jtc.sum(w))
    optim.SGD([w, frozen.requires_grad_(False)], lr=0.1).step(jtc.sum(w))
    loss = jtc.sum(x * 2)
    loss.item()
    with pytest.raises(jtc.InputError, match="a tensor of shape .* not known any more"):
        jtc.gradients(loss, [x])
    assert jtc.gradients(jtc.sum(x), [w], allow_unused=True)[0].tolist() == [0, 0, 0]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("limit", [10, 60])
def test_a_long_program_is_cut_without_losing_gradients(monkeypatch, limit):
    monkeypatch.setattr(lazy, "PENDING_LIMIT", 5)
    monkeypatch.setattr(lazy, "TRACKED_LIMIT", limit)
    monkeypatch.setattr(lazy._state, "limit", 5)
    before, w = statistics.compiled + statistics.reused, nn.Parameter(normal(3))
    x = w * 1.0
    for _ in range(30):
        x = jtc.sin(x)
    cuts = statistics.compiled + statistics.reused - before
    assert cuts > 0 if limit == 10 else cuts == 0
    found, = jtc.gradients(jtc.sum(x), [w])
    value, slope = w.numpy(), 1.0
    for _ in range(30):
        value, slope = np.sin(value), slope * np.cos(value)
    np.testing.assert_allclose(found.numpy(), slope, rtol=1e-5)


def test_explain_names_the_state():
    net = nn.Sequential(nn.Linear(3, 2))
    opt = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scale = jtc.ones(())

    def step(x):
        loss = jtc.sum(net(x)) * scale
        opt.step(loss)
        return loss

    for function in (step, jtc.jit(step)):
        report = jtc.explain(function, normal(4, 3))
        named = {text.partition(":")[0] for k in report.kernels for text in (*k.reads, *k.writes)}
        assert {"x", "0.weight", "scale", "0.weight_new", "0.weight.momentum_buffer", "0.weight.momentum_buffer_new",
                "out0"} <= named
