// A parallel axis gets a loop of one vector; the lanes are a power of two.
// RUN: jtc-opt --kernel-vectorize="axis=n lanes=8" %s | FileCheck %s
// RUN: not jtc-opt --kernel-vectorize="axis=n lanes=12" %s 2>&1 | FileCheck %s --check-prefix=REFUSED
// RUN: not jtc-opt --kernel-vectorize="axis=n lanes=0" %s 2>&1 | FileCheck %s --check-prefix=NONE

// CHECK: schedule = {vector = "n", lanes = 8, loops = ["n:8"], reduction = ["k"]}
// REFUSED: error: {{.*}}12 lanes: not a power of two
// NONE: error: {{.*}}is not legal: 0 lanes: not a power of two

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
