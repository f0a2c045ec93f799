"""PyTorch's files: what PyTorch 2.13 wrote comes back; what a pickle must not do is refused.

data/torch_zip.pth was written by torch.save, data/torch_stream.pth by the layout used before PyTorch 1.6.
"""
from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jtc

DATA = Path(__file__).parent / "data"
WEIGHT = [[-0.004322517663240433, 0.3097158372402191, -0.4751853346824646],
          [-0.4248946011066437, -0.2223689705133438, 0.15482072532176971]]


@pytest.mark.parametrize("name", ("torch_zip.pth", "torch_stream.pth"))
def test_what_torch_wrote(name):
    back = jtc.load(DATA / name)
    assert list(back["net"]) == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
                                 "1.num_batches_tracked"]
    np.testing.assert_array_equal(back["net"]["0.weight"].numpy(), np.float32(WEIGHT))
    np.testing.assert_array_equal(back["parameters"][0].numpy(), np.float32(WEIGHT))
    assert back["net"]["1.num_batches_tracked"].item() == 0
    np.testing.assert_array_equal(back["turned"].numpy(), np.arange(12, dtype=np.float32).reshape(3, 4).T)
    np.testing.assert_array_equal(back["row"].numpy(), np.arange(4, 8, dtype=np.float32))
    assert back["half"].dtype is jtc.bfloat16 and back["expanded"].shape == (2, 3) and back["empty"].shape == (0, 3)
    np.testing.assert_array_equal(back["flags"].numpy(), [True, False])
    np.testing.assert_array_equal(back["buffer"].numpy(), np.ones(2, np.float32))
    if "words" in back:
        np.testing.assert_array_equal(back["words"].numpy(), np.uint16([1, 65535]))
    plain = {"epoch": 3, "lr": 0.1, "name": "net", "none": None, "size": (2, 3), "dtype": jtc.float64, "device": "cpu"}
    assert {key: back[key] for key in plain} == plain


def test_into_a_module():
    net = jtc.nn.Sequential(jtc.nn.Linear(3, 2), jtc.nn.BatchNorm1d(2))
    net.load_state_dict(jtc.load(DATA / "torch_zip.pth")["net"])
    np.testing.assert_array_equal(net[0].weight.numpy(), np.float32(WEIGHT))


def archive(pickled: bytes, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("archive/data.pkl", pickled)
        for name, data in members.items():
            out.writestr(f"archive/{name}", data)
    return file.getvalue()


class Call:
    """Pickled as a call of a function with arguments."""

    def __init__(self, function: Any, *args: Any):
        self.row = function, args

    def __reduce__(self) -> Any:
        return self.row


def tensor(offset: int, size: tuple[int, ...], stride: tuple[int, ...], count: int = 6) -> bytes:
    """data.pkl of one float32 tensor over storage 0."""
    number = "".join(f"I{n}\n" for n in (offset,))
    sizes = ["(" + "".join(f"I{n}\n" for n in row) + "t" for row in (size, stride)]
    return (f"ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI{count}\ntQ"
            f"{number}{''.join(sizes)}I00\nctypes\nNoneType\nt").replace("ctypes\nNoneType\n", "N").encode() + b"R."


STORAGE = {"data/0": np.arange(6, dtype=np.float32).tobytes()}


def test_a_tensor_made_by_hand(tmp_path):
    """The file that the refused cases below start from is read."""
    (tmp_path / "x.pth").write_bytes(archive(tensor(1, (2, 2), (2, 1)), **STORAGE))
    np.testing.assert_array_equal(jtc.load(tmp_path / "x.pth").numpy(), np.float32([[1, 2], [3, 4]]))


# A function's defaults, a class's attributes, a value's state: what a pickle's BUILD may not reach.
BUILDS = [f"c{module}\n{name}\n(N}}V__defaults__\n(I1\ntstb.".encode()
          for module, name in (("torch._utils", "_rebuild_parameter"), ("torch", "float32"),
                               ("collections", "OrderedDict"))]
REFUSED = {
    "os.system": (archive(pickle.dumps(Call(os.system, "touch hacked"), 2)), r"asks for (posix|nt)\.system"),
    "eval": (archive(pickle.dumps({"w": Call(eval, "1")}, 2)), "asks for __builtin__.eval"),
    "a function of jtc": (archive(b"cjtc.frontend.torch_file\nread_torch\n."), "asks for jtc.frontend.torch_file"),
    "a dotted name": (archive(b"\x80\x04\x8c\x05torch\x8c\x10serialization.os\x93."),
                      "asks for torch.serialization.os"),
    "a module": (archive(b"ctorch.nn.modules.linear\nLinear\n)\x81."), "asks for torch.nn.modules.linear.Linear"),
    "the state of a function": (archive(BUILDS[0]), "damaged"),
    "the state of a dtype": (archive(BUILDS[1]), "damaged"),
    "the state of a class": (archive(BUILDS[2]), "damaged"),
    "a tensor beyond its storage": (archive(tensor(3, (2, 2), (2, 1)), **STORAGE), "reads element 6 of a storage of 6"),
    "a negative offset": (archive(tensor(-1, (2,), (1,)), **STORAGE), "no tensor of size"),
    "a storage beyond its bytes": (archive(tensor(0, (7,), (1,), 7), **STORAGE), "storage 0 holds 24 bytes"),
    "a missing storage": (archive(tensor(0, (2,), (1,))), "damaged"),
    "a huge view": (archive(tensor(0, (1 << 40,), (0,)), **STORAGE), "do not fit into memory"),
    "a list in itself": (archive(b"]q\x00h\x00a."), "contains itself"),
    "a deep list": (archive(b"]" * 100_000 + b"a" * 99_999 + b"."), "damaged"),
    "TorchScript": (archive(b"N.", **{"constants.pkl": b""}), "TorchScript program"),
    "big endian": (archive(b"N.", byteorder=b"big"), "big-endian"),
    "another zip file": (archive(b"N.").replace(b"data.pkl", b"date.pkl"), "data.pkl is missing"),
    "nothing": (b"", "not a file written by torch.save"),
    "text": (b"hello, world", "not a file written by torch.save"),
    "cut": ((DATA / "torch_zip.pth").read_bytes()[:-700], "not a file written by torch.save"),
    "cut stream": ((DATA / "torch_stream.pth").read_bytes()[:-7], "not a file written by torch.save, or is damaged"),
    "complex numbers": ((DATA / "torch_complex.pth").read_bytes(), "torch.ComplexFloatStorage, an element type that"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    blob, words = REFUSED[case]
    Path("x.pth").write_bytes(blob)
    with pytest.raises(jtc.InputError, match=words) as caught:
        jtc.load("x.pth")
    assert "x.pth" in str(caught.value) and "\n" not in caught.value.message
    assert os.listdir() == ["x.pth"]


def test_a_flipped_byte(tmp_path):
    blob = bytearray((DATA / "torch_zip.pth").read_bytes())
    blob[blob.index(np.float32(WEIGHT).tobytes()) + 2] ^= 1
    (tmp_path / "x.pth").write_bytes(blob)
    with pytest.raises(jtc.InputError, match="damaged: Bad CRC-32"):
        jtc.load(tmp_path / "x.pth")


def test_shared_containers_do_not_multiply(tmp_path):
    """Forty lists, each holding the one before twice, are forty lists."""
    value: list[Any] = []
    for _ in range(40):
        value = [value, value]
    (tmp_path / "x.pt").write_bytes(archive(pickle.dumps(value, 2)))
    back = jtc.load(tmp_path / "x.pt")
    assert back[0] is back[1]


def test_writing_is_refused(tmp_path):
    with pytest.raises(jtc.InputError, match="are read, not written"):
        jtc.save({"a": np.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(jtc.InputError, match="no such file"):
        jtc.load(tmp_path / "x.pth")


def test_against_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install torch==2.13.0)")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.GRU(4, 5)).double()
    torch.save({"net": net.state_dict(), "step": 7}, tmp_path / "x.pth")
    back = jtc.load(tmp_path / "x.pth")
    assert back["step"] == 7 and list(back["net"]) == list(net.state_dict())
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(back["net"][key].numpy(), value.numpy())
