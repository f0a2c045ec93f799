// Upstream passes know that ops on values are pure: equal ones are merged, unused ones are dropped.
// RUN: jtc-opt --cse --canonicalize %s | FileCheck %s

// CHECK: func.func @f
// CHECK-NEXT: %0 = "jtc.exp"(%arg0)
// CHECK-NEXT: %1 = "jtc.add"(%0, %0)
// CHECK-NEXT: return %1
func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  %0 = "jtc.exp"(%x) : (tensor<8xf32>) -> tensor<8xf32>
  %1 = "jtc.exp"(%x) : (tensor<8xf32>) -> tensor<8xf32>
  %2 = "jtc.sin"(%x) : (tensor<8xf32>) -> tensor<8xf32>
  %3 = "jtc.add"(%0, %1) : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  return %3 : tensor<8xf32>
}
