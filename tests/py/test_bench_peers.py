"""The benchmark against peers: its workloads, its reference, its processes; with no peer but NumPy."""
from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest

from jtc.dialects.errors import UsageError
from jtc.tools.peers import report, table
from jtc.tools.peers.adapters import jtc_, jtc_f32, numpy_
from jtc.tools.peers.reference import F, Value, gradients, reference
from jtc.tools.peers.runner import Comparison, Options, Record, Results, Worker
from jtc.tools.peers.table import PEERS, chosen
from jtc.tools.peers.workload import STEPS, select, suite

TINY = suite(tiny=True)
rng = np.random.default_rng(0)


@pytest.mark.parametrize("name", TINY)
def test_adapters_agree_with_the_reference(name):
    w = TINY[name]
    wanted = reference(w)
    run = jtc_.build(w)
    if w.training:
        outputs = [[[float(x) for x in jtc_.to_numpy(run())] for _ in range(STEPS)]]
        assert numpy_.build(w) is None
    else:
        outputs = jtc_.to_numpy(run())
        plain = numpy_.build(w)
        assert (plain is None) == (w.precision == "bf16")
        if plain is not None:
            assert w.error(numpy_.to_numpy(plain()), wanted) <= w.tolerance
    assert w.error(outputs, wanted) <= w.tolerance


def test_workloads_in_bfloat16():
    """They compute in 16 bits, and are compared with the same in float32."""
    narrow = [w for w in TINY.values() if w.precision == "bf16"]
    assert {w.section for w in narrow} == {"bfloat16"} and all(w.name.endswith("_bf16") for w in narrow)
    w = TINY["gpt_block_fwd_bf16"]
    wanted, errors = reference(w), []
    for adapter in (jtc_, jtc_f32):
        run = adapter.build(w)
        errors.append(w.error(adapter.to_numpy(run()), wanted))
    assert 10 * errors[1] < errors[0] < w.tolerance
    assert jtc_f32.build(TINY["gpt_block_fwd"]) is None


def test_full_sizes():
    """Numbers of parameters, against the papers'; nothing is computed here."""
    full = suite()
    assert len(full) == len(TINY) + 2                       # two more matrix products
    net = full["resnet50_infer_b1"].inputs()
    assert sum(a.size for n, a in net.items() if n.endswith((".w", ".g", ".b"))) == 25_557_032
    assert sum(a.size for n, a in full["gpt_block_fwd"].inputs().items() if n != "x") == 7_087_872
    assert sorted(full["gpt_block_fwd"].const(full["gpt_block_fwd"].inputs())) == sorted(
        n for n in full["gpt_block_fwd"].inputs() if n != "x")


DIFFERENTIABLE = {
    "linear, gelu_tanh": (lambda x, w, b: F.gelu_tanh(F.linear(x, w, b)), [(3, 4), (5, 4), (5,)]),
    "conv2d": (lambda x, w: F.conv2d(x, w, stride=2, padding=1), [(2, 3, 5, 5), (4, 3, 3, 3)]),
    "conv2d, groups": (lambda x, w: F.conv2d(x, w, padding=1, groups=2), [(2, 4, 4, 4), (6, 2, 3, 3)]),
    "conv_transpose2d": (lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1), [(2, 3, 3, 3), (3, 2, 4, 4)]),
    "batchnorm_train": (F.batchnorm_train, [(3, 2, 2, 2), (2,), (2,)]),
    "layernorm": (F.layernorm, [(3, 5), (5,), (5,)]),
    "attention": (lambda q, k, v: F.attention(q, k, v, causal=True), [(1, 2, 4, 3)] * 3),
    "maxpool": (lambda x: F.maxpool(x, 3, 2, 1), [(1, 2, 5, 5)]),
    "global_avgpool, leaky_relu": (lambda x: F.global_avgpool(F.leaky_relu(x, 0.2)), [(2, 3, 2, 2)]),
    "tanh, sigmoid, gelu": (lambda x, y: F.tanh(F.sigmoid(x) - F.gelu(y) * x), [(3, 4), (4,)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, Value(np.array([1, 0, 2]))), [(3, 4)]),
    "sqrt, abs, minimum": (lambda x: F.sqrt(F.abs(F.minimum(x, 0.5)) + 1.0), [(3, 4)]),
    "softmax, index0, transpose, reshape": (
        lambda x: F.softmax(F.reshape(F.index0(F.transpose(x, (1, 0, 2)), 1), (2, 6))), [(4, 3, 3)]),
    "relu, mean_square": (lambda x: F.mean_square(F.relu(x)), [(3, 4)]),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_of_the_reference(name):
    """Against differences, in a random direction."""
    function, shapes = DIFFERENTIABLE[name]
    arrays = [rng.standard_normal(shape) for shape in shapes]
    weight = rng.standard_normal(function(*map(Value, arrays)).shape)

    def loss(*values):
        return F.sum(function(*values) * weight, None)
    values = [Value(a, wanted=True) for a in arrays]
    for i, (array, slope) in enumerate(zip(arrays, gradients(loss(*values), values))):
        direction, step = rng.standard_normal(array.shape), 1e-6
        ends = [float(loss(*(Value(a + s * direction if j == i else a) for j, a in enumerate(arrays))).data)
                for s in (step, -step)]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float((slope * direction).sum()), rel=1e-4, abs=1e-6)


def test_wrong_outputs_are_refused():
    w = TINY["matmul_17x19x23"]
    wanted = reference(w)
    assert w.error([wanted[0] * (1 + 1e-7)], wanted) < 1e-6
    for outputs, message in [([wanted[0] * 1.01], "an error of"), ([wanted[0].T], "shape"), ([], "0 outputs, not 1"),
                             ([np.full_like(wanted[0], np.nan)], "not finite")]:
        with pytest.raises(ValueError, match=message):
            w.error(outputs, wanted)


def test_choosing():
    assert [p.name for p in chosen("numpy, torch,numpy")] == ["jtc", "numpy", "torch"]
    with pytest.raises(UsageError, match="unknown peer 'troch'") as caught:
        chosen("troch")
    assert "did you mean torch" in str(caught.value.hint)
    assert {w.name for w in select("gemv,training steps", TINY)} == {
        "gemv_40", "mlp_train_b8", "resnet50_train_b2", "lsgan_train_b2", "gpt_block_train"}
    with pytest.raises(UsageError, match="no workload 'matmull'"):
        select("matmull", TINY)


def test_the_command(call, tmp_path, monkeypatch):
    absent = table.Peer("jax", "jax_", ("a_package_that_is_not_there",), "arguments", "")
    monkeypatch.setitem(PEERS, "jax", absent)
    code, out, err = call("bench", "--peers", "numpy,jax", "--tiny", "--rounds", 2, "--seconds", 0.01, "--workloads",
                          "gemv,mlp", "-o", "found", "--lock", "lock", "--references", "references")
    assert code == 0, err
    assert "jax is left out: a_package_that_is_not_there is not installed; pip install jtc[bench]" in err
    assert out == (tmp_path / "found.md").read_text() and "| gemv_40" in out and "numpy" in out
    assert (tmp_path / "found.png").read_bytes()[:4] == b"\x89PNG"
    data = json.loads((tmp_path / "found.json").read_text())
    rows = Results.from_json(data["results"]).records[1]
    assert len(rows["gemv_40"]["numpy"].medians) == 2 and 0 < rows["gemv_40"]["jtc"].error < 1e-5
    assert rows["mlp_train_b8"]["numpy"].why == "not supported" and rows["mlp_train_b8"]["jtc"].seconds < 1
    assert sorted(p.name for p in (tmp_path / "references").iterdir()) == ["tiny-gemv_40.npz", "tiny-mlp_train_b8.npz"]
    code, out, err = call("bench", "--peers", "numpy", "--tiny", "--rounds", 1, "--seconds", 0.01, "--workloads",
                          "sum_all", "-o", "found", "--add", "--no-plot")
    assert code == 0 and "| gemv_40" in out and "| sum_all_40" in out, err


def test_bad_commands(call, tmp_path):
    for arguments, message in [(("m.so", "--peers", "numpy"), "workloads of its own"), (("--ablate",), "which model?"),
                               (("--peers", "numpy", "--threads", "0"), "--threads 0"),
                               (("gemv_40", "--rounds", "0"), "--rounds 0"),
                               (("--peers", "numpy", "--roofline"), "not allowed with")]:
        code, _, err = call("bench", *arguments)
        assert code == 2 and message in err, err
    code, _, err = call("bench", "gemv_41", "--tiny")
    assert code == 1 and "no workload of that name" in err
    code, _, err = call("bench", "--peers", "numpy", "--tiny", "-o", "nowhere/found")
    assert code == 1 and "there is no directory nowhere" in err
    (tmp_path / "old.json").write_text("[]")
    code, _, err = call("bench", "--peers", "numpy", "--tiny", "-o", "old", "--add", "--no-plot")
    assert code == 1 and "old.json: these are no results of a comparison" in err


def test_a_peer_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch):
    """One whose process ends, one that cannot be imported."""
    broken = table.Peer("openvino", "numpy_", (), "constants", "", {"PYTHONPATH": str(tmp_path)})
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(3)")
    options = Options(rounds=1, seconds=0.01, tiny=True)
    found = Comparison([PEERS["jtc"], broken, PEERS["numpy"]], [TINY["gemv_40"]], options, None).run()
    row = found.records[1]["gemv_40"]
    assert "process died" in row["openvino"].why and row["numpy"].medians and row["jtc"].medians
    assert found.best(1, "gemv_40") == "numpy" and found.ratio(1, "gemv_40", "openvino") is None


def test_a_worker_answers_with_the_reason(tmp_path):
    np.savez(tmp_path / "wrong.npz", np.ones((40, 1)))
    worker = Worker(PEERS["numpy"], 1, None)
    try:
        assert worker.ask(60, do="hello")["version"] == f"numpy {np.__version__}"
        answer = worker.ask(60, do="build", name="gemv_40", tiny=True, reference=str(tmp_path / "wrong.npz"))
        assert not answer["ok"] and "ValueError: an error of" in answer["why"]
        assert not worker.ask(60, do="time", name="gemv_40", seconds=0.01)["ok"]
        os.kill(worker.process.pid, signal.SIGSTOP)         # so that it does not answer, however slow this process is
        assert worker.ask(0.0, do="hello")["why"] == "no answer in 0 s" and not worker.alive
    finally:
        worker.close()


def test_others_are_stopped_while_one_is_timed():
    one, two = Worker(PEERS["numpy"], 1, None), Worker(PEERS["numpy"], 1, None)
    try:
        comparison = Comparison([], [], Options(), None)
        comparison.workers = {"one": one, "two": two}
        with comparison._alone("one"):
            assert one.ask(60, do="hello")["ok"]        # which takes longer than a signal
            assert os.waitid(os.P_PID, two.process.pid, os.WSTOPPED | os.WNOWAIT | os.WNOHANG) is not None
        assert two.ask(60, do="hello")["ok"]
    finally:
        one.close()
        two.close()


def test_report():
    """Ratios are those of rounds: the peer is twice as slow in every round, whatever the rounds' own speed."""
    records = {1: {"gemv_40": {"jtc": Record(medians=[1.0, 3.0, 2.0]), "numpy": Record(medians=[2.0, 6.0, 4.0]),
                               "torch": Record("its process died"), "jax": Record(medians=[9.0, 9.0, 9.0])}}}
    results = Results({"jtc": "jtc 1", "numpy": "numpy 2"}, records)
    assert results.best(1, "gemv_40") == "numpy" and str(results.ratio(1, "gemv_40", "numpy")) == "2.00 (2.00-2.00)"
    assert report.geometric_means(results, 1, TINY) == {"gemv and sums": pytest.approx(2.0)}
    from jtc.tools.measure.machine import this_machine
    text = report.text(results, TINY, this_machine(), Options(), "jtc bench")
    assert "* gemv_40, 1 thread, torch: its process died" in text and "| 2.00 (2.00-2.00) |" in text
    assert Results.from_json(json.loads(json.dumps(results.to_json()))) == results
    other = Results({}, {2: {"gemv_40": {"jtc": Record(medians=[1.0])}}})
    assert set(results.with_those_of(other, TINY).records) == {1, 2}
