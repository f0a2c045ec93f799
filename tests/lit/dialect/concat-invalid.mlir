// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%a: tensor<2x4xf32>, %b: tensor<3x4xf32>) -> tensor<5x4xf32> {
  // CHECK: concat-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.concat' op concat joins tensors of one type, got tensor<2x4xf32> and tensor<3x4xf32>
  %0 = "jtc.concat"(%a, %b) {axis = 0 : i64} : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<5x4xf32>
  return %0 : tensor<5x4xf32>
}
