// Blocks may be left out along an axis that is reduced, and by conditions on it and on rows.
// RUN: not jtc-opt %s --split-input-file 2>&1 | FileCheck %s

// CHECK: error: 'jtc.kernel' op k0: needed where 0 <= i < 4, which does not depend on the innermost shared axis 'j'
"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<8x8xf32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<8xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32):
      "jtc.yield"(%x) : (f32) -> ()
    }, {}, {}) {
      name = "s0",
      axes = ["i:8", "j:8r"],
      reads = [{buffer = "x", view = tensor<8x8xf32>, index = ["i", "j"]}],
      write = {buffer = "y", view = tensor<8xf32>, index = ["i"]},
      reduce = "add"} : () -> ()
  }) {name = "k0", shared = ["i:8 by 4", "j:8 by 2"], needed = ["0 <= i < 4"]} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
