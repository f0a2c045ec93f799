// Axes of size 1 go, axes that all accesses walk as one merge; guarded ones stay.
// RUN: jtc-opt --kernel-merge-axes %s | FileCheck %s

// CHECK: axes = ["w:192"]

"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<1x4x6x8xf32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<1x4x6x8xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32):
      %0 = "jtc.exp"(%x) : (f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["n:1", "c:4", "h:6", "w:8"],
      reads = [{buffer = "x", view = tensor<1x4x6x8xf32>, index = ["n", "c", "h", "w"]}],
      write = {buffer = "y", view = tensor<1x4x6x8xf32>, index = ["n", "c", "h", "w"]}} : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
