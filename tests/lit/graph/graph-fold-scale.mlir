// RUN: jtc-opt %s --graph-fold-scale --graph-canonicalize --split-input-file | FileCheck %s

// (x . w) * s + t with constant w, s, t: the scale moves into the weights, the shift stays.
// CHECK-LABEL: func.func @folded
// CHECK: [[W:%.*]] = "jtc.constant"() {value = "w"} : () -> tensor<8x6xf32>
// CHECK: [[S:%.*]] = "jtc.constant"() {value = "s"} : () -> tensor<6xf32>
// CHECK: [[B:%.*]] = "jtc.broadcast"([[S]]) {dims = array<i64: 1>} : (tensor<6xf32>) -> tensor<8x6xf32>
// CHECK: [[WS:%.*]] = "jtc.mul"([[W]], [[B]]) : (tensor<8x6xf32>, tensor<8x6xf32>) -> tensor<8x6xf32>
// CHECK: "jtc.broadcast"([[WS]]) {dims = array<i64: 2, 1>} : (tensor<8x6xf32>) -> tensor<4x6x8xf32>
// CHECK: [[Y:%.*]] = "jtc.reduce"
// CHECK-NOT: jtc.mul
// CHECK: "jtc.add"([[Y]]
func.func @folded(%x: tensor<4x8xf32>) -> tensor<4x6xf32> {
  %w = "jtc.constant"() {value = "w"} : () -> tensor<8x6xf32>
  %s = "jtc.constant"() {value = "s"} : () -> tensor<6xf32>
  %t = "jtc.constant"() {value = "t"} : () -> tensor<6xf32>
  %0 = "jtc.broadcast"(%x) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x6x8xf32>
  %1 = "jtc.broadcast"(%w) {dims = array<i64: 2, 1>} : (tensor<8x6xf32>) -> tensor<4x6x8xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<4x6x8xf32>, tensor<4x6x8xf32>) -> tensor<4x6x8xf32>
  %3 = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 2>} : (tensor<4x6x8xf32>) -> tensor<4x6xf32>
  %4 = "jtc.broadcast"(%s) {dims = array<i64: 1>} : (tensor<6xf32>) -> tensor<4x6xf32>
  %5 = "jtc.mul"(%3, %4) : (tensor<4x6xf32>, tensor<4x6xf32>) -> tensor<4x6xf32>
  %6 = "jtc.broadcast"(%t) {dims = array<i64: 1>} : (tensor<6xf32>) -> tensor<4x6xf32>
  %7 = "jtc.add"(%5, %6) : (tensor<4x6xf32>, tensor<4x6xf32>) -> tensor<4x6xf32>
  return %7 : tensor<4x6xf32>
}

// -----

// Refused: the scale varies along rows, which the weights do not have.
// CHECK-LABEL: func.func @rows
// CHECK: [[Y:%.*]] = "jtc.reduce"
// CHECK: [[B:%.*]] = "jtc.broadcast"({{.*}}) {dims = array<i64: 0>}
// CHECK: "jtc.mul"([[Y]], [[B]])
func.func @rows(%x: tensor<4x8xf32>) -> tensor<4x6xf32> {
  %w = "jtc.constant"() {value = "w"} : () -> tensor<8x6xf32>
  %s = "jtc.constant"() {value = "s"} : () -> tensor<4xf32>
  %0 = "jtc.broadcast"(%x) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x6x8xf32>
  %1 = "jtc.broadcast"(%w) {dims = array<i64: 2, 1>} : (tensor<8x6xf32>) -> tensor<4x6x8xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<4x6x8xf32>, tensor<4x6x8xf32>) -> tensor<4x6x8xf32>
  %3 = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 2>} : (tensor<4x6x8xf32>) -> tensor<4x6xf32>
  %4 = "jtc.broadcast"(%s) {dims = array<i64: 0>} : (tensor<4xf32>) -> tensor<4x6xf32>
  %5 = "jtc.mul"(%3, %4) : (tensor<4x6xf32>, tensor<4x6xf32>) -> tensor<4x6xf32>
  return %5 : tensor<4x6xf32>
}

// -----

// Division by a repeated value: one reciprocal for each of them.  A number keeps its division unless it is a power of two.
// CHECK-LABEL: func.func @divisions
// CHECK: [[R:%.*]] = "jtc.div"({{.*}}, %arg1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
// CHECK: [[B:%.*]] = "jtc.broadcast"([[R]])
// CHECK: [[Q:%.*]] = "jtc.mul"(%arg0, [[B]])
// CHECK: [[THREE:%.*]] = "jtc.constant"() {value = 3.0 : f32}
// CHECK: [[D:%.*]] = "jtc.div"([[Q]], [[THREE]])
// CHECK: [[E:%.*]] = "jtc.constant"() {value = 0.125 : f32}
// CHECK: "jtc.mul"([[D]], [[E]])
func.func @divisions(%x: tensor<4x8xf32>, %y: tensor<4xf32>) -> tensor<4x8xf32> {
  %0 = "jtc.broadcast"(%y) {dims = array<i64: 0>} : (tensor<4xf32>) -> tensor<4x8xf32>
  %1 = "jtc.div"(%x, %0) : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %three = "jtc.constant"() {value = 3.0 : f32} : () -> tensor<4x8xf32>
  %2 = "jtc.div"(%1, %three) : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %eight = "jtc.constant"() {value = 8.0 : f32} : () -> tensor<4x8xf32>
  %3 = "jtc.div"(%2, %eight) : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %3 : tensor<4x8xf32>
}
