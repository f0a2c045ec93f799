// RUN: not jtc-opt %s 2>&1 | FileCheck %s

// CHECK: s: a scan has one reduction axis, not 0
"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<8xf32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<8xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%acc: f32, %x: f32):
      %0 = "jtc.add"(%acc, %x) : (f32, f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["i:8"], scan, reduce = "add",
      reads = [{buffer = "x", view = tensor<8xf32>, index = ["i"]}],
      write = {buffer = "y", view = tensor<8xf32>, index = ["i"]}
    } : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
