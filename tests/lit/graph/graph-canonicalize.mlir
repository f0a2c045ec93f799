// RUN: jtc-opt %s --graph-canonicalize --split-input-file | FileCheck %s

// Equal nodes are one, neutral elements and double negations go, numbers are computed.
// CHECK-LABEL: func.func @algebra
// CHECK-NEXT: [[E:%.*]] = "jtc.exp"(%arg0)
// CHECK-NEXT: [[C:%.*]] = "jtc.constant"() {value = 6.0 : f32} : () -> tensor<4xf32>
// CHECK-NEXT: [[M:%.*]] = "jtc.mul"([[E]], [[C]])
// CHECK-NEXT: [[S:%.*]] = "jtc.add"([[E]], [[M]])
// CHECK-NEXT: return [[S]]
func.func @algebra(%x: tensor<4xf32>) -> tensor<4xf32> {
  %zero = "jtc.constant"() {value = 0.0 : f32} : () -> tensor<4xf32>
  %two = "jtc.constant"() {value = 2.0 : f32} : () -> tensor<4xf32>
  %three = "jtc.constant"() {value = 3.0 : f32} : () -> tensor<4xf32>
  %0 = "jtc.add"(%zero, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "jtc.exp"(%0) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "jtc.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %3 = "jtc.neg"(%2) : (tensor<4xf32>) -> tensor<4xf32>
  %4 = "jtc.neg"(%3) : (tensor<4xf32>) -> tensor<4xf32>
  %5 = "jtc.mul"(%two, %three) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %6 = "jtc.mul"(%5, %4) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %7 = "jtc.add"(%1, %6) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %7 : tensor<4xf32>
}

// -----

// Refused: 0 * x is not 0 for an infinite x, x - x not for a NaN.
// CHECK-LABEL: func.func @infinities
// CHECK: "jtc.mul"
// CHECK: "jtc.sub"
// CHECK: return
func.func @infinities(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %zero = "jtc.constant"() {value = 0.0 : f32} : () -> tensor<4xf32>
  %0 = "jtc.mul"(%x, %zero) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "jtc.sub"(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %0, %1 : tensor<4xf32>, tensor<4xf32>
}

// -----

// Two pads with one fill are one, a transpose is composed in.
// CHECK-LABEL: func.func @pads
// CHECK-NEXT: %0 = "jtc.reindex"(%arg0) {map = affine_map<(d0, d1) -> (d1 - 3, d0)>, fill = 0.0 : f32} : (tensor<4x5xf32>) -> tensor<5x10xf32>
// CHECK-NEXT: return %0
func.func @pads(%x: tensor<4x5xf32>) -> tensor<5x10xf32> {
  %0 = "jtc.reindex"(%x) {map = affine_map<(d0, d1) -> (d0 - 1, d1)>, fill = 0.0 : f32} : (tensor<4x5xf32>) -> tensor<6x5xf32>
  %1 = "jtc.transpose"(%0) {perm = array<i64: 1, 0>} : (tensor<6x5xf32>) -> tensor<5x6xf32>
  %2 = "jtc.reindex"(%1) {map = affine_map<(d0, d1) -> (d0, d1 - 2)>, fill = 0.0 : f32} : (tensor<5x6xf32>) -> tensor<5x10xf32>
  return %2 : tensor<5x10xf32>
}

// -----

// Refused: pads with two fills, and a window that reads back over the edge of a slice.
// CHECK-LABEL: func.func @fills
// CHECK-COUNT-4: jtc.reindex
// CHECK: return
func.func @fills(%x: tensor<4xf32>) -> (tensor<8xf32>, tensor<4xf32>) {
  %0 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 - 1)>, fill = 0.0 : f32} : (tensor<4xf32>) -> tensor<6xf32>
  %1 = "jtc.reindex"(%0) {map = affine_map<(d0) -> (d0 - 1)>, fill = 1.0 : f32} : (tensor<6xf32>) -> tensor<8xf32>
  %2 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 1)>, fill = 0.0 : f32} : (tensor<4xf32>) -> tensor<2xf32>
  %3 = "jtc.reindex"(%2) {map = affine_map<(d0) -> (d0 - 1)>, fill = 0.0 : f32} : (tensor<2xf32>) -> tensor<4xf32>
  return %1, %3 : tensor<8xf32>, tensor<4xf32>
}

// -----

// A reindex that repeats is a broadcast, a reindex_reduce that drops axes a reduce; functions are computed before repeating.
// CHECK-LABEL: func.func @maps
// CHECK-NEXT: [[E:%.*]] = "jtc.exp"(%arg1) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK-NEXT: [[B:%.*]] = "jtc.broadcast"([[E]]) {dims = array<i64: 0>} : (tensor<4xf32>) -> tensor<4x5xf32>
// CHECK-NEXT: [[M:%.*]] = "jtc.mul"(%arg0, [[B]])
// CHECK-NEXT: [[S:%.*]] = "jtc.reduce"([[M]]) {fn = "add", axes = array<i64: 0>} : (tensor<4x5xf32>) -> tensor<5xf32>
// CHECK-NEXT: return [[S]]
func.func @maps(%x: tensor<4x5xf32>, %y: tensor<4xf32>) -> tensor<5xf32> {
  %0 = "jtc.reindex"(%y) {map = affine_map<(d0, d1) -> (d0)>, fill = 0.0 : f32} : (tensor<4xf32>) -> tensor<4x5xf32>
  %1 = "jtc.exp"(%0) : (tensor<4x5xf32>) -> tensor<4x5xf32>
  %2 = "jtc.mul"(%x, %1) : (tensor<4x5xf32>, tensor<4x5xf32>) -> tensor<4x5xf32>
  %3 = "jtc.reindex_reduce"(%2) {fn = "add", map = affine_map<(d0, d1) -> (d1)>} : (tensor<4x5xf32>) -> tensor<5xf32>
  return %3 : tensor<5xf32>
}

// -----

// Two sums are one, unless the first is a contraction: a matrix product, whose rows are summed.
// CHECK-LABEL: func.func @sums
// CHECK-NEXT: [[S:%.*]] = "jtc.reduce"(%arg0) {fn = "add", axes = array<i64: 0, 1>} : (tensor<4x5x6xf32>) -> tensor<6xf32>
// CHECK: [[P:%.*]] = "jtc.reduce"({{%.*}}) {fn = "add", axes = array<i64: 1>} : (tensor<4x5x6xf32>) -> tensor<4x6xf32>
// CHECK-NEXT: [[R:%.*]] = "jtc.reduce"([[P]]) {fn = "add", axes = array<i64: 0>} : (tensor<4x6xf32>) -> tensor<6xf32>
// CHECK-NEXT: return [[S]], [[R]]
func.func @sums(%x: tensor<4x5x6xf32>, %a: tensor<4x5xf32>, %b: tensor<5x6xf32>) -> (tensor<6xf32>, tensor<6xf32>) {
  %0 = "jtc.reduce"(%x) {fn = "add", axes = array<i64: 1>} : (tensor<4x5x6xf32>) -> tensor<4x6xf32>
  %1 = "jtc.reduce"(%0) {fn = "add", axes = array<i64: 0>} : (tensor<4x6xf32>) -> tensor<6xf32>
  %2 = "jtc.broadcast"(%a) {dims = array<i64: 0, 1>} : (tensor<4x5xf32>) -> tensor<4x5x6xf32>
  %3 = "jtc.broadcast"(%b) {dims = array<i64: 1, 2>} : (tensor<5x6xf32>) -> tensor<4x5x6xf32>
  %4 = "jtc.mul"(%2, %3) : (tensor<4x5x6xf32>, tensor<4x5x6xf32>) -> tensor<4x5x6xf32>
  %5 = "jtc.reduce"(%4) {fn = "add", axes = array<i64: 1>} : (tensor<4x5x6xf32>) -> tensor<4x6xf32>
  %6 = "jtc.reduce"(%5) {fn = "add", axes = array<i64: 0>} : (tensor<4x6xf32>) -> tensor<6xf32>
  return %1, %6 : tensor<6xf32>, tensor<6xf32>
}
