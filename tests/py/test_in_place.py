"""New values of state are written over the old ones, where nobody else holds these."""
from __future__ import annotations

import gc
import threading
from dataclasses import replace

import numpy as np
import pytest
from emitting import access, axes, fn
from frontend_checks import normal

import jtc
from jtc import nn, optim
from jtc.dialects.dtypes import F32
from jtc.dialects.expr import acc, read
from jtc.dialects.graph import TensorType
from jtc.dialects.in_place import refusal
from jtc.dialects.kernel import Kernel, Local, Pack, Schedule, Stage
from jtc.runtime import knobs


def training(optimizer=None, **options):
    """Parameters, and a step on (batch, 24) and (batch, 8)."""
    jtc.random.seed(0)
    net = nn.Sequential(nn.Linear(24, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 8))
    opt = optimizer(net) if optimizer else optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    @jtc.jit(**options)
    def step(x, t):
        loss = nn.functional.mse_loss(net(x), t)
        opt.step(loss)
        return loss

    return net, step


def address(tensor):
    return tensor.value().ptr


X, T = normal(32, 24), normal(32, 8, seed=1)


def stepped(net, step, count=2):
    """After a few steps, by the native path."""
    for _ in range(count):
        step(X, T).item()
    return net[0].weight


# ------------------------------------------------------------------------------------------------ who holds what
@pytest.mark.parametrize("async_", ["0", "1"])
def test_parameters_stay_where_they_are(async_):
    with knobs.use(async_=async_):
        net, step = training()
        weight = stepped(net, step)
        places, values = [address(net[0].weight), address(net[3].weight)], weight.numpy().copy()
        for _ in range(3):
            step(X, T).item()
        assert [address(net[0].weight), address(net[3].weight)] == places
        assert np.abs(weight.numpy() - values).max() > 1e-4


def test_the_first_call_writes_in_place_too():
    """Else the memory of the first state would stay in the pool, beside that of its successors."""
    net, step = training()
    place = address(net[0].weight)
    for _ in range(2):
        step(X, T).item()
        assert address(net[0].weight) == place


HOLDERS = {
    "an array": lambda w: w.numpy(),
    "a view of an array": lambda w: w.numpy()[3:, ::2],
    "a memory view": lambda w: memoryview(w.value()),
    "another tensor": lambda w: jtc.Tensor.from_buffer(w.value()),
    "a capsule": lambda w: np.from_dlpack(w),
    "a pending value": lambda w: w + 1.0,
    "a detached tensor": lambda w: jtc.stop_gradient(w),
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("async_", ["0", "1"])
def test_what_somebody_holds_stays(hold, async_):
    with knobs.use(async_=async_):
        net, step = training()
        weight = stepped(net, step)
        before, held = weight.numpy().copy(), hold(weight)
        gc.collect()
        for _ in range(2):
            step(X, T).item()
        expected = np.asarray(hold(jtc.array(before)))
        np.testing.assert_array_equal(np.asarray(held), expected)
        del held
        gc.collect()
        step(X, T).item()
        place = address(weight)
        step(X, T).item()
        assert address(weight) == place


def test_state_that_is_also_an_argument_or_a_second_tensor():
    w = nn.Parameter(normal(64, 64))
    twin = jtc.Tensor.from_buffer(w.value())

    @jtc.jit
    def step(x):
        y = jtc.sum(w * x) + jtc.sum(twin)
        w.assign(w * 0.5)
        return y

    start = w.numpy().copy()
    for _ in range(3):
        before = w.numpy().copy()
        found = step(w)
        np.testing.assert_allclose(found.item(), (before * before).sum() + start.sum(), rtol=1e-4)
        np.testing.assert_array_equal(w.numpy(), before * 0.5)
    np.testing.assert_array_equal(twin.numpy(), start)


def test_other_threads_find_old_or_new_values():
    """A reader sees whole states only: every element was multiplied equally often."""
    w = nn.Parameter(np.ones((512, 512), np.float32))

    @jtc.jit
    def step():
        w.assign(w * 2.0)

    for _ in range(3):
        step()
    torn, stop = [], threading.Event()

    def look():
        while not stop.is_set():
            seen = w.numpy()
            if (seen != seen[0, 0]).any():
                torn.append(seen.copy())

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(100):
        step()
    stop.set()
    reader.join()
    assert not torn and w.numpy()[0, 0] == 2.0 ** 103


def test_a_failing_call_keeps_the_state():
    net, step = training()
    weight = stepped(net, step)
    before = weight.numpy().copy()
    with pytest.raises(jtc.InputError):
        step(X, T[:5])
    np.testing.assert_array_equal(weight.numpy(), before)


# ------------------------------------------------------------------------------------------------ same numbers
OPTIMIZERS = {
    "sgd": lambda net: optim.SGD(net.parameters(), lr=0.1),
    "nesterov": lambda net: optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda net: optim.Adam(net.parameters(), lr=0.01),
    "rmsprop": lambda net: optim.RMSprop(net.parameters(), lr=0.01, momentum=0.9),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_numbers_are_those_of_separate_memory(optimizer, threads):
    found = []
    for reuse in (True, False):
        with knobs.use(threads=threads):
            net, step = training(optimizer, reuse=reuse)
            losses = [step(X, T).item() for _ in range(4)]
        found.append([*losses, *(p.numpy().copy() for p in net.state_dict().values())])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_reductions_in_blocks():
    """The sum over 4096 samples is cut into blocks: what waits between them may not lie where old weights do."""
    x, t = normal(4096, 48), normal(4096, 80, seed=1)
    weight = nn.Parameter(normal(48, 80, seed=2))

    @jtc.jit
    def step(x, t):
        error = x @ weight - t
        weight.assign(weight * 0.9 - (x.mT @ error) * 1e-4)

    for _ in range(4):
        before = weight.numpy().astype(np.float64)
        place = address(weight)
        step(x, t)
        expected = before * 0.9 - x.T.astype(float) @ (x @ before - t) * 1e-4
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert address(weight) == place


# ------------------------------------------------------------------------------------------------ programs
def test_steps_in_one_program_share_the_place_of_the_last():
    _, steps = training(lambda net: optim.SGD(net.parameters(), lr=0.1), unroll=3)
    given = np.stack([X] * 3), np.stack([T] * 3)
    report = jtc.explain(steps, *given)
    written = [w for k in report.kernels for w in k.writes if "tensor<40x24x" in w]
    assert len(written) == 3 and all("over" in w for w in written)
    steps(*given)
    module, = steps.runnables
    weights = [b for b in module.plan.buffers if b.shape == [40, 24] and b.kind == "output"]
    assert len(weights) == 3 and len({b.place for b in weights}) == 1


def test_an_old_value_that_is_needed_later_is_kept():
    """What is returned depends on old and new values: they cannot be in one place."""
    w = nn.Parameter(normal(40, 40))

    @jtc.jit
    def step():
        old = w * 1.0
        w.assign(jtc.tanh(w) @ w)
        return w @ old + old

    for _ in range(3):
        before = w.numpy().copy()
        found = step()
        after = np.tanh(before) @ before
        np.testing.assert_allclose(w.numpy(), after, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.numpy(), after @ before + before, rtol=1e-3, atol=1e-3)
        w.assign(normal(40, 40))


# ------------------------------------------------------------------------------------------------ one kernel
def update(**changes) -> Kernel:
    """new[i, j] = old[i, j] - sum of x[k, i] * y[k, j]."""
    x, y, old = (access(*a) for a in (("x", F32, (4, 8), "k, i"), ("y", F32, (4, 6), "k, j"),
                                      ("old", F32, (8, 6), "i, j")))
    stage = Stage("s0", axes("i:8 j:6 k:4r"), (x, y, old), fn("mul", read(0, F32), read(1, F32)),
                  access("new", F32, (8, 6), "i, j"), "add", fn("sub", read(2, F32), acc(F32)))
    return Kernel("k", (replace(stage, **changes),))


def test_a_kernel_may_write_over_what_it_reads_at_the_same_element():
    assert refusal(update(), "new", "old") == ""
    flat = update(write=access("new", F32, (48,), "6*i + j"))
    assert refusal(flat, "new", "old") == ""


x, y, moved = (access(*a) for a in (("x", F32, (4, 8), "k, i"), ("y", F32, (4, 6), "k, j"),
                                    ("old", F32, (6, 8), "j, i")))
same_place = access("old", F32, (8, 6), "i, j")
REFUSED = {
    "at other elements": update(reads=(x, y, moved)),
    "before the reduction is finished": update(body=fn("mul", fn("add", read(0, F32), read(2, F32)), read(1, F32))),
    "is copied before": update(schedule=Schedule("j", 4, (("i", 1), ("j", 4)), ("k",),
                                                 packs=(Pack(2, ("j", 4), ("i", "j")),))),
    "several stages": replace(update(), stages=(
        *update().stages, Stage("s1", axes("i:8 j:6"), (same_place,), read(0, F32),
                                access("other", F32, (8, 6), "i, j")))),
    "lives inside of the kernel": replace(update(), locals=(Local("old", TensorType(F32, (8, 6))),)),
    "does not read": update(reads=(x, y, access("older", F32, (8, 6), "i, j"))),
    "a scan write while": Kernel("k", (Stage("s0", axes("i:8 j:6r"), (same_place,), fn("add", acc(F32), read(0, F32)),
                                             access("new", F32, (8, 6), "i, j"), "add", scan=True),)),
    "runs again": replace(update(), shared=((axes("n:3")[0], 1),)),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_a_kernel_may_not_write_over(why):
    assert why in refusal(REFUSED[why], "new", "old")
