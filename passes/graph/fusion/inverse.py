"""From scatter to gather: which points of a reindex_reduce's domain meet one element of its result.

A map y = A z + b writes element y from every z of the domain.  Read backwards, an element fixes some domain axes (solved
axes, one for each row of the map), the others run as reduction axes; where a solved axis leaves its box, nothing is added.

    1. rows are cut by radix where a row is y = g * high + low and low stays below g: y = (y // g, y % g)
    2. every row is solved for an axis with coefficient 1 or -1; rows without an axis left are conditions on y
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod

from jtc.dialects.affine import Affine
from jtc.dialects.graph import Node
from jtc.dialects.kernel import Guard
from jtc.passes.graph.fusion.movement import NotAffine, digits

SCATTER_FACTOR = 8      # points a gather may visit for each one that a scatter would visit and write


class NotInvertible(Exception):
    """No affine inverse with unit pivots: the map has to run as a scatter."""


@dataclass(frozen=True)
class Inverse:
    """index: one form per domain axis over the result's axes and the free ones; guards: where it holds."""

    index: tuple[Affine, ...]
    guards: tuple[Guard, ...]


def free_axes(forms: Sequence[Affine], domain: Sequence[int]) -> list[int]:
    """Domain axes that stay reduction axes.  Raises NotInvertible."""
    solved, _ = _solve([(row, Affine()) for row, _ in _rows(forms, domain)], domain)
    return [d for d, n in enumerate(domain) if n != 1 and f"d{d}" not in solved]


def invert(forms: Sequence[Affine], domain: Sequence[int], shape: Sequence[int], index: Sequence[Affine],
           sizes: Mapping[str, int], new_axis: Callable[[int, int], Affine]) -> Inverse:
    """The domain points that meet the element `index` of the result (of `shape`), index given over axes `sizes`.

    new_axis(d, n) makes a reduction axis of size n for domain axis d.  Raises NotInvertible, and NotAffine where an axis must be cut first.
    """
    equations: list[tuple[Affine, Affine]] = []
    parts: dict[int, list[Affine]] = {}
    for row, (j, radices) in _rows(forms, domain):
        if j not in parts:
            parts[j] = _decode(index[j], shape[j], radices, sizes)
        equations.append((row, parts[j].pop(0)))
    solved, conditions = _solve(equations, domain)
    free = {f"d{d}": new_axis(d, n) for d, n in enumerate(domain) if n != 1 and f"d{d}" not in solved}
    values = {a: form.substitute(free) for a, form in solved.items()} | free
    found = tuple(Affine() if n == 1 else values[f"d{d}"] for d, n in enumerate(domain))
    guards = [Guard(found[d], n) for d, n in enumerate(domain) if f"d{d}" in solved]
    return Inverse(found, (*guards, *(Guard(form, 1) for form in conditions)))


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


def _rows(forms: Sequence[Affine], domain: Sequence[int]) -> list[tuple[Affine, tuple[int, tuple[int, ...]]]]:
    """Every row of the map, cut by radix: (its form, (number of the row, radices of all its cuts))."""
    unit = {f"d{d}": Affine() for d, n in enumerate(domain) if n == 1}
    result = []
    for j, form in enumerate(forms):
        pieces = _radix(form.substitute(unit), {f"d{d}": n for d, n in enumerate(domain)})
        radices = tuple(size for _, size in pieces[1:])
        result += [(piece, (j, radices)) for piece, _ in pieces]
    return result


def _radix(form: Affine, sizes: Mapping[str, int]) -> list[tuple[Affine, int]]:
    """The form as digits, outermost first: (digit, its radix).  form = ((d0 * r1 + d1) * r2 + d2)..."""
    terms = sorted(form.terms.items(), key=lambda term: abs(term[1]))
    for cut in range(len(terms)):
        g = gcd(*(coef for _, coef in terms[cut:]))
        if g <= 1:
            continue
        high, low = form.const // g, Affine(terms[:cut], form.const % g)
        smallest, largest = low.range(sizes)
        shift = smallest // g
        if largest // g != shift:
            continue
        outer = Affine({a: coef // g for a, coef in terms[cut:]}, high + shift)
        return [*_radix(outer, sizes), (low + (-shift * g), g)]
    return [(form, 0)]


def _solve(equations: Sequence[tuple[Affine, Affine]], domain: Sequence[int]) -> tuple[dict[str, Affine], list[Affine]]:
    """Solve row = target for one domain axis a row.

    Returns the solved axes as forms over targets' axes and the other domain axes, and the forms that must be 0.
    """
    names = {f"d{d}" for d, n in enumerate(domain)}
    pending = list(equations)
    solved: dict[str, Affine] = {}
    conditions: list[Affine] = []
    while pending:
        # The row with the fewest unknowns first; a long axis rather than a short one, so that the short ones are summed.
        pending.sort(key=lambda e: len(e[0].terms))
        row, target = pending.pop(0)
        if row.is_constant:
            conditions.append(target - row.const)
            continue
        units = [a for a, coef in row.terms.items() if abs(coef) == 1]
        if not units:
            raise NotInvertible
        shared = {a for other, _ in pending for a in other.terms}
        pivot = min(units, key=lambda a: (a in shared, -domain[int(a[1:])], a))
        sign = row[pivot]
        # row - target = 0 with row = sign * pivot + rest, so pivot = sign * (target - rest); targets hold no domain axes.
        rest = row - Affine({pivot: sign})
        value = {pivot: (target - rest) * sign}
        solved = {a: form.substitute(value) for a, form in solved.items()} | value
        pending = [_move(other.substitute(value), t, names) for other, t in pending]
    return solved, conditions


def _move(row: Affine, target: Affine, names: set[str]) -> tuple[Affine, Affine]:
    """The equation row = target with domain axes on the left and everything else on the right."""
    left = Affine({a: c for a, c in row.terms.items() if a in names})
    return left, target - (row - left)


def is_gatherable(node: Node) -> bool:
    """Whether a reindex_reduce runs as a gather: its map has an inverse, and that one does not visit far more points."""
    x = node.args[0]
    if x.type.size == 0:
        return True
    try:
        free = free_axes(node.attrs["map"], x.shape)
    except NotInvertible:
        return False
    visited = node.type.size * prod(x.shape[d] for d in free)
    return visited <= SCATTER_FACTOR * (x.type.size + node.type.size)


def reduces(node: Node) -> bool:
    """Whether several elements of the argument may meet in one of the result."""
    if node.op == "reduce":
        return True
    return node.op == "reindex_reduce" and not (
        node.args[0].type.size and is_gatherable(node) and not free_axes(node.attrs["map"], node.args[0].shape))
