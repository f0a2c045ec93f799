// Loops are permuted; every loop must be named.
// RUN: jtc-opt --kernel-reorder="order=m,n" %s | FileCheck %s
// RUN: not jtc-opt --kernel-reorder="order=n" %s 2>&1 | FileCheck %s --check-prefix=REFUSED

// CHECK: loops = ["m:4", "n:16"]
// REFUSED: error: {{.*}}n does not name the loops of stage s

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
      reduce = "add",
      schedule = {vector = "n", lanes = 16, loops = ["n:16", "m:4"], reduction = ["k"]}} : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["a", "b"], outputs = ["c"]} : () -> ()
