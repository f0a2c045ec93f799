// Pairs of steps lie next to each other in packs; the vector operand has to be packed, and both be of one 16-bit type.
// RUN: jtc-opt --kernel-vectorize="axis=n lanes=16" --kernel-pack="read=1 order=n//,k,n% inside=n,16" --kernel-dot="axis=k" %s | FileCheck %s
// RUN: jtc-opt --kernel-vectorize="axis=n lanes=16" --kernel-pack="read=1 order=n//,k,n% inside=n,16" --kernel-dot="axis=k" %s | jtc-opt | FileCheck %s
// RUN: jtc-opt --kernel-schedule --target cpu:cooperlake %s | FileCheck %s --check-prefix=RULE
// RUN: jtc-opt --kernel-schedule --target cpu:x86-64-v4 %s | FileCheck %s --check-prefix=WITHOUT
// RUN: not jtc-opt --kernel-vectorize="axis=n lanes=16" --kernel-dot="axis=k" %s 2>&1 | FileCheck %s --check-prefix=PLACE
// RUN: not jtc-opt --kernel-dot="axis=n" %s 2>&1 | FileCheck %s --check-prefix=AXIS

// CHECK: dot = "k", packs = [{read = 1, inside = "n:16", order = ["n//", "k//", "n%", "k%"]}]

// The panels of the weights are packed ahead, in pairs, and stay 16 bits wide.
// RULE: tensor<{{.*}}x2xbf16>, index = [{{.*}}"n//[[N:.*]]", "k//2", "n%[[N]]", "k%2"]}
// RULE: dot = "k"
// WITHOUT-NOT: dot =

// PLACE: error: {{.*}}pairs of k: those of %1 must lie next to each other, in panels as n% k%
// AXIS: error: {{.*}}pairs of n, which is not a reduction axis

"jtc.program"() ({
  "jtc.buffer"() {name = "a", type = tensor<64x96xbf16>} : () -> ()
  "jtc.buffer"() {name = "b", type = tensor<96x48xbf16>, constant = "b"} : () -> ()
  "jtc.buffer"() {name = "c", type = tensor<64x48xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%a: bf16, %b: bf16):
      %0 = "jtc.cast"(%a) : (bf16) -> f32
      %1 = "jtc.cast"(%b) : (bf16) -> f32
      %2 = "jtc.mul"(%0, %1) : (f32, f32) -> f32
      "jtc.yield"(%2) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["m:64", "n:48", "k:96r"],
      reads = [
        {buffer = "a", view = tensor<64x96xbf16>, index = ["m", "k"]},
        {buffer = "b", view = tensor<96x48xbf16>, index = ["k", "n"]}],
      write = {buffer = "c", view = tensor<64x48xf32>, index = ["m", "n"]},
      reduce = "add"} : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["a"], outputs = ["c"]} : () -> ()
