// RUN: jtc-opt %s --graph-fuse --split-input-file | FileCheck %s

// Nine pieces of what depends on its place are read from a buffer: with the place in it no kernel is like another.
// CHECK-LABEL: "jtc.program"
// CHECK: "jtc.buffer"() {name = "t[[T:[0-9]+]]", type = tensor<9xi64>}
// CHECK: "it depends on its place, and 9 pieces of it are read"
// CHECK: {buffer = "t[[T]]", view = tensor<9xi64>, index = ["8"]
func.func @places(%n: tensor<9xi64>, %m: tensor<9xi64>) -> (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) {
  %i = "jtc.iota"() {axis = 0 : i64} : () -> tensor<9xi64>
  %x = "jtc.sub"(%n, %i) : (tensor<9xi64>, tensor<9xi64>) -> tensor<9xi64>
  %0 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %1 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 1)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %2 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 2)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %3 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 3)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %4 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 4)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %5 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 5)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %6 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 6)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %7 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 7)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %8 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 8)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  return %0, %1, %2, %3, %4, %5, %6, %7, %8 : tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>
}

// -----

// Refused: eight kernels that differ are few.
// CHECK-LABEL: "jtc.program"
// CHECK-NOT: it depends on its place
// CHECK: index = ["7"]
func.func @few(%n: tensor<9xi64>, %m: tensor<9xi64>) -> (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) {
  %i = "jtc.iota"() {axis = 0 : i64} : () -> tensor<9xi64>
  %x = "jtc.sub"(%n, %i) : (tensor<9xi64>, tensor<9xi64>) -> tensor<9xi64>
  %0 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %1 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 1)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %2 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 2)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %3 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 3)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %4 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 4)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %5 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 5)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %6 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 6)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %7 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 7)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  return %0, %1, %2, %3, %4, %5, %6, %7 : tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>
}

// -----

// Refused: elements of these do not depend on the place, and are read at the places themselves.
// CHECK-LABEL: "jtc.program"
// CHECK-NOT: it depends on its place
// CHECK: index = ["8"]
func.func @elsewhere(%n: tensor<9xi64>, %m: tensor<9xi64>) -> (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) {
  %x = "jtc.sub"(%n, %m) : (tensor<9xi64>, tensor<9xi64>) -> tensor<9xi64>
  %0 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %1 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 1)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %2 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 2)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %3 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 3)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %4 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 4)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %5 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 5)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %6 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 6)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %7 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 7)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  %8 = "jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 + 8)>, fill = 0 : i64} : (tensor<9xi64>) -> tensor<1xi64>
  return %0, %1, %2, %3, %4, %5, %6, %7, %8 : tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>
}
