// Only reduction axes are unrolled: parallel ones have the register tile.
// RUN: jtc-opt --kernel-unroll="axis=k factor=4" %s | FileCheck %s
// RUN: not jtc-opt --kernel-unroll="axis=m factor=4" %s 2>&1 | FileCheck %s --check-prefix=REFUSED

// CHECK: unroll = ["k:4"]
// REFUSED: error: {{.*}}unroll of m, which is not a reduction axis

"jtc.program"() ({
  "jtc.buffer"() {name = "a", type = tensor<64x32xf32>} : () -> ()
  "jtc.buffer"() {name = "b", type = tensor<32x48xf32>} : () -> ()
  "jtc.buffer"() {name = "c", type = tensor<64x48xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%a: f32, %b: f32):
      %0 = "jtc.mul"(%a, %b) : (f32, f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["m:64", "n:48", "k:32r"],
      reads = [
        {buffer = "a", view = tensor<64x32xf32>, index = ["m", "k"]},
        {buffer = "b", view = tensor<32x48xf32>, index = ["k", "n"]}],
      write = {buffer = "c", view = tensor<64x48xf32>, index = ["m", "n"]},
      reduce = "add"} : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["a", "b"], outputs = ["c"]} : () -> ()
