"""ONNX Runtime on the CPU, with all its optimisations; weights are constants, inputs and outputs are bound once."""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from jtc.tools.peers.adapters.onnx_graph import model
from jtc.tools.peers.workload import Workload

VERSION = f"onnxruntime {onnxruntime.__version__}"


def build(w: Workload) -> Callable[[], Any] | None:
    if w.training or w.precision != "f32":        # its CPU provider computes in float32
        return None
    data, given, outputs = model(w)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = int(os.environ["BENCH_THREADS"]), 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    held = {name: onnxruntime.OrtValue.ortvalue_from_numpy(a) for name, a in given.items()}
    binding = session.io_binding()
    for name, value in held.items():
        binding.bind_ortvalue_input(name, value)
    for name in outputs:
        binding.bind_output(name)

    def run(alive: Any = (given, held)) -> Any:         # what is bound does not own its memory
        session.run_with_iobinding(binding)
        return binding.get_outputs()
    return run


def to_numpy(result: Any) -> list[np.ndarray]:
    return [value.numpy() for value in result]
