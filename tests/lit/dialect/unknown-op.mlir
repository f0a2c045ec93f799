// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: unknown-op.mlir:{{5(:[0-9]+)?}}: error: {{.*}}unregistered operation 'jtc.exponential'
  %0 = "jtc.exponential"(%x) : (tensor<8xf32>) -> tensor<8xf32>
  return %0 : tensor<8xf32>
}
