"""The value of one element as an expression: the walk down from a stage's root.

The walk starts at the root with one axis per dimension.  Movement ops compose their index maps, elementwise ops become
the body, the first reduction met becomes the stage's (what is above it the epilogue), values with a buffer become
reads.

A reindex that can leave its argument adds guards.  Below it, an expression need only be right where the guards hold; it
may also be asked to give `want` where they do not, which is free where the reads can fill with it: f(fill) = want.
Where that fails the reindex selects on `inbounds`.

What one stage cannot hold raises Cut; Split and Classes ask to start anew with other axes.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jtc.dialects.affine import Affine, flatten
from jtc.dialects.dtypes import BOOL, I32, I64
from jtc.dialects.expr import Expr, acc, cast, const, expr, index, read, reads_of, same_number
from jtc.dialects.graph import Node, Weights, is_splat
from jtc.dialects.kernel import PARALLEL, REDUCTION, Access, Axis, Guard
from jtc.dialects.optable import REDUCTIONS, SCALAR_FUNCTIONS
from jtc.passes.graph.fusion.index_arithmetic import simplified
from jtc.passes.graph.fusion.inverse import MAX_CLASSES, Inverse, invert, is_gatherable, reduces
from jtc.passes.graph.fusion.movement import affine_map
from jtc.passes.graph.fusion.residues import NeedsClasses, NoPoint, NotInvertible
from jtc.passes.index_maps import NotAffine, apply, is_injective, leaves_range, stays_outside, through_reshape

Guards = tuple[Guard, ...]
Index = tuple[Affine, ...]


class Cut(Exception):
    """The value of `node` needs a buffer, for `reason`."""

    def __init__(self, node: Node, reason: str):
        super().__init__(reason)
        self.node, self.reason = node, reason


class Split(Exception):
    """An axis has to be an outer one and an inner one of size `inner`."""

    def __init__(self, axis: str, inner: int):
        self.axis, self.inner = axis, inner


class Classes(Exception):
    """An axis has to be cut into `count` residue classes, each with a stage of its own."""

    def __init__(self, axis: str, count: int):
        self.axis, self.count = axis, count


class Empty(Exception):
    """A residue class of an axis shorter than the number of classes has no element."""


class Values:
    """What one stage has so far: axes, reads, its reduction; and the values that are pulled into it."""

    def __init__(self, root: Node, buffers: Mapping[int, str], splits: Mapping[str, int],
                 residues: Mapping[str, tuple[int, int]]):
        """splits: axis -> size of its inner part; residues: axis -> (m, r), of which m * axis + r are built."""
        self.root, self.buffers, self.splits, self.residues = root, buffers, splits, residues
        self.axes: list[Axis] = []
        self.sizes: dict[str, int] = {}
        self.reads: list[Access] = []
        self.numbers: dict[Access, int] = {}
        self.frame: Guards = ()             # conditions on the root's own axes, where one was cut unevenly
        self.reduction: Node | None = None
        self.reduction_index: Index = ()
        self.scanned = ""                   # the axis that the reduction scans; `reversed`: from its end
        self.reversed = False
        self.body: Expr | None = None
        self.in_body = False
        self.memo: dict[tuple, tuple[Expr, bool]] = {}
        self.nodes: dict[int, Node] = {}
        self.boundary: set[int] = set()

    # -------------------------------------------------------------------------------------------- axes
    def axis(self, name: str, size: int, kind: str = PARALLEL) -> Affine:
        """A new axis, cut into outer and inner ones as `splits` says; nothing for size 1."""
        if name in self.residues:
            count, start = self.residues[name]
            if start >= size:
                raise Empty
            return self.part(name, -(-(size - start) // count), kind) * count + start
        return self.part(name, size, kind)

    def part(self, name: str, size: int, kind: str) -> Affine:
        if size == 1:
            return Affine()
        if name in self.splits:
            inner = self.splits[name]
            whole = self.axis(name + "o", -(-size // inner), kind) * inner + self.axis(name + "i", inner, kind)
            if size % inner:
                self.frame += (Guard(whole, size),)
            return whole
        self.axes.append(Axis(name, size, kind))
        self.sizes[name] = size
        return Affine.axis(name)

    def root_index(self, shape: Sequence[int]) -> Index:
        return tuple(self.axis(f"i{d}", n) for d, n in enumerate(shape))

    def cut_axis(self, error: NotAffine, node: Node, reason: str) -> Exception:
        """Split where cutting an axis helps, else Cut of `node`."""
        if error.split is None:
            return Cut(node, reason)
        axis, inner = error.split
        uneven = self.sizes[axis] % inner != 0
        if uneven and not any(a.name == axis and a.kind == PARALLEL for a in self.axes):
            return Cut(node, reason)
        return Split(axis, inner)

    # -------------------------------------------------------------------------------------------- values
    def pull(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        """(the value of node[place], exact): right where the guards hold, and where they do not it is `want` if exact.

        want: a number, or None where the value outside does not matter.
        """
        if not guards:
            want = None
        key = (id(node), place, guards, repr(want), self.in_body)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self.pull_new(node, place, guards, want)
        return found

    def pull_new(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        if id(node) in self.buffers and node is not self.root:
            self.boundary.add(id(node))
            return self.load(node, node.shape, place, guards, want), True
        if node.op == "constant":
            value = node.attrs["value"]
            assert not isinstance(value, Weights)
            return const(value, node.dtype), want is None or same_number(value, want)
        if node.op == "scatter" and node is not self.root:
            raise Cut(node, "a scatter writes its result in place")
        self.nodes[id(node)] = node
        if node.op in SCALAR_FUNCTIONS:
            return self.elementwise(node, place, guards, want)
        return getattr(self, "pull_" + node.op)(node, place, guards, want)

    def load(self, node: Node, shape: tuple[int, ...], place: Index, guards: Guards, want: Any,
             gather: tuple[tuple[int, Expr], ...] = ()) -> Expr:
        """A read of the node's buffer through the view `shape`."""
        if want is None:
            want, guards = 0, self.needed(place, shape, guards, {d for d, _ in gather})
        access = Access(self.buffers[id(node)], node.dtype, shape, place, guards, const(want, node.dtype).attr, gather)
        if access not in self.numbers:
            self.numbers[access] = len(self.reads)
            self.reads.append(access)
        return read(self.numbers[access], node.dtype)

    def needed(self, place: Index, shape: Sequence[int], guards: Guards, gathered: set[int]) -> Guards:
        """Guards without which the access would leave its buffer."""
        chosen: list[Guard] = []
        for d, (form, size) in enumerate(zip(place, shape)):
            if d in gathered or not leaves_range(form, size, self.sizes):
                continue
            own = [g for g in guards if g.index == form and g.size <= size]
            if not own:
                return guards
            chosen.append(own[0])
        return tuple(dict.fromkeys(chosen))

    def elementwise(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        wants = self.argument_wants(node, want) if want is not None else None
        pulled = [self.pull(a, place, guards, None if wants is None else w)
                  for a, w in zip(node.args, wants or node.args)]
        value = simplified(expr(node.op, tuple(e for e, _ in pulled), node.dtype), self.sizes)
        if want is None:
            return value, True
        if wants is None:
            return value, False
        return value, all(exact for (_, exact), w in zip(pulled, wants) if w is not None)

    @staticmethod
    def argument_wants(node: Node, want: Any) -> list[Any] | None:
        """What the arguments must be so that the function gives `want`; None where none of the usual numbers do."""
        if node.op == "where":
            return [None, want, want]
        known = [a.attrs["value"] if is_splat(a) else None for a in node.args]
        for guess in (0, want):
            wants = [guess if k is None else k for k in known]
            args = [np.asarray(w).astype(a.dtype.numpy) for w, a in zip(wants, node.args)]
            with np.errstate(all="ignore"):
                value = np.asarray(SCALAR_FUNCTIONS[node.op].numpy(*args)).astype(node.dtype.numpy)
            if same_number(value.item(), const(want, node.dtype).attr):
                return [const(w, a.dtype).attr for w, a in zip(wants, node.args)]
        return None

    def product(self, node: Node, place: Index, guards: Guards) -> tuple[Expr, bool]:
        """As pull with want 0, where a product may keep its guards on one factor: the one that needs them anyway.

        Where the guards do not hold, the other factor is multiplied by 0; an infinity or NaN there becomes NaN.
        """
        if node.op != "mul" or id(node) in self.buffers or not guards:
            return self.pull(node, place, guards, 0)
        self.nodes[id(node)] = node
        best: tuple[int, int, list[Expr]] | None = None
        for factor in (0, 1):
            one, exact = self.product(node.args[factor], place, guards)
            if exact:
                other, _ = self.pull(node.args[1 - factor], place, guards, None)
                cost = sum(len(self.reads[n].guards) for n in {*reads_of(one), *reads_of(other)})
                # Prefer few guards, and those on a read that moves with them: only such a read can be packed.
                reads = [self.reads[n] for n in reads_of(one)]
                loose = sum(not g.index.axes <= read.flat.axes for read in reads for g in read.guards)
                if best is None or (loose, cost) < best[:2]:
                    best = loose, cost, [one, other] if factor == 0 else [other, one]
        if best is None:
            return self.pull(node, place, guards, 0)
        return expr("mul", tuple(best[2]), node.dtype), True

    # -------------------------------------------------------------------------------------------- meta-ops
    def pull_cast(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        easy = want is not None and want == 0
        x, exact = self.pull(node.args[0], place, guards, const(0, node.args[0].dtype).attr if easy else None)
        value = simplified(cast(x, node.dtype), self.sizes)
        return value, want is None or easy and exact and same_number(want, const(0, node.dtype).attr)

    def pull_iota(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        dtype = node.dtype if node.dtype in (I32, I64) else I64
        return cast(index(place[node.attrs["axis"]], dtype), node.dtype), want is None

    def pull_random(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        counter = index(flatten(place, node.shape) + (node.attrs["stream"] << 40), I64)
        key, _ = self.pull(node.args[0], (), guards, None)
        return expr("philox", (counter, key), I32), want is None

    def pull_broadcast(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        return self.pull(node.args[0], apply(affine_map(node), place), guards, want)

    pull_transpose = pull_broadcast

    def pull_reindex(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        x, fill = node.args[0], node.attrs["fill"]
        inner = apply(node.attrs["map"], place)
        fresh = tuple(Guard(form, n) for form, n in zip(inner, x.shape)
                      if leaves_range(form, n, self.sizes) and Guard(form, n) not in guards)
        if not fresh:
            return self.pull(x, inner, guards, want)
        return self.filled(x, inner, guards, tuple(dict.fromkeys(fresh)), fill, want)

    def filled(self, x: Node, place: Index, guards: Guards, fresh: Guards, fill: Any, want: Any) -> tuple[Expr, bool]:
        """x[place] where guards and `fresh` hold, `fill` where the fresh ones do not."""
        inside = guards + fresh
        if self.never(fresh):
            value = const(fill, x.dtype)
        else:
            value, exact = self.pull(x, place, inside, fill)
            if not exact:
                value = self.select(inside, value, const(fill, x.dtype))
        return value, want is None or same_number(const(fill, x.dtype).attr, want)

    def never(self, guards: Guards) -> bool:
        """Whether some guard holds nowhere."""
        return any(stays_outside(g.index, g.size, self.sizes) for g in guards)

    @staticmethod
    def select(guards: Guards, value: Expr, other: Expr) -> Expr:
        return expr("where", (expr("inbounds", (), BOOL, guards), value, other), value.dtype)

    def pull_reshape(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        x = node.args[0]
        base = x
        while base.op == "reshape" and id(base) not in self.buffers:
            base = base.args[0]
        if id(base) in self.buffers and base is not self.root:
            self.boundary.add(id(base))
            return self.load(base, node.shape, place, guards, want), True
        try:
            inner = through_reshape(place, node.shape, x.shape, self.sizes)
        except NotAffine as error:
            raise self.cut_axis(error, x, "its reshape has no affine index") from None
        return self.pull(x, inner, guards, want)

    def pull_gather(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        x, indices, dims = node.args[0], node.args[1:], node.attrs["dims"]
        inner, shape = apply(node.attrs["map"], place), x.shape
        base = x
        while base.op == "reshape" and id(base) not in self.buffers:
            base = base.args[0]
        if id(base) not in self.buffers or base is self.root:
            raise Cut(base, "it is gathered from at places that depend on data")
        self.boundary.add(id(base))
        in_body, self.in_body = self.in_body, True         # an index may not hold the accumulator
        gathered = tuple((d, self.pull(i, place, guards, None)[0]) for d, i in zip(dims, indices))
        self.in_body = in_body
        fill = node.attrs["fill"]
        fresh = tuple(Guard(form, n) for d, (form, n) in enumerate(zip(inner, shape))
                      if d not in dims and leaves_range(form, n, self.sizes))
        if self.never(fresh):
            return const(fill, node.dtype), want is None or same_number(const(fill, node.dtype).attr, want)
        # A gathered index that leaves its dimension also gives `fill`, so the access always has that one.
        value = self.load(base, shape, inner, tuple(dict.fromkeys(guards + fresh)), fill, gathered)
        return value, want is None or same_number(const(fill, node.dtype).attr, want)

    def pull_concat(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        raise Cut(node, "many tensors are written into it")

    def pull_scatter(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        raise Cut(node, "a scatter writes its result in place")

    def pull_reduce(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        x, axes = node.args[0], node.attrs["axes"]
        if x.type.size == 0:
            identity = REDUCTIONS[node.attrs["fn"]].identity(node.dtype)
            return const(identity, node.dtype), want is None or same_number(want, const(identity, node.dtype).attr)
        rest = iter(place)
        inner: list[Affine | None] = [None if d in axes else next(rest) for d in range(x.type.rank)]
        if all(x.shape[d] == 1 for d in axes):
            return self.pull(x, tuple(Affine() if form is None else form for form in inner), guards, want)
        if self.enter(node, place, guards):
            index = tuple(self.axis(f"r{d}", x.shape[d], REDUCTION) if form is None else form
                          for d, form in enumerate(inner))
            self.leave(self.pull(x, index, guards, None)[0])
        return acc(node.dtype), want is None

    def pull_scan(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        """A scan runs along an axis of the result, in its order or against it."""
        axis = node.attrs["axis"]
        if node.shape[axis] == 1:
            start = const(REDUCTIONS[node.attrs.get("fn", "add")].identity(node.dtype), node.dtype)
            return self.step(node, place, guards, start), want is None
        last = node.shape[axis] - 1
        name, back = place[axis].as_axis(), (last - place[axis]).as_axis()
        found = name or back
        used = sum(found in form.axes for form in place) if found else 0
        if found is None or used > 1 or self.sizes[found] != last + 1 \
                or not any(a.name == found and a.kind == PARALLEL for a in self.axes):
            raise Cut(node, "it is a scan, whose reader walks it in another order")
        if self.enter(node, place, guards):
            self.scanned, self.reversed = found, name is None
            self.leave(self.step(node, place, guards, acc(node.dtype)))
        return acc(node.dtype), want is None

    pull_recurrence = pull_scan

    def step(self, node: Node, place: Index, guards: Guards, before: Expr) -> Expr:
        """The value of a scan at `place`, given the one before."""
        first, *more = (self.pull(a, place, guards, None)[0] for a in node.args)
        if node.op == "scan":
            return expr(REDUCTIONS[node.attrs["fn"]].fn, (before, first), node.dtype)
        return expr("add", (expr("mul", (first, before), node.dtype), more[0]), node.dtype)

    def pull_reindex_reduce(self, node: Node, place: Index, guards: Guards, want: Any) -> tuple[Expr, bool]:
        x, fn = node.args[0], node.attrs["fn"]
        identity = const(REDUCTIONS[fn].identity(node.dtype), node.dtype)
        if x.type.size == 0:
            return identity, want is None or same_number(want, identity.attr)
        if not is_gatherable(node):
            raise Cut(node, "its index map has no inverse, so it is written as a scatter")
        if reduces(node) and not self.enter(node, place, guards):
            return acc(node.dtype), want is None
        outer = len(self.axes)
        found = self.inverse(node, place)
        if len(self.axes) == outer:             # no sum is left in this residue class
            if reduces(node):
                self.reduction, self.in_body = None, False
            if found is None:
                return identity, want is None or same_number(want, identity.attr)
        assert found is not None
        fresh = tuple(g for g in dict.fromkeys(found.guards) if leaves_range(g.index, g.size, self.sizes))
        if len(self.axes) == outer:
            if fresh:
                return self.filled(x, found.index, guards, fresh, identity.attr, want)
            return self.pull(x, found.index, guards, want)
        inside = guards + fresh
        if not fresh:
            value, _ = self.pull(x, found.index, guards, None)
        elif self.never(fresh):
            value = identity
        else:
            value, exact = self.product(x, found.index, inside) if fn == "add" else \
                self.pull(x, found.index, inside, identity.attr)
            value = value if exact else self.select(inside, value, identity)
        self.leave(value)
        return acc(node.dtype), want is None

    def inverse(self, node: Node, place: Index) -> Inverse | None:
        """The points of a reindex_reduce's argument that meet its element `place`; None where there are none."""
        def new_axis(d: int, size: int) -> Affine:
            if not reduces(node):
                raise NoPoint               # only elements outside of the result would meet several points
            if size % self.splits.get(f"r{d}", 1):
                raise Cut(node.args[0], "its reshape has no affine index in every residue class")
            return self.axis(f"r{d}", size, REDUCTION)

        try:
            return invert(node.attrs["map"], node.args[0].shape, node.shape, place, self.sizes, new_axis)
        except NoPoint:
            return None
        except NotAffine as error:
            raise self.cut_axis(error, node, "its index map is not affine in the axes of its reader") from None
        except NeedsClasses as needed:
            limit = MAX_CLASSES // needed.count // math.prod(count for count, _ in self.residues.values())
            if limit and any(a.name == needed.axis and a.kind == PARALLEL for a in self.axes):
                raise Classes(needed.axis, needed.count) from None
            raise Cut(node, "its index map has an inverse only in residue classes, "
                            "which its reader cannot run in") from None
        except NotInvertible:
            raise Cut(node, "its index map has no inverse in the axes of its reader") from None

    def enter(self, node: Node, place: Index, guards: Guards) -> bool:
        """Make `node` the reduction of this stage; False where it is that already.  Raises Cut where it cannot be."""
        if self.in_body:
            raise Cut(node, "it is reduced and then read by a reduction or as an index")
        if self.reduction is node and self.reduction_index == place:
            return False
        if self.reduction is not None:
            raise Cut(node, "a kernel's stage holds one reduction")
        if guards != self.frame:
            raise Cut(node, "it is reduced and then read outside of its range")
        if not is_injective(place, self.sizes):
            raise Cut(node, "it is reduced and then read several times")
        self.reduction, self.reduction_index, self.in_body = node, place, True
        return True

    def leave(self, body: Expr) -> None:
        self.body, self.in_body = body, False
