// Composite ops become their definition; what has none stays.
// RUN: jtc-opt %s --graph-expand | FileCheck %s
// Kernels are refused.
// RUN: not jtc-opt %s --graph-expand --graph-fuse --graph-expand 2>&1 | FileCheck %s --check-prefix=REFUSED
// REFUSED: graph-expand works on graphs, not on kernels

// CHECK-LABEL: func.func @argmax
// CHECK-NEXT: [[BEST:%.*]] = "jtc.reduce"(%arg0) {fn = "max", axes = array<i64: 1>}
// CHECK-NEXT: [[ALL:%.*]] = "jtc.broadcast"([[BEST]]) {dims = array<i64: 0>} : (tensor<4xf32>) -> tensor<4x8xf32>
// CHECK-NEXT: [[HIT:%.*]] = "jtc.eq"(%arg0, [[ALL]])
// CHECK-NEXT: [[NAN:%.*]] = "jtc.isnan"(%arg0)
// CHECK-NEXT: [[EITHER:%.*]] = "jtc.or"([[HIT]], [[NAN]])
// CHECK-NEXT: [[PLACE:%.*]] = "jtc.iota"() {axis = 1 : i64} : () -> tensor<4x8xi64>
// CHECK-NEXT: [[END:%.*]] = "jtc.constant"() {value = 8 : i64}
// CHECK-NEXT: [[AT:%.*]] = "jtc.where"([[EITHER]], [[PLACE]], [[END]])
// CHECK-NEXT: [[FIRST:%.*]] = "jtc.reduce"([[AT]]) {fn = "min", axes = array<i64: 1>} : (tensor<4x8xi64>) -> tensor<4xi64>
// CHECK-NEXT: [[EXP:%.*]] = "jtc.exp"(%arg0)
// CHECK-NEXT: return [[FIRST]], [[EXP]]
func.func @argmax(%x: tensor<4x8xf32>) -> (tensor<4xi64>, tensor<4x8xf32>) {
  %0 = "jtc.arg_reduce"(%x) {fn = "max", axis = 1 : i64} : (tensor<4x8xf32>) -> tensor<4xi64>
  %1 = "jtc.exp"(%x) : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return %0, %1 : tensor<4xi64>, tensor<4x8xf32>
}
