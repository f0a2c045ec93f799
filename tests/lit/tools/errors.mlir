// Wrong input ends with 1, wrong usage with 2, both with one clear line.
// RUN: %python %S/exit.py 2 jtc nonsense | FileCheck %s --check-prefix=COMMAND
// RUN: %python %S/exit.py 2 jtc compile %s --emit nonsense | FileCheck %s --check-prefix=PHASE
// RUN: %python %S/exit.py 2 jtc compile %s --target nonsense | FileCheck %s --check-prefix=TARGET
// RUN: %python %S/exit.py 2 jtc opt --kernel-nonsense %s | FileCheck %s --check-prefix=PASS
// RUN: %python %S/exit.py 2 jtc opt --kernel-splitt %s | FileCheck %s --check-prefix=NEAR
// RUN: %python %S/exit.py 2 jtc opt --emti asm %s | FileCheck %s --check-prefix=OPTION
// RUN: %python %S/exit.py 1 jtc opt %s | FileCheck %s --check-prefix=IR
// RUN: %python %S/exit.py 1 jtc compile %s --emit asm -o - | FileCheck %s --check-prefix=IR
// RUN: %python %S/exit.py 1 jtc compile %s.absent | FileCheck %s --check-prefix=ABSENT

// COMMAND: error: unknown command 'nonsense'
// COMMAND-NEXT: hint: one of compile, run
// PHASE: error: unknown phase 'nonsense'
// PHASE-NEXT: hint: one of graph, kernel, schedule, loops, llvm, asm, obj
// TARGET: error: unknown target 'nonsense'
// TARGET-NEXT: hint: one of cpu, cuda
// PASS: error: unknown pass 'kernel-nonsense'
// PASS-NEXT: hint: one of
// NEAR: error: unknown pass 'kernel-splitt'
// NEAR-NEXT: hint: did you mean kernel-split or kernel-slice or kernel-split-guards?
// OPTION: error: unknown option '--emti'
// OPTION-NEXT: hint: did you mean --emit?
// ABSENT: error: {{.*}}errors.mlir.absent: no such file

// The line, and a caret under the place in it; no second diagnostic.
// IR: {{.*}}errors.mlir:32:8: error: unregistered operation 'jtc.nonsense'
// IR-NEXT: %0 = "jtc.nonsense"(%x)
// IR-NEXT: {{^ {7}\^$}}
// IR-NOT: error
func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "jtc.nonsense"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
