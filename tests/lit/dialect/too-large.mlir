// The bytes of a tensor can be counted with 63 bits.
// RUN: not jtc-opt %s 2>&1 | FileCheck %s

// CHECK: too-large.mlir:6:8: error: 'jtc.exp' op tensor<4611686018427387904x4xf32> takes more than 2^63 bytes
func.func @f(%x: tensor<4611686018427387904x4xf32>) -> tensor<4611686018427387904x4xf32> {
  %0 = "jtc.exp"(%x) : (tensor<4611686018427387904x4xf32>) -> tensor<4611686018427387904x4xf32>
  return %0 : tensor<4611686018427387904x4xf32>
}
