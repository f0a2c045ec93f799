// One rule for the front end and the verifier; a hint where there is one.
// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>, %y: tensor<8xf64>) -> tensor<8xf32> {
  // CHECK: elementwise-invalid.mlir:{{6(:[0-9]+)?}}: error: 'jtc.add' op add needs arguments of one dtype, got float32 and float64
  %0 = "jtc.add"(%x, %y) : (tensor<8xf32>, tensor<8xf64>) -> tensor<8xf32>
  // CHECK: hint: convert one of them with astype
  return %x : tensor<8xf32>
}
