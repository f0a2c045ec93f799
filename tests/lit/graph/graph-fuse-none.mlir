// Without fusion every operation is a kernel; what only moves is read in place, a product and the sum over it are one.
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse=fusion=none | FileCheck %s
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse | FileCheck %s --check-prefix=FULL
// RUN: not jtc-opt %s --graph-fuse=fusion=some 2>&1 | FileCheck %s --check-prefix=BAD

// FULL-COUNT-1: "jtc.kernel"
// FULL-NOT: "jtc.kernel"
// CHECK: ops = ["broadcast", "broadcast", "mul", "reduce"]
// CHECK: ops = ["broadcast", "add"]
// CHECK: ops = ["max"]
// CHECK-NOT: "jtc.kernel"
// BAD: graph-fuse: fusion='some' is not one of full, elementwise, none
func.func @layer(%x: tensor<4x8xf32>, %w: tensor<8x16xf32>, %b: tensor<16xf32>) -> tensor<4x16xf32> {
  %zero = "jtc.constant"() {value = 0.0 : f32} : () -> tensor<4x16xf32>
  %0 = "jtc.broadcast"(%x) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %t = "jtc.transpose"(%w) {perm = array<i64: 1, 0>} : (tensor<8x16xf32>) -> tensor<16x8xf32>
  %1 = "jtc.broadcast"(%t) {dims = array<i64: 1, 2>} : (tensor<16x8xf32>) -> tensor<4x16x8xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %3 = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 2>} : (tensor<4x16x8xf32>) -> tensor<4x16xf32>
  %4 = "jtc.broadcast"(%b) {dims = array<i64: 1>} : (tensor<16xf32>) -> tensor<4x16xf32>
  %5 = "jtc.add"(%3, %4) : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  %6 = "jtc.max"(%5, %zero) : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  return %6 : tensor<4x16xf32>
}
