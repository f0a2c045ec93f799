"""jtc bench on one model: its time, the roofline, what optimisations are worth."""
from __future__ import annotations

import json

import numpy as np
import pytest
from kernels import chain, saved

from jtc.dialects.errors import InternalError
from jtc.runtime import knobs
from jtc.runtime.module import to_buffer
from jtc.tools.measure import ablation, ceilings, roofline
from jtc.tools.measure.ceilings import Ceiling, Ceilings
from jtc.tools.measure.machine import Machine, alone, this_machine
from jtc.tools.measure.rounds import Ratio, calls, interleave, rotating
from jtc.tools.measure.subject import open_subject
from jtc.tools.measure.tables import markdown

MACHINE = Machine("test", 2, 32 << 10, 1 << 20, 16 << 20, 8 << 30, "x86-64-v4")


def test_rounds():
    assert list(rotating("abc", 2)) == [["a", "b", "c"], ["b", "c", "a"]]
    ratio = Ratio.of([2.0, 20.0, 6.0], [1.0, 10.0, 2.0])
    assert (ratio.median, str(ratio)) == (2.0, "2.00 (2.00-2.50)")
    order = []
    times = interleave({n: lambda s, n=n: order.append(n) or s for n in "ab"}, 3, 0.5)
    assert order == list("abbaab") and times == {"a": [0.5] * 3, "b": [0.5] * 3}
    assert len(calls(lambda: None, 1e-9)) == 1


def test_lock(tmp_path):
    import fcntl
    path = tmp_path / "lock"
    with alone(str(path)), open(path) as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(path) as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_table():
    assert markdown(["a", "b"], [["x", 1], ["long", 22]]) == (
        "| a    |   b |\n|------|----:|\n| x    |   1 |\n| long |  22 |")


def test_kernels_of_the_ceilings_do_what_they_say(tmp_path):
    """Copies copy; sums are those of the blocks, so often; multiply-adds add up."""
    from jtc.compiler.driver import settings_for
    settings = settings_for("cpu")
    lanes = settings.target.vector_bits // 32
    x = np.random.default_rng(0).random(8 * 4 * lanes * 8 * 2).astype(np.float32)     # 8 units of two blocks each
    module, (array,), moved = ceilings._stream("copy", x.nbytes // 8, 1, False, settings, tmp_path)
    assert array.size == x.size and moved > x.nbytes
    assert (np.asarray(module.run([to_buffer(x, copy=True)])[0].numpy()) == x).all()
    module, (array,), moved = ceilings._stream("read", x.nbytes // 8, 1, True, settings, tmp_path)
    one = x[:array.size]
    got = module.run([to_buffer(one, copy=True)])[0].numpy().reshape(-1, lanes).sum(0)
    np.testing.assert_allclose(got, one.reshape(-1, lanes).sum(0), rtol=1e-4)
    module, (array,), work = ceilings._fma("f64", 1, settings, tmp_path)
    got = module.run([to_buffer(array, copy=True)])[0].numpy()
    assert (got == ceilings.CHAINS * (0.5 + ceilings.STEPS * 0.25)).all()
    assert work == 2.0 * got.size * ceilings.CHAINS * ceilings.STEPS


def test_ceilings():
    found, = ceilings.measure(this_machine(), [1], seconds=0.001, sizes={"L1": 8192, "DRAM": 1 << 20})
    assert set(found.fma) == {"f32", "f64"} and min(found.fma.values()) > 0
    assert list(found.bandwidth) == ["L1", "DRAM"] and all(c.best > 0 for c in found.bandwidth.values())
    blocks = ceilings.blocks(MACHINE, 2)
    assert blocks["L1"] <= MACHINE.l1 and MACHINE.l2 < 2 * blocks["L3"] <= MACHINE.l3 < 2 * blocks["DRAM"]
    assert "L3" not in ceilings.blocks(Machine("test", 1, 32 << 10, 1 << 20, 0, 8 << 30, ""), 1)


def test_a_kernel_is_placed_under_its_roof(tmp_path):
    tops = Ceilings(1, {"f32": 100e9, "f64": 50e9}, {
        "L1": Ceiling("L1", 200e9, 100e9, 0), "L2": Ceiling("L2", 80e9, 90e9, 0), "L3": Ceiling("L3", 40e9, 30e9, 0),
        "DRAM": Ceiling("DRAM", 10e9, 5e9, 0)})
    assert [roofline.near(size, tops, MACHINE).level for size in (1000, 1 << 20, (1 << 20) + 1, 1 << 30)] == [
        "L1", "L2", "L3", "DRAM"]
    saved(tmp_path / "chain.jtc", chain(1 << 20))
    module = open_subject(str(tmp_path / "chain.jtc")).start().module
    point, = roofline.points(module, [2e-3], tops, MACHINE)
    assert (point.level, point.bound, point.bytes) == ("L3", "L3", 8 << 20)
    assert point.roof == pytest.approx((8 << 20) / 40e9) and point.share == pytest.approx(point.roof / 2e-3)
    heavy = Ceilings(1, {"f32": 1e9, "f64": 1e9}, tops.bandwidth)
    assert roofline.points(module, [1.0], heavy, MACHINE)[0].bound == "FMA"


def test_roofline_command(call, tmp_path, monkeypatch):
    monkeypatch.setattr(ceilings, "blocks", lambda machine, threads: {"L1": 8192, "DRAM": 1 << 20})
    code, out, err = call("bench", "softmax_40", "--tiny", "--roofline", "--seconds", 0.01, "--threads", 1, "-o",
                          "roof")
    assert code == 0 and "softmax_40: 1 launch" in out and "of its roof" in out, err
    assert (tmp_path / "roof.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / "roof.md").read_text() == out
    data = json.loads((tmp_path / "roof.json").read_text())
    kernel, = data["kernels"]
    assert kernel["intensity"] == kernel["flops"] / kernel["bytes"] and kernel["seconds"] > 0
    assert [c["threads"] for c in data["ceilings"]] == [1]


def test_ablation_command(call, tmp_path):
    code, out, err = call("bench", "mlp_train_b8", "--tiny", "--ablate", "--rounds", 2, "--seconds", 0.001,
                          "--threads", 2, "-o", "off")
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads((tmp_path / "off.json").read_text())["rows"]}
    assert list(rows) == [ablation.ON, *(o.name for o in ablation.OPTIMISATIONS)]
    assert rows["fusion"]["launches"] > rows["fusion across reductions"]["launches"] >= rows[ablation.ON]["launches"]
    assert rows["sharing memory"]["memory"] > rows[ablation.ON]["memory"]
    assert all(row["difference"] < 1e-5 and len(row["seconds"]) == 2 for row in rows.values())
    assert "| fusion " in out


def test_ablation_of_a_saved_graph(call, tmp_path):
    saved(tmp_path / "chain.jtc", chain())
    code, out, err = call("bench", "chain.jtc", "--ablate", "--rounds", 1, "--seconds", 0.001, "--threads", 1)
    assert code == 0 and "| fusion " in out and "steps as one" not in out and "| threads" not in out, err
    assert call("compile", "chain.jtc")[0] == 0
    code, _, err = call("bench", "chain.so", "--ablate")
    assert code == 2 and "compiled already" in err


def test_ablation_of_what_is_asked_for(call):
    arguments = "mlp_train_b8", "--tiny", "--ablate", "--rounds", 1, "--seconds", 0.001, "--threads", 2, "--only"
    code, out, err = call("bench", *arguments, "threads, updates")
    names = [line.split(" | ")[0].removeprefix("| ").strip() for line in out.splitlines() if line.startswith("| ")]
    assert code == 0 and names[1:] == [ablation.ON, "threads", "steps as one program", "updates with products"], err
    code, _, err = call("bench", *arguments, "threads,everything")
    assert code == 2 and "no optimisation 'everything' can be switched off here" in err and "Winograd" in err


def test_ablation_refuses_what_computes_something_else(tmp_path, monkeypatch):
    saved(tmp_path / "chain.jtc", chain())
    subject = open_subject(str(tmp_path / "chain.jtc"), again=True)
    start = type(subject).start

    def wrong(self, unroll=None):
        running = start(self, unroll)
        if knobs.get("fusion") == "none":
            running.outputs[0] += 1
        return running
    monkeypatch.setattr(type(subject), "start", wrong)
    with pytest.raises(InternalError, match="without fusion computes something else"):
        ablation.ablate(subject, 1, 0.001)
