// Results that are made of another one, element by element, come from its stage, if they last.
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse --split-input-file | FileCheck %s

// Momentum and parameter, in the kernel of the gradient.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.stage"
// CHECK: %[[M:.*]] = "jtc.add"({{.*}}, %acc)
// CHECK: %[[W:.*]] = "jtc.sub"(%w
// CHECK: "jtc.yield"(%[[M]], %[[W]]) : (f32, f32) -> ()
// CHECK: axes = ["i0:8", "i1:6", "r0:32r"]
// CHECK: write = {buffer = "m1", view = tensor<8x6xf32>, index = ["i0", "i1"]}
// CHECK: reduce = "add",
// CHECK: more = [
// CHECK-NEXT: {buffer = "w1", view = tensor<8x6xf32>, index = ["i0", "i1"]}]
// CHECK: updates = {{\[}}["m1", "m"], ["w1", "w"]]
func.func @update(%x: tensor<32x8xf32> {jtc.name = "x"}, %g: tensor<32x6xf32> {jtc.name = "g"},
                  %m: tensor<8x6xf32> {jtc.name = "m"}, %w: tensor<8x6xf32> {jtc.name = "w"})
    -> (tensor<8x6xf32> {jtc.name = "m1", jtc.updates = 2 : i64},
        tensor<8x6xf32> {jtc.name = "w1", jtc.updates = 3 : i64}) {
  %0 = "jtc.broadcast"(%x) {dims = array<i64: 0, 1>} : (tensor<32x8xf32>) -> tensor<32x8x6xf32>
  %1 = "jtc.broadcast"(%g) {dims = array<i64: 0, 2>} : (tensor<32x6xf32>) -> tensor<32x8x6xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<32x8x6xf32>, tensor<32x8x6xf32>) -> tensor<32x8x6xf32>
  %3 = "jtc.reduce"(%2) {axes = array<i64: 0>, fn = "add"} : (tensor<32x8x6xf32>) -> tensor<8x6xf32>
  %4 = "jtc.add"(%m, %3) : (tensor<8x6xf32>, tensor<8x6xf32>) -> tensor<8x6xf32>
  %5 = "jtc.sub"(%w, %4) : (tensor<8x6xf32>, tensor<8x6xf32>) -> tensor<8x6xf32>
  return %4, %5 : tensor<8x6xf32>, tensor<8x6xf32>
}

// -----

// The second result lies in another order: stores of the first kernel would be scattered.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-2: "jtc.kernel"
// CHECK-NOT: more
func.func @turned(%x: tensor<32x8xf32>, %g: tensor<32x6xf32>, %w: tensor<6x8xf32>) -> (tensor<8x6xf32>, tensor<6x8xf32>) {
  %0 = "jtc.broadcast"(%x) {dims = array<i64: 0, 1>} : (tensor<32x8xf32>) -> tensor<32x8x6xf32>
  %1 = "jtc.broadcast"(%g) {dims = array<i64: 0, 2>} : (tensor<32x6xf32>) -> tensor<32x8x6xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<32x8x6xf32>, tensor<32x8x6xf32>) -> tensor<32x8x6xf32>
  %3 = "jtc.reduce"(%2) {axes = array<i64: 0>, fn = "add"} : (tensor<32x8x6xf32>) -> tensor<8x6xf32>
  %4 = "jtc.transpose"(%3) {perm = array<i64: 1, 0>} : (tensor<8x6xf32>) -> tensor<6x8xf32>
  %5 = "jtc.sub"(%w, %4) : (tensor<6x8xf32>, tensor<6x8xf32>) -> tensor<6x8xf32>
  return %3, %5 : tensor<8x6xf32>, tensor<6x8xf32>
}
