"""Several steps as one program."""
from __future__ import annotations

import numpy as np
import pytest
from example_programs import example
from frontend_checks import normal, same

import jtc
from jtc import nn, optim
from jtc.runtime import knobs

pytestmark = pytest.mark.usefixtures("backend")


def training(unroll: int | None):
    """A step, and everything it changes."""
    jtc.random.seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 1))
    opt = optim.Adam(net.parameters(), lr=0.05)

    def step(x, t, scale=1.0):
        loss = nn.functional.mse_loss(net(x), t) * scale
        opt.step(loss)
        return {"loss": loss, "scale": scale}

    return net, jtc.jit(step, unroll=unroll)


def test_state_goes_from_step_to_step():
    x, t = normal(6, 8, 3), normal(6, 8, 1, seed=1)
    one, step = training(None)
    losses = [step(x[k], t[k])["loss"].numpy() for k in range(6)]
    three, steps = training(3)
    found = [steps(x[k:k + 3], t[k:k + 3]) for k in (0, 3)]
    same(jtc.concat([f["loss"] for f in found]), np.array(losses), rtol=1e-5)
    assert found[0]["scale"] == 1.0 and steps.compiles == 1
    for (name, a), (_, b) in zip(one.state_dict().items(), three.state_dict().items()):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_example_measures():
    with knobs.use(backend="compiled"):
        found = example("unroll").measure([1, 2], rounds=1)
    assert list(found) == [1, 2] and all(0 < each < 60_000 for each in found.values())


def test_what_is_refused():
    _, steps = training(3)
    with pytest.raises(jtc.InputError, match=r"argument 0 of shape \(2, 8, 3\) does not hold 3 calls"):
        steps(normal(2, 8, 3), normal(3, 8, 1))
    with pytest.raises(jtc.InputError, match="at least 1, got 0"):
        jtc.jit(lambda x: x, unroll=0)
    for different in ([1, (1, 2)], [(1, 2), [1, 2]]):
        results = iter(different)
        with pytest.raises(jtc.InputError, match="results of different forms"):
            jtc.jit(lambda x, results=results: next(results), unroll=2)(normal(2))


def test_a_step_and_the_next_are_one_program():
    """The first step's update stays inside: only the last parameters are results."""
    weight = nn.Parameter(normal(16, 16))
    opt = optim.SGD([weight], lr=0.1)

    def step(x):
        loss = jtc.mean((x @ weight) ** 2)
        opt.step(loss)
        return loss

    report = jtc.explain(jtc.jit(step, unroll=4), normal(4, 8, 16))
    assert sum("dot" in k.name for k in report.kernels) == 8
    assert 0 < report.distinct < len(report.kernels) and f"{report.distinct} of " in str(report)
    updated = [w for k in report.kernels for w in k.writes if "16x16" in w]
    assert len(updated) == 4 and all(" over " in w for w in updated)        # all in the place of the parameter
    assert [w for k in report.kernels for w in k.writes if w.startswith("out")] and report.memory > 0


def test_an_update_and_the_next_step_share_a_kernel():
    """Where that is asked for; then the same numbers, bit for bit, and parameters in the same place."""
    def steps(**options):
        jtc.random.seed(0)
        net = nn.Sequential(nn.Linear(40, 456), nn.ReLU(), nn.Linear(456, 3))
        opt = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

        def step(x, t):
            loss = nn.functional.mse_loss(net(x), t)
            opt.step(loss)
            return loss

        return net, jtc.jit(step, unroll=3, **options)

    batches = normal(3, 24, 40), normal(3, 24, 3, seed=1)
    (net, apart), (other, joined) = steps(carry=False), steps(carry=True)
    for _ in range(2):
        np.testing.assert_array_equal(apart(*batches).numpy(), joined(*batches).numpy())
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    with knobs.use(carry=True):
        report = jtc.explain(steps()[1], *batches)
    both = [k for k in report.kernels if sum(" over " in w and "456x40" in w for w in k.writes) and len(k.stages) == 2]
    assert len(both) == 2 and "i0:456 by 56" in str(report)
    assert not [w for k in report.kernels for w in k.writes if "456x40" in w and " over " not in w]
