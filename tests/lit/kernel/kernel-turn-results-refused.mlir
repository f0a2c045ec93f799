// RUN: not jtc-opt --kernel-turn-results %s 2>&1 | FileCheck %s
// CHECK: error: kernel-turn-results works on kernels, not on a graph
func.func @f(%x: tensor<8xbf16>) -> tensor<8xbf16> {
  return %x : tensor<8xbf16>
}
