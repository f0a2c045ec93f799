"""A Builder with what every part of the emitter writes: index arithmetic, loops, branches, vectors and constants."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from jtc.compiler.cpu import vector_math
from jtc.compiler.cpu.builder import Builder
from jtc.compiler.cpu.vector_math_value import Value, literal
from jtc.dialects.dtypes import DType
from jtc.dialects.kernel import PAIR


def type_of(dtype: DType, width: int | None) -> str:
    """Type of a value in registers; width None is a scalar."""
    return vector_math.type_of(dtype, width)


def stored_type(dtype: DType, width: int | None = None) -> str:
    """Type of a value in memory: a bool is a byte."""
    return vector_math.type_name("i8" if dtype.kind == "bool" else dtype.name, width)


class Code(Builder):
    """The body of one function.  `depth` counts the regions around the current line."""

    @property
    def depth(self) -> int:
        return self._indent

    # -------------------------------------------------------------------------------------------- index arithmetic
    def sum(self, a: str | None, b: str | None) -> str | None:
        """a + b, where None is 0."""
        if a is None or b is None:
            return a or b
        return self.op(f"arith.addi {a}, {b} : index")

    def product(self, a: str, factor: int) -> str:
        return a if factor == 1 else self.op(f"arith.muli {a}, {self.index(factor)} : index")

    def offset(self, a: str | None, const: int) -> str:
        """a + const."""
        if a is None:
            return self.index(const)
        return self.op(f"arith.addi {a}, {self.index(const)} : index") if const else a

    def at_most(self, a: str, bound: int) -> str:
        return self.op(f"arith.minsi {a}, {self.index(bound)} : index")

    def at_least(self, a: str, bound: int) -> str:
        return self.op(f"arith.maxsi {a}, {self.index(bound)} : index")

    def conjunction(self, conditions: Sequence[str], type: str = "i1") -> str:
        result = conditions[0]
        for condition in conditions[1:]:
            result = self.op(f"arith.andi {result}, {condition} : {type}")
        return result

    def opaque(self, a: str) -> str:
        """The same value, of which LLVM does not know how it comes about."""
        frozen = self.op(f"llvm.freeze {self.op(f'arith.index_cast {a} : index to i64')} : i64")
        return self.op(f"arith.index_cast {frozen} : i64 to index")

    def select(self, condition: str, yes: str, no: str, type: str) -> str:
        """Scalar condition."""
        return self.op(f"arith.select {condition}, {yes}, {no} : {type}")

    # -------------------------------------------------------------------------------------------- values
    def number(self, value: bool | int | float, dtype: DType, width: int | None) -> str:
        """The number, in every lane."""
        text = literal(value, dtype.name)
        return self.constant(text if width is None else f"dense<{text}>", type_of(dtype, width))

    def mask(self, bits: Sequence[bool]) -> str:
        text = ", ".join("true" if b else "false" for b in bits)
        if all(bits) or not any(bits):
            text = "true" if all(bits) else "false"
            return self.constant(f"dense<{text}>", f"vector<{len(bits)}xi1>")
        return self.constant(f"dense<[{text}]>", f"vector<{len(bits)}xi1>")

    def ramp(self, step: int, width: int, element: str) -> str:
        """[0, step, 2 * step, ...]."""
        text = ", ".join(str(step * lane) for lane in range(width))
        return self.constant(f"dense<[{text}]>" if step else "dense<0>", f"vector<{width}x{element}>")

    def broadcast(self, x: str, dtype: DType, width: int) -> str:
        return self.op(f"vector.broadcast {x} : {type_of(dtype, None)} to {type_of(dtype, width)}")

    def extract(self, x: str, lane: int, dtype: DType, width: int) -> str:
        return self.op(f"vector.extract {x}[{lane}] : {type_of(dtype, None)} from {type_of(dtype, width)}")

    def apply(self, fn: str, args: list[str], dtype: DType, width: int | None, nonpositive: bool = False) -> str:
        return vector_math.apply(self, fn, args, dtype, width, nonpositive)

    def convert(self, x: str, source: DType, to: DType, width: int | None) -> str:
        return x if source is to else vector_math.convert(self, x, source, to, width)

    def multiply_add(self, a: str, b: str, c: str, dtype: DType, width: int | None) -> str:
        """a * b + c of floats, in one instruction where there is one."""
        if dtype.is_half:
            return self.apply("add", [self.apply("mul", [a, b], dtype, width), c], dtype, width)
        x, y, z = (Value(self, v, dtype.name, width) for v in (a, b, c))
        return x.fma(y, z).name

    def add_pairs(self, acc: str, a: str, b: str, dtype: DType, width: int) -> str:
        """acc[i] + a[2 i] * b[2 i] + a[2 i + 1] * b[2 i + 1] in float32, for 16-bit floats a and b.

        One instruction, or what llvm_text.py puts in its place for a processor that does not have it.
        """
        lanes, total = PAIR * width, f"vector<{width}xf32>"
        bits, native = f"vector<{lanes}xi16>", f"vector<{lanes}x{dtype.name}>"
        x, y = (self.op(f"vector.bitcast {v} : {bits} to {native}") for v in (a, b))
        name = self.target.family.dots[dtype.name].intrinsics[width]
        return self.op(f'llvm.call_intrinsic "{name}"({acc}, {x}, {y}) : ({total}, {native}, {native}) -> {total}')

    # -------------------------------------------------------------------------------------------- control flow
    def lines_of(self, text: str) -> list[str]:
        """Append one line, as the body of a branch that gives no values."""
        self.line(text)
        return []

    def loop(self, low: str, high: str, step: int, body: Callable[[str, list[str]], list[str]],
             carried: Sequence[str] = (), types: Sequence[str] = ()) -> list[str]:
        """`scf.for`.  body(value of the loop's axis, carried values) -> their next values.  Returns the last ones."""
        axis = self.name()
        head = f"scf.for {axis} = {low} to {high} step {self.index(step)}"
        if not carried:
            with self.block(f"{head} {{"):
                body(axis, [])
            return []
        names, result = [self.name() for _ in carried], self.name()
        pairs, kinds = ", ".join(f"{n} = {c}" for n, c in zip(names, carried)), ", ".join(types)
        with self.block(f"{result}:{len(names)} = {head} iter_args({pairs}) -> ({kinds}) {{"):
            self.line(f"scf.yield {', '.join(body(axis, names))} : {kinds}")
        return [f"{result}#{i}" for i in range(len(names))]

    def branch(self, condition: str, yes: Callable[[], list[str]], no: Callable[[], list[str]] | None = None,
               types: Sequence[str] = ()) -> list[str]:
        """`scf.if`.  Both sides return values of `types`."""
        if not types:
            self.line(f"scf.if {condition} {{")
            self._side(yes)
            if no is not None:
                self.line("} else {")
                self._side(no)
            self.line("}")
            return []
        assert no is not None
        result, kinds = self.name(), ", ".join(types)
        self.line(f"{result}:{len(types)} = scf.if {condition} -> ({kinds}) {{")
        self._side(yes, kinds)
        self.line("} else {")
        self._side(no, kinds)
        self.line("}")
        return [f"{result}#{i}" for i in range(len(types))]

    def _side(self, body: Callable[[], list[str]], kinds: str = "") -> None:
        self._indent += 1
        values = body()
        if kinds:
            self.line(f"scf.yield {', '.join(values)} : {kinds}")
        self._indent -= 1
