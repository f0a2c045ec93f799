// Kernels are refused, and tiles that no algorithm is known for.
// RUN: not jtc-opt %s --graph-fuse --graph-winograd 2>&1 | FileCheck %s
// RUN: not jtc-opt %s --graph-winograd=winograd=3 2>&1 | FileCheck %s --check-prefix=BAD

// CHECK: error: graph-winograd works on graphs, not on kernels
// BAD: graph-winograd: winograd='3' is not one of auto, off, 2, 4
func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  %0 = "jtc.exp"(%x) : (tensor<8xf32>) -> tensor<8xf32>
  return %0 : tensor<8xf32>
}
