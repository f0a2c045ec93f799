// Every meta-op, and one function for each kind of scalar function, is read, verified and printed.
// RUN: jtc-opt %s | FileCheck %s
// What is printed is read back as the same.
// RUN: jtc-opt %s | jtc-opt | FileCheck %s

// CHECK: module attributes {jtc.version = 1 : i64}
// CHECK: func.func @ops(%arg0: tensor<4x8xf32> {jtc.name = "x"}, %arg1: tensor<3xi64> {jtc.name = "ids"})
// CHECK-SAME: -> (tensor<16x4xf32> {jtc.name = "y"}, tensor<i32> {jtc.name = "z"})
func.func @ops(%x: tensor<4x8xf32> {jtc.name = "x"}, %ids: tensor<3xi64> {jtc.name = "ids"}) -> (tensor<16x4xf32> {jtc.name = "y"}, tensor<i32> {jtc.name = "z"}) {
  // CHECK: %0 = "jtc.constant"() {value = 0.1 : f32} : () -> tensor<4x8xf32>
  %c = "jtc.constant"() {value = 0.1 : f32} : () -> tensor<4x8xf32>
  // CHECK: %{{[0-9]+}} = "jtc.add"(%arg0, %0) : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %a = "jtc.add"(%x, %c) : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  // CHECK: "jtc.lt"(%1, %arg0) : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xi1>
  %l = "jtc.lt"(%a, %x) : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xi1>
  // CHECK: "jtc.exp"(%1)
  %e = "jtc.exp"(%a) : (tensor<4x8xf32>) -> tensor<4x8xf32>
  // CHECK: "jtc.where"(%2, %arg0, %3) : (tensor<4x8xi1>, tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %w = "jtc.where"(%l, %x, %e) : (tensor<4x8xi1>, tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  // CHECK: "jtc.reduce"(%4) {fn = "max", axes = array<i64: 1>} : (tensor<4x8xf32>) -> tensor<4xf32>
  %r = "jtc.reduce"(%w) {fn = "max", axes = array<i64: 1>} : (tensor<4x8xf32>) -> tensor<4xf32>
  // CHECK: "jtc.broadcast"(%5) {dims = array<i64: 0>} : (tensor<4xf32>) -> tensor<4x8xf32>
  %b = "jtc.broadcast"(%r) {dims = array<i64: 0>} : (tensor<4xf32>) -> tensor<4x8xf32>
  // CHECK: "jtc.reindex"(%6) {map = affine_map<(d0, d1) -> (d0, 2*d1 - 1)>, fill = 0xFF800000 : f32} : (tensor<4x8xf32>) -> tensor<4x5xf32>
  %i = "jtc.reindex"(%b) {map = affine_map<(i, j) -> (i, j * 2 - 1)>, fill = 0xFF800000 : f32} : (tensor<4x8xf32>) -> tensor<4x5xf32>
  // CHECK: "jtc.reindex_reduce"(%7) {fn = "add", map = affine_map<(d0, d1) -> (d0 + d1)>} : (tensor<4x5xf32>) -> tensor<8xf32>
  %s = "jtc.reindex_reduce"(%i) {fn = "add", map = affine_map<(i, j) -> (i + j)>} : (tensor<4x5xf32>) -> tensor<8xf32>
  // CHECK: "jtc.gather"(%8, %arg1) {map = affine_map<(d0) -> (0)>, dims = array<i64: 0>, fill = 0.0 : f32} : (tensor<8xf32>, tensor<3xi64>) -> tensor<3xf32>
  %g = "jtc.gather"(%s, %ids) {map = affine_map<(i) -> (0)>, dims = array<i64: 0>, fill = 0.0 : f32} : (tensor<8xf32>, tensor<3xi64>) -> tensor<3xf32>
  // CHECK: "jtc.scatter"(%8, %9, %arg1) {fn = "replace", map = affine_map<(d0) -> (0)>, dims = array<i64: 0>} : (tensor<8xf32>, tensor<3xf32>, tensor<3xi64>) -> tensor<8xf32>
  %p = "jtc.scatter"(%s, %g, %ids) {fn = "replace", map = affine_map<(i) -> (0)>, dims = array<i64: 0>} : (tensor<8xf32>, tensor<3xf32>, tensor<3xi64>) -> tensor<8xf32>
  // CHECK: "jtc.reshape"(%10) : (tensor<8xf32>) -> tensor<1x8xf32>
  %h = "jtc.reshape"(%p) : (tensor<8xf32>) -> tensor<1x8xf32>
  // CHECK: "jtc.broadcast"(%11) {dims = array<i64: 0, 1>} : (tensor<1x8xf32>) -> tensor<4x8xf32>
  %q = "jtc.broadcast"(%h) {dims = array<i64: 0, 1>} : (tensor<1x8xf32>) -> tensor<4x8xf32>
  // CHECK: %[[Y:.*]] = "jtc.transpose"(%12) {perm = array<i64: 1, 0>} : (tensor<4x8xf32>) -> tensor<8x4xf32>
  %t = "jtc.transpose"(%q) {perm = array<i64: 1, 0>} : (tensor<4x8xf32>) -> tensor<8x4xf32>
  // CHECK: "jtc.constant"() {value = "table"} : () -> tensor<8x4xf16>
  %v = "jtc.constant"() {value = "table"} : () -> tensor<8x4xf16>
  // CHECK: "jtc.cast"(%14) : (tensor<8x4xf16>) -> tensor<8x4xf32>
  %u = "jtc.cast"(%v) : (tensor<8x4xf16>) -> tensor<8x4xf32>
  // CHECK: "jtc.sub"(%[[Y]], %15)
  %y = "jtc.sub"(%t, %u) : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
  // CHECK: %[[R:.*]] = "jtc.recompute"(%16) : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %x2 = "jtc.recompute"(%y) : (tensor<8x4xf32>) -> tensor<8x4xf32>
  // CHECK: %18 = "jtc.scan"(%[[R]]) {fn = "mul", axis = 1 : i64} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %x3 = "jtc.scan"(%x2) {fn = "mul", axis = 1 : i64} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  // CHECK: %19 = "jtc.recurrence"(%18, %[[R]]) {axis = 0 : i64} : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
  %x4 = "jtc.recurrence"(%x3, %x2) {axis = 0 : i64} : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
  // CHECK: %20 = "jtc.concat"(%19, %[[R]]) {axis = 0 : i64} : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<16x4xf32>
  %x5 = "jtc.concat"(%x4, %x2) {axis = 0 : i64} : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<16x4xf32>
  // CHECK: "jtc.arg_reduce"(%[[Y]]) {fn = "min", axis = 0 : i64} : (tensor<8x4xf32>) -> tensor<4xi64>
  %m = "jtc.arg_reduce"(%t) {fn = "min", axis = 0 : i64} : (tensor<8x4xf32>) -> tensor<4xi64>
  // CHECK: "jtc.iota"() {axis = 0 : i64} : () -> tensor<4xi64>
  %n = "jtc.iota"() {axis = 0 : i64} : () -> tensor<4xi64>
  // CHECK: "jtc.mul"(%21, %22) : (tensor<4xi64>, tensor<4xi64>) -> tensor<4xi64>
  %o = "jtc.mul"(%m, %n) : (tensor<4xi64>, tensor<4xi64>) -> tensor<4xi64>
  // CHECK: "jtc.reduce"(%23) {fn = "add", axes = array<i64: 0>} : (tensor<4xi64>) -> tensor<i64>
  %k = "jtc.reduce"(%o) {fn = "add", axes = array<i64: 0>} : (tensor<4xi64>) -> tensor<i64>
  // CHECK: "jtc.random"(%24) {stream = 3 : i64} : (tensor<i64>) -> tensor<i32>
  %z = "jtc.random"(%k) {stream = 3 : i64} : (tensor<i64>) -> tensor<i32>
  // CHECK: return %20, %25 : tensor<16x4xf32>, tensor<i32>
  return %x5, %z : tensor<16x4xf32>, tensor<i32>
}
