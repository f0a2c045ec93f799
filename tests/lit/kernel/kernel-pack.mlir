// A pack copies all axes of its read: inside a loop as part of the schedule, else by a kernel of its own.
// RUN: jtc-opt --kernel-pack="read=1 order=n//,k,n% inside=n,16" %s | FileCheck %s
// RUN: jtc-opt --kernel-pack="read=1 order=n//,k,n%" %s | FileCheck %s --check-prefix=AHEAD
// RUN: not jtc-opt --kernel-pack="read=1 order=n//,n% inside=n,16" %s 2>&1 | FileCheck %s --check-prefix=REFUSED

// CHECK: packs = [{read = 1, inside = "n:16", order = ["n//", "k", "n%"]}]

// AHEAD: name = "copy",
// AHEAD-NEXT: axes = ["n_tile:3", "k:32", "n_place:16"],
// AHEAD: write = {buffer = "b_packed", view = tensor<3x32x16xf32>, index = ["n_tile", "k", "n_place"]}
// AHEAD: {buffer = "b_packed", view = tensor<3x32x16xf32>, index = ["n//16", "k", "n%16"]}

// REFUSED: error: {{.*}}pack of %1 must list exactly its axes k, n, not n//, n%

"jtc.program"() ({
  "jtc.buffer"() {name = "a", type = tensor<64x32xf32>} : () -> ()
  "jtc.buffer"() {name = "b", type = tensor<32x48xf32>} : () -> ()
  "jtc.buffer"() {name = "c", type = tensor<64x48xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%a: f32, %b: f32):
      %0 = "jtc.mul"(%a, %b) : (f32, f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["m:64", "n:48", "k:32r"],
      reads = [
        {buffer = "a", view = tensor<64x32xf32>, index = ["m", "k"]},
        {buffer = "b", view = tensor<32x48xf32>, index = ["k", "n"]}],
      write = {buffer = "c", view = tensor<64x48xf32>, index = ["m", "n"]},
      reduce = "add",
      schedule = {vector = "n", lanes = 16, loops = ["n:16"], reduction = ["k"]}} : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["a", "b"], outputs = ["c"]} : () -> ()
