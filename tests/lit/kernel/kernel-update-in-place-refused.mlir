// A kernel that runs later still reads w0; and no kernel may be told to write over what it does not read.
// RUN: jtc-opt %s --kernel-update-in-place | FileCheck %s
// RUN: sed 's/name = "later"/name = "later", in_place = [["y", "w1"]]/' %s > %t
// RUN: not jtc-opt %t 2>&1 | FileCheck %s --check-prefix=WRONG

// CHECK-NOT: in_place
// WRONG: cannot write y over w1: it does not read w1 and write y

module attributes {jtc.version = 1 : i64} {
  "jtc.program"() ({
    "jtc.buffer"() {name = "w0", type = tensor<8xf32>} : () -> ()
    "jtc.buffer"() {name = "w1", type = tensor<8xf32>} : () -> ()
    "jtc.buffer"() {name = "y", type = tensor<8xf32>} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%w: f32):
        %0 = "jtc.exp"(%w) : (f32) -> f32
        "jtc.yield"(%0) : (f32) -> ()
      }, {}, {}) {
        name = "s0",
        axes = ["i:8"],
        reads = [{buffer = "w0", view = tensor<8xf32>, index = ["i"]}],
        write = {buffer = "w1", view = tensor<8xf32>, index = ["i"]}} : () -> ()
    }) {name = "update"} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%w: f32):
        %0 = "jtc.neg"(%w) : (f32) -> f32
        "jtc.yield"(%0) : (f32) -> ()
      }, {}, {}) {
        name = "s0",
        axes = ["i:8"],
        reads = [{buffer = "w0", view = tensor<8xf32>, index = ["i"]}],
        write = {buffer = "y", view = tensor<8xf32>, index = ["i"]}} : () -> ()
    }) {name = "later"} : () -> ()
  }) {name = "f", inputs = ["w0"], outputs = ["w1", "y"], updates = [["w1", "w0"]]} : () -> ()
}
