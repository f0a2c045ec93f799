"""Kernels that do the same to parts of one buffer are compiled once."""
from __future__ import annotations

import numpy as np
from frontend_checks import normal, same

import jtc
from jtc.compiler import phases
from jtc.compiler.driver import settings_for
from jtc.dialects.reference import run_kernel
from jtc.passes.canonical import canonical, on_parts


def kernels(function, *args):
    program = phases.advance(jtc.jit(function).graph(*args), "graph", "schedule", settings_for("cpu"))
    return program, [canonical(on_parts(k)[0])[0] for k in program.kernels]


def steps(x, w):
    """A loop over rows of x, each multiplied and squashed."""
    return jtc.scan(lambda h, row: (jtc.tanh(h @ w + row), jtc.sum(h)), jtc.zeros((4, 8)), x)


def test_steps_of_a_loop_share_kernels():
    x, w = normal(20, 4, 8), normal(8, 8, seed=1)
    _, forms = kernels(steps, x, w)
    assert len(forms) > 20 and len(set(forms)) < 10
    last, sums = jtc.jit(steps)(x, w)
    h, expected = np.zeros((4, 8), np.float32), []
    for row in x:
        expected.append(h.sum())
        h = np.tanh(h @ w + row)
    same(last, h, 1e-4)
    same(sums, np.array(expected), 1e-4)


def test_parts_of_inputs_weights_and_results():
    """Of inputs, of weights that are bound once, of values between kernels; each kernel starts at its own place."""
    table = normal(6, 300)

    def function(x):
        y = jtc.cumulative_sum(x, axis=1)               # a buffer between kernels
        return [jtc.sum(jtc.exp(y[k]) * x[k] + jtc.array(table)[5 - k]) for k in range(6)]

    x = normal(6, 300, seed=1) / 100
    for got, k in zip(jtc.jit(function)(x), range(6)):
        same(got, np.sum(np.exp(np.cumsum(x, axis=1)[k]) * x[k] + table[5 - k], dtype=np.float32), 1e-4)


def test_meaning_of_a_kernel_on_parts():
    x = normal(5, 7)
    program, _ = kernels(lambda x: x[2] * 2 + x[3], x)
    kernel, = program.kernels
    part, parts = on_parts(kernel)
    assert [(p.offset, p.type.shape) for p in parts.values()] == [(2 * 7 * 4, (2, 7))]
    buffers = {program.inputs[0]: np.ascontiguousarray(x[2:4])}
    run_kernel(part, buffers)
    np.testing.assert_allclose(buffers[program.outputs[0]], x[2] * 2 + x[3], rtol=1e-6)
    whole, = kernels(lambda x: x[0] + x[4], x)[0].kernels
    assert on_parts(whole) == (whole, {})

