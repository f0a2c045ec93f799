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
    pair = [a for a in sizes if taken.get(a) == put.get(a) == 1 and sizes[a] == PAIR]
    rows = [a for a in sizes if put.get(a) == PAIR != taken.get(a)]
    columns = [a for a in sizes if taken.get(a) == PAIR != put.get(a)]
    return (rows[0], columns[0], pair[0]) if len(pair) == len(rows) == len(columns) == 1 else None
