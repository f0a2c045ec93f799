// Two axes merge into one, where every access walks them as one.
// RUN: jtc-opt --kernel-fuse="outer=h inner=w" %s | FileCheck %s
// RUN: not jtc-opt --kernel-fuse="outer=c inner=w" %s 2>&1 | FileCheck %s --check-prefix=REFUSED

// CHECK: axes = ["n:1", "c:4", "w:48"]
// REFUSED: error: {{.*}}c and w of stage s do not merge: x has stride 48 along c, not 8 times its stride 1 along w

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
