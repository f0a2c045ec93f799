"""Values between kernels in other orders of dimensions: results stay, whatever the order; what is chosen and why."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_graphs import RandomGraph, arrays

import jtc
from jtc.compiler import pipeline
from jtc.compiler.driver import settings_for
from jtc.compiler.explain import report_of
from jtc.compiler.verify import VerifyError, verify_program
from jtc.dialects.errors import UsageError
from jtc.dialects.kernel import Program, Storage
from jtc.dialects.reader import read_text
from jtc.dialects.reference import run_graph, run_program
from jtc.dialects.text import program_text
from jtc.frontend.export import standalone
from jtc.frontend.traced import trace
from jtc.nn import functional as F
from jtc.passes.graph.fusion.layout import LAYOUTS
from jtc.passes.graph.graph_canonicalize import GraphCanonicalize
from jtc.passes.graph.graph_expand import GraphExpand
from jtc.passes.graph.graph_fuse import GraphFuse
from jtc.passes.graph.graph_push_gather import GraphPushGather
from jtc.runtime import knobs

FORCED = [name for name in LAYOUTS if name not in ("auto", "off")]
rng = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) / 4).astype(np.float32)


def residual(x, w, v):
    """Two convolutions and a sum, whose terms are read again; channels are odd, the second one has a stride."""
    y = jtc.relu(F.conv2d(x, w, padding=1))
    z = F.conv2d(y + x, v, stride=2, padding=1)
    return jtc.sum(y, axis=(0, 2, 3)), jtc.relu(z)


def groups(x, w, v):
    return F.conv2d(F.conv2d(x, w, padding=1, groups=2), v, padding=(0, 2), groups=4)


def joined(x, w, v):
    parts = [F.conv2d(x, w, padding=1), jtc.tanh(F.conv2d(x, v))]
    return F.conv2d(jtc.concat(parts, axis=2), w, padding=1)


def statistics(x, w, g):
    return F.conv2d(F.batch_norm(F.conv2d(x, w, padding=1), None, None, g, g, training=True), w, padding=1)


def pooled(x, w):
    return F.conv2d(F.max_pool2d(F.conv2d(x, w, padding=1), 3, 2, 1), w, padding=1)


def inside(x, w):
    """An output that other kernels read as well."""
    y = F.conv2d(x, w, padding=1)
    return y, F.conv2d(y, w, padding=1) + jtc.flip(y, axis=3)


def gradient(w, v, x):
    def loss(w, v):
        y = jtc.relu(F.conv2d(x, w, stride=2, padding=1))
        return jtc.mean(F.conv2d(y, v, padding=1) ** 2)
    return jtc.grad(loss, argnums=(0, 1))(w, v)


def scores(q, k, v):
    heads = [jtc.transpose(a.reshape(2, 9, 2, 8), (0, 2, 1, 3)) for a in (q, k, v)]
    return jtc.transpose(jtc.softmax(heads[0] @ heads[1].mT) @ heads[2], (0, 2, 1, 3)).reshape(2, 9, 16) @ v[0].mT


def products(x, w, v):
    """A large matrix of rows that would crowd the cache, read across and along."""
    y = jtc.relu(x @ w)
    return y @ v, y.mT @ y


PROGRAMS = {
    "residual": (residual, (normal(2, 5, 9, 9), normal(5, 5, 3, 3), normal(7, 5, 3, 3))),
    "groups": (groups, (normal(2, 4, 7, 7), normal(8, 2, 3, 3), normal(12, 2, 1, 3))),
    "joined": (joined, (normal(2, 6, 8, 8), normal(6, 6, 3, 3), normal(6, 6, 1, 1))),
    "statistics": (statistics, (normal(3, 6, 7, 5), normal(6, 6, 3, 3), normal(6))),
    "pooled": (pooled, (normal(1, 8, 12, 12), normal(8, 8, 3, 3))),
    "inside": (inside, (normal(2, 6, 6, 6), normal(6, 6, 3, 3))),
    "gradient": (gradient, (normal(8, 3, 4, 4), normal(5, 8, 3, 3), normal(2, 3, 12, 12))),
    "scores": (scores, (normal(2, 9, 16), normal(2, 9, 16), normal(2, 9, 16))),
    "products": (products, (normal(20, 24), normal(24, 256), normal(256, 18))),
}


MOVED = ("residual", "statistics", "pooled", "gradient")      # have values that all stages see alike


def program(function, given, layout: str):
    graph = trace(function, given, name="f").graph
    for step in (GraphExpand(), GraphPushGather(), GraphCanonicalize()):
        graph = step.run(graph)
    made = GraphFuse(layout=layout).run(graph)
    verify_program(made)
    return graph, made


@pytest.mark.parametrize("layout", FORCED)
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_stay_in_every_order(name, layout):
    function, given = PROGRAMS[name]
    graph, made = program(function, given, layout)
    if name in MOVED:
        assert made.storage
    assert not {*made.inputs, *made.outputs} & made.storage.keys()
    want = run_graph(graph, given, precise=True)
    with knobs.use(layout=layout):
        got = jtc.jit(function)(*given)
    for g, w in zip(got if isinstance(got, tuple) else [got], want, strict=True):
        np.testing.assert_allclose(np.asarray(g), w, rtol=2e-4, atol=2e-5 * max(1, np.abs(w).max()))
    for g, w in zip(run_program(made, given, precise=True), want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_in_every_order(seed):
    graph = RandomGraph(seed).graph(8)
    given = arrays(graph, seed)
    want = run_graph(graph, given, precise=True)
    for step in (GraphExpand(), GraphPushGather(), GraphCanonicalize()):
        graph = step.run(graph)
    for layout in LAYOUTS:
        made = GraphFuse(layout=layout).run(graph)
        verify_program(made)
        for g, w in zip(run_program(made, given, precise=True), want, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-9)


def block(channels: int, size: int, layout: str) -> Program:
    """1x1, 3x3, 1x1 with weights that are known ahead, twice, each with a sum with what went in."""
    one, three = jtc.array(normal(channels, channels, 1, 1)), jtc.array(normal(channels, channels, 3, 3))

    def network(x):
        for _ in range(2):
            y = jtc.relu(F.conv2d(jtc.relu(F.conv2d(x, one)), three, padding=1))
            x = jtc.relu(x + F.conv2d(y, one))
        return x
    graph = standalone(trace(network, (normal(1, channels, size, size),), name="f"))[0]
    for step in (GraphExpand(), GraphPushGather(), GraphCanonicalize()):
        graph = step.run(graph)
    return GraphFuse(layout=layout).run(graph)


def test_images_between_convolutions_have_channels_innermost():
    made = block(64, 28, "auto")
    assert {made.kernels[i].written[0] for i in (0, 3)} <= made.storage.keys()      # what the 3x3 convolutions read
    for name, held in made.storage.items():
        assert (held.order, held.pad, made.buffers[name].shape) == ((0, 2, 3, 1), 0, (1, 28, 28, 64))


def test_the_search_starts_from_several_orders():
    """From the user's order it first moves all images to have the eight of a batch innermost, as that fills the lanes
    of small images; from there no single step leads to channels innermost, which costs less."""
    def convolved(x, outputs, size, **options):
        return F.conv2d(x, jtc.array(normal(outputs, x.shape[1], size, size)), padding=size // 2, **options)

    def network(x):
        x = F.max_pool2d(x, 3, 2, 1)
        for channels, stride in ((64, 1), (64, 1), (128, 2), (128, 1)):
            y = jtc.relu(convolved(jtc.relu(convolved(x, channels, 1)), channels, 3, stride=stride))
            same = stride == 1 and x.shape[1] == 4 * channels
            x = jtc.relu((x if same else convolved(x, 4 * channels, 1, stride=stride)) + convolved(y, 4 * channels, 1))
        return jtc.mean(x, axis=(2, 3))

    _, made = program(network, (normal(8, 64, 28, 28),), "auto")
    assert len(made.storage) > 10 and {held.order for held in made.storage.values()} == {(0, 2, 3, 1)}


def test_crowded_rows_are_padded():
    made = block(256, 7, "auto")
    assert [made.buffers[name].shape for name in made.storage] == [(1, 7, 7, 272)] * 5


def test_the_report_says_how_values_lie():
    reports = [report_of(pipeline.run(block(64, 28, layout), pipeline.kernel_passes(settings_for()), settings_for()))
               for layout in ("auto", "off")]
    stored = [dict(s for k in report.kernels for s in k.stored) for report in reports]
    assert stored[0] and not stored[1]
    assert all(how.startswith("dimensions 0 2 3 1, estimated to save ") for how in stored[0].values())
    assert "    stores t" in str(reports[0]) and " of that in copies" in str(reports[0])


@pytest.mark.parametrize("seed", (1014, 1238, 1489))
def test_what_is_gathered_keeps_its_shape(seed):
    """Its shape says which indices lie outside: padding must not count as inside."""
    graph = RandomGraph(seed).graph(10)
    for step in (GraphExpand(), GraphPushGather(), GraphCanonicalize()):
        graph = step.run(graph)
    made = GraphFuse(layout="0").run(graph)
    gathered = {a.buffer for k in made.kernels for s in k.stages for a in s.accesses if a.gather}
    assert gathered and not gathered & made.storage.keys()


def test_small_values_stay():
    function, given = PROGRAMS["residual"]
    assert not program(function, given, "auto")[1].storage


def test_strict_keeps_every_order():
    function, given = PROGRAMS["residual"]
    graph, made = program(function, given, "1")
    assert made.storage
    assert not GraphFuse(layout="1", strict=True).run(graph).storage


def test_the_text_says_how_values_lie():
    made = block(64, 28, "auto")
    text = program_text(made, locations=False)
    assert 'stored = {order = [0, 2, 3, 1], pad = 0 : i64, why = "estimated to save ' in text
    again = read_text(text)
    assert again.storage == made.storage
    assert program_text(again, locations=False) == text


@pytest.mark.parametrize("held, message", [
    (Storage((0, 1), 0), "is no order of the 4 dimensions"),
    (Storage((0, 1, 2, 2), 0), r"stored: \(0, 1, 2, 2\) is no order of the 4 dimensions of 't"),
    (Storage((0, 2, 3, 1), 65), "has rows of 64 elements, 65 of them padding"),
])
def test_a_wrong_storage_is_refused(held, message):
    made = block(64, 28, "auto")
    name = next(iter(made.storage))
    with pytest.raises(VerifyError, match=message):
        verify_program(replace(made, storage={name: held}))


def test_inputs_and_outputs_lie_as_the_user_has_them():
    made = block(64, 28, "auto")
    with pytest.raises(VerifyError, match="'x' is no buffer between kernels"):
        verify_program(replace(made, storage={made.inputs[0]: Storage((0, 2, 3, 1), 0)}))


def test_state_is_still_updated_in_place():
    def step(w, m, x):
        y = jtc.relu(F.conv2d(x, w, stride=2, padding=1))
        g = jtc.grad(lambda w: jtc.mean(F.conv2d(jtc.relu(F.conv2d(x, w, stride=2, padding=1)), v) ** 2))(w)
        m = 0.5 * m + g
        return w - m, m, jtc.sum(y)
    v = normal(4, 6, 1, 1)
    given = normal(6, 3, 4, 4), normal(6, 3, 4, 4), normal(2, 3, 10, 10)
    with knobs.use(layout="off"):
        want = jtc.jit(step)(*given)
    with knobs.use(layout="1"):
        got = jtc.jit(step)(*given)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=1e-4, atol=1e-5)


def test_the_knob_is_checked():
    with pytest.raises(UsageError, match="layout='rows' is not valid"), knobs.use(layout="rows"):
        pass
    graph, _ = program(*PROGRAMS["pooled"], "off")
    with pytest.raises(UsageError, match="graph-fuse: layout='4' is not one of auto, off, 0, 1, 2, 3"):
        GraphFuse(layout="4").run(graph)
