// Gathers read arguments, so that results need no buffer.
// RUN: jtc-opt %s --graph-push-gather --graph-canonicalize --split-input-file | FileCheck %s

// One logit of each row is shifted, not every one; where the index is outside, the fill is chosen at the end.
// CHECK-LABEL: func.func @one_of_each_row
// CHECK: %[[INSIDE:[a-z0-9_]+]] = "jtc.and"
// CHECK: %[[X:[a-z0-9_]+]] = "jtc.gather"(%arg0, %arg2) {map = affine_map<(d0) -> (d0, 0)>, dims = array<i64: 1>, fill = 0.0
// CHECK: %[[Y:[a-z0-9_]+]] = "jtc.sub"(%[[X]], %arg1) : (tensor<64xf32>, tensor<64xf32>)
// CHECK: "jtc.where"(%[[INSIDE]], %[[Y]]
func.func @one_of_each_row(%x: tensor<64x300xf32>, %m: tensor<64xf32>, %i: tensor<64xi64>) -> tensor<64xf32> {
  %0 = "jtc.broadcast"(%m) {dims = array<i64: 0>} : (tensor<64xf32>) -> tensor<64x300xf32>
  %1 = "jtc.sub"(%x, %0) : (tensor<64x300xf32>, tensor<64x300xf32>) -> tensor<64x300xf32>
  %2 = "jtc.gather"(%1, %i) {map = affine_map<(d0) -> (d0, 0)>, dims = array<i64: 1>, fill = 1.0 : f32} : (tensor<64x300xf32>, tensor<64xi64>) -> tensor<64xf32>
  return %2 : tensor<64xf32>
}

// -----

// Refused: the gather reads more elements than there are.
// CHECK-LABEL: func.func @more
// CHECK: %[[E:[a-z0-9_]+]] = "jtc.exp"(%arg0) : (tensor<5xf32>)
// CHECK: "jtc.gather"(%[[E]], %arg1)
func.func @more(%x: tensor<5xf32>, %i: tensor<64xi64>) -> tensor<64xf32> {
  %0 = "jtc.exp"(%x) : (tensor<5xf32>) -> tensor<5xf32>
  %1 = "jtc.gather"(%0, %i) {map = affine_map<(d0) -> (0)>, dims = array<i64: 0>, fill = 0.0 : f32} : (tensor<5xf32>, tensor<64xi64>) -> tensor<64xf32>
  return %1 : tensor<64xf32>
}

// -----

// Refused: all of it is computed anyway, as an output.
// CHECK-LABEL: func.func @needed_anyway
// CHECK: %[[E:[a-z0-9_]+]] = "jtc.exp"
// CHECK: "jtc.gather"(%[[E]], %arg1)
func.func @needed_anyway(%x: tensor<500xf32>, %i: tensor<4xi64>) -> (tensor<500xf32>, tensor<4xf32>) {
  %0 = "jtc.exp"(%x) : (tensor<500xf32>) -> tensor<500xf32>
  %1 = "jtc.gather"(%0, %i) {map = affine_map<(d0) -> (0)>, dims = array<i64: 0>, fill = 0.0 : f32} : (tensor<500xf32>, tensor<4xi64>) -> tensor<4xf32>
  return %0, %1 : tensor<500xf32>, tensor<4xf32>
}
