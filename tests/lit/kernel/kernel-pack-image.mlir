// Over dimensions: a padded and permuted copy of what the read touches, so that no guard is left.
// RUN: jtc-opt --kernel-pack="read=0 order=1,2,0" %s | FileCheck %s
// RUN: not jtc-opt --kernel-pack="read=0 order=1,2" %s 2>&1 | FileCheck %s --check-prefix=REFUSED
// RUN: not jtc-opt --kernel-pack="read=0 order=1,2,0 pad=-1" %s 2>&1 | FileCheck %s --check-prefix=NEGATIVE

// Some dimensions, and the axes of the others: columns spread out, so that the pixels of each lie side by side.
// RUN: jtc-opt --kernel-pack="read=0 order=0,1,q,w" %s | FileCheck %s --check-prefix=SPREAD
// RUN: not jtc-opt --kernel-pack="read=0 order=0,1,q" %s 2>&1 | FileCheck %s --check-prefix=PART

// SPREAD: guards = {{.*}}"0 <= w + q - 1 < 9"
// SPREAD: write = {buffer = "x_packed", view = tensor<3x11x3x9xf32>, index = ["d0", "d1", "q", "w"]}
// SPREAD: {buffer = "x_packed", view = tensor<3x11x3x9xf32>, index = ["c", "h + p", "q", "w"]},
// PART: error: {{.*}}0,1,q is not a permutation of the 3 dimensions of x
// NEGATIVE: error: kernel-pack: pad=-1 is negative
// CHECK: write = {buffer = "x_packed", view = tensor<11x11x3xf32>, index = ["d1", "d2", "d0"]}
// CHECK: {buffer = "x_packed", view = tensor<11x11x3xf32>, index = ["h + p", "w + q", "c"]},
// REFUSED: error: {{.*}}1,2 is not a permutation of the 3 dimensions of x

"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<3x9x9xf32>} : () -> ()
  "jtc.buffer"() {name = "f", type = tensor<8x3x3x3xf32>, constant = "weights"} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<8x9x9xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32, %f: f32):
      %0 = "jtc.mul"(%x, %f) : (f32, f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["o:8", "h:9", "w:9", "c:3r", "p:3r", "q:3r"],
      reads = [
        {buffer = "x", view = tensor<3x9x9xf32>, index = ["c", "h + p - 1", "w + q - 1"], guards = ["0 <= h + p - 1 < 9", "0 <= w + q - 1 < 9"]},
        {buffer = "f", view = tensor<8x3x3x3xf32>, index = ["o", "c", "p", "q"]}],
      write = {buffer = "y", view = tensor<8x9x9xf32>, index = ["o", "h", "w"]},
      reduce = "add"} : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
