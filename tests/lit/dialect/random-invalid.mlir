// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: random-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.random' op random needs a key of type tensor<i64>, got tensor<8xf32>
  %0 = "jtc.random"(%x) {stream = 0 : i64} : (tensor<8xf32>) -> tensor<8xi32>
  return %x : tensor<8xf32>
}
