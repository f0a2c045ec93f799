// Factors that all terms of a sum share are multiplied after it.
// RUN: jtc-opt %s --graph-factor-sums --graph-canonicalize --split-input-file | FileCheck %s

// CHECK-LABEL: func.func @rows
// CHECK: %[[P:[0-9]+]] = "jtc.mul"(%arg0, %arg1) : (tensor<64x300xf32>
// CHECK: %[[S:[0-9]+]] = "jtc.reduce"(%[[P]])
// CHECK: %[[F:[0-9]+]] = "jtc.mul"(%[[S]], %arg2)
// CHECK: %[[N:[0-9]+]] = "jtc.constant"() {value = -1.0 : f32} : () -> tensor<64xf32>
// CHECK: "jtc.mul"(%[[F]], %[[N]])
func.func @rows(%x: tensor<64x300xf32>, %y: tensor<64x300xf32>, %c: tensor<64xf32>) -> tensor<64xf32> {
  %0 = "jtc.broadcast"(%c) {dims = array<i64: 0>} : (tensor<64xf32>) -> tensor<64x300xf32>
  %1 = "jtc.mul"(%x, %0) : (tensor<64x300xf32>, tensor<64x300xf32>) -> tensor<64x300xf32>
  %2 = "jtc.neg"(%1) : (tensor<64x300xf32>) -> tensor<64x300xf32>
  %3 = "jtc.mul"(%2, %y) : (tensor<64x300xf32>, tensor<64x300xf32>) -> tensor<64x300xf32>
  %4 = "jtc.reduce"(%3) {fn = "add", axes = array<i64: 1>} : (tensor<64x300xf32>) -> tensor<64xf32>
  return %4 : tensor<64xf32>
}

// -----

// Refused: the factor varies along the sum.
// CHECK-LABEL: func.func @columns
// CHECK: %[[C:[0-9]+]] = "jtc.broadcast"(%arg1)
// CHECK: %[[P:[0-9]+]] = "jtc.mul"(%arg0, %[[C]])
// CHECK: %[[S:[0-9]+]] = "jtc.reduce"(%[[P]])
// CHECK: return %[[S]]
func.func @columns(%x: tensor<64x300xf32>, %c: tensor<300xf32>) -> tensor<64xf32> {
  %0 = "jtc.broadcast"(%c) {dims = array<i64: 1>} : (tensor<300xf32>) -> tensor<64x300xf32>
  %1 = "jtc.mul"(%x, %0) : (tensor<64x300xf32>, tensor<64x300xf32>) -> tensor<64x300xf32>
  %2 = "jtc.reduce"(%1) {fn = "add", axes = array<i64: 1>} : (tensor<64x300xf32>) -> tensor<64xf32>
  return %2 : tensor<64xf32>
}

// -----

// Refused: a maximum of negative multiples is another one, and integers keep their arithmetic.
// CHECK-LABEL: func.func @others
// CHECK: %[[P:[0-9]+]] = "jtc.mul"
// CHECK: "jtc.reduce"(%[[P]]) {fn = "max"
// CHECK: %[[Q:[0-9]+]] = "jtc.mul"
// CHECK: "jtc.reduce"(%[[Q]]) {fn = "add"
func.func @others(%x: tensor<64x300xf32>, %c: tensor<64xf32>, %i: tensor<64x300xi32>, %n: tensor<64xi32>) -> (tensor<64xf32>, tensor<64xi32>) {
  %0 = "jtc.broadcast"(%c) {dims = array<i64: 0>} : (tensor<64xf32>) -> tensor<64x300xf32>
  %1 = "jtc.mul"(%x, %0) : (tensor<64x300xf32>, tensor<64x300xf32>) -> tensor<64x300xf32>
  %2 = "jtc.reduce"(%1) {fn = "max", axes = array<i64: 1>} : (tensor<64x300xf32>) -> tensor<64xf32>
  %3 = "jtc.broadcast"(%n) {dims = array<i64: 0>} : (tensor<64xi32>) -> tensor<64x300xi32>
  %4 = "jtc.mul"(%i, %3) : (tensor<64x300xi32>, tensor<64x300xi32>) -> tensor<64x300xi32>
  %5 = "jtc.reduce"(%4) {fn = "add", axes = array<i64: 1>} : (tensor<64x300xi32>) -> tensor<64xi32>
  return %2, %5 : tensor<64xf32>, tensor<64xi32>
}
