// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: broadcast-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.broadcast' op cannot broadcast (8,) to (9, 2): dimension 8 against 9
  %0 = "jtc.broadcast"(%x) {dims = array<i64: 0>} : (tensor<8xf32>) -> tensor<9x2xf32>
  return %x : tensor<8xf32>
}
