// The update of weights by a gradient: a matrix unit stores its sums in rows along k, and a second kernel turns them.
// RUN: jtc-opt --kernel-turn-results --target cpu:sapphirerapids %s | FileCheck %s
// RUN: jtc-opt --kernel-turn-results --target cpu:sapphirerapids %s | jtc-opt | FileCheck %s
// RUN: jtc-opt --kernel-turn-results --kernel-merge-axes --kernel-schedule --target cpu:sapphirerapids %s | FileCheck %s --check-prefix=RULE
// RUN: jtc-opt --kernel-turn-results --target cpu:cooperlake %s | FileCheck %s --check-prefix=WITHOUT

// CHECK: name = "v_rows", type = tensor<32x3x3x64xf32>
// CHECK: axes = ["k:64", "c:32", "r:3", "s:3", "p:1024r"]
// CHECK: {buffer = "y"
// CHECK: {buffer = "x"
// CHECK-NOT: {buffer = "w"
// CHECK: write = {buffer = "v_rows", view = tensor<32x3x3x64xf32>, index = ["c", "r", "s", "k"]}
// CHECK: name = "update_rows", reasons = {{.*}}in rows along the lanes; they are turned in update
// CHECK: axes = ["k:64", "c:32", "r:3", "s:3"],
// CHECK: {buffer = "w"
// CHECK: {buffer = "v_rows", view = tensor<32x3x3x64xf32>, index = ["c", "r", "s", "k"]}
// CHECK: name = "update"

// RULE: dot = "p", matrix
// The second kernel walks along the rows of the weights, and turns blocks of the sums.
// RULE: vector = "s"
// RULE-SAME: packs = [{read = 1, inside = "s:192", order = ["k", "s"]}]

// WITHOUT-NOT: v_rows

"jtc.program"() ({
  "jtc.buffer"() {name = "y", type = tensor<1024x64xbf16>} : () -> ()
  "jtc.buffer"() {name = "x", type = tensor<1024x32x3x3xbf16>} : () -> ()
  "jtc.buffer"() {name = "w", type = tensor<64x32x3x3xf32>} : () -> ()
  "jtc.buffer"() {name = "v", type = tensor<64x32x3x3xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%y: bf16, %x: bf16, %w: f32):
      %0 = "jtc.cast"(%y) : (bf16) -> f32
      %1 = "jtc.cast"(%x) : (bf16) -> f32
      %2 = "jtc.mul"(%0, %1) : (f32, f32) -> f32
      "jtc.yield"(%2) : (f32) -> ()
    }, {
    ^bb0(%acc: f32, %y: bf16, %x: bf16, %w: f32):
      %0 = "jtc.sub"(%w, %acc) : (f32, f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}) {
      name = "s", reduce = "add", axes = ["k:64", "c:32", "r:3", "s:3", "p:1024r"],
      reads = [{buffer = "y", view = tensor<1024x64xbf16>, index = ["p", "k"]},
               {buffer = "x", view = tensor<1024x32x3x3xbf16>, index = ["p", "c", "r", "s"]},
               {buffer = "w", view = tensor<64x32x3x3xf32>, index = ["k", "c", "r", "s"]}],
      write = {buffer = "v", view = tensor<64x32x3x3xf32>, index = ["k", "c", "r", "s"]}} : () -> ()
  }) {name = "update"} : () -> ()
}) {name = "f", inputs = ["y", "x", "w"], outputs = ["v"]} : () -> ()
