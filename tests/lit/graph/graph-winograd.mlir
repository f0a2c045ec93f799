// Convolutions of stride 1 with 3 x 3 taps, found by their index maps, are computed in transformed tiles.
// RUN: jtc-opt %s --graph-winograd=winograd=2 --graph-canonicalize --split-input-file | FileCheck %s
// RUN: jtc-opt %s --graph-winograd --graph-canonicalize --split-input-file | FileCheck %s --check-prefix=AUTO
// RUN: jtc-opt %s --graph-winograd=winograd=off --graph-canonicalize --split-input-file | FileCheck %s --check-prefix=OFF

// Image: rows, then columns.  The taps: the same.  16 matrix products.  The result: columns, then rows.
// CHECK-LABEL: func.func @conv
// CHECK: %[[X:[0-9]+]] = "jtc.reindex"(%arg0) {map = affine_map<(d0, d1, d2, d3, d4) -> (0, d3, 2*d0 + d4 - 1, d2)>
// CHECK: "jtc.reduce"{{.*}} -> tensor<3x4x5x16xf32>
// CHECK: "jtc.reindex"{{.*}} affine_map<(d0, d1, d2, d3, d4, d5) -> (d2, d0, 2*d3 + d5 - 1, d4)>
// CHECK: %[[V:[0-9]+]] = "jtc.reduce"{{.*}} -> tensor<4x4x3x3x16xf32>
// CHECK: "jtc.broadcast"(%arg1)
// CHECK: "jtc.reduce"{{.*}} -> tensor<4x3x16x32xf32>
// CHECK: %[[W:[0-9]+]] = "jtc.reduce"{{.*}} -> tensor<4x4x16x32xf32>
// CHECK: "jtc.reduce"{{.*}} -> tensor<4x4x3x3x32xf32>
// CHECK: "jtc.reduce"{{.*}} -> tensor<3x4x3x2x32xf32>
// CHECK: "jtc.reduce"{{.*}} -> tensor<1x32x3x2x6xf32>
// CHECK: "jtc.reindex"{{.*}} -> tensor<1x32x5x5xf32>
// The cost rule sees no gain for so small an image, whose taps have to be transformed in every run.
// AUTO-LABEL: func.func @conv
// AUTO-COUNT-1: "jtc.reduce"
// AUTO-NOT: "jtc.reduce"
// AUTO: return
// OFF-LABEL: func.func @conv
// OFF-COUNT-1: "jtc.reduce"
// OFF-NOT: "jtc.reduce"
// OFF: return
func.func @conv(%x: tensor<1x16x5x5xf32>, %w: tensor<32x16x3x3xf32>) -> tensor<1x32x5x5xf32> {
  %0 = "jtc.reindex"(%x) {map = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d4, d2 + d5 - 1, d3 + d6 - 1)>,
      fill = 0.0 : f32} : (tensor<1x16x5x5xf32>) -> tensor<1x32x5x5x16x3x3xf32>
  %1 = "jtc.broadcast"(%w) {dims = array<i64: 1, 4, 5, 6>} : (tensor<32x16x3x3xf32>) -> tensor<1x32x5x5x16x3x3xf32>
  %2 = "jtc.mul"(%0, %1) :
      (tensor<1x32x5x5x16x3x3xf32>, tensor<1x32x5x5x16x3x3xf32>) -> tensor<1x32x5x5x16x3x3xf32>
  %3 = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 4, 5, 6>} :
      (tensor<1x32x5x5x16x3x3xf32>) -> tensor<1x32x5x5xf32>
  return %3 : tensor<1x32x5x5xf32>
}

// -----

// Weights that are constant: the rule takes tiles of 4 x 4, that is 6 x 6 products for 16 results.
// AUTO-LABEL: func.func @large
// AUTO: "jtc.reduce"{{.*}} -> tensor<6x6x14x14x64xf32>
// AUTO: "jtc.reduce"{{.*}} -> tensor<6x6x64x64xf32>
// AUTO: "jtc.reduce"{{.*}} -> tensor<6x6x14x14x64xf32>
func.func @large(%x: tensor<1x64x56x56xf32>) -> tensor<1x64x56x56xf32> {
  %w = "jtc.constant"() {value = "w"} : () -> tensor<64x64x3x3xf32>
  %0 = "jtc.reindex"(%x) {map = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d4, d2 + d5 - 1, d3 + d6 - 1)>,
      fill = 0.0 : f32} : (tensor<1x64x56x56xf32>) -> tensor<1x64x56x56x64x3x3xf32>
  %1 = "jtc.broadcast"(%w) {dims = array<i64: 1, 4, 5, 6>} : (tensor<64x64x3x3xf32>) -> tensor<1x64x56x56x64x3x3xf32>
  %2 = "jtc.mul"(%0, %1) :
      (tensor<1x64x56x56x64x3x3xf32>, tensor<1x64x56x56x64x3x3xf32>) -> tensor<1x64x56x56x64x3x3xf32>
  %3 = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 4, 5, 6>} :
      (tensor<1x64x56x56x64x3x3xf32>) -> tensor<1x64x56x56xf32>
  return %3 : tensor<1x64x56x56xf32>
}

// -----

// Refused: stride 2.
// CHECK-LABEL: func.func @strided
// CHECK-COUNT-1: "jtc.reduce"
// CHECK-NOT: "jtc.reduce"
// CHECK: return
func.func @strided(%x: tensor<1x16x9x9xf32>, %w: tensor<32x16x3x3xf32>) -> tensor<1x32x4x4xf32> {
  %0 = "jtc.reindex"(%x) {map = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d4, 2*d2 + d5, 2*d3 + d6)>,
      fill = 0.0 : f32} : (tensor<1x16x9x9xf32>) -> tensor<1x32x4x4x16x3x3xf32>
  %1 = "jtc.broadcast"(%w) {dims = array<i64: 1, 4, 5, 6>} : (tensor<32x16x3x3xf32>) -> tensor<1x32x4x4x16x3x3xf32>
  %2 = "jtc.mul"(%0, %1) :
      (tensor<1x32x4x4x16x3x3xf32>, tensor<1x32x4x4x16x3x3xf32>) -> tensor<1x32x4x4x16x3x3xf32>
  %3 = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 4, 5, 6>} :
      (tensor<1x32x4x4x16x3x3xf32>) -> tensor<1x32x4x4xf32>
  return %3 : tensor<1x32x4x4xf32>
}

// -----

// Refused: outside of the image it is 1, which is not added to the sums of a transformed tile.
// CHECK-LABEL: func.func @filled
// CHECK-COUNT-1: "jtc.reduce"
// CHECK-NOT: "jtc.reduce"
// CHECK: return
func.func @filled(%x: tensor<1x16x5x5xf32>, %w: tensor<32x16x3x3xf32>) -> tensor<1x32x5x5xf32> {
  %0 = "jtc.reindex"(%x) {map = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d4, d2 + d5 - 1, d3 + d6 - 1)>,
      fill = 1.0 : f32} : (tensor<1x16x5x5xf32>) -> tensor<1x32x5x5x16x3x3xf32>
  %1 = "jtc.broadcast"(%w) {dims = array<i64: 1, 4, 5, 6>} : (tensor<32x16x3x3xf32>) -> tensor<1x32x5x5x16x3x3xf32>
  %2 = "jtc.mul"(%0, %1) :
      (tensor<1x32x5x5x16x3x3xf32>, tensor<1x32x5x5x16x3x3xf32>) -> tensor<1x32x5x5x16x3x3xf32>
  %3 = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 4, 5, 6>} :
      (tensor<1x32x5x5x16x3x3xf32>) -> tensor<1x32x5x5xf32>
  return %3 : tensor<1x32x5x5xf32>
}
