// RUN: jtc-opt %s --graph-canonicalize --graph-fuse --split-input-file | FileCheck %s

// An elementwise chain over a slice and a pad is one kernel; the guard is on the read that needs it.
// CHECK-LABEL: "jtc.program"
// CHECK: "jtc.kernel"
// CHECK: axes = ["i0:8"]
// CHECK: {buffer = "arg0", view = tensor<8xf32>, index = ["i0 - 2"], guards = ["0 <= i0 - 2 < 8"]}
// CHECK: {buffer = "arg1", view = tensor<20xf32>, index = ["2*i0 + 1"]}
// CHECK: ops = ["reindex", "reindex", "tanh", "add"]
// CHECK-NOT: "jtc.kernel"
func.func @chain(%x: tensor<8xf32>, %y: tensor<20xf32>) -> tensor<8xf32> {
  %0 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 - 2)>, fill = 0.0 : f32} : (tensor<8xf32>) -> tensor<8xf32>
  %1 = "jtc.reindex"(%y) {map = affine_map<(d0) -> (2 * d0 + 1)>, fill = 0.0 : f32} : (tensor<20xf32>) -> tensor<8xf32>
  %2 = "jtc.tanh"(%0) : (tensor<8xf32>) -> tensor<8xf32>
  %3 = "jtc.add"(%2, %1) : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  return %3 : tensor<8xf32>
}

// -----

// exp(0) is not the fill: the value is selected.
// CHECK-LABEL: "jtc.program"
// CHECK: [[IN:%.*]] = "jtc.inbounds"() {guards = ["0 <= i0 - 1 < 4"]}
// CHECK: "jtc.where"([[IN]]
func.func @pad(%x: tensor<4xf32>) -> tensor<6xf32> {
  %0 = "jtc.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "jtc.reindex"(%0) {map = affine_map<(d0) -> (d0 - 1)>, fill = 0.0 : f32} : (tensor<4xf32>) -> tensor<6xf32>
  return %1 : tensor<6xf32>
}

// -----

// A convolution from four meta-ops, its bias and its activation are one kernel.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: axes = ["i0:2", "i1:4", "i2:6", "i3:7", "r0:3r", "r1:3r", "r2:3r"]
// CHECK: index = ["i0", "r0", "i2 + r1 - 1", "i3 + r2 - 1"], guards = ["0 <= i2 + r1 - 1 < 6", "0 <= i3 + r2 - 1 < 7"]
// CHECK: index = ["i1", "r0", "r1", "r2"]
// CHECK: {buffer = "arg2", view = tensor<4xf32>, index = ["i1"]}
// CHECK: reduce = "add"
// CHECK: name = "k0_dot_add_max"
func.func @convolution(%x: tensor<2x3x6x7xf32>, %w: tensor<4x3x3x3xf32>, %b: tensor<4xf32>) -> tensor<2x4x6x7xf32> {
  %0 = "jtc.reindex"(%x) {map = affine_map<(n, o, i, j, c, p, q) -> (n, c, i + p - 1, j + q - 1)>, fill = 0.0 : f32} : (tensor<2x3x6x7xf32>) -> tensor<2x4x6x7x3x3x3xf32>
  %1 = "jtc.reindex"(%w) {map = affine_map<(n, o, i, j, c, p, q) -> (o, c, p, q)>, fill = 0.0 : f32} : (tensor<4x3x3x3xf32>) -> tensor<2x4x6x7x3x3x3xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<2x4x6x7x3x3x3xf32>, tensor<2x4x6x7x3x3x3xf32>) -> tensor<2x4x6x7x3x3x3xf32>
  %3 = "jtc.reindex_reduce"(%2) {fn = "add", map = affine_map<(n, o, i, j, c, p, q) -> (n, o, i, j)>} : (tensor<2x4x6x7x3x3x3xf32>) -> tensor<2x4x6x7xf32>
  %4 = "jtc.broadcast"(%b) {dims = array<i64: 1>} : (tensor<4xf32>) -> tensor<2x4x6x7xf32>
  %5 = "jtc.add"(%3, %4) : (tensor<2x4x6x7xf32>, tensor<2x4x6x7xf32>) -> tensor<2x4x6x7xf32>
  %zero = "jtc.constant"() {value = 0.0 : f32} : () -> tensor<2x4x6x7xf32>
  %6 = "jtc.max"(%5, %zero) : (tensor<2x4x6x7xf32>, tensor<2x4x6x7xf32>) -> tensor<2x4x6x7xf32>
  return %6 : tensor<2x4x6x7xf32>
}

// -----

// Its gradient, a reindex_reduce that overlaps, is read backwards: a convolution again.  The guard is on one factor only.
// CHECK-LABEL: "jtc.program"
// CHECK: axes = ["i0:9", "r0:3r"]
// CHECK: {buffer = "arg0", view = tensor<7xf32>, index = ["i0 - r0"], guards = ["0 <= i0 - r0 < 7"]}
// CHECK: {buffer = "arg1", view = tensor<3xf32>, index = ["r0"]}
// CHECK-NOT: accumulate
func.func @gradient(%g: tensor<7xf32>, %w: tensor<3xf32>) -> tensor<9xf32> {
  %0 = "jtc.broadcast"(%g) {dims = array<i64: 0>} : (tensor<7xf32>) -> tensor<7x3xf32>
  %1 = "jtc.broadcast"(%w) {dims = array<i64: 1>} : (tensor<3xf32>) -> tensor<7x3xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<7x3xf32>, tensor<7x3xf32>) -> tensor<7x3xf32>
  %3 = "jtc.reindex_reduce"(%2) {fn = "add", map = affine_map<(i, k) -> (i + k)>} : (tensor<7x3xf32>) -> tensor<9xf32>
  return %3 : tensor<9xf32>
}

// -----

// A stride, overlapping: the gradient of a strided convolution.  Each residue class of the result has taps of its own,
// three products for four elements in all, no division and no guard that only rules out points between the strides.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: axes = ["i0:8", "r0:2r"]
// CHECK: {buffer = "arg0", view = tensor<7xf32>, index = ["i0 - r0"], guards = ["0 <= i0 - r0 < 7"]}
// CHECK: {buffer = "arg1", view = tensor<3xf32>, index = ["2*r0"]}
// CHECK: write = {buffer = "out0", view = tensor<15xf32>, index = ["2*i0"]}
// CHECK: axes = ["i0:7"]
// CHECK: {buffer = "arg1", view = tensor<3xf32>, index = ["1"]}
// CHECK: write = {buffer = "out0", view = tensor<15xf32>, index = ["2*i0 + 1"]}
// CHECK-NOT: "jtc.kernel"
// CHECK-NOT: accumulate
func.func @strided(%g: tensor<7xf32>, %w: tensor<3xf32>) -> tensor<15xf32> {
  %0 = "jtc.broadcast"(%g) {dims = array<i64: 0>} : (tensor<7xf32>) -> tensor<7x3xf32>
  %1 = "jtc.broadcast"(%w) {dims = array<i64: 1>} : (tensor<3xf32>) -> tensor<7x3xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<7x3xf32>, tensor<7x3xf32>) -> tensor<7x3xf32>
  %3 = "jtc.reindex_reduce"(%2) {fn = "add", map = affine_map<(i, k) -> (2 * i + k)>} : (tensor<7x3xf32>) -> tensor<15xf32>
  return %3 : tensor<15xf32>
}

// -----

// Refused: the determinant of the map is 13, which would take 169 classes: a scatter, fill and accumulate.
// CHECK-LABEL: "jtc.program"
// CHECK: axes = ["i0:10", "i1:24"]
// CHECK: axes = ["i0:4", "i1:5"]
// CHECK: index = ["4*i0 - i1 + 4", "5*i0 + 2*i1"], guards = ["0 <= 4*i0 - i1 + 4 < 10"]
// CHECK: accumulate
func.func @scatter(%x: tensor<4x5xf32>) -> tensor<10x24xf32> {
  %0 = "jtc.reindex_reduce"(%x) {fn = "add", map = affine_map<(i, j) -> (4 * i - j + 4, 5 * i + 2 * j)>} : (tensor<4x5xf32>) -> tensor<10x24xf32>
  return %0 : tensor<10x24xf32>
}

// -----

// Splitting heads off a product: the reshape cuts the result's axis, no division is left.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.kernel"
// CHECK: index = ["r0", "4*i0 + i2"]
// CHECK-NOT: "jtc.kernel"
func.func @heads(%x: tensor<6x5xf32>, %w: tensor<5x12xf32>) -> tensor<3x6x4xf32> {
  %0 = "jtc.broadcast"(%x) {dims = array<i64: 0, 2>} : (tensor<6x5xf32>) -> tensor<6x12x5xf32>
  %1 = "jtc.broadcast"(%w) {dims = array<i64: 2, 1>} : (tensor<5x12xf32>) -> tensor<6x12x5xf32>
  %2 = "jtc.mul"(%0, %1) : (tensor<6x12x5xf32>, tensor<6x12x5xf32>) -> tensor<6x12x5xf32>
  %3 = "jtc.reduce"(%2) {fn = "add", axes = array<i64: 2>} : (tensor<6x12x5xf32>) -> tensor<6x12xf32>
  %4 = "jtc.reshape"(%3) : (tensor<6x12xf32>) -> tensor<6x3x4xf32>
  %5 = "jtc.transpose"(%4) {perm = array<i64: 1, 0, 2>} : (tensor<6x3x4xf32>) -> tensor<3x6x4xf32>
  return %5 : tensor<3x6x4xf32>
}

// -----

// Refused: 600x600 seen as 400x900 after a transpose has no affine index; the value below gets a buffer.
// CHECK-LABEL: "jtc.program"
// CHECK: its reshape has no affine index
// CHECK: "jtc.kernel"
// CHECK: {buffer = "t{{[0-9]+}}", view = tensor<400x900xf32>, index = ["i0", "i1"]}
func.func @mixed(%x: tensor<600x600xf32>) -> tensor<400x900xf32> {
  %0 = "jtc.exp"(%x) : (tensor<600x600xf32>) -> tensor<600x600xf32>
  %1 = "jtc.transpose"(%0) {perm = array<i64: 1, 0>} : (tensor<600x600xf32>) -> tensor<600x600xf32>
  %2 = "jtc.reshape"(%1) : (tensor<600x600xf32>) -> tensor<400x900xf32>
  %3 = "jtc.neg"(%2) : (tensor<400x900xf32>) -> tensor<400x900xf32>
  return %3 : tensor<400x900xf32>
}

// -----

// What two results need is computed once, in one stage that writes both; the value between them is not written.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.stage"
// CHECK: write = {buffer = "out0", view = tensor<100000xf32>, index = ["i0"]}
// CHECK: more = [
// CHECK-NEXT: {buffer = "out1", view = tensor<100000xf32>, index = ["i0"]}]
// CHECK: ops = ["add", "exp", "neg", "add", "mul"]
// CHECK-NOT: "jtc.stage"
func.func @shared(%x: tensor<100000xf32>, %y: tensor<100000xf32>) -> (tensor<100000xf32>, tensor<100000xf32>) {
  %0 = "jtc.add"(%x, %y) : (tensor<100000xf32>, tensor<100000xf32>) -> tensor<100000xf32>
  %1 = "jtc.exp"(%0) : (tensor<100000xf32>) -> tensor<100000xf32>
  %2 = "jtc.neg"(%1) : (tensor<100000xf32>) -> tensor<100000xf32>
  %3 = "jtc.mul"(%0, %1) : (tensor<100000xf32>, tensor<100000xf32>) -> tensor<100000xf32>
  return %2, %3 : tensor<100000xf32>, tensor<100000xf32>
}

// -----

// Only a transpose that keeps rows together reads the exp: it is stored as the product reads it.
// CHECK-LABEL: "jtc.program"
// CHECK: "jtc.buffer"() {name = "t[[T:[0-9]+]]", type = tensor<8x4x32xf32>}
// CHECK: write = {buffer = "t[[T]]"
// CHECK: ops = ["exp", "transpose"]
func.func @stored_as_read(%x: tensor<4x8x32xf32>, %w: tensor<128x5xf32>) -> tensor<8x5xf32> {
  %0 = "jtc.exp"(%x) : (tensor<4x8x32xf32>) -> tensor<4x8x32xf32>
  %1 = "jtc.transpose"(%0) {perm = array<i64: 1, 0, 2>} : (tensor<4x8x32xf32>) -> tensor<8x4x32xf32>
  %2 = "jtc.reshape"(%1) : (tensor<8x4x32xf32>) -> tensor<8x128xf32>
  %3 = "jtc.broadcast"(%2) {dims = array<i64: 0, 2>} : (tensor<8x128xf32>) -> tensor<8x5x128xf32>
  %4 = "jtc.broadcast"(%w) {dims = array<i64: 2, 1>} : (tensor<128x5xf32>) -> tensor<8x5x128xf32>
  %5 = "jtc.mul"(%3, %4) : (tensor<8x5x128xf32>, tensor<8x5x128xf32>) -> tensor<8x5x128xf32>
  %6 = "jtc.reduce"(%5) {fn = "add", axes = array<i64: 2>} : (tensor<8x5x128xf32>) -> tensor<8x5xf32>
  return %6 : tensor<8x5xf32>
}

// -----

// Refused: this transpose would make the exp write columns; the product reads them in place.
// CHECK-LABEL: "jtc.program"
// CHECK: "jtc.buffer"() {name = "t[[T:[0-9]+]]", type = tensor<4x8x32xf32>}
// CHECK: write = {buffer = "t[[T]]"
// CHECK: ops = ["exp"]
func.func @stored_as_computed(%x: tensor<4x8x32xf32>, %w: tensor<128x5xf32>) -> tensor<8x5xf32> {
  %0 = "jtc.exp"(%x) : (tensor<4x8x32xf32>) -> tensor<4x8x32xf32>
  %1 = "jtc.transpose"(%0) {perm = array<i64: 1, 2, 0>} : (tensor<4x8x32xf32>) -> tensor<8x32x4xf32>
  %2 = "jtc.reshape"(%1) : (tensor<8x32x4xf32>) -> tensor<8x128xf32>
  %3 = "jtc.broadcast"(%2) {dims = array<i64: 0, 2>} : (tensor<8x128xf32>) -> tensor<8x5x128xf32>
  %4 = "jtc.broadcast"(%w) {dims = array<i64: 2, 1>} : (tensor<128x5xf32>) -> tensor<8x5x128xf32>
  %5 = "jtc.mul"(%3, %4) : (tensor<8x5x128xf32>, tensor<8x5x128xf32>) -> tensor<8x5x128xf32>
  %6 = "jtc.reduce"(%5) {fn = "add", axes = array<i64: 2>} : (tensor<8x5x128xf32>) -> tensor<8x5xf32>
  return %6 : tensor<8x5xf32>
}

// -----

// The sum is read in two ways and gets a buffer; half of it, computed from that, is no open reduction and does not.
// CHECK-LABEL: "jtc.program"
// CHECK-COUNT-1: "jtc.buffer"() {name = "t{{[0-9]+}}"
// CHECK-NOT: "jtc.buffer"() {name = "t
// CHECK: ops = ["reduce", "mul", "mul"]
// CHECK: ops = ["mul", "add", "broadcast"]
func.func @released(%x: tensor<70000x2xf32>, %y: tensor<70000xf32>) -> (tensor<70000xf32>, tensor<3x70000xf32>) {
  %half = "jtc.constant"() {value = 0.5 : f32} : () -> tensor<70000xf32>
  %0 = "jtc.reduce"(%x) {fn = "max", axes = array<i64: 1>} : (tensor<70000x2xf32>) -> tensor<70000xf32>
  %1 = "jtc.mul"(%0, %half) : (tensor<70000xf32>, tensor<70000xf32>) -> tensor<70000xf32>
  %2 = "jtc.mul"(%1, %y) : (tensor<70000xf32>, tensor<70000xf32>) -> tensor<70000xf32>
  %3 = "jtc.add"(%1, %0) : (tensor<70000xf32>, tensor<70000xf32>) -> tensor<70000xf32>
  %4 = "jtc.broadcast"(%3) {dims = array<i64: 1>} : (tensor<70000xf32>) -> tensor<3x70000xf32>
  return %2, %4 : tensor<70000xf32>, tensor<3x70000xf32>
}
