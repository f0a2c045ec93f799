// An access names a buffer of the program or of the kernel.
// RUN: not jtc-opt %s 2>&1 | FileCheck %s

// CHECK: stage-buffer-invalid.mlir:{{9(:[0-9]+)?}}: error: 'jtc.stage' op s0: the write to z: there is no such buffer
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
      reads = [{buffer = "x", view = tensor<8xf32>, index = ["i"]}],
      write = {buffer = "z", view = tensor<8xf32>, index = ["i"]}} : () -> ()
  }) {name = "k0"} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
