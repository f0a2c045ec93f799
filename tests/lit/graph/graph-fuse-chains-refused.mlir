// What cannot be done by blocks of columns has whole rows; what does not pay stays apart.  Each says why.
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse --split-input-file | FileCheck %s
// RUN: not jtc-opt %s --graph-fuse=chains=some --split-input-file 2>&1 | FileCheck %s --check-prefix=BAD
// BAD: error: graph-fuse: chains='some' is not one of online, rows, off

// The mean of a whole row is needed at every one of its columns.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: view = tensor<86x528xf32>
// CHECK-NOT: rescale
// CHECK: shared = ["i0:8 by 1", "i1:512 by 86"], reasons = {{.*}}["out0", "whole rows lie between its products: t{{[0-9]+}} is a sum of whole rows that is needed at every column"]
// CHECK-NOT: "jtc.kernel"
func.func @centred(%q: tensor<8x512x64xf32>, %k: tensor<8x512x64xf32>, %v: tensor<8x512x64xf32>) -> tensor<8x512x64xf32> {
  %0 = "jtc.broadcast"(%q) {dims = array<i64: 0, 1, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %1 = "jtc.broadcast"(%k) {dims = array<i64: 0, 2, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<8x512x512x64xf32>, tensor<8x512x512x64xf32>) -> tensor<8x512x512x64xf32>
  %x = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 3>} : (tensor<8x512x512x64xf32>) -> tensor<8x512x512xf32>
  %m = "jtc.reduce"(%x) {fn = "add", axes = array<i64: 2>} : (tensor<8x512x512xf32>) -> tensor<8x512xf32>
  %3 = "jtc.broadcast"(%m) {dims = array<i64: 0, 1>} : (tensor<8x512xf32>) -> tensor<8x512x512xf32>
  %p = "jtc.sub"(%x, %3) : (tensor<8x512x512xf32>, tensor<8x512x512xf32>) -> tensor<8x512x512xf32>
  %6 = "jtc.broadcast"(%p) {dims = array<i64: 0, 1, 2>} : (tensor<8x512x512xf32>) -> tensor<8x512x512x64xf32>
  %7 = "jtc.broadcast"(%v) {dims = array<i64: 0, 2, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %8 = "jtc.mul"(%6, %7) : (tensor<8x512x512x64xf32>, tensor<8x512x512x64xf32>) -> tensor<8x512x512x64xf32>
  %9 = "jtc.reduce"(%8) {fn = "add", axes = array<i64: 2>} : (tensor<8x512x512x64xf32>) -> tensor<8x512x64xf32>
  return %9 : tensor<8x512x64xf32>
}

// -----

// Two layers of a network: the weights are large, and would pass by for every block of rows.
// CHECK-LABEL: "jtc.program"
// CHECK-NOT: rescale
// CHECK: does not join: {{[0-9]+}} KB would pass by for {{[0-9]+}} KB that stay out of memory
// CHECK-COUNT-2: "jtc.kernel"
func.func @layers(%q: tensor<1024x2048xf32>, %k: tensor<512x2048xf32>, %v: tensor<512x2048xf32>) -> tensor<1024x2048xf32> {
  %0 = "jtc.broadcast"(%q) {dims = array<i64: 0, 2>} : (tensor<1024x2048xf32>) -> tensor<1024x512x2048xf32>
  %1 = "jtc.broadcast"(%k) {dims = array<i64: 1, 2>} : (tensor<512x2048xf32>) -> tensor<1024x512x2048xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<1024x512x2048xf32>, tensor<1024x512x2048xf32>) -> tensor<1024x512x2048xf32>
  %x = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 2>} : (tensor<1024x512x2048xf32>) -> tensor<1024x512xf32>
  %m = "jtc.reduce"(%x) {fn = "max", axes = array<i64: 1>} : (tensor<1024x512xf32>) -> tensor<1024xf32>
  %3 = "jtc.broadcast"(%m) {dims = array<i64: 0>} : (tensor<1024xf32>) -> tensor<1024x512xf32>
  %p = "jtc.sub"(%x, %3) : (tensor<1024x512xf32>, tensor<1024x512xf32>) -> tensor<1024x512xf32>
  %6 = "jtc.broadcast"(%p) {dims = array<i64: 0, 1>} : (tensor<1024x512xf32>) -> tensor<1024x512x2048xf32>
  %7 = "jtc.broadcast"(%v) {dims = array<i64: 1, 2>} : (tensor<512x2048xf32>) -> tensor<1024x512x2048xf32>
  %8 = "jtc.mul"(%6, %7) : (tensor<1024x512x2048xf32>, tensor<1024x512x2048xf32>) -> tensor<1024x512x2048xf32>
  %9 = "jtc.reduce"(%8) {fn = "add", axes = array<i64: 1>} : (tensor<1024x512x2048xf32>) -> tensor<1024x2048xf32>
  return %9 : tensor<1024x2048xf32>
}
