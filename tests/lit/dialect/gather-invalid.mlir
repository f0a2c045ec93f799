// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: gather-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.gather' op gather needs integer index tensors of shape (8,), got tensor<8xf32>
  %0 = "jtc.gather"(%x, %x) {map = affine_map<(i) -> (0)>, dims = array<i64: 0>, fill = 0.0 : f32} : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  return %x : tensor<8xf32>
}
