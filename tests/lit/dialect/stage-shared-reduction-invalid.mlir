// What is reduced over a shared axis is there after its last block: a body cannot read it.
// RUN: not jtc-opt %s 2>&1 | FileCheck %s

// CHECK: error: 'jtc.stage' op s1: reads m before the reduction over the shared axis i is finished
"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<8xf32>} : () -> ()
  "jtc.buffer"() {name = "m", type = tensor<f32>} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<8xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32):
      "jtc.yield"(%x) : (f32) -> ()
    }, {}, {}) {
      name = "s0",
      axes = ["i:8r"],
      reads = [{buffer = "x", view = tensor<8xf32>, index = ["i"]}],
      write = {buffer = "m", view = tensor<f32>, index = []},
      reduce = "add"} : () -> ()
    "jtc.stage"() ({
    ^bb0(%x: f32, %m: f32):
      %0 = "jtc.div"(%x, %m) : (f32, f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}, {}) {
      name = "s1",
      axes = ["i:8"],
      reads = [{buffer = "x", view = tensor<8xf32>, index = ["i"]}, {buffer = "m", view = tensor<f32>, index = []}],
      write = {buffer = "y", view = tensor<8xf32>, index = ["i"]}} : () -> ()
  }) {name = "k0", shared = ["i:8 by 1"]} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
