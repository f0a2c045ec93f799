// All columns are needed where a mask has a hole, and where what is masked is a number like others.
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse --split-input-file | FileCheck %s

// CHECK-LABEL: "jtc.program"
// CHECK: rescale
// CHECK: shared = ["i0:8 by 1", "i1:512 by 86", "i2:512 by 128"], reasons
// CHECK-NOT: needed
func.func @hole(%q: tensor<8x512x64xf32>, %k: tensor<8x512x64xf32>, %v: tensor<8x512x64xf32>) -> tensor<8x512x64xf32> {
  %0 = "jtc.broadcast"(%q) {dims = array<i64: 0, 1, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %1 = "jtc.broadcast"(%k) {dims = array<i64: 0, 2, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<8x512x512x64xf32>, tensor<8x512x512x64xf32>) -> tensor<8x512x512x64xf32>
  %s = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 3>} : (tensor<8x512x512x64xf32>) -> tensor<8x512x512xf32>
  %i = "jtc.iota"() {axis = 1 : i64} : () -> tensor<8x512x512xi64>
  %j = "jtc.iota"() {axis = 2 : i64} : () -> tensor<8x512x512xi64>
  %c = "jtc.ne"(%j, %i) : (tensor<8x512x512xi64>, tensor<8x512x512xi64>) -> tensor<8x512x512xi1>
  %fill = "jtc.constant"() {value = 0xFF800000 : f32} : () -> tensor<8x512x512xf32>
  %x = "jtc.where"(%c, %s, %fill) : (tensor<8x512x512xi1>, tensor<8x512x512xf32>, tensor<8x512x512xf32>) -> tensor<8x512x512xf32>
  %m = "jtc.reduce"(%x) {fn = "max", axes = array<i64: 2>} : (tensor<8x512x512xf32>) -> tensor<8x512xf32>
  %3 = "jtc.broadcast"(%m) {dims = array<i64: 0, 1>} : (tensor<8x512xf32>) -> tensor<8x512x512xf32>
  %4 = "jtc.sub"(%x, %3) : (tensor<8x512x512xf32>, tensor<8x512x512xf32>) -> tensor<8x512x512xf32>
  %e = "jtc.exp"(%4) : (tensor<8x512x512xf32>) -> tensor<8x512x512xf32>
  %l = "jtc.reduce"(%e) {fn = "add", axes = array<i64: 2>} : (tensor<8x512x512xf32>) -> tensor<8x512xf32>
  %5 = "jtc.broadcast"(%l) {dims = array<i64: 0, 1>} : (tensor<8x512xf32>) -> tensor<8x512x512xf32>
  %p = "jtc.div"(%e, %5) : (tensor<8x512x512xf32>, tensor<8x512x512xf32>) -> tensor<8x512x512xf32>
  %6 = "jtc.broadcast"(%p) {dims = array<i64: 0, 1, 2>} : (tensor<8x512x512xf32>) -> tensor<8x512x512x64xf32>
  %7 = "jtc.broadcast"(%v) {dims = array<i64: 0, 2, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %8 = "jtc.mul"(%6, %7) : (tensor<8x512x512x64xf32>, tensor<8x512x512x64xf32>) -> tensor<8x512x512x64xf32>
  %9 = "jtc.reduce"(%8) {fn = "add", axes = array<i64: 2>} : (tensor<8x512x512x64xf32>) -> tensor<8x512x64xf32>
  return %9 : tensor<8x512x64xf32>
}

// -----

// CHECK-LABEL: "jtc.program"
// CHECK: rescale
// CHECK: shared = ["i0:8 by 1", "i1:512 by 86", "i2:512 by 128"], reasons
// CHECK-NOT: needed
func.func @finite(%q: tensor<8x512x64xf32>, %k: tensor<8x512x64xf32>, %v: tensor<8x512x64xf32>) -> tensor<8x512x64xf32> {
  %0 = "jtc.broadcast"(%q) {dims = array<i64: 0, 1, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %1 = "jtc.broadcast"(%k) {dims = array<i64: 0, 2, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<8x512x512x64xf32>, tensor<8x512x512x64xf32>) -> tensor<8x512x512x64xf32>
  %s = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 3>} : (tensor<8x512x512x64xf32>) -> tensor<8x512x512xf32>
  %i = "jtc.iota"() {axis = 1 : i64} : () -> tensor<8x512x512xi64>
  %j = "jtc.iota"() {axis = 2 : i64} : () -> tensor<8x512x512xi64>
  %c = "jtc.le"(%j, %i) : (tensor<8x512x512xi64>, tensor<8x512x512xi64>) -> tensor<8x512x512xi1>
  %fill = "jtc.constant"() {value = -1.0e9 : f32} : () -> tensor<8x512x512xf32>
  %x = "jtc.where"(%c, %s, %fill) : (tensor<8x512x512xi1>, tensor<8x512x512xf32>, tensor<8x512x512xf32>) -> tensor<8x512x512xf32>
  %m = "jtc.reduce"(%x) {fn = "max", axes = array<i64: 2>} : (tensor<8x512x512xf32>) -> tensor<8x512xf32>
  %3 = "jtc.broadcast"(%m) {dims = array<i64: 0, 1>} : (tensor<8x512xf32>) -> tensor<8x512x512xf32>
  %4 = "jtc.sub"(%x, %3) : (tensor<8x512x512xf32>, tensor<8x512x512xf32>) -> tensor<8x512x512xf32>
  %e = "jtc.exp"(%4) : (tensor<8x512x512xf32>) -> tensor<8x512x512xf32>
  %l = "jtc.reduce"(%e) {fn = "add", axes = array<i64: 2>} : (tensor<8x512x512xf32>) -> tensor<8x512xf32>
  %5 = "jtc.broadcast"(%l) {dims = array<i64: 0, 1>} : (tensor<8x512xf32>) -> tensor<8x512x512xf32>
  %p = "jtc.div"(%e, %5) : (tensor<8x512x512xf32>, tensor<8x512x512xf32>) -> tensor<8x512x512xf32>
  %6 = "jtc.broadcast"(%p) {dims = array<i64: 0, 1, 2>} : (tensor<8x512x512xf32>) -> tensor<8x512x512x64xf32>
  %7 = "jtc.broadcast"(%v) {dims = array<i64: 0, 2, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %8 = "jtc.mul"(%6, %7) : (tensor<8x512x512x64xf32>, tensor<8x512x512x64xf32>) -> tensor<8x512x512x64xf32>
  %9 = "jtc.reduce"(%8) {fn = "add", axes = array<i64: 2>} : (tensor<8x512x512x64xf32>) -> tensor<8x512x64xf32>
  return %9 : tensor<8x512x64xf32>
}
