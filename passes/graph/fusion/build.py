"""One materialised value -> one stage: its producers are pulled in, at the place where each is read (values.py).

A reindex_reduce is read backwards (inverse.py).  With strides that takes one stage for each residue class of the
result, each writing its own elements.  A scatter takes two stages: fill or copy, then accumulate.

What one stage cannot hold raises Cut: the plan then gives that value a buffer.
"""
from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from jtc.dialects.affine import Affine
from jtc.dialects.expr import Expr, const, read, reads_of, rewrite
from jtc.dialects.graph import Node
from jtc.dialects.kernel import REDUCTION, Access, Guard, Stage
from jtc.dialects.optable import REDUCTIONS
from jtc.passes.graph.fusion.inverse import is_gatherable
from jtc.passes.graph.fusion.values import Classes, Empty, Index, Split, Values
from jtc.passes.index_maps import apply, leaves_range
from jtc.passes.stages import substitute


@dataclass(frozen=True)
class Built:
    """The stages of one value, and the nodes they took in.

    stages  one; two for a scatter (fill or copy, then accumulate); one for each residue class, which write parts of it
    """

    stages: tuple[Stage, ...]
    interior: frozenset[int]
    boundary: frozenset[int]


def build(root: Node, buffers: Mapping[int, str]) -> Built:
    """The stages that write buffers[id(root)].  buffers: id of every value that has one -> its name.  Raises Cut."""
    if root.op != "concat" or not root.type.size:
        return _build(root, buffers)
    starts = itertools.accumulate((a.shape[root.attrs["axis"]] for a in root.args), initial=0)
    parts = [_build(root, buffers, (arg, start)) for arg, start in zip(root.args, starts) if arg.type.size]
    return Built(tuple(s for part in parts for s in part.stages), frozenset().union(*(p.interior for p in parts)),
                 frozenset().union(*(p.boundary for p in parts)))


def _build(root: Node, buffers: Mapping[int, str], piece: tuple[Node, int] | None = None) -> Built:
    """piece: of a concat, the argument that is written, and where it starts; None for any other value."""
    splits: dict[str, int] = {}
    classes: dict[str, int] = {}
    while True:
        parts = []
        try:
            for starts in itertools.product(*map(range, classes.values())):
                residues = {axis: (count, start) for (axis, count), start in zip(classes.items(), starts)}
                with suppress(Empty):
                    parts.append(_Builder(root, buffers, splits, residues).build(piece))
        except Split as split:
            splits[split.axis] = split.inner
        except Classes as needed:
            classes[needed.axis] = classes.get(needed.axis, 1) * needed.count
        else:
            stages = [s for part in parts for s in part.stages]
            # What a scatter starts from may be written class by class; it accumulates once.
            once = [s for s in stages if s.accumulate][:1]
            return Built((*(s for s in stages if not s.accumulate), *once),
                         frozenset().union(*(p.interior for p in parts)),
                         frozenset().union(*(p.boundary for p in parts)))


class _Builder(Values):
    """The stages of one residue class of a value."""

    def build(self, piece: tuple[Node, int] | None) -> Built:
        root = self.root
        if root.type.size == 0:
            body: Expr = const(0, root.dtype)
            place = tuple(self.axis(f"i{d}", n) for d, n in enumerate(root.shape))
            stages: tuple[Stage, ...] = (self.stage(self.write(place), body),)
        elif piece is not None:
            stages = (self.piece(*piece),)
        elif root.op == "scatter":
            stages = self.scatter()
        else:
            stages = self.gather_or_scatter()
        return Built(stages, frozenset(self.nodes), frozenset(self.boundary))

    def gather_or_scatter(self) -> tuple[Stage, ...]:
        root = self.root
        if root.op == "reindex_reduce" and not is_gatherable(root):
            fn = root.attrs["fn"]
            place = self.root_index(root.shape)
            fill = self.stage(self.write(place), const(REDUCTIONS[fn].identity(root.dtype), root.dtype), "fill")
            return fill, self.accumulation(root.args[0], root.attrs["map"], (), (), fn)
        place = self.root_index(root.shape)
        value, _ = self.pull(root, place, self.frame, None)
        return (self.result(place, value),)

    def piece(self, arg: Node, start: int) -> Stage:
        """The stage that writes one argument of a concat to its place."""
        axis, place = self.root.attrs["axis"], self.root_index(arg.shape)
        value, _ = self.pull(arg, place, self.frame, None)
        self.nodes[id(self.root)] = self.root
        return self.result((*place[:axis], place[axis] + start, *place[axis + 1:]), value)

    def result(self, place: Index, value: Expr, name: str = "") -> Stage:
        """The stage that writes `value`, which holds the reduction or scan that was met on the way to it."""
        write = replace(self.write(place), guards=self.frame)
        if self.reduction is None:
            return self.stage(write, value, name)
        assert self.body is not None
        epilogue = None if value.fn == "acc" else value
        stage = self.stage(write, self.body, name, self.reduction.attrs.get("fn", "add"), epilogue)
        if not self.scanned:
            return stage
        axes = tuple(replace(a, kind=REDUCTION) if a.name == self.scanned else a for a in stage.axes)
        if self.reversed:
            last = self.sizes[self.scanned] - 1
            stage = substitute(stage, {self.scanned: last - Affine.axis(self.scanned)})
        return replace(stage, axes=axes, scan=True)

    def scatter(self) -> tuple[Stage, ...]:
        root, (init, updates, *indices) = self.root, self.root.args
        place = self.root_index(root.shape)
        value, _ = self.pull(init, place, self.frame, None)
        copy = self.result(place, value, "copy")
        if updates.type.size == 0:
            return (copy,)
        return copy, self.accumulation(updates, root.attrs["map"], root.attrs["dims"], indices, root.attrs["fn"])

    def accumulation(self, updates: Node, forms: Index, dims: Sequence[int], indices: Sequence[Node], fn: str) -> Stage:
        """write[map(z)] = fn(write[...], updates[z]) over the domain of the updates, in row-major order."""
        self.axes, self.sizes, self.reads, self.numbers, self.memo = [], {}, [], {}, {}
        self.frame, self.in_body = (), True
        place = tuple(self.axis(f"u{d}", n) for d, n in enumerate(updates.shape))
        body, _ = self.pull(updates, place, self.frame, None)
        target = apply(forms, place)
        gather = tuple((d, self.pull(i, place, self.frame, None)[0]) for d, i in zip(dims, indices))
        guards = self.frame + tuple(Guard(form, n) for d, (form, n) in enumerate(zip(target, self.root.shape))
                       if d not in dims and leaves_range(form, n, self.sizes))
        write = replace(self.write(target), guards=guards, gather=gather)
        written = write.axes
        self.axes = [a if a.name in written or gather else replace(a, kind=REDUCTION) for a in self.axes]
        return replace(self.stage(write, body, "accumulate", fn), accumulate=True)

    def stage(self, write: Access, body: Expr, name: str = "", reduce: str | None = None,
              epilogue: Expr | None = None) -> Stage:
        """The stage, with only the reads that it uses."""
        gathers = {n: [m for _, e in a.gather for m in reads_of(e)] for n, a in enumerate(self.reads)}
        used: list[int] = []
        pending = [*reads_of(body), *reads_of(epilogue), *(n for _, e in write.gather for n in reads_of(e))]
        while pending:
            number = pending.pop(0)
            if number not in used:
                used.append(number)
                pending += gathers[number]
        order = {old: new for new, old in enumerate(used)}

        def renumber(e: Expr) -> Expr:
            return rewrite(e, lambda x: read(order[x.attr], x.dtype) if x.fn == "read" else None)

        def access(a: Access) -> Access:
            return replace(a, gather=tuple((d, renumber(e)) for d, e in a.gather))

        nodes = sorted(self.nodes.values(), key=lambda n: n.number)
        return Stage(name, tuple(self.axes), tuple(access(self.reads[n]) for n in used), renumber(body), access(write),
                     reduce, renumber(epilogue) if epilogue is not None else None,
                     locs=tuple(dict.fromkeys(n.loc for n in nodes if n.loc)), ops=tuple(n.op for n in nodes))

    def write(self, place: Index) -> Access:
        return Access(self.buffers[id(self.root)], self.root.dtype, self.root.shape, place)
