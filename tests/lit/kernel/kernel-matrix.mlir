// Blocks of a matrix unit: panels of pairs as for kernel-dot, as many lanes as a block has columns, whole blocks of steps.
// RUN: jtc-opt --kernel-vectorize="axis=n lanes=16" --kernel-pack="read=1 order=n//,k,n% inside=n,16" --kernel-matrix="axis=k" --kernel-split="axis=m step=48" %s | FileCheck %s
// RUN: jtc-opt --kernel-vectorize="axis=n lanes=16" --kernel-pack="read=1 order=n//,k,n% inside=n,16" --kernel-matrix="axis=k" --kernel-split="axis=m step=48" %s | jtc-opt | FileCheck %s
// RUN: jtc-opt --kernel-schedule --target cpu:sapphirerapids %s | FileCheck %s --check-prefix=RULE
// RUN: jtc-opt --kernel-schedule --target cpu:sapphirerapids --emit asm %s | FileCheck %s --check-prefix=ASM
// RUN: jtc-opt --kernel-schedule --target cpu:cooperlake %s | FileCheck %s --check-prefix=WITHOUT
// RUN: not jtc-opt --kernel-vectorize="axis=n lanes=16" --kernel-pack="read=1 order=n//,k,n% inside=n,16" --kernel-matrix="axis=k" --kernel-split="axis=m step=112" %s 2>&1 | FileCheck %s --check-prefix=MANY

// CHECK: loops = ["n:16", "m:48"]
// CHECK-SAME: dot = "k", matrix, packs = [{read = 1, inside = "n:16", order = ["n//", "k//", "n%", "k%"]}]

// The panels of the weights are packed ahead, in pairs, and stay 16 bits wide.
// RULE: tensor<{{.*}}x2xbf16>, index = [{{.*}}"n//[[N:.*]]", "k//2", "n%[[N]]", "k%2"]}
// RULE: dot = "k", matrix
// WITHOUT: dot = "k"
// WITHOUT-NOT: matrix

// ASM-DAG: ldtilecfg
// ASM-DAG: tilezero
// ASM-DAG: tileloadd
// ASM-DAG: tdpbf16ps
// ASM-DAG: tilestored
// ASM-DAG: tilerelease

// MANY: error: {{.*}}blocks of a matrix unit: 7 of results and 1 of an operand leave no register of 8 for the other one

"jtc.program"() ({
  "jtc.buffer"() {name = "a", type = tensor<112x96xbf16>} : () -> ()
  "jtc.buffer"() {name = "b", type = tensor<96x48xbf16>, constant = "b"} : () -> ()
  "jtc.buffer"() {name = "c", type = tensor<112x48xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%a: bf16, %b: bf16):
      %0 = "jtc.cast"(%a) : (bf16) -> f32
      %1 = "jtc.cast"(%b) : (bf16) -> f32
      %2 = "jtc.mul"(%0, %1) : (f32, f32) -> f32
      "jtc.yield"(%2) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["m:112", "n:48", "k:96r"],
      reads = [
        {buffer = "a", view = tensor<112x96xbf16>, index = ["m", "k"]},
        {buffer = "b", view = tensor<96x48xbf16>, index = ["k", "n"]}],
      write = {buffer = "c", view = tensor<112x48xf32>, index = ["m", "n"]},
      reduce = "add"} : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["a"], outputs = ["c"]} : () -> ()
