// 16-bit floats are computed in float32 and rounded where they are stored; local buffers widen; `strict` rounds all.
// RUN: jtc-opt --kernel-widen %s | FileCheck %s
// RUN: jtc-opt --kernel-widen="strict=true" %s | FileCheck %s --check-prefix=STRICT

// The row's sum is combined in float32, which a local buffer keeps; the body that was computed is kept rounded.
// CHECK: name = "total", type = tensor<f32>
// CHECK: %[[WIDE:.*]] = "jtc.cast"({{.*}}) : (bf16) -> f32
// CHECK-NEXT: %[[EXP:.*]] = "jtc.exp"(%[[WIDE]]) : (f32) -> f32
// CHECK-NEXT: "jtc.yield"(%[[EXP]]) : (f32) -> ()
// CHECK: "jtc.div"({{.*}}) : (f32, f32) -> f32
// CHECK: "jtc.cast"({{.*}}) : (f32) -> bf16
// What only moves is left alone.
// CHECK: ^bb0(%[[Y:[a-z]+]]: bf16):
// CHECK-NEXT: "jtc.yield"(%[[Y]]) : (bf16) -> ()
// CHECK: name = "copy"

// STRICT: name = "total", type = tensor<bf16>
// STRICT: "jtc.exp"({{.*}}) : (f32) -> f32
// STRICT-NEXT: "jtc.cast"({{.*}}) : (f32) -> bf16
// STRICT-NEXT: "jtc.cast"({{.*}}) : (bf16) -> f32
// STRICT-NEXT: "jtc.yield"

"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<4x6xbf16>} : () -> ()
  "jtc.buffer"() {name = "e", type = tensor<4x6xbf16>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<4x6xbf16>} : () -> ()
  "jtc.buffer"() {name = "z", type = tensor<6x4xbf16>} : () -> ()
  "jtc.kernel"() ({
    "jtc.buffer"() {name = "total", type = tensor<bf16>} : () -> ()
    "jtc.stage"() ({
    ^bb0(%x: bf16):
      %0 = "jtc.exp"(%x) : (bf16) -> bf16
      "jtc.yield"(%0) : (bf16) -> ()
    }, {}, {}) {
      name = "sum", axes = ["i:4", "j:6r"], reduce = "add",
      reads = [{buffer = "x", view = tensor<4x6xbf16>, index = ["i", "j"]}],
      keep = {buffer = "e", view = tensor<4x6xbf16>, index = ["i", "j"]},
      write = {buffer = "total", view = tensor<bf16>, index = []}} : () -> ()
    "jtc.stage"() ({
    ^bb0(%x: bf16, %t: bf16):
      %0 = "jtc.div"(%x, %t) : (bf16, bf16) -> bf16
      "jtc.yield"(%0) : (bf16) -> ()
    }, {}, {}) {
      name = "share", axes = ["i:4", "j:6"],
      reads = [{buffer = "e", view = tensor<4x6xbf16>, index = ["i", "j"]},
               {buffer = "total", view = tensor<bf16>, index = []}],
      write = {buffer = "y", view = tensor<4x6xbf16>, index = ["i", "j"]}} : () -> ()
  }) {name = "k", shared = ["i:4 by 1"]} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: bf16):
      "jtc.yield"(%x) : (bf16) -> ()
    }, {}, {}) {
      name = "copy", axes = ["i:4", "j:6"],
      reads = [{buffer = "y", view = tensor<4x6xbf16>, index = ["i", "j"]}],
      write = {buffer = "z", view = tensor<6x4xbf16>, index = ["j", "i"]}} : () -> ()
  }) {name = "turn"} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["e", "z"]} : () -> ()
