"""Workloads as ONNX models, for the runtimes that take these: `F` records nodes instead of computing."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jtc.tools.peers.workload import Arrays, Workload

OPSET, IR_VERSION = 20, 10
EPS = 1e-5


class Tensor:
    """A named value of a model in the making."""

    def __init__(self, model: Recorder, name: str, shape: Sequence[int]):
        self.model, self.name, self.shape = model, name, tuple(shape)

    def __add__(self, other: Any) -> Tensor:
        return self.model.elementwise("Add", self, other)

    def __sub__(self, other: Any) -> Tensor:
        return self.model.elementwise("Sub", self, other)

    def __mul__(self, other: Any) -> Tensor:
        return self.model.elementwise("Mul", self, other)


class Recorder:
    """The primitives, each of which adds nodes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, array: Any) -> Tensor:
        array = np.asarray(array)
        self.weights.append(numpy_helper.from_array(array, f"constant{len(self.weights)}"))
        return Tensor(self, self.weights[-1].name, array.shape)

    def node(self, kind: str, inputs: Sequence[Tensor], shape: Sequence[int], **attributes: Any) -> Tensor:
        made = Tensor(self, f"value{len(self.nodes)}", shape)
        self.nodes.append(helper.make_node(kind, [x.name for x in inputs], [made.name], **attributes))
        return made

    def elementwise(self, kind: str, *operands: Any, **attributes: Any) -> Tensor:
        inputs = [x if isinstance(x, Tensor) else self.constant(np.float32(x)) for x in operands]
        return self.node(kind, inputs, np.broadcast_shapes(*(x.shape for x in inputs)), **attributes)

    def relu(self, x: Tensor) -> Tensor:
        return self.elementwise("Relu", x)

    def sigmoid(self, x: Tensor) -> Tensor:
        return self.elementwise("Sigmoid", x)

    def sqrt(self, x: Tensor) -> Tensor:
        return self.elementwise("Sqrt", x)

    def abs(self, x: Tensor) -> Tensor:
        return self.elementwise("Abs", x)

    def minimum(self, x: Tensor, bound: float) -> Tensor:
        return self.elementwise("Min", x, bound)

    def gelu(self, x: Tensor) -> Tensor:
        return self.elementwise("Gelu", x)

    def gelu_tanh(self, x: Tensor) -> Tensor:
        return self.elementwise("Gelu", x, approximate="tanh")

    def softmax(self, x: Tensor) -> Tensor:
        return self.elementwise("Softmax", x, axis=-1)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        return self.node("MatMul", [a, b], (*a.shape[:-1], b.shape[-1]))

    def linear(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        if len(x.shape) == 2:
            return self.node("Gemm", [x, w, b], (x.shape[0], w.shape[0]), transB=1)
        return self.matmul(x, self.transpose(w, (1, 0))) + b

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        return self.node("Reshape", [x, self.constant(np.array(shape, np.int64))], shape)

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return self.node("Transpose", [x], [x.shape[a] for a in axes], perm=list(axes))

    def index0(self, x: Tensor, i: int) -> Tensor:
        return self.node("Gather", [x, self.constant(np.int64(i))], x.shape[1:], axis=0)

    def reduced(self, kind: str, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
        shape = [1 if d in axes else n for d, n in enumerate(x.shape) if keep or d not in axes]
        return self.node(kind, [x, self.constant(np.array(axes, np.int64))], shape, keepdims=int(keep))

    def sum(self, x: Tensor, axis: int | None) -> Tensor:
        return self.reduced("ReduceSum", x, list(range(len(x.shape))) if axis is None else [axis], False)

    def layernorm(self, x: Tensor, g: Tensor, b: Tensor) -> Tensor:
        return self.node("LayerNormalization", [x, g, b], x.shape, axis=-1, epsilon=EPS)

    def batchnorm_infer(self, x: Tensor, g: Tensor, b: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return self.node("BatchNormalization", [x, g, b, mean, var], x.shape, epsilon=EPS)

    def batchnorm_train(self, x: Tensor, g: Tensor, b: Tensor) -> Tensor:
        """In single steps: the training mode of BatchNormalization also updates running statistics."""
        column = (1, x.shape[1], 1, 1)
        centred = x - self.reduced("ReduceMean", x, (0, 2, 3), True)
        deviation = self.sqrt(self.reduced("ReduceMean", centred * centred, (0, 2, 3), True) + EPS)
        return centred * self.elementwise("Div", self.reshape(g, column), deviation) + self.reshape(b, column)

    def conv2d(self, x: Tensor, w: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
        return self.node("Conv", [x, w], (x.shape[0], w.shape[0], *_sides(x, w.shape[2], stride, padding)),
                         group=groups, kernel_shape=w.shape[2:], strides=[stride] * 2, pads=[padding] * 4)

    def maxpool(self, x: Tensor, window: int, stride: int, padding: int) -> Tensor:
        return self.node("MaxPool", [x], (*x.shape[:2], *_sides(x, window, stride, padding)), kernel_shape=[window] * 2,
                         strides=[stride] * 2, pads=[padding] * 4)

    def global_avgpool(self, x: Tensor) -> Tensor:
        return self.reshape(self.node("GlobalAveragePool", [x], (*x.shape[:2], 1, 1)), x.shape[:2])

    def attention(self, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        last = len(k.shape) - 1
        keys = self.transpose(k, (*range(last - 1), last, last - 1))
        scores = self.matmul(q * q.shape[-1] ** -0.5, keys)
        if causal:
            scores = scores + self.constant(np.triu(np.full(scores.shape[-2:], -1e30, np.float32), 1))
        return self.matmul(self.softmax(scores), v)


def _sides(x: Tensor, window: int, stride: int, padding: int) -> list[int]:
    return [(n + 2 * padding - window) // stride + 1 for n in x.shape[2:]]


def model(w: Workload) -> tuple[bytes, Arrays, list[str]]:
    """A forward workload as (serialised model with the weights in it, the other inputs, names of the outputs)."""
    assert w.fwd is not None
    arrays, recorder = w.inputs(), Recorder()
    constant = w.const(arrays)
    outputs = w.fwd(recorder, {name: Tensor(recorder, name, a.shape) for name, a in arrays.items()})
    weights = [numpy_helper.from_array(arrays[name], name) for name in sorted(constant)]
    given = {name: a for name, a in arrays.items() if name not in constant}
    taken = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
             for name, a in given.items()]
    given_back = [helper.make_tensor_value_info(x.name, TensorProto.FLOAT, x.shape) for x in outputs]
    graph = helper.make_graph(recorder.nodes, w.name, taken, given_back, [*weights, *recorder.weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(made)
    return made.SerializeToString(), given, [x.name for x in outputs]
