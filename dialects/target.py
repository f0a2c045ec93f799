"""What schedules and code generation need to know of a machine."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jtc.dialects.dtypes import BOOL, F32, DType
from jtc.dialects.family import X86_64, Core, Family, Matrix

PER_CYCLE = 1.75        # multiply-adds for each lane that contractions come to, of the two that cores can do
EVEN = 4                # tasks of each thread: so many are shared evenly enough, if one thread has one more


@dataclass(frozen=True, slots=True)
class CpuTarget:
    """A processor.

    name         as in `--target cpu:NAME`;  features: LLVM's feature string ("+avx2,+fma,...")
    vector_bits  width of a vector register;  registers: how many there are
    masks        whether loads and stores take lane masks (AVX-512)
    l1, l2       data cache sizes of one core in bytes
    family       the instruction set;  cpu: LLVM's name of the processor, "" where that is `name`
    """

    name: str = "x86-64-v4"
    features: str = ""
    vector_bits: int = 512
    registers: int = 32
    masks: bool = True
    l1: int = 32 << 10
    l2: int = 1 << 20
    threads: int = 1
    family: Family = X86_64
    cpu: str = ""

    def lanes(self, dtype: DType) -> int:
        """Elements of `dtype` in one vector register; bools, which decide on values of other types, count as 32-bit."""
        return self.vector_bits // (32 if dtype is BOOL else dtype.bits)

    @property
    def per_cycle(self) -> float:
        """Multiply-adds of float32 in a cycle of one core, of a contraction that has enough of everything."""
        return PER_CYCLE * self.lanes(F32)

    def multiplies_pairs(self, dtype: DType) -> bool:
        """Whether it has an instruction that adds products of pairs of neighbours to float32 (family.Dot)."""
        dot = self.family.dots.get(dtype.name)
        return dot is not None and self.has(dot.needs)

    def rounds(self, element: str) -> Mapping[int, str]:
        """Lanes -> LLVM's name of the instruction that rounds so many float32 to 16-bit floats (family.Dot)."""
        dot = self.family.dots.get(element)
        return dot.round if dot is not None and self.has(dot.needs) else {}

    def matrix(self, dtype: DType) -> Matrix | None:
        """The unit that multiplies blocks of such numbers (family.Matrix), where it has one."""
        unit = self.family.matrices.get(dtype.name)
        return unit if unit is not None and all(map(self.has, unit.needs)) else None

    @property
    def core(self) -> Core:
        """What the design of its cores costs (family.Core)."""
        return next(core for core in self.family.cores if all(map(self.has, core.needs)))

    def shares(self, tasks: int) -> bool:
        """Whether its threads get about equal parts of so many equal tasks."""
        return tasks % self.threads == 0 or tasks >= EVEN * self.threads

    def has(self, feature: str) -> bool:
        """Whether code may use what an LLVM feature brings."""
        return f"+{feature}" in self.features.split(",")
