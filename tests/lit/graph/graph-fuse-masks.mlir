// Where a mask of indices leaves columns out, the kernel says which are needed; the mask is a guard, and is not stored.
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse --split-input-file | FileCheck %s
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse=chains=rows --split-input-file | FileCheck %s --check-prefix=ROWS
// ROWS-NOT: needed

// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: "jtc.inbounds"() {guards = ["0 <= i1 - i2 < 512"]}
// CHECK: shared = ["i0:8 by 1", "i1:512 by 86", "i2:512 by 128"], needed = ["0 <= i1 - i2 < 512"]
// CHECK-NOT: "jtc.kernel"
func.func @causal(%q: tensor<8x512x64xf32>, %k: tensor<8x512x64xf32>, %v: tensor<8x512x64xf32>) -> tensor<8x512x64xf32> {
  %0 = "jtc.broadcast"(%q) {dims = array<i64: 0, 1, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %1 = "jtc.broadcast"(%k) {dims = array<i64: 0, 2, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<8x512x512x64xf32>, tensor<8x512x512x64xf32>) -> tensor<8x512x512x64xf32>
  %s = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 3>} : (tensor<8x512x512x64xf32>) -> tensor<8x512x512xf32>
  %i = "jtc.iota"() {axis = 1 : i64} : () -> tensor<8x512x512xi64>
  %j = "jtc.iota"() {axis = 2 : i64} : () -> tensor<8x512x512xi64>
  %c = "jtc.le"(%j, %i) : (tensor<8x512x512xi64>, tensor<8x512x512xi64>) -> tensor<8x512x512xi1>
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

// A window that slides with the rows.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: "jtc.inbounds"() {guards = ["0 <= i1 - i2 < 512", "0 <= -i1 + i2 + 99 < 611"]}
// CHECK: needed = ["0 <= i1 - i2 < 100"]
// CHECK-NOT: "jtc.kernel"
func.func @window(%q: tensor<8x512x64xf32>, %k: tensor<8x512x64xf32>, %v: tensor<8x512x64xf32>) -> tensor<8x512x64xf32> {
  %0 = "jtc.broadcast"(%q) {dims = array<i64: 0, 1, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %1 = "jtc.broadcast"(%k) {dims = array<i64: 0, 2, 3>} : (tensor<8x512x64xf32>) -> tensor<8x512x512x64xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<8x512x512x64xf32>, tensor<8x512x512x64xf32>) -> tensor<8x512x512x64xf32>
  %s = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 3>} : (tensor<8x512x512x64xf32>) -> tensor<8x512x512xf32>
  %i = "jtc.iota"() {axis = 1 : i64} : () -> tensor<8x512x512xi64>
  %j = "jtc.iota"() {axis = 2 : i64} : () -> tensor<8x512x512xi64>
  %a = "jtc.le"(%j, %i) : (tensor<8x512x512xi64>, tensor<8x512x512xi64>) -> tensor<8x512x512xi1>
  %d = "jtc.sub"(%i, %j) : (tensor<8x512x512xi64>, tensor<8x512x512xi64>) -> tensor<8x512x512xi64>
  %w = "jtc.constant"() {value = 100 : i64} : () -> tensor<8x512x512xi64>
  %b = "jtc.lt"(%d, %w) : (tensor<8x512x512xi64>, tensor<8x512x512xi64>) -> tensor<8x512x512xi1>
  %c = "jtc.and"(%a, %b) : (tensor<8x512x512xi1>, tensor<8x512x512xi1>) -> tensor<8x512x512xi1>
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
