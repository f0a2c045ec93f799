"""A matrix unit (family.Matrix) in functions, for processors without it: LLVM IR in place of its intrinsics.

The registers and their shapes lie in the stack of the function that uses them.  Slow, and like the unit to the order in
which it adds up; but for denormal numbers, which the unit takes for 0.
"""
from __future__ import annotations

import re

from jtc.compiler.cpu.llvm_text import insert
from jtc.dialects.family import Matrix
from jtc.dialects.target import CpuTarget

SHAPES, HEIGHTS = 64, 48        # bytes of the registers' shapes, which lie first; where in them the rows stand


def expand_matrices(text: str, target: CpuTarget) -> str:
    """LLVM IR without the intrinsics of the units that `target` lacks."""
    for unit in target.family.matrices.values():
        if all(map(target.has, unit.needs)) or f"@{unit.configure}(" not in text:
            continue
        names = {unit.configure: "configure", unit.release: "release", unit.zero: "zero", unit.load: "load",
                 unit.store: "store", unit.multiply: "multiply"}
        for old, new in names.items():
            text = re.sub(rf"^declare .*@{re.escape(old)}\(.*\n", "", text, flags=re.MULTILINE)
            text = text.replace(f"@{old}()", f"@jtc.matrix.{new}(ptr %jtc.matrix)")
            text = text.replace(f"@{old}(", f"@jtc.matrix.{new}(ptr %jtc.matrix, ")
        size = SHAPES + unit.registers * unit.rows * unit.columns * 4
        state = f"  %jtc.matrix = alloca [{size} x i8], align 64\n"
        bodies = re.split(r"(?m)^(define .*\{\n)", text)
        for i in range(1, len(bodies), 2):
            bodies[i] += state if "%jtc.matrix" in bodies[i + 1] else ""
        text = insert("".join(bodies), _functions(unit))
    return text


def _functions(unit: Matrix) -> str:
    row, block = f"<{unit.columns} x float>", unit.rows * unit.columns * 4
    words = f"<{unit.columns} x i32>"
    high = "<" + ", ".join(["i32 -65536"] * unit.columns) + ">"
    low = "<" + ", ".join(["i32 16"] * unit.columns) + ">"
    splat = f"<{unit.columns} x i32> zeroinitializer"

    def moved(name: str, take: str, put: str) -> str:
        return f"""define internal void @jtc.matrix.{name}(ptr %s, i8 %r, ptr %p, i64 %stride) {{
  %block = call ptr @jtc.matrix.block(ptr %s, i8 %r)
  %rows = call i64 @jtc.matrix.rows(ptr %s, i8 %r)
  br label %next
next:
  %i = phi i64 [0, %0], [%i1, %next]
  %inside = getelementptr {row}, ptr %block, i64 %i
  %at = mul i64 %i, %stride
  %outside = getelementptr i8, ptr %p, i64 %at
  %x = load {row}, ptr {take}, align 1
  store {row} %x, ptr {put}, align 1
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, %rows
  br i1 %more, label %next, label %done
done:
  ret void
}}
"""

    return f"""define internal ptr @jtc.matrix.block(ptr %s, i8 %r) alwaysinline {{
  %n = zext i8 %r to i64
  %before = mul i64 %n, {block}
  %at = add i64 %before, {SHAPES}
  %p = getelementptr i8, ptr %s, i64 %at
  ret ptr %p
}}
define internal i64 @jtc.matrix.rows(ptr %s, i8 %r) alwaysinline {{
  %n = zext i8 %r to i64
  %at = add i64 %n, {HEIGHTS}
  %p = getelementptr i8, ptr %s, i64 %at
  %x = load i8, ptr %p
  %rows = zext i8 %x to i64
  ret i64 %rows
}}
define internal void @jtc.matrix.configure(ptr %s, ptr %p) {{
  %x = load <{SHAPES} x i8>, ptr %p, align 1
  store <{SHAPES} x i8> %x, ptr %s, align 1
  ret void
}}
define internal void @jtc.matrix.release(ptr %s) {{
  ret void
}}
define internal void @jtc.matrix.zero(ptr %s, i8 %r) {{
  %block = call ptr @jtc.matrix.block(ptr %s, i8 %r)
  store <{block} x i8> zeroinitializer, ptr %block, align 1
  ret void
}}
{moved("load", "%outside", "%inside")}{moved("store", "%inside", "%outside")}\
define internal void @jtc.matrix.multiply(ptr %s, i8 %c, i8 %a, i8 %b) {{
  %cs = call ptr @jtc.matrix.block(ptr %s, i8 %c)
  %as = call ptr @jtc.matrix.block(ptr %s, i8 %a)
  %bs = call ptr @jtc.matrix.block(ptr %s, i8 %b)
  %rows = call i64 @jtc.matrix.rows(ptr %s, i8 %c)
  %pairs = call i64 @jtc.matrix.rows(ptr %s, i8 %b)
  br label %row
row:
  %i = phi i64 [0, %0], [%i1, %end]
  %ar = getelementptr {words}, ptr %as, i64 %i
  %cr = getelementptr {row}, ptr %cs, i64 %i
  br label %pair
pair:
  %p = phi i64 [0, %row], [%p1, %pair]
  %even = phi {row} [zeroinitializer, %row], [%even1, %pair]
  %odd = phi {row} [zeroinitializer, %row], [%odd1, %pair]
  %ap = getelementptr i32, ptr %ar, i64 %p
  %aw = load i32, ptr %ap, align 1
  %a0 = insertelement {words} poison, i32 %aw, i32 0
  %av = shufflevector {words} %a0, {words} poison, {splat}
  %bp = getelementptr {words}, ptr %bs, i64 %p
  %bv = load {words}, ptr %bp, align 1
  %al = shl {words} %av, {low}
  %bl = shl {words} %bv, {low}
  %ah = and {words} %av, {high}
  %bh = and {words} %bv, {high}
  %x0 = bitcast {words} %al to {row}
  %y0 = bitcast {words} %bl to {row}
  %x1 = bitcast {words} %ah to {row}
  %y1 = bitcast {words} %bh to {row}
  %m0 = fmul {row} %x0, %y0
  %m1 = fmul {row} %x1, %y1
  %even1 = fadd {row} %m0, %even
  %odd1 = fadd {row} %m1, %odd
  %p1 = add i64 %p, 1
  %morep = icmp ult i64 %p1, %pairs
  br i1 %morep, label %pair, label %end
end:
  %sum = fadd {row} %even1, %odd1
  %before = load {row}, ptr %cr, align 1
  %after = fadd {row} %before, %sum
  store {row} %after, ptr %cr, align 1
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, %rows
  br i1 %more, label %row, label %done
done:
  ret void
}}
"""
