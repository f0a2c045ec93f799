// A local buffer whose values a product takes rounded is kept so for a matrix unit, and taken as it is elsewhere.
// RUN: jtc-opt --kernel-widen --target cpu:sapphirerapids %s | FileCheck %s --check-prefix=UNIT
// RUN: jtc-opt --kernel-widen --target cpu:cooperlake %s | FileCheck %s
// RUN: jtc-opt --kernel-widen="strict=true" --target cpu:sapphirerapids %s | FileCheck %s --check-prefix=STRICT

// UNIT: {name = "e", type = tensor<4x64xbf16>}
// UNIT: %[[E:.*]] = "jtc.exp"
// UNIT-NEXT: %[[R:.*]] = "jtc.cast"(%[[E]]) : (f32) -> bf16
// UNIT-NEXT: "jtc.yield"(%[[R]])
// UNIT: ^bb0(%e: bf16, %v: bf16):
// UNIT-NEXT: "jtc.cast"(%e) : (bf16) -> f32

// CHECK: {name = "e", type = tensor<4x64xf32>}
// CHECK: ^bb0(%e: f32, %v: bf16):
// CHECK-NEXT: %[[V:.*]] = "jtc.cast"(%v) : (bf16) -> f32
// CHECK-NEXT: "jtc.mul"(%e, %[[V]])

// What comes from outside is rounded as it was.
// UNIT: ^bb0(%x: f32, %v: bf16):
// UNIT-NEXT: "jtc.cast"(%x) : (f32) -> bf16
// CHECK: ^bb0(%x: f32, %v: bf16):
// CHECK-NEXT: "jtc.cast"(%x) : (f32) -> bf16

// STRICT: {name = "e", type = tensor<4x64xf32>}
// STRICT: ^bb0(%e: f32, %v: bf16):
// STRICT-NEXT: "jtc.cast"(%e) : (f32) -> bf16

"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<16x64xf32>} : () -> ()
  "jtc.buffer"() {name = "v", type = tensor<64x32xbf16>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<16x32xf32>} : () -> ()
  "jtc.buffer"() {name = "z", type = tensor<16x32xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.buffer"() {name = "e", type = tensor<4x64xf32>} : () -> ()
    "jtc.stage"() ({
    ^bb0(%x: f32):
      %0 = "jtc.exp"(%x) : (f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}, {}) {
      name = "weights", axes = ["i:16", "j:64"],
      reads = [{buffer = "x", view = tensor<16x64xf32>, index = ["i", "j"]}],
      write = {buffer = "e", view = tensor<4x64xf32>, index = ["i", "j"]}} : () -> ()
    "jtc.stage"() ({
    ^bb0(%e: f32, %v: bf16):
      %0 = "jtc.cast"(%e) : (f32) -> bf16
      %1 = "jtc.cast"(%0) : (bf16) -> f32
      %2 = "jtc.cast"(%v) : (bf16) -> f32
      %3 = "jtc.mul"(%1, %2) : (f32, f32) -> f32
      "jtc.yield"(%3) : (f32) -> ()
    }, {}, {}) {
      name = "sum", axes = ["i:16", "d:32", "j:64r"],
      reads = [
        {buffer = "e", view = tensor<4x64xf32>, index = ["i", "j"]},
        {buffer = "v", view = tensor<64x32xbf16>, index = ["j", "d"]}],
      write = {buffer = "y", view = tensor<16x32xf32>, index = ["i", "d"]},
      reduce = "add"} : () -> ()
  }) {name = "k", shared = ["i:16 by 4"]} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32, %v: bf16):
      %1 = "jtc.cast"(%x) : (f32) -> bf16
      %2 = "jtc.cast"(%1) : (bf16) -> f32
      %3 = "jtc.cast"(%v) : (bf16) -> f32
      %4 = "jtc.mul"(%2, %3) : (f32, f32) -> f32
      "jtc.yield"(%4) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["i:16", "d:32", "j:64r"],
      reads = [
        {buffer = "x", view = tensor<16x64xf32>, index = ["i", "j"]},
        {buffer = "v", view = tensor<64x32xbf16>, index = ["j", "d"]}],
      write = {buffer = "z", view = tensor<16x32xf32>, index = ["i", "d"]},
      reduce = "add"} : () -> ()
  }) {name = "whole"} : () -> ()
}) {name = "f", inputs = ["x", "v"], outputs = ["y", "z"]} : () -> ()
