// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: reduce-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.reduce' op cannot reduce float32 with or; it takes bool, int, uint types
  %0 = "jtc.reduce"(%x) {fn = "or", axes = array<i64: 0>} : (tensor<8xf32>) -> tensor<f32>
  return %x : tensor<8xf32>
}
