// Without a matrix unit sums are turned where the lines of their results crowd the second-level cache: rows 8 KiB apart
// in two tensors.  A larger cache holds them.
// RUN: jtc-opt --kernel-turn-results --target cpu:znver3 %s | FileCheck %s
// RUN: jtc-opt --kernel-turn-results --target cpu:x86-64-v3 %s | FileCheck %s --check-prefix=LARGER

// CHECK: name = "v_rows", type = tensor<128x4x4x128xf32>
// CHECK: write = {buffer = "v_rows", view = tensor<128x4x4x128xf32>, index = ["c", "r", "s", "k"]}
// CHECK: name = "update_rows"
// CHECK: {buffer = "v_rows", view = tensor<128x4x4x128xf32>, index = ["c", "r", "s", "k"]}
// CHECK: name = "update"

// LARGER-NOT: v_rows

"jtc.program"() ({
  "jtc.buffer"() {name = "y", type = tensor<32x128xf32>} : () -> ()
  "jtc.buffer"() {name = "x", type = tensor<32x128x4x4xf32>} : () -> ()
  "jtc.buffer"() {name = "w", type = tensor<128x128x4x4xf32>} : () -> ()
  "jtc.buffer"() {name = "m", type = tensor<128x128x4x4xf32>} : () -> ()
  "jtc.buffer"() {name = "v", type = tensor<128x128x4x4xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%y: f32, %x: f32, %w: f32, %m: f32):
      %0 = "jtc.mul"(%y, %x) : (f32, f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {
    ^bb0(%acc: f32, %y: f32, %x: f32, %w: f32, %m: f32):
      %0 = "jtc.add"(%m, %acc) : (f32, f32) -> f32
      %1 = "jtc.sub"(%w, %0) : (f32, f32) -> f32
      "jtc.yield"(%1) : (f32) -> ()
    }, {}) {
      name = "s", reduce = "add", axes = ["k:128", "c:128", "r:4", "s:4", "p:32r"],
      reads = [{buffer = "y", view = tensor<32x128xf32>, index = ["p", "k"]},
               {buffer = "x", view = tensor<32x128x4x4xf32>, index = ["p", "c", "r", "s"]},
               {buffer = "w", view = tensor<128x128x4x4xf32>, index = ["k", "c", "r", "s"]},
               {buffer = "m", view = tensor<128x128x4x4xf32>, index = ["k", "c", "r", "s"]}],
      write = {buffer = "v", view = tensor<128x128x4x4xf32>, index = ["k", "c", "r", "s"]}} : () -> ()
  }) {name = "update"} : () -> ()
}) {name = "f", inputs = ["y", "x", "w", "m"], outputs = ["v"]} : () -> ()
