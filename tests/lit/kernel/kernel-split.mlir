// A loop is added inside those that are there; its step must divide theirs.
// RUN: jtc-opt --kernel-split="axis=n step=16" %s | FileCheck %s
// RUN: not jtc-opt --kernel-split="axis=n step=32" %s 2>&1 | FileCheck %s --check-prefix=REFUSED

// CHECK: schedule = {vector = "n", lanes = 16, loops = ["n:48", "n:16"], reduction = ["k"]}
// REFUSED: error: {{.*}}step 32 of n does not divide the step 48 of the loop around it

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
      schedule = {vector = "n", lanes = 16, loops = ["n:48"], reduction = ["k"]}} : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["a", "b"], outputs = ["c"]} : () -> ()
