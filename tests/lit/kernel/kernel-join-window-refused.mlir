// RUN: not jtc-opt --kernel-join-window %s 2>&1 | FileCheck %s
// CHECK: error: kernel-join-window works on kernels, not on a graph
func.func @f(%x: tensor<8xbf16>) -> tensor<8xbf16> {
  return %x : tensor<8xbf16>
}
