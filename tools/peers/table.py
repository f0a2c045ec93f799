"""The peers: how each is named, what it needs, and how its process is set up."""
from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field

from jtc.dialects.errors import UsageError, near


@dataclass(frozen=True)
class Peer:
    """One system to compare with.

    adapter   module of jtc.tools.peers.adapters
    packages  what it imports, beyond NumPy;  weights: how it gets them, for the report
    settings  environment variables of its process
    """

    name: str
    adapter: str
    packages: tuple[str, ...]
    weights: str
    doc: str
    settings: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """The first package that is not installed."""
        return next((p for p in self.packages if importlib.util.find_spec(p) is None), None)


# glibc's malloc keeps what is freed, so that large results need no new pages from the system in every call.
_KEEP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
         "MALLOC_TOP_PAD_": str(1 << 28)}
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("jtc", "jtc_", (), "constants", "jtc.jit; this project"),
        Peer("jtc_f32", "jtc_f32", (), "constants", "jtc in float32, on workloads in bfloat16"),
        Peer("numpy", "numpy_", (), "arguments", "NumPy, forward only"),
        Peer("torch", "torch_", ("torch",), "arguments", "PyTorch, eager"),
        Peer("torch_keep", "torch_", ("torch",), "arguments", "PyTorch, eager, with a malloc that keeps its memory",
             _KEEP),
        Peer("torch_compile", "torch_compile", ("torch",), "arguments", "torch.compile"),
        Peer("torch_freeze", "torch_freeze", ("torch",), "constants", "torch.compile with frozen weights, models only"),
        Peer("jax", "jax_", ("jax",), "arguments", "jax.jit (XLA)"),
        Peer("onnxruntime", "onnxruntime_", ("onnxruntime", "onnx"), "constants", "ONNX Runtime, forward only"),
        Peer("openvino", "openvino_", ("openvino", "onnx"), "constants", "OpenVINO, forward only"),
    )
}


def chosen(names: str) -> list[Peer]:
    """The peers of a comma-separated list, and jtc first.  Raises UsageError for a name that is none."""
    wanted = ["jtc", *(name.strip() for name in names.split(",") if name.strip())]
    for name in wanted:
        if name not in PEERS:
            raise UsageError(f"unknown peer {name!r}", hint=near(name, PEERS))
    return [PEERS[name] for name in dict.fromkeys(wanted)]
