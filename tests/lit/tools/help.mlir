// Every tool explains itself and ends with the exit code that the design gives it.
// RUN: jtc --help | FileCheck %s --check-prefix=JTC
// RUN: jtc-opt --help | FileCheck %s --check-prefix=OPT
// RUN: jtc-opt --list-passes | FileCheck %s --check-prefix=PASSES
// RUN: jtc compile --help | FileCheck %s --check-prefix=COMPILE
// RUN: jtc run --help | FileCheck %s --check-prefix=RUNS

// JTC: usage: jtc COMMAND
// JTC: compile
// JTC: doctor
// JTC: exit codes: 0 done, 1 the input is wrong, 2 usage, 70 a bug of jtc

// OPT: usage: jtc opt
// OPT: --run-reproducer FILE
// OPT: passes of jtc:
// OPT: --kernel-split {{ *}}Add a loop
// OPT-NEXT: options: {{.*}}axis=, step=1

// PASSES: --kernel-split
// PASSES-NEXT: options: {{.*}}axis=
// PASSES: --kernel-vectorize

// COMPILE: usage: jtc compile
// COMPILE: phases, their files and what they hold:
// COMPILE: graph {{ *}}.graph.mlir
// COMPILE: so {{ *}}.so

// RUNS: usage: jtc run
// RUNS: --image-mean {{.*}}
// RUNS: 0.485,0.456,0.406 for three channels
// RUNS: --repeat N
// RUNS: examples:
