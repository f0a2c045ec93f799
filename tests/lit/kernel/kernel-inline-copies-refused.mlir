// A graph is refused.
// RUN: not jtc-opt %s --kernel-inline-copies 2>&1 | FileCheck %s

// CHECK: error: kernel-inline-copies works on kernels, not on a graph
func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  %0 = "jtc.exp"(%x) : (tensor<8xf32>) -> tensor<8xf32>
  return %0 : tensor<8xf32>
}
