// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: iota-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.iota' op iota axis 1 is outside the 1 dimensions of tensor<8xi32>
  %0 = "jtc.iota"() {axis = 1 : i64} : () -> tensor<8xi32>
  return %x : tensor<8xf32>
}
