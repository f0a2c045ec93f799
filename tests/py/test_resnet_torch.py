"""ResNet-50 of the examples against the same network in PyTorch: a state dict that PyTorch saved, the same logits."""
from __future__ import annotations

import numpy as np
import pytest
from example_programs import example

import jtc

resnet50 = example("resnet50")
torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install torch==2.13.0)")


@pytest.mark.slow
def test_state_dict_of_torch(tmp_path):
    source = resnet50.ResNet50()
    resnet50.randomize(source)                     # weights that keep values near 1 through fifty layers
    other = example("resnet50_torch").ResNet50().eval()
    other.load_state_dict({key: torch.tensor(value.numpy()) for key, value in source.state_dict().items()})
    torch.save(other.state_dict(), tmp_path / "resnet50.pth")
    net = resnet50.ResNet50()
    assert net.load_state_dict(jtc.load(tmp_path / "resnet50.pth")) == ([], [])
    net.eval()
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    with torch.no_grad():
        want = other(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(jtc.jit(net)(x).numpy(), want, rtol=1e-3, atol=1e-3 * np.abs(want).max())
