"""Modules: what they hold, their state dicts, hooks, and how they behave under `jit`."""
from __future__ import annotations

import copy
import logging
import pickle

import numpy as np
import pytest
from frontend_checks import normal, same

import jtc
from jtc import nn
from jtc.nn import functional as F

pytestmark = pytest.mark.usefixtures("backend")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.BatchNorm1d(4)])
        self.scale = nn.Parameter(jtc.ones((4,)))
        self.register_buffer("offset", normal(4))
        self.register_buffer("cache", normal(4), persistent=False)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.fc(x)
        for layer in self.layers:
            x = layer(x)
        return self.drop(x) * self.scale + self.offset


def test_what_a_module_lists():
    net = Net()
    keys = ["scale", "fc.weight", "fc.bias", "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
    assert [name for name, _ in net.named_parameters()] == keys and len(list(net.parameters())) == 7
    assert list(net.state_dict()) == ["scale", "offset", *keys[1:], "layers.1.running_mean", "layers.1.running_var",
                                      "layers.1.num_batches_tracked"]
    assert [name for name, _ in net.named_modules()] == ["", "fc", "layers", "layers.0", "layers.1", "drop"]
    assert [name for name, _ in net.named_children()] == ["fc", "layers", "drop"]
    assert [name for name, _ in net.named_buffers()][:2] == ["offset", "cache"]
    assert net.get_submodule("layers.1") is net.layers[1] and net.get_parameter("fc.bias") is net.fc.bias
    with pytest.raises(jtc.InputError, match="no module 'layers.7.weight'"):
        net.get_submodule("layers.7.weight")
    net.tied = net.fc                                   # shared: listed once, saved under both names
    assert len(list(net.parameters())) == 7 and "tied.weight" in net.state_dict()
    assert "(fc): Linear(in_features=3, out_features=4, bias=True)" in repr(net)


def test_modes_apply_and_conversion():
    net = Net().eval()
    assert not any(m.training for m in net.modules())
    net.train()
    assert net.drop.training
    seen = []
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net and seen[-1] == "Net"
    net.double()
    assert net.fc.weight.dtype is jtc.float64 and net.offset.dtype is jtc.float64
    assert net.layers[1].num_batches_tracked.dtype is jtc.int64
    assert net.float().scale.dtype is jtc.float32
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    with pytest.raises(jtc.InputError, match="train"):
        net.train("yes")


def test_state_dict_round_trip_and_copies(tmp_path):
    first, second = Net(), Net()
    state = first.state_dict()
    assert second.load_state_dict(state) == ([], [])
    x = normal(5, 3)
    same(first.eval()(x), second.eval()(x).numpy())
    first.scale.assign(first.scale * 2)
    same(state["scale"], np.ones(4, np.float32))                      # a state dict is a snapshot
    for other in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        same(other(x), first(x).numpy())
        assert other.scale is not first.scale and isinstance(other.scale, nn.Parameter)
    jtc.save(first, tmp_path / "net.safetensors")
    second.load_state_dict(jtc.load(tmp_path / "net.safetensors"))
    same(first(x), second(x).numpy())


def test_state_dicts_that_do_not_fit():
    net = Net()
    before = {k: v.numpy() for k, v in net.state_dict().items()}
    state = {k: v + 1 for k, v in before.items()}
    del state["fc.bias"]
    with pytest.raises(jtc.InputError, match="misses 'fc.bias'"):
        net.load_state_dict(state)
    assert net.load_state_dict(state, strict=False) == (["fc.bias"], [])
    with pytest.raises(jtc.InputError, match="has an unexpected 'more'") as caught:
        net.load_state_dict(before | {"more": normal(1)})
    assert f"at {__file__}" in str(caught.value) and "strict=False" in str(caught.value)
    with pytest.raises(jtc.InputError, match=r"'fc.weight' has shape \(4, 4\), the module needs \(4, 3\)"):
        net.load_state_dict(before | {"fc.weight": normal(4, 4)})
    with pytest.raises(jtc.InputError, match="takes a dict"):
        net.load_state_dict([1])
    same(net.scale, before["scale"] + 1)                              # a refused dict changes nothing
    without = {k: v for k, v in before.items() if k != "layers.1.num_batches_tracked"}
    net.load_state_dict(without)                                      # old files of PyTorch lack it


def test_containers():
    a, b, c = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    net = nn.Sequential(a, b, c)
    assert len(net) == 3 and net[-1] is c and list(net) == [a, b, c] and list(net.state_dict())[-1] == "2.bias"
    same(net(normal(4, 2)), c(b(a(normal(4, 2)))).numpy())
    assert isinstance(net[:2], nn.Sequential) and len(net[:2]) == 2
    net.insert(1, nn.Identity())
    assert net[3] is c and net.pop(1) is not c and net[2] is c
    del net[1]
    assert list(net) == [a, c]
    named = nn.Sequential({"first": a, "last": c})
    assert named.first is a and list(named.state_dict())[0] == "first.weight"
    table = nn.ModuleDict({"x": a})
    table["y"] = c
    assert list(table) == ["x", "y"] and table["y"] is c and "x" in table and table.pop("x") is a and len(table) == 1
    many = nn.ParameterList([nn.Parameter(normal(2)), nn.Parameter(normal(3))])
    assert [p.shape for p in many] == [(2,), (3,)] and list(many.state_dict()) == ["0", "1"]
    with pytest.raises(jtc.InputError, match="is int, not an nn.Module"):
        nn.ModuleList([3])
    with pytest.raises(jtc.InputError, match="already has an attribute 'keys'"):
        nn.ModuleDict({"keys": a})
    with pytest.raises(IndexError):
        net[2]


def test_hooks():
    layer, seen = nn.Linear(2, 2), []
    x = normal(3, 2)
    plain = layer(x)
    before = layer.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    after = layer.register_forward_hook(lambda module, args, result: seen.append(result.shape))
    same(layer(x), layer.forward(x * 2).numpy())
    before.remove()
    same(layer(x), plain.numpy())
    assert seen == [(3, 2)] * 2
    after.remove()
    with layer.register_forward_hook(lambda module, args, result: result + 1):
        same(layer(x), plain.numpy() + 1)
    same(layer(x), plain.numpy())


def test_names_and_attributes_that_are_refused():
    class Forgetful(nn.Module):
        def __init__(self):
            self.size = 3
            self.fc = nn.Linear(2, 2)

    class Silent(nn.Module):
        def __init__(self):
            self.size = 3

        def forward(self, x):
            return x

    with pytest.raises(jtc.InputError, match=r"Forgetful.__init__ has not called super\(\).__init__\(\)") as caught:
        Forgetful()
    assert f"at {__file__}" in str(caught.value) and "hint: begin Forgetful.__init__ with super()" in str(caught.value)
    for use in (lambda m: m(1), lambda m: m.state_dict(), lambda m: list(m.parameters()),
                lambda m: m.register_buffer("x", normal(1))):
        with pytest.raises(jtc.InputError, match="Silent.__init__ has not called"):
            use(Silent())
    net = Net()
    with pytest.raises(jtc.InputError, match="cannot replace the parameter 'scale'"):
        net.scale = net.scale * 2
    for name in ("a.b", "", 3):
        with pytest.raises(jtc.InputError, match="has no dots"):
            net.register_buffer(name, normal(1))
    with pytest.raises(jtc.InputError, match="already has an attribute 'forward'"):
        net.register_buffer("forward", normal(1))
    with pytest.raises(jtc.InputError, match="holds floats, got int64"):
        nn.Parameter([1, 2])
    with pytest.raises(AttributeError, match="Net has no attribute 'absent'"):
        net.absent  # noqa: B018
    with pytest.raises(jtc.TraceError, match="parameter cannot be made while"):
        jtc.jit(lambda x: nn.Linear(3, 3)(x))(normal(2, 3))
    with pytest.raises(jtc.InputError, match="does not fit shape"):
        nn.BatchNorm2d(3)(jtc.ones((2, 3)))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: nn.Linear(-3, 2), "in_features of Linear is an integer of at least 0, got -3"),
    (lambda: nn.Linear(3.0, 2), r"in_features of Linear is .*, got 3.0\n.*\n  hint: write 3"),
    (lambda: nn.Bilinear(1, 2, "3"), "out_features of Bilinear is"),
    (lambda: nn.Embedding(3, True), "embedding_dim of Embedding is .*, got True"),
    (lambda: nn.Conv2d(-3, 2, 3), "in_channels of Conv2d is an integer of at least 1, got -3"),
    (lambda: nn.ConvTranspose1d(3, 2.0, 3), "out_channels of ConvTranspose1d is .*, got 2.0"),
    (lambda: nn.Conv2d(3, 2, 3, groups=0), "groups of Conv2d is .* at least 1, got 0"),
    (lambda: nn.Conv2d(3, 2, (3, 0)), r"Conv2d with kernel_size \(3, 0\)\n.*\n  hint: kernel_size is at least 1"),
    (lambda: nn.Conv1d(3, 2, 3, stride=0), r"Conv1d with stride \(0,\)"),
    (lambda: nn.BatchNorm2d(-1), "num_features of BatchNorm2d is"),
    (lambda: nn.GroupNorm(2.0, 4), "num_groups of GroupNorm is"),
    (lambda: nn.LSTM(2, 0), "hidden_size of LSTM is an integer of at least 1, got 0"),
    (lambda: nn.GRUCell("x", 3), "input_size of GRUCell is"),
    (lambda: nn.MultiheadAttention(8.0, 2), "embed_dim of MultiheadAttention is"),
    (lambda: nn.PReLU(-1), "num_parameters of PReLU is"),
])
def test_sizes_that_are_refused(make, message):
    with pytest.raises(jtc.InputError, match=message) as caught:
        make()
    assert f"at {__file__}" in str(caught.value)


def test_a_layer_without_inputs_gives_its_bias():
    layer = nn.Linear(0, 2)
    same(layer(jtc.ones((3, 0))), np.zeros((3, 2), np.float32))


def test_jit_of_modules_reads_and_writes_their_state():
    net, plain = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    plain.load_state_dict(net.state_dict())
    forward = jtc.jit(lambda x: net(x))
    for seed in range(3):
        same(forward(normal(5, 3, seed=seed)), plain(normal(5, 3, seed=seed)).numpy())
    for key, value in plain.state_dict().items():
        same(net.state_dict()[key], value.numpy())
    assert net[1].num_batches_tracked.item() == 3 and forward.compiles == 1
    net[0].weight.assign(net[0].weight * 2)
    same(forward(normal(5, 3)), net(normal(5, 3)).numpy())
    assert forward.compiles == 1


def test_jit_follows_modes_and_structure(caplog):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    x = normal(5, 3)

    @jtc.jit
    def forward(x):
        return net(x)

    forward(x)
    for _ in range(2):                             # both modes stay compiled
        net.train()
        same(forward(x), net(x).numpy())
        net.eval()
        same(forward(x), net(x).numpy())
    assert forward.compiles == 2
    with caplog.at_level(logging.INFO, "jtc"):
        net.append(nn.ReLU())
        same(forward(x), net(x).numpy())
        same(forward(x), net(x).numpy())
        assert forward.compiles == 3 and "forward is compiled again: Sequential.2 is new" in caplog.text
        caplog.clear()
        same(forward(normal(2, 3)), net(normal(2, 3)).numpy())
        assert "argument x is float32[2, 3], before it was float32[5, 3]" in caplog.text
    net[0] = nn.Linear(3, 4)                       # another layer of the same form is another structure
    same(forward(x), net(x).numpy())
    net[0].bias = None
    same(forward(x), net(x).numpy())
    assert forward.compiles == 6


def test_the_structure_of_modules_does_not_change_while_tracing():
    net, extra = nn.Sequential(nn.Linear(3, 3)), nn.ReLU()
    holder = nn.Module()
    holder.first, holder.tied = nn.Linear(3, 3), nn.Linear(3, 3)

    def tie():
        holder.tied.weight = holder.first.weight

    changes = [lambda: net.append(extra), lambda: net.pop(), lambda: setattr(holder, "third", extra), tie,
               lambda: delattr(holder, "first"), lambda: setattr(holder, "first", None)]
    for change in changes:
        before = [len(list(m.modules())) for m in (net, holder)]
        with pytest.raises(jtc.TraceError, match="is set or deleted while 'f' is traced.*\n.*\n.*outside of"):
            def f(x, change=change):
                change()
                return x
            jtc.jit(f)(normal(2, 3))
        assert [len(list(m.modules())) for m in (net, holder)] == before

    @jtc.jit
    def made_inside(x):                            # of modules from outside
        return nn.Sequential(*net, extra)[:2](x)

    same(made_inside(normal(2, 3)), extra(net(normal(2, 3))).numpy())


def test_modules_as_arguments_and_methods():
    @jtc.jit
    def call(net, x):
        return net(x)

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        @jtc.jit
        def forward(self, x):
            return self.fc(x) * 2

    x = normal(4, 3)
    for net in (nn.Linear(3, 2), Scaled(), nn.Sequential(nn.Linear(3, 3), nn.Dropout())):
        net.eval()
        same(call(net, x), net(x).numpy())
        same(call(net, x), F.linear(x, net.fc.weight, net.fc.bias).numpy() * 2 if isinstance(net, Scaled)
             else net(x).numpy())


def test_dropout_under_jit_draws_anew():
    drop = nn.Dropout(0.5)
    forward = jtc.jit(lambda x: drop(x))
    x = np.ones(1000, np.float32)
    first, second = forward(x).numpy(), forward(x).numpy()
    assert (first != second).any() and set(np.unique(first)) == {0, 2} and 350 < (first == 0).sum() < 650
    drop2d = nn.Dropout2d(0.5)(np.ones((20, 30, 2, 2), np.float32)).numpy()
    assert (drop2d == drop2d[:, :, :1, :1]).all() and set(np.unique(drop2d)) == {0, 2}
    jtc.random.seed(3)
    first = drop(x).numpy()
    jtc.random.seed(3)
    assert (first == drop(x).numpy()).all()


def test_parameters_are_the_same_for_the_same_seed():
    states = []
    for _ in range(2):
        jtc.random.seed(5)
        states.append(Net().state_dict())
    for key, value in states[0].items():
        same(value, states[1][key].numpy())
    assert (nn.Linear(3, 4).weight.numpy() != states[0]["fc.weight"].numpy()).any()


def test_a_module_itself_is_jitted_and_exported(tmp_path):
    """Its attributes are places: a value assigned later is used, and weights are saved under the state dict's keys."""
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    x = normal(4, 3)
    fast = jtc.jit(net)
    before = fast(x).numpy()
    net[0].bias = nn.Parameter(np.float32([1, 2]))
    same(fast(x), np.maximum(x @ net[0].weight.numpy().T + np.float32([1, 2]), 0), rtol=1e-5)
    assert not np.array_equal(before, fast(x).numpy())
    jtc.export(net, (x,), tmp_path / "net.jtc")
    from jtc.frontend.model_file import read_model
    model = read_model(tmp_path / "net.jtc")
    assert set(model.weights) == set(net.state_dict()) and model.input_names == ["x"]
