// Softmax of rows: while exponentials of a row are computed, the row of results and the next row of x are fetched.
// A sum of the row is in the caches anyway; without lanes along the row every element would be fetched.
// RUN: jtc-opt --kernel-vectorize="stage=s1 axis=k lanes=16" --kernel-fetch="stage=s1 other=2 access=2" --kernel-fetch="stage=s1 other=0 access=0 blocks=1" %s | FileCheck %s
// RUN: jtc-opt --kernel-vectorize="stage=s1 axis=k lanes=16" --kernel-fetch="stage=s1 other=2 access=2" --emit=loops %s | FileCheck %s --check-prefix=LOOPS
// RUN: jtc-opt --kernel-schedule %s | FileCheck %s --check-prefix=RULE
// RUN: not jtc-opt --kernel-fetch="stage=s1 other=2 access=2" %s 2>&1 | FileCheck %s --check-prefix=SCALAR
// RUN: not jtc-opt --kernel-vectorize="stage=s1 axis=k lanes=16" --kernel-fetch="stage=s1 other=2 access=1" %s 2>&1 | FileCheck %s --check-prefix=LOCAL
// RUN: not jtc-opt --kernel-vectorize="stage=s1 axis=k lanes=16" --kernel-fetch="stage=s1 other=1" %s 2>&1 | FileCheck %s --check-prefix=ITSELF
// RUN: not jtc-opt --kernel-vectorize="stage=s1 axis=k lanes=16" --kernel-fetch="stage=s1 other=0 access=7" %s 2>&1 | FileCheck %s --check-prefix=NONE

// CHECK: name = "s1"
// CHECK: fetches = ["2.2 + 0", "0.0 + 1"]
// LOOPS: memref.prefetch {{.*}}, write, locality<2>
// RULE: name = "s1"
// RULE: fetches = ["0.0 + 1", "2.2 + 0"]
// SCALAR: error: {{.*}}fetch of 2.2 + 0: y is not contiguous along the vector axis
// LOCAL: error: {{.*}}fetch of 2.1 + 0: t is in the caches anyway
// ITSELF: error: {{.*}}fetch of 1.0 + 0: 1 is no other stage
// NONE: error: {{.*}}fetch of 0.7 + 0: stage s0 has 2 accesses

"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<4096x1000xf32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<4096x1000xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.buffer"() {name = "m", type = tensor<f32>} : () -> ()
    "jtc.buffer"() {name = "t", type = tensor<f32>} : () -> ()
    "jtc.buffer"() {name = "e", type = tensor<1000xf32>} : () -> ()
    "jtc.stage"() ({
    ^bb0(%x: f32):
      "jtc.yield"(%x) : (f32) -> ()
    }, {}, {}) {
      name = "s0", axes = ["i:4096", "k:1000r"],
      reads = [{buffer = "x", view = tensor<4096x1000xf32>, index = ["i", "k"]}],
      write = {buffer = "m", view = tensor<f32>, index = []}, reduce = "max"} : () -> ()
    "jtc.stage"() ({
    ^bb0(%x: f32, %m: f32):
      %0 = "jtc.sub"(%x, %m) : (f32, f32) -> f32
      %1 = "jtc.exp"(%0) : (f32) -> f32
      "jtc.yield"(%1) : (f32) -> ()
    }, {}, {}) {
      name = "s1", axes = ["i:4096", "k:1000r"],
      reads = [{buffer = "x", view = tensor<4096x1000xf32>, index = ["i", "k"]},
               {buffer = "m", view = tensor<f32>, index = []}],
      write = {buffer = "t", view = tensor<f32>, index = []}, reduce = "add",
      keep = {buffer = "e", view = tensor<1000xf32>, index = ["k"]}} : () -> ()
    "jtc.stage"() ({
    ^bb0(%e: f32, %t: f32):
      %0 = "jtc.div"(%e, %t) : (f32, f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}, {}) {
      name = "s2", axes = ["i:4096", "j:1000"],
      reads = [{buffer = "e", view = tensor<1000xf32>, index = ["j"]},
               {buffer = "t", view = tensor<f32>, index = []}],
      write = {buffer = "y", view = tensor<4096x1000xf32>, index = ["i", "j"]}} : () -> ()
  }) {name = "k", shared = ["i:4096 by 1"]} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
