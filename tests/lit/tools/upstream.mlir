// Passes of upstream MLIR run on jtc's ops, in the order given; text of other dialects passes through.
// RUN: jtc-opt %s --cse --canonicalize | FileCheck %s
// RUN: jtc-opt %s --pass-pipeline="builtin.module(cse,canonicalize)" | FileCheck %s
// RUN: jtc-opt %s | FileCheck %s --check-prefix=PLAIN

// CHECK: func.func @f
// CHECK-NEXT: [[X:%.*]] = "jtc.exp"
// CHECK-NEXT: "jtc.add"([[X]], [[X]])
// PLAIN: jtc.exp
// PLAIN-NEXT: jtc.exp
func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "jtc.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "jtc.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "jtc.add"(%0, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %2 : tensor<4xf32>
}
