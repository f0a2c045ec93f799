// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<4xf32> {
  // CHECK: recompute-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.recompute' op
  %0 = "jtc.recompute"(%x) : (tensor<8xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
