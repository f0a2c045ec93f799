// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: constant-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.constant' op value must be of type f32, got 1 : i64
  %0 = "jtc.constant"() {value = 1 : i64} : () -> tensor<8xf32>
  return %x : tensor<8xf32>
}
