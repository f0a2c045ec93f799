// A region uses its own arguments and values only, not those of a region beside it.
// RUN: not jtc-opt %s 2>&1 | FileCheck %s

// CHECK: stage-outside-value-invalid.mlir:11:12: error: 'jtc.exp' op the body uses a value from outside of its region
"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<8xf32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<8xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32):
      %0 = "jtc.exp"(%a) : (f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {
    ^bb0(%acc: f32, %a: f32):
      "jtc.yield"(%acc) : (f32) -> ()
    }, {}) {
      name = "s0",
      axes = ["i:8r"],
      reads = [{buffer = "x", view = tensor<8xf32>, index = ["i"]}],
      write = {buffer = "y", view = tensor<8xf32>, index = ["0"]},
      reduce = "add"} : () -> ()
  }) {name = "k0"} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
