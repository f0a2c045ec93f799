"""Graphs and programs as text, without MLIR."""
from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from kernel_cases import matmul
from op_cases import mlp

from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import DTYPES, F32
from jtc.dialects.graph import Graph, Node, TensorType
from jtc.dialects.text import affine_map, graph_text, number, program_text, string


@pytest.mark.parametrize("value, dtype, text", [
    (1, "f32", "1.0 : f32"), (0.1, "f32", "0.1 : f32"), (0.1, "f64", "0.1 : f64"), (0.1, "f16", "0.1 : f16"),
    (1e-7, "f32", "1.0e-07 : f32"), (3e38, "bf16", "3.0041e+38 : bf16"), (-0.0, "f32", "-0.0 : f32"),
    (math.inf, "f32", "0x7F800000 : f32"), (-math.inf, "f64", "0xFFF0000000000000 : f64"),
    (math.nan, "f16", "0x7E00 : f16"), (math.inf, "bf16", "0x7F80 : bf16"), (1e-45, "f32", "1.0e-45 : f32"),
    (-5, "i32", "-5 : i32"), (2**64 - 1, "ui64", "18446744073709551615 : ui64"),
    (-2**63, "i64", "-9223372036854775808 : i64"),
    (True, "i1", "true"), (0, "i1", "false"), (2.0, "i32", "2 : i32"),
])
def test_numbers(value, dtype, text):
    written = number(value, DTYPES[dtype])
    if dtype == "bf16" and math.isfinite(value):        # its shortest decimal depends on ml_dtypes
        bfloat16 = DTYPES[dtype].numpy
        assert np.asarray(float(written.split()[0])).astype(bfloat16) == np.asarray(value, bfloat16)
    else:
        assert written == text


def test_strings_are_ascii():
    assert string('a"\\é\n') == '"a\\22\\5C\\C3\\A9\\0A"'


def test_affine_maps():
    d0, d1 = Affine.axis("d0"), Affine.axis("d1")
    assert affine_map((d1 * 2 - d0 + 3, Affine()), 3) == "affine_map<(d0, d1, d2) -> (-d0 + 2*d1 + 3, 0)>"
    digits = Affine({"d0//4": 3, "d1%4": -1})
    assert affine_map((digits,), 2) == "affine_map<(d0, d1) -> (3*(d0 floordiv 4) - (d1 mod 4))>"


@pytest.mark.parametrize("text", ["0", "i", "-i", "2*i + p - 1", "-k//48 + 3", "k%48", "-3", "3*k%48 - 2*d_1 + 7"])
def test_affine_forms_are_read_back(text):
    assert str(Affine.parse(text)) == text


@pytest.mark.parametrize("text", ["", "i j", "2*", "i +", "i*2", "i//0", "2i", "i + + j", "3 4", "i k", "i//j"])
def test_what_is_not_an_affine_form(text):
    with pytest.raises(ValueError, match="is not an affine form"):
        Affine.parse(text)


def test_graph():
    assert graph_text(mlp()) == """module attributes {jtc.version = 1 : i64} {
  func.func @mlp(%arg0: tensor<4x8xf32> {jtc.name = "x"} loc("model.py":1:0)) -> (tensor<4x3xf32> {jtc.name = "out"}, \
tensor<4xf32> {jtc.name = "rows"}, tensor<4x8xf32> {jtc.name = "same"}) {
    %0 = "jtc.reindex"(%arg0) {map = affine_map<(d0, d1, d2) -> (d0, d2)>, fill = 0.0 : f32} : (tensor<4x8xf32>) -> \
tensor<4x3x8xf32> loc("linear"("model.py":2:0))
    %1 = "jtc.constant"() {value = "w"} : () -> tensor<8x3xf32>
    %2 = "jtc.reindex"(%1) {map = affine_map<(d0, d1, d2) -> (d2, d1)>, fill = 0.0 : f32} : (tensor<8x3xf32>) -> \
tensor<4x3x8xf32> loc("linear"("model.py":2:0))
    %3 = "jtc.mul"(%0, %2) : (tensor<4x3x8xf32>, tensor<4x3x8xf32>) -> tensor<4x3x8xf32> loc("model.py":3:0)
    %4 = "jtc.reduce"(%3) {fn = "add", axes = array<i64: 2>} : (tensor<4x3x8xf32>) -> tensor<4x3xf32> \
loc("model.py":3:0)
    %5 = "jtc.constant"() {value = 0.1 : f32} : () -> tensor<4x3xf32>
    %6 = "jtc.add"(%4, %5) : (tensor<4x3xf32>, tensor<4x3xf32>) -> tensor<4x3xf32>
    %7 = "jtc.constant"() {value = -0.0 : f32} : () -> tensor<4x3xf32>
    %8 = "jtc.max"(%6, %7) : (tensor<4x3xf32>, tensor<4x3xf32>) -> tensor<4x3xf32> loc("model.py":4:0)
    %9 = "jtc.reduce"(%8) {fn = "add", axes = array<i64: 1>} : (tensor<4x3xf32>) -> tensor<4xf32>
    return %8, %9, %arg0 : tensor<4x3xf32>, tensor<4xf32>, tensor<4x8xf32>
  }
}
"""


def test_without_locations_only_structure_counts():
    x = Node("input", (), {}, TensorType(F32, (2,)))
    moved = mlp()
    for node in moved.nodes():
        node.loc = None
    assert graph_text(mlp(), locations=False) == graph_text(moved)
    assert graph_text(Graph("f", [x], [x]), False) == graph_text(Graph("f", [x], [x], [], []))
    assert "loc(" not in program_text(matmul().program, locations=False)


def test_program():
    assert program_text(matmul().program) == """module attributes {jtc.version = 1 : i64} {
  "jtc.program"() ({
    "jtc.buffer"() {name = "x", type = tensor<6x5xf32>} : () -> ()
    "jtc.buffer"() {name = "w", type = tensor<5x8xf32>, constant = "weights"} : () -> ()
    "jtc.buffer"() {name = "b", type = tensor<8xf32>, constant = 0.1 : f32} : () -> ()
    "jtc.buffer"() {name = "y", type = tensor<6x8xf32>} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%x: f32, %w: f32, %b: f32):
        %0 = "jtc.mul"(%x, %w) : (f32, f32) -> f32
        "jtc.yield"(%0) : (f32) -> ()
      }, {
      ^bb0(%acc: f32, %x: f32, %w: f32, %b: f32):
        %0 = "jtc.add"(%acc, %b) : (f32, f32) -> f32
        %1 = "jtc.constant"() {value = 0.0 : f32} : () -> f32
        %2 = "jtc.max"(%0, %1) : (f32, f32) -> f32
        "jtc.yield"(%2) : (f32) -> ()
      }, {}) {
        name = "s0",
        axes = ["i:6", "j:8", "k:5r"],
        reads = [
          {buffer = "x", view = tensor<6x5xf32>, index = ["i", "k"]},
          {buffer = "w", view = tensor<5x8xf32>, index = ["k", "j"]},
          {buffer = "b", view = tensor<8xf32>, index = ["j"]}],
        write = {buffer = "y", view = tensor<6x8xf32>, index = ["i", "j"]},
        reduce = "add",
        ops = ["mul", "reduce", "add", "max"],
        schedule = {vector = "j", lanes = 4, loops = ["j:8", "i:2", "j:4"], reduction = ["k"], unroll = ["k:2"], \
packs = [{read = 1, inside = "j:8", order = ["j//", "k", "j%"], pad = 16}], split = ["i"], threads = 1, stream}} \
: () -> () loc(fused["net.py":3:0, "relu"("net.py":4:0)])
    }) {name = "matmul_relu", reasons = [["y", "it is an \\22output\\22"]]} : () -> ()
  }) {name = "f", inputs = ["x"], outputs = ["y"], input_names = ["input"], output_names = ["output"]} : () -> ()
}
"""


def test_writing_imports_no_mlir():
    code = ("import sys; from jtc.dialects import text, reference; "
            "assert not any(m.split('.')[0] in ('mlir', 'torch_mlir') for m in sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)
