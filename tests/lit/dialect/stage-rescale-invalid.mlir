// What earlier blocks have left is there only where a shared axis is reduced.
// RUN: not jtc-opt %s --split-input-file 2>&1 | FileCheck %s

// CHECK: error: 'jtc.stage' op s: `before` and `rescale` need a reduction over a shared axis
"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<8xf32>} : () -> ()
  "jtc.buffer"() {name = "c", type = tensor<f32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<f32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32, %c: f32):
      "jtc.yield"(%x) : (f32) -> ()
    }, {
    ^bb0(%acc: f32, %x: f32, %c: f32):
      "jtc.yield"(%acc, %c) : (f32, f32) -> ()
    }, {}) {
      name = "s", axes = ["i:8r"],
      reads = [{buffer = "x", view = tensor<8xf32>, index = ["i"]}, {buffer = "c", view = tensor<f32>, index = []}],
      write = {buffer = "y", view = tensor<f32>, index = []}, reduce = "add", rescale} : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["x", "c"], outputs = ["y"]} : () -> ()
