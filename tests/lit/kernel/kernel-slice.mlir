// Two kernels that hand on t run image by image: t becomes one buffer for each; x and y are touched in part, w whole.
// RUN: jtc-opt --kernel-slice="slices=2" %s | FileCheck %s
// RUN: jtc-opt --kernel-slice="slices=off" %s | FileCheck %s --check-prefix=WHOLE
// RUN: jtc-opt --kernel-slice %s | FileCheck %s --check-prefix=WHOLE
// RUN: not jtc-opt --kernel-slice="slices=1" %s 2>&1 | FileCheck %s --check-prefix=REFUSED

// CHECK: name = "y", type = tensor<4x8xf32>
// CHECK: name = "t_0", type = tensor<2x8xf32>
// CHECK: name = "t_1", type = tensor<2x8xf32>
// CHECK: axes = ["n:2", "i:8"]
// CHECK: buffer = "x", view = tensor<4x8xf32>, index = ["n", "i"]
// CHECK: write = {buffer = "t_0", view = tensor<2x8xf32>, index = ["n", "i"]}
// CHECK: name = "double_0", slice = {number = 0 : i64, count = 2 : i64, why = "asked for"}
// CHECK: buffer = "t_0", view = tensor<2x8xf32>, index = ["n", "i"]
// CHECK: buffer = "w", view = tensor<8xf32>, index = ["i"]
// CHECK: write = {buffer = "y", view = tensor<4x8xf32>, index = ["n", "i"]}
// CHECK: name = "shift_0", slice = {number = 0 : i64, count = 2 : i64, why = "asked for"}
// CHECK: buffer = "x", view = tensor<4x8xf32>, index = ["n + 2", "i"]
// CHECK: write = {buffer = "t_1", view = tensor<2x8xf32>, index = ["n", "i"]}
// CHECK: name = "double_1", slice = {number = 1 : i64, count = 2 : i64, why = "asked for"}
// CHECK: write = {buffer = "y", view = tensor<4x8xf32>, index = ["n + 2", "i"]}
// CHECK: name = "shift_1", slice = {number = 1 : i64, count = 2 : i64, why = "asked for"}
// WHOLE: name = "double"}
// WHOLE: name = "shift"}
// REFUSED: error: kernel-slice: slices='1' is not auto, off or a number above 1

"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<4x8xf32>} : () -> ()
  "jtc.buffer"() {name = "w", type = tensor<8xf32>} : () -> ()
  "jtc.buffer"() {name = "t", type = tensor<4x8xf32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<4x8xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32):
      %0 = "jtc.add"(%x, %x) : (f32, f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["n:4", "i:8"],
      reads = [{buffer = "x", view = tensor<4x8xf32>, index = ["n", "i"]}],
      write = {buffer = "t", view = tensor<4x8xf32>, index = ["n", "i"]}} : () -> ()
  }) {name = "double"} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%t: f32, %w: f32):
      %0 = "jtc.add"(%t, %w) : (f32, f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["n:4", "i:8"],
      reads = [{buffer = "t", view = tensor<4x8xf32>, index = ["n", "i"]},
               {buffer = "w", view = tensor<8xf32>, index = ["i"]}],
      write = {buffer = "y", view = tensor<4x8xf32>, index = ["n", "i"]}} : () -> ()
  }) {name = "shift"} : () -> ()
}) {name = "f", inputs = ["x", "w"], outputs = ["y"]} : () -> ()
