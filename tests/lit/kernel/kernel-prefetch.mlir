// While the tiles of one panel of b run, the next panel is fetched; a is not packed in panels.
// RUN: jtc-opt --kernel-prefetch=read=1 %s | FileCheck %s
// RUN: not jtc-opt --kernel-prefetch=read=0 %s 2>&1 | FileCheck %s --check-prefix=REFUSED

// CHECK: order = ["n//", "k", "n%"]}], prefetch = [1]}

// REFUSED: error: {{.*}}prefetch of %0, which is not packed in panels along the vector axis n

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
      schedule = {vector = "n", lanes = 16, loops = ["k:32", "n:16", "m:8"], reduction = ["k"],
        packs = [{read = 1, inside = "k:32", order = ["n//", "k", "n%"]}]}} : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["a", "b"], outputs = ["c"]} : () -> ()
