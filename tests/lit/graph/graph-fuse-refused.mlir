// Unknown dimensions, ops that have a definition, and kernels are refused, with the line of the op.
// RUN: not jtc-opt %s --graph-fuse 2>&1 | FileCheck %s --check-prefix=DIMENSION
// RUN: not jtc-opt %S/graph-expand.mlir --graph-fuse 2>&1 | FileCheck %s --check-prefix=COMPOSITE
// RUN: not jtc-opt %S/graph-expand.mlir --graph-expand --graph-fuse --graph-fuse 2>&1 | FileCheck %s --check-prefix=KERNELS

// DIMENSION: error: graph-fuse needs known dimensions, got tensor<?x8xf32>
// DIMENSION-NEXT: hint: trace the function with arguments of fixed shapes
// COMPOSITE: error: graph-fuse does not know arg_reduce
// COMPOSITE-NEXT: hint: run graph-expand first
// KERNELS: error: graph-fuse works on graphs, not on kernels
func.func @f(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %0 = "jtc.exp"(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}
