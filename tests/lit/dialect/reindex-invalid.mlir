// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: reindex-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.reindex' op reindex: the index map gives 2 indices for 1 dimensions
  %0 = "jtc.reindex"(%x) {map = affine_map<(i) -> (i, i)>, fill = 0.0 : f32} : (tensor<8xf32>) -> tensor<8xf32>
  return %x : tensor<8xf32>
}
