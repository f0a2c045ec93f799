// A reduction axis needs a reduction.
// RUN: not jtc-opt %s 2>&1 | FileCheck %s

// CHECK: stage-reduction-invalid.mlir:{{9(:[0-9]+)?}}: error: 'jtc.stage' op s0: the reduction axis 'i' needs `reduce`
"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<8xf32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<8xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32):
      "jtc.yield"(%x) : (f32) -> ()
    }, {}, {}) {
      name = "s0",
      axes = ["i:8r"],
      reads = [{buffer = "x", view = tensor<8xf32>, index = ["i"]}],
      write = {buffer = "y", view = tensor<8xf32>, index = ["i"]}} : () -> ()
  }) {name = "k0"} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
