"""Panels of pairs that are made from rows of pairs: a transposition whose elements are pairs of 16 bits."""
from __future__ import annotations

from collections.abc import Mapping

from jtc.dialects.kernel import PAIR


def crossed(sizes: Mapping[str, int], taken: Mapping[str, int], put: Mapping[str, int]) -> tuple[str, str, str] | None:
    """(rows, columns, pair) of a copy that reads a row of pairs along `columns`, and writes a row of pairs along
    `rows`; None where it is none.

    sizes        of axes that are longer than 1
    taken, put   axis -> elements between neighbours in what is read and what is written
    """
    def one(stride: Mapping[str, int], other: Mapping[str, int], step: int) -> str | None:
        found = [a for a in sizes if stride.get(a, 0) == step and (other.get(a, 0) == step) == (step == 1)]
        return found[0] if len(found) == 1 else None

    pair, rows, columns = one(put, taken, 1), one(put, taken, PAIR), one(taken, put, PAIR)
    if pair is None or rows is None or columns is None or sizes[pair] != PAIR:
        return None
    return rows, columns, pair
