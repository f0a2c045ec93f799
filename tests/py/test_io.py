"""Saved tensors and saved graphs: what comes back, and what a damaged file says."""
from __future__ import annotations

import io
import json
import os
import zipfile

import numpy as np
import pytest
from frontend_checks import normal, same

import jtc
from jtc.frontend.model_file import read_model
from jtc.nn import functional as F

pytestmark = pytest.mark.usefixtures("backend")


def test_containers_round_trip(tmp_path):
    obj = {"w": jtc.array(normal(2, 3)), "list": [normal(4), (np.arange(3), True)], "lr": 0.1, "name": "net",
           "none": None,
           "half": jtc.zeros((2,), dtype=jtc.bfloat16), "scalar": jtc.array(2.5)}
    jtc.save(obj, tmp_path / "x.safetensors")
    back = jtc.load(tmp_path / "x.safetensors")
    assert list(back) == list(obj) and back["lr"] == 0.1 and back["name"] == "net" and back["none"] is None
    same(back["w"], normal(2, 3))
    same(back["list"][0], normal(4))
    same(back["list"][1][0], np.arange(3))
    same(back["scalar"], np.float32(2.5))
    assert back["half"].dtype is jtc.bfloat16 and isinstance(back["list"][1], tuple)
    jtc.save(jtc.array(normal(3)), tmp_path / "one.safetensors")
    same(jtc.load(tmp_path / "one.safetensors"), normal(3))


def test_plain_safetensors_and_npz(tmp_path):
    from safetensors.numpy import save_file
    save_file({"a.b": normal(2), "c": np.arange(3, dtype=np.uint8)}, tmp_path / "x.safetensors")
    back = jtc.load(tmp_path / "x.safetensors")
    same(back["a.b"], normal(2))
    same(back["c"], np.arange(3, dtype=np.uint8))
    jtc.save({"a": {"b": jtc.array(normal(2))}}, tmp_path / "x.npz")
    same(jtc.load(tmp_path / "x.npz")["a.b"], normal(2))


@pytest.mark.parametrize("name,content,words", [
    ("missing.safetensors", None, "no such file"), ("x.safetensors", b"\x10\0\0\0\0\0\0\0{", "is damaged"),
    ("x.npz", b"PK\3\4 cut", "not an npz file"), ("x.txt", b"", "unknown suffix '.txt'")])
def test_files_that_cannot_be_loaded(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(jtc.InputError, match=words):
        jtc.load(tmp_path / name)


def test_a_failed_save_leaves_nothing(tmp_path):
    with pytest.raises(jtc.InputError, match="is not a tensor"):
        jtc.save({"a": object()}, tmp_path / "x.safetensors")
    with pytest.raises(jtc.InputError, match="cannot write"):
        jtc.save({"a": normal(2)}, tmp_path / "absent" / "x.safetensors")
    assert os.listdir(tmp_path) == []


@pytest.fixture
def model(tmp_path):
    w = {"conv.weight": jtc.array(normal(4, 1, 3, 3)), "fc": jtc.array(normal(5, 64, seed=1))}
    offset = normal(5, seed=2)

    def net(x, scale):
        x = F.max_pool2d(jtc.relu(F.conv2d(x, w["conv.weight"], padding=1)), 2)
        y = F.linear(x.reshape(x.shape[0], -1), w["fc"]) * scale + offset
        return {"logits": y, "best": [jtc.argmax(y, axis=1)]}

    path = tmp_path / "net.jtc"
    jtc.export(net, (normal(2, 1, 8, 8), normal(1)), path, name="digits")
    return path, net


def test_export_and_read_back(model):
    path, net = model
    saved = read_model(path)
    assert saved.name == "digits" and saved.input_names == ["x", "scale"] and saved.output_names == ["logits", "best.0"]
    assert set(saved.weights) == {"w.conv.weight", "w.fc", "w0"}
    graph = saved.graph()
    from jtc.dialects.reference import run_graph
    x, scale = normal(2, 1, 8, 8, seed=7), normal(1, seed=8)
    logits, best = run_graph(graph, [x, scale])
    expected = net(x, scale)
    same(expected["logits"], logits)
    same(expected["best"][0], best)
    assert any(n.loc and n.loc.file == __file__ for n in graph.nodes())


def test_equal_models_give_equal_files(model, tmp_path):
    files = [tmp_path / "a.jtc", tmp_path / "b.jtc"]
    for file in files:
        jtc.export(model[1], (normal(2, 1, 8, 8), normal(1)), file)
    assert files[0].read_bytes() == files[1].read_bytes()


def rewritten(path, change):
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    path.write_bytes(blob.getvalue())


def newer(members):
    members["meta.json"] = json.dumps(json.loads(members["meta.json"]) | {"version": 99}).encode()


@pytest.mark.parametrize("change,words", [
    (newer, "has format version 99"), (lambda m: m.pop("meta.json"), "not a saved graph: meta.json is missing"),
    (lambda m: m.pop("graph.mlir"), "is damaged: graph.mlir is missing"),
                                          (lambda m: m.update({"meta.json": b"{"}), "meta.json is not valid"),
    (lambda m: m.update({"../evil": b""}), "lies outside"), (lambda m: m.update({"/etc/evil": b""}), "lies outside"),
    (lambda m: m.update({"weights.safetensors": m["weights.safetensors"][:-9]}), "weights cannot be read"),
    (lambda m: m.update({"meta.json": b'{"format": "other", "version": 1}'}), "not a saved graph")])
def test_damaged_models(model, change, words):
    path, _ = model
    rewritten(path, change)
    with pytest.raises(jtc.InputError, match=words) as caught:
        read_model(path)
    assert str(path) in str(caught.value)


def test_missing_truncated_and_foreign_models(model, tmp_path):
    path, _ = model
    with pytest.raises(jtc.InputError, match="no such file"):
        read_model(tmp_path / "absent.jtc")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(jtc.InputError, match="cut short"):
        read_model(path)
    path.write_text("hello")
    with pytest.raises(jtc.InputError, match="not a saved graph"):
        read_model(path)


def test_what_cannot_be_exported(tmp_path):
    state = jtc.zeros((3,))
    path = tmp_path / "x.jtc"
    cases = [(lambda x: (x, 3), "a result is int 3"), (lambda x: None, "a result is NoneType"),
             (lambda x: state.assign(x), "assigns to a tensor"), (lambda x: (), "returns nothing")]
    for function, words in cases:
        with pytest.raises(jtc.InputError, match=words):
            jtc.export(function, (normal(3),), path)
    with pytest.raises(jtc.InputError, match="example_args is a tuple"):
        jtc.export(lambda x: x, normal(3), path)
    with pytest.raises(jtc.InputError, match="cannot write"):
        jtc.export(lambda x: x * 2, (normal(3),), tmp_path / "absent" / "x.jtc")
    assert os.listdir(tmp_path) == []
