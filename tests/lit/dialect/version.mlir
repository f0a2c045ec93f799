// RUN: not jtc-opt %s 2>&1 | FileCheck %s

// CHECK: version.mlir:{{.*}}error: written by a newer jtc: its version is 99
// CHECK-NEXT: hint: upgrade jtc
module attributes {jtc.version = 99 : i64} {
  func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
    return %x : tensor<8xf32>
  }
}
