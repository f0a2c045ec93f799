// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8x4xf32>) -> tensor<8x4xf32> {
  // CHECK: scan-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.scan' op scan add axis 2 does not fit shape (8, 4)
  %0 = "jtc.scan"(%x) {fn = "add", axis = 2 : i64} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  return %0 : tensor<8x4xf32>
}
