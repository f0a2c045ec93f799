// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: transpose-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.transpose' op (1,) is not a permutation of the 1 dimensions of (8,)
  %0 = "jtc.transpose"(%x) {perm = array<i64: 1>} : (tensor<8xf32>) -> tensor<8xf32>
  return %x : tensor<8xf32>
}
