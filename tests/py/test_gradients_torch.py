"""First and second derivatives of functions beside PyTorch's, in float64, ties among them."""
from __future__ import annotations

import numpy as np
import pytest
from frontend_checks import normal

import jtc
from jtc.nn import functional as F

torch = pytest.importorskip("torch", reason="torch is not installed: derivatives are not compared with PyTorch")
T = torch.nn.functional
pytestmark = pytest.mark.usefixtures("backend")

# ours, PyTorch's, shapes of the arguments
CASES = {
    "softmax": (lambda x: jtc.softmax(x, axis=1), lambda x: torch.softmax(x, 1), [(3, 5)]),
    "log_softmax": (lambda x: jtc.log_softmax(x, axis=0), lambda x: torch.log_softmax(x, 0), [(3, 5)]),
    "logsumexp": (lambda x: jtc.logsumexp(x, axis=1), lambda x: torch.logsumexp(x, 1), [(3, 5)]),
    "gelu": (jtc.gelu, T.gelu, [(3, 5)]), "silu": (jtc.silu, T.silu, [(7,)]), "elu": (F.elu, T.elu, [(3, 5)]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, 5, w, b), lambda x, w, b: T.layer_norm(x, (5,), w, b),
                   [(3, 5), (5,), (5,)]),
    "batch_norm": (lambda x, w: F.batch_norm(x, None, None, w, None, training=True),
                   lambda x, w: T.batch_norm(x, None, None, w, None, True), [(4, 3, 2), (3,)]),
    "conv2d": (lambda x, w: F.conv2d(x, w, stride=2, padding=1), lambda x, w: T.conv2d(x, w, stride=2, padding=1),
               [(1, 2, 5, 6), (3, 2, 3, 2)]),
    "grouped conv2d": (lambda x, w: F.conv2d(x, w, dilation=2, groups=2),
                       lambda x, w: T.conv2d(x, w, dilation=2, groups=2), [(2, 4, 5, 5), (2, 2, 3, 2)]),
    "conv_transpose2d": (lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1),
                         lambda x, w: T.conv_transpose2d(x, w, stride=2, padding=1), [(1, 2, 3, 3), (2, 3, 3, 2)]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x * x, 3, 2, 1), lambda x: T.avg_pool2d(x * x, 3, 2, 1), [(1, 2, 5, 5)]),
    "attention": (lambda q, k, v: jtc.softmax(q @ k.mT) @ v, lambda q, k, v: torch.softmax(q @ k.mT, -1) @ v,
                  [(2, 3, 4), (2, 5, 4), (2, 5, 2)]),
    "einsum": (lambda x, y: jtc.einsum("ij,jk,kl->il", x, y, x), lambda x, y: torch.einsum("ij,jk,kl->il", x, y, x),
               [(3, 4), (4, 3)]),
    "prod": (lambda x: jtc.prod(x, axis=1), lambda x: torch.prod(x, 1), [(3, 5)]),
    "std": (lambda x: jtc.std(x, axis=0, correction=1), lambda x: torch.std(x, 0), [(4, 3)]),
    "take": (lambda x: jtc.take(x * x, ROWS, axis=0), lambda x: (x * x)[torch.tensor(ROWS)], [(4, 3)]),
    "largest": (lambda x: jtc.max(x * x, axis=1), lambda x: torch.amax(x * x, 1), [(3, 5)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, LABELS), lambda x: T.cross_entropy(x, torch.tensor(LABELS)),
                      [(4, 5)]),
}
ROWS, LABELS = np.array([2, 0, 2, 3]), np.array([4, 0, 0, 2])


def both(name: str, arrays: list[np.ndarray]):
    """First and second derivatives in a direction: ours, PyTorch's."""
    ours, theirs, _ = CASES[name]
    numbers = tuple(range(len(arrays)))
    given = [torch.tensor(a, requires_grad=True) for a in arrays]
    result = theirs(*given)
    weights = normal(*result.shape, dtype=np.float64, seed=5)
    directions = [normal(*a.shape, dtype=np.float64, seed=6 + k) for k, a in enumerate(arrays)]
    first = torch.autograd.grad((result * torch.tensor(weights)).sum(), given, create_graph=True)
    along = sum((g * torch.tensor(d)).sum() for g, d in zip(first, directions))
    second = torch.autograd.grad(along, given, allow_unused=True)

    def gradient(*xs):
        return jtc.grad(lambda *ys: jtc.sum(ours(*ys) * weights), numbers)(*xs)

    def slope(*xs):
        return sum(jtc.sum(g * d) for g, d in zip(gradient(*xs), directions))

    found = [*jtc.jit(gradient)(*arrays), *jtc.jit(jtc.grad(slope, numbers))(*arrays)]
    return found, [*first, *(torch.zeros_like(x) if g is None else g for g, x in zip(second, given))]


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name):
    for one, other in zip(*both(name, [normal(*s, dtype=np.float64, seed=k) for k, s in enumerate(CASES[name][2])])):
        np.testing.assert_allclose(one.numpy(), other.detach().numpy(), rtol=1e-9, atol=1e-10)


def test_ties():
    """amax shares among equals, maximum halves, relu and abs have 0 at 0, clamp takes its limits in."""
    x = np.array([[2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    for ours, theirs in ((lambda x: jtc.max(x, axis=1), lambda x: torch.amax(x, 1)),
                         (lambda x: jtc.min(jtc.abs(x), axis=1), lambda x: torch.amin(torch.abs(x), 1)),
                         (lambda x: jtc.maximum(x, 0.0 * x), lambda x: torch.maximum(x, 0.0 * x)),
                         (jtc.relu, torch.relu),
                         (lambda x: jtc.clip(x, 0, 1), lambda x: torch.clamp(x, 0, 1)), (F.relu6, T.relu6),
                         (F.leaky_relu, T.leaky_relu), (F.elu, T.elu), (F.hardsigmoid, T.hardsigmoid)):
        given = torch.tensor(x, requires_grad=True)
        theirs(given).sum().backward()
        found = jtc.grad(lambda x, f=ours: jtc.sum(f(x)))(x)
        np.testing.assert_allclose(found.numpy(), given.grad.numpy(), rtol=1e-7)      # its 1/6 is a float32
