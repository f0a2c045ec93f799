// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: reindex-reduce-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.reindex_reduce' op unknown reduction 'sum'
  %0 = "jtc.reindex_reduce"(%x) {fn = "sum", map = affine_map<(i) -> (i)>} : (tensor<8xf32>) -> tensor<8xf32>
  // CHECK: hint: one of add, mul, max, min, and, or
  return %x : tensor<8xf32>
}
