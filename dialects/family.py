"""Families of processors: what is the same for all processors that run one instruction set, in one table.

Whoever generates code, writes or reads ELF files, or asks the machine what it is takes a row and needs no other word
for the family.  A new family is a row here; docs/extending.md follows the one of aarch64 through the project.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Registers:
    """The vector registers of processors with some features.

    needs  LLVM's names of the features;  bits: width of a register;  count: how many there are
    masks  whether loads and stores take a mask with a bit for each lane
    """

    needs: tuple[str, ...]
    bits: int
    count: int
    masks: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """An instruction that adds the products of pairs of neighbours to float32:

        acc[i] += a[2 i] * b[2 i] + a[2 i + 1] * b[2 i + 1]

    needs  LLVM's name of the feature that brings it;  intrinsics: lanes of the result -> LLVM's name of it
    round  of the instruction that came with it, which rounds float32: lanes -> LLVM's name of it
    """

    needs: str
    intrinsics: Mapping[int, str]
    round: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Matrix:
    """A unit that multiplies blocks of 16-bit floats, which it holds in registers of its own, and adds up float32:

        acc[i, j] += a[i, 2 p] * b[p, 2 j] + a[i, 2 p + 1] * b[p, 2 j + 1]

    The intrinsics are LLVM's names of what it does, with the numbers of registers, addresses and bytes between rows.

    needs      LLVM's names of the features that bring it
    rows, columns, pairs   the most i, j and p of a block; a row of each operand is as long as one of the result
    registers  how many blocks it holds
    configure  takes 64 bytes: how many rows each register has, and how long these are;  release: what it holds is done
    zero, load, store, multiply   of a register; multiply of the result's and the operands'
    component  Linux's number of the state, which a process must ask for; None: every process has it
    """

    needs: tuple[str, ...]
    rows: int
    columns: int
    pairs: int
    registers: int
    configure: str
    release: str
    zero: str
    load: str
    store: str
    multiply: str
    component: int | None = None


@dataclass(frozen=True, slots=True)
class Core:
    """What schedules have to know of a design of cores, where designs differ; in cycles where nothing else is said.

    needs  LLVM's names of features that tell it from the others of its family
    load   a load or a broadcast in the inner loop of a contraction
    line   a cache line of a panel that comes from the second-level cache: what arithmetic does not hide of it
    far, memory   a byte that comes from the cache that cores share, and from memory
    kept   the share of the second-level cache whose contents stay
    shared how many bytes of the cache that cores share one kernel may count on
    waiting  how many times as long bytes from beyond the second-level cache take where nothing fetches them ahead
    apart  the share of what rows in other pages, and elements in other cache lines, cost on Cascade Lake
    scalar a broadcast, where it does not overlap with the arithmetic
    rows   a broadcast from a row of its own, beyond one from where the scalars of a step lie side by side
    single a cache line from the second-level cache that nothing fetches ahead: of scalars in short runs, of vectors
           that lie apart, of results between blocks of the reduction
    pairs  the instruction of `Dot`, in multiply-adds of as many lanes
    """

    needs: tuple[str, ...] = ()
    load: float = 0.5
    line: float = 0.8
    far: float = 0.05
    memory: float = 0.2
    kept: float = 0.7
    shared: int = 8 << 20
    waiting: float = 3.0
    apart: float = 1.0
    scalar: float = 0.12
    rows: float = 0.0
    single: float = 0.0
    pairs: float = 1.0

    def byte(self, total: float) -> float:
        """A byte from beyond the second-level cache, where so many bytes are touched from one use of it to the next."""
        return self.far if total <= self.shared else self.memory


@dataclass(frozen=True, repr=False)
class Family:
    """One instruction set.  Features have LLVM's names.

    name       in the names of targets, and in messages
    triple     LLVM's name of the family, on Linux
    uname      the operating system's name of it (`uname -m`)
    machine    its number in ELF files (e_machine)
    binutils   what names of cross tools begin with (PREFIXld), and their Debian package
    levels     target -> its features: each has those of the level before.  The first is what all processors have
    cpu        LLVM's processor for the levels; "": one that has the level's name
    beyond     features beyond the levels that code for kernels may use, or that tell designs of cores apart
    registers  vector registers, those of the newest processors first
    fused, rounding, half   features that bring fused multiply-add, rounding to integers, and conversion of float16
    dots       element type, by its name in the IR -> the instruction that multiplies pairs of it
    matrices   element type -> the unit that multiplies blocks of it
    cores      designs of cores, the newest first; the last one stands for those that nobody has measured
    fence      LLVM's intrinsic that makes streamed stores visible before what follows; "": like any other store
    cpuinfo    the line of /proc/cpuinfo that lists features;  spelled: its name of a feature -> LLVM's, if they differ
    """

    name: str
    triple: str
    uname: str
    machine: int
    binutils: tuple[str, str]
    levels: Mapping[str, tuple[str, ...]]
    cpu: str
    beyond: tuple[str, ...]
    registers: tuple[Registers, ...]
    fused: str
    rounding: str
    half: str
    fence: str
    cpuinfo: str
    spelled: Mapping[str, str] = field(default_factory=dict)
    dots: Mapping[str, Dot] = field(default_factory=dict)
    matrices: Mapping[str, Matrix] = field(default_factory=dict)
    cores: tuple[Core, ...] = (Core(),)

    def __repr__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def baseline(self) -> tuple[str, ...]:
        """The features that all of its processors have."""
        return next(iter(self.levels.values()))


# x86-64 psABI 1.0, table 3.1.
_X86_BASELINE = ("cmov", "cx8", "fxsr", "mmx", "sse", "sse2")
_X86_V2 = (*_X86_BASELINE, "cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3")
_X86_V3 = (*_X86_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_X86_V4 = (*_X86_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

X86_64 = Family(
    "x86-64", "x86_64-unknown-linux-gnu", "x86_64", machine=62,
    binutils=("x86_64-linux-gnu-", "binutils-x86-64-linux-gnu"),
    levels={"x86-64": _X86_BASELINE, "x86-64-v2": _X86_V2, "x86-64-v3": _X86_V3, "x86-64-v4": _X86_V4}, cpu="",
    beyond=("amx-bf16", "amx-tile", "avx512bf16", "avx512bitalg", "avx512fp16", "avx512ifma", "avx512vbmi",
            "avx512vbmi2", "avx512vnni", "avx512vpopcntdq", "avxvnni", "sse4a"),
    registers=(Registers(_X86_V4, 512, 32, masks=True), Registers(_X86_V3, 256, 16), Registers((), 128, 16)),
    fused="fma", rounding="sse4.1", half="f16c", fence="llvm.x86.sse.sfence",
    cpuinfo="flags",
    spelled={"pni": "sse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2", "lahf_lm": "sahf", "abm": "lzcnt", "bmi1": "bmi",
             "avx512_vnni": "avx512vnni", "avx512_bf16": "avx512bf16", "avx512_fp16": "avx512fp16",
             "avx512_vbmi2": "avx512vbmi2", "avx512_bitalg": "avx512bitalg", "avx512_vpopcntdq": "avx512vpopcntdq",
             "avx_vnni": "avxvnni", "amx_tile": "amx-tile", "amx_bf16": "amx-bf16"},
    dots={"bf16": Dot("avx512bf16", {n: f"llvm.x86.avx512bf16.dpbf16ps.{32 * n}" for n in (4, 8, 16)},
                      {n: f"llvm.x86.avx512bf16.cvtneps2bf16.{32 * n}" for n in (8, 16)})},
    matrices={"bf16": Matrix(      # AMX
        ("amx-tile", "amx-bf16"), rows=16, columns=16, pairs=16, registers=8, configure="llvm.x86.ldtilecfg",
        release="llvm.x86.tilerelease", zero="llvm.x86.tilezero", load="llvm.x86.tileloadd64",
        store="llvm.x86.tilestored64", multiply="llvm.x86.tdpbf16ps", component=18)},      # XFEATURE_XTILE_DATA
    cores=(Core(("amx-tile",), line=0.45, far=0.1, memory=0.25, kept=0.5, rows=0.07, pairs=4.0),    # Sapphire Rapids
           Core(("sse4a",), load=0.8, line=0.5, far=0.12, kept=0.5, shared=16 << 20, waiting=1.5, apart=0.12,
                scalar=0.0, rows=0.05, single=5.0),    # AMD's: Zen 3
           Core()))    # Cascade Lake

# Arm Architecture Reference Manual for A-profile: every Armv8-A has Advanced SIMD on Linux; what kernels can use of the
# extensions that came with Armv8.2-A, which are options of it, but found in the cores for servers and phones.
_ARM_BASELINE = ("fp-armv8", "neon")
_ARM_V8_2 = (*_ARM_BASELINE, "dotprod", "fullfp16")

AARCH64 = Family(
    "aarch64", "aarch64-unknown-linux-gnu", "aarch64", machine=183,
    binutils=("aarch64-linux-gnu-", "binutils-aarch64-linux-gnu"),
    levels={"aarch64": _ARM_BASELINE, "aarch64-v8.2": _ARM_V8_2, "aarch64-v8.6": (*_ARM_V8_2, "bf16", "i8mm")},
    cpu="generic", beyond=("fp16fml",),
    registers=(Registers((), 128, 32),),
    fused="neon", rounding="neon", half="neon", fence="",      # a barrier orders STNP as it does other stores
    cpuinfo="Features",
    spelled={"fp": "fp-armv8", "asimd": "neon", "asimddp": "dotprod", "asimdhp": "fullfp16", "asimdfhm": "fp16fml"},
    dots={"bf16": Dot("bf16", {4: "llvm.aarch64.neon.bfdot.v4f32.v8bf16"})})

FAMILIES = (X86_64, AARCH64)


def by_machine(number: int) -> Family | None:
    """The family with this number in ELF files."""
    return next((f for f in FAMILIES if f.machine == number), None)
