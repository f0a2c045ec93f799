// The default of a convolution: constant weights packed ahead, a padded copy of the image, a register tile without guards.
// RUN: jtc-opt --target=x86-64-v4 --kernel-merge-axes --kernel-schedule %s | FileCheck %s
// RUN: jtc-opt --target=x86-64-v4 --kernel-merge-axes --kernel-schedule=packing=false %s | FileCheck %s --check-prefix=PLAIN
// Quick code keeps the copies, but has loops where reductions would be unrolled, and no cuts at guards.
// RUN: jtc-opt --target=x86-64-v4 --kernel-merge-axes --kernel-schedule=quick=true %s | FileCheck %s --check-prefix=QUICK
// A graph has no kernels to schedule.
// RUN: echo 'func.func @f(%%x: tensor<4xf32>) -> tensor<4xf32> { return %%x : tensor<4xf32> }' | not jtc-opt --kernel-schedule 2>&1 | FileCheck %s --check-prefix=REFUSED

// CHECK: }) {name = "pack_f"
// CHECK: }) {name = "pack_x"
// CHECK: {buffer = "x_packed", {{.*}}index = [{{.*}}]},
// CHECK-NEXT: {buffer = "f_packed"
// CHECK: schedule = {vector = "{{.}}", lanes = 16
// PLAIN-NOT: pack
// PLAIN: schedule = {vector = "{{.}}", lanes = 16
// QUICK: }) {name = "pack_x"
// QUICK: schedule = {vector = "{{.}}", lanes = 16
// QUICK-NOT: unroll
// QUICK-NOT: split
// REFUSED: error: kernel-schedule works on kernels, not on a graph

"jtc.program"() ({
  "jtc.buffer"() {name = "x", type = tensor<64x14x14xf32>} : () -> ()
  "jtc.buffer"() {name = "f", type = tensor<64x64x3x3xf32>, constant = "weights"} : () -> ()
  "jtc.buffer"() {name = "y", type = tensor<64x14x14xf32>} : () -> ()
  "jtc.kernel"() ({
    "jtc.stage"() ({
    ^bb0(%x: f32, %f: f32):
      %0 = "jtc.mul"(%x, %f) : (f32, f32) -> f32
      "jtc.yield"(%0) : (f32) -> ()
    }, {}, {}) {
      name = "s", axes = ["o:64", "h:14", "w:14", "c:64r", "p:3r", "q:3r"],
      reads = [
        {buffer = "x", view = tensor<64x14x14xf32>, index = ["c", "h + p - 1", "w + q - 1"], guards = ["0 <= h + p - 1 < 14", "0 <= w + q - 1 < 14"]},
        {buffer = "f", view = tensor<64x64x3x3xf32>, index = ["o", "c", "p", "q"]}],
      write = {buffer = "y", view = tensor<64x14x14xf32>, index = ["o", "h", "w"]},
      reduce = "add"} : () -> ()
  }) {name = "k"} : () -> ()
}) {name = "f", inputs = ["x"], outputs = ["y"]} : () -> ()
