"""grad, vjp, jvp, vmap, jacobians and custom gradients: what they take, how they compose, what they refuse."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from derivatives import check
from frontend_checks import normal, same

import jtc
from jtc import nn
from jtc.dialects.errors import TraceError

pytestmark = pytest.mark.usefixtures("backend")


def cube(x):
    return jtc.sum(x * x * x)


class Pair(NamedTuple):
    a: object
    b: object


def test_containers_and_several_arguments():
    def f(params, x, pair):
        return jtc.sum(params["w"] * x) * params["layers"][0] + jtc.sum(pair.a) * pair.b

    x, w = normal(3), normal(3, seed=1)
    params, pair = {"w": jtc.array(w), "layers": [2.0, "name"], "none": None}, Pair(jtc.array(x), 3.0)
    value, (by_params, by_x, by_pair) = jtc.value_and_grad(f, (0, 1, 2))(params, x, pair)
    same(value, (w * x).sum() * np.float32(2) + x.sum() * np.float32(3), rtol=1e-5)
    same(by_params["w"], 2 * x)
    same(by_params["layers"][0], (w * x).sum(), rtol=1e-5)
    assert by_params["layers"][1] is None and by_params["none"] is None
    same(by_x, 2 * w)
    same(by_pair.a, np.full(3, 3, np.float32))
    same(jtc.grad(f, argnums=-2)(params, x, pair), 2 * w)


def test_modules():
    """Gradients by parameter name, of a module as an argument and of one that is captured."""
    net, x = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)), normal(5, 3)
    loss = jtc.value_and_grad(lambda net, x: jtc.sum(net(x) ** 2))
    value, found = loss(net, x)
    assert list(found) == [name for name, _ in net.named_parameters()]
    captured = jtc.gradients(jtc.sum(net(x) ** 2), list(net.parameters()))
    jitted = jtc.jit(jtc.grad(lambda net, x: jtc.sum(net(x) ** 2)))(net, x)
    for (name, g), other in zip(found.items(), captured):
        same(other, g.numpy(), rtol=1e-5)
        same(jitted[name], g.numpy(), rtol=1e-5)
    net[0].weight.requires_grad_(False)
    assert "0.weight" not in loss(net, x)[1]


def test_auxiliary_results():
    def f(x):
        return cube(x), {"twice": x * 2, "n": 7}

    x = jtc.array(normal(3))
    gradient, rest = jtc.grad(f, has_aux=True)(x)
    same(gradient, 3 * x.numpy() ** 2)
    same(rest["twice"], 2 * x.numpy())
    assert rest["n"] == 7
    _, pullback, rest = jtc.vjp(f, x, has_aux=True)
    same(pullback(2.0)[0], 6 * x.numpy() ** 2)
    assert jtc.value_and_grad(f, has_aux=True)(x)[0][1]["n"] == 7


def test_what_a_function_closes_over_is_a_constant():
    x = jtc.array(normal(3))
    same(jtc.grad(lambda z: jtc.sum(z * x))(x), x.numpy())
    same(jtc.grad(lambda y: jtc.grad(lambda z: jtc.sum(z * y * y))(x)[0])(x)[:1], 2 * x.numpy()[:1])


def test_every_order_and_place_of_jit():
    x = jtc.array(normal(3))
    expected = 6 * x.numpy()
    for f in (jtc.grad(lambda x: jtc.sum(jtc.grad(cube)(x))), jtc.jit(jtc.grad(lambda x: jtc.sum(jtc.grad(cube)(x)))),
              jtc.grad(jtc.jit(lambda x: jtc.sum(jtc.grad(jtc.jit(cube))(x)))),
              lambda x: jtc.vmap(jtc.grad(jtc.grad(lambda a: a * a * a)))(x),
              jtc.grad(lambda x: jtc.sum(jtc.vmap(jtc.grad(lambda a: a ** 3))(x))),
              lambda x: jtc.jvp(jtc.grad(cube), (x,), (jtc.ones(3),))[1],
              lambda x: jtc.sum(jtc.hessian(cube)(x), axis=0),
              lambda x: jtc.sum(jtc.jacrev(jtc.jit(jtc.jacfwd(cube)))(x), axis=1),
              lambda x: jtc.vjp(lambda x: jtc.jvp(cube, (x,), (jtc.ones(3),))[1], x)[1](1.0)[0]):
        same(f(x), expected, rtol=1e-5)


def test_third_order():
    check(lambda x: jtc.grad(lambda y: jtc.sum(jtc.sin(y) * y))(x), normal(4))


def test_values_may_be_read_inside():
    """Outside of jit: a branch on a value that has been computed does not cut the gradient."""
    def f(x):
        y = x * x
        while jtc.sum(y) < 100:
            y = y * 3
        return jtc.sum(y)

    x = jtc.array(np.array([1.0, 2.0], np.float32))
    same(jtc.grad(f)(x), 27 * 2 * x.numpy())
    with pytest.raises(TraceError, match="which is traced: it is not known"):
        jtc.jit(jtc.grad(f))(x)


def test_vjp_and_jvp():
    def f(x, y):
        return {"product": x * y, "sum": jtc.sum(x), "count": 3, "index": jtc.argmax(x)}

    x, y = jtc.array(normal(3)), jtc.array(normal(3, seed=1))
    result, pullback = jtc.vjp(f, x, y)
    assert result["count"] == 3
    gx, gy = pullback({"product": jtc.ones(3), "sum": 2.0, "count": None, "index": None})
    same(gx, y.numpy() + 2)
    same(gy, x.numpy())
    value, slope = jtc.jvp(f, (x, y), (jtc.ones(3), jtc.zeros(3)))
    same(slope["product"], y.numpy())
    same(slope["sum"], np.float32(3))
    assert slope["index"] is None and value["count"] == 3
    for wrong in (lambda: pullback(jtc.ones(3)),
                  lambda: pullback({"product": jtc.ones(4), "sum": 2.0, "count": None, "index": None}),
                  lambda: jtc.jvp(f, (x, y), (jtc.ones(3),)), lambda: jtc.jvp(f, x, y),
                  lambda: jtc.jvp(f, (x, y), (jtc.ones(2), jtc.ones(3)))):
        with pytest.raises(jtc.InputError):
            wrong()
    kept = []
    jtc.jit(lambda x: kept.append(jtc.vjp(cube, x)[1]) or x + 1)(x)
    with pytest.raises(TraceError, match="belongs to a traced function"):
        kept[0](1.0)


def test_jacobians():
    x, y = normal(2, 3, dtype=np.float64), normal(3, dtype=np.float64)

    def f(x, y):
        return {"a": x @ (y * y), "b": jtc.sum(x)}

    for jacobian in (jtc.jacobian, jtc.jacrev, jtc.jacfwd):
        found = jacobian(f, (0, 1))(x, y)
        same(found["a"][1], x * 2 * y)
        same(found["a"][0], np.einsum("ik,j->ikj", np.eye(2), y * y))
        same(found["b"][0], np.ones((2, 3)))
        same(found["b"][1], np.zeros(3))
    same(jtc.hessian(lambda y: jtc.sum(y ** 3))(y), np.diag(6 * y))


@pytest.mark.parametrize("jitted", [False, True])
def test_random_numbers_in_vmap(jitted):
    def noisy(x):
        return x + jtc.random.uniform((3,))

    def draw(randomness, f=noisy, shape=(4,)):
        jtc.random.seed(5)
        many = jtc.vmap(f, randomness=randomness)
        return (jtc.jit(many) if jitted else many)(np.zeros(shape, np.float32)).numpy()

    jtc.random.seed(5)
    one, after = noisy(0).numpy(), jtc.random.uniform(()).item()
    same, different = draw("same"), draw("different")
    assert jtc.random.uniform(()).item() == after                      # the state moves once for all examples
    np.testing.assert_array_equal(same, np.tile(one, (4, 1)))
    assert len(np.unique(different)) == 12
    np.testing.assert_array_equal(different[0], one)
    np.testing.assert_array_equal(draw("different"), different)
    with pytest.raises(jtc.InputError, match='drawn inside of vmap\n.*\n.*randomness="different"'):
        draw("error")
    with pytest.raises(jtc.InputError, match="drawn inside of vmap"):
        jtc.vmap(noisy)(np.zeros(4))

    # two levels
    for outer in ("same", "different"):
        for inner in ("same", "different"):
            drawn = draw(outer, jtc.vmap(noisy, randomness=inner), (4, 5))
            assert len(np.unique(drawn)) == 3 * (4 if outer == "different" else 1) * (5 if inner == "different" else 1)
            assert (drawn[0, 0] == one).all()
    assert draw("different", lambda x: jtc.random.normal((0, 2))).shape == (4, 0, 2)
    many = draw("different", lambda x: jtc.random.randint(0, 10, (1000,)) + x.astype(jtc.int64))
    assert abs(many.mean() - 4.5) < 0.2 and abs(np.corrcoef(many)[np.triu_indices(4, 1)]).max() < 0.12


def test_gradients_of_what_was_drawn_in_vmap():
    """The same numbers forwards and backwards, with checkpoint drawing them again."""
    layer = nn.Dropout(0.5)

    def f(x):
        return jtc.sum(layer(x * 3.0) * 1.0)

    x = np.ones((6, 20), np.float32)
    for g in (f, jtc.checkpoint(f)):
        values, slopes = jtc.vmap(jtc.value_and_grad(g), randomness="different")(x)
        np.testing.assert_allclose(slopes.numpy().sum(1), values.numpy(), rtol=1e-6)
        assert set(np.unique(slopes.numpy())) == {0, 6} and len(np.unique(slopes.numpy(), axis=0)) == 6
    values, slopes = jtc.vmap(jtc.value_and_grad(f), randomness="same")(x)
    assert len(np.unique(slopes.numpy(), axis=0)) == 1
    shared = jtc.grad(lambda s: jtc.sum(jtc.vmap(lambda x: f(x * s), randomness="different")(x)))(jtc.array(1.0))
    assert shared.item() % 6 == 0 and 240 < shared.item() < 480


def test_vmap_axes_and_containers():
    x, w = normal(4, 3), normal(3, 5, seed=1)

    def f(pair, w, n):
        return {"y": pair["x"] @ w * n, "w": w, "first": pair["x"][0]}

    out = jtc.vmap(f, in_axes=(0, None, None), out_axes={"y": 1, "w": 0, "first": 0})({"x": x}, w, 2)
    same(out["y"], (x @ w * 2).T)
    same(out["w"], np.stack([w] * 4))
    same(out["first"], x[:, 0])
    same(jtc.vmap(lambda a, b: a * b, in_axes=(1, -1))(x, x), x.T * x.T)
    same(jtc.vmap(jtc.vmap(lambda a, b: a * b, (None, 0)), (0, None))(x[0], x[1]), np.outer(x[0], x[1]))
    same(jtc.vmap(lambda i: jtc.array(x)[i])(np.array([2, 0])), x[[2, 0]])
    bias = jtc.array(normal(3))
    same(jtc.jit(jtc.vmap(lambda a: jtc.sum(a * bias)))(x), x @ bias.numpy(), rtol=1e-5)


def test_per_example_gradients():
    net, x, t = nn.Linear(3, 1), normal(6, 3), normal(6, seed=1)

    def loss(net, x, t):
        return jtc.sum((net(x) - t) ** 2)

    each = jtc.vmap(lambda x, t: jtc.grad(loss)(net, x, t))(x, t)
    residual = 2 * (net(x).numpy()[:, 0] - t)
    same(each["weight"], (residual[:, None] * x)[:, None, :], rtol=1e-5)
    same(each["bias"], residual[:, None], rtol=1e-5)


@jtc.custom_grad
def clipped(x, scale):
    return x * scale, lambda g: (jtc.clip(g, -1, 1) * scale, None)


def test_custom_gradients():
    x = jtc.array(np.array([1.0, -2.0, 3.0], np.float32))
    weights = np.array([0.5, 5.0, -7.0], np.float32)

    def total(x):
        return jtc.sum(clipped(x, 2.0) * weights)

    expected = np.array([1.0, 2.0, -2.0], np.float32)
    same(clipped(x, 2.0), 2 * x.numpy())
    for f in (jtc.grad(total), jtc.jit(jtc.grad(total)), jtc.grad(jtc.jit(total))):
        same(f(x), expected)
    pairs = jtc.vmap(jtc.grad(lambda a, w: clipped(a, 2.0) * w), (0, 0))(x, weights)
    same(pairs, expected)
    same(jtc.grad(lambda x: jtc.sum(jtc.vmap(lambda a, w: clipped(a, 2.0) * w)(x, weights)))(x), expected)
    shared = jtc.grad(lambda s: jtc.sum(jtc.vmap(lambda w: clipped(s, 2.0) * w)(weights)))(jtc.array(1.0))
    same(shared, np.float32(-2))                         # one call, so that -1.5 = the sum of the weights is limited
    with pytest.raises(jtc.InputError, match="forward mode through a custom gradient"):
        jtc.jvp(total, (x,), (jtc.ones(3),))


def test_custom_gradients_of_several_results_and_orders():
    @jtc.custom_grad
    def f(pair):
        a, b = pair
        return {"s": jtc.sin(a), "p": a * b}, lambda g: ((g["s"] * jtc.cos(a) + g["p"] * b, g["p"] * a),)

    check(lambda a, b: f((a, b))["s"] * 2 + f((a, b))["p"], normal(3), normal(3, seed=1))
    check(lambda a, b: f((a, b))["s"] * 2, normal(3), normal(3, seed=1))
    for wrong, message in ((lambda x: x, "returns a pair"), (lambda x: (x, lambda g: (g, g)), "2 gradients for 1"),
                           (lambda x: (x, lambda g: g[:1]), r"shape \(1,\) for an argument of shape \(3,\)")):
        with pytest.raises(jtc.InputError, match=message):
            jtc.grad(lambda x, wrong=wrong: jtc.sum(jtc.custom_grad(wrong)(x)))(jtc.ones(3))


def test_stop_gradient():
    x = jtc.array(normal(3))
    same(jtc.grad(lambda x: jtc.sum(x * jtc.stop_gradient(x)))(x), x.numpy())
    same(jtc.grad(lambda x: jtc.sum(x * jtc.stop_gradient({"a": x, "n": 2})["a"]))(x), x.numpy())


def test_what_is_refused():
    x, ints = jtc.array(normal(3)), jtc.arange(3)
    for call, message in (
            (lambda: jtc.grad(lambda x: x)(x), r"gradient of a non-scalar: the result of <lambda> has shape \(3,\)"),
            (lambda: jtc.grad(cube)(ints), "gradient by argument 0, which is int64"),
            (lambda: jtc.grad(cube)(3), "gradient by argument 0, which is int: 3"),
            (lambda: jtc.grad(lambda p: cube(p["w"]))({"w": ints}), "gradient by argument 0.w, which is int64"),
            (lambda: jtc.grad(jtc.argmax)(x), "gradient of an integer: the result of argmax is int64"),
            (lambda: jtc.grad(lambda x: jtc.argmax(x).astype(jtc.float32))(x), "gradient through argmax or argmin"),
            (lambda: jtc.grad(lambda x: 3.0)(x), "must be a tensor, got float"),
            (lambda: jtc.grad(cube, argnums=2)(x), "gradient by argument 2 of 1"),
            (lambda: jtc.grad(cube, has_aux=True)(x), "returns a pair"),
            (lambda: jtc.grad(5), "grad needs a function"),
            (lambda: jtc.vjp(lambda x: ints, x), "holds no float tensor"),
            (lambda: jtc.vmap(cube)(x, x, x), "different|positional"),
            (lambda: jtc.vmap(jtc.add)(x, jtc.ones(4)), "different sizes"),
            (lambda: jtc.vmap(jtc.sum)(jtc.ones(())), "no dimensions"),
            (lambda: jtc.vmap(jtc.sum, in_axes=None)(x), "no tensor to map over"),
            (lambda: jtc.vmap(jtc.sum, in_axes=(0, 1))(x), "for 1 arguments"),
            (lambda: jtc.vmap(jtc.sum, out_axes=None)(x), "out_axes must be integers"),
            (lambda: jtc.vmap(jtc.sum, randomness="other"), "unknown randomness 'other'"),
            (lambda: jtc.vmap(3), "vmap needs a function")):
        with pytest.raises((jtc.InputError, TypeError), match=message):
            call()
    with pytest.raises(TraceError, match="one example of vmap"):
        jtc.vmap(lambda a: a * a.item())(x)
    same(jtc.grad(lambda x: jtc.sum(jtc.ones(2)))(x), np.zeros(3, np.float32))


def test_a_tensor_of_one_example_stays_inside():
    kept = []
    jtc.vmap(lambda a: kept.append(a * 2) or a)(jtc.ones(3))
    with pytest.raises(TraceError, match="one example of vmap"):
        kept[0].numpy()
    jtc.ones(3).numpy()


def test_a_tensor_of_one_example_is_no_state():
    state = jtc.zeros(())

    def f(a):
        state.assign(a * 2)
        return a

    with pytest.raises(TraceError, match="stands for one example of vmap outside of the mapped function"):
        jtc.jit(lambda x: jtc.vmap(f)(x))(normal(3))
    assert state.item() == 0
    jtc.vmap(f)(normal(3))
    with pytest.raises(TraceError, match="one example of vmap"):
        state.item()


def test_forward_mode_and_jacobians_of_modules():
    net, x = nn.Linear(2, 2), normal(2)
    ones = {"weight": jtc.ones((2, 2)), "bias": jtc.zeros(2)}
    value, slope = jtc.jvp(lambda net: net(x), (net,), (ones,))
    same(value, net(x).numpy())
    same(slope, np.full(2, x.sum(), np.float32), rtol=1e-5)
    same(jtc.jacobian(lambda net: net(x))(net)["bias"], np.eye(2, dtype=np.float32))
    found = jtc.hessian(lambda net: jtc.sum(net(x) ** 2))(net)["bias"]["weight"]
    same(found, 2 * np.einsum("ij,k->ijk", np.eye(2), x).astype(np.float32))
