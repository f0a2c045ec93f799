"""The kernel level in memory.  Every kernel has this one form, whatever it computes:

    kernel: shared outer axes, a list of stages, local buffers that live for one block of the shared axes
    stage:  iteration space (parallel | reduction axes), reads, body, reduction, epilogue, one write, a schedule

A stage means, for every point of its parallel axes:

    acc = identity(reduce)
    for every point of the reduction axes:   value = body(reads);  keep[...] = value;  acc = reduce(acc, value)
    write[...] = epilogue(acc, reads)

Without `reduce` the body is written as it is.  With `more`, further results are written at every point, each an
expression of the reads and, after a reduction, of `acc`; all values of a point are computed before one is stored.  With
`scan` the one reduction axis runs in order, the body holds the value so far, and every value is written:

    acc = identity(reduce)
    for every point of the reduction axis, in order:   acc = body(acc, reads);  write[...] = epilogue(acc, reads)

A reduction over a shared axis of the kernel goes on from block to block of that axis.  With `rescale`, an expression
of the reads, what earlier blocks have left is multiplied by it before a block is added.  With `before`, the reduction
so far is written after every block, not only after the last one, and what it was before that block as well:

    acc = identity(reduce)
    for every block:   old = acc;  acc = old * rescale;  for every point of the block:   acc = reduce(acc, body)
                       before[...] = old;  write[...] = acc

With `accumulate` the write is `write[...] = reduce(write[...], body)`, in the order of the axes, once per point of
*all* axes: a scatter (its write index may hold reduction axes or `gather`).

All classes are frozen: a pass returns new ones (`dataclasses.replace`), so a refused edit leaves nothing behind.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

from jtc.dialects.affine import Affine, flatten
from jtc.dialects.dtypes import DType
from jtc.dialects.expr import Expr, walk
from jtc.dialects.graph import Location, TensorType

PARALLEL, REDUCTION = "parallel", "reduction"
PAIR = 2                    # neighbours along `Schedule.dot` that one instruction multiplies


@dataclass(frozen=True, slots=True)
class Axis:
    name: str
    size: int
    kind: str = PARALLEL

    def __str__(self) -> str:
        return f"{self.name}:{self.size}" + ("r" if self.kind == REDUCTION else "")


@dataclass(frozen=True, slots=True)
class Guard:
    """The condition 0 <= index < size."""

    index: Affine
    size: int

    def __str__(self) -> str:
        return f"0 <= {self.index} < {self.size}"


@dataclass(frozen=True)             # without slots: what is asked for again and again is kept
class Access:
    """Element `index` of `buffer`, seen through the row-major view `shape`.

    guards  where one does not hold, a read gives `fill` (and touches nothing) and a write is dropped
    gather  (dimension, integer expression) pairs: the expression's value is added to `index[dimension]`; a sum outside
            the dimension counts as a guard that does not hold
    """

    buffer: str
    dtype: DType
    shape: tuple[int, ...]
    index: tuple[Affine, ...]
    guards: tuple[Guard, ...] = ()
    fill: bool | int | float = 0
    gather: tuple[tuple[int, Expr], ...] = ()

    @cached_property
    def flat(self) -> Affine:
        """Row-major offset in elements, without the gathered part."""
        return flatten(self.index, self.shape)

    @cached_property
    def size(self) -> int:
        return prod(self.shape)

    @cached_property
    def axes(self) -> frozenset[str]:
        return frozenset().union(*(form.axes for form in self.index), *(g.index.axes for g in self.guards))


@dataclass(frozen=True, slots=True)
class Pack:
    """A copy of what one read needs inside a loop, in the order the register tile reads it; made at the loop's top.

    read    number of the read
    inside  the (axis, step) loop whose body starts with the copy
    order   outer..inner: "i" is a whole axis, "i//" the number of its register tile, "i%" the place in the tile; of the
            axis that is multiplied in pairs, the number of the pair and the place in it
    pad     extra elements on the second-innermost stride (against cache-set conflicts)
    """

    read: int
    inside: tuple[str, int]
    order: tuple[str, ...]
    pad: int = 0


@dataclass(frozen=True, slots=True)
class Fetch:
    """Memory that another stage of the kernel will move, asked for while this stage works on what the caches hold.

    stage   number of the other stage;  access: number of the access among its reads, then its writes
    blocks  how many blocks of the innermost shared axis later it will be moved
    """

    stage: int
    access: int
    blocks: int = 0

    def __str__(self) -> str:
        return f"{self.stage}.{self.access} + {self.blocks}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a stage is run.  Data only: loops become real in the emitter.

    vector     axis on the vector lanes: a parallel one, or the innermost unblocked reduction axis; "" for scalar code
    lanes      vector length in elements (1 where `vector` is "")
    loops      (axis, step) outer to inner: order, cache blocks and register tile in one list.  A parallel axis's last
               step is its register tile.  Parallel axes without a loop become step-1 loops outside all of these, in
               axis order; reduction axes without a loop run inside the register tile.  A step of the axis's size or
               more runs once.
    reduction  all reduction axes in the order they run inside the register tile, outer to inner
    unroll     (reduction axis, factor); for a vector reduction axis: the number of vector accumulators
    tree       (reduction axis, steps): blocks of so many steps are reduced one by one, their results meet in pairs
    packs      copies made inside loops
    split      axes whose loops are cut where guards begin and end to hold, so that the interior runs without them
    threads    this many outermost loops may be spread over threads (0: the kernel runs on one)
    stream     the write bypasses the caches (non-temporal stores)
    prefetch   reads in panels along the vector axis, whose next panel is fetched while the tiles of one run
    fetches    what other stages will move, fetched at the same place of the axes that are not shared
    dot        reduction axis whose steps are multiplied in pairs by one instruction (family.Dot), from 16-bit floats
               that lie next to each other; it is the innermost of `reduction`, its last step alone where it is odd
    matrix     whether blocks of the pairs, of the lanes and of points are multiplied by a matrix unit (family.Matrix)
    gain       how many times as fast as by default its kernel was measured to be, where the tuner chose it; else 0
    """

    vector: str
    lanes: int
    loops: tuple[tuple[str, int], ...] = ()
    reduction: tuple[str, ...] = ()
    unroll: tuple[tuple[str, int], ...] = ()
    packs: tuple[Pack, ...] = ()
    split: tuple[str, ...] = ()
    threads: int = 0
    stream: bool = False
    prefetch: tuple[int, ...] = ()
    gain: float = 0.0
    tree: tuple[tuple[str, int], ...] = ()
    fetches: tuple[Fetch, ...] = ()
    dot: str = ""
    matrix: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """One more result of a stage: `value` is written at every point, when its reduction is finished."""

    write: Access
    value: Expr


@dataclass(frozen=True, slots=True)
class Stage:
    """See the module's text.  `locs` are the user's lines that ended up in this stage, `ops` the names of those ops."""

    name: str
    axes: tuple[Axis, ...]
    reads: tuple[Access, ...]
    body: Expr
    write: Access
    reduce: str | None = None
    epilogue: Expr | None = None
    keep: Access | None = None
    more: tuple[Result, ...] = ()
    before: Access | None = None
    rescale: Expr | None = None
    accumulate: bool = False
    scan: bool = False
    schedule: Schedule | None = None
    locs: tuple[Location, ...] = ()
    ops: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        return {a.name: a.size for a in self.axes}

    @property
    def parallel(self) -> list[str]:
        return [a.name for a in self.axes if a.kind == PARALLEL]

    @property
    def reductions(self) -> list[str]:
        return [a.name for a in self.axes if a.kind == REDUCTION]

    @property
    def writes(self) -> list[Access]:
        kept = [a for a in (self.keep, self.before) if a is not None]
        return [self.write, *kept, *(r.write for r in self.more)]

    @property
    def tails(self) -> list[Expr]:
        """What is computed once at each point, outside of its reduction: the epilogue, further results, `rescale`."""
        return [*self.ends, *([self.rescale] if self.rescale is not None else [])]

    @property
    def ends(self) -> list[Expr]:
        """What is computed once at each point, when its reduction is finished: the epilogue, further results."""
        return [*([self.epilogue] if self.epilogue is not None else []), *(r.value for r in self.more)]

    @property
    def accesses(self) -> list[Access]:
        """Reads, then writes."""
        return [*self.reads, *self.writes]

    def running_term(self) -> Expr | None:
        """Of a scan that combines one more term in every step, without looking at the value so far: the term."""
        body = self.body
        if not self.scan or body.fn != self.reduce or len(body.args) != 2:
            return None
        terms = [a for a in body.args if a.fn != "acc"]
        return terms[0] if len(terms) == 1 and all(e.fn != "acc" for e in walk(terms[0])) else None

    def factors(self) -> tuple[int, int] | None:
        """Numbers of the two reads where the stage is a contraction: a sum of products of two reads, each of which
        misses some parallel axis of size > 1 that the other has.  The reads may be converted.  None otherwise."""
        body = self.body
        if self.reduce != "add" or self.accumulate or body.fn != "mul":
            return None
        factors = [a.args[0] if a.fn == "cast" else a for a in body.args]
        if any(a.fn != "read" for a in factors):
            return None
        first, second = (a.attr for a in factors)
        wide = {a.name for a in self.axes if a.kind == PARALLEL and a.size > 1}
        one, two = self.reads[first].axes & wide, self.reads[second].axes & wide
        return (first, second) if first != second and one - two and two - one else None

    def copied_as(self, number: int) -> DType:
        """The type that a copy of a read holds: the one that all its uses convert it to, else its own; its own also
        where pairs of it are multiplied as they are."""
        own = self.reads[number].dtype
        if self.schedule is not None and self.schedule.dot and number in (self.factors() or ()):
            return own
        roots = [self.body, *self.tails]
        roots += [e for a in self.accesses for _, e in a.gather]
        found = {own for root in roots if root.fn == "read" and root.attr == number}
        for e in dict.fromkeys(e for root in roots for e in walk(root)):
            if any(a.fn == "read" and a.attr == number for a in e.args):
                found.add(e.dtype if e.fn == "cast" else own)
        return found.pop() if len(found) == 1 else own


@dataclass(frozen=True, slots=True)
class Local:
    """A buffer that lives for one block of the shared axes."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Slice:
    """One of `count` slices, which do the same to other parts of the buffers.  why: what `explain` prints."""

    number: int
    count: int
    why: str = ""


@dataclass(frozen=True)
class Kernel:
    """One launch.  In stages, a shared axis has the name and size given in `shared`.

    shared  (axis, block) outer to inner: the stages run one after the other for each block of these axes.  Where a
            shared axis is a reduction of a stage, its result is there after the last block: only epilogues of stages
            that reduce the axis too may read it (all stages after one with `before` may).  A buffer in `locals` is
            indexed by the other axes and by the place inside the block of a shared axis with block > 1.
    reasons why this kernel ends where it does: (buffer or op, text) pairs that `explain` prints
    needed  where points of the shared axes matter: a block of the innermost one, which some stage reduces, in which one
            of these guards holds nowhere changes nothing and may be left out (`needed.py`).  A promise of the pass
            that writes it; the reference interpreter runs all blocks
    in_place (written, read) pairs of global buffers: the memory of the first may be that of the second (`in_place.py`)
    slice   which slice of something it does, where it does not do all.  A promise of the pass that writes it: kernels
            that follow each other in rising slices touch different elements of whatever those of another slice write
    """

    name: str
    stages: tuple[Stage, ...]
    shared: tuple[tuple[Axis, int], ...] = ()
    locals: tuple[Local, ...] = ()
    reasons: tuple[tuple[str, str], ...] = ()
    in_place: tuple[tuple[str, str], ...] = ()
    needed: tuple[Guard, ...] = ()
    slice: Slice | None = None

    @property
    def operands(self) -> list[str]:
        """Names of the global buffers it touches: those read, then those written."""
        local = {b.name for b in self.locals}
        read = [a.buffer for s in self.stages for a in s.reads]
        read += [a.buffer for s in self.stages if s.accumulate for a in [s.write]]
        written = self.written
        return [*(b for b in dict.fromkeys(read) if b not in local and b not in written), *written]

    @cached_property
    def read(self) -> tuple[str, ...]:
        """Names of the global buffers that it reads and does not write."""
        written, local = set(self.written), {b.name for b in self.locals}
        return tuple([b for b in dict.fromkeys(a.buffer for s in self.stages for a in s.reads)
                      if b not in local and b not in written])

    @cached_property
    def written(self) -> tuple[str, ...]:
        """Names of the global buffers that it writes."""
        local = {b.name for b in self.locals}
        writes = [a.buffer for s in self.stages for a in s.writes]
        return tuple([b for b in dict.fromkeys(writes) if b not in local])


@dataclass(frozen=True, slots=True)
class Storage:
    """How a value lies in its buffer, where that is not row by row.

    order  the value's dimensions, outer to inner
    pad    elements behind each row that nothing reads
    why    what `explain` prints
    """

    order: tuple[int, ...]
    pad: int = 0
    why: str = ""

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The buffer's shape for a value of this shape."""
        return (*(shape[d] for d in self.order[:-1]), shape[self.order[-1]] + self.pad)

    def stored(self, access: Access) -> Access:
        """The access to the buffer for one to the value, which gathers nothing."""
        return replace(access, shape=self.shape(access.shape), index=tuple(access.index[d] for d in self.order))


@dataclass
class Program:
    """A module at the kernel level: buffers and the kernels in launch order.

    constants  buffer name -> array (weights), bool/int/float (splat), or None where only the type is known
    updates    output -> the input whose next value it is, for state that the caller replaces after the run
    storage    how values lie that do not lie row by row; `buffers` and accesses are those of what lies there
    """

    name: str
    inputs: list[str]
    outputs: list[str]
    buffers: dict[str, TensorType]
    kernels: list[Kernel] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    input_names: list[str] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)
    updates: dict[str, str] = field(default_factory=dict)
    storage: dict[str, Storage] = field(default_factory=dict)
