// The values have the dtype of the buffer.
// RUN: not jtc-opt %s 2>&1 | FileCheck %s

// CHECK: stage-dtype-invalid.mlir:{{9(:[0-9]+)?}}: error: 'jtc.stage' op s0: writes i1 values into y, which is f32
"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<8xf32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<8xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32):
      %0 = "jtc.isnan"(%x) : (f32) -> i1
      "jtc.yield"(%0) : (i1) -> ()
    }, {}, {}) {
      name = "s0",
      axes = ["i:8"],
      reads = [{buffer = "x", view = tensor<8xf32>, index = ["i"]}],
      write = {buffer = "y", view = tensor<8xf32>, index = ["i"]}} : () -> ()
  }) {name = "k0"} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
