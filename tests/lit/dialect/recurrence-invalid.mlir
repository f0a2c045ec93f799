// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%a: tensor<8xf32>, %b: tensor<8x4xf32>) -> tensor<8x4xf32> {
  // CHECK: recurrence-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.recurrence' op recurrence needs factors and terms of one type, got tensor<8xf32> and tensor<8x4xf32>
  %0 = "jtc.recurrence"(%a, %b) {axis = 0 : i64} : (tensor<8xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
  return %0 : tensor<8x4xf32>
}
