// A kernel with everything that a stage can have: guards, a fill, gathered indices, an epilogue, a schedule.
// RUN: jtc-opt --locations %s | FileCheck %s
// What is printed is read back as the same.
// RUN: jtc-opt --locations %s | jtc-opt --locations | FileCheck %s

// CHECK: module attributes {jtc.version = 1 : i64} {
// CHECK-NEXT: "jtc.program"() ({
// CHECK-NEXT: "jtc.buffer"() {name = "table", type = tensor<9x8xf32>, constant = "weights"} : () -> ()
// CHECK-NEXT: "jtc.buffer"() {name = "ids", type = tensor<6xi64>} : () -> ()
// CHECK-NEXT: "jtc.buffer"() {name = "y", type = tensor<6xf32>} : () -> ()
// CHECK-NEXT: "jtc.kernel"() ({
// CHECK-NEXT: "jtc.buffer"() {name = "scale", type = tensor<2xf32>} : () -> ()
// CHECK-NEXT: "jtc.stage"() ({
// CHECK-NEXT: %0 = "jtc.index"() {form = "2*i + 1"} : () -> i64
// CHECK-NEXT: %1 = "jtc.cast"(%0) : (i64) -> f32
// CHECK-NEXT: "jtc.yield"(%1) : (f32) -> ()
// CHECK-NEXT: }, {}, {}) {
// CHECK-NEXT: name = "scales",
// CHECK-NEXT: axes = ["i:6"],
// CHECK-NEXT: reads = [],
// CHECK-NEXT: write = {buffer = "scale", view = tensor<2xf32>, index = ["i"]}} : () -> ()
// CHECK-NEXT: "jtc.stage"() ({
// CHECK-NEXT: ^bb0(%ids: i64, %table: f32, %scale: f32):
// CHECK-NEXT: %0 = "jtc.inbounds"() {guards = ["0 <= k - 2 < 4"]} : () -> i1
// CHECK-NEXT: %1 = "jtc.constant"() {value = 0x7F800000 : f32} : () -> f32
// CHECK-NEXT: %2 = "jtc.where"(%0, %table, %1) : (i1, f32, f32) -> f32
// CHECK-NEXT: "jtc.yield"(%2) : (f32) -> ()
// CHECK-NEXT: }, {
// CHECK-NEXT: ^bb0(%acc: f32, %ids: i64, %table: f32, %scale: f32):
// CHECK-NEXT: %0 = "jtc.mul"(%acc, %scale) : (f32, f32) -> f32
// CHECK-NEXT: "jtc.yield"(%0) : (f32) -> ()
// CHECK-NEXT: }, {
// CHECK-NEXT: ^bb0(%ids: i64, %table: f32, %scale: f32):
// CHECK-NEXT: "jtc.offset"(%ids) : (i64) -> ()
// CHECK-NEXT: "jtc.yield"() : () -> ()
// CHECK-NEXT: }) {
// CHECK-NEXT: name = "rows",
// CHECK-NEXT: axes = ["i:6", "k:8r"],
// CHECK-NEXT: reads = [
// CHECK-NEXT: {buffer = "ids", view = tensor<6xi64>, index = ["i"]},
// CHECK-NEXT: {buffer = "table", view = tensor<9x8xf32>, index = ["0", "k - 1"], guards = ["0 <= k - 1 < 8"], fill = 0xFF800000 : f32, gather = ["dim 0: offset 0"]},
// CHECK-NEXT: {buffer = "scale", view = tensor<2xf32>, index = ["i"]}],
// CHECK-NEXT: write = {buffer = "y", view = tensor<6xf32>, index = ["i"]},
// CHECK-NEXT: reduce = "min",
// CHECK-NEXT: ops = ["gather", "reduce", "mul"],
// CHECK-NEXT: schedule = {vector = "k", lanes = 8, loops = ["i:1"], reduction = ["k"], unroll = ["k:2"], packs = [{read = 1, inside = "i:1", order = ["k"], pad = 16}], split = ["k"], threads = 1, stream}} : () -> () loc(fused["model.py":3:0, "rows"("model.py":4:0)])
// CHECK-NEXT: }) {name = "k0", shared = ["i:6 by 2"], reasons = {{\[\[}}"y", "it is an output"{{\]\]}}} : () -> ()
// CHECK-NEXT: }) {name = "f", inputs = ["ids"], outputs = ["y"], input_names = ["ids"], output_names = ["y"]} : () -> ()
// CHECK-NEXT: }

module attributes {jtc.version = 1 : i64} {
  "jtc.program"() ({
    "jtc.buffer"() {name = "table", type = tensor<9x8xf32>, constant = "weights"} : () -> ()
    "jtc.buffer"() {name = "ids", type = tensor<6xi64>} : () -> ()
    "jtc.buffer"() {name = "y", type = tensor<6xf32>} : () -> ()
    "jtc.kernel"() ({
      "jtc.buffer"() {name = "scale", type = tensor<2xf32>} : () -> ()
      "jtc.stage"() ({
        %0 = "jtc.index"() {form = "2*i + 1"} : () -> i64
        %1 = "jtc.cast"(%0) : (i64) -> f32
        "jtc.yield"(%1) : (f32) -> ()
      }, {}, {}) {
        name = "scales",
        axes = ["i:6"],
        reads = [],
        write = {buffer = "scale", view = tensor<2xf32>, index = ["i"]}} : () -> ()
      "jtc.stage"() ({
      ^bb0(%ids: i64, %table: f32, %scale: f32):
        %0 = "jtc.inbounds"() {guards = ["0 <= k - 2 < 4"]} : () -> i1
        %1 = "jtc.constant"() {value = 0x7F800000 : f32} : () -> f32
        %2 = "jtc.where"(%0, %table, %1) : (i1, f32, f32) -> f32
        "jtc.yield"(%2) : (f32) -> ()
      }, {
      ^bb0(%acc: f32, %ids: i64, %table: f32, %scale: f32):
        %0 = "jtc.mul"(%acc, %scale) : (f32, f32) -> f32
        "jtc.yield"(%0) : (f32) -> ()
      }, {
      ^bb0(%ids: i64, %table: f32, %scale: f32):
        "jtc.offset"(%ids) : (i64) -> ()
        "jtc.yield"() : () -> ()
      }) {
        name = "rows",
        axes = ["i:6", "k:8r"],
        reads = [
          {buffer = "ids", view = tensor<6xi64>, index = ["i"]},
          {buffer = "table", view = tensor<9x8xf32>, index = ["0", "k - 1"], guards = ["0 <= k - 1 < 8"], fill = 0xFF800000 : f32, gather = ["dim 0: offset 0"]},
          {buffer = "scale", view = tensor<2xf32>, index = ["i"]}],
        write = {buffer = "y", view = tensor<6xf32>, index = ["i"]},
        reduce = "min",
        ops = ["gather", "reduce", "mul"],
        schedule = {vector = "k", lanes = 8, loops = ["i:1"], reduction = ["k"], unroll = ["k:2"], packs = [{read = 1, inside = "i:1", order = ["k"], pad = 16}], split = ["k"], threads = 1, stream}} : () -> () loc(fused["model.py":3:0, "rows"("model.py":4:0)])
    }) {name = "k0", shared = ["i:6 by 2"], reasons = [["y", "it is an output"]]} : () -> ()
  }) {name = "f", inputs = ["ids"], outputs = ["y"], input_names = ["ids"], output_names = ["y"]} : () -> ()
}
