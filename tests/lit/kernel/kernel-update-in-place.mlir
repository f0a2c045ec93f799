// w1 is made of w0 and w2 of w1, element by element, and nothing reads the old values later: all lie in one place.
// RUN: jtc-opt %s --kernel-update-in-place | FileCheck %s
// RUN: jtc-opt %s --kernel-update-in-place="reuse=false" | FileCheck %s --check-prefix=APART

// CHECK: name = "first", in_place = {{\[}}["w1", "w0"]]
// CHECK: name = "second", in_place = {{\[}}["w2", "w1"]]
// APART-NOT: in_place

module attributes {jtc.version = 1 : i64} {
  "jtc.program"() ({
    "jtc.buffer"() {name = "w0", type = tensor<8x16xf32>} : () -> ()
    "jtc.buffer"() {name = "g", type = tensor<8x16xf32>} : () -> ()
    "jtc.buffer"() {name = "w1", type = tensor<8x16xf32>} : () -> ()
    "jtc.buffer"() {name = "w2", type = tensor<8x16xf32>} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%w: f32, %g: f32):
        %0 = "jtc.sub"(%w, %g) : (f32, f32) -> f32
        "jtc.yield"(%0) : (f32) -> ()
      }, {}, {}) {
        name = "s0",
        axes = ["i:8", "j:16"],
        reads = [
          {buffer = "w0", view = tensor<8x16xf32>, index = ["i", "j"]},
          {buffer = "g", view = tensor<8x16xf32>, index = ["i", "j"]}],
        write = {buffer = "w1", view = tensor<8x16xf32>, index = ["i", "j"]}} : () -> ()
    }) {name = "first"} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%w: f32, %g: f32):
        %0 = "jtc.sub"(%w, %g) : (f32, f32) -> f32
        "jtc.yield"(%0) : (f32) -> ()
      }, {}, {}) {
        name = "s0",
        axes = ["n:128"],
        reads = [
          {buffer = "w1", view = tensor<128xf32>, index = ["n"]},
          {buffer = "g", view = tensor<128xf32>, index = ["n"]}],
        write = {buffer = "w2", view = tensor<128xf32>, index = ["n"]}} : () -> ()
    }) {name = "second"} : () -> ()
  }) {name = "f", inputs = ["w0", "g"], outputs = ["w2"], updates = [["w2", "w0"]]} : () -> ()
}
