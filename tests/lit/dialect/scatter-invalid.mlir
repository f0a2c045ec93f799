// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: scatter-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.scatter' op scatter dims (0,) must name one dimension of (8,) for each index tensor
  %0 = "jtc.scatter"(%x, %x) {fn = "add", map = affine_map<(i) -> (i)>, dims = array<i64: 0>} : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  return %x : tensor<8xf32>
}
