// A block that is left out would leave a part of the result unwritten.
// RUN: not jtc-opt %s 2>&1 | FileCheck %s

// CHECK: error: 'jtc.kernel' op k0: `needed` is for kernels with a stage that reduces the innermost shared axis
"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<8x8xf32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<8x8xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32):
      "jtc.yield"(%x) : (f32) -> ()
    }, {}, {}) {
      name = "s0",
      axes = ["i:8", "j:8"],
      reads = [{buffer = "x", view = tensor<8x8xf32>, index = ["i", "j"]}],
      write = {buffer = "y", view = tensor<8x8xf32>, index = ["i", "j"]}} : () -> ()
  }) {name = "k0", shared = ["i:8 by 4", "j:8 by 2"], needed = ["0 <= i - j < 8"]} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
