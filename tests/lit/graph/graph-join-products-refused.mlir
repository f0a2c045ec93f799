// Kernels are refused.
// RUN: not jtc-opt %s --graph-fuse --graph-join-products 2>&1 | FileCheck %s

// CHECK: error: graph-join-products works on graphs, not on kernels
func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  %0 = "jtc.exp"(%x) : (tensor<8xf32>) -> tensor<8xf32>
  return %0 : tensor<8xf32>
}
