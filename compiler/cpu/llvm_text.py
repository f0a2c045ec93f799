"""LLVM IR text as MLIR's LLVM prints it -> text that llvmlite's older LLVM parses and that every processor can run.

Three rewrites.  `downgrade`: the newer LLVM prints floating-point literals in forms (`f0x3F800000`, shortest decimals,
`+inf`) that the older one does not read.  `fence_shuffles`: transposes are compiled sooner.  `expand_intrinsics`:
rounding and fused multiply-add become libm calls on processors without the instruction, so there they are replaced by
short functions of baseline instructions.
"""
from __future__ import annotations

import re
import struct

from jtc.dialects.target import CpuTarget

_LITERAL = re.compile(r"""(?<![\w.%"@$-])(?:f0x(?P<bits>[0-9A-Fa-f]+)
                      |(?P<decimal>[-+]?\d+\.\d+(?:[eE][-+]?\d+)?)
                      |(?P<inf>[-+]inf)
                      |(?P<nan>[-+]?[sq]?nan(?:\((?P<payload>0x[0-9A-Fa-f]+)\))?))(?![\w.])""", re.VERBOSE)
_DECIMAL = re.compile(r"\d\.\d")
_TYPE = re.compile(r"\b(half|bfloat|float|double)\b")
_WIDTH = {"half": 16, "bfloat": 16, "float": 32, "double": 64}
_QUIET_NAN = {"half": 0x7E00, "bfloat": 0x7FC0, "float": 0x7FC00000, "double": 0x7FF8 << 48}


def _from_bits(bits: int, kind: str) -> str:
    """The older LLVM's literal: half and bfloat by their own bits, float and double by those of the equal double."""
    if kind == "half":
        return f"0xH{bits:04X}"
    if kind == "bfloat":
        return f"0xR{bits:04X}"
    if kind == "float":
        if bits & 0x7F800000 == 0x7F800000 and bits & 0x7FFFFF:  # a NaN: widen its payload by hand to keep it
            bits = bits >> 31 << 63 | 0x7FF << 52 | (bits & 0x7FFFFF) << 29
        else:
            bits, = struct.unpack("<Q", struct.pack("<d", struct.unpack("<f", struct.pack("<I", bits))[0]))
    return f"0x{bits:016X}"


def _from_value(value: float, kind: str) -> str:
    if kind == "half":
        return _from_bits(struct.unpack("<H", struct.pack("<e", value))[0], kind)
    if kind == "double":
        return _from_bits(struct.unpack("<Q", struct.pack("<d", value))[0], kind)
    bits, = struct.unpack("<I", struct.pack("<f", value))
    return _from_bits((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 if kind == "bfloat" else bits, kind)


def downgrade(text: str) -> str:
    """Floating-point literals in the forms that LLVM 22 reads; everything else as it was."""
    def rewrite(line: str) -> str:
        def literal(match: re.Match) -> str:
            kinds = _TYPE.findall(line, 0, match.start())
            if not kinds:
                return match[0]
            kind = kinds[-1]
            if match["bits"]:
                return _from_bits(int(match["bits"], 16), kind)
            if match["decimal"] or match["inf"]:
                return _from_value(float(match[0]), kind)
            bits = _QUIET_NAN[kind] | int(match["payload"] or "0", 16)
            return _from_bits(bits | (match["nan"][0] == "-") << _WIDTH[kind] - 1, kind)
        return _LITERAL.sub(literal, line)

    def has_literal(line: str) -> bool:
        return "f0x" in line or "inf" in line or "nan" in line or "." in line and _DECIMAL.search(line) is not None

    return "\n".join(rewrite(line) if line[:1] in (" ", "@") and has_literal(line) else line
                     for line in text.split("\n"))


_SHUFFLE = re.compile(r"^  %(?P<name>\w+) = shufflevector (?P<type><(?P<lanes>\d+) x (?P<element>float|double)>) "
                      r"%(?P<a>\w+), (?P=type) %(?P<b>\w+), <(?P=lanes) x i32> .*$", re.MULTILINE)


def fence_shuffles(text: str) -> str:
    """Put shuffles of the results of two others behind fences, which are no instructions.

    For every shuffle instruction selection looks through all those that it is made from, a tree of 15 in a transpose
    of 16 x 16, and gains nothing: that took a third of the time for kernels that transpose (measured).
    """
    shuffles: set[str] = set()
    types: dict[str, str] = {}

    def fenced(match: re.Match) -> str:
        name, kind = match["name"], match["type"]
        shuffles.add(name)
        if not shuffles.issuperset((match["a"], match["b"])):
            return match[0]
        suffix = f"v{match['lanes']}f{_WIDTH[match['element']]}"
        types[suffix] = kind
        return (f"{match[0].replace(name, f'shuffled.{name}', 1)}\n"
                f"  %{name} = call {kind} @llvm.arithmetic.fence.{suffix}({kind} %shuffled.{name})")

    text = _SHUFFLE.sub(fenced, text)
    return insert(text, "".join(f"declare {kind} @llvm.arithmetic.fence.{suffix}({kind})\n"
                                for suffix, kind in types.items())) if types else text


_DECLARE = re.compile(r"^declare (?P<type>.*?) @llvm\.(?P<op>fma|floor|ceil|trunc|roundeven|rint|nearbyint)\."
                      r"(?P<suffix>\w+)\(.*$", re.MULTILINE)


def expand_intrinsics(text: str, target: CpuTarget) -> str:
    """Give the intrinsics that `target` has no instruction for a body of baseline instructions, to be inlined."""
    text = _expand_dots(text, target)
    missing = set() if target.has(target.family.fused) else {"fma"}
    if not target.has(target.family.rounding):
        missing |= {"floor", "ceil", "trunc", "roundeven", "rint", "nearbyint"}
    bodies, names = [], {}
    for match in _DECLARE.finditer(text):
        if match["op"] in missing:
            old, new = f"@llvm.{match['op']}.{match['suffix']}", f"@jtc.{match['op']}.{match['suffix']}"
            names[old] = new
            kind, fused = match["type"], match["op"] == "fma"
            body = _fma(kind) if fused else _rounding(match["op"], kind, match["suffix"])
            arguments = ", ".join(f"{kind} %{a}" for a in ("abc" if fused else "a"))
            bodies.append(f"define internal {kind} {new}({arguments}) alwaysinline {{\n{body}}}\n")
    if not names:
        return text
    text = _DECLARE.sub(lambda m: "" if m["op"] in missing else m[0], text)
    for old, new in names.items():
        text = text.replace(old + "(", new + "(")
    needed = {}
    for head, arguments in re.findall(r"call (\S.*? @llvm\.\w+\.\w+)\((.*)\)", "".join(bodies)):
        needed[head] = ", ".join(re.findall(r"(<[^>]*>|\w+) %\w+", arguments))
    declares = [f"declare {head}({types})\n" for head, types in needed.items() if f"declare {head}(" not in text]
    return insert(text, "".join(bodies + declares))


def _expand_dots(text: str, target: CpuTarget) -> str:
    """Replace instructions that multiply pairs (family.Dot) where `target` lacks them."""
    for element, dot in target.family.dots.items():
        for lanes, name in dot.intrinsics.items():
            if not target.has(dot.needs) and f"@{name}(" in text:
                text = re.sub(rf"^declare .*@{re.escape(name)}\(.*\n", "", text, flags=re.MULTILINE)
                text = insert(text.replace(f"@{name}(", f"@jtc.dot.{element}.{lanes}("), _dot_bf16(lanes))
    return text


def _dot_bf16(lanes: int) -> str:
    """acc[i] + a[2 i + 1] * b[2 i + 1], rounded, + a[2 i] * b[2 i]: the order of x86's instruction, which also takes
    denormal numbers for 0.  The products of bfloat16 are exact in float."""
    total, pairs, words = f"<{lanes} x float>", f"<{2 * lanes} x bfloat>", f"<{lanes} x i32>"
    def every(value: int) -> str:
        return "<" + ", ".join([f"i32 {value}"] * lanes) + ">"
    lines = []
    for x in "ab":
        lines += [f"%{x}w = bitcast {pairs} %{x} to {words}",
                  f"%{x}u = and {words} %{x}w, {every(-65536)}", f"%{x}1 = bitcast {words} %{x}u to {total}",
                  f"%{x}l = shl {words} %{x}w, {every(16)}", f"%{x}0 = bitcast {words} %{x}l to {total}"]
    lines += [f"%p1 = fmul contract {total} %a1, %b1", f"%s1 = fadd contract {total} %p1, %acc",
              f"%p0 = fmul contract {total} %a0, %b0", f"%s0 = fadd contract {total} %p0, %s1", f"ret {total} %s0"]
    body = "".join(f"  {line}\n" for line in lines)
    return (f"define internal {total} @jtc.dot.bf16.{lanes}({total} %acc, {pairs} %a, {pairs} %b) alwaysinline {{\n"
            f"{body}}}\n")


def insert(text: str, functions: str) -> str:
    """Put functions before the module's metadata."""
    place = text.find("\n!")
    return f"{text}\n{functions}" if place < 0 else f"{text[:place]}\n{functions}{text[place:]}"


def _splat(kind: str, value: float) -> str:
    """A constant of a float or vector type."""
    element = "double" if "double" in kind else "float"
    number = f"{element} {_from_value(value, element)}"
    if not kind.startswith("<"):
        return number.split(" ")[1]
    return "<" + ", ".join([number] * int(kind[1:].split(" ")[0])) + ">"


def _rounding(op: str, kind: str, suffix: str) -> str:
    """floor, ceil, trunc or round-half-to-even: adding and subtracting 2^23 (2^52) leaves no bits below the point."""
    big, one = _splat(kind, 2.0 ** (52 if "double" in kind else 23)), _splat(kind, 1.0)
    mask = f"<{kind[1:].split(' ')[0]} x i1>" if kind.startswith("<") else "i1"
    lines = [f"%abs = call {kind} @llvm.fabs.{suffix}({kind} %a)",
             f"%small = fcmp olt {kind} %abs, {big}",
             f"%up = fadd {kind} %abs, {big}",
             f"%near = fsub {kind} %up, {big}"]
    if op in ("floor", "ceil"):
        move, sign = ("fsub", "ogt") if op == "floor" else ("fadd", "olt")
        lines += [f"%signed = call {kind} @llvm.copysign.{suffix}({kind} %near, {kind} %a)",
                  f"%past = fcmp {sign} {kind} %signed, %a",
                  f"%moved = {move} {kind} %signed, {one}",
                  f"%value = select {mask} %past, {kind} %moved, {kind} %signed"]
    elif op == "trunc":
        lines += [f"%past = fcmp ogt {kind} %near, %abs",
                  f"%moved = fsub {kind} %near, {one}",
                  f"%value = select {mask} %past, {kind} %moved, {kind} %near"]
    else:
        lines += [f"%value = fadd {kind} %near, {_splat(kind, -0.0)}"]
    lines += [f"%result = call {kind} @llvm.copysign.{suffix}({kind} %value, {kind} %a)",
              f"%kept = select {mask} %small, {kind} %result, {kind} %a",  # large, infinite, NaN: an integer already
              f"ret {kind} %kept"]
    return "".join(f"  {line}\n" for line in lines)


def _fma(kind: str) -> str:
    """a * b + c with the product's rounding error kept: in double for float, by Dekker's product for double.

    Source: T. J. Dekker, "A floating-point technique for extending the available precision", 1971; the factors are cut
    by masking bits, which unlike his multiplication cannot overflow.
    """
    if "float" in kind:
        wide = kind.replace("float", "double")
        lines = [f"%{x}w = fpext {kind} %{x} to {wide}" for x in "abc"]
        lines += [f"%p = fmul {wide} %aw, %bw", f"%s = fadd {wide} %p, %cw",
                  f"%r = fptrunc {wide} %s to {kind}", f"ret {kind} %r"]
        return "".join(f"  {line}\n" for line in lines)
    lines = [f"%p = fmul {kind} %a, %b"]
    integer = kind.replace("double", "i64")
    cut = "-134217728"
    if kind.startswith("<"):
        cut = "<" + ", ".join([f"i64 {cut}"] * int(kind[1:].split(" ")[0])) + ">"
    for x in "ab":
        lines += [f"%{x}1 = bitcast {kind} %{x} to {integer}", f"%{x}2 = and {integer} %{x}1, {cut}",
                  f"%{x}h = bitcast {integer} %{x}2 to {kind}", f"%{x}l = fsub {kind} %{x}, %{x}h"]
    lines += [f"%e1 = fmul {kind} %ah, %bh", f"%e2 = fsub {kind} %e1, %p",
              f"%e3 = fmul {kind} %ah, %bl", f"%e4 = fadd {kind} %e2, %e3",
              f"%e5 = fmul {kind} %al, %bh", f"%e6 = fadd {kind} %e4, %e5",
              f"%e7 = fmul {kind} %al, %bl", f"%e = fadd {kind} %e6, %e7",
              f"%s = fadd {kind} %p, %c", f"%t = fsub {kind} %s, %p",
              f"%u1 = fsub {kind} %s, %t", f"%u2 = fsub {kind} %p, %u1", f"%u3 = fsub {kind} %c, %t",
              f"%u = fadd {kind} %u2, %u3", f"%low = fadd {kind} %u, %e", f"%r = fadd {kind} %s, %low"]
    mask = f"<{kind[1:].split(' ')[0]} x i1>" if kind.startswith("<") else "i1"
    lines += [f"%sound = fcmp ord {kind} %low, %low", f"%kept = select {mask} %sound, {kind} %r, {kind} %s",
              f"ret {kind} %kept"]
    return "".join(f"  {line}\n" for line in lines)
