"""From scatter to gather: which points of a reindex_reduce's domain meet one element of its result.

A map y = A z + b writes element y from every z of the domain.  Read backwards, an element fixes some domain axes, the
others run as reduction axes; where a fixed axis leaves its box, nothing is added.

    1. rows are cut by radix where a row is y = g * high + low and low fills 0 <= low < g: y = (y // g, y % g).  Where
       nothing is summed (the map only moves), low need not fill it
    2. every row is solved (residues.py); with strides, each residue class of the result by itself: its points, their
       guards and its reduction axes are its own, so that it visits no point in vain
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod

from jtc.dialects.affine import Affine
from jtc.dialects.graph import Node
from jtc.dialects.kernel import Guard
from jtc.passes.graph.fusion.residues import NeedsClasses, NoPoint, NotInvertible, Solver
from jtc.passes.index_maps import NotAffine, digits

SCATTER_FACTOR = 8      # points a gather may visit for each one that a scatter would visit and write
MAX_CLASSES = 64        # stages that one value may take


@dataclass(frozen=True)
class Inverse:
    """index: one form per domain axis over the result's axes and the free ones; guards: where it holds."""

    index: tuple[Affine, ...]
    guards: tuple[Guard, ...]


@dataclass(frozen=True)
class Cost:
    """visited: points of the domain that all elements of the result ask for; reduces: one may ask for several."""

    visited: int
    reduces: bool


Row = tuple[Affine, int, tuple[int, ...]]       # digit, number of the row that it is one of, radices of that row's cuts


def invert(forms: Sequence[Affine], domain: Sequence[int], shape: Sequence[int], index: Sequence[Affine],
           sizes: Mapping[str, int], new_axis: Callable[[int, int], Affine]) -> Inverse:
    """The domain points that meet the element `index` of the result (of `shape`), index given over axes `sizes`.

    new_axis(d, n) makes a reduction axis of size n that domain axis d runs along.  Raises NoPoint where there are none,
    NotInvertible, and NotAffine or NeedsClasses where an axis of `sizes` must be cut first.
    """
    equations: list[tuple[Affine, Affine]] = []
    parts: dict[int, list[Affine]] = {}
    for digit, j, radices in _rows(tuple(forms), tuple(domain)):
        if j not in parts:
            parts[j] = _decode(index[j], shape[j], radices, sizes)
        equations.append((digit, parts[j].pop(0)))
    solver = Solver(_variables(domain), equations)
    free = {v: new_axis(d, n) for d, v, n in sorted((int(v.rstrip("'")[1:]), v, n) for v, n in solver.sizes.items())}
    values = {v: form.substitute(free) for v, form in solver.solved.items()} | free
    found = tuple(Affine() if n == 1 else values[f"d{d}"] for d, n in enumerate(domain))
    guards = [Guard(values[v], n) for v, n in sorted(solver.bounds.items())]
    return Inverse(found, (*guards, *(Guard(form, 1) for form in solver.conditions)))


def _variables(domain: Sequence[int]) -> dict[str, int]:
    return {f"d{d}": n for d, n in enumerate(domain) if n != 1}


def _decode(form: Affine, size: int, radices: Sequence[int], sizes: Mapping[str, int]) -> list[Affine]:
    """Digits of one index in the given radices, outermost first.  Raises NotAffine where its axis must be cut first."""
    if not radices:
        return [form]
    inner = prod(radices)
    try:
        return digits(form, [-(-size // inner), *radices], sizes)
    except NotAffine as error:
        axis = form.as_axis()
        raise NotAffine((axis, inner)) if error.split is None and axis is not None else error from None


# ------------------------------------------------------------------------------------------------ radix cuts
@lru_cache(maxsize=1024)
def _rows(forms: tuple[Affine, ...], domain: tuple[int, ...]) -> tuple[Row, ...]:
    """Every row of the map, cut by radix."""
    loose = _cut_rows(forms, domain, loose=True)
    try:
        targets = [Affine.axis(f"y{n}") for n in range(len(loose))]
        moves = not Solver(_variables(domain), [(row[0], t) for row, t in zip(loose, targets)]).sizes
    except (NeedsClasses, NoPoint, NotInvertible):
        moves = False
    return loose if moves else _cut_rows(forms, domain, loose=False)


def _cut_rows(forms: Sequence[Affine], domain: Sequence[int], loose: bool) -> tuple[Row, ...]:
    unit = {f"d{d}": Affine() for d, n in enumerate(domain) if n == 1}
    result: list[Row] = []
    for j, form in enumerate(forms):
        pieces = _radix(form.substitute(unit), _variables(domain), loose)
        radices = tuple(size for _, size in pieces[1:])
        result += [(piece, j, radices) for piece, _ in pieces]
    return tuple(result)


def _radix(form: Affine, sizes: Mapping[str, int], loose: bool) -> list[tuple[Affine, int]]:
    """The form as digits, outermost first: (digit, its radix).  form = ((d0 * r1 + d1) * r2 + d2)..."""
    terms = sorted(form.terms.items(), key=lambda term: abs(term[1]))
    for cut in range(len(terms)):
        g = gcd(*(coef for _, coef in terms[cut:]))
        if g <= 1:
            continue
        high, low = form.const // g, Affine(terms[:cut], form.const % g)
        smallest, largest = low.range(sizes)
        shift = smallest // g
        if largest // g != shift or not loose and largest - smallest + 1 < g:
            continue
        outer = Affine({a: coef // g for a, coef in terms[cut:]}, high + shift)
        return [*_radix(outer, sizes, loose), (low + (-shift * g), g)]
    return [(form, 0)]


# ------------------------------------------------------------------------------------------------ what it costs
@lru_cache(maxsize=1024)
def cost(forms: tuple[Affine, ...], domain: tuple[int, ...], shape: tuple[int, ...]) -> Cost:
    """What a gather costs.  Raises NotInvertible, also where it would take more than MAX_CLASSES classes."""
    rows = _rows(forms, domain)
    sizes: dict[str, int] = {}
    for n, (_, j, radices) in enumerate(rows):
        place = sum(row[1] == j for row in rows[:n])        # which digit of its row
        sizes[f"y{n}"] = radices[place - 1] if place else -(-shape[j] // prod(radices))
    classes = dict.fromkeys(sizes, 1)
    while prod(classes.values()) <= MAX_CLASSES:
        try:
            return _cost_of_classes(rows, domain, sizes, classes)
        except NeedsClasses as needed:
            classes[needed.axis] *= needed.count
    raise NotInvertible


def _cost_of_classes(rows: Sequence[Row], domain: Sequence[int], sizes: Mapping[str, int],
                     classes: Mapping[str, int]) -> Cost:
    visited, reduces = 0, False
    for starts in itertools.product(*(range(min(m, sizes[a])) for a, m in classes.items())):
        elements = prod(-(-(sizes[a] - start) // m) for (a, m), start in zip(classes.items(), starts))
        targets = [Affine({a: m}, start) for (a, m), start in zip(classes.items(), starts)]
        try:
            free = Solver(_variables(domain), [(row[0], target) for row, target in zip(rows, targets)]).sizes
        except NoPoint:
            continue
        visited, reduces = visited + elements * prod(free.values()), reduces or bool(free)
    return Cost(visited, reduces)


def is_gatherable(node: Node) -> bool:
    """Whether a reindex_reduce runs as a gather: its map has an inverse, which does not visit far more points."""
    x = node.args[0]
    if x.type.size == 0:
        return True
    try:
        visited = cost(node.attrs["map"], x.shape, node.shape).visited
    except NotInvertible:
        return False
    return visited <= SCATTER_FACTOR * (x.type.size + node.type.size)


def reduces(node: Node) -> bool:
    """Whether several elements of the argument may meet in one of the result."""
    if node.op == "reduce":
        return True
    x = node.args[0]
    return node.op == "reindex_reduce" and not (
        x.type.size and is_gatherable(node) and not cost(node.attrs["map"], x.shape, node.shape).reduces)
