// Two products with what reduces the rows of the first between them are one kernel.
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse --split-input-file | FileCheck %s
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse=chains=rows --split-input-file | FileCheck %s --check-prefix=ROWS
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse=strict=true --split-input-file | FileCheck %s --check-prefix=ROWS
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse=chains=off --split-input-file | FileCheck %s --check-prefix=OFF

// Attention: blocks of 128 columns come by.  The maximum so far is there after every block, with what it was before;
// sums shrink by exp(before - maximum), and the product is divided at the end of a row.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: axes = ["i0:8", "i1:512", "i2:512", "r0:64r"]
// CHECK: write = {buffer = "[[X:t[0-9]+]]", view = tensor<86x144xf32>, index = ["i1", "i2"]}
// CHECK: axes = ["i0:8", "i1:512", "i2:512r"]
// CHECK: write = {buffer = "[[M:t[0-9]+]]", view = tensor<86xf32>, index = ["i1"]}
// CHECK: reduce = "max",
// CHECK: before = {buffer = "[[M]]_before", view = tensor<86xf32>, index = ["i1"]}
// CHECK: "jtc.where"
// CHECK: %[[GREW:[0-9]+]] = "jtc.min"
// CHECK: "jtc.exp"(%[[GREW]])
// CHECK: write = {buffer = "[[M]]_finite", view = tensor<86xf32>, index = ["i1"]}
// CHECK: more = [
// CHECK-NEXT: {buffer = "[[M]]_shrink", view = tensor<86xf32>, index = ["i1"]}]
// CHECK: %[[LOW:[0-9]+]] = "jtc.min"
// CHECK: "jtc.exp"(%[[LOW]])
// CHECK: "jtc.yield"(%acc, %[[M]]_shrink)
// CHECK: axes = ["i0:8", "i1:512", "i2:512r"]
// CHECK: keep = {buffer = "[[E:t[0-9]+]]", view = tensor<86x144xf32>, index = ["i1", "i2"]}
// CHECK: rescale
// CHECK: "jtc.div"(%acc, %[[L:t[0-9]+]])
// CHECK: axes = ["i0:8", "i1:512", "i2:512r", "i3:64"]
// CHECK: {buffer = "[[E]]", view = tensor<86x144xf32>, index = ["i1", "i2"]}
// CHECK: rescale
// CHECK: shared = ["i0:8 by 1", "i1:512 by 86", "i2:512 by 128"]
// CHECK-NOT: "jtc.kernel"
// ROWS-LABEL: "jtc.program"
// ROWS-NOT: before =
// ROWS-NOT: rescale
// ROWS: view = tensor<43x528xf32>
// ROWS: "jtc.div"(%t{{[0-9]+}}, %t{{[0-9]+}})
// ROWS: shared = ["i0:8 by 1", "i1:512 by 43"]
// ROWS-NOT: "jtc.kernel"
// OFF-LABEL: "jtc.program"
// OFF-COUNT-3: "jtc.kernel"
func.func @attention(%q: tensor<8x512x64xf32>, %k: tensor<8x512x64xf32>, %v: tensor<8x512x64xf32>) -> tensor<8x512x64xf32> {
  %0 = "jtc.broadcast"(%q) {dims = array<i64: 0, 1, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %1 = "jtc.broadcast"(%k) {dims = array<i64: 0, 2, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<8x512x512x64xf32>, tensor<8x512x512x64xf32>) -> tensor<8x512x512x64xf32>
  %x = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 3>} : (tensor<8x512x512x64xf32>) -> tensor<8x512x512xf32>
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
