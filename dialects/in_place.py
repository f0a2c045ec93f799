"""Where a kernel may write over what it reads.

A program that replaces its state (parameters, momentum, running statistics) says so: `Program.updates`.  A kernel may
then be compiled such that the memory of a buffer that it writes is that of one that it reads: `Kernel.in_place`.  The
code is right whether the two are one or not; who places buffers decides.

Why writing over `old` is right.  Every read of `old` has to come before the write to its element.  There are three
kinds of reads:

* by kernels before this one: they are done, as launches that depend on each other are in different waves
  (`runtime/planner.py` counts the write to `new` as one to `old`)
* by kernels after this one: there are none, which `kernel-update-in-place` makes sure of
* by this kernel: `old` is read only by the stage that writes `new`, at the element that it writes, once the reduction
  at that point is finished.  Every point of a stage is computed once, by one thread, and loads before it stores any of
  its results; points write different elements; so no other point reads what this one has written.  Stages after it that
  read `new` find there what they would find anywhere else.  `refusal` checks this.

The emitter has two duties where a kernel is in place: partial results of a reduction do not wait in the buffer that is
written, and the two pointers are not said to be distinct.
"""
from __future__ import annotations

from jtc.dialects.expr import reads_of
from jtc.dialects.kernel import Access, Kernel, Stage


def refusal(kernel: Kernel, new: str, old: str) -> str:
    """Why the kernel may not write `new` over `old`, which it reads; "" where it may."""
    local = {b.name for b in kernel.locals}
    if new in local or old in local:
        return "one of them lives inside of the kernel"
    if new not in kernel.written or old not in kernel.read:
        return f"it does not read {old} and write {new}"
    stages = [s for s in kernel.stages
              if old in {a.buffer for a in s.reads} or new in {a.buffer for a in s.writes}]
    if len(stages) > 1:
        return f"several stages read {old} or write {new}"
    stage, = stages
    if stage.accumulate or stage.scan:
        return "a scatter and a scan write while they read"
    if any(axis.name not in stage.sizes for axis, _ in kernel.shared):
        return f"stage {stage.name} runs again for each block of an axis that it does not have"
    return _refusal(stage, new, old)


def _refusal(stage: Stage, new: str, old: str) -> str:
    writes = [a for a in stage.writes if a.buffer == new]
    if len(writes) > 1 or writes[0] is stage.keep or writes[0].gather:
        return f"{new} is not written once at each point, when the reduction is finished"
    gathering = {n for a in stage.accesses for _, e in a.gather for n in reads_of(e)}
    early = gathering | set(reads_of(stage.body) if stage.reduce is not None else ())
    packed = {p.read for p in stage.schedule.packs} if stage.schedule is not None else set()
    for number, read in enumerate(stage.reads):
        if read.buffer != old:
            continue
        if number in early:
            return f"{old} is read before the reduction is finished"
        if number in packed:
            return f"{old} is copied before it is read"
        if not _same_element(read, writes[0]):
            return f"{old} is read at other elements than {new} is written"
    return ""


def _same_element(read: Access, write: Access) -> bool:
    return not read.gather and read.dtype is write.dtype and read.size == write.size and read.flat == write.flat
