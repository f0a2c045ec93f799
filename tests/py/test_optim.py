"""Optimisers: groups, schedules, clipping, state; what compiles again and what does not; what is refused."""
from __future__ import annotations

import numpy as np
import pytest
from frontend_checks import normal, same

import jtc
from jtc import nn, optim
from jtc.dialects.errors import TraceError

pytestmark = pytest.mark.usefixtures("backend")


def quadratic(*shapes):
    """Parameters, and a function that gives the sum of their squares: the gradient of p is 2 p."""
    params = [nn.Parameter(normal(*shape, seed=i)) for i, shape in enumerate(shapes)]
    return params, lambda: sum(jtc.sum(p * p) for p in params)


def test_a_step_and_its_groups():
    (a, b, frozen), loss = quadratic((3,), (2, 2), (4,))
    before = [p.numpy() for p in (a, b, frozen)]
    frozen.requires_grad = False
    opt = optim.SGD([{"params": [a, frozen]}, {"params": b, "lr": 0.25}], lr=0.1)
    opt.step(loss())
    same(a, before[0] - np.float32(0.1) * 2 * before[0])
    same(b, before[1] - np.float32(0.25) * 2 * before[1])
    same(frozen, before[2])


def test_options_are_inputs_of_a_compiled_step():
    (p,), loss = quadratic((3,))
    opt = optim.Adam([p], lr=0.1)
    schedule = optim.lr_scheduler.StepLR(opt, step_size=1, gamma=0.5)

    @jtc.jit
    def step():
        opt.step(loss())

    for _ in range(3):
        before = p.numpy()
        step()
        np.testing.assert_array_less(np.abs(p.numpy() - before), opt.param_groups[0]["lr"] * 1.01)
        schedule.step()
    assert step.compiles == 1 and opt.param_groups[0]["lr"] == pytest.approx(0.0125)
    opt.param_groups[0]["weight_decay"] = 0.1                  # from zero: other operations
    step()
    opt.param_groups[0]["weight_decay"] = 0.2
    step()
    assert step.compiles == 2
    with pytest.raises(TraceError, match="'lr' of an optimiser is changed while a function is traced"):
        jtc.jit(lambda: schedule.step())()


def test_clipping_in_a_step():
    (p, q), loss = quadratic((3,), (2,))
    start = np.concatenate([p.numpy(), q.numpy()])
    norm = np.linalg.norm(2 * start)
    optim.SGD([p, q], lr=1.0).step(loss(), max_norm=0.5)
    moved = start - np.concatenate([p.numpy(), q.numpy()])
    np.testing.assert_allclose(moved, 2 * start * (0.5 / (norm + 1e-6)), rtol=1e-5)
    start = p.numpy()
    optim.SGD([p], lr=1.0).step(jtc.sum(p * p), max_value=0.01)
    np.testing.assert_allclose(start - p.numpy(), np.clip(2 * start, -0.01, 0.01), rtol=1e-3, atol=1e-7)


def test_state_dict_continues_where_it_was():
    runs = []
    for interrupted in (False, True):
        (p,), loss = quadratic((4,))
        opt = optim.AdamW([p], lr=0.1)
        for n in range(6):
            if n == 3 and interrupted:
                saved, value = opt.state_dict(), p.numpy()
                (p,), loss = quadratic((4,))
                p.assign(value)
                opt = optim.AdamW([p], lr=0.5)
                opt.load_state_dict(saved)
            opt.step(loss())
        runs.append(p.numpy())
    np.testing.assert_array_equal(*runs)


def test_what_is_refused():
    (p, q), loss = quadratic((3,), (2,))
    opt = optim.SGD([p, q], lr=0.1)
    for call, message in (
            (lambda: optim.SGD(p, lr=0.1), "takes parameters in a list"), (lambda: optim.SGD([]), "got no parameters"),
            (lambda: optim.SGD([jtc.ones(3)]), "changes nn.Parameter, got Tensor"),
            (lambda: optim.SGD([p, p]), "is given to SGD twice"), (lambda: optim.SGD([p], lr=-1.0), "lr -1.0"),
            (lambda: optim.SGD([p], nesterov=True), "nesterov needs a momentum"),
            (lambda: optim.Adam([p], betas=(0.9, 1.0)), "beta 1.0"),
            (lambda: optim.Adam([p], betas=0.9), "two numbers"),
            (lambda: optim.SGD([{"params": [p], "speed": 3}]), "has no option 'speed'"),
            (lambda: optim.SGD([{"lr": 3}]), "a parameter group has 'params'"),
            (lambda: opt.update([np.zeros(3, np.float32)]), "1 gradients for 2 parameters"),
            (lambda: opt.update([np.zeros(2, np.float32), np.zeros(2, np.float32)]), r"gradient of shape \(2,\)"),
            (lambda: opt.load_state_dict({}), "not the state dict of an optimiser"),
            (lambda: opt.load_state_dict(optim.SGD([p]).state_dict()), r"groups of \[1\] parameters"),
            (lambda: opt.step(p * 1.0), "gradient of a non-scalar"),
            (lambda: optim.clip_grad_norm([], 1.0), "got no gradients"),
            (lambda: optim.clip_grad_value([p], -1.0), "clip_value -1.0"),
            (lambda: optim.lr_scheduler.StepLR(p, 3), "a schedule takes an optimiser"),
            (lambda: optim.lr_scheduler.StepLR(opt, 0), "step_size 0\n.*\n  hint: step_size is at least 1"),
            (lambda: optim.lr_scheduler.LinearLR(opt, total_iters=0), "total_iters 0"),
            (lambda: optim.lr_scheduler.PolynomialLR(opt, total_iters="5"), "total_iters '5'"),
            (lambda: optim.lr_scheduler.CosineAnnealingLR(opt, -1), "T_max -1")):
        with pytest.raises(jtc.InputError, match=message):
            call()
    with pytest.raises(TraceError, match="SGD cannot be made while a function is traced"):
        jtc.jit(lambda: optim.SGD([p]))()
    assert loss().item() > 0


def test_base_classes_say_what_is_missing():
    p = nn.Parameter(np.zeros(2, np.float32))
    with pytest.raises(TypeError, match="Optimizer .*update_parameter"):
        optim.Optimizer([p], {})
    with pytest.raises(TypeError, match="LRScheduler .*rate_of"):
        optim.lr_scheduler.LRScheduler(optim.SGD([p]))


def test_a_step_where_everything_is_frozen():
    frozen = nn.Parameter(np.ones(2, np.float32), requires_grad=False)
    opt, scaler = optim.SGD([frozen], lr=0.1), optim.GradScaler(8.0)
    opt.step(jtc.sum(frozen * 2), max_norm=1.0)
    scaler.step(opt, jtc.sum(frozen * 2))
    assert frozen.numpy().tolist() == [1, 1] and scaler.get_scale() == 8.0


def test_one_cycle_whose_rise_is_one_step():
    opt = optim.SGD([nn.Parameter(np.ones(2, np.float32))], momentum=0.9)
    schedule = optim.lr_scheduler.OneCycleLR(opt, 0.1, 10, pct_start=0.1)
    assert schedule.get_last_lr() == [0.1]
    schedule.step()
    assert schedule.get_last_lr()[0] < 0.1
