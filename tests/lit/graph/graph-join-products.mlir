// RUN: jtc-opt %s --graph-join-products --split-input-file | FileCheck %s

// Nine products of 4 rows are one of 36: the first operands lie side by side already, the others are put so.
// CHECK-LABEL: func.func @steps
// CHECK: %[[C:[0-9]+]] = "jtc.concat"({{.*}}) {axis = 0 : i64} {{.*}} -> tensor<40x16xf32>
// CHECK: %[[P:[0-9]+]] = "jtc.reindex"(%[[C]]) {{.*}} -> tensor<36x16xf32>
// CHECK: %[[A:[0-9]+]] = "jtc.reshape"(%[[P]]) : (tensor<36x16xf32>) -> tensor<9x4x16xf32>
// CHECK: "jtc.concat"({{.*}}) {axis = 0 : i64} {{.*}} -> tensor<9x4x8xf32>
// CHECK: "jtc.mul"({{.*}}) : (tensor<9x4x16x8xf32>, tensor<9x4x16x8xf32>)
// CHECK: %[[R:[0-9]+]] = "jtc.reduce"({{.*}}) {fn = "add", axes = array<i64: 0, 1>} {{.*}} -> tensor<16x8xf32>
// CHECK-NOT: "jtc.add"
// CHECK: return %[[R]], %[[C]]
func.func @steps(%a0: tensor<4x16xf32>, %b0: tensor<4x8xf32>, %a1: tensor<4x16xf32>, %b1: tensor<4x8xf32>, %a2: tensor<4x16xf32>, %b2: tensor<4x8xf32>, %a3: tensor<4x16xf32>, %b3: tensor<4x8xf32>, %a4: tensor<4x16xf32>, %b4: tensor<4x8xf32>, %a5: tensor<4x16xf32>, %b5: tensor<4x8xf32>, %a6: tensor<4x16xf32>, %b6: tensor<4x8xf32>, %a7: tensor<4x16xf32>, %b7: tensor<4x8xf32>, %a8: tensor<4x16xf32>, %b8: tensor<4x8xf32>, %a9: tensor<4x16xf32>, %b9: tensor<4x8xf32>) -> (tensor<16x8xf32>, tensor<40x16xf32>) {
  %c = "jtc.concat"(%a0, %a1, %a2, %a3, %a4, %a5, %a6, %a7, %a8, %a9) {axis = 0 : i64} : (tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<40x16xf32>
  %x0 = "jtc.broadcast"(%a0) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y0 = "jtc.broadcast"(%b0) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p0 = "jtc.mul"(%x0, %y0) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r0 = "jtc.reduce"(%p0) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x1 = "jtc.broadcast"(%a1) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y1 = "jtc.broadcast"(%b1) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p1 = "jtc.mul"(%x1, %y1) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r1 = "jtc.reduce"(%p1) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x2 = "jtc.broadcast"(%a2) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y2 = "jtc.broadcast"(%b2) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p2 = "jtc.mul"(%x2, %y2) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r2 = "jtc.reduce"(%p2) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x3 = "jtc.broadcast"(%a3) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y3 = "jtc.broadcast"(%b3) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p3 = "jtc.mul"(%x3, %y3) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r3 = "jtc.reduce"(%p3) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x4 = "jtc.broadcast"(%a4) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y4 = "jtc.broadcast"(%b4) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p4 = "jtc.mul"(%x4, %y4) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r4 = "jtc.reduce"(%p4) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x5 = "jtc.broadcast"(%a5) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y5 = "jtc.broadcast"(%b5) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p5 = "jtc.mul"(%x5, %y5) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r5 = "jtc.reduce"(%p5) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x6 = "jtc.broadcast"(%a6) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y6 = "jtc.broadcast"(%b6) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p6 = "jtc.mul"(%x6, %y6) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r6 = "jtc.reduce"(%p6) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x7 = "jtc.broadcast"(%a7) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y7 = "jtc.broadcast"(%b7) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p7 = "jtc.mul"(%x7, %y7) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r7 = "jtc.reduce"(%p7) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x8 = "jtc.broadcast"(%a8) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y8 = "jtc.broadcast"(%b8) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p8 = "jtc.mul"(%x8, %y8) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r8 = "jtc.reduce"(%p8) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %s1 = "jtc.add"(%r0, %r1) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s2 = "jtc.add"(%s1, %r2) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s3 = "jtc.add"(%s2, %r3) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s4 = "jtc.add"(%s3, %r4) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s5 = "jtc.add"(%s4, %r5) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s6 = "jtc.add"(%s5, %r6) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s7 = "jtc.add"(%s6, %r7) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s8 = "jtc.add"(%s7, %r8) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  return %s8, %c : tensor<16x8xf32>, tensor<40x16xf32>
}

// -----

// Refused: eight products are few.
// CHECK-LABEL: func.func @few
// CHECK-NOT: "jtc.concat"
// CHECK-COUNT-7: "jtc.add"
func.func @few(%a0: tensor<4x16xf32>, %b0: tensor<4x8xf32>, %a1: tensor<4x16xf32>, %b1: tensor<4x8xf32>, %a2: tensor<4x16xf32>, %b2: tensor<4x8xf32>, %a3: tensor<4x16xf32>, %b3: tensor<4x8xf32>, %a4: tensor<4x16xf32>, %b4: tensor<4x8xf32>, %a5: tensor<4x16xf32>, %b5: tensor<4x8xf32>, %a6: tensor<4x16xf32>, %b6: tensor<4x8xf32>, %a7: tensor<4x16xf32>, %b7: tensor<4x8xf32>) -> tensor<16x8xf32> {
  %x0 = "jtc.broadcast"(%a0) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y0 = "jtc.broadcast"(%b0) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p0 = "jtc.mul"(%x0, %y0) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r0 = "jtc.reduce"(%p0) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x1 = "jtc.broadcast"(%a1) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y1 = "jtc.broadcast"(%b1) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p1 = "jtc.mul"(%x1, %y1) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r1 = "jtc.reduce"(%p1) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x2 = "jtc.broadcast"(%a2) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y2 = "jtc.broadcast"(%b2) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p2 = "jtc.mul"(%x2, %y2) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r2 = "jtc.reduce"(%p2) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x3 = "jtc.broadcast"(%a3) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y3 = "jtc.broadcast"(%b3) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p3 = "jtc.mul"(%x3, %y3) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r3 = "jtc.reduce"(%p3) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x4 = "jtc.broadcast"(%a4) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y4 = "jtc.broadcast"(%b4) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p4 = "jtc.mul"(%x4, %y4) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r4 = "jtc.reduce"(%p4) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x5 = "jtc.broadcast"(%a5) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y5 = "jtc.broadcast"(%b5) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p5 = "jtc.mul"(%x5, %y5) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r5 = "jtc.reduce"(%p5) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x6 = "jtc.broadcast"(%a6) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y6 = "jtc.broadcast"(%b6) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p6 = "jtc.mul"(%x6, %y6) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r6 = "jtc.reduce"(%p6) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x7 = "jtc.broadcast"(%a7) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y7 = "jtc.broadcast"(%b7) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p7 = "jtc.mul"(%x7, %y7) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r7 = "jtc.reduce"(%p7) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %s1 = "jtc.add"(%r0, %r1) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s2 = "jtc.add"(%s1, %r2) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s3 = "jtc.add"(%s2, %r3) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s4 = "jtc.add"(%s3, %r4) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s5 = "jtc.add"(%s4, %r5) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s6 = "jtc.add"(%s5, %r6) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s7 = "jtc.add"(%s6, %r7) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  return %s7 : tensor<16x8xf32>
}

// -----

// Refused: they have a factor in common.
// CHECK-LABEL: func.func @common
// CHECK-NOT: "jtc.concat"
// CHECK-COUNT-8: "jtc.add"
func.func @common(%a0: tensor<4x16xf32>, %b0: tensor<4x8xf32>, %b1: tensor<4x8xf32>, %b2: tensor<4x8xf32>, %b3: tensor<4x8xf32>, %b4: tensor<4x8xf32>, %b5: tensor<4x8xf32>, %b6: tensor<4x8xf32>, %b7: tensor<4x8xf32>, %b8: tensor<4x8xf32>) -> tensor<16x8xf32> {
  %x0 = "jtc.broadcast"(%a0) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y0 = "jtc.broadcast"(%b0) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p0 = "jtc.mul"(%x0, %y0) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r0 = "jtc.reduce"(%p0) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x1 = "jtc.broadcast"(%a0) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y1 = "jtc.broadcast"(%b1) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p1 = "jtc.mul"(%x1, %y1) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r1 = "jtc.reduce"(%p1) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x2 = "jtc.broadcast"(%a0) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y2 = "jtc.broadcast"(%b2) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p2 = "jtc.mul"(%x2, %y2) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r2 = "jtc.reduce"(%p2) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x3 = "jtc.broadcast"(%a0) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y3 = "jtc.broadcast"(%b3) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p3 = "jtc.mul"(%x3, %y3) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r3 = "jtc.reduce"(%p3) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x4 = "jtc.broadcast"(%a0) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y4 = "jtc.broadcast"(%b4) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p4 = "jtc.mul"(%x4, %y4) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r4 = "jtc.reduce"(%p4) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x5 = "jtc.broadcast"(%a0) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y5 = "jtc.broadcast"(%b5) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p5 = "jtc.mul"(%x5, %y5) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r5 = "jtc.reduce"(%p5) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x6 = "jtc.broadcast"(%a0) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y6 = "jtc.broadcast"(%b6) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p6 = "jtc.mul"(%x6, %y6) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r6 = "jtc.reduce"(%p6) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x7 = "jtc.broadcast"(%a0) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y7 = "jtc.broadcast"(%b7) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p7 = "jtc.mul"(%x7, %y7) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r7 = "jtc.reduce"(%p7) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x8 = "jtc.broadcast"(%a0) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y8 = "jtc.broadcast"(%b8) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p8 = "jtc.mul"(%x8, %y8) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r8 = "jtc.reduce"(%p8) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %s1 = "jtc.add"(%r0, %r1) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s2 = "jtc.add"(%s1, %r2) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s3 = "jtc.add"(%s2, %r3) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s4 = "jtc.add"(%s3, %r4) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s5 = "jtc.add"(%s4, %r5) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s6 = "jtc.add"(%s5, %r6) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s7 = "jtc.add"(%s6, %r7) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s8 = "jtc.add"(%s7, %r8) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  return %s8 : tensor<16x8xf32>
}

// -----

// Refused: operands that would have to be moved are larger than the partial sums.
// CHECK-LABEL: func.func @large
// CHECK-NOT: "jtc.concat"
// CHECK-COUNT-8: "jtc.add"
func.func @large(%a0: tensor<4x16xf32>, %b0: tensor<4x16xf32>, %a1: tensor<4x16xf32>, %b1: tensor<4x16xf32>, %a2: tensor<4x16xf32>, %b2: tensor<4x16xf32>, %a3: tensor<4x16xf32>, %b3: tensor<4x16xf32>, %a4: tensor<4x16xf32>, %b4: tensor<4x16xf32>, %a5: tensor<4x16xf32>, %b5: tensor<4x16xf32>, %a6: tensor<4x16xf32>, %b6: tensor<4x16xf32>, %a7: tensor<4x16xf32>, %b7: tensor<4x16xf32>, %a8: tensor<4x16xf32>, %b8: tensor<4x16xf32>) -> tensor<16xf32> {
  %p0 = "jtc.mul"(%a0, %b0) : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  %r0 = "jtc.reduce"(%p0) {fn = "add", axes = array<i64: 0>} : (tensor<4x16xf32>) -> tensor<16xf32>
  %p1 = "jtc.mul"(%a1, %b1) : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  %r1 = "jtc.reduce"(%p1) {fn = "add", axes = array<i64: 0>} : (tensor<4x16xf32>) -> tensor<16xf32>
  %p2 = "jtc.mul"(%a2, %b2) : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  %r2 = "jtc.reduce"(%p2) {fn = "add", axes = array<i64: 0>} : (tensor<4x16xf32>) -> tensor<16xf32>
  %p3 = "jtc.mul"(%a3, %b3) : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  %r3 = "jtc.reduce"(%p3) {fn = "add", axes = array<i64: 0>} : (tensor<4x16xf32>) -> tensor<16xf32>
  %p4 = "jtc.mul"(%a4, %b4) : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  %r4 = "jtc.reduce"(%p4) {fn = "add", axes = array<i64: 0>} : (tensor<4x16xf32>) -> tensor<16xf32>
  %p5 = "jtc.mul"(%a5, %b5) : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  %r5 = "jtc.reduce"(%p5) {fn = "add", axes = array<i64: 0>} : (tensor<4x16xf32>) -> tensor<16xf32>
  %p6 = "jtc.mul"(%a6, %b6) : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  %r6 = "jtc.reduce"(%p6) {fn = "add", axes = array<i64: 0>} : (tensor<4x16xf32>) -> tensor<16xf32>
  %p7 = "jtc.mul"(%a7, %b7) : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  %r7 = "jtc.reduce"(%p7) {fn = "add", axes = array<i64: 0>} : (tensor<4x16xf32>) -> tensor<16xf32>
  %p8 = "jtc.mul"(%a8, %b8) : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  %r8 = "jtc.reduce"(%p8) {fn = "add", axes = array<i64: 0>} : (tensor<4x16xf32>) -> tensor<16xf32>
  %s1 = "jtc.add"(%r0, %r1) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %s2 = "jtc.add"(%s1, %r2) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %s3 = "jtc.add"(%s2, %r3) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %s4 = "jtc.add"(%s3, %r4) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %s5 = "jtc.add"(%s4, %r5) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %s6 = "jtc.add"(%s5, %r6) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %s7 = "jtc.add"(%s6, %r7) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %s8 = "jtc.add"(%s7, %r8) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  return %s8 : tensor<16xf32>
}

// -----

// A concat that depends on the sum is no place to read from: operands get one of their own.
// CHECK-LABEL: func.func @behind
// CHECK: "jtc.concat"({{.*}}) {axis = 0 : i64} {{.*}} -> tensor<9x4x16xf32>
// CHECK: "jtc.concat"({{.*}}) {axis = 0 : i64} {{.*}} -> tensor<9x4x8xf32>
// CHECK: %[[R:[0-9]+]] = "jtc.reduce"
// CHECK: "jtc.concat"({{.*}}) {axis = 0 : i64} {{.*}} -> tensor<40x16xf32>
func.func @behind(%a0: tensor<4x16xf32>, %b0: tensor<4x8xf32>, %a1: tensor<4x16xf32>, %b1: tensor<4x8xf32>, %a2: tensor<4x16xf32>, %b2: tensor<4x8xf32>, %a3: tensor<4x16xf32>, %b3: tensor<4x8xf32>, %a4: tensor<4x16xf32>, %b4: tensor<4x8xf32>, %a5: tensor<4x16xf32>, %b5: tensor<4x8xf32>, %a6: tensor<4x16xf32>, %b6: tensor<4x8xf32>, %a7: tensor<4x16xf32>, %b7: tensor<4x8xf32>, %a8: tensor<4x16xf32>, %b8: tensor<4x8xf32>) -> (tensor<16x8xf32>, tensor<40x16xf32>) {
  %x0 = "jtc.broadcast"(%a0) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y0 = "jtc.broadcast"(%b0) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p0 = "jtc.mul"(%x0, %y0) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r0 = "jtc.reduce"(%p0) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x1 = "jtc.broadcast"(%a1) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y1 = "jtc.broadcast"(%b1) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p1 = "jtc.mul"(%x1, %y1) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r1 = "jtc.reduce"(%p1) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x2 = "jtc.broadcast"(%a2) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y2 = "jtc.broadcast"(%b2) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p2 = "jtc.mul"(%x2, %y2) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r2 = "jtc.reduce"(%p2) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x3 = "jtc.broadcast"(%a3) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y3 = "jtc.broadcast"(%b3) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p3 = "jtc.mul"(%x3, %y3) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r3 = "jtc.reduce"(%p3) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x4 = "jtc.broadcast"(%a4) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y4 = "jtc.broadcast"(%b4) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p4 = "jtc.mul"(%x4, %y4) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r4 = "jtc.reduce"(%p4) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x5 = "jtc.broadcast"(%a5) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y5 = "jtc.broadcast"(%b5) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p5 = "jtc.mul"(%x5, %y5) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r5 = "jtc.reduce"(%p5) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x6 = "jtc.broadcast"(%a6) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y6 = "jtc.broadcast"(%b6) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p6 = "jtc.mul"(%x6, %y6) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r6 = "jtc.reduce"(%p6) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x7 = "jtc.broadcast"(%a7) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y7 = "jtc.broadcast"(%b7) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p7 = "jtc.mul"(%x7, %y7) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r7 = "jtc.reduce"(%p7) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %x8 = "jtc.broadcast"(%a8) {dims = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<4x16x8xf32>
  %y8 = "jtc.broadcast"(%b8) {dims = array<i64: 0, 2>} : (tensor<4x8xf32>) -> tensor<4x16x8xf32>
  %p8 = "jtc.mul"(%x8, %y8) : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %r8 = "jtc.reduce"(%p8) {fn = "add", axes = array<i64: 0>} : (tensor<4x16x8xf32>) -> tensor<16x8xf32>
  %s1 = "jtc.add"(%r0, %r1) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s2 = "jtc.add"(%s1, %r2) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s3 = "jtc.add"(%s2, %r3) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s4 = "jtc.add"(%s3, %r4) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s5 = "jtc.add"(%s4, %r5) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s6 = "jtc.add"(%s5, %r6) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s7 = "jtc.add"(%s6, %r7) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %s8 = "jtc.add"(%s7, %r8) : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %t = "jtc.reindex"(%s8) {map = affine_map<(d0, d1) -> (d1, d0)>, fill = 0.0 : f32} : (tensor<16x8xf32>) -> tensor<4x16xf32>
  %c = "jtc.concat"(%a0, %a1, %a2, %a3, %a4, %a5, %a6, %a7, %a8, %t) {axis = 0 : i64} : (tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<40x16xf32>
  return %s8, %c : tensor<16x8xf32>, tensor<40x16xf32>
}
