// Errors in a part of a file name the line of the whole file, and text of other dialects is verified, too.
// RUN: %python %S/exit.py 1 jtc-opt --split-input-file %s | FileCheck %s

// CHECK: {{.*}}split-input.mlir:14:8: error: 'memref.load' op invalid number of indices
func.func @good(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "jtc.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
// -----


func.func @bad(%x: memref<4xf32>) {
  %c = arith.constant 0 : index
  %0 = memref.load %x[%c, %c] : memref<4xf32>
  return
}
