"""The knobs that switch optimisations off: programs stay what they were, and the optimisation is gone."""
from __future__ import annotations

import numpy as np
import pytest

import jtc
from jtc.compiler.driver import compile_graph
from jtc.dialects.errors import UsageError
from jtc.nn import functional as F
from jtc.runtime import knobs
from jtc.runtime.module import load_module

rng = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


PROGRAMS = {
    "linear": (lambda x, w, b: jtc.gelu(F.linear(x, w, b)), (normal(33, 40), normal(24, 40), normal(24))),
    "product of transposed": (lambda a, b: a.mT @ b.mT, (normal(40, 17), normal(19, 40))),
    "convolution": (lambda x, w: jtc.relu(F.conv2d(x, w, stride=2, padding=1)),
                    (normal(2, 5, 13, 13), normal(6, 5, 3, 3))),
    "depthwise": (lambda x, w: F.conv2d(x, w, padding=1, groups=4), (normal(2, 4, 9, 9), normal(4, 1, 3, 3))),
    "transposed convolution": (lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1),
                               (normal(2, 4, 5, 5), normal(4, 3, 4, 4))),
    "softmax": (lambda x: jtc.softmax(x, axis=-1), (normal(20, 33),)),
    "batch_norm": (lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True),
                   (normal(4, 5, 6, 7), normal(5), normal(5))),
    "gradient": (jtc.grad(lambda w, x: jtc.sum(jtc.tanh(F.conv2d(x, w, padding=1)))),
                 (normal(6, 4, 3, 3), normal(2, 4, 9, 9))),
    "max_pool and its gradient": (jtc.grad(lambda x: jtc.sum(F.max_pool2d(x, 3, 2, 1) ** 2)), (normal(1, 2, 9, 9),)),
}
SWITCHES = ({"fusion": "elementwise"}, {"fusion": "none"}, {"packing": False}, {"reuse": False}, {"strict": True},
            {"fusion": "none", "packing": False, "reuse": False, "strict": True})


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda s: ",".join(s))
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_result_stays(name, switch):
    function, arrays = PROGRAMS[name]
    with knobs.use(backend="reference"):
        want = np.asarray(jtc.jit(function)(*arrays))
    with knobs.use(**switch):
        got = np.asarray(jtc.jit(function)(*arrays))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def kernels(function, *arrays: np.ndarray, **switch) -> list:
    with knobs.use(**switch):
        return jtc.explain(function, *arrays).kernels


def test_fusion_has_three_levels():
    function, arrays = PROGRAMS["softmax"]
    assert [len(kernels(function, *arrays, fusion=level)) for level in ("full", "elementwise", "none")] == [1, 4, 6]
    # One for the product, one for each of the five operations behind it; bias and products are read where they lie.
    function, arrays = PROGRAMS["linear"]
    found = kernels(function, *arrays, fusion="none")
    assert [k.ops.count("mul") for k in found if "reduce" in k.ops] == [1]
    assert all(len({*k.ops} - {"broadcast", "reindex", "transpose", "reshape", "mul", "reduce"}) <= 1 for k in found)


def test_packing_off_copies_nothing():
    for name in ("convolution", "product of transposed", "gradient"):
        function, arrays = PROGRAMS[name]
        copying = [k for k in kernels(function, *arrays) if k.copies or "copy of" in str(k.stages)]
        plain = [k for k in kernels(function, *arrays, packing=False) if k.copies or "copy of" in str(k.stages)]
        assert not plain, name
        assert copying or name == "product of transposed"
        # what is left is vector code, not the scalar code of the last resort
        assert all("scalar" not in s.schedule for k in kernels(function, *arrays, packing=False) for s in k.stages)


def test_reuse_off_gives_every_value_a_place():
    def chain(x):
        for _ in range(4):
            x = jtc.softmax(x @ x, axis=0)
        return x
    graph = jtc.jit(chain).graph(normal(64, 64))
    arena = [load_module(compile_graph(graph, reuse=reuse)).plan.arena_bytes for reuse in (True, False)]
    assert arena[0] < arena[1]


def test_values_are_checked():
    with pytest.raises(UsageError, match="fusion='some' is not valid"), knobs.use(fusion="some"):
        pass
