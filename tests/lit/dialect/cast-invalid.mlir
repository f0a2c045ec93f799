// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: cast-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.cast' op cast gives tensor<8xi32>, its type says tensor<9xi32>
  %0 = "jtc.cast"(%x) : (tensor<8xf32>) -> tensor<9xi32>
  return %x : tensor<8xf32>
}
