// RUN: jtc-opt %s --graph-canonicalize --graph-fuse --split-input-file | FileCheck %s

// A running sum from the end, with work before and after it: one stage, which runs along i0 and keeps every step.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: ^bb0(%acc: f32, %arg0: f32):
// CHECK-NEXT: [[EXP:%.*]] = "jtc.exp"(%arg0)
// CHECK-NEXT: [[SUM:%.*]] = "jtc.add"(%acc, [[EXP]])
// CHECK-NEXT: "jtc.yield"([[SUM]])
// CHECK: axes = ["i0:4", "r0:8r"]
// CHECK: {buffer = "arg0", view = tensor<8x4xf32>, index = ["-r0 + 7", "i0"]}
// CHECK: write = {buffer = "out0", view = tensor<8x4xf32>, index = ["-r0 + 7", "i0"]}
// CHECK: scan
// CHECK-NOT: "jtc.kernel"
func.func @reversed(%x: tensor<8x4xf32>) -> tensor<8x4xf32> {
  %0 = "jtc.exp"(%x) : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %1 = "jtc.reindex"(%0) {map = affine_map<(i, j) -> (7 - i, j)>, fill = 0.0 : f32} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %2 = "jtc.scan"(%1) {fn = "add", axis = 0 : i64} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %3 = "jtc.reindex"(%2) {map = affine_map<(i, j) -> (7 - i, j)>, fill = 0.0 : f32} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %4 = "jtc.mul"(%3, %x) : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
  return %4 : tensor<8x4xf32>
}

// -----

// One element of a recurrence, and its sum: the recurrence gets a buffer, since its readers walk it in other orders.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: scan
// CHECK: "jtc.kernel"
// CHECK-NOT: scan
func.func @elsewhere(%a: tensor<8xf32>, %b: tensor<8xf32>) -> (tensor<f32>, tensor<1xf32>) {
  %0 = "jtc.recurrence"(%a, %b) {axis = 0 : i64} : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  %1 = "jtc.reduce"(%0) {fn = "add", axes = array<i64: 0>} : (tensor<8xf32>) -> tensor<f32>
  %2 = "jtc.reindex"(%0) {map = affine_map<(i) -> (7)>, fill = 0.0 : f32} : (tensor<8xf32>) -> tensor<1xf32>
  return %1, %2 : tensor<f32>, tensor<1xf32>
}
