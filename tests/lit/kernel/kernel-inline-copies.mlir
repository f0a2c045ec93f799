// A value that is only copied is computed where it is copied.
// RUN: jtc-opt %s --kernel-inline-copies --split-input-file | FileCheck %s

// CHECK-LABEL: "jtc.program"
// CHECK-NOT: "jtc.buffer"() {name = "t"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: "jtc.mul"
// CHECK: axes = ["k:32", "n:48"]
// CHECK: {buffer = "w", view = tensor<48x32xf32>, index = ["n", "k"]}
// CHECK: {buffer = "s", view = tensor<48xf32>, index = ["n"]}
// CHECK: write = {buffer = "p", view = tensor<32x48xf32>, index = ["k", "n"]}
// CHECK-NOT: "jtc.kernel"

module attributes {jtc.version = 1 : i64} {
  "jtc.program"() ({
    "jtc.buffer"() {name = "w", type = tensor<48x32xf32>} : () -> ()
    "jtc.buffer"() {name = "s", type = tensor<48xf32>} : () -> ()
    "jtc.buffer"() {name = "t", type = tensor<48x32xf32>} : () -> ()
    "jtc.buffer"() {name = "p", type = tensor<32x48xf32>} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%w: f32, %s: f32):
        %0 = "jtc.mul"(%w, %s) : (f32, f32) -> f32
        "jtc.yield"(%0) : (f32) -> ()
      }, {}, {}) {
        name = "s",
        axes = ["i:48", "j:32"],
        reads = [
          {buffer = "w", view = tensor<48x32xf32>, index = ["i", "j"]},
          {buffer = "s", view = tensor<48xf32>, index = ["i"]}],
        write = {buffer = "t", view = tensor<48x32xf32>, index = ["i", "j"]}} : () -> ()
    }) {name = "scale"} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%t: f32):
        "jtc.yield"(%t) : (f32) -> ()
      }, {}, {}) {
        name = "copy",
        axes = ["k:32", "n:48"],
        reads = [
          {buffer = "t", view = tensor<48x32xf32>, index = ["n", "k"]}],
        write = {buffer = "p", view = tensor<32x48xf32>, index = ["k", "n"]}} : () -> ()
    }) {name = "pack"} : () -> ()
  }) {name = "weights", inputs = ["w", "s"], outputs = ["p"]} : () -> ()
}

// -----

// Refused: another kernel reads the value, too.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-3: "jtc.kernel"
module attributes {jtc.version = 1 : i64} {
  "jtc.program"() ({
    "jtc.buffer"() {name = "w", type = tensor<48x32xf32>} : () -> ()
    "jtc.buffer"() {name = "s", type = tensor<48xf32>} : () -> ()
    "jtc.buffer"() {name = "t", type = tensor<48x32xf32>} : () -> ()
    "jtc.buffer"() {name = "p", type = tensor<32x48xf32>} : () -> ()
    "jtc.buffer"() {name = "q", type = tensor<48x32xf32>} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%w: f32, %s: f32):
        %0 = "jtc.mul"(%w, %s) : (f32, f32) -> f32
        "jtc.yield"(%0) : (f32) -> ()
      }, {}, {}) {
        name = "s",
        axes = ["i:48", "j:32"],
        reads = [
          {buffer = "w", view = tensor<48x32xf32>, index = ["i", "j"]},
          {buffer = "s", view = tensor<48xf32>, index = ["i"]}],
        write = {buffer = "t", view = tensor<48x32xf32>, index = ["i", "j"]}} : () -> ()
    }) {name = "scale"} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%t: f32):
        "jtc.yield"(%t) : (f32) -> ()
      }, {}, {}) {
        name = "copy",
        axes = ["k:32", "n:48"],
        reads = [
          {buffer = "t", view = tensor<48x32xf32>, index = ["n", "k"]}],
        write = {buffer = "p", view = tensor<32x48xf32>, index = ["k", "n"]}} : () -> ()
    }) {name = "pack"} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%t: f32):
        %0 = "jtc.neg"(%t) : (f32) -> f32
        "jtc.yield"(%0) : (f32) -> ()
      }, {}, {}) {
        name = "o",
        axes = ["i:48", "j:32"],
        reads = [
          {buffer = "t", view = tensor<48x32xf32>, index = ["i", "j"]}],
        write = {buffer = "q", view = tensor<48x32xf32>, index = ["i", "j"]}} : () -> ()
    }) {name = "other"} : () -> ()
  }) {name = "read_twice", inputs = ["w", "s"], outputs = ["p", "q"]} : () -> ()
}

// -----

// Refused: the copy repeats the value, which would be computed again and again.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-2: "jtc.kernel"
module attributes {jtc.version = 1 : i64} {
  "jtc.program"() ({
    "jtc.buffer"() {name = "w", type = tensor<48xf32>} : () -> ()
    "jtc.buffer"() {name = "t", type = tensor<48xf32>} : () -> ()
    "jtc.buffer"() {name = "p", type = tensor<32x48xf32>} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%w: f32):
        %0 = "jtc.exp"(%w) : (f32) -> f32
        "jtc.yield"(%0) : (f32) -> ()
      }, {}, {}) {
        name = "s",
        axes = ["i:48"],
        reads = [{buffer = "w", view = tensor<48xf32>, index = ["i"]}],
        write = {buffer = "t", view = tensor<48xf32>, index = ["i"]}} : () -> ()
    }) {name = "exp"} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%t: f32):
        "jtc.yield"(%t) : (f32) -> ()
      }, {}, {}) {
        name = "copy",
        axes = ["k:32", "n:48"],
        reads = [{buffer = "t", view = tensor<48xf32>, index = ["n"]}],
        write = {buffer = "p", view = tensor<32x48xf32>, index = ["k", "n"]}} : () -> ()
    }) {name = "repeat"} : () -> ()
  }) {name = "repeated", inputs = ["w"], outputs = ["p"]} : () -> ()
}

// -----

// The copy fills its border with 0, which is what the product gives there: no selection is left.  A border of 1 needs one.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK-NOT: "jtc.where"
// CHECK: guards = ["0 <= n - 1 < 48"]
// CHECK: write = {buffer = "p"
// CHECK: "jtc.where"
// CHECK: write = {buffer = "q"
module attributes {jtc.version = 1 : i64} {
  "jtc.program"() ({
    "jtc.buffer"() {name = "w", type = tensor<48xf32>} : () -> ()
    "jtc.buffer"() {name = "t", type = tensor<48xf32>} : () -> ()
    "jtc.buffer"() {name = "u", type = tensor<48xf32>} : () -> ()
    "jtc.buffer"() {name = "p", type = tensor<50xf32>} : () -> ()
    "jtc.buffer"() {name = "q", type = tensor<50xf32>} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%w: f32):
        %0 = "jtc.mul"(%w, %w) : (f32, f32) -> f32
        "jtc.yield"(%0) : (f32) -> ()
      }, {}, {}) {
        name = "s",
        axes = ["i:48"],
        reads = [{buffer = "w", view = tensor<48xf32>, index = ["i"]}],
        write = {buffer = "t", view = tensor<48xf32>, index = ["i"]}} : () -> ()
    }) {name = "square"} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%w: f32):
        %0 = "jtc.neg"(%w) : (f32) -> f32
        "jtc.yield"(%0) : (f32) -> ()
      }, {}, {}) {
        name = "s",
        axes = ["i:48"],
        reads = [{buffer = "w", view = tensor<48xf32>, index = ["i"]}],
        write = {buffer = "u", view = tensor<48xf32>, index = ["i"]}} : () -> ()
    }) {name = "negative"} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%t: f32):
        "jtc.yield"(%t) : (f32) -> ()
      }, {}, {}) {
        name = "copy",
        axes = ["n:50"],
        reads = [{buffer = "t", view = tensor<48xf32>, index = ["n - 1"], guards = ["0 <= n - 1 < 48"]}],
        write = {buffer = "p", view = tensor<50xf32>, index = ["n"]}} : () -> ()
    }) {name = "pad"} : () -> ()
    "jtc.kernel"() ({
      "jtc.stage"() ({
      ^bb0(%u: f32):
        "jtc.yield"(%u) : (f32) -> ()
      }, {}, {}) {
        name = "copy",
        axes = ["n:50"],
        reads = [{buffer = "u", view = tensor<48xf32>, index = ["n - 1"], guards = ["0 <= n - 1 < 48"], fill = 1.0 : f32}],
        write = {buffer = "q", view = tensor<50xf32>, index = ["n"]}} : () -> ()
    }) {name = "pad_ones"} : () -> ()
  }) {name = "padded", inputs = ["w"], outputs = ["p", "q"]} : () -> ()
}
