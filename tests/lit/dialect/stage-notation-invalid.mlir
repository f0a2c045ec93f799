// What a string of ours must look like is shown.
// RUN: not jtc-opt %s 2>&1 | FileCheck %s

// CHECK: stage-notation-invalid.mlir:{{9(:[0-9]+)?}}: error: 'jtc.stage' op read 0: guards: 'i < 7' is not like '0 <= i - 1 < 8'
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
      reads = [{buffer = "x", view = tensor<8xf32>, index = ["i"], guards = ["i < 7"]}],
      write = {buffer = "y", view = tensor<8xf32>, index = ["i"]}} : () -> ()
  }) {name = "k0"} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
