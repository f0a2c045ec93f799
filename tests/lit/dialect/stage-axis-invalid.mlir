// An index names axes of the stage.
// RUN: not jtc-opt %s 2>&1 | FileCheck %s

// CHECK: stage-axis-invalid.mlir:{{9(:[0-9]+)?}}: error: 'jtc.stage' op s0: read 0 of x: there is no axis 'j'
"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<8xf32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<8xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32):
      "jtc.yield"(%x) : (f32) -> ()
    }, {}, {}) {
      name = "s0",
      axes = ["i:8"],
      reads = [{buffer = "x", view = tensor<8xf32>, index = ["j"]}],
      write = {buffer = "y", view = tensor<8xf32>, index = ["i"]}} : () -> ()
  }) {name = "k0"} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
