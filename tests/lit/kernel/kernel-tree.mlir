// Blocks of a reduction axis meet in pairs; of the vector axis, whole vectors.  Parallel axes have nothing to meet.
// RUN: jtc-opt --kernel-tree="axis=k steps=8" %s | FileCheck %s
// RUN: jtc-opt --kernel-tree="axis=k steps=8" --kernel-tree="axis=k steps=4" %s | FileCheck %s --check-prefix=AGAIN
// RUN: jtc-opt --kernel-vectorize="axis=k lanes=4" --kernel-tree="axis=k steps=12" --emit=loops %s | FileCheck %s --check-prefix=LOOPS
// RUN: not jtc-opt --kernel-tree="axis=m steps=8" %s 2>&1 | FileCheck %s --check-prefix=PARALLEL
// RUN: not jtc-opt --kernel-vectorize="axis=k lanes=4" --kernel-tree="axis=k steps=6" %s 2>&1 | FileCheck %s --check-prefix=LANES
// RUN: not jtc-opt --kernel-tree="axis=k steps=0" %s 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not jtc-opt --kernel-tree="axis=q steps=8" %s 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// CHECK: tree = ["k:8"]
// AGAIN: tree = ["k:4"]
// PARALLEL: error: {{.*}}tree over m, which is not a reduction axis
// LANES: error: {{.*}}tree over k in blocks of 6, which are no whole vectors of 4
// NONE: error: {{.*}}tree over k in blocks of 0
// UNKNOWN: error: {{.*}}stage s has no axis 'q'
// The number of ones at the end of a block's number says how many results wait for it.
// LOOPS: math.cttz

"jtc.program"() ({
  "jtc.buffer"() {name = "a", type = tensor<64x100xf32>} : () -> ()
  "jtc.buffer"() {name = "c", type = tensor<64xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%a: f32):
      "jtc.yield"(%a) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["m:64", "k:100r"],
      reads = [{buffer = "a", view = tensor<64x100xf32>, index = ["m", "k"]}],
      write = {buffer = "c", view = tensor<64xf32>, index = ["m"]},
      reduce = "add"} : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["a"], outputs = ["c"]} : () -> ()
