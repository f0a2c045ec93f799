// Seven columns of three channels are one row of a matrix unit's block: 8 columns of 4 channels, 32 elements.
// RUN: jtc-opt --kernel-join-window --target cpu:sapphirerapids %s | FileCheck %s
// RUN: jtc-opt --kernel-join-window --target cpu:sapphirerapids %s | jtc-opt | FileCheck %s
// RUN: jtc-opt --kernel-join-window --kernel-schedule --target cpu:sapphirerapids %s | FileCheck %s --check-prefix=RULE
// RUN: jtc-opt --kernel-join-window --target cpu:cooperlake %s | FileCheck %s --check-prefix=WITHOUT

// The image with 0 around it, four channels side by side; its rows are longer by the pixel that the eighth column takes.
// CHECK: name = "x_joined", type = tensor<2x37x38x4xbf16>
// CHECK: name = "w_joined", type = tensor<32x7x8x4xbf16>
// CHECK: {buffer = "x", view = tensor<2x3x32x32xbf16>
// CHECK-SAME: guards = ["0 <= d2 - 3 < 32", "0 <= d3 - 3 < 32", "0 <= d1 < 3"]
// CHECK: name = "join_x"
// CHECK: guards = ["0 <= c < 3", "0 <= v < 7"]
// CHECK: name = "join_w"
// CHECK: axes = ["n:2", "k:32", "h:16", "w:16", "u:7r", "v:32r"]
// CHECK: {buffer = "x_joined", view = tensor<2x37x152xbf16>, index = ["n", "2*h + u", "8*w + v"]}
// CHECK: {buffer = "w_joined", view = tensor<32x7x32xbf16>, index = ["k", "u", "v"]}

// RULE: name = "join_x"
// RULE: dot = "v", matrix

// WITHOUT-NOT: joined

"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<2x3x32x32xbf16>} : () -> ()
  "jtc.buffer"() {name = "w", type = tensor<32x3x7x7xbf16>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<2x16x16x32xbf16>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: bf16, %w: bf16):
      %0 = "jtc.cast"(%x) : (bf16) -> f32
      %1 = "jtc.cast"(%w) : (bf16) -> f32
      %2 = "jtc.mul"(%0, %1) : (f32, f32) -> f32
      "jtc.yield"(%2) : (f32) -> ()
    }, {
    ^bb0(%acc: f32, %x: bf16, %w: bf16):
      %0 = "jtc.cast"(%acc) : (f32) -> bf16
      "jtc.yield"(%0) : (bf16) -> ()
    }, {}) {
      name = "s", reduce = "add", axes = ["n:2", "k:32", "h:16", "w:16", "c:3r", "u:7r", "v:7r"],
      reads = [{buffer = "x", view = tensor<2x3x32x32xbf16>, index = ["n", "c", "2*h + u - 3", "2*w + v - 3"],
                guards = ["0 <= 2*h + u - 3 < 32", "0 <= 2*w + v - 3 < 32"]},
               {buffer = "w", view = tensor<32x3x7x7xbf16>, index = ["k", "c", "u", "v"]}],
      write = {buffer = "y", view = tensor<2x16x16x32xbf16>, index = ["n", "h", "w", "k"]}} : () -> ()
  }) {name = "conv"} : () -> ()
}) {name = "f", inputs = ["x", "w"], outputs = ["y"]} : () -> ()
