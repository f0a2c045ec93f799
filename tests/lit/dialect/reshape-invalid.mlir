// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: reshape-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.reshape' op cannot reshape (8,) (8 elements) to (3, 3) (9)
  %0 = "jtc.reshape"(%x) : (tensor<8xf32>) -> tensor<3x3xf32>
  return %x : tensor<8xf32>
}
