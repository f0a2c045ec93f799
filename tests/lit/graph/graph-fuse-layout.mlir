// Values between kernels are stored in the order that costs the stages that write and read them least.
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse --split-input-file | FileCheck %s
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse=layout=off --split-input-file | FileCheck %s --check-prefix=OFF
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse=layout=0 --split-input-file | FileCheck %s --check-prefix=FIRST

// A convolution of what is computed element by element, with weights that are known: channels lie side by side, as its
// filters do; in and out the image lies as the user has it.
// CHECK-LABEL: "jtc.program"
// CHECK: {name = "x", type = tensor<1x128x32x32xf32>}
// CHECK-NEXT: {name = "[[T:t[0-9]+]]", type = tensor<1x32x32x128xf32>, stored = {order = [0, 2, 3, 1], pad = 0 : i64,
// CHECK-SAME: why = "estimated to save {{.*}} cycles"}}
// CHECK: write = {buffer = "[[T]]", view = tensor<1x32x32x128xf32>, index = ["0", "i1", "i2", "i0"]}
// CHECK: {buffer = "[[T]]", view = tensor<1x32x32x128xf32>, index = ["0", "i1 + r1 - 1", "i2 + r2 - 1", "r0"]
// CHECK: write = {buffer = "out0", view = tensor<1x128x32x32xf32>
// OFF-LABEL: "jtc.program"
// OFF-NOT: stored
// OFF: view = tensor<1x128x32x32xf32>, index = ["0", "r0", "i1 + r1 - 1", "i2 + r2 - 1"]
// FIRST-LABEL: "jtc.program"
// FIRST: type = tensor<128x32x32x17xf32>, stored = {order = [1, 2, 3, 0], pad = 16 : i64, why = "it is forced"}}
func.func @image(%x: tensor<1x128x32x32xf32> {jtc.name = "x"}) -> tensor<1x128x32x32xf32> {
  %w = "jtc.constant"() {value = "w"} : () -> tensor<128x128x3x3xf32>
  %0 = "jtc.exp"(%x) : (tensor<1x128x32x32xf32>) -> tensor<1x128x32x32xf32>
  %1 = "jtc.reindex"(%0) {fill = 0.0 : f32, map = affine_map<(n, o, i, j, c, p, q) -> (n, c, i + p - 1, j + q - 1)>} : (tensor<1x128x32x32xf32>) -> tensor<1x128x32x32x128x3x3xf32>
  %2 = "jtc.reindex"(%w) {fill = 0.0 : f32, map = affine_map<(n, o, i, j, c, p, q) -> (o, c, p, q)>} : (tensor<128x128x3x3xf32>) -> tensor<1x128x32x32x128x3x3xf32>
  %3 = "jtc.mul"(%1, %2) : (tensor<1x128x32x32x128x3x3xf32>, tensor<1x128x32x32x128x3x3xf32>) -> tensor<1x128x32x32x128x3x3xf32>
  %4 = "jtc.reduce"(%3) {axes = array<i64: 4, 5, 6>, fn = "add"} : (tensor<1x128x32x32x128x3x3xf32>) -> tensor<1x128x32x32xf32>
  return %4 : tensor<1x128x32x32xf32>
}

// -----

// Refused: the caller sees it; a scan goes through it in its order; too small to gain anything.
// CHECK-LABEL: "jtc.program"
// CHECK-NOT: stored
// FIRST-LABEL: "jtc.program"
// FIRST-NOT: stored
func.func @kept(%x: tensor<64x64xf32> {jtc.name = "x"}) -> (tensor<64x64xf32>, tensor<64x64xf32>) {
  %0 = "jtc.exp"(%x) : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %1 = "jtc.scan"(%0) {axis = 1 : i64, fn = "add"} : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %2 = "jtc.transpose"(%1) {perm = array<i64: 1, 0>} : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %3 = "jtc.scan"(%2) {axis = 1 : i64, fn = "add"} : (tensor<64x64xf32>) -> tensor<64x64xf32>
  return %0, %3 : tensor<64x64xf32>, tensor<64x64xf32>
}
