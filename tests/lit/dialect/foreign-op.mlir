// A graph holds ops of the jtc dialect only.
// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  %0 = "jtc.exp"(%x) : (tensor<8xf32>) -> tensor<8xf32>
  // CHECK: foreign-op.mlir:{{7(:[0-9]+)?}}: error: arith.addf is not an op of a graph
  %1 = arith.addf %0, %x : tensor<8xf32>
  return %1 : tensor<8xf32>
}
