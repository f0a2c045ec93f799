// An error names the line of the user's program where the op has one.
// RUN: not jtc-opt %s 2>&1 | FileCheck %s

// CHECK: model.py:12: error: 'jtc.exp' op exp gives tensor<8xf32>, its type says tensor<9xf32>
func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  %0 = "jtc.exp"(%x) : (tensor<8xf32>) -> tensor<9xf32> loc("layer"("model.py":12:0))
  return %x : tensor<8xf32>
}
