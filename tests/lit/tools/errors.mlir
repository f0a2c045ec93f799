// Wrong input ends with 1, wrong usage with 2, both with one clear line.
// RUN: %python %S/exit.py 2 jtc nonsense | FileCheck %s --check-prefix=COMMAND
// RUN: %python %S/exit.py 2 jtc compile %s --emit nonsense | FileCheck %s --check-prefix=PHASE
// RUN: %python %S/exit.py 2 jtc compile %s --target nonsense | FileCheck %s --check-prefix=TARGET
// RUN: %python %S/exit.py 2 jtc opt --kernel-nonsense %s | FileCheck %s --check-prefix=PASS
// RUN: %python %S/exit.py 1 jtc opt %s | FileCheck %s --check-prefix=IR
// RUN: %python %S/exit.py 1 jtc compile %s.absent | FileCheck %s --check-prefix=ABSENT

// COMMAND: error: unknown command 'nonsense'
// COMMAND-NEXT: hint: one of compile, run
// PHASE: error: unknown phase 'nonsense'
// PHASE-NEXT: hint: one of graph, kernel, schedule, loops, llvm, asm, obj
// TARGET: error: unknown target 'nonsense'
// TARGET-NEXT: hint: one of cpu, cuda
// PASS: error: unknown pass 'kernel-nonsense'
// PASS-NEXT: hint: one of
// ABSENT: error: {{.*}}errors.mlir.absent: no such file

// IR: errors.mlir:21: error: unregistered operation 'jtc.nonsense'
func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "jtc.nonsense"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
