// A sum over everything is cut into parts, which threads share; a second kernel adds their results up.
// RUN: jtc-opt --kernel-two-pass %s | FileCheck %s
// By hand: 1000 steps in 3 parts of 333, and one step that is left over.
// RUN: jtc-opt --kernel-two-pass="kernel=small axis=k parts=3" %s | FileCheck %s --check-prefix=HAND
// Other kinds of reductions stay in one piece; two_pass cuts small ones, too.
// RUN: jtc-opt --kernel-two-pass="reduction=tree" %s | FileCheck %s --check-prefix=WHOLE
// RUN: jtc-opt --kernel-two-pass="reduction=two_pass" %s | FileCheck %s --check-prefix=BOTH
// RUN: not jtc-opt --kernel-two-pass="kernel=small axis=m parts=2" %s 2>&1 | FileCheck %s --check-prefix=PARALLEL
// RUN: not jtc-opt --kernel-two-pass="kernel=small axis=k parts=1" %s 2>&1 | FileCheck %s --check-prefix=ONE
// RUN: not jtc-opt --kernel-two-pass="axis=k parts=2" %s 2>&1 | FileCheck %s --check-prefix=WHICH
// RUN: not jtc-opt --kernel-two-pass="reduction=pairs" %s 2>&1 | FileCheck %s --check-prefix=KIND
// RUN: jtc-opt --kernel-schedule %s | not jtc-opt --kernel-two-pass="kernel=small axis=k parts=2" 2>&1 | FileCheck %s --check-prefix=LATE

// CHECK: {name = "large_out_parts", type = tensor<64xf32>}
// CHECK: axes = ["k_part:64", "k:16384r"]
// CHECK: index = ["16384*k_part + k"]
// CHECK: write = {buffer = "large_out_parts"
// CHECK: {name = "large_parts"
// CHECK: axes = ["k_part:64r"]
// CHECK: write = {buffer = "large_out"
// CHECK-NOT: small_out_parts

// HAND: axes = ["k_part:3", "m:4", "k:333r"]
// HAND: index = ["m", "333*k_part + k"]
// HAND: index = ["k_part", "m"]
// HAND: {name = "small_parts"
// HAND: index = ["m", "999"]
// HAND: index = ["3", "m"]
// HAND: {name = "small_rest"
// HAND: jtc.sqrt
// HAND: axes = ["m:4", "k_part:4r"]

// WHOLE-NOT: _parts
// BOTH: small_out_parts
// PARALLEL: error: {{.*}}small cannot be cut along m: no stage reduces it
// ONE: error: {{.*}}small cannot be cut along k: 1 parts of 1000 steps
// WHICH: error: {{.*}}kernel='' names 2 kernels
// KIND: error: {{.*}}reduction='pairs' is not one of auto, serial, vector
// LATE: error: {{.*}}small cannot be cut along k: it is scheduled already

"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<1048576xf32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<4x1000xf32>} : () -> ()
  "jtc.buffer"() {name = "large_out", type = tensor<f32>} : () -> ()
  "jtc.buffer"() {name = "small_out", type = tensor<4xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32):
      "jtc.yield"(%x) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["k:1048576r"],
      reads = [{buffer = "x", view = tensor<1048576xf32>, index = ["k"]}],
      write = {buffer = "large_out", view = tensor<f32>, index = []},
      reduce = "add"} : () -> ()
  }) {name = "large"} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%y: f32):
      "jtc.yield"(%y) : (f32) -> ()
    }, {
    ^bb0(%acc: f32, %y: f32):
      %0 = "jtc.sqrt"(%acc) : (f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}) {
      name = "s", axes = ["m:4", "k:1000r"],
      reads = [{buffer = "y", view = tensor<4x1000xf32>, index = ["m", "k"]}],
      write = {buffer = "small_out", view = tensor<4xf32>, index = ["m"]},
      reduce = "add"} : () -> ()
  }) {name = "small"} : () -> ()
}) {name = "f", inputs = ["x", "y"], outputs = ["large_out", "small_out"]} : () -> ()
