// The update of a weight and the product that reads the new one are one kernel, if that is asked for.
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse=carry=true --split-input-file | FileCheck %s
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse --split-input-file | FileCheck %s --check-prefix=APART

// Blocks of rows: what is updated is used while it is in the cache.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: write = {buffer = "w1", view = tensor<512x64xf32>, index = ["i0", "i1"]}
// CHECK: {buffer = "w1", view = tensor<512x64xf32>, index = ["i0", "r0"]}
// CHECK: shared = ["i0:512 by 56"]
// CHECK-NOT: "jtc.kernel"
// APART-LABEL: "jtc.program"
// APART-COUNT-2: "jtc.kernel"
func.func @update(%g: tensor<32x512xf32> {jtc.name = "g"}, %x: tensor<32x64xf32> {jtc.name = "x"},
                  %w: tensor<512x64xf32> {jtc.name = "w"}, %next: tensor<32x64xf32> {jtc.name = "next"})
    -> (tensor<512x64xf32> {jtc.name = "w1", jtc.updates = 2 : i64}, tensor<32x512xf32> {jtc.name = "y"}) {
  %0 = "jtc.broadcast"(%g) {dims = array<i64: 0, 1>} : (tensor<32x512xf32>) -> tensor<32x512x64xf32>
  %1 = "jtc.broadcast"(%x) {dims = array<i64: 0, 2>} : (tensor<32x64xf32>) -> tensor<32x512x64xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<32x512x64xf32>, tensor<32x512x64xf32>) -> tensor<32x512x64xf32>
  %3 = "jtc.reduce"(%2) {axes = array<i64: 0>, fn = "add"} : (tensor<32x512x64xf32>) -> tensor<512x64xf32>
  %4 = "jtc.sub"(%w, %3) : (tensor<512x64xf32>, tensor<512x64xf32>) -> tensor<512x64xf32>
  %5 = "jtc.broadcast"(%next) {dims = array<i64: 0, 2>} : (tensor<32x64xf32>) -> tensor<32x512x64xf32>
  %6 = "jtc.broadcast"(%4) {dims = array<i64: 1, 2>} : (tensor<512x64xf32>) -> tensor<32x512x64xf32>
  %7 = "jtc.mul"(%5, %6) : (tensor<32x512x64xf32>, tensor<32x512x64xf32>) -> tensor<32x512x64xf32>
  %8 = "jtc.reduce"(%7) {axes = array<i64: 2>, fn = "add"} : (tensor<32x512x64xf32>) -> tensor<32x512xf32>
  return %4, %8 : tensor<512x64xf32>, tensor<32x512xf32>
}

// -----

// The rows are too few to spread them over threads.
// CHECK-LABEL: "jtc.program"
// CHECK: ["w1", "y does not join: 64 rows are too few to spread blocks of 56 over threads"]
// CHECK: "jtc.kernel"
func.func @few(%g: tensor<32x64xf32> {jtc.name = "g"}, %x: tensor<32x64xf32> {jtc.name = "x"},
               %w: tensor<64x64xf32> {jtc.name = "w"}, %next: tensor<32x64xf32> {jtc.name = "next"})
    -> (tensor<64x64xf32> {jtc.name = "w1", jtc.updates = 2 : i64}, tensor<32x64xf32> {jtc.name = "y"}) {
  %0 = "jtc.broadcast"(%g) {dims = array<i64: 0, 1>} : (tensor<32x64xf32>) -> tensor<32x64x64xf32>
  %1 = "jtc.broadcast"(%x) {dims = array<i64: 0, 2>} : (tensor<32x64xf32>) -> tensor<32x64x64xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<32x64x64xf32>, tensor<32x64x64xf32>) -> tensor<32x64x64xf32>
  %3 = "jtc.reduce"(%2) {axes = array<i64: 0>, fn = "add"} : (tensor<32x64x64xf32>) -> tensor<64x64xf32>
  %4 = "jtc.sub"(%w, %3) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %5 = "jtc.broadcast"(%next) {dims = array<i64: 0, 2>} : (tensor<32x64xf32>) -> tensor<32x64x64xf32>
  %6 = "jtc.broadcast"(%4) {dims = array<i64: 1, 2>} : (tensor<64x64xf32>) -> tensor<32x64x64xf32>
  %7 = "jtc.mul"(%5, %6) : (tensor<32x64x64xf32>, tensor<32x64x64xf32>) -> tensor<32x64x64xf32>
  %8 = "jtc.reduce"(%7) {axes = array<i64: 2>, fn = "add"} : (tensor<32x64x64xf32>) -> tensor<32x64xf32>
  return %4, %8 : tensor<64x64xf32>, tensor<32x64xf32>
}
