// RUN: not jtc-opt %s 2>&1 | FileCheck %s

func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: arg-reduce-invalid.mlir:{{5(:[0-9]+)?}}: error: 'jtc.arg_reduce' op arg_reduce gives tensor<i64>, its type says tensor<i32>
  %0 = "jtc.arg_reduce"(%x) {fn = "max", axis = 0 : i64} : (tensor<8xf32>) -> tensor<i32>
  return %x : tensor<8xf32>
}
