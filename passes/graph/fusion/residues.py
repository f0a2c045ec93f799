"""Integer solutions of affine equations, class by class.

An equation row = target has variables (each from 0 to its size) on the left and a form over axes of the result on the
right.  It is solved for a pivot.  Where the pivot's coefficient m is not 1, the other variables are cut into residues
so that m divides all of the equation:

    2*i + k = y,  y = 2*q + 1   ->   k = 2*t + 1,  i = q - t        k has the parity of y, t is half as long as k

so the result's axes must come in residue classes (y = 2*q + r), and every class is solved by itself.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import gcd, prod

from jtc.dialects.affine import Affine

Equation = tuple[Affine, Affine]


class NeedsClasses(Exception):
    """The residue of a target decides: its `axis` has to be cut into `count` classes first."""

    def __init__(self, axis: str, count: int):
        super().__init__(f"{axis} has to be cut into {count} residue classes")
        self.axis, self.count = axis, count


class NoPoint(Exception):
    """No point meets the targets: in this residue class there is no solution."""


class NotInvertible(Exception):
    """No solution of this kind: the map has to run as a scatter."""


class Solver:
    """Solves equations one after the other.

    sizes       variables that are left free, and how many values each has
    solved      variable -> its value over free variables and the targets' axes
    bounds      the solution is one where 0 <= solved[v] < bounds[v]...
    conditions  ...and these forms over the targets' axes are 0
    """

    def __init__(self, sizes: Mapping[str, int], equations: Iterable[Equation]):
        """Raises NeedsClasses, NoPoint, NotInvertible."""
        self.sizes = dict(sizes)
        self.solved: dict[str, Affine] = {}
        self.bounds: dict[str, int] = {}
        self.conditions: list[Affine] = []
        self.pending = [(row - row.const, target - row.const) for row, target in equations]
        while self.pending:
            self.pending.sort(key=lambda e: len(e[0].terms))        # the row with the fewest unknowns
            self._row(*self.pending.pop(0))

    def _row(self, row: Affine, target: Affine) -> None:
        if not row.terms:
            if target.is_constant and target.const:
                raise NoPoint
            self.conditions += [target] if target.terms else []
            return
        common = gcd(*row.terms.values())
        row, target = divided(row, common), divided(target, common)
        pivot = min(row.terms, key=lambda v: self._rank(row, v))
        step = row[pivot]
        rest, target = self._residues(row - Affine({pivot: step}), target, abs(step))
        value = divided(target - rest, abs(step)) * (1 if step > 0 else -1)
        self.bounds[pivot] = self.sizes[pivot]
        self._define(pivot, value)

    def _rank(self, row: Affine, pivot: str) -> tuple:
        """Order of preference: few points to visit and few classes; leave variables that other rows need; solve a long
        one."""
        step = abs(row[pivot])
        points = prod(-(-self.sizes[v] // (step // gcd(step, c))) for v, c in row.terms.items() if v != pivot)
        shared = any(pivot in other.terms for other, _ in self.pending)
        return points * (1 + step / 8), shared, -self.sizes[pivot], pivot

    def _residues(self, rest: Affine, target: Affine, m: int) -> Equation:
        """rest = target modulo m, with variables of `rest` cut until m divides every coefficient of it."""
        while True:
            free = sorted((v for v, c in rest.terms.items() if c % m), key=lambda v: self.sizes[v])
            if not free:
                return rest, target
            for v in free:
                # Modulo what divides m and all other coefficients, v alone decides.
                modulus = gcd(m, *(rest[other] for other in free if other != v))
                common = gcd(rest[v], modulus)
                if modulus > common:
                    number = residue(target, modulus)
                    if number % common:
                        raise NoPoint
                    count = modulus // common
                    form = self._cut(v, count, number // common * pow(rest[v] // common, -1, count) % count)
                    break
            else:
                v, form = self._shifted(rest, free, residue(target, m), m)
            rest = rest.substitute({v: form})
            rest, target = rest - rest.const, target - rest.const
            self._define(v, form)

    def _cut(self, v: str, count: int, start: int) -> Affine:
        """v = count * (a new variable) + start."""
        size = -(-(self.sizes[v] - start) // count)
        if size <= 0:
            raise NoPoint
        if size == 1:
            return Affine((), start)
        self.sizes[v + "'"] = size
        return Affine({v + "'": count}, start)

    def _shifted(self, rest: Affine, free: list[str], number: int, m: int) -> tuple[str, Affine]:
        """A variable and its value m * (a new one) + what the others leave modulo m; others are not cut."""
        common = gcd(m, *(rest[v] for v in free))
        if number % common:
            raise NoPoint
        m //= common
        v = next((v for v in free if gcd(rest[v] // common, m) == 1), None)
        if v is None:
            raise NotInvertible
        inverse = pow(rest[v] // common, -1, m)
        others = {o: -inverse * (rest[o] // common) % m for o in free if o != v}
        part = Affine({o: c - m if 2 * c > m else c for o, c in others.items()}, inverse * (number // common) % m)
        low, high = part.range(self.sizes)
        first, last = -(high // m), (self.sizes[v] - 1 - low) // m
        if last < first:
            raise NoPoint
        self.bounds[v], self.sizes[v + "'"] = self.sizes[v], last - first + 1
        return v, part + Affine({v + "'": m}, m * first)

    def _define(self, v: str, value: Affine) -> None:
        del self.sizes[v]
        self.solved = {a: form.substitute({v: value}) for a, form in self.solved.items()} | {v: value}
        self.pending = [self._moved(row.substitute({v: value}), target) for row, target in self.pending]

    def _moved(self, row: Affine, target: Affine) -> Equation:
        """The equation with unsolved variables on the left and everything else on the right."""
        left = Affine({a: c for a, c in row.terms.items() if a in self.sizes})
        return left, target - (row - left)


def residue(form: Affine, modulus: int) -> int:
    """The form modulo `modulus`.  Raises NeedsClasses where that depends on an axis."""
    for axis, coef in form.terms.items():
        if coef % modulus:
            raise NeedsClasses(axis, modulus // gcd(coef, modulus))
    return form.const % modulus


def divided(form: Affine, divisor: int) -> Affine:
    """form / divisor.

    Raises NeedsClasses where it depends on an axis whether that is an integer, NoPoint where it is none.
    """
    if residue(form, divisor):
        raise NoPoint
    return Affine({axis: coef // divisor for axis, coef in form.terms.items()}, form.const // divisor)
