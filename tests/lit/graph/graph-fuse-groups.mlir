// Stages that share outer axes become one kernel; what lies between them stays local.
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse --split-input-file | FileCheck %s
// RUN: jtc-opt %s --graph-canonicalize --graph-fuse=fusion=elementwise --split-input-file | FileCheck %s --check-prefix=ALONE

// softmax: maximum, sum of exp (each exp kept for the last stage), scale.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: "jtc.buffer"() {name = "t1", type = tensor<f32>}
// CHECK: "jtc.buffer"() {name = "t5", type = tensor<f32>}
// CHECK: "jtc.buffer"() {name = "t4", type = tensor<300xf32>}
// CHECK: axes = ["i0:64", "r0:300r"]
// CHECK: reduce = "max"
// CHECK: axes = ["i0:64", "r0:300r"]
// CHECK: write = {buffer = "t5", view = tensor<f32>, index = []}
// CHECK: keep = {buffer = "t4", view = tensor<300xf32>, index = ["r0"]}
// CHECK: axes = ["i0:64", "i1:300"]
// CHECK: shared = ["i0:64 by 1"]
// CHECK-NOT: "jtc.kernel"
// ALONE-LABEL: "jtc.program"
// ALONE-COUNT-4: "jtc.kernel"
func.func @softmax(%x: tensor<64x300xf32>) -> tensor<64x300xf32> {
  %0 = "jtc.reduce"(%x) {fn = "max", axes = array<i64: 1>} : (tensor<64x300xf32>) -> tensor<64xf32>
  %1 = "jtc.broadcast"(%0) {dims = array<i64: 0>} : (tensor<64xf32>) -> tensor<64x300xf32>
  %2 = "jtc.sub"(%x, %1) : (tensor<64x300xf32>, tensor<64x300xf32>) -> tensor<64x300xf32>
  %3 = "jtc.exp"(%2) : (tensor<64x300xf32>) -> tensor<64x300xf32>
  %4 = "jtc.reduce"(%3) {fn = "add", axes = array<i64: 1>} : (tensor<64x300xf32>) -> tensor<64xf32>
  %5 = "jtc.broadcast"(%4) {dims = array<i64: 0>} : (tensor<64xf32>) -> tensor<64x300xf32>
  %6 = "jtc.div"(%3, %5) : (tensor<64x300xf32>, tensor<64x300xf32>) -> tensor<64x300xf32>
  return %6 : tensor<64x300xf32>
}

// -----

// Columns: the shared axis is the one memory is walked along, so it runs in blocks and the locals hold one block.
// CHECK-LABEL: "jtc.program"
// CHECK: "jtc.buffer"() {name = "t1", type = tensor<64xf32>}
// CHECK: write = {buffer = "t1", view = tensor<64xf32>, index = ["i0"]}
// CHECK: shared = ["i0:300 by 64"]
func.func @columns(%x: tensor<64x300xf32>) -> tensor<64x300xf32> {
  %0 = "jtc.reduce"(%x) {fn = "max", axes = array<i64: 0>} : (tensor<64x300xf32>) -> tensor<300xf32>
  %1 = "jtc.broadcast"(%0) {dims = array<i64: 1>} : (tensor<300xf32>) -> tensor<64x300xf32>
  %2 = "jtc.sub"(%x, %1) : (tensor<64x300xf32>, tensor<64x300xf32>) -> tensor<64x300xf32>
  return %2 : tensor<64x300xf32>
}

// -----

// batch_norm with training statistics: one kernel over channels; 1/deviation is computed once for each.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: axes = ["i0:16", "r0:4r", "r1:6r", "r2:7r"]
// CHECK: axes = ["i0:16", "r0:4r", "r1:6r", "r2:7r"]
// CHECK: ops = ["broadcast", "sub", "mul", "reduce", "mul", "rsqrt"]
// CHECK: axes = ["i0:16", "i1:4", "i2:6", "i3:7"]
// CHECK: index = ["i1", "i0", "i2", "i3"]
// CHECK: shared = ["i0:16 by 1"]
// CHECK-NOT: "jtc.kernel"
func.func @batch_norm(%x: tensor<4x16x6x7xf32>) -> tensor<4x16x6x7xf32> {
  %n = "jtc.constant"() {value = 0.00595238095 : f32} : () -> tensor<16xf32>
  %0 = "jtc.reduce"(%x) {fn = "add", axes = array<i64: 0, 2, 3>} : (tensor<4x16x6x7xf32>) -> tensor<16xf32>
  %1 = "jtc.mul"(%0, %n) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %2 = "jtc.broadcast"(%1) {dims = array<i64: 1>} : (tensor<16xf32>) -> tensor<4x16x6x7xf32>
  %3 = "jtc.sub"(%x, %2) : (tensor<4x16x6x7xf32>, tensor<4x16x6x7xf32>) -> tensor<4x16x6x7xf32>
  %4 = "jtc.mul"(%3, %3) : (tensor<4x16x6x7xf32>, tensor<4x16x6x7xf32>) -> tensor<4x16x6x7xf32>
  %5 = "jtc.reduce"(%4) {fn = "add", axes = array<i64: 0, 2, 3>} : (tensor<4x16x6x7xf32>) -> tensor<16xf32>
  %6 = "jtc.mul"(%5, %n) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %7 = "jtc.rsqrt"(%6) : (tensor<16xf32>) -> tensor<16xf32>
  %8 = "jtc.broadcast"(%7) {dims = array<i64: 1>} : (tensor<16xf32>) -> tensor<4x16x6x7xf32>
  %9 = "jtc.mul"(%3, %8) : (tensor<4x16x6x7xf32>, tensor<4x16x6x7xf32>) -> tensor<4x16x6x7xf32>
  return %9 : tensor<4x16x6x7xf32>
}

// -----

// The sum over rows at the end of a loss: the shared axis is reduced by the last stage.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: axes = ["i0:32", "r0:10r"]
// CHECK: axes = ["i0:32r", "r0:10r"]
// CHECK: shared = ["i0:32 by 1"]
// CHECK-NOT: "jtc.kernel"
func.func @loss(%x: tensor<32x10xf32>) -> tensor<f32> {
  %0 = "jtc.reduce"(%x) {fn = "max", axes = array<i64: 1>} : (tensor<32x10xf32>) -> tensor<32xf32>
  %1 = "jtc.broadcast"(%0) {dims = array<i64: 0>} : (tensor<32xf32>) -> tensor<32x10xf32>
  %2 = "jtc.sub"(%x, %1) : (tensor<32x10xf32>, tensor<32x10xf32>) -> tensor<32x10xf32>
  %3 = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 0, 1>} : (tensor<32x10xf32>) -> tensor<f32>
  return %3 : tensor<f32>
}

// -----

// Refused: a contraction has loops of its own.
// CHECK-LABEL: "jtc.program"
// CHECK: name = "k0_dot", reasons = [["t[[T:[0-9]+]]", "it is reduced and then read in 2 ways"], ["t[[T]]", "t{{[0-9]+}} does not join: a contraction has loops of its own"]
// CHECK: name = "k1_max_sub"
func.func @product(%x: tensor<64x8xf32>, %w: tensor<8x300xf32>) -> tensor<64x300xf32> {
  %0 = "jtc.broadcast"(%x) {dims = array<i64: 0, 2>} : (tensor<64x8xf32>) -> tensor<64x300x8xf32>
  %1 = "jtc.broadcast"(%w) {dims = array<i64: 2, 1>} : (tensor<8x300xf32>) -> tensor<64x300x8xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<64x300x8xf32>, tensor<64x300x8xf32>) -> tensor<64x300x8xf32>
  %3 = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 2>} : (tensor<64x300x8xf32>) -> tensor<64x300xf32>
  %4 = "jtc.reduce"(%3) {fn = "max", axes = array<i64: 1>} : (tensor<64x300xf32>) -> tensor<64xf32>
  %5 = "jtc.broadcast"(%4) {dims = array<i64: 0>} : (tensor<64xf32>) -> tensor<64x300xf32>
  %6 = "jtc.sub"(%3, %5) : (tensor<64x300xf32>, tensor<64x300xf32>) -> tensor<64x300xf32>
  return %6 : tensor<64x300xf32>
}

// -----

// Refused: normalising one large tensor as a whole shares no axis, and one core would do all of it.
// CHECK-LABEL: "jtc.program"
// CHECK: "out0 does not join: they share no axis"
// CHECK-COUNT-1: "jtc.kernel"
func.func @whole(%x: tensor<100000xf32>) -> tensor<100000xf32> {
  %0 = "jtc.reduce"(%x) {fn = "max", axes = array<i64: 0>} : (tensor<100000xf32>) -> tensor<f32>
  %1 = "jtc.broadcast"(%0) {dims = array<i64>} : (tensor<f32>) -> tensor<100000xf32>
  %2 = "jtc.sub"(%x, %1) : (tensor<100000xf32>, tensor<100000xf32>) -> tensor<100000xf32>
  return %2 : tensor<100000xf32>
}

// -----

// Short rows leave lanes empty: 64 of them run together.
// CHECK-LABEL: "jtc.program"
// CHECK: "jtc.buffer"() {name = "t1", type = tensor<64xf32>}
// CHECK: shared = ["i0:1000 by 64"]
func.func @short(%x: tensor<1000x4xf32>) -> tensor<1000x4xf32> {
  %0 = "jtc.reduce"(%x) {fn = "max", axes = array<i64: 1>} : (tensor<1000x4xf32>) -> tensor<1000xf32>
  %1 = "jtc.broadcast"(%0) {dims = array<i64: 0>} : (tensor<1000xf32>) -> tensor<1000x4xf32>
  %2 = "jtc.sub"(%x, %1) : (tensor<1000x4xf32>, tensor<1000x4xf32>) -> tensor<1000x4xf32>
  return %2 : tensor<1000x4xf32>
}

// -----

// Small values without a reduction: what is computed for both results is computed once, both in one stage.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.stage"
// CHECK: write = {buffer = "out0"
// CHECK: more = [
// CHECK-NEXT: {buffer = "out1"
// CHECK: ops = ["add", "rsqrt", "mul", "mul", "sub"]
// CHECK-NOT: "jtc.stage"
func.func @small(%v: tensor<512xf32>, %g: tensor<512xf32>, %m: tensor<512xf32>, %b: tensor<512xf32>) -> (tensor<512xf32>, tensor<512xf32>) {
  %eps = "jtc.constant"() {value = 1.0e-05 : f32} : () -> tensor<512xf32>
  %0 = "jtc.add"(%v, %eps) : (tensor<512xf32>, tensor<512xf32>) -> tensor<512xf32>
  %1 = "jtc.rsqrt"(%0) : (tensor<512xf32>) -> tensor<512xf32>
  %2 = "jtc.mul"(%g, %1) : (tensor<512xf32>, tensor<512xf32>) -> tensor<512xf32>
  %3 = "jtc.mul"(%m, %2) : (tensor<512xf32>, tensor<512xf32>) -> tensor<512xf32>
  %4 = "jtc.sub"(%b, %3) : (tensor<512xf32>, tensor<512xf32>) -> tensor<512xf32>
  return %2, %4 : tensor<512xf32>, tensor<512xf32>
}

// -----

// The mean of a loss: the sum of the rows' losses and the number of samples end after the last row, in one kernel; only
// the epilogue of the last stage reads the number.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: axes = ["i0:50000", "r0:100r"]
// CHECK: axes = ["i0:50000r"]
// CHECK: axes = ["i0:50000r", "r0:100r"]
// CHECK: shared = ["i0:50000 by 1"]
// CHECK-NOT: "jtc.kernel"
func.func @mean_of_used(%x: tensor<50000x100xf32>, %used: tensor<50000xf32>) -> tensor<f32> {
  %n = "jtc.reduce"(%used) {fn = "add", axes = array<i64: 0>} : (tensor<50000xf32>) -> tensor<f32>
  %0 = "jtc.reduce"(%x) {fn = "max", axes = array<i64: 1>} : (tensor<50000x100xf32>) -> tensor<50000xf32>
  %1 = "jtc.mul"(%0, %used) : (tensor<50000xf32>, tensor<50000xf32>) -> tensor<50000xf32>
  %2 = "jtc.broadcast"(%1) {dims = array<i64: 0>} : (tensor<50000xf32>) -> tensor<50000x100xf32>
  %3 = "jtc.sub"(%x, %2) : (tensor<50000x100xf32>, tensor<50000x100xf32>) -> tensor<50000x100xf32>
  %4 = "jtc.reduce"(%3) {fn = "add", axes = array<i64: 0, 1>} : (tensor<50000x100xf32>) -> tensor<f32>
  %5 = "jtc.div"(%4, %n) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %5 : tensor<f32>
}

// -----

// Refused: every row is divided by the number, so it must be known before.
// CHECK-LABEL: "jtc.program"
// CHECK: "jtc.kernel"
// CHECK: does not join: they share no axis
// CHECK: "jtc.kernel"
// CHECK: axes = ["i0:50000", "r0:100r"]
func.func @number_before(%x: tensor<50000x100xf32>, %used: tensor<50000xf32>) -> tensor<50000xf32> {
  %n = "jtc.reduce"(%used) {fn = "add", axes = array<i64: 0>} : (tensor<50000xf32>) -> tensor<f32>
  %0 = "jtc.broadcast"(%n) {dims = array<i64>} : (tensor<f32>) -> tensor<50000xf32>
  %1 = "jtc.reduce"(%x) {fn = "max", axes = array<i64: 1>} : (tensor<50000x100xf32>) -> tensor<50000xf32>
  %2 = "jtc.div"(%1, %0) : (tensor<50000xf32>, tensor<50000xf32>) -> tensor<50000xf32>
  return %2 : tensor<50000xf32>
}

// -----

// Two sums over the rows of one tensor: 16 rows of 1024 columns at a time, so that memory is read once.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: axes = ["i0:2000", "i1:5000r"]
// CHECK: axes = ["i0:2000", "i1:5000r"]
// CHECK: shared = ["i0:2000 by 500", "i1:5000 by 16"]
// CHECK-NOT: "jtc.kernel"
func.func @columns_of_two(%x: tensor<5000x2000xf32>, %y: tensor<5000x2000xf32>) -> (tensor<2000xf32>, tensor<2000xf32>) {
  %0 = "jtc.mul"(%x, %y) : (tensor<5000x2000xf32>, tensor<5000x2000xf32>) -> tensor<5000x2000xf32>
  %1 = "jtc.reduce"(%0) {fn = "add", axes = array<i64: 0>} : (tensor<5000x2000xf32>) -> tensor<2000xf32>
  %2 = "jtc.reduce"(%y) {fn = "add", axes = array<i64: 0>} : (tensor<5000x2000xf32>) -> tensor<2000xf32>
  return %1, %2 : tensor<2000xf32>, tensor<2000xf32>
}

// -----

// Refused: sums over different axes have different loops.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-2: "jtc.kernel"
func.func @rows_and_columns(%x: tensor<5000x2000xf32>) -> (tensor<2000xf32>, tensor<5000xf32>) {
  %0 = "jtc.reduce"(%x) {fn = "add", axes = array<i64: 0>} : (tensor<5000x2000xf32>) -> tensor<2000xf32>
  %1 = "jtc.reduce"(%x) {fn = "add", axes = array<i64: 1>} : (tensor<5000x2000xf32>) -> tensor<5000xf32>
  return %0, %1 : tensor<2000xf32>, tensor<5000xf32>
}
