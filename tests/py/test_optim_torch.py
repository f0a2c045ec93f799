"""Optimisers and schedules beside their PyTorch twins: 20 steps from the same start by the same gradients."""
from __future__ import annotations

import numpy as np
import pytest
from frontend_checks import normal

import jtc
from jtc import nn, optim

torch = pytest.importorskip("torch", reason="torch is not installed: optimisers are not compared with PyTorch")
pytestmark = pytest.mark.usefixtures("backend")

OPTIMISERS = [
    ("SGD", {"lr": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9}), ("SGD", {"lr": 0.1, "maximize": True}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "lr": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.01}), ("Adam", {"lr": 0.01, "betas": (0.5, 0.9), "weight_decay": 0.1, "eps": 1e-4}),
    ("Adam", {"amsgrad": True}), ("AdamW", {"lr": 0.01, "weight_decay": 0.1}), ("AdamW", {"amsgrad": True}),
    ("RMSprop", {}), ("RMSprop", {"momentum": 0.9, "centered": True, "weight_decay": 0.01}),
    ("RMSprop", {"alpha": 0.5}),
    ("Adagrad", {}), ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.1}),
]
SHAPES = ((3, 4), (5,), ())


def pair(name, options):
    """Ours and PyTorch's, and the parameters of each."""
    start = [normal(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    ours, theirs = [nn.Parameter(a) for a in start], [torch.nn.Parameter(torch.tensor(a)) for a in start]
    return getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options), ours, theirs


def both_step(ours, theirs, params, seed):
    gradients = [normal(*shape, seed=100 + seed * 10 + i) for i, shape in enumerate(SHAPES)]
    ours.update(gradients)
    for p, g in zip(params, gradients):
        p.grad = torch.tensor(g)
    theirs.step()


def agree(ours, theirs, rtol=2e-6):
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name,options", OPTIMISERS, ids=str)
def test_twenty_steps(name, options):
    ours, theirs, our_params, their_params = pair(name, options)
    for seed in range(20):
        both_step(ours, theirs, their_params, seed)
        agree(our_params, their_params, 2e-6 * (1 + seed))
    rows, their_rows = ours.state_dict()["state"], theirs.state_dict()["state"]
    assert {n: set(row) for n, row in rows.items()} == \
        {n: {k for k, v in row.items() if v is not None} for n, row in their_rows.items() if any(
            v is not None for v in row.values())}
    for number, row in rows.items():
        for key, value in row.items():
            np.testing.assert_allclose(value.numpy(), np.asarray(their_rows[number][key]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name,options", OPTIMISERS, ids=str)
def test_state_dicts_go_both_ways(name, options):
    ours, theirs, our_params, their_params = pair(name, options)
    for seed in range(3):
        both_step(ours, theirs, their_params, seed)
    saved = theirs.state_dict()
    fresh = getattr(optim, name)(our_params, **{**options, "lr": 0.5})
    fresh.load_state_dict(saved)
    assert fresh.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
    for seed in range(3, 6):
        both_step(fresh, theirs, their_params, seed)
        agree(our_params, their_params, 1e-5)
    for number, row in fresh.state_dict()["state"].items():
        for key, value in row.items():
            expected = np.asarray(theirs.state_dict()["state"][number][key])
            np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-5)
    theirs.load_state_dict(fresh.state_dict() | {"state": {
        number: {key: torch.tensor(value.numpy()) for key, value in row.items()}
        for number, row in fresh.state_dict()["state"].items()}})
    both_step(fresh, theirs, their_params, 6)
    agree(our_params, their_params, 1e-5)


SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}), ("MultiStepLR", {"milestones": [2, 5, 5]}),
    ("ExponentialLR", {"gamma": 0.8}),
    ("ConstantLR", {}), ("LinearLR", {"start_factor": 0.1, "total_iters": 6}), ("PolynomialLR", {"power": 2.0}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}), ("LambdaLR", {"lr_lambda": lambda epoch: 1 / (1 + epoch)}),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": 13}),
    ("OneCycleLR", {"max_lr": [0.3, 0.1], "total_steps": 13, "anneal_strategy": "linear", "pct_start": 0.5}),
]


@pytest.mark.parametrize("name,options", SCHEDULES, ids=[f"{i}-{row[0]}" for i, row in enumerate(SCHEDULES)])
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_schedules(name, options, kind):
    x, y = normal(3), normal(2)
    extra = {"momentum": 0.9} if kind == "SGD" else {}
    ours, theirs = (getattr(library, kind)([{"params": [make(x)]}, {"params": [make(y)], "lr": 0.5}], lr=0.2, **extra)
                    for library, make in ((optim, nn.Parameter),
                                          (torch.optim, lambda a: torch.nn.Parameter(torch.tensor(a)))))
    a = getattr(optim.lr_scheduler, name)(ours, **options)
    b = getattr(torch.optim.lr_scheduler, name)(theirs, **options)
    option = "momentum" if kind == "SGD" else "betas"
    for _ in range(12):
        np.testing.assert_allclose(a.get_last_lr(), b.get_last_lr(), rtol=1e-12, atol=1e-15)
        for mine, their in zip(ours.param_groups, theirs.param_groups):
            np.testing.assert_allclose(mine[option], their[option], rtol=1e-12)
        theirs.step()
        a.step(), b.step()


def test_reduce_on_plateau():
    ours, theirs, _, _ = pair("SGD", {"lr": 0.1})
    options = {"factor": 0.5, "patience": 1, "cooldown": 1, "min_lr": 0.01}
    a = optim.lr_scheduler.ReduceLROnPlateau(ours, **options)
    b = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    for value in (3, 2, 2, 2, 2, 2, 1, 1.5, 1.2, 1.2, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1):
        a.step(value), b.step(value)
        assert a.get_last_lr() == pytest.approx(b.get_last_lr())


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
def test_clipping(norm_type):
    gradients = [normal(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    params = [torch.nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    for limit in (0.5, 100.0):
        for p, g in zip(params, gradients):
            p.grad = torch.tensor(g)
        clipped, norm = optim.clip_grad_norm([jtc.array(g) for g in gradients], limit, norm_type)
        expected = torch.nn.utils.clip_grad_norm_(params, limit, norm_type)
        np.testing.assert_allclose(norm.item(), expected.item(), rtol=1e-5)
        agree(clipped, [p.grad for p in params], 1e-5)
        for p, g in zip(params, gradients):
            p.grad = torch.tensor(g)
        torch.nn.utils.clip_grad_value_(params, limit)
        agree(optim.clip_grad_value([jtc.array(g) for g in gradients], limit), [p.grad for p in params])
