"""OpenVINO on the CPU, for latency; weights are constants."""
from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino

from jtc.tools.peers.adapters.onnx_graph import model
from jtc.tools.peers.workload import Workload

VERSION = f"openvino {openvino.__version__.partition('-')[0]}"


def build(w: Workload) -> Callable[[], Any] | None:
    if w.training:
        return None
    data, given, outputs = model(w)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(data)), "CPU", {
        "INFERENCE_NUM_THREADS": int(os.environ["BENCH_THREADS"]), "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": w.precision})       # it would choose bfloat16 where the processor has it
    request = compiled.create_infer_request()
    held = {name: openvino.Tensor(a, shared_memory=True) for name, a in given.items()}
    for name, tensor in held.items():
        request.set_tensor(name, tensor)
    results = [request.get_tensor(name) for name in outputs]

    def run(alive: Any = (given, held)) -> Any:         # the tensors do not own their memory
        request.infer()
        return results
    return run


def to_numpy(result: Any) -> list[np.ndarray]:
    return [tensor.data for tensor in result]
